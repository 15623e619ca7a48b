"""Stage ``flow``: optical flow between aligned frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.flow import METHODS, flow_engine, optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.tvl1 import ENGINES, check_engine, kernel_version
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.stages.key_frames import (
    APEX_POLICIES,
    BOUND_POLICIES,
    apex_index,
    bound_index,
    key_frame_stages,
)

PAIRS = ("onset-apex", "lagged", "consecutive", "onset-to-all")


@dataclass(frozen=True)
class FlowParams:
    """Parameters of the stage ``flow``.

    Parameters
    ----------
    method : {'tvl1', 'farneback', 'dis'}
        Method of optical flow, at its own defaults (see `mer_prep.ops.flow`).
    engine : {'auto', 'cpu', 'opencv'}
        Implementation of the method. `cpu` is our own of TV-L1, some 20 times faster than
        OpenCV's; `auto` takes it if it was built on this machine, and OpenCV's otherwise.
    pairs : {'onset-apex', 'lagged', 'consecutive', 'onset-to-all'}
        Which frames are compared: the onset and the apex; frames N // `lag_divisor` apart, as
        MOL samples them; neighbours; or the onset and every other frame seen.
    lag_divisor : int
        Frames of a lagged sample, 2 or more; 8 for MOL.
    apex : {'annotated-or-midpoint', 'annotated-or-spotted', 'annotated', 'spotted', 'midpoint'}
        Which frame is the apex: the manifest's where it has one, and else the middle frame from
        onset to offset or the one that the stage ``apex`` finds; only an annotated one; or
        always the spotted one or the middle.
    onset : {'annotated-or-end', 'annotated-or-spotted', 'annotated', 'spotted'}
        Which frame is the onset: the manifest's where it has one, and else the first frame or the
        one that the stage ``apex`` finds; only an annotated one; or always the spotted one.
    dtype : {'float32', 'float16'}
        How the flow is stored.
    """

    method: str = "tvl1"
    engine: str = "auto"
    pairs: str = "onset-apex"
    lag_divisor: int = 8
    apex: str = "annotated-or-midpoint"
    onset: str = "annotated-or-end"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_option("flow.method", self.method, METHODS)
        check_option("flow.engine", self.engine, ENGINES)
        if self.engine != "auto":
            flow_engine(self.method, self.engine)
        check_option("flow.pairs", self.pairs, PAIRS)
        check_range("flow.lag_divisor", self.lag_divisor, low=2)
        check_option("flow.apex", self.apex, APEX_POLICIES)
        check_option("flow.onset", self.onset, BOUND_POLICIES)
        check_option("flow.dtype", self.dtype, ("float32", "float16"))


class Flow(Stage):
    """Optical flow between pairs of aligned frames."""

    name = "flow"
    version = 2
    requires = ("align",)
    key_frames = ("onset", "apex", "offset")
    libraries = ("opencv",)
    fields = (
        Field(
            "flow",
            "float32",
            "pair channel y x",
            "px",
            "u v",
            note="pixel (x, y) of the first frame moves to (x + u, y + v) in the second; float16 "
            "if flow.dtype says so",
        ),
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
    Params: ClassVar[type] = FlowParams

    def __init__(self, params: FlowParams | None = None) -> None:
        super().__init__(params)
        # Resolved once, here: every worker of a run must use the engine that the keys name.
        engine = flow_engine(self.params.method, self.params.engine)
        self.params = replace(self.params, engine=engine)

    def identity(self) -> dict[str, str]:
        """Return the engine, and the version of our own; engines never share a shard."""
        return engine_identity(self.params.engine)

    def requirements(self) -> tuple[str, ...]:
        """Return the stages needed: ``apex`` too where a key frame may be a spotted one."""
        if self.params.pairs == "onset-apex":
            return (*self.requires, *key_frame_stages(self.params.onset, self.params.apex))
        if self.params.pairs == "onset-to-all":
            return (*self.requires, *key_frame_stages(self.params.onset))
        return self.requires

    def check(self) -> None:
        """Raise `DependencyError` if the engine of TV-L1 asked for does not work here."""
        if self.params.method == "tvl1":
            check_engine(self.params.engine)

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the flow of every pair, and which frames the pairs are.

        Raises
        ------
        MotionError
            If the clip is too short for the pairs, or the flow is not finite.
        ManifestError
            If the apex is needed and missing, or lies outside the frames seen.
        """
        aligned = inputs["align"]["frames"]
        if len(aligned) < 2:
            raise MotionError(
                f"Flow needs 2 frames, and the clip has {len(aligned)}.", where=clip.clip_id
            )
        spotted = inputs.get("apex")
        pairs, facts, warnings = self._pairs(clip, frames, len(aligned), spotted)
        grey = {int(index): to_grey(np.asarray(aligned[index])) for index in np.unique(pairs)}
        flow = np.empty((len(pairs), 2, *aligned.shape[1:3]), self.params.dtype)
        for row, (first, second) in enumerate(pairs):
            with np.errstate(over="ignore"):
                flow[row] = optical_flow(
                    grey[int(first)],
                    grey[int(second)],
                    method=self.params.method,
                    engine=self.params.engine,
                )
        check_finite(flow, pairs, where=clip.clip_id)
        magnitude = float(np.hypot(*np.moveaxis(flow.astype(np.float32), 1, 0)).mean())
        if magnitude == 0:
            warnings.append("There is no motion at all between the frames compared.")
        return StageOutput(
            arrays={
                "flow": flow,
                "pairs": pairs,
                "pair_numbers": np.array(frames.numbers, np.int64)[pairs],
            },
            facts={
                "method": self.params.method,
                "engine": self.params.engine,
                "mean_magnitude_px": magnitude,
                **facts,
            },
            warnings=tuple(warnings),
        )

    def _pairs(
        self, clip: Clip, frames: ClipFrames, count: int, spotted: Arrays | None
    ) -> tuple[np.ndarray, dict[str, str | int | float | bool], list[str]]:
        """Return the pairs (P, 2) int32, facts about them, and warnings."""
        if self.params.pairs == "consecutive":
            return consecutive_pairs(count), {}, []
        if self.params.pairs == "lagged":
            try:
                return lagged_pairs(count, divisor=self.params.lag_divisor), {}, []
            except MotionError as error:
                raise MotionError(error.what, where=clip.clip_id, why=error.why) from None
        onset, onset_source = bound_index(
            clip, frames, "onset", policy=self.params.onset, spotted=spotted
        )
        facts: dict[str, str | int | float | bool] = {
            "onset_source": onset_source,
            "onset_number": int(frames.numbers[onset]),
        }
        if self.params.pairs == "onset-to-all":
            others = [index for index in range(count) if index != onset]
            return np.array([(onset, index) for index in others], np.int32), facts, []
        apex, source = apex_index(clip, frames, policy=self.params.apex, spotted=spotted)
        warnings = []
        if apex == onset:
            warnings.append(
                f"The apex is the onset frame {frames.numbers[onset]}; the flow between them is "
                "zero."
            )
        facts |= {"apex_source": source, "apex_number": int(frames.numbers[apex])}
        return np.array([(onset, apex)], np.int32), facts, warnings


def engine_identity(engine: str) -> dict[str, str]:
    """Return what a result owes to an engine of flow: its name, and the version of our own."""
    if engine == "opencv":
        return {"engine": "opencv"}
    version = kernel_version()
    return {"engine": "cpu", "cpu_engine": "missing" if version is None else str(version)}


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


def check_finite(flow: np.ndarray, pairs: np.ndarray, *, where: str) -> None:
    """Raise `MotionError`, with the count and the first place, if a flow is not finite."""
    bad = ~np.isfinite(flow)
    if not bad.any():
        return
    row, channel, y, x = (int(axis[0]) for axis in np.nonzero(bad))
    raise MotionError(
        f"{int(bad.sum())} values of the flow are not finite; the first is "
        f"{'uv'[channel]} of pair {row} (frames {pairs[row][0]} and {pairs[row][1]}) at "
        f"x = {x}, y = {y}.",
        where=where,
        hint="look at the aligned frames; float16 holds no more than 65,504 px",
    )
