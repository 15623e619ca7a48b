from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_prep.errors import NoFaceError
from mer_prep.ops.similarity import (
    apply_transform,
    check_face_shape,
    compose,
    eye_distance,
    face_transform,
    fit_similarity,
    five_points,
    invert,
    point_jitter,
    scale_of,
    transform_jitter,
    warp,
)


def schematic_face(*, centre: tuple[float, float] = (320, 240), size: float = 60.0) -> np.ndarray:
    """Return 68 points of which those that place the face lie at known spots."""
    points = np.zeros((68, 2))
    angle = np.linspace(0, math.pi, 17)
    points[:17] = np.stack([-np.cos(angle) * 1.6, np.sin(angle) * 2.0 + 0.2], axis=1)
    points[17:27, 0] = np.linspace(-1.4, 1.4, 10)
    points[17:27, 1] = -0.5
    points[27:36] = (0, 0.4)
    points[30] = (0, 0.8)
    for start, x in ((36, -1.0), (42, 1.0)):
        turn = np.arange(6) / 6 * 2 * math.pi + math.pi
        points[start : start + 6] = np.stack([x + 0.25 * np.cos(turn), 0.1 * np.sin(turn)], axis=1)
    points[48:68] = (0, 1.6)
    points[48], points[54] = (-0.7, 1.6), (0.7, 1.6)
    return points * size + centre


def similarity(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[scale * c, -scale * s, shift[0]], [scale * s, scale * c, shift[1]]])


def test_five_points_are_eyes_nose_and_mouth_corners():
    expected = [(260, 240), (380, 240), (320, 288), (278, 336), (362, 336)]
    np.testing.assert_allclose(five_points(schematic_face()), expected, atol=1e-9)


def test_five_points_of_a_clip_are_those_of_its_frames():
    clip = np.stack([schematic_face(), schematic_face(centre=(300, 200))])
    np.testing.assert_array_equal(five_points(clip)[1], five_points(clip[1]))


def test_five_points_refuse_other_schemes():
    with pytest.raises(ValueError, match=r"not \(51, 2\)"):
        five_points(np.zeros((51, 2)))


def test_eye_distance_is_between_the_outer_corners():
    assert eye_distance(schematic_face()) == pytest.approx(2.5 * 60)


def test_face_transform_of_an_upright_face_by_hand():
    # Five points: x 260 to 380, y 240 to 336, so the half side is 0.5 * 2.5 * 120 = 150 px.
    scale = 143 / 300
    expected = [[scale, 0, 71.5 - scale * 320], [0, scale, 71.5 - scale * 288]]
    np.testing.assert_allclose(face_transform(schematic_face()), expected, atol=1e-9)


def test_face_transform_undoes_a_known_similarity():
    face = schematic_face()
    moved = apply_transform(similarity(1.3, 17, (-40, 25)), face)
    np.testing.assert_allclose(
        apply_transform(face_transform(moved), moved),
        apply_transform(face_transform(face), face),
        atol=1e-9,
    )


def test_face_transform_makes_the_eyes_horizontal_and_keeps_the_size_asked_for():
    moved = apply_transform(similarity(0.8, -23, (30, 5)), schematic_face())
    small, large = (
        five_points(apply_transform(face_transform(moved, size=size), moved)) for size in (144, 287)
    )
    assert small[0, 1] == pytest.approx(small[1, 1], abs=1e-9)
    np.testing.assert_allclose(large, small * 2, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    scale=st.floats(0.05, 20),
    degrees=st.floats(-180, 180),
    x=st.floats(-1000, 1000),
    y=st.floats(-1000, 1000),
)
def test_fit_recovers_any_similarity(scale, degrees, x, y):
    true = similarity(scale, degrees, (x, y))
    face = schematic_face()
    np.testing.assert_allclose(fit_similarity(face, apply_transform(true, face)), true, atol=1e-6)


def test_fit_is_least_squares():
    rng = np.random.default_rng(3)
    source = rng.normal(size=(20, 2)) * 30
    target = apply_transform(similarity(1.1, 8, (3, -4)), source) + rng.normal(size=(20, 2))
    best = fit_similarity(source, target)

    def loss(transform: np.ndarray) -> float:
        return float(((apply_transform(transform, source) - target) ** 2).sum())

    for change in (
        similarity(1.002, 0, (0, 0)),
        similarity(1, 0.1, (0, 0)),
        similarity(1, 0, (0.05, 0)),
        similarity(1, 0, (0, -0.05)),
    ):
        assert loss(compose(best, change)) > loss(best)


@pytest.mark.parametrize(
    ("target", "match"),
    [
        (np.full((68, 2), 7.0), "coincide"),
        (schematic_face() * [-1, 1], "mirror image"),
        (np.full((68, 2), np.nan), "not finite"),
    ],
)
def test_fit_refuses_degenerate_points(target, match):
    with pytest.raises(NoFaceError, match=match):
        fit_similarity(schematic_face(), target)


@pytest.mark.parametrize("shapes", [((1, 2), (1, 2)), ((5, 2), (4, 2)), ((5, 3), (5, 3))])
def test_fit_refuses_shapes(shapes):
    with pytest.raises(ValueError, match="N >= 2 points"):
        fit_similarity(np.zeros(shapes[0]), np.zeros(shapes[1]))


def test_invert_and_compose():
    first, second = similarity(0.4, 31, (5, -9)), similarity(2.5, -70, (100, 3))
    identity = np.eye(2, 3)
    np.testing.assert_allclose(compose(invert(first), first), identity, atol=1e-12)
    points = np.random.default_rng(0).normal(size=(4, 2))
    np.testing.assert_allclose(
        apply_transform(compose(second, first), points),
        apply_transform(second, apply_transform(first, points)),
        atol=1e-12,
    )
    assert scale_of(compose(second, first)) == pytest.approx(1.0)


@pytest.mark.parametrize("scale", [0.11, 0.3, 0.62, 1.0, 1.7])
@pytest.mark.parametrize("degrees", [0, 7, -160])
def test_warp_of_a_ramp_is_the_ramp(scale, degrees):
    y, x = np.mgrid[:480, :640].astype(np.float32)
    ramp = 0.2 * x + 0.15 * y
    transform = similarity(scale, degrees, (0, 0))
    transform[:, 2] = 71.5 - transform[:, :2] @ (320, 240)
    warped = warp(ramp, transform, size=144)
    y, x = np.mgrid[:144, :144].astype(np.float64)
    source = apply_transform(invert(transform), np.stack([x, y], axis=-1))
    margin = 1 + 1 / scale
    inside = ((source > margin) & (source < np.array([639, 479]) - margin)).all(axis=-1)
    assert inside.sum() > 1000
    expected = source @ (0.2, 0.15)
    assert np.abs(warped - expected)[inside].max() < 1e-2


def test_warp_by_the_identity_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(warp(image, np.eye(2, 3), size=64), image)


def test_warp_averages_what_it_shrinks():
    # Columns alternate between 0 and 200; sampling alone would give stripes, the mean is 100.
    image = np.zeros((90, 90), np.uint8)
    image[:, ::2] = 200
    third = similarity(1 / 4, 0, (-0.375, -0.375))
    np.testing.assert_array_equal(warp(image, third, size=20), np.full((20, 20), 100))


def test_warp_fills_the_outside_with_the_border():
    image = np.full((50, 50, 3), 200, np.uint8)
    warped = warp(image, similarity(1, 0, (20, 0)), size=64, border=13)
    assert (warped[:50, 22:68] == 200).all()
    assert (warped[:, :18] == 13).all()
    assert (warped[52:] == 13).all()


def test_warp_refuses_a_square_outside_the_picture():
    with pytest.raises(NoFaceError, match="outside the 50x40 px picture"):
        warp(np.zeros((40, 50, 3), np.uint8), similarity(1, 0, (500, 0)), size=64)


def test_warp_refuses_other_types():
    with pytest.raises(ValueError, match="float64"):
        warp(np.zeros((4, 4)), np.eye(2, 3), size=4)


def test_transform_jitter_of_known_steps():
    points = five_points(schematic_face())
    still = np.repeat(similarity(0.5, 3, (4, 5))[None], 6, axis=0)
    assert transform_jitter(still, points) == 0.0
    moving = still.copy()
    moving[1::2, 0, 2] += 0.3
    moving[1::2, 1, 2] += 0.4
    assert transform_jitter(moving, points) == pytest.approx(0.5)
    assert transform_jitter(still[:1], points) == 0.0


def test_point_jitter_is_the_root_mean_square_step():
    points = np.zeros((3, 2, 2))
    points[1, 0] = (3, 4)
    # Steps: 5 and 0 px, then 5 and 0 px.
    assert point_jitter(points) == pytest.approx(math.sqrt(12.5))


def test_check_accepts_a_face_even_if_the_jaw_leaves_the_picture():
    check_face_shape(schematic_face(), (640, 480))
    check_face_shape(schematic_face(centre=(320, 350)), (640, 480))


def upside_down() -> np.ndarray:
    return apply_transform(similarity(1, 175, (640, 480)), schematic_face())


@pytest.mark.parametrize(
    ("face", "match"),
    [
        (schematic_face() * [-1, 1] + [640, 0], r"mirrored face: eyes at \(380.0, 240.0\)"),
        (upside_down(), "upside down: its eyes are turned by 175 degrees"),
        (schematic_face(size=2.0), "4.0 px apart, less than 6 px"),
        (schematic_face(centre=(20, 240)), r"five points .* \(-40.0, 240.0\), 40 px outside"),
        (schematic_face(centre=(320, 500)), r"640x480 px picture: one of the five points"),
        (np.full((68, 2), np.nan), "68 landmarks are not finite; the first is point 0"),
    ],
)
def test_check_refuses_impossible_faces(face, match):
    with pytest.raises(NoFaceError, match=match):
        check_face_shape(face, (640, 480))


def test_transform_refuses_coinciding_eyes():
    with pytest.raises(NoFaceError, match="eye centres coincide"):
        face_transform(np.zeros((68, 2)))
