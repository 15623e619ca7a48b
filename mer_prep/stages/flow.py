"""Stage ``flow``: optical flow between aligned frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ManifestError, MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.flow import METHODS, flow_engine, optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.tvl1 import ENGINES, check_engine, kernel_version
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import onset_index
from mer_prep.stages.base import Arrays, Field, Inputs, Stage, StageOutput, StageStream
from mer_prep.store.blocks import Blocks, StoredArray, block_rows

PAIRS = ("onset-apex", "lagged", "consecutive", "onset-to-all")
APEX_POLICIES = ("annotated-or-midpoint", "annotated", "midpoint")

#: Pairs whose flow is computed and held at a time, at most, and the bytes it may take.
BLOCK_PAIRS = 64
BLOCK_BYTES = 16 * 2**20


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
    apex : {'annotated-or-midpoint', 'annotated', 'midpoint'}
        Which frame is the apex: the manifest's where it has one, only an annotated one, or
        always the middle frame from onset to offset.
    dtype : {'float32', 'float16'}
        How the flow is stored.
    """

    method: str = "tvl1"
    engine: str = "auto"
    pairs: str = "onset-apex"
    lag_divisor: int = 8
    apex: str = "annotated-or-midpoint"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_option("flow.method", self.method, METHODS)
        check_option("flow.engine", self.engine, ENGINES)
        if self.engine != "auto":
            flow_engine(self.method, self.engine)
        check_option("flow.pairs", self.pairs, PAIRS)
        check_range("flow.lag_divisor", self.lag_divisor, low=2)
        check_option("flow.apex", self.apex, APEX_POLICIES)
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
        if self.params.engine == "opencv":
            return {"engine": "opencv"}
        version = kernel_version()
        return {"engine": "cpu", "cpu_engine": "missing" if version is None else str(version)}

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
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Return as `run` does, the flow `BLOCK_PAIRS` pairs at a time."""
        aligned = inputs["align"]["frames"]
        if len(aligned) < 2:
            raise MotionError(
                f"Flow needs 2 frames, and the clip has {len(aligned)}.", where=clip.clip_id
            )
        pairs, facts, warnings = self._pairs(clip, frames, len(aligned))
        shape = (len(pairs), 2, *aligned.shape[1:3])
        magnitude = 0.0

        def flows() -> Iterator[np.ndarray]:
            nonlocal magnitude
            rows = min(BLOCK_PAIRS, block_rows(shape, np.float32, limit=BLOCK_BYTES))
            for start, firsts, seconds in picture_blocks(aligned, pairs, rows=rows):
                flow = self._flow(firsts, seconds)
                check_finite(flow, pairs, where=clip.clip_id, start=start)
                sizes = np.hypot(*np.moveaxis(flow.astype(np.float32), 1, 0))
                magnitude += float(sizes.mean()) * len(flow) / len(pairs)
                yield flow

        def finish() -> StageOutput:
            still = ["There is no motion at all between the frames compared."] * (magnitude == 0)
            return StageOutput(
                arrays={
                    "pairs": pairs,
                    "pair_numbers": np.array(frames.numbers, np.int64)[pairs],
                },
                facts={
                    "method": self.params.method,
                    "engine": self.params.engine,
                    "mean_magnitude_px": magnitude,
                    **facts,
                },
                warnings=(*warnings, *still),
            )

        return StageStream({"flow": Blocks(shape, self.params.dtype, flows())}, finish)

    def _flow(self, firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]) -> np.ndarray:
        """Return the flow of a block of pairs of grey pictures, (B, 2, H, W) of `dtype`."""
        flow = np.empty((len(firsts), 2, *firsts[0].shape), self.params.dtype)
        for row, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
            with np.errstate(over="ignore"):
                flow[row] = optical_flow(
                    first, second, method=self.params.method, engine=self.params.engine
                )
        return flow

    def _pairs(
        self, clip: Clip, frames: ClipFrames, count: int
    ) -> tuple[np.ndarray, dict[str, str | int | float | bool], list[str]]:
        """Return the pairs (P, 2) int32, facts about them, and warnings."""
        if self.params.pairs == "consecutive":
            return consecutive_pairs(count), {}, []
        if self.params.pairs == "lagged":
            try:
                return lagged_pairs(count, divisor=self.params.lag_divisor), {}, []
            except MotionError as error:
                raise MotionError(error.what, where=clip.clip_id, why=error.why) from None
        onset = onset_index(clip, frames)
        if self.params.pairs == "onset-to-all":
            others = [index for index in range(count) if index != onset]
            return np.array([(onset, index) for index in others], np.int32), {}, []
        apex, source = apex_index(clip, frames, policy=self.params.apex)
        warnings = []
        if apex == onset:
            warnings.append(
                f"The apex is the onset frame {frames.numbers[onset]}; the flow between them is "
                "zero."
            )
        facts: dict[str, str | int | float | bool] = {
            "apex_source": source,
            "apex_number": int(frames.numbers[apex]),
        }
        return np.array([(onset, apex)], np.int32), facts, warnings


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
    clip: Clip, frames: ClipFrames, *, policy: str = "annotated-or-midpoint"
) -> tuple[int, str]:
    """Return the zero-based index of the apex among the frames seen, and where it comes from.

    Parameters
    ----------
    clip : Clip
        The clip.
    frames : ClipFrames
        The frames seen.
    policy : {'annotated-or-midpoint', 'annotated', 'midpoint'}
        See `FlowParams`. The first takes whatever apex the manifest has.

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
            hint="use --set flow.apex=annotated-or-midpoint",
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


def picture_blocks(
    aligned: np.ndarray | StoredArray, pairs: np.ndarray, *, rows: int
) -> Iterator[tuple[int, list[np.ndarray], list[np.ndarray]]]:
    """Yield the grey pictures of pairs of frames, a block of pairs at a time.

    Parameters
    ----------
    aligned : ndarray or StoredArray, shape (T, H, W, 3), uint8
        Aligned frames. Each frame of a block is read once, and not again if the block before
        had it.
    pairs : ndarray, shape (P, 2), int
        Indices of the first and second frames.
    rows : int
        Pairs of a block.

    Yields
    ------
    start : int
        Row of `pairs` that the block begins with.
    firsts, seconds : list of ndarray, shape (H, W), uint8
        The two pictures of every pair.
    """
    grey: dict[int, np.ndarray] = {}
    for start in range(0, len(pairs), rows):
        block = pairs[start : start + rows]
        grey = {
            int(index): grey[index] if index in grey else to_grey(np.asarray(aligned[int(index)]))
            for index in np.unique(block)
        }
        firsts, seconds = ([grey[int(one)] for one in end] for end in block.T)
        yield start, firsts, seconds


def check_finite(flow: np.ndarray, pairs: np.ndarray, *, where: str, start: int = 0) -> None:
    """Raise `MotionError`, with the count and the first place, if a flow is not finite.

    Parameters
    ----------
    flow : ndarray, shape (B, 2, H, W)
        Flow of the pairs from row `start` on.
    pairs : ndarray, shape (P, 2), int
        All pairs of the clip.
    where : str
        The clip, for the message.
    start : int
        Row of the first.
    """
    bad = ~np.isfinite(flow)
    if not bad.any():
        return
    row, channel, y, x = (int(axis[0]) for axis in np.nonzero(bad))
    row += start
    raise MotionError(
        f"{int(bad.sum())} values of the flow of pairs {start} to {start + len(flow) - 1} are not "
        f"finite; the first is {'uv'[channel]} of pair {row} (frames {pairs[row][0]} and "
        f"{pairs[row][1]}) at x = {x}, y = {y}.",
        where=where,
        hint="look at the aligned frames; float16 holds no more than 65,504 px",
    )
