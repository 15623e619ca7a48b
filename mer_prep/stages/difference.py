"""Stage ``difference``: signed differences of aligned frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mer_prep.manifest import Clip
from mer_prep.ops.difference import signed_difference
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.stages.pairs import PAIR_FIELDS, check_pair_params, choose_pairs


@dataclass(frozen=True)
class DifferenceParams:
    """Parameters of the stage ``difference``.

    Parameters
    ----------
    pairs : {'onset-apex', 'lagged', 'consecutive', 'onset-to-all'}
        Which frames are compared, as for the stage ``flow``.
    lag_divisor : int
        Frames of a lagged sample, 2 or more; 8 for MOL.
    apex : {'annotated-or-midpoint', 'annotated', 'midpoint'}
        Which frame is the apex: the manifest's where it has one, only an annotated one, or
        always the middle frame from onset to offset.
    """

    pairs: str = "onset-apex"
    lag_divisor: int = 8
    apex: str = "annotated-or-midpoint"

    def __post_init__(self) -> None:
        check_pair_params(
            "difference", pairs=self.pairs, lag_divisor=self.lag_divisor, apex=self.apex
        )


class Difference(Stage):
    """Second frame minus first, for every pair of aligned frames."""

    name = "difference"
    version = 1
    requires = ("align",)
    key_frames = ("onset", "apex", "offset")
    fields = (
        Field(
            "difference",
            "int16",
            "pair y x channel",
            "grey levels",
            "red green blue",
            note="second frame minus first, -255 to 255",
        ),
        *PAIR_FIELDS,
    )
    Params: ClassVar[type] = DifferenceParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the difference of every pair, and which frames the pairs are.

        Raises
        ------
        MotionError
            If the clip is too short for the pairs.
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
            stage=self.name,
        )
        difference = np.empty((len(chosen.indices), *aligned.shape[1:]), np.int16)
        for row, (first, second) in enumerate(chosen.indices):
            difference[row] = signed_difference(
                np.asarray(aligned[first]), np.asarray(aligned[second])
            )
        warnings = list(chosen.warnings)
        if not difference.any():
            warnings.append("There is no difference at all between the frames compared.")
        return StageOutput(
            arrays={"difference": difference, **chosen.arrays},
            facts={
                "mean_absolute_difference": float(np.abs(difference).mean()),
                **chosen.facts,
            },
            warnings=tuple(warnings),
        )
