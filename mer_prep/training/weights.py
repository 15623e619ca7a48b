"""Trained weights: the run they lie in, and which of its folds may judge a clip."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep.checks import suggest
from mer_prep.config import parse_json_object
from mer_prep.dataset import Statistics
from mer_prep.errors import ConfigError, LeakError, TrainingError
from mer_prep.protocols import Fold, Member, check_folds, protocol_card
from mer_prep.records import record_text
from mer_prep.training.fit import Machine, View
from mer_prep.training.initial import COPY, check_unseen, read_init
from mer_prep.training.study import Study, fold_folder
from mer_prep.workspace import Workspace

#: In place of the corpus of a video or folder that belongs to none; no corpus can be named so.
NO_CORPUS = "(file)"


def find_run(workspace: Workspace, given: str) -> tuple[Workspace, Path]:
    """Return a run and the workspace it belongs to.

    Parameters
    ----------
    workspace : Workspace
        Where a run is looked for by its name.
    given : str
        Name of a run, or the path of its folder. A run in the folder ``runs`` of another workspace
        belongs to that one.

    Raises
    ------
    ConfigError
        If there is no such run; the nearest name is suggested.
    """
    named = workspace.root / "runs" / given
    # The path in full: of `.` there would be no name to show.
    for folder in (named, Path(os.path.abspath(given))):
        if (folder / "config.json").is_file():
            there = folder.resolve()
            owner = there.parent.parent
            return (Workspace(owner) if there.parent.name == "runs" else workspace), folder
    found = (workspace.root / "runs").glob("*/config.json")
    names = sorted(path.parent.name for path in found if path.is_file())
    raise ConfigError(
        f"There is no run '{given}'.{suggest(given, names)}",
        where=workspace.root / "runs",
        hint=f"runs here: {', '.join(names)}" if names else "train one by `mer-prep train`",
    )


def read_results(run: Path) -> dict[str, Any]:
    """Return what stands in ``results.json`` of a run; empty if it was not scored yet.

    Raises
    ------
    TrainingError
        If the file is damaged.
    """
    path = run / "results.json"
    if not path.is_file():
        return {}
    try:
        return parse_json_object(record_text(path))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"The results cannot be read: {error!s:.200}.",
            where=path,
            hint="run the same `mer-prep train` again; it only scores a finished run",
        ) from None


def check_weights(run: Path, folds: Sequence[Fold]) -> None:
    """Raise `TrainingError` if folds have no weights; they are named."""
    without = [
        fold.name
        for fold in folds
        if not (fold_folder(run, fold) / "checkpoint.safetensors").is_file()
    ]
    if without:
        count = "The fold has" if len(folds) == 1 else f"{len(without)} of {len(folds)} folds have"
        raise TrainingError(
            f"{count} no weights: {', '.join(without[:5])}.",
            where=run,
            hint="run the same `mer-prep train` again; it trains what is missing",
        )


def view_of(study: Study, statistics: Statistics) -> View:
    """Return how samples become what the model of a study takes when it is tested."""
    return View(study.method.side * study.reduce, study.reduce, statistics)


def machine_of(study: Study, device: str) -> Machine:
    """Return where a trained model of a study computes, and as when it was tested."""
    return Machine(device=device, precision=study.precision)


def check_pre_training(run: Path, study: Study, clip: Member) -> None:
    """Raise `LeakError` if the weights that a run started from were trained on a clip.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        Its study.
    clip : Member
        The clip that is to be judged.
    """
    if study.init is not None:
        path = run / COPY
        check_unseen(path, read_init(path)[1], {clip.clip_id: (clip.subject, clip.source_digest)})


@dataclass(frozen=True)
class Judges:
    """The folds whose models judge a clip.

    Parameters
    ----------
    folds : tuple of Fold
        One or more; of several, the mean of all they give is taken.
    why : str
        Which they are and why, as a phrase for people.
    """

    folds: tuple[Fold, ...]
    why: str


def choose_judges(
    study: Study, clip: Member, *, fold: str | None = None, ensemble: bool = False
) -> Judges:
    """Return the folds that may judge a clip, as none of them was trained on it or its person.

    Parameters
    ----------
    study : Study
        The study of the run.
    clip : Member
        The clip, which need not be one of the study.
    fold : str, optional
        The fold to take. By default it is the one that tested the clip, or else all that were
        trained on nothing of it.
    ensemble : bool
        Whether to take all folds.

    Raises
    ------
    ConfigError
        If there is no such fold.
    LeakError
        If a fold was trained on the clip, on the same frames, or on the same person where the
        protocol keeps persons apart; persons are told by the corpus and subject of the clip.
    """
    if fold is not None and ensemble:
        raise ConfigError("One fold or all of them: choose --fold or --ensemble.")
    if fold is not None:
        chosen = _named(study, fold)
        _check(study, chosen, clip)
        return Judges((chosen,), f"fold {chosen.name}, as asked for")
    if ensemble:
        for one in study.folds:
            _check(study, one, clip)
        return Judges(study.folds, f"mean of all {len(study.folds)} folds, as asked for")
    tested = [one for one in study.folds if clip.clip_id in one.test]
    if tested:
        _check(study, tested[0], clip)
        return Judges(tuple(tested[:1]), f"fold {tested[0].name}, which tested this clip")
    return _strangers(study, clip)


def _strangers(study: Study, clip: Member) -> Judges:
    """Return the folds that know nothing of a clip that none of them tested."""
    honest: list[Fold] = []
    leak: LeakError | None = None
    for one in study.folds:
        try:
            _check(study, one, clip)
        except LeakError as error:
            leak = error
        else:
            honest.append(one)
    if leak is not None and not honest:
        raise leak
    if leak is None:
        which = "the only fold" if len(honest) == 1 else f"mean of all {len(honest)} folds"
        known = "trained neither on it nor on its person"
        if clip.corpus == NO_CORPUS:
            known = "trained on other files; who is seen is not known"
        return Judges(study.folds, f"{which}, {known}")
    which = (
        f"fold {honest[0].name}, the only one"
        if len(honest) == 1
        else f"mean of the {len(honest)} of {len(study.folds)} folds"
    )
    return Judges(tuple(honest), f"{which} not trained on this person or these frames")


def _named(study: Study, name: str) -> Fold:
    for fold in study.folds:
        if fold.name == name:
            return fold
    names = [fold.name for fold in study.folds]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    raise ConfigError(
        f"The run has no fold '{name}'.{suggest(name, names)}",
        hint=f"folds: {', '.join(names[:10])}{more}",
    )


def _check(study: Study, fold: Fold, clip: Member) -> None:
    """Raise `LeakError` if a fold was trained on what it would judge."""
    members = {
        one.clip_id: Member(one.clip_id, one.corpus, one.subject, one.label, one.source_digest)
        for one in study.clips
    }
    members.setdefault(clip.clip_id, clip)
    try:
        check_folds(
            [Fold(fold.name, fold.train, (clip.clip_id,))],
            members.values(),
            subjects_may_recur=protocol_card(study.protocol).subjects_may_recur,
        )
    except LeakError as error:
        raise LeakError(
            f"Fold {fold.name} was trained on this clip, its frames or its person.",
            where=error.what,
            why="a model knows what it was trained on; its answer would say nothing of others",
            hint="leave out --fold and --ensemble: the fold that was not trained on it is taken",
        ) from None
