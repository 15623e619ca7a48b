"""Stage ``flow``: optical flow between aligned frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.eyes import eye_mask
from mer_prep.ops.flow import METHODS, flow_engine, optical_flows
from mer_prep.ops.global_motion import GLOBAL_MODELS, fit_global_motion, motion_field
from mer_prep.ops.images import to_grey
from mer_prep.ops.stabilization import rigid_mask
from mer_prep.ops.tvl1 import BATCHED, ENGINES, check_engine, kernel_version
from mer_prep.ops.tvl1_torch import VERSION
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import (
    Arrays,
    Field,
    Inputs,
    Stage,
    StageOutput,
    StageStream,
    library_versions,
)
from mer_prep.stages.pairs import PAIR_FIELDS, check_pair_params, choose_pairs, pair_stages
from mer_prep.store.blocks import Blocks, StoredArray, block_rows

#: Of parameters that came later: at their defaults they are no part of the key.
_LATER = {"key": "unless default"}

#: The dataset that says what was subtracted.
GLOBAL_MOTION = Field(
    "global_motion",
    "float64",
    "pair row column",
    "px",
    note="a pixel of the first frame moves to global_motion[:, :2] @ (x, y) + "
    "global_motion[:, 2] in the second by the motion of the whole face, which the flow lacks",
)

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
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        Implementation of the method. `cuda` and `cpu` are our own of TV-L1, for GPUs and, some 30
        times faster than OpenCV's, for a core; `torch` is slow and for comparison. `auto` takes
        the first of `cuda`, `cpu` and `opencv` that works on this machine.
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
    remove_global : {'none', 'translation', 'similarity'}
        Motion of the whole face that is subtracted from the flow: none, its shift, or its shift,
        rotation and scale. It is fitted, robustly, to the flow of the face without the eyes (see
        `mer_prep.ops.global_motion`), and kept as the dataset `global_motion`.
    mask : {'none', 'eyes'}
        Where the flow is set to zero: nowhere, or in the eyes and near them, where lids and gaze
        move. The landmarks of a pair's first frame say where that is.
    mask_margin : float
        How far the mask reaches beyond the contours of the eyes, relative to the distance between
        the outer eye corners, 0 to 1. At 0.3 it takes in the brows, at 0.1 it does not.
    """

    method: str = "tvl1"
    engine: str = "auto"
    pairs: str = "onset-apex"
    lag_divisor: int = 8
    apex: str = "annotated-or-midpoint"
    onset: str = field(default="annotated-or-end", metadata=_LATER)
    dtype: str = "float32"
    remove_global: str = field(default="none", metadata=_LATER)
    mask: str = field(default="none", metadata=_LATER)
    mask_margin: float = field(default=0.3, metadata=_LATER)

    def __post_init__(self) -> None:
        check_option("flow.method", self.method, METHODS)
        check_option("flow.engine", self.engine, ENGINES)
        if self.engine != "auto":
            flow_engine(self.method, self.engine)
        check_pair_params("flow", self)
        check_option("flow.dtype", self.dtype, ("float32", "float16"))
        check_option("flow.remove_global", self.remove_global, ("none", *GLOBAL_MODELS))
        check_option("flow.mask", self.mask, ("none", "eyes"))
        check_range("flow.mask_margin", self.mask_margin, low=0, high=1)


class Flow(Stage):
    """Optical flow between pairs of aligned frames."""

    name = "flow"
    version = 2
    requires: tuple[str, ...] = ("align",)
    key_frames = ("onset", "apex", "offset")
    libraries = ("opencv",)
    fields: tuple[Field, ...] = (
        Field(
            "flow",
            "float32",
            "pair channel y x",
            "px",
            "u v",
            note="pixel (x, y) of the first frame moves to (x + u, y + v) in the second; float16 "
            "if flow.dtype says so",
        ),
        *PAIR_FIELDS,
    )
    Params: ClassVar[type] = FlowParams

    def __init__(self, params: FlowParams | None = None) -> None:
        super().__init__(params)
        # Resolved once, here: every worker of a run must use the engine that the keys name.
        engine = flow_engine(self.params.method, self.params.engine)
        self.params = replace(self.params, engine=engine)
        self.requires = ("align", *pair_stages(self.params))
        if self.params.remove_global != "none":
            self.fields = (*self.fields, GLOBAL_MOTION)

    def identity(self) -> dict[str, str]:
        """Return the engine, and the version of our own; engines never share a shard."""
        return engine_identity(self.params.engine)

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
        landmarks = np.asarray(inputs["align"]["landmarks"]) if self._needs_landmarks() else None
        chosen = choose_pairs(
            clip,
            frames,
            len(aligned),
            self.params,
            spotted=inputs.get("apex"),
        )
        pairs = chosen.indices
        shape = (len(pairs), 2, *aligned.shape[1:3])
        motions: list[np.ndarray] = []
        magnitude, masked = 0.0, 0

        def flows() -> Iterator[np.ndarray]:
            nonlocal magnitude, masked
            rows = min(BLOCK_PAIRS, block_rows(shape, np.float32, limit=BLOCK_BYTES))
            for start, firsts, seconds in picture_blocks(aligned, pairs, rows=rows):
                flow = self._flow(firsts, seconds)
                check_finite(flow, pairs, where=clip.clip_id, start=start)
                if landmarks is not None:
                    of_firsts = landmarks[pairs[start : start + rows, 0]]
                    motions.append(self._remove_global(flow, of_firsts, clip.clip_id))
                    masked += self._mask_eyes(flow, of_firsts)
                sizes = np.hypot(*np.moveaxis(flow.astype(np.float32), 1, 0))
                magnitude += float(sizes.mean()) * len(flow) / len(pairs)
                yield flow

        def finish() -> StageOutput:
            arrays, facts = {}, chosen.facts
            if self.params.remove_global != "none":
                arrays["global_motion"] = np.concatenate(motions)
                facts |= {
                    "remove_global": self.params.remove_global,
                    "global_motion_px": largest_motion(arrays["global_motion"], shape[2:]),
                }
            if self.params.mask != "none":
                facts |= {
                    "mask": self.params.mask,
                    "mask_margin": self.params.mask_margin,
                    "masked_part": masked / (len(pairs) * shape[2] * shape[3]),
                }
            still = ["There is no motion at all between the frames compared."] * (magnitude == 0)
            return StageOutput(
                arrays={**chosen.arrays, **arrays},
                facts={
                    "method": self.params.method,
                    "engine": self.params.engine,
                    "mean_magnitude_px": magnitude,
                    **facts,
                },
                warnings=(*chosen.warnings, *still),
            )

        return StageStream({"flow": Blocks(shape, self.params.dtype, flows())}, finish)

    def _needs_landmarks(self) -> bool:
        return (self.params.remove_global, self.params.mask) != ("none", "none")

    def _flow(self, firsts: Sequence[np.ndarray], seconds: Sequence[np.ndarray]) -> np.ndarray:
        """Return the flow of a block of pairs of grey pictures, (B, 2, H, W) of `dtype`."""
        flow = optical_flows(firsts, seconds, method=self.params.method, engine=self.params.engine)
        with np.errstate(over="ignore"):
            return flow.astype(self.params.dtype, copy=False)

    def _remove_global(self, flow: np.ndarray, landmarks: np.ndarray, where: str) -> np.ndarray:
        """Subtract the motion of the whole face from every flow; return it, (B, 2, 3)."""
        motions = np.zeros((len(flow), 2, 3))
        if self.params.remove_global == "none":
            return motions
        for row, points in enumerate(landmarks):
            field_ = flow[row].astype(np.float32)
            mask = rigid_mask(points, size=flow.shape[-1])
            try:
                motions[row] = fit_global_motion(field_, mask, model=self.params.remove_global)
            except MotionError as error:
                raise MotionError(error.what, where=where, hint=error.hint) from None
            flow[row] = field_ - motion_field(motions[row], flow.shape[2:])
        return motions

    def _mask_eyes(self, flow: np.ndarray, landmarks: np.ndarray) -> int:
        """Set every flow to zero in the eyes and near them; return the number of its pixels."""
        masked = 0
        if self.params.mask == "none":
            return masked
        for row, points in enumerate(landmarks):
            mask = eye_mask(points, size=flow.shape[-1], margin=self.params.mask_margin)
            flow[row, :, mask] = 0
            masked += int(mask.sum())
        return masked


def engine_identity(engine: str) -> dict[str, str]:
    """Return what a result owes to an engine of flow: its name, and the version of our own."""
    if engine == "opencv":
        return {"engine": "opencv"}
    if engine in BATCHED:
        return {"engine": engine, "torch_engine": str(VERSION), **library_versions(("torch",))}
    version = kernel_version()
    return {"engine": "cpu", "cpu_engine": "missing" if version is None else str(version)}


def largest_motion(motions: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far transforms (P, 2, 3) move the centre of a picture at most, in px."""
    centre = np.array([shape[1] - 1, shape[0] - 1]) / 2
    moved = motions[:, :, :2] @ centre + motions[:, :, 2] - centre
    return float(np.hypot(*moved.T).max())


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
