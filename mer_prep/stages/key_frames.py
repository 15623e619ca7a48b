"""Which frames count as onset, apex and offset: the policies that stages choose among."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import ManifestError, NotAnnotatedError
from mer_prep.manifest import Clip
from mer_prep.ops.apex import midpoint
from mer_prep.sources.frames import ClipFrames

#: Where the apex comes from; those of `SPOTTED_POLICIES` need the stage ``apex``.
APEX_POLICIES = (
    "annotated-or-midpoint",
    "annotated-or-spotted",
    "annotated",
    "spotted",
    "midpoint",
)

#: Where onset and offset come from; the ends are the first and the last frame of the clip.
BOUND_POLICIES = ("annotated-or-end", "annotated-or-spotted", "annotated", "spotted")

SPOTTED_POLICIES = frozenset({"annotated-or-spotted", "spotted"})

#: Key frames in the order in which the stage ``apex`` gives them.
KEY_FRAMES = ("onset", "apex", "offset")


def key_frame_stages(*policies: str) -> tuple[str, ...]:
    """Return the stages that policies need: ``apex`` where a key frame may be a spotted one."""
    return ("apex",) if SPOTTED_POLICIES.intersection(policies) else ()


def onset_index(
    clip: Clip,
    frames: ClipFrames,
    *,
    policy: str = "annotated-or-end",
    spotted: Mapping[str, Any] | None = None,
    stage: str = "flow",
) -> int:
    """Return the zero-based index of the onset among the frames seen.

    Parameters
    ----------
    clip : Clip
        The clip.
    frames : ClipFrames
        The frames seen.
    policy : {'annotated-or-end', 'annotated-or-spotted', 'annotated', 'spotted'}
        Where it comes from. The end that stands for a missing onset is the first frame of the
        clip; see `bound_index` for the rest.
    spotted : mapping of str to ndarray, optional
        What the stage ``apex`` gave; needed by the policies of `SPOTTED_POLICIES`.
    stage : str
        Name of the stage that asks, for the hint of an error.

    Raises
    ------
    NotAnnotatedError
        If an annotated onset is demanded and there is none.
    """
    return bound_index(clip, frames, "onset", policy=policy, spotted=spotted, stage=stage)[0]


def bound_index(
    clip: Clip,
    frames: ClipFrames,
    which: str,
    *,
    policy: str = "annotated-or-end",
    spotted: Mapping[str, Any] | None = None,
    stage: str = "flow",
) -> tuple[int, str]:
    """Return the zero-based index of the onset or offset among the frames seen, and its source.

    Parameters
    ----------
    clip, frames, policy, spotted, stage
        As in `onset_index`.
    which : {'onset', 'offset'}
        The key frame.

    Returns
    -------
    index : int
        Index among the frames seen. For an annotated offset that is not on disk, that of the last
        frame before it.
    source : {'annotated', 'spotted', 'end'}
        Where it comes from; 'end' also where the stage ``apex`` saw nothing move.

    Raises
    ------
    NotAnnotatedError
        If an annotated key frame is demanded and there is none.
    ManifestError
        If it lies outside of the frames seen.
    """
    check_option("policy", policy, BOUND_POLICIES)
    annotated = clip.onset if which == "onset" else clip.offset
    if policy == "annotated" and annotated is None:
        raise _not_annotated(clip, which, "annotated-or-spotted", stage)
    if policy == "spotted" or (policy == "annotated-or-spotted" and annotated is None):
        index, found = spotted_index(spotted, which)
        return index, "spotted" if found else "end"
    if which == "onset":
        index = 0 if annotated is None else clip.position(annotated) - frames.start
    else:
        index = clip.expression_span()[1] - 1 - frames.start
    _check_seen(clip, frames, which, index)
    return index, "end" if annotated is None else "annotated"


def apex_index(
    clip: Clip,
    frames: ClipFrames,
    *,
    policy: str = "annotated-or-midpoint",
    spotted: Mapping[str, Any] | None = None,
    stage: str = "flow",
) -> tuple[int, str]:
    """Return the zero-based index of the apex among the frames seen, and where it comes from.

    Parameters
    ----------
    clip : Clip
        The clip.
    frames : ClipFrames
        The frames seen.
    policy : {'annotated-or-midpoint', 'annotated-or-spotted', 'annotated', 'spotted', 'midpoint'}
        Where it comes from. The first two take whatever apex the manifest has, and the midpoint
        of onset and offset or the one that the stage ``apex`` found where it has none;
        `annotated` takes an annotated one only, `spotted` and `midpoint` never do.
    spotted : mapping of str to ndarray, optional
        What the stage ``apex`` gave; needed by the policies of `SPOTTED_POLICIES`.
    stage : str
        Name of the stage that asks, for the hint of an error.

    Returns
    -------
    index : int
        Index among the frames seen.
    source : {'annotated', 'spotted', 'midpoint'}
        Where it comes from; 'midpoint' also where the stage ``apex`` saw nothing move.

    Raises
    ------
    NotAnnotatedError
        If an annotated apex is demanded and there is none.
    ManifestError
        If the apex lies outside the frames seen.
    """
    check_option("policy", policy, APEX_POLICIES)
    annotated = clip.apex is not None and clip.apex_source == "annotated"
    if policy == "annotated" and not annotated:
        raise _not_annotated(clip, "apex", "annotated-or-midpoint", stage)
    if policy == "spotted" or (policy == "annotated-or-spotted" and clip.apex is None):
        index, found = spotted_index(spotted, "apex")
        return index, "spotted" if found else "midpoint"
    if policy == "midpoint" or clip.apex is None:
        first, stop = clip.expression_span()
        return midpoint(first, stop) - frames.start, "midpoint"
    index = clip.position(clip.apex) - frames.start
    _check_seen(clip, frames, "apex", index)
    return index, str(clip.apex_source)


def spotted_index(spotted: Mapping[str, Any] | None, which: str) -> tuple[int, bool]:
    """Return the index of a key frame that the stage ``apex`` gave, and whether it was found.

    Raises
    ------
    ValueError
        If the results of that stage are missing.
    """
    if spotted is None:
        raise ValueError(f"a spotted {which} needs the results of the stage 'apex'")
    index = int(np.asarray(spotted["key_frames"])[KEY_FRAMES.index(which)])
    return index, float(np.asarray(spotted["confidence"])[0]) > 0


def _not_annotated(clip: Clip, which: str, other: str, stage: str) -> NotAnnotatedError:
    return NotAnnotatedError(
        f"Clip {clip.clip_id} has no annotated {which}.",
        where=clip.root,
        hint=f"use the policy {other}, e.g. --set {stage}.{which}={other}",
    )


def _check_seen(clip: Clip, frames: ClipFrames, which: str, index: int) -> None:
    if not 0 <= index < len(frames):
        raise ManifestError(
            f"The {which} {getattr(clip, which)} of clip {clip.clip_id} lies outside its frames "
            f"{frames.numbers[0]} to {frames.numbers[-1]}.",
            where=clip.root,
            hint="check the annotation with `mer-prep validate`",
        )
