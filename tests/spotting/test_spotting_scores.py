"""Pooled scores of spotting, and the spot-then-recognise score in its two modes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from mer_prep.errors import ConfigError, ManifestError
from mer_prep.spotting import (
    Counts,
    Interval,
    Truth,
    Video,
    bootstrap_f1,
    iou,
    score_spotting,
    spot_then_recognise,
)

#: Four videos of three subjects; nothing is annotated in the last.
VIDEOS = (Video("c/a1", "c/a"), Video("c/a2", "c/a"), Video("c/b1", "c/b"), Video("c/c1", "c/c"))


def micro(video: str, onset: int, offset: int, emotion: str | None = None) -> Interval:
    return Interval(video, onset, offset, "micro", emotion)


def macro(video: str, onset: int, offset: int) -> Interval:
    return Interval(video, onset, offset, "macro")


TRUTH = Truth(
    VIDEOS,
    (
        micro("c/a1", 10, 19, "negative"),
        micro("c/a1", 40, 49, "surprise"),
        micro("c/b1", 5, 14, "positive"),
        macro("c/a1", 10, 39),
        macro("c/b1", 60, 99),
    ),
)


def test_perfect_spotting_has_1_and_none_0():
    perfect = score_spotting(TRUTH, TRUTH.intervals)
    assert perfect.types == {"micro": Counts(3, 0, 0), "macro": Counts(2, 0, 0)}
    assert perfect.overall.f1 == perfect.overall.precision == perfect.overall.recall == 1
    nothing = score_spotting(TRUTH, [])
    assert nothing.overall == Counts(0, 0, 5)
    assert nothing.overall.f1 == 0


def test_counts_are_pooled_over_videos_and_types_before_they_are_divided():
    spotted = [
        micro("c/a1", 12, 19),  # IoU 0.8: right
        micro("c/a1", 60, 70),  # wrong
        micro("c/c1", 1, 9),  # wrong, in a video without an expression
        macro("c/a1", 10, 39),  # right
        macro("c/b1", 5, 14),  # a micro-expression is there: wrong
    ]
    scores = score_spotting(TRUTH, spotted)
    assert scores.types["micro"] == Counts(1, 2, 2)
    assert scores.types["macro"] == Counts(1, 1, 1)
    assert scores.overall == Counts(2, 3, 3)
    # 2A / (M + N), not the mean of 1/3 and 1/2.
    assert scores.overall.f1 == pytest.approx(2 * 2 / (5 + 5))
    alone = score_spotting(TRUTH, spotted, types=["micro"])
    assert alone.overall == scores.types["micro"]
    by_name = {(one.video.name, one.type): one.match.counts for one in scores.videos}
    assert len(by_name) == 8
    assert by_name["c/c1", "micro"] == Counts(0, 1, 0)
    assert by_name["c/a2", "macro"] == Counts(0, 0, 0)


def test_videos_without_expressions_lower_the_precision():
    spotted = [*TRUTH.intervals, micro("c/a2", 1, 9), micro("c/c1", 1, 9)]
    counts = score_spotting(TRUTH, spotted, types=["micro"]).overall
    assert (counts.precision, counts.recall) == (3 / 5, 1)
    assert [video.name for video in TRUTH.without_expression(["micro"])] == ["c/a2", "c/c1"]


def test_what_is_not_in_the_truth_cannot_be_scored():
    with pytest.raises(ManifestError, match="lists no video 'c/zz'"):
        score_spotting(TRUTH, [micro("c/zz", 1, 2)])
    with pytest.raises(ConfigError, match="Did you mean 'micro'"):
        score_spotting(TRUTH, [], types=["mikro"])
    with pytest.raises(ManifestError, match="'c/zz' of an expression is not listed"):
        Truth(VIDEOS, (micro("c/zz", 1, 2),))
    with pytest.raises(ManifestError, match="share a name"):
        Truth((VIDEOS[0], VIDEOS[0]), ())
    with pytest.raises(ManifestError, match="stands twice: micro, frames 1 to 2"):
        Truth(VIDEOS, (micro("c/a1", 1, 2), micro("c/a1", 1, 2)))


def test_the_digest_is_of_the_content_not_of_the_order():
    other = Truth(VIDEOS[::-1], TRUTH.intervals[::-1])
    assert other.digest() == TRUTH.digest()
    assert Truth(VIDEOS[:3], TRUTH.intervals).digest() != TRUTH.digest()
    assert Truth(VIDEOS, TRUTH.intervals[1:]).digest() != TRUTH.digest()


def test_intervals_of_f1_come_from_resampled_subjects():
    videos = tuple(Video(f"c/{i}", f"c/s{i // 2}") for i in range(80))
    truth = Truth(videos, tuple(micro(video.name, 0, 9) for video in videos))
    # 24 of 40 subjects are all right, of the others nothing is spotted: F1 = 2A / (M + A).
    scores = score_spotting(truth, truth.intervals[:48], types=["micro"])
    found = bootstrap_f1(scores, types=["micro"], seed=1)
    assert found == bootstrap_f1(scores, types=["micro"], seed=1)
    right = np.random.default_rng(5).binomial(40, 0.6, 100_000) / 40
    low, high = np.percentile(2 * right / (1 + right), [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)
    perfect = score_spotting(truth, truth.intervals, types=["micro"])
    sure = bootstrap_f1(perfect, types=["micro"], rounds=10)
    assert (sure.low, sure.high) == (1, 1)
    with pytest.raises(ConfigError, match="'level' is out of range"):
        bootstrap_f1(scores, types=["micro"], level=95)


# Spot-then-recognise.


def test_modes_agree_where_nothing_is_shared_or_passed_over():
    truth = Truth(VIDEOS[:3], tuple(one for one in TRUTH.intervals if one.type == "micro"))
    spotted = [
        micro("c/a1", 10, 19, "negative"),
        micro("c/a1", 40, 49, "negative"),
        micro("c/b1", 5, 14, "positive"),
        micro("c/b1", 70, 80, "surprise"),
    ]
    found = {
        mode: spot_then_recognise(truth, spotted, mode=mode) for mode in ("strict", "reference")
    }
    for one in found.values():
        assert one.spotting == Counts(3, 1, 0)
        assert one.analysis.classes == ("negative", "positive", "surprise")
        # Precision 1/2, 1, 0; recall 1, 1, 0; F1 2/3, 1, 0.
        assert one.analysis.precision == pytest.approx(0.5)
        assert one.analysis.recall == pytest.approx(2 / 3)
        assert one.analysis.f1 == pytest.approx(4 / 7)
        assert one.analysis.uf1 == pytest.approx(5 / 9)
        assert one.strs == pytest.approx(6 / 7 * 4 / 7)


def test_reference_counts_every_pair_strict_each_interval_once():
    truth = Truth(VIDEOS[:1], (micro("c/a1", 0, 9, "negative"), micro("c/a1", 10, 19, "surprise")))
    spotted = [micro("c/a1", 0, 19, "negative")]
    strict = spot_then_recognise(truth, spotted)
    assert strict.spotting == Counts(1, 0, 1)
    reference = spot_then_recognise(truth, spotted, mode="reference")
    assert reference.spotting == Counts(2, 0, 0)
    assert (strict.spotting.f1, reference.spotting.f1) == (pytest.approx(2 / 3), 1)
    # And two intervals at one expression are two true positives, with nothing left over.
    doubled = [micro("c/a1", 0, 9, "negative"), micro("c/a1", 1, 9, "negative")]
    assert spot_then_recognise(truth, doubled).spotting == Counts(1, 1, 1)
    assert spot_then_recognise(truth, doubled, mode="reference").spotting == Counts(2, 0, 1)


def test_reference_pairs_over_all_types_strict_over_one():
    truth = Truth(
        VIDEOS[:1],
        (
            micro("c/a1", 10, 19, "negative"),
            Interval("c/a1", 40, 49, "macro", "positive"),
        ),
    )
    spotted = [
        Interval("c/a1", 10, 19, "macro", "negative"),
        Interval("c/a1", 41, 49, "macro", "positive"),
    ]
    assert spot_then_recognise(truth, spotted, types=BOTH).spotting == Counts(1, 1, 1)
    found = spot_then_recognise(truth, spotted, types=BOTH, mode="reference")
    assert found.spotting == Counts(2, 0, 0)
    assert (found.strs, found.analysis.confusion.tolist()) == (1, [[1, 0], [0, 1]])
    one = spot_then_recognise(truth, spotted, types=["micro"], mode="reference")
    assert one.spotting == Counts(0, 0, 0)


def test_reference_passes_over_videos_and_subjects_that_strict_counts():
    truth = Truth(VIDEOS, tuple(one for one in TRUTH.intervals if one.type == "micro"))
    spotted = [
        micro("c/a1", 10, 19, "negative"),
        micro("c/a2", 1, 9, "negative"),  # nothing annotated in the video
        micro("c/c1", 1, 9, "negative"),  # nor of this subject
    ]
    # Nothing is spotted for subject b: the reference does not see that an expression is missed.
    assert spot_then_recognise(truth, spotted).spotting == Counts(1, 2, 2)
    found = spot_then_recognise(truth, spotted, mode="reference")
    assert found.spotting == Counts(1, 0, 1)


def test_nothing_that_matches_gives_0_in_both_modes():
    spotted = [micro("c/a1", 80, 90, "negative")]
    truth = Truth(VIDEOS, tuple(one for one in TRUTH.intervals if one.type == "micro"))
    for mode in ("strict", "reference"):
        found = spot_then_recognise(truth, spotted, mode=mode)
        assert (found.strs, found.analysis.f1, found.spotting.tp) == (0, 0, 0)


def test_emotions_and_subjects_must_be_known():
    with pytest.raises(ManifestError, match="2 of 5 annotated expressions have no emotion"):
        spot_then_recognise(TRUTH, [], types=["micro", "macro"])
    with pytest.raises(ManifestError, match="1 of 1 spotted expressions have no emotion"):
        spot_then_recognise(TRUTH, [micro("c/a1", 1, 2)])
    with pytest.raises(ConfigError, match="Did you mean 'strict'"):
        spot_then_recognise(TRUTH, [], mode="strickt")
    bare = Truth((Video("a1"),), (micro("a1", 1, 2, "negative"),))
    assert spot_then_recognise(bare, bare.intervals).strs == 1
    with pytest.raises(ManifestError, match="subject of video 'a1' is not known"):
        spot_then_recognise(bare, bare.intervals, mode="reference")


BOTH = ("micro", "macro")
EMOTIONS = ("negative", "positive", "surprise")
ANY = st.builds(
    lambda video, onset, length, kind, emotion: Interval(
        video.name, onset, onset + length, kind, emotion
    ),
    st.sampled_from(VIDEOS),
    st.integers(0, 10),
    st.integers(0, 8),
    st.sampled_from(BOTH),
    st.sampled_from(EMOTIONS),
)
MANY = st.lists(ANY, max_size=8, unique_by=lambda one: (one.video, one.onset, one.offset))


@given(MANY, MANY)
def test_reference_is_what_plain_loops_count(annotated, spotted):
    """Visit subjects of predictions, their annotated videos, and all pairs there, one by one."""
    subject = {video.name: video.subject for video in VIDEOS}
    pairs: list[tuple[str, str]] = []
    fp = fn = 0
    for person in {subject[one.video] for one in spotted}:
        for video in {one.video for one in annotated if subject[one.video] == person}:
            here = [one for one in annotated if one.video == video]
            hit = set()
            for guess in (one for one in spotted if one.video == video):
                matched = [i for i, one in enumerate(here) if iou(guess, one) >= 0.5]
                pairs += [(str(here[i].emotion), str(guess.emotion)) for i in matched]
                hit.update(matched)
                fp += not matched
            fn += len(here) - len(hit)
    truth = Truth(VIDEOS, tuple(annotated))
    found = spot_then_recognise(truth, spotted, types=BOTH, mode="reference")
    assert found.spotting == Counts(len(pairs), fp, fn)
    if pairs:
        labels = list(found.analysis.classes)
        means = precision_recall_fscore_support(
            *zip(*pairs, strict=True), labels=labels, average="macro", zero_division=0
        )
        analysis = found.analysis
        assert (analysis.precision, analysis.recall, analysis.uf1) == pytest.approx(means[:3])
        both = sum(means[:2])
        assert analysis.f1 == pytest.approx(2 * means[0] * means[1] / both if both else 0)


@given(MANY, MANY)
def test_strict_spotting_is_that_of_the_scores(annotated, spotted):
    truth = Truth(VIDEOS, tuple(annotated))
    strict = spot_then_recognise(truth, spotted, types=BOTH)
    assert strict.spotting == score_spotting(truth, spotted).overall
    assert strict.analysis.confusion.sum() == strict.spotting.tp
    assert strict.strs == strict.spotting.f1 * strict.analysis.f1


@given(MANY, MANY)
def test_reference_is_never_stricter_than_strict(annotated, spotted):
    truth = Truth(VIDEOS, tuple(annotated))
    strict = spot_then_recognise(truth, spotted, types=BOTH).spotting
    reference = spot_then_recognise(truth, spotted, types=BOTH, mode="reference").spotting
    assert reference.tp >= strict.tp
    assert reference.fp <= strict.fp
    assert reference.fn <= strict.fn
    assert reference.f1 >= strict.f1
