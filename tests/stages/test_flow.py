from __future__ import annotations

import cv2
import numpy as np
import pytest

from mer_prep.errors import ConfigError, DependencyError, MotionError
from mer_prep.ops.tvl1 import kernel_version
from mer_prep.ops.tvl1_torch import cuda_here
from mer_prep.stages.flow import Flow, FlowParams, check_finite
from mer_prep.stages.pairs import consecutive_pairs, lagged_pairs

TINY = np.zeros((4, 4, 3), np.uint8)


def texture(size: int = 64) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.repeat(np.rint(smooth * 255).astype(np.uint8)[..., None], 3, axis=2)


def aligned(shifts: list[int], *, axis: int = 1) -> dict:
    return {"align": {"frames": np.stack([np.roll(texture(), s, axis=axis) for s in shifts])}}


def test_onset_apex_flow(make_clip):
    clip, frames = make_clip([TINY] * 5, onset=101, apex=103, offset=105, apex_source="annotated")
    output = Flow().run(clip, frames, aligned([0, 5, 1, 5, 5]))
    flow = output.arrays["flow"]
    assert {name: array.dtype.name for name, array in output.arrays.items()} == {
        field.name: field.dtype for field in Flow.fields
    }
    assert flow.shape == (1, 2, 64, 64)
    middle = flow[0, :, 12:-12, 12:-12]
    np.testing.assert_allclose(middle.mean(axis=(1, 2)), (1, 0), atol=0.05)
    np.testing.assert_array_equal(output.arrays["pairs"], [(0, 2)])
    np.testing.assert_array_equal(output.arrays["pair_numbers"], [(101, 103)])
    assert output.facts["apex_source"] == "annotated"
    assert output.facts["apex_number"] == 103
    assert output.facts["method"] == "tvl1"
    assert output.facts["mean_magnitude_px"] == pytest.approx(
        float(np.hypot(flow[0, 0], flow[0, 1]).mean())
    )
    assert output.warnings == ()


def test_vertical_motion_is_in_the_second_channel(make_clip):
    clip, frames = make_clip([TINY] * 2)
    params = FlowParams(method="dis", pairs="consecutive")
    output = Flow(params).run(clip, frames, aligned([0, 1], axis=0))
    middle = output.arrays["flow"][0, :, 12:-12, 12:-12]
    np.testing.assert_allclose(middle.mean(axis=(1, 2)), (0, 1), atol=0.05)


def test_onset_to_all_when_all_frames_are_seen(make_clip):
    clip, frames = make_clip([TINY] * 4, onset=102, offset=104, seen=(0, 4))
    params = FlowParams(method="dis", pairs="onset-to-all")
    output = Flow(params).run(clip, frames, aligned([0, 1, 2, 3]))
    np.testing.assert_array_equal(output.arrays["pairs"], [(1, 0), (1, 2), (1, 3)])
    np.testing.assert_array_equal(
        output.arrays["pair_numbers"], [(102, 101), (102, 103), (102, 104)]
    )
    means = output.arrays["flow"][:, 0, 14:-14, 14:-14].mean(axis=(1, 2))
    np.testing.assert_allclose(means, (-1, 1, 2), atol=0.1)


def test_lagged_pairs_of_two_samples():
    expected = [(i * 2 + j, i * 2 + 2 + j) for j in (0, 1) for i in range(7)]
    np.testing.assert_array_equal(lagged_pairs(17), expected)


@pytest.mark.parametrize("count", [8, 9, 15, 16, 31, 100])
def test_lagged_pairs_stay_inside_and_are_one_interval_apart(count):
    pairs = lagged_pairs(count)
    interval = count // 8
    assert pairs.shape == (7 * interval, 2)
    assert (pairs[:, 1] - pairs[:, 0] == interval).all()
    assert sorted({*pairs.ravel().tolist()}) == list(range(8 * interval))


def test_a_clip_too_short_for_lagged_pairs(make_clip):
    clip, frames = make_clip([TINY] * 5)
    with pytest.raises(MotionError, match="needs 8 frames, and the clip has 5") as caught:
        Flow(FlowParams(pairs="lagged")).run(clip, frames, aligned([0, 1, 2, 3, 4]))
    assert caught.value.where == "test/s1/clip"


def test_one_frame_has_no_flow(make_clip):
    clip, frames = make_clip([TINY])
    with pytest.raises(MotionError, match="Flow needs 2 frames, and the clip has 1"):
        Flow().run(clip, frames, aligned([0]))


def test_consecutive_pairs():
    np.testing.assert_array_equal(consecutive_pairs(4), [(0, 1), (1, 2), (2, 3)])


SPOTTED = {
    "apex": {
        "key_frames": np.array([1, 2, 3], np.int32),
        "confidence": np.array([0.9], np.float32),
    }
}


def test_spotted_key_frames_are_used_and_said(make_clip):
    clip, frames = make_clip([TINY] * 5)
    params = FlowParams(method="dis", apex="spotted", onset="spotted")
    output = Flow(params).run(clip, frames, {**aligned([9, 0, 2, 0, 0]), **SPOTTED})
    np.testing.assert_array_equal(output.arrays["pair_numbers"], [(102, 103)])
    assert (output.facts["apex_source"], output.facts["onset_source"]) == ("spotted", "spotted")
    middle = output.arrays["flow"][0, :, 12:-12, 12:-12]
    np.testing.assert_allclose(middle.mean(axis=(1, 2)), (2, 0), atol=0.1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("align",)),
        ({"apex": "annotated-or-spotted"}, ("align", "apex")),
        ({"onset": "spotted"}, ("align", "apex")),
        ({"onset": "spotted", "apex": "spotted"}, ("align", "apex")),
        ({"pairs": "onset-to-all", "apex": "spotted"}, ("align",)),
        ({"pairs": "onset-to-all", "onset": "annotated-or-spotted"}, ("align", "apex")),
        ({"pairs": "consecutive", "apex": "spotted"}, ("align",)),
    ],
)
def test_the_stage_apex_is_required_only_where_it_is_used(values, expected):
    assert Flow(FlowParams(**values)).requires == expected


def test_an_apex_that_is_the_onset_gives_zero_and_is_said(make_clip):
    clip, frames = make_clip([TINY] * 3, onset=101, apex=101, apex_source="annotated")
    output = Flow().run(clip, frames, aligned([0, 1, 2]))
    assert (output.arrays["flow"] == 0).all()
    assert output.warnings[0].startswith("The apex is the onset frame 101")
    assert output.warnings[1] == "There is no motion at all between the frames compared."


def test_half_precision_is_a_choice(make_clip):
    clip, frames = make_clip([TINY] * 2)
    params = FlowParams(method="dis", pairs="consecutive", dtype="float16")
    assert Flow(params).run(clip, frames, aligned([0, 1])).arrays["flow"].dtype == np.float16


def test_flow_that_is_not_finite_is_refused(monkeypatch, make_clip):
    def broken(firsts, seconds, *, method, engine):
        flows = np.zeros((len(firsts), 2, *firsts[0].shape), np.float32)
        flows[0, 1, 3, 5:7] = np.nan, np.inf
        return flows

    monkeypatch.setattr("mer_prep.stages.flow.optical_flows", broken)
    clip, frames = make_clip([TINY] * 2)
    with pytest.raises(MotionError, match=r"2 values.*v of pair 0 \(.*\) at x = 5, y = 3"):
        Flow(FlowParams(pairs="consecutive")).run(clip, frames, aligned([0, 1]))


def test_finite_flow_passes():
    check_finite(np.zeros((1, 2, 3, 3)), np.array([(0, 1)]), where="clip")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"method": "tvl"}, "Did you mean 'tvl1'"),
        ({"engine": "gpu"}, "'flow.engine'"),
        ({"method": "dis", "engine": "cpu"}, "'dis' has no engine 'cpu'"),
        ({"pairs": "onset"}, "'flow.pairs'"),
        ({"apex": "annotate"}, "Did you mean 'annotated'"),
        ({"onset": "midpoint"}, "'flow.onset'"),
        ({"dtype": "uint8"}, "'flow.dtype'"),
        ({"lag_divisor": 1}, "'flow.lag_divisor' is out of range"),
    ],
)
def test_parameters_are_checked(values, match):
    with pytest.raises(ConfigError, match=match):
        FlowParams(**values)


def without_the_cpu_engine(monkeypatch):
    monkeypatch.setattr("mer_prep.ops.tvl1._kernel", lambda: None)


def test_auto_becomes_the_engine_that_is_here():
    expected = "opencv" if kernel_version() is None else "cpu"
    expected = "cuda" if cuda_here() else expected
    assert Flow().params.engine == expected
    assert Flow().identity()["engine"] == expected
    assert Flow(FlowParams(method="dis")).identity() == {"engine": "opencv"}


def test_auto_becomes_opencv_where_the_cpu_engine_is_missing(monkeypatch, make_clip):
    without_the_cpu_engine(monkeypatch)
    stage = Flow()
    stage.check()
    assert stage.params.engine == "opencv"
    assert stage.identity() == {"engine": "opencv"}
    clip, frames = make_clip([TINY] * 2)
    stage = Flow(FlowParams(pairs="consecutive"))
    assert stage.run(clip, frames, aligned([0, 1])).facts["engine"] == "opencv"


def test_the_version_of_the_cpu_engine_is_part_of_the_key(monkeypatch):
    monkeypatch.setattr("mer_prep.stages.flow.kernel_version", lambda: 7)
    assert Flow(FlowParams(engine="cpu")).identity() == {"engine": "cpu", "cpu_engine": "7"}


def test_a_missing_cpu_engine_asked_for_by_name_is_refused(monkeypatch):
    without_the_cpu_engine(monkeypatch)
    stage = Flow(FlowParams(engine="cpu"))
    assert stage.identity() == {"engine": "cpu", "cpu_engine": "missing"}
    with pytest.raises(DependencyError, match="CPU engine of TV-L1 was not built"):
        stage.check()


def test_an_engine_asked_for_by_name_has_the_key_of_auto():
    auto = Flow()
    named = Flow(FlowParams(engine=auto.params.engine))
    assert named.params == auto.params
    assert named.identity() == auto.identity()
