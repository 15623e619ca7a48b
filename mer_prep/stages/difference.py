"""Stage ``difference``: signed differences of aligned frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mer_prep.manifest import Clip
from mer_prep.ops.difference import signed_difference
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Inputs, Stage, StageOutput, StageStream
from mer_prep.stages.pairs import PAIR_FIELDS, check_pair_params, choose_pairs, pair_stages
from mer_prep.store.blocks import Blocks


@dataclass(frozen=True)
class DifferenceParams:
    """Parameters of the stage ``difference``.

    Parameters
    ----------
    pairs : {'onset-apex', 'lagged', 'consecutive', 'onset-to-all'}
        Which frames are compared, as for the stage ``flow``.
    lag_divisor : int
        Frames of a lagged sample, 2 or more; 8 for MOL.
    apex : {'annotated-or-midpoint', 'annotated-or-spotted', 'annotated', 'spotted', 'midpoint'}
        Which frame is the apex, as for the stage ``flow``.
    onset : {'annotated-or-end', 'annotated-or-spotted', 'annotated', 'spotted'}
        Which frame is the onset, as for the stage ``flow``.
    """

    pairs: str = "onset-apex"
    lag_divisor: int = 8
    apex: str = "annotated-or-midpoint"
    onset: str = "annotated-or-end"

    def __post_init__(self) -> None:
        check_pair_params("difference", self)


class Difference(Stage):
    """Second frame minus first, for every pair of aligned frames."""

    name = "difference"
    version = 1
    requires: tuple[str, ...] = ("align",)
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

    def __init__(self, params: DifferenceParams | None = None) -> None:
        super().__init__(params)
        self.requires = ("align", *pair_stages(self.params))

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the difference of every pair, and which frames the pairs are.

        Raises
        ------
        MotionError
            If the clip is too short for the pairs.
        ManifestError
            If the apex is needed and missing, or lies outside the frames seen.
        """
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Return as `run` does, one pair at a time."""
        aligned = inputs["align"]["frames"]
        chosen = choose_pairs(
            clip,
            frames,
            len(aligned),
            self.params,
            spotted=inputs.get("apex"),
            stage=self.name,
        )
        shape = (len(chosen.indices), *aligned.shape[1:])
        total = 0

        def differences() -> Iterator[np.ndarray]:
            nonlocal total
            for first, second in chosen.indices:
                difference = signed_difference(
                    np.asarray(aligned[int(first)]), np.asarray(aligned[int(second)])
                )
                total += int(np.abs(difference).sum(dtype=np.int64))
                yield difference[None]

        def finish() -> StageOutput:
            same = ["There is no difference at all between the frames compared."] * (total == 0)
            return StageOutput(
                arrays=chosen.arrays,
                facts={"mean_absolute_difference": total / math.prod(shape), **chosen.facts},
                warnings=(*chosen.warnings, *same),
            )

        return StageStream({"difference": Blocks(shape, np.int16, differences())}, finish)
