"""Flow without the motion of the head, and without the eyes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mer_prep.config import key_values
from mer_prep.errors import ConfigError, MotionError
from mer_prep.ops.eyes import eye_mask
from mer_prep.ops.global_motion import motion_field
from mer_prep.ops.similarity import apply_transform, face_transform
from mer_prep.ops.stabilization import rigid_mask
from mer_prep.stages.flow import Flow, FlowParams, largest_motion
from mer_prep.stages.worker import check_output
from mer_prep.synth.portraits import load_portrait

SIZE = 144
TINY = np.zeros((4, 4, 3), np.uint8)
POINTS = load_portrait("grace_hopper").landmarks
LANDMARKS = apply_transform(face_transform(POINTS, size=SIZE), POINTS).astype(np.float32)

#: A small turn and shift, as a head leaves behind.
MOTION = np.array([[1.004, -0.012, 1.1], [0.012, 1.004, -0.6]])


@pytest.fixture
def known_flow(monkeypatch) -> np.ndarray:
    """Let every pair have a known flow: the head's, and a smile of up to 1.5 px."""
    y, x = np.mgrid[:SIZE, :SIZE]
    smile = np.zeros((2, SIZE, SIZE))
    for point, u in ((48, -1.5), (54, 1.5)):
        away = (x - LANDMARKS[point, 0]) ** 2 + (y - LANDMARKS[point, 1]) ** 2
        smile += np.array([u, -1.0])[:, None, None] * np.exp(-away / (2 * 9.0**2))

    def flows(firsts, seconds, *, method, engine):
        one = (motion_field(MOTION, (SIZE, SIZE)) + smile).astype(np.float32)
        return np.stack([one] * len(firsts))

    monkeypatch.setattr("mer_prep.stages.flow.optical_flows", flows)
    return smile


def aligned(count: int) -> dict:
    frames = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    return {"align": {"frames": frames, "landmarks": np.stack([LANDMARKS] * count)}}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_known_similarity_is_taken_out_and_the_expression_left(make_clip, known_flow, dtype):
    clip, frames = make_clip([TINY] * 3)
    stage = Flow(FlowParams(pairs="consecutive", remove_global="similarity", dtype=dtype))
    output = stage.run(clip, frames, aligned(3))
    arrays = check_output(stage, output)
    assert arrays["flow"].dtype == dtype
    face = rigid_mask(LANDMARKS, size=SIZE)
    for flow in arrays["flow"].astype(np.float32):
        left = np.hypot(*(flow - known_flow))[face]
        assert left.max() < 0.03
    assert arrays["global_motion"].shape == (2, 2, 3)
    np.testing.assert_allclose(arrays["global_motion"][0], MOTION, atol=0.03)
    assert output.facts["remove_global"] == "similarity"
    middle = MOTION @ (71.5, 71.5, 1) - 71.5
    assert output.facts["global_motion_px"] == pytest.approx(np.hypot(*middle), abs=0.03)
    assert output.facts["mean_magnitude_px"] == pytest.approx(
        float(np.hypot(*known_flow).mean()), abs=0.03
    )


def test_a_translation_leaves_the_rotation(make_clip, known_flow):
    clip, frames = make_clip([TINY] * 2)
    stage = Flow(FlowParams(pairs="consecutive", remove_global="translation"))
    output = stage.run(clip, frames, aligned(2))
    np.testing.assert_array_equal(output.arrays["global_motion"][0, :, :2], np.eye(2))
    left = output.arrays["flow"][0] - known_flow
    turning = np.gradient(left[1], axis=1)[100:110, 10:20].mean()
    assert turning == pytest.approx(0.012, abs=1e-3)


def test_the_eyes_are_set_to_zero_and_nothing_else(make_clip, known_flow):
    clip, frames = make_clip([TINY] * 2)
    plain = Flow(FlowParams(pairs="consecutive")).run(clip, frames, aligned(2))
    stage = Flow(FlowParams(pairs="consecutive", mask="eyes"))
    output = stage.run(clip, frames, aligned(2))
    mask = eye_mask(LANDMARKS, size=SIZE, margin=0.3)
    assert not output.arrays["flow"][0, :, mask].any()
    np.testing.assert_array_equal(
        output.arrays["flow"][0][:, ~mask], plain.arrays["flow"][0][:, ~mask]
    )
    assert output.facts["mask"] == "eyes"
    assert output.facts["mask_margin"] == 0.3
    assert output.facts["masked_part"] == pytest.approx(mask.mean())
    assert set(output.arrays) == set(plain.arrays)


def test_what_is_masked_is_zero_after_both(make_clip, known_flow):
    clip, frames = make_clip([TINY] * 2)
    params = FlowParams(
        pairs="consecutive", mask="eyes", mask_margin=0.1, remove_global="similarity"
    )
    output = Flow(params).run(clip, frames, aligned(2))
    mask = eye_mask(LANDMARKS, size=SIZE, margin=0.1)
    assert not output.arrays["flow"][0, :, mask].any()
    left = np.hypot(*(output.arrays["flow"][0] - known_flow))
    assert left[rigid_mask(LANDMARKS, size=SIZE) & ~mask].max() < 0.03


def test_no_motion_stays_none(make_clip):
    clip, frames = make_clip([TINY] * 2)
    params = FlowParams(pairs="consecutive", mask="eyes", remove_global="similarity")
    output = Flow(params).run(clip, frames, aligned(2))
    assert not output.arrays["flow"].any()
    np.testing.assert_array_equal(output.arrays["global_motion"][0], np.eye(2, 3))
    assert output.facts["global_motion_px"] == 0


def test_a_face_too_small_to_fit_a_motion_to_is_refused(make_clip, known_flow):
    clip, frames = make_clip([TINY] * 2)
    inputs = aligned(2)
    inputs["align"]["landmarks"] = inputs["align"]["landmarks"] * np.float32(0.1)
    with pytest.raises(MotionError, match="200 pixels or more") as caught:
        Flow(FlowParams(pairs="consecutive", remove_global="similarity")).run(clip, frames, inputs)
    assert caught.value.where == clip.clip_id


def test_defaults_add_nothing_to_facts_fields_or_key(make_clip):
    clip, frames = make_clip([TINY] * 2)
    stage = Flow(FlowParams(pairs="consecutive"))
    output = stage.run(clip, frames, aligned(2))
    assert [field.name for field in stage.fields] == ["flow", "pairs", "pair_numbers"]
    assert set(output.facts) == {"method", "engine", "mean_magnitude_px"}
    assert set(key_values(stage.params)) == {
        "method",
        "engine",
        "pairs",
        "lag_divisor",
        "apex",
        "dtype",
    }


def test_other_values_enter_the_key_and_are_taken_back_from_it():
    stage = Flow(FlowParams(mask="eyes", remove_global="translation"))
    params = key_values(stage.params)
    assert params["mask"] == "eyes"
    assert params["remove_global"] == "translation"
    assert "mask_margin" not in params
    assert FlowParams(**json.loads(json.dumps(params))) == stage.params


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"remove_global": "affine"}, r"'flow\.remove_global'"),
        ({"mask": "eye"}, "Did you mean 'eyes'"),
        ({"mask_margin": 1.5}, r"'flow\.mask_margin' is out of range"),
    ],
)
def test_parameters_are_checked(values, match):
    with pytest.raises(ConfigError, match=match):
        FlowParams(**values)


def test_largest_motion_is_that_of_the_middle():
    still, moved = np.eye(2, 3), np.array([[1, 0, 3.0], [0, 1, -4.0]])
    assert largest_motion(np.stack([still, moved]), (10, 10)) == 5
