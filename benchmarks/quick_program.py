"""The program with two stages that compute nothing, to see what all the rest of it costs.

``python -m benchmarks.quick_program run FILE.toml -w workspace --jobs 1`` and every other command:
landmarks are six numbers a clip and aligned faces one. Plans, keys, locks, parts, shards, reports
and exit codes are those of `mer-prep`. The stages are known in this process alone, so ``--jobs 1``
it must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from unittest import mock

import numpy as np

import mer_prep.stages
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import Align
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.stages.landmarks import Landmarks

#: What a pipeline file holds that runs both.
PIPELINE = 'title = "Stages that compute nothing"\nstages = ["landmarks", "align"]\n'


class QuickLandmarks(Landmarks):
    """Landmarks that are made up."""

    fields = (Field("landmarks", "float32", "point", "px"),)
    libraries = ()

    def identity(self) -> dict[str, str]:
        return {}

    def check(self) -> None:
        """Nothing is needed."""

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return StageOutput({"landmarks": np.arange(6, dtype=np.float32)})

    stream = Stage.stream


class QuickAlign(Align):
    """The sum of the landmarks."""

    fields = (Field("frames", "float64", "frame", "px"),)
    libraries = ()

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return StageOutput({"frames": inputs["landmarks"]["landmarks"].sum(keepdims=True) * 1.0})

    stream = Stage.stream


def main() -> None:
    """Run the program; it takes the arguments of the command line."""
    kinds = {**mer_prep.stages.all_stages(), "landmarks": QuickLandmarks, "align": QuickAlign}
    with mock.patch.object(mer_prep.stages, "all_stages", return_value=kinds):
        from mer_prep.cli import main as program

        program()


if __name__ == "__main__":
    main()
