from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, ManifestError, MotionError
from mer_prep.stages.pairs import check_pair_params, choose_pairs

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
    chosen = choose_pairs(clip, frames, 4, pairs=pairs, lag_divisor=2)
    np.testing.assert_array_equal(chosen.indices, expected)
    np.testing.assert_array_equal(chosen.numbers, np.array(expected) + 101)
    assert (chosen.indices.dtype, chosen.numbers.dtype) == (np.int32, np.int64)
    assert ("apex_source" in chosen.facts) == (pairs == "onset-apex")
    assert chosen.warnings == []


def test_an_apex_that_is_the_onset_is_said(make_clip):
    clip, frames = make_clip([TINY] * 3, onset=101, apex=101, apex_source="annotated")
    chosen = choose_pairs(clip, frames, 3)
    np.testing.assert_array_equal(chosen.indices, [(0, 0)])
    assert chosen.warnings == ["The apex is the onset frame 101; what lies between them is zero."]


def test_errors_name_the_stage_that_asks(make_clip):
    clip, frames = make_clip([TINY] * 3)
    with pytest.raises(MotionError, match="Difference needs 2 frames, and the clip has 1"):
        choose_pairs(clip, frames, 1, stage="difference")
    with pytest.raises(ManifestError, match=r"--set difference\.apex=annotated-or-midpoint"):
        choose_pairs(clip, frames, 3, apex="annotated", stage="difference")
    with pytest.raises(MotionError, match="needs 8 frames, and the clip has 3"):
        choose_pairs(clip, frames, 3, pairs="lagged")


def test_parameters_are_checked_in_the_name_of_the_stage():
    with pytest.raises(ConfigError, match=r"'difference\.pairs'"):
        check_pair_params("difference", pairs="first-last", lag_divisor=8, apex="annotated")
    with pytest.raises(ConfigError, match=r"'flow\.lag_divisor'"):
        check_pair_params("flow", pairs="lagged", lag_divisor=1, apex="annotated")
