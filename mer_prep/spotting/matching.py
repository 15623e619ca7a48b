"""Which spotted interval is which annotated one, and what that counts for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_range
from mer_prep.spotting.intervals import Interval

#: Smallest intersection over union of a match in all challenges of the field.
THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives and false negatives; sums of them are pooled counts.

    Parameters
    ----------
    tp, fp, fn : int
        Spotted and right, spotted and wrong, missed.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 0 where nothing was spotted."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 0 where there is nothing to spot."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _ratio(above: int, below: int) -> float:
    return above / below if below else 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """How the intervals of one video were matched.

    Parameters
    ----------
    pairs : tuple of (int, int)
        Positions of an annotated and a spotted interval; every position at most once.
    counts : Counts
        With a pairs, m annotated and n spotted intervals: TP = a, FP = n - a, FN = m - a.
    """

    pairs: tuple[tuple[int, int], ...]
    counts: Counts


def check_threshold(threshold: float) -> float:
    """Return a threshold of the intersection over union if it lies above 0 and up to 1.

    Raises
    ------
    ConfigError
        If it does not; at 0 any two intervals would match.
    """
    return check_range("iou", threshold, low=0, high=1, open_low=True)


def overlaps(annotated: Sequence[Interval], spotted: Sequence[Interval]) -> np.ndarray:
    """Return the intersection over union of all pairs of intervals of one video.

    Returns
    -------
    ndarray, shape (M, N), float64
        See `mer_prep.spotting.intervals.iou`.
    """
    first = np.array([(one.onset, one.offset) for one in annotated], np.int64).reshape(-1, 1, 2)
    second = np.array([(one.onset, one.offset) for one in spotted], np.int64).reshape(1, -1, 2)
    last = np.minimum(first[..., 1], second[..., 1])
    shared = np.maximum(last - np.maximum(first[..., 0], second[..., 0]) + 1, 0)
    lengths = [side[..., 1] - side[..., 0] + 1 for side in (first, second)]
    return shared / (lengths[0] + lengths[1] - shared)


def match_intervals(
    annotated: Sequence[Interval], spotted: Sequence[Interval], *, threshold: float = THRESHOLD
) -> Match:
    """Match the intervals of one video, each with at most one of the other side.

    Parameters
    ----------
    annotated, spotted : sequence of Interval
        Intervals of one type in one video.
    threshold : float
        Smallest intersection over union of a match, above 0 and up to 1.

    Returns
    -------
    Match
        As many pairs as there can be; among such matchings one of the largest total intersection
        over union.

    Raises
    ------
    ConfigError
        If the threshold is out of range.

    Notes
    -----
    Where neither the annotated nor the spotted intervals overlap among themselves, and the
    threshold is at least one half, pairing them in any order finds as many: if A matches two
    disjoint intervals, each must be exactly half of A, so that neither matches anything but A.
    Spotters do return overlapping intervals, and corpora hold some. Pairing in the order of a
    file then finds 1 of the 2 pairs of ``[0, 4], [5, 9]`` with ``[0, 9], [0, 4]``, and the best
    pair first 1 of the 2 pairs of ``[0, 9], [0, 19]`` with ``[0, 19], [0, 29]``. Hence a maximum
    matching, which depends on no order.

    References
    ----------
    H. W. Kuhn, "The Hungarian method for the assignment problem", Naval Research Logistics
    Quarterly 2, 1955. doi:10.1002/nav.3800020109
    """
    from scipy.optimize import linear_sum_assignment

    check_threshold(threshold)
    found = overlaps(annotated, spotted)
    eligible = found >= threshold
    # One more pair outweighs whatever the overlaps of the others can gain.
    weight = np.where(eligible, found + min(found.shape) + 1, 0.0)
    rows, columns = linear_sum_assignment(weight, maximize=True)
    pairs = tuple((int(i), int(j)) for i, j in zip(rows, columns, strict=True) if eligible[i, j])
    counts = Counts(len(pairs), len(spotted) - len(pairs), len(annotated) - len(pairs))
    return Match(pairs, counts)
