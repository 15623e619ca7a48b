from __future__ import annotations

import cv2
import numpy as np
import pytest

from mer_prep.ops.apex import find_key_frames
from mer_prep.ops.expression_score import (
    cover_eyes,
    difference_score,
    face_region,
    flow_score,
    lbp_score,
    level_light,
    main_course,
)
from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import apply_transform, face_transform, warp
from mer_prep.synth.motion import blink_course, expression_course
from mer_prep.synth.portraits import load_portrait

COUNT, APEX = 30, 11
SCORES = {"flow": flow_score, "patterns": lbp_score, "difference": difference_score}


def aligned_face() -> tuple[np.ndarray, np.ndarray]:
    portrait = load_portrait("grace_hopper")
    transform = face_transform(portrait.landmarks)
    face = to_grey(warp(np.array(portrait.image), transform))
    return face, apply_transform(transform, portrait.landmarks)


FACE, SHAPE = aligned_face()


def pull(image: np.ndarray, centre: np.ndarray, shift: tuple[float, float], sigma: float):
    """Return the picture with the surroundings of a point moved, by a backward warp."""
    y, x = np.mgrid[:144, :144].astype(np.float32)
    bump = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    map_x, map_y = (axis - s * bump for axis, s in zip((x, y), shift, strict=True))
    return cv2.remap(image, map_x.astype(np.float32), map_y.astype(np.float32), cv2.INTER_CUBIC)


def clip(
    *,
    amplitude: float = 1.2,
    blink: float = 0.0,
    flicker: float = 0.0,
    noise: float = 1.0,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames in which the mouth corners rise, and perhaps the lids fall, and landmarks."""
    rng = np.random.default_rng(seed)
    smile = expression_course(np.arange(COUNT), onset=0, apex=APEX, offset=COUNT - 1)
    lids = blink_course(np.arange(COUNT), centre=19, length=14)
    light = 1 + flicker * np.sin(np.arange(COUNT))
    frames = np.empty((COUNT, 144, 144), np.uint8)
    for t in range(COUNT):
        image = FACE.astype(np.float32)
        for corner, side in ((48, -1), (54, 1)):
            shift = amplitude * smile[t]
            image = pull(image, SHAPE[corner], (0.7 * side * shift, -0.7 * shift), 8)
        for eye in (slice(36, 42), slice(42, 48)):
            image = pull(image, SHAPE[eye].mean(axis=0), (0, blink * lids[t]), 5)
        image = image * light[t] + rng.normal(0, noise, image.shape)
        frames[t] = np.clip(np.rint(image), 0, 255)
    return frames, np.repeat(SHAPE[None], COUNT, axis=0)


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        ("flow", {}),
        ("flow", {"blink": 4.0}),
        ("flow", {"flicker": 0.03}),
        ("flow", {"blink": 4.0, "flicker": 0.03, "amplitude": 0.8}),
        ("difference", {"blink": 4.0, "flicker": 0.03}),
    ],
)
def test_the_apex_is_found(name, conditions):
    score = SCORES[name](*clip(**conditions))
    assert score.shape == (COUNT,)
    assert abs(find_key_frames(score).apex - APEX) <= 1


def test_without_covering_the_eyes_a_blink_is_taken_for_the_expression():
    frames, landmarks = clip(blink=4.0)
    naive = find_key_frames(flow_score(frames, landmarks, eye_radius=0)).apex
    assert abs(naive - 19) <= 2


def test_colour_and_grey_frames_give_the_same():
    frames, landmarks = clip()
    colour = np.repeat(frames[..., None], 3, axis=-1)
    np.testing.assert_allclose(flow_score(colour, landmarks), flow_score(frames, landmarks))


def test_any_neutral_frame_may_be_the_reference():
    frames, landmarks = clip()
    score = flow_score(frames, landmarks, reference=COUNT - 1)
    assert abs(find_key_frames(score).apex - APEX) <= 1
    assert score[APEX] > score[0]


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_frames_that_do_not_change_score_zero(score, count):
    frames, landmarks = np.repeat(FACE[None], count, axis=0), np.repeat(SHAPE[None], count, axis=0)
    np.testing.assert_allclose(score(frames, landmarks), 0, atol=1e-12)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("image", [0, 255])
def test_black_and_white_frames_are_no_error(score, image):
    frames = np.full((5, 144, 144), image, np.uint8)
    frames[2] = FACE
    assert np.isfinite(score(frames, np.repeat(SHAPE[None], 5, axis=0))).all()


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_landmarks_outside_of_the_frame_are_no_error(score):
    frames, landmarks = clip(noise=2)
    assert np.isfinite(score(frames[:6], landmarks[:6] + 500)).all()


def test_patterns_are_as_far_as_they_are_different():
    frames = np.stack([FACE, FACE, 255 - FACE])
    score = lbp_score(frames, np.repeat(SHAPE[None], 3, axis=0), eye_radius=0)
    assert score[0] == score[1] == pytest.approx(0, abs=1e-12)
    assert 0.01 < score[2] <= 1


def test_patterns_do_not_depend_on_the_light():
    dark = FACE // 2 * 2
    frames = np.stack([dark, dark // 2])
    assert lbp_score(frames, np.repeat(SHAPE[None], 2, axis=0))[1] == pytest.approx(0, abs=0.02)


def test_differences_are_in_grey_levels():
    frames = np.stack([FACE] * 4)
    y, x = (int(v) for v in SHAPE[33][::-1])
    frames[2, y - 2 : y + 2, x - 2 : x + 2] ^= 64
    score = difference_score(frames, np.repeat(SHAPE[None], 4, axis=0))
    assert score.argmax() == 2
    assert score[[0, 1, 3]].max() < 0.05 * score[2]
    pixels = score[2] / (16 * 64)  # 16 pixels of 64 levels, over the area looked at
    assert 1 / 144**2 < pixels < 1 / 500


def test_level_light_undoes_a_gain():
    frames = np.stack([FACE, np.rint(FACE * 0.9).astype(np.uint8)])
    levelled = level_light(frames, SHAPE)
    np.testing.assert_array_equal(levelled[0], FACE)
    assert np.abs(levelled[1].astype(int) - FACE).max() <= 1


def test_covered_eyes_are_those_of_the_reference_and_the_mouth_stays():
    frames = np.stack([FACE, 255 - FACE])
    covered = cover_eyes(frames, SHAPE, radius=0.3)
    x, y = np.rint(SHAPE[36:42].mean(axis=0)).astype(int)
    assert covered[1, y, x] == FACE[y, x]
    x, y = np.rint(SHAPE[57]).astype(int)
    assert covered[1, y, x] == 255 - FACE[y, x]
    assert cover_eyes(frames, SHAPE, radius=0) is frames


def test_the_region_of_the_face_leaves_out_the_eyes():
    region = face_region(SHAPE, size=144, eye_radius=0.3)
    assert region[tuple(np.rint(SHAPE[33][::-1]).astype(int))]
    assert not region[tuple(np.rint(SHAPE[36:42].mean(axis=0)[::-1]).astype(int))]
    assert not region[0, 0]
    assert face_region(SHAPE + 500, size=144).all()


@pytest.mark.parametrize("signals", [20, 200])
def test_main_course_finds_the_common_course_of_noisy_signals(signals):
    rng = np.random.default_rng(3)
    truth = expression_course(np.arange(50), onset=5, apex=20, offset=45)
    noise = rng.uniform(0.2, 5, signals)
    values = np.outer(truth, rng.uniform(-1, 1, signals))
    values += 0.1 * noise * rng.normal(size=(50, signals))
    # One signal that is all noise must not rule.
    values[:, 0] = rng.normal(0, 40, 50)
    course = main_course(values)
    assert np.corrcoef(course, truth)[0, 1] > 0.9
    assert abs(course.mean()) < 1e-9


def test_main_course_of_constant_or_few_values():
    np.testing.assert_array_equal(main_course(np.ones((5, 3))), np.zeros(5))
    np.testing.assert_array_equal(main_course(np.array([[0.0], [1.0]])), np.zeros(2))
