"""SelfME as the training engine sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.dataset import TESTED, Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import TrainingError
from mer_prep.models.frl_dgt import invert
from mer_prep.models.output import ModelOutput
from mer_prep.models.selfme import (
    PRESETS,
    REGIONS,
    WEIGHTS,
    Selfme,
    SelfmeConfig,
    face_midline,
    region_boxes,
    symmetric_contrast,
)
from mer_prep.training.methods.base import Labelled, Method, StageArrays, Stretch
from mer_prep.training.methods.frl_dgt import ANY, any_pairs
from mer_prep.training.recipes import TrainingSettings

#: What the steps of the two stages minimise.
MOTION, RECOGNITION = "motion", "recognition"


class SelfmeMethod(Method):
    """Onset and apex in colour; the motion is learned first, on pairs within clips, or is TV-L1.

    That the motion learns from the onset with any other frame, and then stays as it is, is chosen
    here.
    """

    name = "selfme"
    Config = SelfmeConfig
    presets = PRESETS
    pipeline = "selfme"
    colours = 3
    regions = REGIONS

    @property
    def length(self) -> int:
        """Frames of a sample: onset and apex."""
        return 2

    @property
    def sees_flow(self) -> bool:
        """Whether TV-L1 flow takes the place of the learned motion."""
        return not self.config.learned

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        return {"align": ("frames", "landmarks"), "flow": ("flow", "pairs")}

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {"flow": {"pairs": "onset-apex"}}

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return an aligned frame with its channels first."""
        return np.ascontiguousarray(frame.transpose(2, 0, 1))

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its onset and apex, and the pairs that motion is learned from."""
        pairs = np.asarray(arrays["flow"]["pairs"], np.int64)
        if pairs.shape != (1, 2):
            raise TrainingError(
                f"The flow of {clip.clip_id} is not that from an onset to an apex.",
                where=where,
                hint="the pairs must be those of flow.pairs=onset-apex",
            )
        if not self.config.learned:
            return self._prepared(clip, arrays, pairs)
        others = {ANY: any_pairs(int(pairs[0, 0]), len(arrays["align"]["frames"]))}
        return self._prepared(clip, arrays, pairs, others=others)

    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""
        return Selfme(self.config, classes)

    def statistics(self, source: ClipSource, clip_ids: tuple[str, ...]) -> Statistics:
        """Return the scale to 0 ... 1, which is the same for all clips."""
        return Statistics(0.0, 255.0, frozenset(clip_ids))

    @property
    def transductive(self) -> bool:
        """Whether the motion is learned from the frames of tested clips too."""
        return bool(self.config.learned and self.config.stage1 == "all")

    def settled(self, settings: TrainingSettings) -> TrainingSettings:
        """Return settings without a motion stage where no motion is learned."""
        if self.config.learned:
            return settings
        return dataclasses.replace(
            settings, pre_steps=0, reconstruction_weight=1.0, displacement_rate=1.0
        )

    def stretches(self, settings: TrainingSettings) -> tuple[Stretch, ...]:
        """Return the motion stage, and the recognition with as many of every class in a batch."""
        recognition = Stretch(RECOGNITION, settings.steps, TESTED, balanced=True)
        if not settings.pre_steps:
            return (recognition,)
        everyone = self.transductive
        motion = Stretch(MOTION, settings.pre_steps, ANY, by_clip=True, everyone=everyone)
        return (motion, recognition)

    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the names of the losses."""
        rebuilt = WEIGHTS if settings.pre_steps else {}
        names = [one for one in rebuilt if one != "jacobians" or self.config.first_order]
        return ("expression", *(("symmetry",) if self.config.contrasts else ()), *names)

    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weights of its losses by name."""
        parts = {name: settings.reconstruction_weight * one for name, one in WEIGHTS.items()}
        return {"expression": 1.0, "symmetry": self.config.omega, **parts}

    def rates(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the factor of the learning rate of the motion stage."""
        return {"motion": settings.displacement_rate}

    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        if objective == MOTION:
            found: dict[str, Tensor] = model(*self._inputs(batch), recognise=False).rebuilt
            return found
        output = model(*self._inputs(batch))
        losses = {"expression": functional.cross_entropy(output.logits.float(), batch.labels)}
        if output.features is not None:
            contrast = symmetric_contrast(
                output.features,
                batch.labels,
                tau=self.config.tau,
                contrasted=self.config.contrasted,
            )
            # The cross-entropy is a mean over the batch, and the printed formula a sum.
            losses["symmetry"] = contrast / len(batch.labels)
        return losses

    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return classes, the attention to regions, and a learned motion and its flow."""
        output = model(*self._inputs(batch))
        if output.displacement is None:
            return ModelOutput(output.logits, attention=output.attention)
        displacement = output.displacement.float()
        return ModelOutput(
            output.logits,
            flow=invert(displacement)[:, None],
            displacement=displacement[:, None],
            attention=output.attention,
        )

    def boxes(self, batch: Batch) -> Tensor:
        """Return the boxes of the regions, (B, 4, 4): left, top, right and bottom in px."""
        middle = torch.full((len(batch.labels),), (self.side - 1) / 2)
        if self.config.contrasts and self.config.midline == "landmarks":
            middle = face_midline(batch.landmarks[:, 0])
        return region_boxes(middle, side=self.side)

    def _inputs(self, batch: Batch) -> tuple[Tensor | None, ...]:
        return (batch.frames, batch.landmarks, batch.flow if self.sees_flow else None)
