from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, MotionError
from mer_prep.stages.tim import Tim, TimParams

TINY = np.zeros((4, 4, 3), np.uint8)


def aligned(count: int) -> dict:
    rng = np.random.default_rng(count)
    return {
        "align": {
            "frames": rng.integers(0, 256, (count, 8, 8, 3), np.uint8),
            "landmarks": np.arange(count)[:, None, None] + np.zeros((1, 68, 2), np.float32),
        }
    }


def test_the_usual_ten_frames(make_clip):
    clip, frames = make_clip([TINY] * 19, onset=101, offset=119)
    inputs = aligned(19)
    output = Tim().run(clip, frames, inputs)
    assert {name: array.dtype.name for name, array in output.arrays.items()} == {
        field.name: field.dtype for field in Tim.fields
    }
    assert output.arrays["frames"].shape == (10, 8, 8, 3)
    np.testing.assert_array_equal(output.arrays["positions"], np.arange(0, 19, 2))
    np.testing.assert_array_equal(output.arrays["frames"], inputs["align"]["frames"][::2])
    np.testing.assert_allclose(output.arrays["landmarks"][:, 5, 1], np.arange(0, 19, 2))
    assert output.facts["source_frames"] == 19


def test_only_the_expression_of_a_whole_recording(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=103, offset=107, seen=(1, 9))
    inputs = aligned(8)
    output = Tim(TimParams(length=5)).run(clip, frames, inputs)
    np.testing.assert_array_equal(output.arrays["positions"], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(output.arrays["frames"], inputs["align"]["frames"][1:6])
    assert (output.facts["first_number"], output.facts["last_number"]) == (103, 107)
    whole = Tim(TimParams(length=8, span="all")).run(clip, frames, inputs)
    np.testing.assert_array_equal(whole.arrays["frames"], inputs["align"]["frames"])


def test_one_frame_is_too_few(make_clip):
    clip, frames = make_clip([TINY] * 3, onset=102, offset=102)
    with pytest.raises(MotionError, match="needs 2 frames, and the clip has 1"):
        Tim().run(clip, frames, aligned(1))


@pytest.mark.parametrize("wrong", [{"length": 1}, {"method": "cubic"}, {"span": "onset"}])
def test_wrong_parameters(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TimParams(**wrong)
