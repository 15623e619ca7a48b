"""Stage ``strain``: optical strain of the flow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option
from mer_prep.manifest import Clip
from mer_prep.ops.strain import strain_magnitude, strain_tensor
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Inputs, Stage, StageOutput, StageStream
from mer_prep.store.blocks import Blocks

MAGNITUDE = Field(
    "strain",
    "float32",
    "pair y x",
    "unitless",
    note="sqrt(e_xx^2 + e_yy^2 + 2 e_xy^2) of the flow of the same row; px of flow per px",
)
TENSOR = Field(
    "strain",
    "float32",
    "pair channel y x",
    "unitless",
    "e_xx e_yy e_xy",
    note="e_xx = du/dx, e_yy = dv/dy, e_xy = (du/dy + dv/dx) / 2 of the flow of the same row",
)


@dataclass(frozen=True)
class StrainParams:
    """Parameters of the stage ``strain``.

    Parameters
    ----------
    components : {'magnitude', 'tensor'}
        What is stored: the magnitude of the strain, or the tensor's e_xx, e_yy and e_xy as
        three channels (see `mer_prep.ops.strain` for the formulas).
    """

    components: str = "magnitude"

    def __post_init__(self) -> None:
        check_option("strain.components", self.components, ("magnitude", "tensor"))


class Strain(Stage):
    """Infinitesimal strain of every flow; see `mer_prep.ops.strain`."""

    name = "strain"
    version = 1
    requires = ("flow",)
    fields = (MAGNITUDE,)
    Params: ClassVar[type] = StrainParams

    def __init__(self, params: StrainParams | None = None) -> None:
        super().__init__(params)
        if self.params.components == "tensor":
            self.fields = (TENSOR,)

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the strain of every pair, in the order of the flow's pairs."""
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Return as `run` does, one pair at a time."""
        flow = inputs["flow"]["flow"]
        shape = (flow.shape[0], *flow.shape[2:])
        if self.params.components == "tensor":
            shape = (flow.shape[0], 3, *flow.shape[2:])
        total = 0.0

        def strains() -> Iterator[np.ndarray]:
            nonlocal total
            for row in range(len(flow)):
                tensor = strain_tensor(np.asarray(flow[row]))
                magnitude = strain_magnitude(tensor)
                total += float(magnitude.mean(dtype=np.float64))
                strain = tensor if self.params.components == "tensor" else magnitude
                yield strain[None].astype(np.float32, copy=False)

        def finish() -> StageOutput:
            return StageOutput({}, facts={"mean_magnitude": total / max(1, len(flow))})

        return StageStream({"strain": Blocks(shape, np.float32, strains())}, finish)
