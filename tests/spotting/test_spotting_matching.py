"""Matching of intervals, against exhaustive search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_prep.errors import ConfigError, ManifestError
from mer_prep.spotting import Counts, Interval, half_mean_length, iou, match_intervals
from mer_prep.spotting.matching import overlaps

VIDEO = "corpus/video"


def span(onset: int, offset: int) -> Interval:
    return Interval(VIDEO, onset, offset)


SPANS = st.tuples(st.integers(0, 12), st.integers(0, 8)).map(lambda one: span(one[0], sum(one)))
SOME = st.lists(SPANS, max_size=5)


def frames(one: Interval) -> set[int]:
    return set(range(one.onset, one.offset + 1))


def most_pairs(annotated: list[Interval], spotted: list[Interval], threshold: float) -> int:
    """Return the size of the largest matching, by trying all."""
    best = 0
    long, short = (annotated, spotted) if len(annotated) >= len(spotted) else (spotted, annotated)
    for order in itertools.permutations(long, len(short)):
        matched = sum(iou(a, b) >= threshold for a, b in zip(order, short, strict=True))
        best = max(best, matched)
    return best


@given(SPANS, SPANS)
def test_iou_counts_frames_and_is_symmetric(first, second):
    shared, union = frames(first) & frames(second), frames(first) | frames(second)
    assert iou(first, second) == len(shared) / len(union) == iou(second, first)
    assert (iou(first, second) == 1) == (frames(first) == frames(second))


@given(SOME, SOME)
def test_the_matrix_of_overlaps_is_that_of_the_pairs(annotated, spotted):
    found = overlaps(annotated, spotted)
    assert found.shape == (len(annotated), len(spotted))
    for i, j in np.ndindex(found.shape):
        assert found[i, j] == iou(annotated[i], spotted[j])


@given(SOME, SOME, st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]))
def test_a_matching_is_one_to_one_and_as_large_as_any(annotated, spotted, threshold):
    match = match_intervals(annotated, spotted, threshold=threshold)
    for side in zip(*match.pairs, strict=True):
        assert len(set(side)) == len(side)
    assert all(iou(annotated[i], spotted[j]) >= threshold for i, j in match.pairs)
    pairs = most_pairs(annotated, spotted, threshold)
    assert match.counts == Counts(pairs, len(spotted) - pairs, len(annotated) - pairs)


@given(SOME, SOME)
def test_sides_and_order_do_not_change_the_counts(annotated, spotted):
    counts = match_intervals(annotated, spotted).counts
    back = match_intervals(spotted[::-1], annotated[::-1]).counts
    assert back == Counts(counts.tp, counts.fn, counts.fp)


@pytest.mark.parametrize(
    ("annotated", "spotted"),
    [
        # In the order of the lists the first spotted interval takes what only the second fits.
        ([span(0, 4), span(5, 9)], [span(0, 9), span(0, 4)]),
        # The best pair first leaves two that do not fit each other.
        ([span(0, 9), span(0, 19)], [span(0, 19), span(0, 29)]),
    ],
)
def test_where_greedy_pairing_finds_one_there_are_two(annotated, spotted):
    assert match_intervals(annotated, spotted).counts == Counts(2, 0, 0)


def test_among_the_largest_matchings_the_closest_is_taken():
    annotated = [span(0, 9), span(2, 11)]
    match = match_intervals(annotated, [span(2, 11), span(0, 9)])
    assert match.pairs == ((0, 1), (1, 0))


@pytest.mark.parametrize(
    ("second", "threshold", "expected"),
    [
        (span(0, 9), 0.5, 1),  # 10 of 20 frames: exactly one half is a match
        (span(0, 8), 0.5, 0),
        (span(0, 5), 0.3, 1),  # 6 of 20
        (span(20, 30), 0.1, 0),  # next to each other, nothing shared
    ],
)
def test_the_threshold_itself_is_a_match(second, threshold, expected):
    assert match_intervals([span(0, 19)], [second], threshold=threshold).counts.tp == expected


def test_counts_and_their_quotients():
    counts = Counts(3, 1, 2) + Counts(1, 1, 2)
    assert counts == Counts(4, 2, 4)
    assert counts.precision == pytest.approx(4 / 6)
    assert counts.recall == pytest.approx(4 / 8)
    assert counts.f1 == pytest.approx(2 * 4 / (6 + 8))
    harmonic = 2 * counts.precision * counts.recall / (counts.precision + counts.recall)
    assert counts.f1 == pytest.approx(harmonic)
    assert (Counts().precision, Counts().recall, Counts().f1) == (0, 0, 0)


def test_nothing_annotated_and_nothing_spotted():
    assert match_intervals([], []).counts == Counts(0, 0, 0)
    assert match_intervals([], [span(0, 1)]).counts == Counts(0, 1, 0)
    assert match_intervals([span(0, 1)], []).counts == Counts(0, 0, 1)


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_beyond_its_range_is_refused(threshold):
    with pytest.raises(ConfigError, match="'iou' is out of range"):
        match_intervals([], [], threshold=threshold)


def test_an_interval_is_in_order_and_of_a_type():
    assert span(4, 4).length == 1
    with pytest.raises(ManifestError, match="onset 5 lies after the offset 4"):
        span(5, 4)
    with pytest.raises(ManifestError, match="micro or macro, not 'blink'"):
        Interval(VIDEO, 1, 2, "blink")


@pytest.mark.parametrize(
    ("frames", "k"),
    [
        ([(10, 22), (40, 52)], 6),
        ([(10, 23)], 7),
        ([(10, 22), (40, 53)], 6),
        ([(5, 5)], 0),
    ],
)
def test_half_of_the_mean_length_counts_one_end_out(frames, k):
    found = half_mean_length([span(onset, offset) for onset, offset in frames])
    mean = np.mean([offset - onset for onset, offset in frames])
    assert found == k == int((mean + 1) / 2)


def test_no_expressions_have_no_mean_length():
    assert half_mean_length([]) is None
