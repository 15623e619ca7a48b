from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mer_prep.errors import NoFaceError
from mer_prep.ops.similarity import (
    apply_transform,
    compose,
    face_transform,
    five_points,
    invert,
    scale_of,
    transform_jitter,
)
from mer_prep.ops.stabilization import SIZE, HeadFollower, rigid_mask, rigid_weights
from mer_prep.synth.clips import Scene, render_frames, scene_truth
from mer_prep.synth.identity import draw_identity

STILL = Scene(
    identity=draw_identity(0, rng=np.random.default_rng([0, 0])),
    size=(360, 340),
    grey=True,
    numbers=tuple(range(0, 48, 4)),
    onset=0,
    apex=22,
    offset=44,
    fps=200.0,
    emotion="happiness",
    action_units="6+12",
    amplitude=0.01,
    head_motion=0.0,
    noise=1.5,
    seed=(4, 2),
)
MOVING = replace(STILL, amplitude=1.5, head_motion=1.6)


def follow(images, landmarks, reference=0, **options) -> HeadFollower:
    follower = HeadFollower(landmarks, reference, **options)
    for image in images:
        follower.see(image)
    return follower


def film(scene: Scene) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return the frames of a scene, its true landmarks and true head motion."""
    truth = scene_truth(scene)
    return list(render_frames(scene, truth)), truth.landmarks, truth.head_motion


def transforms(follower: HeadFollower, landmarks: np.ndarray, reference: int = 0) -> np.ndarray:
    onset = face_transform(landmarks[reference], size=SIZE)
    return np.stack([compose(onset, motion) for motion in follower.motions])


def misses(follower: HeadFollower, landmarks: np.ndarray, motion: np.ndarray, reference: int = 0):
    """Return how far each frame is placed from where its head belongs, RMS in px at 144x144."""
    points = landmarks[reference]
    onset = face_transform(points, size=SIZE)
    result = []
    for found, head in zip(follower.motions, motion, strict=True):
        true = compose(motion[reference], invert(head))
        there = apply_transform(invert(true), points)
        gap = apply_transform(compose(onset, found), there) - apply_transform(onset, points)
        result.append(math.sqrt((gap**2).sum(axis=1).mean()))
    return np.array(result)


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.fixture(scope="module")
def still():
    return film(STILL)


@pytest.fixture(scope="module")
def moving():
    return film(MOVING)


def test_a_still_head_stays_still(still):
    images, landmarks, _ = still
    follower = follow(images, landmarks)
    jitter = transform_jitter(transforms(follower, landmarks), five_points(landmarks[0]))
    assert 0 < jitter < 0.01
    assert follower.failures == {}
    assert follower.residuals[0] == 0
    assert 0.05 < np.median(follower.residuals[1:]) < 1
    np.testing.assert_array_equal(follower.motions[0], np.eye(2, 3))


def test_landmarks_of_other_frames_are_never_measured_from(still):
    images, landmarks, _ = still
    noisy = landmarks + np.random.default_rng(0).normal(0, 1.5, landmarks.shape)
    noisy[0] = landmarks[0]
    np.testing.assert_array_equal(follow(images, noisy).motions, follow(images, landmarks).motions)


@pytest.mark.parametrize("action_units", ["6+12", "1+2+26", "4+7"])
@pytest.mark.parametrize("portrait", [0, 1])
def test_rigid_motion_is_measured_through_an_expression(portrait, action_units):
    identity = draw_identity(portrait, rng=np.random.default_rng([0, portrait]))
    images, landmarks, motion = film(replace(MOVING, identity=identity, action_units=action_units))
    scale = scale_of(face_transform(landmarks[0], size=SIZE))
    assert scale * np.hypot(*(motion[:, :, 2] - motion[0, :, 2]).T).max() > 1.0
    assert rms(misses(follow(images, landmarks), landmarks, motion)) < 0.045


def test_blink_and_flicker_add_little():
    images, landmarks, motion = film(replace(MOVING, blinks=True, flicker=0.01))
    follower = follow(images, landmarks)
    assert follower.failures == {}
    assert rms(misses(follower, landmarks, motion)) < 0.045


def test_three_degrees_of_freedom(moving):
    images, landmarks, motion = moving
    follower = follow(images, landmarks, degrees=3)
    assert rms(misses(follower, landmarks, motion)) < 0.045
    assert [scale_of(one) for one in follower.motions] == pytest.approx([1] * len(images))


def test_outwards_from_a_reference_in_the_middle(moving):
    images, landmarks, motion = moving
    middle = 5
    follower = HeadFollower(landmarks, middle)
    for index, image in enumerate(images):
        follower.see(image)
        if index < middle:
            # Nothing can be said before the reference is seen.
            np.testing.assert_array_equal(follower.motions, [np.eye(2, 3)] * len(images))
    assert follower.failures == {}
    assert rms(misses(follower, landmarks, motion, middle)) < 0.045
    # Backwards in time is the same as forwards on the reversed clip.
    reversed_ = follow(images[middle::-1], landmarks[middle::-1])
    np.testing.assert_array_equal(reversed_.motions[::-1], follower.motions[: middle + 1])


def test_head_motion_is_what_was_removed(moving):
    images, landmarks, motion = moving
    centre = five_points(landmarks[0]).mean(axis=0)
    moved = np.stack([apply_transform(one, centre) for one in motion])
    expected = np.hypot(*(moved - centre).T).max()
    assert follow(images, landmarks).head_motion() == pytest.approx(expected, abs=0.05)


def walk(image: np.ndarray, landmarks: np.ndarray, shifts: list[float]):
    """Return frames that show one picture ever further to the right, with landmarks and motion."""
    motion = np.array([[[1, 0, shift], [0, 1, 0.3 * shift]] for shift in shifts], float)
    images = [
        cv2.warpAffine(
            image, one, image.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        for one in motion
    ]
    return images, np.stack([apply_transform(one, landmarks) for one in motion]), motion


def test_a_head_that_walks_away_is_followed(still):
    images, landmarks, motion = walk(still[0][0], still[1][0], [0, 8, 16, 24, 32, 40, 48])
    follower = follow(images, landmarks)
    assert follower.failures == {}
    assert max(misses(follower, landmarks, motion)) < 0.05


def test_a_leap_beyond_the_basin_is_found_by_the_landmarks(still):
    # 55 source px are more than 30 px at 144x144.
    images, landmarks, motion = walk(still[0][0], still[1][0], [0, 0, 55, 55])
    follower = follow(images, landmarks)
    assert follower.failures == {}
    assert max(misses(follower, landmarks, motion)) < 0.05
    # Landmarks that do not tell of it leave only the neighbour's place, and that is noticed.
    blind = follow(images, np.repeat(landmarks[:1], 4, axis=0))
    assert sorted(blind.failures) == [2, 3]


def test_cuts_are_noticed_and_the_neighbour_stands_in(still, moving):
    images, landmarks, _ = moving
    other = film(
        replace(
            STILL,
            identity=draw_identity(1, rng=np.random.default_rng([0, 1])),
            numbers=(0,),
        )
    )
    noise = np.random.default_rng(0).integers(0, 256, images[0].shape, dtype=np.uint8)
    shown, points = list(images), landmarks.copy()
    shown[4], points[4] = other[0][0], other[1][0]
    shown[5] = noise
    shown[6] = np.full_like(noise, 100)
    follower = follow(shown, points)
    assert sorted(follower.failures) == [4, 5, 6]
    assert np.isnan(follower.residuals[4:7]).all()
    for index in (4, 5, 6):
        np.testing.assert_array_equal(follower.motions[index], follower.motions[3])
    # It comes back as if nothing had been.
    np.testing.assert_allclose(
        follower.motions[7:], follow(images, landmarks).motions[7:], atol=0.02
    )


def test_a_cut_to_a_face_like_this_one_is_noticed():
    # The same portrait with other traits, placed by its own landmarks: correlation 0.8.
    one, two = (
        film(replace(STILL, identity=draw_identity(i, rng=np.random.default_rng([0, i]))))
        for i in (3, 1)
    )
    follower = follow([*one[0][:3], *two[0][:2]], np.concatenate([one[1][:3], two[1][:2]]))
    assert sorted(follower.failures) == [3, 4]


def test_rigid_mask():
    landmarks = scene_truth(STILL).landmarks[0]
    points = apply_transform(face_transform(landmarks, size=SIZE), landmarks)
    mask = rigid_mask(points, size=SIZE)
    assert mask.shape == (SIZE, SIZE)

    def at(point) -> bool:
        x, y = np.rint(point).astype(int)
        return bool(mask[y, x])

    for eye in (slice(36, 42), slice(42, 48)):
        assert not at(points[eye].mean(axis=0))
        assert not any(at(point) for point in points[eye])
    assert all(at(points[index]) for index in (28, 30, 33, 48, 54, 57))
    assert 0.3 < mask.mean() < 0.6


def test_landmarks_that_are_all_eyes_are_refused(still):
    points = np.zeros((68, 2))
    square = np.array([(-30, -30), (0, -30), (30, -30), (30, 30), (0, 30), (-30, 30)])
    points[36:42], points[42:48] = square - (30, 0), np.add(square, (30, 0))
    points[48], points[54], points[30] = (-30, 20), (30, 20), (0, 10)
    with pytest.raises(NoFaceError, match="no face but the eyes"):
        follow(still[0][:1], points[None] + 150)


def test_a_reference_without_texture_registers_nothing(still):
    flat = np.full_like(still[0][0], 120)
    follower = follow([flat, flat, still[0][0]], still[1][:3])
    assert sorted(follower.failures) == [1, 2]


def test_a_head_that_slowly_comes_to_look_otherwise_is_followed_by_its_neighbours(still):
    """Errors of the neighbours add up, so it is followed to a pixel only."""
    images, landmarks, _ = still
    rng = np.random.default_rng(5)
    other = cv2.GaussianBlur(rng.normal(size=images[0].shape[:2]), (0, 0), 6)
    other = cv2.normalize(other, None, 0, 255, cv2.NORM_MINMAX)
    frames, shifts = [], []
    for index, image in enumerate(images):
        part = index / (len(images) - 1)
        grey = image if image.ndim == 2 else image[..., 0]
        mixed = (1 - part) * grey + part * other
        frames.append(np.roll(np.rint(mixed).astype(np.uint8), index, axis=1))
        shifts.append(index)
    follower = follow(frames, landmarks)
    assert follower.failures == {}
    assert follower.chained
    assert follower.chained[-1] == len(images) - 1
    assert np.isfinite(follower.residuals).all()
    centre = five_points(landmarks[0]).mean(axis=0)
    for motion, shift in zip(follower.motions, shifts, strict=True):
        found = apply_transform(motion, centre + np.array([shift, 0.0]))
        assert float(np.hypot(*(found - centre))) < 2


def test_weights_are_one_on_the_bridge_of_the_nose_and_small_far_from_it():
    landmarks = scene_truth(STILL).landmarks[0]
    points = apply_transform(face_transform(landmarks, size=SIZE), landmarks)
    weights = rigid_weights(points, size=SIZE)
    assert weights.shape == (SIZE, SIZE)
    assert weights.dtype == np.float32

    def at(*indices: int) -> float:
        x, y = np.rint(points[list(indices)].mean(axis=0)).astype(int)
        return float(weights[y, x])

    assert at(28) == pytest.approx(1, abs=0.01)
    assert at(51, 57) == pytest.approx(0.2, abs=0.01)
    assert at(8) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("portrait", [0, 1])
def test_a_strongly_wrinkled_nose_is_no_motion_of_the_head(portrait):
    identity = draw_identity(portrait, rng=np.random.default_rng([0, portrait]))
    scene = replace(MOVING, identity=identity, action_units="4+9", amplitude=3.5)
    images, landmarks, motion = film(scene)
    assert rms(misses(follow(images, landmarks), landmarks, motion)) < 0.12
