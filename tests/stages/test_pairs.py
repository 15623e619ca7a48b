from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, ManifestError, MotionError
from mer_prep.stages.difference import DifferenceParams
from mer_prep.stages.flow import FlowParams
from mer_prep.stages.pairs import choose_pairs, pair_stages

TINY = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("onset-apex", [(0, 2)]),
        ("consecutive", [(0, 1), (1, 2), (2, 3)]),
        ("onset-to-all", [(0, 1), (0, 2), (0, 3)]),
        ("lagged", [(0, 2), (1, 3)]),
    ],
)
def test_every_way_to_choose_pairs(make_clip, pairs, expected):
    clip, frames = make_clip([TINY] * 4, onset=101, apex=103, apex_source="annotated")
    chosen = choose_pairs(clip, frames, 4, FlowParams(pairs=pairs, lag_divisor=2))
    np.testing.assert_array_equal(chosen.indices, expected)
    np.testing.assert_array_equal(chosen.numbers, np.array(expected) + 101)
    assert (chosen.indices.dtype, chosen.numbers.dtype) == (np.int32, np.int64)
    assert ("apex_source" in chosen.facts) == (pairs == "onset-apex")
    assert chosen.warnings == []


def test_an_apex_that_is_the_onset_is_said(make_clip):
    clip, frames = make_clip([TINY] * 3, onset=101, apex=101, apex_source="annotated")
    chosen = choose_pairs(clip, frames, 3, FlowParams())
    np.testing.assert_array_equal(chosen.indices, [(0, 0)])
    assert chosen.warnings == ["The apex is the onset frame 101; what lies between them is zero."]


def test_errors_name_the_stage_that_asks(make_clip):
    clip, frames = make_clip([TINY] * 3)
    with pytest.raises(MotionError, match="Difference needs 2 frames, and the clip has 1"):
        choose_pairs(clip, frames, 1, FlowParams(), stage="difference")
    with pytest.raises(ManifestError, match=r"--set difference\.apex=annotated-or-midpoint"):
        choose_pairs(clip, frames, 3, FlowParams(apex="annotated"), stage="difference")
    with pytest.raises(MotionError, match="needs 8 frames, and the clip has 3"):
        choose_pairs(clip, frames, 3, FlowParams(pairs="lagged"))


def test_parameters_are_checked_in_the_name_of_the_stage():
    with pytest.raises(ConfigError, match=r"'difference\.pairs'"):
        DifferenceParams(pairs="first-last")
    with pytest.raises(ConfigError, match=r"'flow\.lag_divisor'"):
        FlowParams(pairs="lagged", lag_divisor=1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ()),
        ({"apex": "spotted"}, ("apex",)),
        ({"onset": "annotated-or-spotted"}, ("apex",)),
        ({"pairs": "onset-to-all", "apex": "spotted"}, ()),
        ({"pairs": "onset-to-all", "onset": "spotted"}, ("apex",)),
        ({"pairs": "lagged", "onset": "spotted", "apex": "spotted"}, ()),
    ],
)
def test_the_stage_apex_is_needed_where_a_key_frame_may_be_spotted(values, expected):
    assert pair_stages(FlowParams(**values)) == expected


def test_spotted_key_frames_are_taken(make_clip):
    clip, frames = make_clip([TINY] * 6)
    spotted = {"key_frames": np.array([1, 4, 5]), "confidence": np.array([0.9])}
    chosen = choose_pairs(
        clip, frames, 6, FlowParams(onset="spotted", apex="spotted"), spotted=spotted
    )
    np.testing.assert_array_equal(chosen.indices, [(1, 4)])
    assert chosen.facts["onset_source"] == chosen.facts["apex_source"] == "spotted"
