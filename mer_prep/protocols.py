"""Evaluation protocols: folds, frozen with a digest, and the check that nothing leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mer_prep.errors import LeakError
from mer_prep.store.key import digest


@dataclass(frozen=True)
class Fold:
    """One fold: who is tested, and which clips are on which side.

    Parameters
    ----------
    name : str
        Name of the fold; for leave-one-subject-out the subject, ``<corpus>/<subject>``.
    train, test : tuple of str
        Clip ids.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def leave_one_subject_out(subjects: Mapping[str, str]) -> list[Fold]:
    """Return one fold per subject (LOSO), sorted by subject.

    Parameters
    ----------
    subjects : mapping of str to str
        Subject, named across corpora (``casme2/sub01``), by clip id. A subject without a clip
        has no fold.
    """
    folds = []
    for subject in sorted(set(subjects.values())):
        test = tuple(sorted(clip for clip, one in subjects.items() if one == subject))
        train = tuple(sorted(clip for clip, one in subjects.items() if one != subject))
        folds.append(Fold(subject, train, test))
    check_folds(folds, subjects)
    return folds


def check_folds(folds: Sequence[Fold], subjects: Mapping[str, str]) -> None:
    """Raise `LeakError` if a clip or a subject is on both sides of a fold, or tested twice.

    Parameters
    ----------
    folds : sequence of Fold
        The folds.
    subjects : mapping of str to str
        Subject by clip id.
    """
    tested: dict[str, str] = {}
    for fold in folds:
        train_subjects = {subjects[clip] for clip in fold.train}
        shared = sorted(train_subjects & {subjects[clip] for clip in fold.test})
        clips = sorted(set(fold.train) & set(fold.test))
        if shared or clips:
            raise LeakError(
                f"Fold {fold.name} has {', '.join((clips or shared)[:5])} in training and test.",
                why="a model would be scored on people it was trained on",
                hint="split by subject",
            )
        for clip in fold.test:
            if clip in tested:
                raise LeakError(f"Clip {clip} is tested in folds {tested[clip]} and {fold.name}.")
            tested[clip] = fold.name


def folds_digest(folds: Sequence[Fold]) -> str:
    """Return a SHA-256 over the folds: their names and the clips on both sides."""
    return digest({fold.name: [list(fold.train), list(fold.test)] for fold in folds})
