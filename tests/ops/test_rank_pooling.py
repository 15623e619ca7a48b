from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mer_prep.errors import ConfigError, MotionError
from mer_prep.ops import rank_pooling
from mer_prep.ops.rank_pooling import approximate_weights, exact_weights, pool


def clip(count: int, *, seed: int = 0, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    """Return random frames that also drift."""
    rng = np.random.default_rng(seed)
    drift = np.arange(count).reshape(-1, *[1] * len(shape)) * rng.normal(size=shape)
    return rng.normal(100, 3, (count, *shape)) + drift


def ranked(frames: np.ndarray, *, smoothing: bool) -> np.ndarray:
    """Return what is ranked: the frames, or the mean of each and all before it."""
    if not smoothing:
        return frames
    return np.stack([frames[: t + 1].mean(axis=0) for t in range(len(frames))])


def loss(picture: np.ndarray, values: np.ndarray, cost: float) -> float:
    """Return what the ranking machine makes least, pair by pair."""
    total = float((picture**2).sum()) / 2
    for q in range(len(values)):
        for t in range(q):
            total += cost * max(0.0, 1 - float((picture * (values[q] - values[t])).sum())) ** 2
    return total


@pytest.mark.parametrize("smoothing", [True, False])
@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_closed_form_is_the_mean_over_pairs(count, smoothing):
    frames = clip(count)
    values = ranked(frames, smoothing=smoothing)
    pairs = [values[q] - values[t] for q in range(count) for t in range(q)]
    found = pool(frames, approximate_weights(count, smoothing=smoothing))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.mean(pairs, axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("count", [2, 3, 8, 50])
def test_coefficients_are_those_of_the_paper(count):
    def harmonic(number: int) -> Fraction:
        return sum((Fraction(1, one) for one in range(1, number + 1)), Fraction(0))

    scale = Fraction(2, count * (count - 1))
    time = range(1, count + 1)
    smooth = [
        scale * (2 * (count - t + 1) - (count + 1) * (harmonic(count) - harmonic(t - 1)))
        for t in time
    ]
    raw = [scale * (2 * t - count - 1) for t in time]
    np.testing.assert_allclose(
        approximate_weights(count, smoothing=True), [float(one) for one in smooth], atol=1e-13
    )
    np.testing.assert_allclose(
        approximate_weights(count, smoothing=False), [float(one) for one in raw], atol=1e-15
    )


def test_a_raw_ramp_is_pooled_to_its_mean_pair_difference():
    slope = np.array([[2.0, -3.0, 0.0]])
    frames = 50 + np.arange(9)[:, None, None] * slope
    found = pool(frames, approximate_weights(9, smoothing=False))
    np.testing.assert_allclose(found, slope * 10 / 3, rtol=1e-6)  # mean of q - t is (T + 1) / 3


@pytest.mark.parametrize("count", [1, 2, 5, 40])
@pytest.mark.parametrize("smoothing", [True, False])
def test_weights_sum_to_zero(count, smoothing):
    assert abs(approximate_weights(count, smoothing=smoothing).sum()) < 1e-14
    scaled = exact_weights(clip(count), smoothing=smoothing)
    assert abs(scaled.sum()) <= 1e-12 * max(1, np.abs(scaled).max())


@pytest.mark.parametrize("smoothing", [True, False])
@pytest.mark.parametrize("method", ["approximate", "exact"])
def test_a_rising_ramp_is_positive_and_backwards_negative(method, smoothing):
    slope = np.array([[1.0, 2.0, 0.5, -1.0]])
    frames = 100 + np.arange(10)[:, None, None] * slope
    for direction in (1, -1):
        played = frames[::direction]
        if method == "exact":
            weights = exact_weights(played, smoothing=smoothing)
        else:
            weights = approximate_weights(10, smoothing=smoothing)
        found = pool(played, weights)
        np.testing.assert_array_equal(np.sign(found), direction * np.sign(slope))
        # Along a ramp both point exactly along the slope.
        np.testing.assert_allclose(
            found / np.abs(found).max(), direction * slope / np.abs(slope).max(), atol=1e-5
        )


@pytest.mark.parametrize("method", ["approximate", "exact"])
def test_a_clip_backwards_gives_the_negative_without_smoothing(method):
    frames = clip(12, seed=3)
    pictures = []
    for played in (frames, frames[::-1]):
        if method == "exact":
            weights = exact_weights(played, smoothing=False)
        else:
            weights = approximate_weights(12, smoothing=False)
        pictures.append(pool(played, weights))
    np.testing.assert_allclose(pictures[0], -pictures[1], atol=1e-5 * np.abs(pictures[0]).max())


@pytest.mark.parametrize("smoothing", [True, False])
@pytest.mark.parametrize(
    ("count", "pixels", "cost"), [(6, 40, 1.0), (9, 3, 0.5), (12, 2, 20.0), (8, 60, 1e-4)]
)
def test_exact_pooling_is_the_minimum_of_its_loss(count, pixels, cost, smoothing):
    frames = clip(count, seed=count, shape=(pixels,)) / 10
    values = ranked(frames, smoothing=smoothing)
    weights = exact_weights(frames, smoothing=smoothing, cost=cost)
    found = np.tensordot(weights, frames, axes=1)
    least = loss(found, values, cost)
    # The gradient vanishes; the function is convex, so this is the minimum.
    slack = [
        (values[q] - values[t], max(0.0, 1 - float(found @ (values[q] - values[t]))))
        for q in range(count)
        for t in range(q)
    ]
    gradient = found - 2 * cost * sum(step * size for step, size in slack)
    assert np.abs(gradient).max() <= 1e-8 * np.abs(found).max()
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-1):
        moved = found + size * np.abs(found).max() * rng.normal(size=pixels)
        assert loss(moved, values, cost) > least


@pytest.mark.parametrize("smoothing", [True, False])
def test_exact_pooling_is_the_support_vector_machine_of_scikit_learn(smoothing):
    svm = pytest.importorskip("sklearn.svm")
    frames = clip(10, seed=5, shape=(7,)) / 5
    values = ranked(frames, smoothing=smoothing)
    pairs = np.array([values[q] - values[t] for q in range(10) for t in range(q)])
    # Every pair in both directions gives the two classes it wants, at twice the cost.
    machine = svm.LinearSVC(
        loss="squared_hinge", dual=False, C=0.5 * 2.0, fit_intercept=False, tol=1e-12
    )
    machine.fit(np.vstack([pairs, -pairs]), np.repeat([1, -1], len(pairs)))
    found = np.tensordot(exact_weights(frames, smoothing=smoothing, cost=2.0), frames, axes=1)
    np.testing.assert_allclose(found, machine.coef_[0], atol=1e-6 * np.abs(found).max())


@pytest.mark.parametrize("smoothing", [True, False])
def test_both_methods_order_frames_that_change_steadily(smoothing):
    rng = np.random.default_rng(2)
    frames = 120 + np.arange(15)[:, None] * rng.normal(size=60) + rng.normal(0, 0.3, (15, 60))
    values = ranked(frames, smoothing=smoothing)
    pictures = [
        pool(frames, approximate_weights(15, smoothing=smoothing)),
        pool(frames, exact_weights(frames, smoothing=smoothing)),
    ]
    for picture in pictures:
        assert (np.diff(values @ picture.astype(np.float64)) > 0).all()
    assert np.corrcoef(*pictures)[0, 1] > 0.95


def test_a_large_cost_parts_every_pair_by_the_margin():
    frames = clip(8, seed=9)
    found = np.tensordot(exact_weights(frames, smoothing=False, cost=1e6), frames, axes=1)
    scores = (frames * found).sum(axis=(1, 2, 3))
    assert np.diff(scores).min() > 1 - 1e-3


def test_frames_in_blocks_give_the_same_weights(monkeypatch):
    frames = clip(11, seed=4)
    whole = exact_weights(frames)
    monkeypatch.setattr(rank_pooling, "BLOCK", 3)
    np.testing.assert_allclose(exact_weights(frames), whole, rtol=1e-9)


@pytest.mark.parametrize("smoothing", [True, False])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_frames_that_are_equal_give_exactly_zero(count, smoothing):
    frames = np.full((count, 6, 5, 3), 93, np.uint8)
    assert not exact_weights(frames, smoothing=smoothing).any()
    assert not pool(frames, approximate_weights(count, smoothing=smoothing)).any()


def test_repeated_frames_are_ranked_as_well_as_can_be():
    frames = np.repeat(clip(4, seed=6), 2, axis=0)
    picture = pool(frames, exact_weights(frames, smoothing=False))
    assert np.isfinite(picture).all()
    scores = (frames * picture).sum(axis=(1, 2, 3))
    assert (np.diff(scores[::2]) > 0).all()


def test_exact_pooling_of_too_many_frames_is_refused():
    with pytest.raises(MotionError, match="1000 frames at most, and there are 1001"):
        exact_weights(np.zeros((1001, 1)))


def test_parameters_and_lengths_are_checked():
    with pytest.raises(ConfigError, match="'count'"):
        approximate_weights(0)
    with pytest.raises(ConfigError, match="'cost'"):
        exact_weights(clip(3), cost=0)
    with pytest.raises(ValueError, match="3 frames and 2 weights"):
        pool(clip(3), np.zeros(2))
