"""Folds: which clips train and which are tested."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mer_prep.store.key import digest


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


def folds_digest(folds: Sequence[Fold]) -> str:
    """Return a SHA-256 over the folds in their order: names and the clips on both sides."""
    return digest({"folds": [[fold.name, [*fold.train], [*fold.test]] for fold in folds]})
