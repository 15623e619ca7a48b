"""Folds: which clips train and which are tested."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mer_prep.config import canonical_json


@dataclass(frozen=True)
class Member:
    """A labelled clip, as far as protocols need it.

    Parameters
    ----------
    clip_id : str
        ``<corpus>/<subject>/<clip>``.
    corpus : str
        Its corpus, as the workspace names it.
    subject : str
        Its subject, named across corpora (``casme2/sub01``).
    label : int
        Its class.
    source_digest : str
        SHA-256 of its frames' bytes; empty if unknown.
    population : str
        Whom the corpus shows: the corpus that it was imported as, whatever it is called in the
        workspace; empty if unknown.
    onset, offset : int, optional
        First and last frame number of the expression: two of one folder share all its frames.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    source_digest: str = ""
    population: str = ""
    onset: int | None = None
    offset: int | None = None

    def overlaps(self, other: Member) -> bool:
        """Return whether two expressions share a frame number, or may for all that is known."""
        if self.onset is None or other.onset is None:
            return True
        if self.offset is None or other.offset is None:
            return True
        return max(self.onset, other.onset) <= min(self.offset, other.offset)


@dataclass(frozen=True)
class Fold:
    """One fold: who is tested, and which clips are on which side.

    Parameters
    ----------
    name : str
        Name of the fold; for leave-one-subject-out the subject, ``<corpus>/<subject>``.
    train, test : tuple of str
        Clip ids, sorted.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Training and test."""
        return self.train, self.test


def folds_digest(folds: Sequence[Fold]) -> str:
    """Return a SHA-256 over the folds in their order: names and the clips on both sides.

    It is that of the canonical JSON of ``{"folds": [[name, [train], [test]], ...]}``, which is
    never held as a whole: it is as long as clips times folds.
    """
    coded: dict[str, str] = {}

    def listed(clips: Sequence[str]) -> str:
        coded.update((clip, canonical_json(clip)) for clip in set(clips).difference(coded))
        return f"[{','.join(map(coded.__getitem__, clips))}]"

    found = hashlib.sha256(b'{"folds":[')
    for number, fold in enumerate(folds):
        text = f"[{canonical_json(fold.name)},{listed(fold.train)},{listed(fold.test)}]"
        found.update((f",{text}" if number else text).encode())
    found.update(b"]}")
    return found.hexdigest()
