from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from mer_prep.evaluation import evaluate_truth
from mer_prep.ops.flow import optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import compose, face_transform, invert, warp
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import Align, AlignParams, failure_warnings
from mer_prep.stages.landmarks import Landmarks
from mer_prep.synth.clips import Scene, render_frames, scene_truth
from mer_prep.synth.identity import draw_identity
from mer_prep.synth.truth import ClipTruth

NUMBERS = tuple(range(101, 113))


def scene(**changes) -> Scene:
    values = {
        "identity": draw_identity(0, rng=np.random.default_rng([0, 0])),
        "size": (400, 380),
        "grey": False,
        "numbers": NUMBERS,
        "onset": 101,
        "apex": 107,
        "offset": 112,
        "fps": 60.0,
        "emotion": "happiness",
        "action_units": "6+12",
        "amplitude": 1.2,
        "head_motion": 1.6,
        "noise": 1.5,
        "seed": (4, 2),
    }
    return Scene(**{**values, **changes})


def inputs(truth: ClipTruth) -> dict:
    return {
        "landmarks": {
            "landmarks": truth.landmarks,
            "detected": np.ones(len(truth.landmarks), bool),
        }
    }


def shot(make_clip, setting: Scene, *, seen=None, **facts):
    """Return clip, frames, images and truth of a scene on disk."""
    truth = scene_truth(setting)
    images = list(render_frames(setting, truth))
    clip, frames = make_clip(images, onset=setting.onset, offset=setting.offset, seen=seen, **facts)
    return clip, frames, images, truth


def ideal(truth: ClipTruth, reference: int = 0) -> np.ndarray:
    """Return the transforms that follow the true head motion exactly."""
    onset = face_transform(truth.landmarks[reference])
    head = truth.head_motion
    return np.stack([compose(onset, compose(head[reference], invert(one))) for one in head])


def placed_apart(found: np.ndarray, expected: np.ndarray, points: np.ndarray) -> float:
    ones = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    gaps = np.einsum("tij,pj->tpi", found - expected, ones)
    return float(np.sqrt((gaps**2).sum(axis=-1).mean()))


def test_head_motion_is_taken_out_and_frames_are_warped_once(make_clip):
    clip, frames, images, truth = shot(make_clip, scene())
    output = Align().run(clip, frames, inputs(truth))
    transforms = output.arrays["transform"]
    assert {name: array.dtype.name for name, array in output.arrays.items()} == {
        field.name: field.dtype for field in Align.fields
    }
    np.testing.assert_array_equal(transforms[0], face_transform(truth.landmarks[0]))
    assert placed_apart(transforms, ideal(truth), truth.landmarks[0]) < 0.05
    for index in (0, 4, 11):
        np.testing.assert_array_equal(
            output.arrays["frames"][index], warp(images[index], transforms[index])
        )
    assert frames.decoded == len(images)
    assert output.warnings == ()
    facts = output.facts
    assert facts["registration_failures"] == 0
    assert 0 < facts["registration_residual"] < 1
    onset_mode = Align(AlignParams(mode="onset")).run(clip, frames, inputs(truth))
    # What is left of the landmarks' motion is the expression; the rest was removed.
    assert facts["head_motion_px"] > 1
    assert facts["landmark_jitter_px"] < 0.6 * onset_mode.facts["landmark_jitter_px"]
    assert facts["jitter_px"] > 0.05
    assert "registration_failures" not in onset_mode.facts


def test_outwards_from_the_onset_of_a_whole_recording(make_clip):
    setting = scene(onset=106, apex=109)
    clip, frames, images, truth = shot(make_clip, setting, seen=(0, 12))
    output = Align().run(clip, frames, inputs(truth))
    transforms = output.arrays["transform"]
    assert output.facts["reference_frame"] == 106
    assert placed_apart(transforms, ideal(truth, 5), truth.landmarks[5]) < 0.05
    for index in range(12):
        np.testing.assert_array_equal(
            output.arrays["frames"][index], warp(images[index], transforms[index])
        )
    # Frames that memory does not hold are decoded again, and nothing else changes.
    forgetful = ClipFrames(clip, 0, 12, memory=0)
    again = Align().run(clip, forgetful, inputs(truth))
    np.testing.assert_array_equal(again.arrays["frames"], output.arrays["frames"])
    np.testing.assert_array_equal(again.arrays["transform"], transforms)


def test_size_and_enlargement_do_not_touch_the_registration(make_clip):
    clip, frames, _, truth = shot(make_clip, scene(numbers=NUMBERS[:4]))
    motions = []
    for params in (AlignParams(), AlignParams(size=64, enlarge=4.0)):
        transforms = Align(params).run(clip, frames, inputs(truth)).arrays["transform"]
        motions.append([compose(invert(transforms[0]), one) for one in transforms])
    np.testing.assert_allclose(motions[0], motions[1], atol=1e-9)


def test_frames_that_fail_are_counted_and_named(make_clip):
    setting = scene(numbers=NUMBERS[:8], offset=108)
    truth = scene_truth(setting)
    images = list(render_frames(setting, truth))
    for index in (3, 4):
        images[index] = np.random.default_rng(index).integers(
            0, 256, images[0].shape, dtype=np.uint8
        )
    clip, frames = make_clip(images, onset=101, offset=108)
    output = Align().run(clip, frames, inputs(truth))
    assert output.facts["registration_failures"] == 2
    transforms = output.arrays["transform"]
    np.testing.assert_array_equal(transforms[3:5], [transforms[2]] * 2)
    (said,) = output.warnings
    assert "2 of 8 frames" in said
    assert "the first is frame 104: " in said
    assert "per-frame" not in said


def test_many_failures_recommend_another_mode():
    assert failure_warnings({}, [1, 2, 3]) == ()
    (quarter,) = failure_warnings({3: "dark"}, [11, 12, 13, 14])
    assert quarter.endswith("the first is frame 14: dark.")
    (more,) = failure_warnings({3: "dark", 2: "cut"}, [11, 12, 13, 14])
    assert "the first is frame 13: cut." in more
    assert "--set align.mode=per-frame" in more


def test_one_frame(make_clip):
    clip, frames, _, truth = shot(make_clip, scene(), seen=(0, 1))
    output = Align().run(clip, frames, inputs_of_first(truth))
    assert output.arrays["frames"].shape == (1, 144, 144, 3)
    assert output.facts["registration_residual"] == 0.0
    assert output.facts["jitter_px"] == 0.0


def inputs_of_first(truth: ClipTruth) -> dict:
    found = inputs(truth)["landmarks"]
    return {"landmarks": {name: array[:1] for name, array in found.items()}}


def expression_errors(make_clip, setting: Scene) -> Iterator[float]:
    """Yield the error against the expression alone: stabilized, per frame, by the true motion."""
    clip, frames, images, truth = shot(make_clip, setting)
    found = {"landmarks": Landmarks().run(clip, frames, {}).arrays}
    apex = setting.apex - setting.onset
    stabilized, per_frame = (
        Align(AlignParams(mode=mode)).run(clip, frames, found).arrays["transform"]
        for mode in ("stabilized", "per-frame")
    )
    head = truth.head_motion
    true = np.stack([compose(stabilized[0], compose(head[0], invert(one))) for one in head])
    for transforms in (stabilized, per_frame, true):
        first, second = (to_grey(warp(images[i], transforms[i])) for i in (0, apex))
        scores = evaluate_truth(
            clip.clip_id,
            landmarks=truth.landmarks,
            transforms=transforms,
            flow=optical_flow(first, second, method="dis")[None],
            pairs=np.array([[0, apex]]),
            true_landmarks=truth.landmarks,
            true_flow=lambda a, b: truth.flow(NUMBERS[a], NUMBERS[b]),
            true_motion=head,
        )
        yield scores.expression_error_px


def test_the_expression_is_measured_as_if_the_head_were_still(make_clip):
    pytest.importorskip("dlib")
    errors = np.array(
        [
            list(expression_errors(make_clip, replace(scene(), identity=identity)))
            for identity in (
                draw_identity(index, rng=np.random.default_rng([0, index])) for index in (0, 1)
            )
        ]
    ).mean(axis=0)
    stabilized, per_frame, true = errors
    assert stabilized < 0.2 * per_frame
    assert stabilized < 1.25 * true
