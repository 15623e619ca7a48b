"""Pairs of frames that are compared: which they are, for every stage that compares frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Field
from mer_prep.stages.key_frames import (
    APEX_POLICIES,
    BOUND_POLICIES,
    apex_index,
    bound_index,
    key_frame_stages,
)

PAIRS = ("onset-apex", "lagged", "consecutive", "onset-to-all")

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


class PairParams(Protocol):
    """The parameters that choose pairs, as every stage that compares frames has them.

    Parameters
    ----------
    pairs : {'onset-apex', 'lagged', 'consecutive', 'onset-to-all'}
        The onset and the apex; frames N // `lag_divisor` apart, see `lagged_pairs`; neighbours;
        or the onset and every other frame seen.
    lag_divisor : int
        Frames of a lagged sample.
    apex, onset : str
        Which frames they are; see `mer_prep.stages.key_frames`.
    """

    @property
    def pairs(self) -> str: ...  # noqa: D102
    @property
    def lag_divisor(self) -> int: ...  # noqa: D102
    @property
    def apex(self) -> str: ...  # noqa: D102
    @property
    def onset(self) -> str: ...  # noqa: D102


def check_pair_params(stage: str, params: PairParams) -> None:
    """Raise `ConfigError` if the parameters that choose pairs are not what they must be."""
    check_option(f"{stage}.pairs", params.pairs, PAIRS)
    check_range(f"{stage}.lag_divisor", params.lag_divisor, low=2, high=10**6)
    check_option(f"{stage}.apex", params.apex, APEX_POLICIES)
    check_option(f"{stage}.onset", params.onset, BOUND_POLICIES)


def pair_stages(params: PairParams) -> tuple[str, ...]:
    """Return the stages that the pairs need: ``apex`` where a key frame may be a spotted one."""
    needed = {"onset-apex": (params.onset, params.apex), "onset-to-all": (params.onset,)}
    return key_frame_stages(*needed.get(params.pairs, ()))


def choose_pairs(
    clip: Clip,
    frames: ClipFrames,
    count: int,
    params: PairParams,
    *,
    spotted: Mapping[str, Any] | None = None,
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
    params : PairParams
        Which pairs.
    spotted : mapping, optional
        What the stage ``apex`` gave, where `pair_stages` names it.
    stage : str
        Name of the stage that asks, for the hint of an error.

    Raises
    ------
    MotionError
        If the clip is too short for the pairs.
    ManifestError
        If a key frame is needed and missing, or lies outside the frames seen.
    """
    if count < 2:
        raise MotionError(
            f"{stage.capitalize()} needs 2 frames, and the clip has {count}.",
            where=clip.clip_id,
            hint="check onset and offset, or see the whole recording with --set source.frames=all",
        )
    facts: dict[str, str | int | float | bool] = {}
    warnings: list[str] = []
    if params.pairs == "consecutive":
        indices = consecutive_pairs(count)
    elif params.pairs == "lagged":
        try:
            indices = lagged_pairs(count, divisor=params.lag_divisor)
        except MotionError as error:
            raise MotionError(
                error.what, where=clip.clip_id, why=error.why, hint=error.hint
            ) from None
    else:
        onset, source = bound_index(
            clip, frames, "onset", policy=params.onset, spotted=spotted, stage=stage
        )
        facts = {"onset_source": source, "onset_number": int(frames.numbers[onset])}
        others = [index for index in range(count) if index != onset]
        if params.pairs == "onset-apex":
            peak, source = apex_index(
                clip, frames, policy=params.apex, spotted=spotted, stage=stage
            )
            others = [peak]
            facts |= {"apex_source": source, "apex_number": int(frames.numbers[peak])}
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
            hint="set a smaller lag_divisor, or see the whole recording with --set "
            "source.frames=all",
        )
    interval = count // divisor
    frames = np.arange(divisor)[None, :] * interval + np.arange(interval)[:, None]
    pairs = np.stack([frames[:, :-1], frames[:, 1:]], axis=-1)
    return pairs.reshape(-1, 2).astype(np.int32)
