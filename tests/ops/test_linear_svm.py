from __future__ import annotations

import sys

import numpy as np
import pytest

svm = pytest.importorskip("sklearn.svm")

from mer_prep.errors import ConfigError, DependencyError, TrainingError  # noqa: E402
from mer_prep.ops import svm as ours  # noqa: E402
from mer_prep.ops.svm import NEVER, linear_svm, require_solver  # noqa: E402


def samples(count: int = 40, features: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=(0.6, 0.3, 0.1))
    labels[:3] = (0, 1, 2)
    return rng.normal(size=(count, features)) + labels[:, None], labels


def test_the_widest_margin_of_two_pairs_is_found():
    features = np.array([[-3.0], [-1.0], [1.0], [4.0]])
    weights, offsets = linear_svm(features, np.array([0, 0, 1, 1]), classes=2, cost=100)
    np.testing.assert_allclose(weights, [[-1], [1]], atol=1e-4)
    np.testing.assert_allclose(offsets, [0, 0], atol=1e-4)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("cost", [0.01, 1.0])
def test_it_is_the_machine_of_scikit_learn_on_the_features_themselves(balanced, cost):
    features, labels = samples()
    weights, offsets = linear_svm(features, labels, classes=3, cost=cost, balanced=balanced)
    for number in range(3):
        weight = "balanced" if balanced else None
        machine = svm.SVC(kernel="linear", C=cost, class_weight=weight, tol=1e-6)
        machine.fit(features, labels == number)
        np.testing.assert_allclose(weights[number], machine.coef_[0], atol=2e-4)
        np.testing.assert_allclose(offsets[number], machine.intercept_[0], atol=2e-4)


def objective(weight, offset, features, labels, number, cost) -> float:
    """Return what is minimised, written from its definition with balanced weights."""
    total = 0.5 * float(weight @ weight)
    mine = int((labels == number).sum())
    for x, label in zip(features, labels, strict=True):
        side = 1 if label == number else -1
        size = mine if side > 0 else len(labels) - mine
        hinge = max(0.0, 1 - side * (float(weight @ x) + offset))
        total += cost * len(labels) / (2 * size) * hinge
    return total


def test_nothing_near_is_better():
    features, labels = samples(seed=1)
    weights, offsets = linear_svm(features, labels, classes=3, cost=0.5)
    rng = np.random.default_rng(2)
    for number in range(3):
        best = objective(weights[number], offsets[number], features, labels, number, 0.5)
        for size in (0.3, 0.03):
            for _ in range(20):
                step = size * rng.normal(size=7)
                other = objective(
                    weights[number] + step[:6],
                    offsets[number] + step[6],
                    features,
                    labels,
                    number,
                    0.5,
                )
                assert other > best - 1e-4


def test_a_low_cost_keeps_the_weights_small():
    features, labels = samples()
    sizes = [
        np.linalg.norm(linear_svm(features, labels, classes=3, cost=cost)[0])
        for cost in (1e-3, 1e-2, 1e-1, 1)
    ]
    assert sizes == sorted(sizes)


def test_a_class_without_samples_is_never_found():
    features, labels = samples()
    kept = labels != 1
    weights, offsets = linear_svm(features[kept], labels[kept], classes=3, cost=1)
    assert (weights[1] == 0).all()
    assert offsets[1] == NEVER
    margins = features @ weights.T + offsets
    assert 1 not in margins.argmax(axis=1)
    alone = linear_svm(features[:2], np.array([2, 2]), classes=3, cost=1)
    assert (alone[0] == 0).all()
    assert alone[1].tolist() == [NEVER, NEVER, 1]


def test_a_solver_that_does_not_come_to_an_end_is_an_error(monkeypatch):
    monkeypatch.setattr(ours, "_MOST_ITERATIONS", 1)
    features, labels = samples()
    with pytest.raises(TrainingError, match="was not solved in 1 iterations"):
        linear_svm(features, labels, classes=3, cost=1e5)


def test_a_cost_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="cost"):
        linear_svm(*samples(), classes=3, cost=0)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(DependencyError, match="solves support vector machines") as caught:
        require_solver()
    assert "mer-prep[baselines]" in caught.value.hint
