from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import eigh

from mer_prep.errors import ConfigError, MotionError
from mer_prep.ops.tim import equidistant_positions, interpolate, interpolation_weights


def random_clip(count: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)


def published_tim(clip: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolate as published: mean off, SVD, eigenvectors of the path graph, map and back."""
    count = len(clip)
    frames = clip.reshape(count, -1).T.astype(float)
    mean = frames.mean(axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(frames - mean, full_matrices=False)
    u, reduced = u[:, : count - 1], s[: count - 1, None] * vt[: count - 1]
    path = np.diag(np.ones(count - 1), 1)
    laplacian = np.diag((path + path.T).sum(axis=1)) - path - path.T
    _, directions = eigh(reduced @ laplacian @ reduced.T, reduced @ reduced.T)
    embedded = directions.T @ reduced
    k = np.arange(1, count)[:, None]

    def curve(t: np.ndarray) -> np.ndarray:
        return np.sin(np.pi * k * t + np.pi * (count - k) / (2 * count))

    # The eigenvectors come with free scale and sign, which the curve's first points settle.
    scale = np.diag(embedded @ np.linalg.pinv(curve(np.arange(1, count + 1) / count)))
    on_curve = scale[:, None] * curve((positions + 1) / count)
    return (mean + u @ np.linalg.inv(directions.T) @ on_curve).T


@pytest.mark.parametrize("count", [2, 3, 8, 13])
def test_the_weights_are_the_published_algorithm(count: int) -> None:
    clip = random_clip(count)
    positions = equidistant_positions(count, 17)
    mine = interpolation_weights(count, positions) @ clip.reshape(count, -1)
    np.testing.assert_allclose(mine, published_tim(clip, positions), atol=1e-7)


@pytest.mark.parametrize("method", ["tim", "linear"])
@pytest.mark.parametrize("count", [2, 3, 7, 60])
def test_as_many_frames_as_there_are_gives_the_clip(count: int, method: str) -> None:
    clip = random_clip(count)
    weights = interpolation_weights(count, equidistant_positions(count, count), method=method)
    np.testing.assert_array_equal(interpolate(clip, weights), clip)


def test_the_curve_passes_through_the_frames_without_being_told() -> None:
    nearly = np.arange(9) + 1e-9
    weights = interpolation_weights(10, nearly)
    np.testing.assert_allclose(weights, np.eye(10)[:9], atol=1e-7)


@pytest.mark.parametrize(("count", "length"), [(2, 50), (5, 33), (300, 10), (40, 400)])
def test_a_constant_clip_stays_as_it_is(count: int, length: int) -> None:
    clip = np.repeat(random_clip(1), count, axis=0)
    weights = interpolation_weights(count, equidistant_positions(count, length))
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_array_equal(interpolate(clip, weights), np.repeat(clip[:1], length, axis=0))


def test_a_slow_course_is_met_between_frames() -> None:
    # A cosine of the curve's own family is interpolated exactly.
    def course(position: np.ndarray) -> np.ndarray:
        return np.cos(np.pi * 3 * (position + 0.5) / 12)

    positions = equidistant_positions(12, 50)
    weights = interpolation_weights(12, positions)
    np.testing.assert_allclose(weights @ course(np.arange(12)), course(positions), atol=1e-12)
    linear = interpolation_weights(12, positions, method="linear")
    error = np.abs(linear @ course(np.arange(12)) - course(positions)).max()
    assert 0.02 < error < 0.1


def test_linear_weights_by_hand() -> None:
    weights = interpolation_weights(3, np.array([0, 0.25, 1, 1.5, 2]), method="linear")
    expected = [(1, 0, 0), (0.75, 0.25, 0), (0, 1, 0), (0, 0.5, 0.5), (0, 0, 1)]
    np.testing.assert_array_equal(weights, expected)


def test_two_frames_blend_along_a_quarter_wave() -> None:
    weights = interpolation_weights(2, np.array([0.5]))
    np.testing.assert_allclose(weights, [[0.5, 0.5]])
    quarter = interpolation_weights(2, np.array([0.25]))[0, 1]
    assert quarter == pytest.approx(0.5 - np.cos(np.pi * 3 / 8) / np.sqrt(2))


def test_values_are_rounded_and_clipped() -> None:
    clip = np.zeros((6, 1, 1), np.uint8)
    clip[3:] = 255
    weights = interpolation_weights(6, equidistant_positions(6, 101))
    raw = weights @ clip.reshape(6).astype(float)
    assert raw.min() < -5
    assert raw.max() > 260
    made = interpolate(clip, weights).ravel()
    np.testing.assert_array_equal(made, np.clip(np.rint(raw), 0, 255))


def test_frames_are_read_one_at_a_time() -> None:
    class Lazy:
        read = 0

        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> np.ndarray:
            self.read += 1
            return np.full((2, 2), index, np.uint8)

    lazy = Lazy()
    weights = interpolation_weights(200, equidistant_positions(200, 10), method="linear")
    made = interpolate(lazy, weights)
    np.testing.assert_array_equal(made[:, 0, 0], np.rint(np.linspace(0, 199, 10)))
    assert lazy.read < 22


def test_what_cannot_be_interpolated_is_refused() -> None:
    with pytest.raises(MotionError, match="needs 2 frames"):
        equidistant_positions(1, 10)
    with pytest.raises(MotionError, match="needs 2 frames"):
        interpolation_weights(1, np.zeros(1))
    with pytest.raises(ConfigError, match="length"):
        equidistant_positions(5, 1)
    with pytest.raises(ConfigError, match="Did you mean 'tim'"):
        interpolation_weights(5, np.zeros(1), method="tin")
    with pytest.raises(ValueError, match="between 0 and 4"):
        interpolation_weights(5, np.array([4.5]))
    with pytest.raises(ValueError, match="do not fit"):
        interpolate(random_clip(3), interpolation_weights(5, np.zeros(1)))
    with pytest.raises(ValueError, match="uint8"):
        interpolate(np.zeros((5, 2, 2)), interpolation_weights(5, np.zeros(1)))
