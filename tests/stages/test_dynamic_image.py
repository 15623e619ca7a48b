"""Stages that sum frames up: difference and dynamic image."""

from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, ManifestError, MotionError
from mer_prep.ops.rank_pooling import approximate_weights, exact_weights, pool
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.stages.difference import Difference, DifferenceParams
from mer_prep.stages.dynamic_image import DynamicImage, DynamicImageParams
from mer_prep.stages.worker import check_output

TINY = np.zeros((4, 4, 3), np.uint8)


def ramp(count: int) -> np.ndarray:
    """Return frames whose red rises, whose green falls, and whose blue stays."""
    time = np.arange(count)[:, None, None]
    texture = np.random.default_rng(0).integers(60, 120, (1, 16, 16))
    return np.stack([texture + 3 * time, texture - 2 * time, texture + 0 * time], axis=-1).astype(
        np.uint8
    )


def aligned(count: int) -> dict:
    return {"align": {"frames": ramp(count)}}


def made(stage, clip, frames, inputs):
    output = stage.run(clip, frames, inputs)
    return check_output(stage, output), output


def test_difference_is_apex_less_onset(make_clip):
    clip, frames = make_clip([TINY] * 5, onset=101, apex=103, apex_source="annotated")
    arrays, output = made(Difference(), clip, frames, aligned(5))
    difference = arrays["difference"]
    assert (difference.shape, difference.dtype) == ((1, 16, 16, 3), np.int16)
    np.testing.assert_array_equal(difference[0], np.broadcast_to((6, -4, 0), (16, 16, 3)))
    np.testing.assert_array_equal(arrays["pair_numbers"], [(101, 103)])
    assert output.facts["mean_absolute_difference"] == pytest.approx(10 / 3)
    assert output.facts["apex_source"] == "annotated"
    assert output.warnings == ()


def test_difference_of_other_pairs(make_clip):
    clip, frames = make_clip([TINY] * 3)
    stage = Difference(DifferenceParams(pairs="onset-to-all"))
    arrays, _ = made(stage, clip, frames, aligned(3))
    np.testing.assert_array_equal(arrays["difference"][:, 0, 0, 0], [3, 6])


def test_difference_of_what_cannot_differ(make_clip):
    clip, frames = make_clip([TINY] * 3, onset=101, apex=101, apex_source="annotated")
    arrays, output = made(Difference(), clip, frames, aligned(3))
    assert not arrays["difference"].any()
    assert output.warnings[0].startswith("The apex is the onset frame 101")
    assert output.warnings[1] == "There is no difference at all between the frames compared."
    with pytest.raises(MotionError, match="Difference needs 2 frames, and the clip has 1"):
        Difference().run(clip, frames, aligned(1))
    clip, frames = make_clip([TINY] * 9, apex=108, offset=105, apex_source="annotated")
    with pytest.raises(ManifestError, match="apex 108"):
        Difference().run(clip, frames, aligned(5))


@pytest.mark.parametrize("smoothing", [True, False])
@pytest.mark.parametrize("method", ["approximate", "exact"])
def test_dynamic_image_is_the_weighted_sum_of_the_frames(make_clip, method, smoothing):
    clip, frames = make_clip([TINY] * 7)
    stage = DynamicImage(DynamicImageParams(method=method, smoothing=smoothing))
    arrays, output = made(stage, clip, frames, aligned(7))
    if method == "approximate":
        weights = approximate_weights(7, smoothing=smoothing)
    else:
        weights = exact_weights(ramp(7), smoothing=smoothing)
    np.testing.assert_array_equal(arrays["weights"], weights)
    np.testing.assert_array_equal(arrays["dynamic_image"], pool(ramp(7), weights))
    np.testing.assert_array_equal(arrays["indices"], np.arange(7))
    assert (arrays["dynamic_image"][..., 0] > 0).all()
    assert (arrays["dynamic_image"][..., 1] < 0).all()
    assert not arrays["dynamic_image"][..., 2].any()
    assert output.facts == {"method": method, "first_number": 101, "last_number": 107}
    assert output.warnings == ()


def test_units_say_what_the_numbers_are():
    def field(**values):
        described = DynamicImage(DynamicImageParams(**values)).fields[0]
        return described.units, described.channels

    assert field() == ("grey levels", "red green blue")
    assert field(method="exact") == ("1 / grey levels", "red green blue")
    assert field(input="grey") == ("grey levels", "grey")
    assert field(input="flow") == ("px", "u v")


@pytest.mark.parametrize(
    ("span", "expected"),
    [("onset-offset", range(2, 7)), ("onset-apex", range(2, 5)), ("all", range(9))],
)
def test_spans(make_clip, span, expected):
    clip, frames = make_clip(
        [TINY] * 9, onset=103, apex=105, offset=107, apex_source="annotated", seen=(0, 9)
    )
    stage = DynamicImage(DynamicImageParams(span=span))
    arrays, output = made(stage, clip, frames, aligned(9))
    np.testing.assert_array_equal(arrays["indices"], expected)
    np.testing.assert_array_equal(arrays["weights"], approximate_weights(len(expected)))
    assert output.facts["first_number"] == 101 + expected[0]
    assert ("apex_number" in output.facts) == (span == "onset-apex")


def test_indices_are_among_the_frames_seen(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=103, apex=105, offset=107)
    arrays, _ = made(DynamicImage(), clip, frames, aligned(5))
    np.testing.assert_array_equal(arrays["indices"], np.arange(5))


def test_grey_input_has_one_channel(make_clip):
    clip, frames = make_clip([TINY] * 4)
    grey = np.repeat(ramp(4)[..., :1], 3, axis=-1)
    stage = DynamicImage(DynamicImageParams(input="grey"))
    arrays, _ = made(stage, clip, frames, {"align": {"frames": grey}})
    assert arrays["dynamic_image"].shape == (16, 16, 1)
    np.testing.assert_allclose(
        arrays["dynamic_image"], pool(grey[..., :1], approximate_weights(4)), atol=1e-6
    )


def flow_inputs(count: int, pairs: list[tuple[int, int]]) -> dict:
    flow = np.zeros((len(pairs), 2, 16, 16), np.float32)
    flow[:, 0] = np.array([second - first for first, second in pairs])[:, None, None]
    flow[:, 1] = -0.5 * np.array([second for _, second in pairs])[:, None, None]
    return {**aligned(count), "flow": {"flow": flow, "pairs": np.array(pairs, np.int32)}}


def test_flow_is_pooled_in_the_order_of_its_second_frames(make_clip):
    clip, frames = make_clip([TINY] * 5)
    stage = DynamicImage(DynamicImageParams(input="flow", smoothing=False))
    assert stage.requires == ("align", "flow")
    arrays, _ = made(stage, clip, frames, flow_inputs(5, [(0, 1), (0, 2), (0, 3), (0, 4)]))
    image = arrays["dynamic_image"]
    assert image.shape == (16, 16, 2)
    # The mean over pairs of q - t of 4 steps is 5 / 3.
    np.testing.assert_allclose(image[0, 0], (5 / 3, -2.5 / 3), rtol=1e-6)
    np.testing.assert_array_equal(arrays["indices"], [1, 2, 3, 4])


def test_flow_from_before_the_span_is_left_out(make_clip):
    clip, frames = make_clip([TINY] * 6, onset=102, offset=105, seen=(0, 6))
    stage = DynamicImage(DynamicImageParams(input="flow"))
    pairs = [(index, index + 1) for index in range(5)]
    arrays, _ = made(stage, clip, frames, flow_inputs(6, pairs))
    np.testing.assert_array_equal(arrays["indices"], [2, 3, 4])


def test_a_single_flow_cannot_be_ranked(make_clip):
    clip, frames = make_clip([TINY] * 2)
    stage = DynamicImage(DynamicImageParams(input="flow"))
    with pytest.raises(MotionError, match="needs 2 flows, and there is 1"):
        stage.run(clip, frames, flow_inputs(2, [(0, 1)]))


def test_flow_must_follow_the_time():
    settings = {"dynamic-image": {"input": "flow"}}
    with pytest.raises(ConfigError, match="'onset-apex' has no order in time") as caught:
        build_stages(all_stages(), ("dynamic-image",), settings)
    assert "flow.pairs=consecutive" in str(caught.value)
    settings["flow"] = {"pairs": "consecutive"}
    _, stages = build_stages(all_stages(), ("dynamic-image",), settings)
    assert list(stages) == ["landmarks", "align", "flow", "dynamic-image"]


def test_frames_need_no_flow():
    _, stages = build_stages(all_stages(), ("dynamic-image",), {})
    assert list(stages) == ["landmarks", "align", "dynamic-image"]


@pytest.mark.parametrize("source", ["rgb", "flow"])
def test_an_apex_that_is_the_onset_gives_zero_and_is_said(make_clip, source):
    clip, frames = make_clip([TINY] * 3, onset=101, apex=101, apex_source="annotated")
    stage = DynamicImage(DynamicImageParams(span="onset-apex", input=source))
    arrays, output = made(stage, clip, frames, flow_inputs(3, [(0, 1), (1, 2)]))
    assert not arrays["dynamic_image"].any()
    np.testing.assert_array_equal(arrays["weights"], [0])
    np.testing.assert_array_equal(arrays["indices"], [0])
    assert output.warnings == ("The apex is the onset frame 101; nothing is pooled.",)


@pytest.mark.parametrize("method", ["approximate", "exact"])
def test_frames_that_do_not_change_give_zero_and_are_named(make_clip, method):
    clip, frames = make_clip([TINY] * 4)
    still = {"align": {"frames": np.repeat(ramp(1), 4, axis=0)}}
    arrays, output = made(DynamicImage(DynamicImageParams(method=method)), clip, frames, still)
    assert not arrays["dynamic_image"].any()
    assert output.warnings == ("There is no change at all between the frames pooled.",)


def test_what_cannot_be_pooled_is_refused(make_clip):
    clip, frames = make_clip([TINY] * 1)
    with pytest.raises(MotionError, match="needs 2 frames, and the clip has 1"):
        DynamicImage().run(clip, frames, aligned(1))
    params = DynamicImageParams(span="onset-apex")
    clip, frames = make_clip([TINY] * 9, onset=105, apex=102, apex_source="annotated", seen=(0, 9))
    with pytest.raises(ManifestError, match=r"apex 102 .* lies before its onset 105"):
        DynamicImage(params).run(clip, frames, aligned(9))
    clip, frames = make_clip([TINY] * 9, onset=101, apex=108, offset=105, apex_source="annotated")
    with pytest.raises(ManifestError, match="apex 108"):
        DynamicImage(params).run(clip, frames, aligned(5))


def test_too_many_frames_for_the_exact_method_name_the_clip(make_clip, monkeypatch):
    monkeypatch.setattr("mer_prep.ops.rank_pooling.MAX_EXACT_FRAMES", 3)
    clip, frames = make_clip([TINY] * 4)
    with pytest.raises(MotionError, match="3 frames at most") as caught:
        DynamicImage(DynamicImageParams(method="exact")).run(clip, frames, aligned(4))
    assert caught.value.where == clip.clip_id


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"method": "approx"}, "Did you mean 'approximate'"),
        ({"input": "gray"}, "Did you mean 'grey'"),
        ({"span": "onset"}, r"'dynamic-image\.span'"),
        ({"cost": 0.0}, r"'dynamic-image\.cost' is out of range"),
        ({"apex": "spoted"}, r"'dynamic-image\.apex'"),
    ],
)
def test_parameters_are_checked(values, match):
    with pytest.raises(ConfigError, match=match):
        DynamicImageParams(**values)
