from __future__ import annotations

import math

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.ops.registration import (
    Limits,
    Reference,
    between_depths,
    correlation,
    register,
)
from mer_prep.ops.similarity import apply_transform, compose, invert, scale_of

SIZE = 144
CENTRE = np.array([SIZE - 1, SIZE - 1]) / 2


def similarity(x: float, y: float, degrees: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Return a similarity about the centre of the picture."""
    angle = math.radians(degrees)
    matrix = scale * np.array(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    return np.column_stack([matrix, CENTRE - matrix @ CENTRE + (x, y)])


def scene(points: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the grey values of an endless texture, with as much in every octave, at points."""
    rng = np.random.default_rng(seed)
    lengths = np.geomspace(5, 120, 60)
    angles = rng.uniform(0, 2 * np.pi, len(lengths))
    waves = 2 * np.pi / lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    phases = rng.uniform(0, 2 * np.pi, len(lengths))
    return 128 + 12 * np.sin(points @ waves.T + phases).sum(axis=-1) / math.sqrt(2)


def grid(size: int = SIZE) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(size), np.arange(size)), axis=-1).astype(np.float64)


def picture(transform: np.ndarray, *, size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Return the texture as a camera sees it that `transform` takes back to the reference."""
    return scene(apply_transform(transform, grid(size)), seed).astype(np.float32)


def disc(radius: float = 50) -> np.ndarray:
    return np.hypot(*np.moveaxis(grid() - CENTRE, -1, 0)) < radius


STILL = similarity(0, 0)


def miss(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest distance in the mask between where two transforms put a point."""
    points = grid()[disc()]
    moved = apply_transform(found, points) - apply_transform(expected, points)
    return float(np.hypot(*moved.T).max())


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(picture(STILL), disc())


@pytest.mark.parametrize(
    "expected",
    [
        similarity(0.3, -0.2),
        similarity(-2.5, 1.25, 1.5, 0.98),
        similarity(4.0, 5.0, -6.0, 1.08),
    ],
)
def test_a_known_similarity_is_recovered(reference, expected):
    found = reference.register(picture(expected))
    assert found.converged
    assert miss(found.transform, expected) < 0.01
    # Resampling by linear interpolation takes some of the contrast of the finest waves.
    assert found.gain == pytest.approx(1, abs=0.05)
    assert found.overlap == 1.0


def test_it_takes_the_moving_picture_to_the_reference():
    spot = np.exp(-((grid() - (80, 60)) ** 2).sum(axis=-1) / 60) * 200
    moved = np.exp(-((grid() - (83, 58)) ** 2).sum(axis=-1) / 60) * 200
    found = register(spot.astype(np.float32), moved.astype(np.float32), disc(), degrees=3)
    np.testing.assert_allclose(
        apply_transform(found.transform, np.array([83, 58])), (80, 60), atol=0.01
    )


@pytest.mark.parametrize("angle", range(0, 360, 45))
def test_thirteen_pixels_are_within_the_basin(reference, angle):
    away = 13 * np.exp(1j * math.radians(angle))
    expected = similarity(away.real, away.imag, 3.0, 1.03)
    found = reference.register(picture(expected))
    assert found.failure == ""
    assert miss(found.transform, expected) < 0.02


def test_a_warm_start_takes_few_steps(reference):
    expected = similarity(6.0, -4.0, 1.0, 1.01)
    near = compose(similarity(0.3, 0.2), expected)
    found = reference.register(picture(expected), initial=near)
    assert miss(found.transform, expected) < 0.01
    assert found.iterations <= 5


def test_three_degrees_keep_the_scale(reference):
    rigid = Reference(picture(STILL), disc(), degrees=3)
    expected = similarity(1.0, -0.5, 2.0)
    found = rigid.register(picture(expected))
    assert miss(found.transform, expected) < 0.01
    grown = rigid.register(picture(similarity(0, 0, 0, 1.02)), limits=Limits(correlation=0.5))
    assert scale_of(grown.transform) == pytest.approx(1, abs=1e-12)
    assert scale_of(
        reference.register(picture(similarity(0, 0, 0, 1.02))).transform
    ) == pytest.approx(1.02, abs=2e-4)


def test_light_is_told_from_motion(reference):
    expected = similarity(0.4, 0.1)
    found = reference.register(0.7 * picture(expected) + 25)
    assert miss(found.transform, expected) < 0.01
    assert found.gain == pytest.approx(0.7, abs=0.015)
    assert found.bias == pytest.approx(25, abs=2)


def test_what_moves_by_itself_has_little_say(reference):
    # A fifth of the disc moves by 1.5 px; least squares would follow by a sixth of that.
    moves = 1.5 * np.exp(-((grid() - (72, 105)) ** 2).sum(axis=-1) / (2 * 12**2))
    points = grid() + np.stack([np.zeros_like(moves), moves], axis=-1)
    found = reference.register(scene(points).astype(np.float32))
    assert miss(found.transform, STILL) < 0.05
    assert found.residual < 1.0


def test_noise_moves_it_by_hundredths(reference):
    rng = np.random.default_rng(1)
    missed = []
    for _ in range(5):
        noisy = picture(STILL) + rng.normal(0, 1.5, (SIZE, SIZE)).astype(np.float32)
        missed.append(miss(reference.register(noisy, initial=STILL).transform, STILL))
    assert 0 < max(missed) < 0.02


def test_a_finer_picture_is_placed_by_its_start(reference):
    # Twice as fine: fine pixel X lies at X / 2 - 0.25.
    half = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25]])
    expected = similarity(1.5, -1.0, 1.0, 1.01)
    fine = picture(compose(expected, half), size=2 * SIZE)
    for coarse in (False, True):
        found = reference.register(fine, initial=half, coarse=coarse)
        assert miss(compose(found.transform, invert(half)), expected) < 0.02
    own = Reference(picture(half, size=2 * SIZE), disc(), placement=half)
    found = own.register(fine, initial=half)
    assert miss(compose(found.transform, invert(half)), expected) < 0.005


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize(
    "moving",
    [
        np.random.default_rng(0).integers(0, 256, (SIZE, SIZE), dtype=np.uint8),
        np.full((SIZE, SIZE), 90, np.uint8),
        picture(STILL, seed=5),
        255 - picture(STILL),
        np.tile(np.linspace(0, 255, SIZE, dtype=np.float32), (SIZE, 1)),
    ],
    ids=["noise", "flat", "another", "negative", "ramp"],
)
def test_unlike_pictures_are_noticed(reference, moving, coarse):
    found = reference.register(moving, initial=STILL, coarse=coarse)
    assert found.failure
    assert not found.converged
    assert np.isnan(found.transform).all()


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(shift=2.0), "shift of 3"),
        (Limits(turn=1.0), "turn of 2.0 degrees"),
        (Limits(scale=1.01), "scale by 1.03"),
        (Limits(correlation=1.0), "correlation"),
    ],
)
def test_limits(reference, limits, match):
    found = reference.register(picture(similarity(3.0, 0.0, 2.0, 1.03)), limits=limits)
    assert match in found.failure
    assert np.isnan(found.transform).all()


def test_a_picture_that_covers_half_of_the_mask(reference):
    half = np.ascontiguousarray(picture(STILL)[:, :70])
    found = reference.register(half, initial=STILL)
    assert found.overlap == pytest.approx(0.48, abs=0.02)
    assert "of the mask is in the picture" in found.failure
    shown = reference.register(half, initial=STILL, limits=Limits(overlap=0.4))
    assert miss(shown.transform, STILL) < 0.01
    gone = reference.register(half, initial=similarity(200, 0))
    assert "left the picture" in gone.failure


def test_the_same_pictures_give_the_same_bytes(reference):
    moving = picture(similarity(2.0, 1.0, 1.0, 1.01))
    first, second = (reference.register(moving).transform for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_halving_halves_shifts_alone():
    transform = similarity(4.0, 2.0, 10.0, 1.1)
    halved = between_depths(transform, 1, 1)
    np.testing.assert_allclose(halved[:, :2], transform[:, :2])
    np.testing.assert_allclose(halved[:, 2], transform[:, 2] / 2)
    # Where the moving picture is halved once more its px are twice as large.
    point = np.array([10.0, 20.0])
    np.testing.assert_allclose(
        apply_transform(between_depths(transform, 2, 1), point / 4),
        apply_transform(transform, point) / 2,
    )
    np.testing.assert_allclose(between_depths(between_depths(transform, 2, 1), -2, -1), transform)


def test_correlation():
    values = np.array([1.0, 2.0, 4.0])
    assert correlation(values, 3 * values + 1) == pytest.approx(1)
    assert correlation(values, -values) == pytest.approx(-1)
    assert correlation(values, np.ones(3)) == 0.0


def test_what_cannot_be_registered_is_refused(reference):
    with pytest.raises(ConfigError, match="4 or 3 degrees"):
        Reference(picture(STILL), disc(), degrees=6)
    with pytest.raises(ConfigError, match="'blur' is out of range"):
        Reference(picture(STILL), disc(), blur=9)
    with pytest.raises(ValueError, match="must have 200 pixels, and this has 68"):
        Reference(picture(STILL), disc(4.7))
    with pytest.raises(ValueError, match="mask must be bool"):
        Reference(picture(STILL), np.ones((SIZE, SIZE), np.uint8))
    with pytest.raises(ValueError, match="not float64"):
        reference.register(picture(STILL).astype(np.float64))
    with pytest.raises(ValueError, match="finite"):
        reference.register(np.full((SIZE, SIZE), np.nan, np.float32))
    with pytest.raises(ValueError, match="must be a similarity"):
        reference.register(picture(STILL), initial=np.zeros((2, 3)))


def test_weights_decide_which_motion_is_followed():
    # The left half stays, the right half moves: whichever counts is followed.
    image, moved = picture(STILL), picture(np.array([[1.0, 0, 1.5], [0, 1, 0]]))
    both = np.where(np.arange(SIZE) < SIZE // 2, image, moved)
    mask = np.ones((SIZE, SIZE), bool)
    mask[:8], mask[-8:], mask[:, :8], mask[:, -8:] = False, False, False, False
    mask[:, SIZE // 2 - 8 : SIZE // 2 + 8] = False
    for side, shift in ((0, 0.0), (1, 1.5)):
        weights = np.full((SIZE, SIZE), 0.02, np.float32)
        weights[:, side * SIZE // 2 : (side + 1) * SIZE // 2] = 1
        found = Reference(image, mask, weights=weights).register(both, initial=STILL)
        assert found.converged
        middle = np.array([SIZE / 4 + side * SIZE / 2, SIZE / 2])
        there = apply_transform(found.transform, middle) - middle
        np.testing.assert_allclose(there, (shift, 0), atol=0.1)


def test_weights_have_the_shape_of_the_mask():
    with pytest.raises(ValueError, match="weights must be float32"):
        Reference(picture(STILL), disc(), weights=np.ones((SIZE, SIZE)))
