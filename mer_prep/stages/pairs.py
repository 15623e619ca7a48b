"""Pairs of frames that are compared: which they are, for every stage that compares frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ManifestError, MotionError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import onset_index
from mer_prep.stages.base import Field

PAIRS = ("onset-apex", "lagged", "consecutive", "onset-to-all")
APEX_POLICIES = ("annotated-or-midpoint", "annotated", "midpoint")

#: The datasets that say which frames were compared.
PAIR_FIELDS = (
    Field(
        "pairs",
        "int32",
        "pair end",
        "frames",
        "first second",
        note="zero-based indices into the frames of the stage 'align'",
    ),
    Field("pair_numbers", "int64", "pair end", "frame numbers", "first second"),
)


@dataclass(frozen=True)
class ChosenPairs:
    """The pairs of a clip.

    Parameters
    ----------
    indices : ndarray, shape (P, 2), int32
        Zero-based indices, among the frames seen, of the first and second frame of every pair.
    numbers : ndarray, shape (P, 2), int64
        Their frame numbers.
    facts : dict
        Where the apex comes from, and its number, for pairs that need it.
    warnings : list of str
        What to say of them.
    """

    indices: np.ndarray
    numbers: np.ndarray
    facts: dict[str, str | int | float | bool]
    warnings: list[str]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The datasets of `PAIR_FIELDS`."""
        return {"pairs": self.indices, "pair_numbers": self.numbers}


def check_pair_params(stage: str, *, pairs: str, lag_divisor: int, apex: str) -> None:
    """Raise `ConfigError` if the parameters that choose pairs are not what they must be."""
    check_option(f"{stage}.pairs", pairs, PAIRS)
    check_range(f"{stage}.lag_divisor", lag_divisor, low=2)
    check_option(f"{stage}.apex", apex, APEX_POLICIES)


def choose_pairs(
    clip: Clip,
    frames: ClipFrames,
    count: int,
    *,
    pairs: str = "onset-apex",
    lag_divisor: int = 8,
    apex: str = "annotated-or-midpoint",
    stage: str = "flow",
) -> ChosenPairs:
    """Return the pairs of frames of a clip that are compared.

    Parameters
    ----------
    clip : Clip
        The clip.
    frames : ClipFrames
        The frames seen.
    count : int
        Number of aligned frames.
    pairs : {'onset-apex', 'lagged', 'consecutive', 'onset-to-all'}
        The onset and the apex; frames N // `lag_divisor` apart, see `lagged_pairs`; neighbours;
        or the onset and every other frame seen.
    lag_divisor : int
        Frames of a lagged sample.
    apex : {'annotated-or-midpoint', 'annotated', 'midpoint'}
        See `apex_index`.
    stage : str
        Name of the stage that asks, for the hint of an error.

    Raises
    ------
    MotionError
        If the clip is too short for the pairs.
    ManifestError
        If the apex is needed and missing, or lies outside the frames seen.
    """
    if count < 2:
        raise MotionError(
            f"{stage.capitalize()} needs 2 frames, and the clip has {count}.", where=clip.clip_id
        )
    facts: dict[str, str | int | float | bool] = {}
    warnings: list[str] = []
    if pairs == "consecutive":
        indices = consecutive_pairs(count)
    elif pairs == "lagged":
        try:
            indices = lagged_pairs(count, divisor=lag_divisor)
        except MotionError as error:
            raise MotionError(error.what, where=clip.clip_id, why=error.why) from None
    else:
        onset = onset_index(clip, frames)
        others = [index for index in range(count) if index != onset]
        if pairs == "onset-apex":
            peak, source = apex_index(clip, frames, policy=apex, stage=stage)
            others = [peak]
            facts = {"apex_source": source, "apex_number": int(frames.numbers[peak])}
            if peak == onset:
                warnings.append(
                    f"The apex is the onset frame {frames.numbers[onset]}; what lies between "
                    "them is zero."
                )
        indices = np.array([(onset, index) for index in others], np.int32)
    return ChosenPairs(indices, np.array(frames.numbers, np.int64)[indices], facts, warnings)


def consecutive_pairs(count: int) -> np.ndarray:
    """Return the pairs (t, t + 1) of a clip of `count` frames, shape (count - 1, 2), int32."""
    first = np.arange(count - 1, dtype=np.int32)
    return np.stack([first, first + 1], axis=1)


def lagged_pairs(count: int, *, divisor: int = 8) -> np.ndarray:
    """Return the pairs that the MOL recogniser samples from a clip.

    Parameters
    ----------
    count : int
        Number of frames N.
    divisor : int
        Frames of one sample, d.

    Returns
    -------
    ndarray, shape (s * (d - 1), 2), int32
        With the interval s = N // d, sample j = 0 ... s - 1 holds the frames i s + j for
        i = 0 ... d - 1, and its d - 1 pairs are neighbours among them. Samples come one after
        the other, so that rows j (d - 1) to (j + 1)(d - 1) - 1 belong to sample j.

    Raises
    ------
    MotionError
        If the clip has fewer frames than one sample.
    """
    if count < divisor:
        raise MotionError(
            f"The lagged flow needs {divisor} frames, and the clip has {count}.",
            why=f"one sample is {divisor} different frames",
        )
    interval = count // divisor
    frames = np.arange(divisor)[None, :] * interval + np.arange(interval)[:, None]
    pairs = np.stack([frames[:, :-1], frames[:, 1:]], axis=-1)
    return pairs.reshape(-1, 2).astype(np.int32)


def midpoint(first: int, stop: int) -> int:
    """Return the middle index of the frames `first` to `stop` - 1.

    Of N frames it is the one at position floor((N + 1) / 2), counted from one: the middle of an
    odd number, the earlier of the two middle ones of an even number.
    """
    return first + (stop - first + 1) // 2 - 1


def apex_index(
    clip: Clip,
    frames: ClipFrames,
    *,
    policy: str = "annotated-or-midpoint",
    stage: str = "flow",
) -> tuple[int, str]:
    """Return the zero-based index of the apex among the frames seen, and where it comes from.

    Parameters
    ----------
    clip : Clip
        The clip.
    frames : ClipFrames
        The frames seen.
    policy : {'annotated-or-midpoint', 'annotated', 'midpoint'}
        The manifest's where it has one, or else the middle frame from onset to offset; only an
        annotated one; or always the middle frame.
    stage : str
        Name of the stage that asks, for the hint of an error.

    Raises
    ------
    ManifestError
        If an annotated apex is demanded and there is none, or if the apex lies outside the
        frames seen.
    """
    annotated = clip.apex is not None and clip.apex_source == "annotated"
    if policy == "annotated" and not annotated:
        raise ManifestError(
            f"Clip {clip.clip_id} has no annotated apex.",
            where=clip.root,
            hint=f"use --set {stage}.apex=annotated-or-midpoint",
        )
    if policy == "midpoint" or clip.apex is None:
        first, stop = clip.expression_span()
        return midpoint(first, stop) - frames.start, "midpoint"
    index = clip.position(clip.apex) - frames.start
    if not 0 <= index < len(frames):
        raise ManifestError(
            f"The apex {clip.apex} of clip {clip.clip_id} lies outside its frames "
            f"{frames.numbers[0]} to {frames.numbers[-1]}.",
            where=clip.root,
            hint="check the annotation with `mer-prep validate`",
        )
    return index, str(clip.apex_source)
