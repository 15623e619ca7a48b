from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mer_prep.errors import ConfigError, ManifestError, MotionError
from mer_prep.ops.magnify import magnify
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.stages.magnify import Magnify, MagnifyParams
from mer_prep.stages.plan import Recipe, clip_keys

TINY = np.zeros((4, 4, 3), np.uint8)


def aligned(count: int) -> dict:
    rng = np.random.default_rng(count)
    return {"align": {"frames": rng.integers(0, 256, (count, 24, 24, 3), np.uint8)}}


def test_motion_is_measured_from_the_onset(make_clip):
    clip, frames = make_clip([TINY] * 5, onset=102, offset=105, seen=(0, 5))
    inputs = aligned(5)
    output = Magnify().run(clip, frames, inputs)
    made = output.arrays["frames"]
    assert (made.dtype, made.shape) == (np.uint8, (5, 24, 24, 3))
    np.testing.assert_array_equal(made[1], inputs["align"]["frames"][1])
    assert (made[0] != inputs["align"]["frames"][0]).any()
    assert output.facts == {"method": "phase", "factor": 5.0, "reference_frame": 102}


@pytest.mark.parametrize("method", ["phase", "linear"])
def test_a_clip_in_which_nothing_moves_is_said(make_clip, method):
    stage = Magnify(MagnifyParams(method=method))
    for count, why in ((1, "The clip has one frame"), (4, "All 4 frames are the same")):
        clip, frames = make_clip([TINY] * count)
        still = np.repeat(aligned(1)["align"]["frames"], count, axis=0)
        output = stage.run(clip, frames, {"align": {"frames": still}})
        assert output.warnings == (f"{why}: there is no motion to magnify.",)
        assert output.facts["still"] is True
        np.testing.assert_array_equal(output.arrays["frames"], still)
    clip, frames = make_clip([TINY] * 4)
    still[3, 5, 5, 1] ^= 1
    output = stage.run(clip, frames, {"align": {"frames": still}})
    assert output.warnings == ()
    assert "still" not in output.facts


def test_a_band_uses_the_frame_rate_of_the_clip(make_clip):
    clip, frames = make_clip([TINY] * 8, fps=100.0)
    inputs = aligned(8)
    params = MagnifyParams(method="linear", low_hz=10, high_hz=30)
    made = Magnify(params).run(clip, frames, inputs).arrays["frames"]
    expected = magnify(
        inputs["align"]["frames"], method="linear", amplification=4, fps=100, band=(10, 30)
    )
    np.testing.assert_array_equal(made, expected)


def test_a_band_without_a_frame_rate(make_clip):
    clip, frames = make_clip([TINY] * 8)
    with pytest.raises(ManifestError, match="frames per second") as caught:
        Magnify(MagnifyParams(low_hz=1, high_hz=5)).run(clip, frames, aligned(8))
    assert "magnify.low_hz" in caught.value.hint


def test_a_clip_too_short_for_the_band_is_named(make_clip):
    clip, frames = make_clip([TINY] * 3, fps=200.0)
    with pytest.raises(MotionError, match="holds no frequency") as caught:
        Magnify(MagnifyParams(low_hz=1, high_hz=5)).run(clip, frames, aligned(3))
    assert caught.value.where == "test/s1/clip"


@pytest.mark.parametrize(
    "wrong",
    [
        {"low_hz": 1.0},
        {"low_hz": 5.0, "high_hz": 5.0},
        {"amplification": -1.0},
        {"directions": 1},
        {"smoothing": -1.0},
        {"method": "motion"},
    ],
)
def test_wrong_parameters(wrong):
    with pytest.raises(ConfigError, match=r"magnify|band"):
        MagnifyParams(**wrong)


def test_another_frame_rate_is_another_result(make_clip):
    clip, _ = make_clip([TINY] * 3, fps=100.0)
    source, stages = build_stages(all_stages(), ("magnify",), {})
    recipe = Recipe(source, stages)
    facts = {name: recipe.facts(name) for name in stages}
    before = clip_keys(clip, recipe, facts)
    after = clip_keys(dataclasses.replace(clip, fps=200.0), recipe, facts)
    assert {name for name in stages if before[name] != after[name]} == {"magnify"}
