from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, MotionError
from mer_prep.ops.eyes import eye_mask
from mer_prep.ops.global_motion import fit_global_motion, motion_field
from mer_prep.ops.similarity import apply_transform, eye_distance, face_transform
from mer_prep.ops.stabilization import rigid_mask
from mer_prep.synth.portraits import load_portrait, portrait_names

SIZE = 144


def aligned_landmarks(name: str = "grace_hopper") -> np.ndarray:
    points = load_portrait(name).landmarks
    return apply_transform(face_transform(points, size=SIZE), points)


LANDMARKS = aligned_landmarks()
FACE = rigid_mask(LANDMARKS, size=SIZE)


def similarity(shift: tuple[float, float], degrees: float, scale: float) -> np.ndarray:
    """Return a turn and growth about the middle of the picture, and a shift."""
    angle = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.full(2, (SIZE - 1) / 2)
    return np.column_stack([matrix, middle + shift - matrix @ middle])


def bump(point: int, peak: tuple[float, float], sigma: float) -> np.ndarray:
    """Return a local motion around a landmark."""
    y, x = np.mgrid[:SIZE, :SIZE]
    away = (x - LANDMARKS[point, 0]) ** 2 + (y - LANDMARKS[point, 1]) ** 2
    return np.array(peak)[:, None, None] * np.exp(-away / (2 * sigma**2))


#: Mouth corners drawn outwards and up, brows raised.
EXPRESSION = (
    bump(48, (-1.5, -1.0), 9)
    + bump(54, (1.5, -1.0), 9)
    + bump(19, (0, -1), 8)
    + bump(24, (0, -1), 8)
)

MOTIONS = [
    similarity((1.3, -0.7), 0, 1),
    similarity((0, 0), 1.5, 1),
    similarity((-2.0, 0.5), -2.0, 1.02),
    similarity((0.05, 0), 0, 0.995),
]


def test_the_field_of_a_transform_is_where_pixels_go():
    motion = MOTIONS[2]
    field = motion_field(motion, (SIZE, SIZE))
    assert field.dtype == np.float32
    for x, y in ((0, 0), (143, 10), (60, 100)):
        moved = apply_transform(motion, np.array([x, y]))
        np.testing.assert_allclose(field[:, y, x], moved - (x, y), atol=1e-5)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_similarity_alone_is_found_exactly(motion):
    found = fit_global_motion(motion_field(motion, (SIZE, SIZE)), FACE)
    np.testing.assert_allclose(found[:, :2], motion[:, :2], atol=1e-7)
    np.testing.assert_allclose(found[:, 2], motion[:, 2], atol=1e-5)


@pytest.mark.parametrize("motion", MOTIONS)
def test_an_expression_does_not_disturb_the_fit(motion):
    truth = motion_field(motion, (SIZE, SIZE))
    found = motion_field(fit_global_motion(truth + EXPRESSION, FACE), (SIZE, SIZE))
    left = np.hypot(*(truth - found))[FACE]
    assert left.max() < 0.05
    # Least squares, which the expression draws with it, is far off.
    rows, columns = np.nonzero(FACE)
    naive = EXPRESSION[:, rows, columns].mean(axis=1)
    assert left.mean() < 0.3 * np.hypot(*naive)


def test_noise_of_the_flow_averages_out():
    noise = np.random.default_rng(0).normal(0, 0.05, (2, SIZE, SIZE))
    truth = motion_field(MOTIONS[2], (SIZE, SIZE))
    found = motion_field(fit_global_motion(truth + noise + EXPRESSION, FACE), (SIZE, SIZE))
    assert np.hypot(*(truth - found))[FACE].max() < 0.06


def test_a_third_of_the_region_may_move_otherwise():
    rows, _ = np.nonzero(FACE)
    flow = motion_field(MOTIONS[0], (SIZE, SIZE))
    low = np.arange(SIZE)[:, None] > np.quantile(rows, 0.67)
    flow[1] += 3.0 * low
    found = fit_global_motion(flow, FACE, model="translation")
    np.testing.assert_allclose(found, MOTIONS[0], atol=0.01)


def test_a_translation_has_no_rotation():
    found = fit_global_motion(
        motion_field(MOTIONS[2], (SIZE, SIZE)) + EXPRESSION, FACE, model="translation"
    )
    np.testing.assert_array_equal(found[:, :2], np.eye(2))


def test_no_motion_is_the_identity():
    found = fit_global_motion(np.zeros((2, SIZE, SIZE), np.float32), FACE)
    np.testing.assert_array_equal(found, np.eye(2, 3))
    assert not motion_field(found, (SIZE, SIZE)).any()


def test_the_region_and_the_model_are_checked():
    flow = np.zeros((2, SIZE, SIZE))
    few = np.zeros((SIZE, SIZE), bool)
    few[:10, :10] = True
    with pytest.raises(MotionError, match="200 pixels or more, and there are 100"):
        fit_global_motion(flow, few)
    with pytest.raises(ConfigError, match="Did you mean 'similarity'"):
        fit_global_motion(flow, FACE, model="similar")
    with pytest.raises(ValueError, match="bool of shape"):
        fit_global_motion(flow, FACE.astype(np.uint8))


@pytest.mark.parametrize("name", portrait_names())
@pytest.mark.parametrize("margin", [0.0, 0.1, 0.3])
def test_the_eye_mask_ends_at_its_margin(name, margin):
    points = aligned_landmarks(name)
    mask = eye_mask(points, size=SIZE, margin=margin)
    reach = margin * eye_distance(points)
    y, x = np.mgrid[:SIZE, :SIZE]
    # The nearest point of the contours, sampled densely, is the distance to them.
    contour = np.concatenate(
        [
            np.linspace(points[eye[i]], points[eye[(i + 1) % 6]], 60)
            for eye in (range(36, 42), range(42, 48))
            for i in range(6)
        ]
    )
    away = np.sqrt(
        ((x[..., None] - contour[:, 0]) ** 2 + (y[..., None] - contour[:, 1]) ** 2).min(axis=-1)
    )
    assert mask[away <= reach - 1].all()
    inside = eye_mask(points, size=SIZE, margin=0)
    assert not mask[(away > reach + 1) & ~inside].any()
    for eye in (slice(36, 42), slice(42, 48)):
        column, row = np.rint(points[eye].mean(axis=0)).astype(int)
        assert mask[row, column]


@pytest.mark.parametrize(("margin", "brows"), [(0.3, True), (0.1, False)])
def test_the_brows_are_in_the_wide_mask_only(margin, brows):
    mask = eye_mask(LANDMARKS, size=SIZE, margin=margin)
    x, y = np.rint(LANDMARKS[17:27]).astype(int).T
    assert (mask[y, x] == brows).all()


def test_eyes_outside_the_picture_mask_nothing():
    assert not eye_mask(LANDMARKS + 500, size=SIZE).any()
    with pytest.raises(ConfigError, match="'margin'"):
        eye_mask(LANDMARKS, size=SIZE, margin=-0.1)
