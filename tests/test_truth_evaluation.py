from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

import mer_prep
from mer_prep.evaluation import (
    TruthScores,
    aligned_true_flow,
    evaluate_truth,
    face_mask,
    key_frame_errors,
    pool_truth,
)
from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import apply_transform, compose, face_transform, warp
from mer_prep.ops.tvl1 import tvl1

SIZE = 64


def similarity(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[scale * c, -scale * s, shift[0]], [scale * s, scale * c, shift[1]]])


def face() -> np.ndarray:
    """Return landmarks around (60, 60) whose outer eye corners are 40 px apart."""
    angle = np.arange(68) / 68 * 2 * math.pi
    points = np.stack([60 + 30 * np.cos(angle), 60 + 30 * np.sin(angle)], axis=1)
    points[36], points[45] = (40, 50), (80, 50)
    return points


def placed(transforms: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    return np.stack([apply_transform(*pair) for pair in zip(transforms, landmarks, strict=True)])


HALF = similarity(0.5, 0, (2, 2))


def constant_flow(u: float, v: float):
    return lambda first, second: np.stack(
        [np.full((120, 120), u, np.float32), np.full((120, 120), v, np.float32)]
    )


def test_landmark_errors_by_hand():
    transforms, truth = np.stack([HALF, HALF]), np.stack([face(), face()])
    found = placed(transforms, truth)
    found[0] += (3, 4)
    # 5 px in one of two frames; the eyes are 20 aligned px apart.
    scores = evaluate_truth(
        "synthetic/s1/c1",
        landmarks=found,
        transforms=transforms,
        flow=np.zeros((1, 2, SIZE, SIZE)),
        pairs=np.array([(0, 1)]),
        true_landmarks=truth,
        true_flow=constant_flow(0, 0),
    )
    assert scores.landmark_error_outer_corners == pytest.approx(0.125)
    assert scores.landmark_error_px == pytest.approx(2.5)


def test_a_shift_in_the_source_is_scaled_by_the_transform():
    flow, inside = aligned_true_flow(constant_flow(2, -1)(0, 1), HALF, HALF, size=SIZE)
    np.testing.assert_allclose(flow[0], 1.0, atol=1e-5)
    np.testing.assert_allclose(flow[1], -0.5, atol=1e-5)
    # Aligned 1 is source -2, and aligned 2 is source 0.
    assert not inside[:2].any()
    assert inside[2:62, 2:62].all()


def test_rotation_turns_the_flow():
    quarter = similarity(1, 90, (64, 0))
    flow, inside = aligned_true_flow(constant_flow(2, 0)(0, 1), quarter, quarter, size=SIZE)
    np.testing.assert_allclose(flow[:, inside].mean(axis=1), (0, 2), atol=1e-5)


def test_what_the_transforms_differ_by_is_part_of_the_truth():
    second = compose(similarity(1, 0, (0.25, 0)), HALF)
    flow, _ = aligned_true_flow(constant_flow(2, 0)(0, 1), HALF, second, size=SIZE)
    np.testing.assert_allclose(flow[0], 1.25, atol=1e-5)


def test_a_transform_that_follows_the_motion_leaves_none():
    motion = similarity(1.02, 3, (2, -1))
    y, x = np.mgrid[:120, :120].astype(np.float64)
    grid = np.stack([x, y], axis=-1)
    truth = np.moveaxis(apply_transform(motion, grid) - grid, -1, 0)
    following = compose(HALF, np.linalg.inv(np.vstack([motion, (0, 0, 1)]))[:2])
    flow, inside = aligned_true_flow(truth, HALF, following, size=SIZE)
    assert np.abs(flow[:, inside]).max() < 1e-4


def test_the_mask_is_the_hull_of_the_landmarks():
    mask = face_mask(face(), HALF, size=SIZE)
    # A circle of radius 15 around (32, 32).
    assert mask.sum() == pytest.approx(math.pi * 15.5**2, rel=0.04)
    assert mask[32, 18]
    assert not mask[32, 15]


def test_a_perfect_clip_has_no_error():
    transforms, truth = np.stack([HALF] * 3), np.stack([face()] * 3)
    flow = np.zeros((2, 2, SIZE, SIZE), np.float32)
    flow[:, 0] = 0.6
    scores = evaluate_truth(
        "synthetic/s1/c1",
        landmarks=placed(transforms, truth),
        transforms=transforms,
        flow=flow,
        pairs=np.array([(0, 1), (0, 2)]),
        true_landmarks=truth,
        true_flow=constant_flow(1.2, 0),
    )
    assert scores.landmark_error_outer_corners == pytest.approx(0, abs=1e-12)
    assert scores.endpoint_error_px == pytest.approx(0, abs=1e-5)
    assert scores.zero_endpoint_error_px == pytest.approx(0.6, abs=1e-5)
    assert scores.peak_magnitude_px == pytest.approx(0.6, abs=1e-5)
    assert (scores.jitter_px, scores.frames, scores.pairs) == (0.0, 3, 2)


def test_known_errors_are_measured_and_only_inside_the_face():
    transforms, truth = np.stack([HALF, HALF]), np.stack([face()] * 2)
    transforms[1, 0, 2] += 0.25
    found = np.full((1, 2, SIZE, SIZE), 1e6, np.float32)
    inside = face_mask(face(), HALF, size=SIZE)
    found[0, 0][inside], found[0, 1][inside] = 0.25, 0.4
    scores = evaluate_truth(
        "synthetic/s1/c1",
        landmarks=placed(transforms, truth),
        transforms=transforms,
        flow=found,
        pairs=np.array([(0, 1)]),
        true_landmarks=truth,
        true_flow=constant_flow(0, 0),
    )
    assert scores.endpoint_error_px == pytest.approx(0.4, abs=1e-6)
    assert scores.zero_endpoint_error_px == pytest.approx(0.25, abs=1e-6)
    assert scores.jitter_px == pytest.approx(0.25)


def test_the_expression_error_counts_what_the_alignment_leaves():
    # The head moves by (4, 0) source px, the skin by (1, 0) more; the transform does not follow.
    truth = np.stack([face(), face() + np.array([5, 0])])
    found = np.zeros((1, 2, SIZE, SIZE), np.float32)
    found[0, 0] = 2.5
    common = {
        "flow": found,
        "pairs": np.array([(0, 1)]),
        "true_landmarks": truth,
        "true_flow": constant_flow(5, 0),
        "true_motion": np.stack([np.eye(2, 3), similarity(1, 0, (4, 0))]),
    }
    still = np.stack([HALF, HALF])
    scores = evaluate_truth(
        "synthetic/s1/c1", landmarks=placed(still, truth), transforms=still, **common
    )
    assert scores.endpoint_error_px == pytest.approx(0, abs=1e-5)
    assert scores.zero_endpoint_error_px == pytest.approx(2.5, abs=1e-5)
    assert scores.expression_error_px == pytest.approx(2.0, abs=1e-5)
    assert scores.zero_expression_error_px == pytest.approx(0.5, abs=1e-5)
    assert scores.alignment_error_px == pytest.approx(2.0, abs=1e-9)

    following = np.stack([HALF, similarity(0.5, 0, (0, 2))])
    common["flow"] = found - np.array([2, 0], np.float32)[:, None, None]
    scores = evaluate_truth(
        "synthetic/s1/c1", landmarks=placed(following, truth), transforms=following, **common
    )
    assert scores.expression_error_px == pytest.approx(0, abs=1e-5)
    assert scores.endpoint_error_px == pytest.approx(0, abs=1e-5)
    assert scores.alignment_error_px == pytest.approx(0, abs=1e-9)


def test_without_head_motion_there_is_no_expression_error():
    transforms, truth = np.stack([HALF] * 2), np.stack([face()] * 2)
    scores = evaluate_truth(
        "synthetic/s1/c1",
        landmarks=placed(transforms, truth),
        transforms=transforms,
        flow=np.zeros((1, 2, SIZE, SIZE)),
        pairs=np.array([(0, 1)]),
        true_landmarks=truth,
        true_flow=constant_flow(0, 0),
    )
    assert math.isnan(scores.expression_error_px)
    assert math.isnan(scores.alignment_error_px)


def test_the_frames_of_a_pair_are_asked_for_in_order():
    asked = []

    def true_flow(first: int, second: int) -> np.ndarray:
        asked.append((first, second))
        return np.zeros((2, 120, 120), np.float32)

    evaluate_truth(
        "synthetic/s1/c1",
        landmarks=np.zeros((3, 68, 2)),
        transforms=np.stack([HALF] * 3),
        flow=np.zeros((2, 2, SIZE, SIZE)),
        pairs=np.array([(2, 0), (1, 2)]),
        true_landmarks=np.stack([face()] * 3),
        true_flow=true_flow,
    )
    assert asked == [(2, 0), (1, 2)]


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"clip: landmarks \(2, 68, 2\), true .* \(3, 68, 2\)"):
        evaluate_truth(
            "clip",
            landmarks=np.zeros((2, 68, 2)),
            transforms=np.stack([HALF] * 2),
            flow=np.zeros((1, 2, SIZE, SIZE)),
            pairs=np.array([(0, 1)]),
            true_landmarks=np.zeros((3, 68, 2)),
            true_flow=constant_flow(0, 0),
        )


def score(clip_id: str, error: float, jitter: float) -> TruthScores:
    nan = float("nan")
    return TruthScores(clip_id, error, error, nan, 1.0, nan, nan, nan, 1.0, jitter, 5, 1)


def test_pooling_by_hand():
    pooled = pool_truth([score("a", 1, 0.5), score("b", 2, 0.1), score("c", 6, 0.3)])
    errors = pooled["landmark_error_outer_corners"]
    assert (errors.mean, errors.median, errors.worst, errors.worst_clip) == (3, 2, 6, "c")
    assert pooled["jitter_px"].worst_clip == "a"
    assert "endpoint_error_px" not in pooled
    assert "frames" not in pooled


def test_nothing_to_pool():
    with pytest.raises(ValueError, match="no scores"):
        pool_truth([])


def test_tvl1_on_a_known_expression_is_far_better_than_no_flow():
    landmarks = found_landmarks()
    image = portrait()
    truth = mouth_corner_flow(landmarks, image.shape[:2], peak=1.8)
    moved = add_noise(warp_forward(image, truth), 1)
    transform = face_transform(landmarks)
    first, second = (to_grey(warp(frame, transform)) for frame in (add_noise(image, 0), moved))
    true_landmarks = np.stack([landmarks, landmarks + sample(truth, landmarks)])
    scores = evaluate_truth(
        "synthetic/s1/c1",
        landmarks=placed(np.stack([transform] * 2), true_landmarks),
        transforms=np.stack([transform] * 2),
        flow=tvl1(first, second)[None],
        pairs=np.array([(0, 1)]),
        true_landmarks=true_landmarks,
        true_flow=lambda a, b: truth,
    )
    assert 0.8 < scores.peak_magnitude_px < 1.6
    assert scores.endpoint_error_px < 0.05
    assert scores.endpoint_error_px < 0.35 * scores.zero_endpoint_error_px


def portrait() -> np.ndarray:
    path = Path(mer_prep.__file__).parent / "synth" / "portraits" / "grace_hopper.jpg"
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def found_landmarks() -> np.ndarray:
    """Return five points read off the portrait as landmarks, and a hull around the face."""
    points = np.full((68, 2), (266.0, 240.0))
    points[36:42], points[42:48] = (222, 190), (306, 186)
    points[36], points[45] = (205, 190), (323, 186)
    points[30], points[48], points[54] = (268, 238), (228, 281), (306, 276)
    angle = np.linspace(0, math.pi, 17)
    points[:17] = np.stack([268 - 85 * np.cos(angle), 200 + 130 * np.sin(angle)], axis=1)
    return points


def mouth_corner_flow(landmarks: np.ndarray, shape: tuple[int, int], *, peak: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    flow = np.zeros((2, *shape))
    for index, side in ((48, -1), (54, 1)):
        squared = ((x - landmarks[index, 0]) ** 2 + (y - landmarks[index, 1]) ** 2) / 19**2
        flow += peak * np.array([0.8 * side, -0.6])[:, None, None] * np.exp(-squared / 2)
    return flow


def sample(flow: np.ndarray, points: np.ndarray) -> np.ndarray:
    x, y = (points[:, axis].astype(np.float32)[:, None] for axis in (0, 1))
    channels = [cv2.remap(part.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0] for part in flow]
    return np.stack(channels, axis=1)


def warp_forward(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Return the picture in which pixel x of `image` is at x + flow(x), by fixed point."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    back = flow.astype(np.float32)
    for _ in range(8):
        back = np.stack(
            [
                cv2.remap(part.astype(np.float32), x - back[0], y - back[1], cv2.INTER_LINEAR)
                for part in flow
            ]
        )
    return cv2.remap(image, x - back[0], y - back[1], cv2.INTER_CUBIC)


def add_noise(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1.5, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def test_key_frame_errors_are_scaled_to_sixty_frames():
    true = {"onset": 100, "apex": 110, "offset": 129}  # 30 frames; the midpoint is frame 114
    errors = key_frame_errors({"onset": 99, "apex": 113, "offset": 129}, true)
    assert errors == {
        "onset_error": 2.0,
        "apex_error": 6.0,
        "offset_error": 0.0,
        "midpoint_error": 8.0,
    }


def test_clips_without_spotted_key_frames_are_left_out_of_their_means():
    spotted = dataclasses.replace(score("b", 2, 0.1), apex_error=3.0, midpoint_error=5.0)
    pooled = pool_truth([score("a", 1, 0.5), spotted])
    assert (pooled["apex_error"].mean, pooled["apex_error"].worst_clip) == (3.0, "b")
    assert "onset_error" not in pooled
