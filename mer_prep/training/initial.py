"""Weights to start from: of a pre-training, or of another run, and the proof that nothing leaks."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from torch import nn

from mer_prep.errors import LeakError, TrainingError
from mer_prep.protocols import person_of
from mer_prep.store import disk, files
from mer_prep.training.checkpoints import read_checkpoint, read_facts

#: Name of the copy in a run's folder, so that a run can go on without the file it began with.
COPY = "init.safetensors"


@dataclass(frozen=True)
class Init:
    """The weights that a study starts from.

    Parameters
    ----------
    sha256 : str
        Of the file.
    model, preset : str
        What was trained.
    corpora : tuple of str
        What it was trained on, with what that started from in turn.
    subjects : int
        On how many subjects.
    """

    sha256: str
    model: str
    preset: str
    corpora: tuple[str, ...]
    subjects: int


@dataclass(frozen=True)
class Loaded:
    """What of some weights went into a model.

    Parameters
    ----------
    tensors, parameters : int
        Tensors taken over, and the numbers in them.
    kept : tuple of str
        Tensors of the model that keep their random values, because the file has none of that name,
        shape and type.
    unused : tuple of str
        Tensors of the file that the model has no place for.
    """

    tensors: int
    parameters: int
    kept: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.tensors} tensors ({self.parameters:,} numbers) taken over"
        if self.kept:
            text += f"; {len(self.kept)} start at random: {_listed(self.kept)}"
        if self.unused:
            text += f"; {len(self.unused)} have no place here: {_listed(self.unused)}"
        return text


def lineage(clips: Sequence[Any], before: Mapping[str, Any] | None = None) -> dict[str, list[str]]:
    """Return whom and what weights have seen, to be kept beside them.

    Parameters
    ----------
    clips : sequence of ClipEntry
        The training clips.
    before : mapping, optional
        The lineage of the weights that the training started from.
    """
    seen = {
        "corpora": {one.corpus for one in clips},
        "subjects": {one.subject for one in clips},
        "sources": {_short(one.source_digest) for one in clips if one.source_digest},
    }
    return {name: sorted(found | set((before or {}).get(name, ()))) for name, found in seen.items()}


def read_init(path: Path) -> tuple[Init, dict[str, list[str]]]:
    """Return what weights are, and their lineage.

    Raises
    ------
    TrainingError
        If the file is no checkpoint of mer-prep, or does not say whom it was trained on.
    """
    _, facts = read_facts(path)
    seen = facts.get("lineage")
    if not _is_lineage(seen) or not all(
        isinstance(facts.get(one), str) for one in ("model", "preset")
    ):
        raise TrainingError(
            "The weights do not say whom they were trained on.",
            where=path,
            why="they may have seen the test subjects",
            hint="use the weights of `mer-prep pretrain` or of a fold of `mer-prep train`",
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    corpora = tuple(seen["corpora"])
    return Init(sha256, facts["model"], facts["preset"], corpora, len(seen["subjects"])), seen


def _is_lineage(seen: object) -> TypeGuard[dict[str, list[str]]]:
    """Return whether something is as `lineage` gives it, and names anybody."""
    return (
        isinstance(seen, dict)
        and all(
            isinstance(seen.get(name), list) and all(isinstance(one, str) for one in seen[name])
            for name in ("corpora", "subjects", "sources")
        )
        and bool(seen["subjects"])
    )


def check_unseen(
    path: Path, seen: Mapping[str, Sequence[str]], tested: Mapping[str, tuple[str, str]]
) -> None:
    """Raise `LeakError` if weights have seen a subject or a source of the tested clips.

    Parameters
    ----------
    path : Path
        The weights, for the message.
    seen : mapping
        Their `lineage`.
    tested : mapping of str to (str, str)
        Subject and digest of the source of every clip that is tested in some fold, by clip id.
    """
    # The same people may have another spelling, or be in another corpus.
    people = {person_of(subject) for subject in seen["subjects"]}
    subjects = sorted({subject for subject, _ in tested.values() if person_of(subject) in people})
    sources = set(seen["sources"])
    clips = sorted(one for one, (_, source) in tested.items() if _short(source) in sources)
    if subjects or clips:
        raise LeakError(
            f"The weights were trained on {_listed(subjects or clips)}, tested here.",
            where=path,
            why="the model would be scored on people it was trained on",
            hint="start from weights of other corpora",
        )


def keep_copy(path: Path, run: Path, init: Init) -> None:
    """Copy weights into the folder of a run, unless they are there."""
    target = run / COPY
    if target.is_file():
        return
    partial = target.with_name(f".{COPY}.{init.sha256[:8]}.partial")
    disk.library_writes(partial)
    shutil.copyfile(path, partial)
    files.publish(partial, target)


def load_init(path: Path, model: nn.Module, *, name: str) -> Loaded:
    """Load the tensors that fit into a model; those of another name or shape stay random.

    Parameters
    ----------
    path : Path
        The weights.
    model : nn.Module
        Where they go.
    name : str
        Name of the model; weights of another are refused.

    Raises
    ------
    TrainingError
        If the weights are of another model, or not one tensor fits.
    """
    tensors, _, facts = read_checkpoint(path)
    if facts.get("model") != name:
        raise TrainingError(
            f"The weights are of the model '{facts.get('model')!s:.80}', not '{name}'.",
            where=path,
            hint=f"take weights of {name}, or train the other model by --model",
        )
    wanted = model.state_dict()
    found = {
        key.removeprefix("model."): one for key, one in tensors.items() if key.startswith("model.")
    }
    fitting = {
        key: one
        for key, one in found.items()
        if key in wanted and (wanted[key].shape, wanted[key].dtype) == (one.shape, one.dtype)
    }
    if not fitting:
        raise TrainingError(
            "Not one tensor of the weights fits the model.",
            where=path,
            hint=f"they were trained with preset '{facts.get('preset')}'; use the same one",
        )
    model.load_state_dict(fitting, strict=False)
    return Loaded(
        tensors=len(fitting),
        parameters=sum(one.numel() for one in fitting.values()),
        kept=tuple(sorted(wanted.keys() - fitting.keys())),
        unused=tuple(sorted(found.keys() - fitting.keys())),
    )


def _short(source_digest: str) -> str:
    # Enough to tell clips apart, and a hundred thousand of them fit into a file's header.
    return source_digest[:16]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
