"""Stage ``flow``: optical flow between aligned frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.eyes import eye_mask
from mer_prep.ops.flow import METHODS, flow_engine, optical_flow
from mer_prep.ops.global_motion import GLOBAL_MODELS, fit_global_motion, motion_field
from mer_prep.ops.images import to_grey
from mer_prep.ops.stabilization import rigid_mask
from mer_prep.ops.tvl1 import ENGINES, check_engine, kernel_version
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.stages.pairs import PAIR_FIELDS, check_pair_params, choose_pairs

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
    dtype: str = "float32"
    remove_global: str = field(default="none", metadata=_LATER)
    mask: str = field(default="none", metadata=_LATER)
    mask_margin: float = field(default=0.3, metadata=_LATER)

    def __post_init__(self) -> None:
        check_option("flow.method", self.method, METHODS)
        check_option("flow.engine", self.engine, ENGINES)
        if self.engine != "auto":
            flow_engine(self.method, self.engine)
        check_pair_params("flow", pairs=self.pairs, lag_divisor=self.lag_divisor, apex=self.apex)
        check_option("flow.dtype", self.dtype, ("float32", "float16"))
        check_option("flow.remove_global", self.remove_global, ("none", *GLOBAL_MODELS))
        check_option("flow.mask", self.mask, ("none", "eyes"))
        check_range("flow.mask_margin", self.mask_margin, low=0, high=1)


class Flow(Stage):
    """Optical flow between pairs of aligned frames."""

    name = "flow"
    version = 2
    requires = ("align",)
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
        if self.params.remove_global != "none":
            self.fields = (*self.fields, GLOBAL_MOTION)

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
        aligned = inputs["align"]["frames"]
        chosen = choose_pairs(
            clip,
            frames,
            len(aligned),
            pairs=self.params.pairs,
            lag_divisor=self.params.lag_divisor,
            apex=self.params.apex,
        )
        pairs = chosen.indices
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
        arrays, facts = {}, chosen.facts
        if self.params.remove_global != "none":
            arrays["global_motion"] = self._remove_global(flow, pairs, inputs, clip.clip_id)
            facts |= {
                "remove_global": self.params.remove_global,
                "global_motion_px": largest_motion(arrays["global_motion"], flow.shape[2:]),
            }
        if self.params.mask != "none":
            facts |= {
                "mask": self.params.mask,
                "mask_margin": self.params.mask_margin,
                "masked_part": self._mask_eyes(flow, pairs, inputs),
            }
        warnings = list(chosen.warnings)
        magnitude = float(np.hypot(*np.moveaxis(flow.astype(np.float32), 1, 0)).mean())
        if magnitude == 0:
            warnings.append("There is no motion at all between the frames compared.")
        return StageOutput(
            arrays={"flow": flow, **chosen.arrays, **arrays},
            facts={
                "method": self.params.method,
                "engine": self.params.engine,
                "mean_magnitude_px": magnitude,
                **facts,
            },
            warnings=tuple(warnings),
        )

    def _remove_global(
        self, flow: np.ndarray, pairs: np.ndarray, inputs: Mapping[str, Arrays], where: str
    ) -> np.ndarray:
        """Subtract the motion of the whole face from every flow; return it, (P, 2, 3)."""
        landmarks = inputs["align"]["landmarks"]
        motions = np.empty((len(flow), 2, 3))
        for row, (first, _) in enumerate(pairs):
            field_ = flow[row].astype(np.float32)
            mask = rigid_mask(np.asarray(landmarks[first]), size=flow.shape[-1])
            try:
                motions[row] = fit_global_motion(field_, mask, model=self.params.remove_global)
            except MotionError as error:
                raise MotionError(error.what, where=where, hint=error.hint) from None
            flow[row] = field_ - motion_field(motions[row], flow.shape[2:])
        return motions

    def _mask_eyes(
        self, flow: np.ndarray, pairs: np.ndarray, inputs: Mapping[str, Arrays]
    ) -> float:
        """Set every flow to zero in the eyes and near them; return the part of the picture."""
        landmarks = inputs["align"]["landmarks"]
        masked = 0
        for row, (first, _) in enumerate(pairs):
            mask = eye_mask(
                np.asarray(landmarks[first]), size=flow.shape[-1], margin=self.params.mask_margin
            )
            flow[row, :, mask] = 0
            masked += int(mask.sum())
        return masked / flow[:, 0].size


def largest_motion(motions: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far transforms (P, 2, 3) move the centre of a picture at most, in px."""
    centre = np.array([shape[1] - 1, shape[0] - 1]) / 2
    moved = motions[:, :, :2] @ centre + motions[:, :, 2] - centre
    return float(np.hypot(*moved.T).max())


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
