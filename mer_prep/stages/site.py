"""What a worker process must have to take part in a run, and what it says of itself.

A worker computes what its own mer-prep and its own libraries give. If any of these differed from
those of the run, its results would lie under keys that promise something else. And a worker on
another machine may see the workspace and the source folders, or not; it is asked, not guessed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_prep import __version__
from mer_prep.config import canonical_json
from mer_prep.manifest import Clip
from mer_prep.sources.frames import source_files
from mer_prep.stages.base import SourceParams, Stage
from mer_prep.stages.plan import Recipe
from mer_prep.store import disk, files

#: Distributions whose versions must agree whatever the stages are: they shape arrays and files.
_ALWAYS = ("numpy", "h5py")


@dataclass(frozen=True)
class Needs:
    """What a run asks of a worker.

    Parameters
    ----------
    source : SourceParams
        Which frames the stages see.
    stages : mapping of str to (type, object)
        Class and parameters of every stage.
    token : Path
        Absolute path of a file that the run has put into the workspace.
    word : str
        What is written in it.
    sources : mapping of str to (str, int)
        For the root of every corpus, one source file below it and its size in bytes.
    """

    source: SourceParams
    stages: Mapping[str, tuple[type[Stage], Any]]
    token: Path
    word: str
    sources: Mapping[str, tuple[str, int]]


@dataclass(frozen=True)
class Sight:
    """What a process has and sees.

    Parameters
    ----------
    machine : str
        Its host, for people.
    files : str
        Identity of the tree of files it sees: kernel and mount namespace. Processes that share
        it see the same files under the same names.
    facts : mapping of str to str
        Versions and everything else that enters the keys, by name.
    workspace : bool
        Whether it sees the workspace of the run.
    blind : tuple of str
        Paths of the source files asked for that it does not see.
    """

    machine: str
    files: str
    facts: Mapping[str, str] = field(default_factory=dict)
    workspace: bool = False
    blind: tuple[str, ...] = ()


def packages() -> Callable[[], dict[str, str]]:
    """Return a function that tells the versions of a process, whatever it has installed.

    It is made here, within another function, so that it travels by value: a process without
    mer-prep, or with one that lacks this module, can answer as well.
    """
    names = ("mer-prep", *_ALWAYS)

    def versions() -> dict[str, str]:
        import importlib
        import importlib.metadata

        found = {}
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "missing"
        try:
            found["mer-prep"] = importlib.import_module("mer_prep").__version__
        except ImportError:
            found["mer-prep"] = "missing"
        return found

    return versions


def look_around(needs: Needs) -> Sight:
    """Return what this process has and sees of what a run needs."""
    recipe = Recipe(
        needs.source, {name: kind(params) for name, (kind, params) in needs.stages.items()}
    )
    facts = {"mer-prep": __version__}
    facts.update({name: importlib.metadata.version(name) for name in _ALWAYS})
    for name in recipe.stages:
        own = recipe.stage_facts(name)
        facts[f"version of stage {name}"] = str(own["version"])
        facts[f"parameters of stage {name}"] = canonical_json(own["params"])
        for kind in ("libraries", "identity"):
            facts.update({f"{one} of stage {name}": str(of) for one, of in own[kind].items()})
    return Sight(
        machine=platform.node(),
        files=_tree_of_files(),
        facts=facts,
        workspace=_sees_workspace(needs),
        blind=tuple(
            os.path.join(root, relative)
            for root, (relative, size) in needs.sources.items()
            if _size(os.path.join(root, relative)) != size
        ),
    )


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """Return how a worker's facts differ, as ``numpy 2.0.0 instead of 2.1.0``."""
    return [
        f"{name} {theirs.get(name, 'missing')} instead of {ours[name]}"
        for name in ours
        if theirs.get(name) != ours[name]
    ]


@contextmanager
def needs_of(recipe: Recipe, clips: Sequence[Clip], folder: Path) -> Iterator[Needs]:
    """Put a token into a folder of the workspace and yield what a worker must have.

    Parameters
    ----------
    recipe : Recipe
        The stages.
    clips : sequence of Clip
        The clips of the run; one source file of every corpus is looked for.
    folder : Path
        A folder of the workspace; it is made if it is not there.
    """
    disk.make_folder(folder)
    word = secrets.token_hex(16)
    token = folder.absolute() / f".seen-by-{word[:12]}{files.PARTIAL}"
    with files.explained(token):
        disk.write_text(token, word)
    try:
        yield Needs(
            source=recipe.source,
            stages={name: (type(stage), stage.params) for name, stage in recipe.stages.items()},
            token=token,
            word=word,
            sources=_samples(clips),
        )
    finally:
        files.discard(token)


def _samples(clips: Sequence[Clip]) -> dict[str, tuple[str, int]]:
    """Return for every root one source file that is there, and its size."""
    samples: dict[str, tuple[str, int]] = {}
    for clip in clips:
        for relative in source_files(clip)[:1] if clip.root not in samples else ():
            size = _size(os.path.join(clip.root, relative))
            if size is not None:
                samples[clip.root] = (relative, size)
    return samples


def _sees_workspace(needs: Needs) -> bool:
    try:
        return needs.token.read_text(encoding="utf-8") == needs.word
    except (OSError, ValueError):
        return False


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _tree_of_files() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/mnt')}"
    except OSError:
        return platform.node()
