from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mer_prep import metrics
from mer_prep.errors import ConfigError, ManifestError
from mer_prep.metrics import (
    FAILURE_LIMIT,
    ConfidenceInterval,
    bootstrap,
    confusion_matrix,
    endpoint_errors,
    failure_rate,
    landmark_errors,
    mcnemar,
    resample_subjects,
    score,
    scores_of,
)

NAMES = ("negative", "positive", "surprise")

#: Classes of the 442 clips of the composite of MEGC 2019.
COMPOSITE = np.repeat([0, 1, 2], [250, 109, 83])


def test_always_negative_on_the_composite():
    found = score(COMPOSITE, np.zeros(442, int), NAMES)
    assert found.clips == 442
    assert found.uf1 == pytest.approx(0.2408, abs=5e-5)
    assert found.uar == pytest.approx(0.3333, abs=5e-5)
    assert found.accuracy == pytest.approx(0.5656, abs=5e-5)
    assert found.classes["surprise"].f1 == 0


def test_a_perfect_recogniser_has_1_everywhere():
    found = score(COMPOSITE, COMPOSITE, NAMES)
    assert found.summary() == {"acc": 1.0, "uf1": 1.0, "uar": 1.0, "wf1": 1.0}
    # Also where a class never occurs in the part that is scored, it still counts.
    assert score([0, 0, 1], [0, 0, 1], NAMES).uf1 == pytest.approx(2 / 3)


def test_scores_by_hand():
    found = scores_of(np.array([[4, 1, 0], [2, 3, 0], [1, 0, 0]]), NAMES)
    assert found.accuracy == pytest.approx(7 / 11)
    f1 = (8 / 12, 6 / 9, 0.0)
    assert [found.classes[name].f1 for name in NAMES] == pytest.approx(f1)
    assert found.uf1 == pytest.approx(sum(f1) / 3)
    assert found.uar == pytest.approx((0.8 + 0.6 + 0) / 3)
    assert found.wf1 == pytest.approx((5 * f1[0] + 5 * f1[1] + 1 * f1[2]) / 11)
    assert found.classes["negative"].precision == pytest.approx(4 / 7)
    assert found.classes["surprise"].support == 1


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, predicted = rng.integers(0, 3, 50), rng.integers(0, 2 + seed % 2, 50)
    found = score(labels, predicted, NAMES)
    options = {"labels": [0, 1, 2], "zero_division": 0}
    np.testing.assert_array_equal(
        found.confusion, sklearn_metrics.confusion_matrix(labels, predicted, labels=[0, 1, 2])
    )
    expected = {
        "acc": sklearn_metrics.accuracy_score(labels, predicted),
        "uf1": sklearn_metrics.f1_score(labels, predicted, average="macro", **options),
        "uar": sklearn_metrics.recall_score(labels, predicted, average="macro", **options),
        "wf1": sklearn_metrics.f1_score(labels, predicted, average="weighted", **options),
    }
    assert found.summary() == pytest.approx(expected)


def test_matrices_of_folds_add_up_to_the_pooled_one():
    rng = np.random.default_rng(1)
    labels, predicted = rng.integers(0, 3, 60), rng.integers(0, 3, 60)
    parts = [confusion_matrix(labels[i::4], predicted[i::4], classes=3) for i in range(4)]
    assert scores_of(sum(parts), NAMES).summary() == score(labels, predicted, NAMES).summary()


def test_nothing_averages_over_folds():
    public = [name for name in vars(metrics) if not name.startswith("_")]
    assert not [name for name in public if "fold" in name or "average" in name]


def test_intervals_come_from_resampled_subjects():
    subjects = [f"s{i // 5}" for i in range(100)]
    labels = np.tile([0, 1, 2, 0, 1], 20)
    predicted = np.where(np.arange(100) < 60, labels, (labels + 1) % 3)
    found = bootstrap(labels, predicted, subjects, NAMES, rounds=500, seed=3)
    assert found["acc"].low < 0.6 < found["acc"].high
    # Twenty subjects, each right or wrong throughout: a binomial of 20, not of 100.
    width = found["acc"].high - found["acc"].low
    assert width == pytest.approx(2 * 1.96 * np.sqrt(0.6 * 0.4 / 20), rel=0.15)
    assert bootstrap(labels, predicted, subjects, NAMES, rounds=500, seed=3) == found
    few = [bootstrap(labels, predicted, subjects, NAMES, rounds=9, seed=one) for one in (3, 4)]
    assert few[0] != few[1]
    same = bootstrap(labels, labels, subjects, NAMES, rounds=20)
    assert same["uf1"] == ConfidenceInterval(1.0, 1.0)
    with pytest.raises(ConfigError, match="'level' is out of range: 95"):
        bootstrap(labels, predicted, subjects, NAMES, level=95)


def test_a_draw_without_a_class_is_averaged_over_the_others():
    # One of eight subjects shows the third class: (7/8)^8 of the draws lack it.
    subjects = [f"s{i // 4}" for i in range(32)]
    labels = np.tile([0, 1, 0, 1], 8)
    labels[:4] = 2
    perfect = bootstrap(labels, labels, subjects, NAMES, seed=1)
    assert [(one.low, one.high) for one in perfect.values()] == [(1.0, 1.0)] * 4
    assert perfect["uf1"].lacking == perfect["uar"].lacking
    assert perfect["uf1"].lacking == pytest.approx((7 / 8) ** 8, abs=0.03)
    assert perfect["acc"].lacking == perfect["wf1"].lacking == 0
    # The third class is taken for the first: its recall is 0, and the others' stay 1. Draws hold
    # it, at a UAR of 2/3, or do not, at 1.
    wrong = np.where(labels == 2, 0, labels)
    found = bootstrap(labels, wrong, subjects, NAMES, seed=1)
    assert (found["uar"].low, found["uar"].high) == pytest.approx((2 / 3, 1))
    # A class that nobody shows counts as 0 in the score, and in every draw of it.
    two = bootstrap(labels[4:], labels[4:], subjects[4:], NAMES, rounds=50)
    assert (two["uf1"].low, two["uf1"].high, two["uf1"].lacking) == pytest.approx((2 / 3, 2 / 3, 0))
    assert score(labels[4:], labels[4:], NAMES).uf1 == pytest.approx(2 / 3)


def test_resampled_subjects_are_sums_over_draws():
    counts = np.random.default_rng(0).integers(0, 9, (5, 2, 3))
    drawn = np.random.default_rng(7).integers(0, 5, (40, 5))
    found = resample_subjects(counts, rounds=40, seed=7)
    np.testing.assert_array_equal(found, counts[drawn].sum(axis=1))
    with pytest.raises(ConfigError, match="'rounds' is out of range: 0"):
        resample_subjects(counts, rounds=0, seed=7)


def test_two_recognisers_by_mcnemar():
    labels = {f"clip{i}": i % 3 for i in range(20)}
    right = dict(labels)
    wrong = labels | {f"clip{i}": (i + 1) % 3 for i in range(6)}
    found = mcnemar(labels, right, wrong)
    assert (found.only_first, found.only_second) == (6, 0)
    assert found.p_value == pytest.approx(2 * 0.5**6)
    assert mcnemar(labels, right, right).p_value == 1
    with pytest.raises(ManifestError, match="second run is not of the same clips: clip3"):
        mcnemar(labels, right, {one: 0 for one in labels if one != "clip3"})


def test_landmark_error_is_relative_to_the_eyes():
    true = np.zeros((3, 68, 2))
    true[:, 36:42, 0], true[:, 42:48, 0] = 10, 60
    found = true.copy()
    found[1, :, 1] += 4.0
    found[2, :34, 0] += 12.0
    errors = landmark_errors(found, true)
    np.testing.assert_allclose(errors, [0, 4 / 50, 12 / 50 / 2])
    assert failure_rate(errors) == pytest.approx(1 / 3)
    assert failure_rate(errors, limit=FAILURE_LIMIT) == failure_rate(errors)
    # The outer corners, points 36 and 45, are moved 25 px farther apart than the centres are.
    true[:, 36, 0], true[:, 45, 0] = -15, 110
    true[:, (37, 38), 0], true[:, (43, 44), 0] = 22.5, 35
    found = true + np.array([0, 4.0])
    np.testing.assert_allclose(landmark_errors(found, true), [4 / 50] * 3)
    outer = landmark_errors(found, true, normaliser="outer-corners")
    np.testing.assert_allclose(outer, [4 / 125] * 3)
    with pytest.raises(ConfigError, match="Did you mean 'eye-centres'"):
        landmark_errors(found, true, normaliser="eye-centers")
    with pytest.raises(ValueError, match="must have shape"):
        landmark_errors(found[0], true[0])


def test_endpoint_error_of_a_constant_difference():
    true = np.random.default_rng(0).normal(size=(2, 2, 5, 6))
    found = true.copy()
    found[1] += np.array([3.0, -4.0])[:, None, None]
    np.testing.assert_allclose(endpoint_errors(found, true), [0, 5])
    with pytest.raises(ValueError, match="must have shape"):
        endpoint_errors(found[:, :1], true[:, :1])


@pytest.mark.parametrize(
    ("labels", "predicted", "match"),
    [
        ([0, 1], [0], "as many"),
        ([], [], "at least one"),
        ([0, 3], [0, 0], "'labels' must lie in 0 to 2"),
        ([0, 1], [0, -1], "'predicted' must lie in"),
        ([0, 1], [0.5, 1.0], "'predicted' must be whole numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, predicted, match):
    with pytest.raises(ValueError, match=match):
        score(labels, predicted, NAMES)


def test_several_tests_at_once_by_holm():
    # By hand: 0.01 * 4, 0.02 * 3, 0.03 * 2 (not below the one before), 0.5 * 1.
    assert metrics.holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert metrics.holm([0.9, 0.4]) == pytest.approx([0.9, 0.8])
    assert metrics.holm([0.7, 0.6]) == pytest.approx([1.0, 1.0])
    assert metrics.holm([0.2]) == [0.2]
    assert metrics.holm([]) == []


def test_always_the_largest_class():
    name, scores = metrics.largest_class([2, 2, 2, 0, 1], ("a", "b", "c"))
    assert name == "c"
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.uar == pytest.approx(1 / 3)
    # Its F1 is 2 * 3 / (3 + 5), those of the others are 0.
    assert scores.uf1 == pytest.approx(6 / 8 / 3)
    assert metrics.largest_class([0, 1], ("a", "b"))[0] == "a"
