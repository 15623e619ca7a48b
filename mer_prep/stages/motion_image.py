"""Stage ``motion-image``: u, v and strain as small pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.manifest import Clip
from mer_prep.ops.motion_image import CHANNELS, NORMALISATIONS, motion_image, resizing
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Inputs, Stage, StageOutput, StageStream
from mer_prep.store.blocks import Blocks


@dataclass(frozen=True)
class MotionImageParams:
    """Parameters of the stage ``motion-image``.

    Parameters
    ----------
    size : int
        Side of the pictures in px, 4 to 1024; 28 for STSTNet and OFF-ApexNet. They are made
        smaller by the mean over the area of a pixel.
    normalise : {'min-max', 'none'}
        Whether every channel is stretched to 0 ... 1 by its own least and greatest value, a
        constant one to zero, or left in its units.
    """

    size: int = 28
    normalise: str = "min-max"

    def __post_init__(self) -> None:
        check_range("motion-image.size", self.size, low=4, high=1024)
        check_option("motion-image.normalise", self.normalise, NORMALISATIONS)


class MotionImage(Stage):
    """Channels u, v and strain of every flow; see `mer_prep.ops.motion_image`."""

    name = "motion-image"
    version = 1
    requires = ("flow",)
    libraries = ("opencv",)
    fields = (
        Field(
            "motion_image",
            "float32",
            "pair channel y x",
            "unitless",
            " ".join(CHANNELS),
            note="every channel from 0 to 1 by its own range in the picture",
        ),
    )
    Params: ClassVar[type] = MotionImageParams

    def __init__(self, params: MotionImageParams | None = None) -> None:
        super().__init__(params)
        if self.params.normalise == "none":
            self.fields = (
                Field(
                    "motion_image",
                    "float32",
                    "pair channel y x",
                    "px px unitless",
                    " ".join(CHANNELS),
                    note="u and v in px of the flow's grid, strain in px per px of it",
                ),
            )

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the picture of every pair, in the order of the flow's pairs."""
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Return as `run` does, one pair at a time."""
        flow = inputs["flow"]["flow"]
        size = self.params.size

        def images() -> Iterator[np.ndarray]:
            for row in range(len(flow)):
                image = motion_image(
                    np.asarray(flow[row]), size=size, normalise=self.params.normalise
                )
                yield image[None].astype(np.float32, copy=False)

        def finish() -> StageOutput:
            return StageOutput(
                {},
                facts={
                    "resize": resizing(min(flow.shape[2:]), size),
                    "normalise": self.params.normalise,
                },
            )

        shape = (len(flow), len(CHANNELS), size, size)
        return StageStream({"motion_image": Blocks(shape, np.float32, images())}, finish)
