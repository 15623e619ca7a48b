"""LBP-TOP with a linear SVM: texture of the clip in space and time, see `mer_prep.ops.lbp_top`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_range
from mer_prep.errors import ConfigError
from mer_prep.models.svm import SvmConfig
from mer_prep.ops.lbp_top import MOST_NEIGHBOURS, lbp_top


@dataclass(frozen=True)
class LbpTopSvmConfig(SvmConfig):
    """The features of LBP-TOP, and the SVM that tells them apart.

    Parameters
    ----------
    side, cost, balanced, standardised
        See `SvmConfig`.
    frames : int
        Frames T to which every clip is brought by the stage ``tim``.
    blocks : int
        Rows, and columns, of blocks.
    radius_x, radius_y : int
        Distance of the neighbours in px.
    radius_t : int
        The same in frames; T is 2 R_t + 1 or more.
    neighbours : int
        Neighbours P in each plane, 2 to 12.
    uniform : bool
        Whether all patterns that are not uniform are counted together.
    """

    frames: int = 10
    blocks: int = 5
    radius_x: int = 1
    radius_y: int = 1
    radius_t: int = 4
    neighbours: int = 8
    uniform: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("frames", self.frames, low=2, high=10_000)
        check_range("neighbours", self.neighbours, low=2, high=MOST_NEIGHBOURS)
        # Every block has a pixel at least whose neighbours lie within the frame.
        check_range("blocks", self.blocks, low=1, high=self.side - 2)
        for name in ("radius_x", "radius_y"):
            check_range(name, getattr(self, name), low=1, high=(self.side - self.blocks) // 2)
        check_range("radius_t", self.radius_t, low=1)
        if self.frames < 2 * self.radius_t + 1:
            raise ConfigError(
                f"{self.frames} frames are too few for a radius of {self.radius_t} frames.",
                hint=f"take radius_t={(self.frames - 1) // 2} or less, or "
                f"frames={2 * self.radius_t + 1} or more",
            )

    @property
    def features(self) -> int:
        """Number F of features: bins of all histograms."""
        p = self.neighbours
        return self.blocks**2 * 3 * (p * (p - 1) + 3 if self.uniform else 2**p)

    def describe(self, frames: np.ndarray) -> np.ndarray:
        """Return the features of a clip of grey frames (T, S, S), uint8: shape (F,), float32."""
        return lbp_top(
            frames,
            blocks=self.blocks,
            radii=(self.radius_x, self.radius_y, self.radius_t),
            neighbours=self.neighbours,
            uniform=self.uniform,
        ).ravel()


#: Architectures by preset.
PRESETS = {"paper": LbpTopSvmConfig(), "tiny": LbpTopSvmConfig(blocks=3)}
