"""Stage ``tim``: clips of one length, by temporal interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.tim import METHODS, equidistant_positions, interpolate, interpolation_weights
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput

SPANS = ("onset-offset", "all")


@dataclass(frozen=True)
class TimParams:
    """Parameters of the stage ``tim``.

    Parameters
    ----------
    method : {'tim', 'linear'}
        Temporal interpolation model, or linear interpolation of the two nearest frames.
    length : int
        Number of frames made, 2 to 10000; 10 is the usual choice for micro-expressions.
    span : {'onset-offset', 'all'}
        Which frames: from onset to offset, or all that are seen.
    """

    method: str = "tim"
    length: int = 10
    span: str = "onset-offset"

    def __post_init__(self) -> None:
        check_option("tim.method", self.method, METHODS)
        check_range("tim.length", self.length, low=2, high=10_000)
        check_option("tim.span", self.span, SPANS)


class Tim(Stage):
    """Every clip at one length, its time stretched or squeezed; see `mer_prep.ops.tim`."""

    name = "tim"
    version = 1
    requires = ("align",)
    key_frames = ("onset", "offset")
    fields = (
        Field("frames", "uint8", "frame y x channel", "grey value", "red green blue"),
        Field(
            "landmarks",
            "float32",
            "frame point coordinate",
            "px",
            "x y",
            note="68 points in aligned pixels, interpolated linearly between frames",
        ),
        Field(
            "positions",
            "float64",
            "frame",
            "frames",
            note="zero-based places, between frames of the stage 'align', that the frames show",
        ),
    )
    Params: ClassVar[type] = TimParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the frames, landmarks and where they stand in the clip.

        Raises
        ------
        MotionError
            If the clip has fewer than two frames.
        """
        aligned = inputs["align"]["frames"]
        first, stop = 0, len(aligned)
        if self.params.span == "onset-offset":
            first, stop = (position - frames.start for position in clip.expression_span())
        count = stop - first
        if count < 2:
            raise MotionError(
                f"Temporal interpolation needs 2 frames, and the clip has {count}.",
                where=clip.clip_id,
                hint="check onset and offset, or use --set tim.span=all with --set "
                "source.frames=all",
            )
        positions = equidistant_positions(count, self.params.length)
        weights = np.zeros((self.params.length, len(aligned)))
        weights[:, first:stop] = interpolation_weights(count, positions, method=self.params.method)
        linear = interpolation_weights(len(aligned), first + positions, method="linear")
        landmarks = np.asarray(inputs["align"]["landmarks"], np.float64)
        return StageOutput(
            arrays={
                "frames": interpolate(aligned, weights),
                "landmarks": np.einsum("ti,ipc->tpc", linear, landmarks).astype(np.float32),
                "positions": first + positions,
            },
            facts={
                "method": self.params.method,
                "first_number": int(frames.numbers[first]),
                "last_number": int(frames.numbers[stop - 1]),
                "source_frames": count,
            },
        )
