from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops.apex import KeyFrames
from mer_prep.stages import all_stages
from mer_prep.stages.apex import Apex, ApexParams, annotation_errors, smoothing_frames
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, clip_keys
from tests.ops.test_expression_score import APEX, COUNT, FACE, SHAPE
from tests.ops.test_expression_score import clip as expression

TINY = np.zeros((4, 4, 3), np.uint8)


def aligned(frames: np.ndarray) -> dict:
    colour = np.repeat(frames[..., None], 3, axis=-1)
    landmarks = np.repeat(SHAPE[None], len(frames), axis=0)
    return {"align": {"frames": colour, "landmarks": landmarks}}


@pytest.mark.parametrize("method", ["flow", "frame-difference"])
def test_an_unannotated_clip(make_clip, method):
    clip, frames = make_clip([TINY] * COUNT, fps=100.0)
    inputs = aligned(expression(blink=4.0, flicker=0.02)[0])
    output = Apex(ApexParams(method=method)).run(clip, frames, inputs)
    assert {name: array.dtype.name for name, array in output.arrays.items()} == {
        field.name: field.dtype for field in Apex.fields
    }
    onset, apex, offset = output.arrays["key_frames"]
    assert abs(apex - APEX) <= 1
    assert onset <= 3
    assert offset >= COUNT - 4
    np.testing.assert_array_equal(
        output.arrays["key_frame_numbers"], output.arrays["key_frames"] + 101
    )
    assert output.arrays["score"].shape == (COUNT,)
    assert output.facts["spotted_apex"] == apex + 101
    assert output.facts["spotted_apex_index"] == apex
    assert output.facts["apex_source"] == "spotted"
    assert output.facts["method"] == method
    assert output.facts["confidence"] == pytest.approx(output.arrays["confidence"][0])
    assert output.facts["confidence"] > 0.6
    assert output.warnings == ()
    assert not [name for name in output.facts if name.endswith("_error")]


def test_divide_and_conquer_gives_frames_in_order(make_clip):
    clip, frames = make_clip([TINY] * COUNT)
    output = Apex(ApexParams(method="divide-and-conquer")).run(
        clip, frames, aligned(expression(amplitude=4.0)[0])
    )
    onset, apex, offset = output.arrays["key_frames"]
    assert 0 <= onset <= apex <= offset < COUNT
    assert abs(apex - APEX) <= 4


def test_an_annotated_clip_is_told_the_error(make_clip):
    clip, frames = make_clip(
        [TINY] * COUNT, onset=101, apex=105, offset=130, apex_source="annotated"
    )
    output = Apex().run(clip, frames, aligned(expression()[0]))
    apex = int(output.arrays["key_frames"][1])
    assert output.facts["apex_error"] == apex - 4
    assert output.facts["onset_error"] == output.arrays["key_frames"][0]


def test_errors_are_counted_in_frames_that_exist(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=102, apex=104, offset=110, apex_source="annotated")
    found = KeyFrames(onset=1, apex=3, offset=7, confidence=1.0)
    # The offset is not on disk; the apex is at index 2 of the frames from the onset on.
    assert annotation_errors(clip, frames, found) == {"onset_error": 1, "apex_error": 1}


def test_a_midpoint_in_the_manifest_is_no_annotation(make_clip):
    clip, frames = make_clip([TINY] * 9, apex=104, apex_source="midpoint")
    assert annotation_errors(clip, frames, KeyFrames(0, 1, 8, 1.0)) == {}


@pytest.mark.parametrize(
    ("count", "middle", "match"),
    [(1, 0, "only 1 frames"), (2, 0, "only 2 frames"), (7, 3, "Nothing moves")],
)
@pytest.mark.parametrize("method", ["flow", "divide-and-conquer", "frame-difference"])
def test_without_motion_the_midpoint_stands_in_and_is_said(make_clip, count, middle, match, method):
    clip, frames = make_clip([TINY] * count)
    output = Apex(ApexParams(method=method)).run(
        clip, frames, aligned(np.repeat(FACE[None], count, axis=0))
    )
    np.testing.assert_array_equal(output.arrays["key_frames"], (0, middle, count - 1))
    assert output.facts["apex_source"] == "midpoint"
    assert output.arrays["confidence"][0] == 0
    assert match in output.warnings[0]


def test_noise_alone_is_doubted(make_clip):
    clip, frames = make_clip([TINY] * COUNT)
    output = Apex().run(clip, frames, aligned(expression(amplitude=0, noise=1.5)[0]))
    assert output.facts["confidence"] < 0.6
    assert output.warnings[0].startswith("The apex hardly stands out of the noise")


@pytest.mark.parametrize(
    ("fps", "count", "expected"),
    [(100.0, 60, 1.0), (None, 60, 2.0), (200.0, 60, 2.0), (200, 8, 0.8)],
)
def test_smoothing_in_frames(fps, count, expected):
    assert smoothing_frames(0.01, fps, count) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"method": "flows"}, "Did you mean 'flow'"),
        ({"flow": "farnback"}, "Did you mean 'farneback'"),
        ({"engine": "gpu"}, "'apex.engine'"),
        ({"flow": "dis", "engine": "cpu"}, "'dis' has no engine 'cpu'"),
        ({"eye_radius": 0.6}, "'apex.eye_radius' is out of range"),
        ({"smoothing": -1.0}, "'apex.smoothing' is out of range"),
    ],
)
def test_parameters_are_checked(values, match):
    with pytest.raises(ConfigError, match=match):
        ApexParams(**values)


def test_the_engine_of_the_flow_is_part_of_the_key(monkeypatch):
    monkeypatch.setattr("mer_prep.stages.flow.kernel_version", lambda: 7)
    assert Apex(ApexParams(flow="tvl1", engine="cpu")).identity() == {
        "engine": "cpu",
        "cpu_engine": "7",
    }
    assert Apex().identity() == {"engine": "opencv"}
    assert Apex(ApexParams(method="frame-difference")).identity() == {}


def test_a_missing_engine_is_refused_before_any_clip(monkeypatch):
    monkeypatch.setattr("mer_prep.ops.tvl1._kernel", lambda: None)
    with pytest.raises(DependencyError, match="CPU engine of TV-L1 was not built"):
        Apex(ApexParams(flow="tvl1", engine="cpu")).check()


def keys_of(clip, settings) -> dict[str, str]:
    recipe = Recipe(*build_stages(all_stages(), ("flow",), settings))
    return clip_keys(clip, recipe, {name: recipe.facts(name) for name in recipe.stages})


def test_flow_rests_on_the_spotted_apex_only_where_it_uses_it(make_clip):
    clip, _ = make_clip([TINY] * 4)
    plain = keys_of(clip, {})
    assert list(plain) == ["landmarks", "align", "flow"]
    spotted = {"flow": {"apex": "annotated-or-spotted"}}
    first = keys_of(clip, spotted)
    assert list(first) == ["landmarks", "align", "apex", "flow"]
    other = keys_of(clip, {**spotted, "apex": {"eye_radius": 0.2}})
    assert first["align"] == plain["align"] == other["align"]
    assert len({plain["flow"], first["flow"], other["flow"]}) == 3


def test_settings_of_a_stage_that_is_not_used_are_refused():
    with pytest.raises(ConfigError, match="stage 'apex', which this run does not use"):
        build_stages(all_stages(), ("flow",), {"apex": {"eye_radius": 0.2}})
