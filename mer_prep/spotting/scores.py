"""Scores of spotting, pooled over all videos.

Counts are summed over videos, and over types for the overall score, before anything is divided.
Videos without expressions take part: whatever is spotted in them is a false positive.

References
----------
.. [1] J. See, M. H. Yap, J. Li, X. Hong, S.-J. Wang, "MEGC 2019 - the second facial
   micro-expressions grand challenge", FG 2019. doi:10.1109/FG.2019.8756611
.. [2] Y. He, S.-J. Wang, J. Li, M. H. Yap, "Spotting macro- and micro-expression intervals in long
   video sequences", FG 2020. doi:10.48550/arXiv.1912.11985
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import ManifestError
from mer_prep.manifest import EXPRESSION_TYPES
from mer_prep.metrics import ConfidenceInterval, percentile_interval, resample_subjects
from mer_prep.spotting.intervals import Interval, Truth, Video
from mer_prep.spotting.matching import THRESHOLD, Counts, Match, match_intervals


@dataclass(frozen=True, slots=True)
class VideoScores:
    """What was spotted of one type in one video.

    Parameters
    ----------
    video : Video
        The video.
    type : {'micro', 'macro'}
        Kind of expression.
    annotated, spotted : tuple of Interval
        By onset.
    match : Match
        Pairs of positions in `annotated` and `spotted`, and the counts.
    """

    video: Video
    type: str
    annotated: tuple[Interval, ...]
    spotted: tuple[Interval, ...]
    match: Match


@dataclass(frozen=True)
class SpottingScores:
    """Scores of a spotter over all videos.

    Parameters
    ----------
    types : mapping of str to Counts
        Pooled counts by type; their precision, recall and F1 are the scores.
    overall : Counts
        The sum of them.
    videos : tuple of VideoScores
        Every video, type after type.
    threshold : float
        Smallest intersection over union of a match.
    """

    types: Mapping[str, Counts]
    overall: Counts
    videos: tuple[VideoScores, ...]
    threshold: float


def score_spotting(
    truth: Truth,
    spotted: Sequence[Interval],
    *,
    types: Sequence[str] = EXPRESSION_TYPES,
    threshold: float = THRESHOLD,
) -> SpottingScores:
    """Score spotted intervals against the ground truth.

    Parameters
    ----------
    truth : Truth
        All videos, and the expressions in them.
    spotted : sequence of Interval
        Of any types; those of types that are not asked for do not count.
    types : sequence of {'micro', 'macro'}
        Types that are scored. An interval matches one of its own type only.
    threshold : float
        Smallest intersection over union of a match, above 0 and up to 1.

    Returns
    -------
    SpottingScores

    Raises
    ------
    ConfigError
        If a type or the threshold is out of range.
    ManifestError
        If something is spotted in a video that the ground truth does not list.

    Notes
    -----
    With A matches among M annotated and N spotted intervals of all videos [1]_: ``precision =
    A / N``, ``recall = A / M``, ``F1 = 2 A / (M + N)``. Counts of both types are summed for the
    overall score [2]_. Quotients with nothing to divide count as 0.
    """
    for kind in types:
        check_option("type", kind, EXPRESSION_TYPES)
    check_listed(truth, spotted)
    videos = []
    pooled = {}
    for kind in types:
        annotated_in = by_video(truth.of_type(kind))
        spotted_in = by_video([one for one in spotted if one.type == kind])
        scored = [
            _score_video(video, kind, annotated_in[video.name], spotted_in[video.name], threshold)
            for video in truth.videos
        ]
        pooled[kind] = sum((one.match.counts for one in scored), Counts())
        videos += scored
    return SpottingScores(pooled, sum(pooled.values(), Counts()), tuple(videos), threshold)


def check_listed(truth: Truth, spotted: Sequence[Interval]) -> None:
    """Raise `ManifestError` if something is spotted in a video that the truth does not list."""
    strange = sorted({one.video for one in spotted} - {video.name for video in truth.videos})
    if strange:
        raise ManifestError(
            f"The ground truth lists no video '{strange[0]}'.",
            why="what is spotted in it would count for nothing",
        )


def by_video(intervals: Sequence[Interval]) -> defaultdict[str, list[Interval]]:
    """Return the intervals of every video, by onset; empty for a video without."""
    found: defaultdict[str, list[Interval]] = defaultdict(list)
    for one in sorted(intervals, key=lambda one: (one.onset, one.offset)):
        found[one.video].append(one)
    return found


def _score_video(
    video: Video,
    kind: str,
    annotated: Sequence[Interval],
    spotted: Sequence[Interval],
    threshold: float,
) -> VideoScores:
    match = match_intervals(annotated, spotted, threshold=threshold)
    return VideoScores(video, kind, tuple(annotated), tuple(spotted), match)


def bootstrap_f1(
    scores: SpottingScores,
    *,
    types: Sequence[str],
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> ConfidenceInterval:
    """Return the confidence interval of the pooled F1, by resampling subjects.

    See `mer_prep.metrics.resample_subjects`: a subject is drawn with all of its videos.

    Parameters
    ----------
    scores : SpottingScores
        Scores by video. A video without a subject is taken for a subject of its own.
    types : sequence of {'micro', 'macro'}
        Types whose counts are pooled.
    level : float
        Part of the resampled scores inside the interval, 0 to 1, both excluded.
    rounds : int
        Number of resamplings.
    seed : int
        Seed of the resampling.

    Raises
    ------
    ConfigError
        If the level or the number of rounds is out of range.
    ValueError
        If no video has been scored for the types.
    """
    people: defaultdict[str, Counts] = defaultdict(Counts)
    for one in scores.videos:
        if one.type in types:
            people[one.video.subject or f"video {one.video.name}"] += one.match.counts
    if not people:
        raise ValueError(f"no video was scored for the types {', '.join(types)}")
    counts = np.array([(one.tp, one.fp, one.fn) for one in people.values()])
    tp, fp, fn = resample_subjects(counts, rounds=rounds, seed=seed).T
    below = 2 * tp + fp + fn
    f1 = np.divide(2 * tp, below, out=np.zeros(rounds), where=below > 0)
    return percentile_interval(f1, level=level)
