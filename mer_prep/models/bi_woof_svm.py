"""Bi-WOOF with a linear SVM: which way the face moves to the apex, see `mer_prep.ops.bi_woof`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.models.svm import SvmConfig
from mer_prep.ops.bi_woof import WEIGHTS, bi_woof


@dataclass(frozen=True)
class BiWoofSvmConfig(SvmConfig):
    """The features of Bi-WOOF, and the SVM that tells them apart.

    Parameters
    ----------
    side, cost, balanced, standardised
        See `SvmConfig`.
    blocks : int
        Rows, and columns, of blocks.
    bins : int
        Bins of orientation, 2 to 360.
    local_weight, global_weight : {'none', 'magnitude', 'strain'}
        What a pixel counts for in its histogram, and the histogram of a block.
    """

    blocks: int = 8
    bins: int = 8
    local_weight: str = "magnitude"
    global_weight: str = "strain"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("blocks", self.blocks, low=1, high=self.side)
        check_range("bins", self.bins, low=2, high=360)
        check_option("local_weight", self.local_weight, WEIGHTS)
        check_option("global_weight", self.global_weight, WEIGHTS)

    @property
    def features(self) -> int:
        """Number F of features: bins of all histograms."""
        return self.blocks**2 * self.bins

    def describe(self, flow: np.ndarray) -> np.ndarray:
        """Return the features of a flow (2, S, S), px, onset to apex: shape (F,), float32."""
        return bi_woof(
            flow,
            blocks=self.blocks,
            bins=self.bins,
            local_weight=self.local_weight,
            global_weight=self.global_weight,
        ).ravel()


#: Architectures by preset.
PRESETS = {"paper": BiWoofSvmConfig(), "tiny": BiWoofSvmConfig(blocks=5)}
