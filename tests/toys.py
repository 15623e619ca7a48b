"""Two toy stages: the mean of every frame, and differences of the means."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from unittest import mock

import numpy as np

from mer_prep.errors import NoFaceError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages import worker
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput


@dataclass(frozen=True)
class MeansParams:
    gain: float = 1.0
    refuse: str = ""
    crash: str = ""
    kill: str = ""
    pause: float = 0.0


class Means(Stage):
    name = "means"
    version = 1
    reads_frames = True
    fields = (Field("mean", "float64", "frame", "grey levels"),)
    Params: ClassVar[type] = MeansParams
    runs: ClassVar[list[str]] = []

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        self.runs.append(clip.clip_id)
        if self.params.refuse == clip.clip:
            raise NoFaceError("There is no face.", where=clip.clip_id)
        if self.params.crash == clip.clip:
            raise ZeroDivisionError("a bug")
        if self.params.kill == clip.clip:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.params.pause)
        means = [float(image.mean()) * self.params.gain for image in frames]
        return StageOutput({"mean": np.array(means)}, facts={"frames": len(means)})


@dataclass(frozen=True)
class ChangeParams:
    power: int = 1


class Change(Stage):
    name = "change"
    version = 1
    requires = ("means",)
    key_frames = ("apex",)
    fields = (Field("change", "float64", "frame", "grey levels"),)
    Params: ClassVar[type] = ChangeParams
    runs: ClassVar[list[str]] = []

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        self.runs.append(clip.clip_id)
        mean = inputs["means"]["mean"]
        apex = clip.position(clip.apex) - frames.start if clip.apex is not None else 0
        return StageOutput({"change": (mean - mean[apex]) ** self.params.power})


TOYS: dict[str, type[Stage]] = {"means": Means, "change": Change}


def process_toy_clip(work: worker.ClipWork) -> worker.ClipReport:
    """Do as `worker.process_clip` with the toy stages; usable in any process."""
    with mock.patch.object(worker, "all_stages", return_value=TOYS):
        return worker.process_clip(work)
