from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, ManifestError
from mer_prep.stages.key_frames import apex_index, bound_index, key_frame_stages, onset_index

TINY = np.zeros((4, 4, 3), np.uint8)


def spotted(onset: int, apex: int, offset: int, *, confidence: float = 0.9) -> dict:
    return {
        "key_frames": np.array([onset, apex, offset], np.int32),
        "confidence": np.array([confidence], np.float32),
    }


@pytest.mark.parametrize(
    ("facts", "policy", "expected"),
    [
        ({"apex": 104, "apex_source": "annotated"}, "annotated-or-midpoint", (2, "annotated")),
        ({"apex": 104, "apex_source": "annotated"}, "annotated", (2, "annotated")),
        ({"apex": 104, "apex_source": "annotated"}, "midpoint", (3, "midpoint")),
        ({"apex": 103, "apex_source": "spotted"}, "annotated-or-midpoint", (1, "spotted")),
        ({}, "annotated-or-midpoint", (3, "midpoint")),
        ({"apex": 104, "apex_source": "annotated"}, "annotated-or-spotted", (2, "annotated")),
        ({"apex": 104, "apex_source": "annotated"}, "spotted", (5, "spotted")),
        ({}, "annotated-or-spotted", (5, "spotted")),
        ({}, "spotted", (5, "spotted")),
    ],
)
def test_apex_policies(make_clip, facts, policy, expected):
    clip, frames = make_clip([TINY] * 9, onset=102, offset=108, **facts)
    found = apex_index(clip, frames, policy=policy, spotted=spotted(1, 5, 6))
    assert found == expected


def test_the_midpoint_is_that_of_the_expression_when_all_frames_are_seen(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=104, offset=108, seen=(0, 9))
    assert apex_index(clip, frames) == (5, "midpoint")


@pytest.mark.parametrize("facts", [{}, {"apex": 103, "apex_source": "spotted"}])
def test_an_annotated_apex_may_be_demanded(make_clip, facts):
    clip, frames = make_clip([TINY] * 4, **facts)
    with pytest.raises(ManifestError, match="has no annotated apex"):
        apex_index(clip, frames, policy="annotated")


def test_an_apex_after_the_offset_is_refused(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=102, apex=108, offset=105, apex_source="annotated")
    with pytest.raises(ManifestError, match=r"apex 108 .* outside its frames 102 to 105"):
        apex_index(clip, frames)


def test_where_nothing_moved_the_midpoint_is_called_so(make_clip):
    clip, frames = make_clip([TINY] * 9)
    found = spotted(0, 4, 8, confidence=0)
    assert apex_index(clip, frames, policy="spotted", spotted=found) == (4, "midpoint")
    assert bound_index(clip, frames, "offset", policy="spotted", spotted=found) == (8, "end")


@pytest.mark.parametrize(
    ("facts", "which", "policy", "expected"),
    [
        ({"onset": 103, "offset": 107}, "onset", "annotated-or-end", (2, "annotated")),
        ({"onset": 103, "offset": 107}, "offset", "annotated-or-end", (6, "annotated")),
        ({"onset": 103, "offset": 107}, "offset", "annotated", (6, "annotated")),
        ({"onset": 103, "offset": 107}, "onset", "annotated-or-spotted", (2, "annotated")),
        ({"onset": 103, "offset": 107}, "onset", "spotted", (1, "spotted")),
        ({}, "onset", "annotated-or-end", (0, "end")),
        ({}, "offset", "annotated-or-end", (8, "end")),
        ({}, "onset", "annotated-or-spotted", (1, "spotted")),
        ({}, "offset", "annotated-or-spotted", (6, "spotted")),
    ],
)
def test_policies_of_onset_and_offset(make_clip, facts, which, policy, expected):
    clip, frames = make_clip([TINY] * 9, seen=(0, 9), **facts)
    found = bound_index(clip, frames, which, policy=policy, spotted=spotted(1, 5, 6))
    assert found == expected


@pytest.mark.parametrize("which", ["onset", "offset"])
def test_annotated_bounds_may_be_demanded(make_clip, which):
    clip, frames = make_clip([TINY] * 4)
    with pytest.raises(ManifestError, match=f"has no annotated {which}"):
        bound_index(clip, frames, which, policy="annotated")


def test_the_onset_counts_among_the_frames_seen(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=104, offset=108)
    assert onset_index(clip, frames) == 0
    clip, frames = make_clip([TINY] * 9, onset=104, offset=108, seen=(0, 9))
    assert onset_index(clip, frames) == 3


def test_an_onset_that_is_not_seen_is_refused(make_clip):
    clip, frames = make_clip([TINY] * 9, onset=102, seen=(4, 9))
    with pytest.raises(ManifestError, match=r"onset 102 .* outside its frames 105 to 109"):
        onset_index(clip, frames)


def test_spotted_key_frames_need_the_stage(make_clip):
    clip, frames = make_clip([TINY] * 4)
    with pytest.raises(ValueError, match="results of the stage 'apex'"):
        apex_index(clip, frames, policy="spotted")


@pytest.mark.parametrize("policy", ["annotate", "end"])
def test_an_unknown_policy_is_refused(make_clip, policy):
    clip, frames = make_clip([TINY] * 4)
    with pytest.raises(ConfigError, match="'policy'"):
        apex_index(clip, frames, policy=policy)


def test_only_policies_that_may_take_a_spotted_frame_need_the_stage():
    assert key_frame_stages("annotated", "annotated-or-midpoint", "midpoint") == ()
    assert key_frame_stages("annotated-or-end", "annotated-or-spotted") == ("apex",)
    assert key_frame_stages("spotted") == ("apex",)
