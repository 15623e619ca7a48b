"""FRL-DGT as the training engine sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.dataset import TESTED, Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import TrainingError
from mer_prep.models.frl_dgt import (
    PRESETS,
    REGIONS,
    WEIGHTS,
    FrlDgt,
    FrlDgtConfig,
    action_unit_boxes,
    grid_boxes,
    invert,
    self_supervision,
)
from mer_prep.models.output import ModelOutput
from mer_prep.training.methods.base import Labelled, Method, StageArrays, Stretch
from mer_prep.training.recipes import TrainingSettings

#: Kinds of samples: the onset and any other frame; and frames near the onset and the apex.
ANY, NEAR = "any", "near"

#: Frames by which onset and apex are moved for training, at most.
REACH = 2

#: What the first steps minimise.
RECONSTRUCTION = "reconstruction"


class FrlDgtMethod(Method):
    """Onset and apex in colour; the displacement is first trained on pairs within clips alone.

    Which pairs, and that frames are scaled to 0 ... 1 whatever the clips, is chosen here.
    """

    name = "frl-dgt"
    Config = FrlDgtConfig
    presets = PRESETS
    pipeline = "frl-dgt"
    colours = 3

    @property
    def regions(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the regions that the attention weighs."""
        if self.config.regions == "grid":
            return tuple(f"row {row} column {column}" for row in range(3) for column in range(3))
        return tuple(one.name for one in REGIONS)

    @property
    def length(self) -> int:
        """Frames of a sample: onset and apex."""
        return 2

    @property
    def sees_flow(self) -> bool:
        """Whether TV-L1 flow takes the place of the displacement."""
        return bool(self.config.displacement.startswith("tvl1"))

    @property
    def rebuilds(self) -> bool:
        """Whether a displacement is trained by reconstruction."""
        return bool(self.config.learned and self.config.self_supervised)

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        fed: dict[str, tuple[str, ...]] = {
            "align": ("frames", "landmarks"),
            "flow": ("flow", "pairs"),
        }
        if self.config.displacement == "dynamic-image":
            fed["dynamic-image"] = ("dynamic_image",)
        return fed

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {"flow": {"pairs": "onset-apex"}}

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return an aligned frame with its channels first."""
        return np.ascontiguousarray(frame.transpose(2, 0, 1))

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its onset and apex, and the pairs it is trained on."""
        pairs = np.asarray(arrays["flow"]["pairs"], np.int64)
        if pairs.shape != (1, 2):
            raise TrainingError(
                f"The flow of {clip.clip_id} is not that from an onset to an apex.",
                where=where,
                hint="the pairs must be those of flow.pairs=onset-apex",
            )
        onset, apex = (int(one) for one in pairs[0])
        count = len(arrays["align"]["frames"])
        image = None
        if "dynamic-image" in arrays:
            image = self.image(np.asarray(arrays["dynamic-image"]["dynamic_image"]))
        # Only the tested pair has its flow, which takes the place of a learned displacement.
        others = {NEAR: near_pairs(onset, apex, count), ANY: any_pairs(onset, count)}
        return self._prepared(
            clip, arrays, pairs, image=image, others=others if self.config.learned else None
        )

    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""
        return FrlDgt(self.config, classes)

    def statistics(self, source: ClipSource, clip_ids: tuple[str, ...]) -> Statistics:
        """Return the scale to 0 ... 1, which is the same for all clips."""
        return Statistics(0.0, 255.0, frozenset(clip_ids))

    def settled(self, settings: TrainingSettings) -> TrainingSettings:
        """Return settings without a reconstruction where nothing is reconstructed."""
        if self.rebuilds:
            return settings
        return dataclasses.replace(settings, pre_steps=0, reconstruction_weight=0.0)

    def stretches(self, settings: TrainingSettings) -> tuple[Stretch, ...]:
        """Return the reconstruction of any pairs, and the joint training near onset and apex."""
        near = NEAR if self.config.learned else TESTED
        joint = Stretch("all", settings.steps, near, by_clip=True)
        if not settings.pre_steps:
            return (joint,)
        return (Stretch(RECONSTRUCTION, settings.pre_steps, ANY, by_clip=True), joint)

    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the names of the losses."""
        return ("expression", *(WEIGHTS if self.rebuilds else ()))

    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weights of its losses by name."""
        parts = {name: settings.reconstruction_weight * one for name, one in WEIGHTS.items()}
        return {"expression": 1.0, **parts}

    def rates(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the factor of the learning rate of the displacement."""
        return {"displacement": settings.displacement_rate}

    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        recognise = objective != RECONSTRUCTION
        output = model(*self._inputs(batch), recognise=recognise)
        losses = {}
        if recognise:
            losses["expression"] = functional.cross_entropy(output.logits.float(), batch.labels)
        if self.rebuilds:
            onset, apex = batch.frames.unbind(1)
            losses |= self_supervision(onset.float(), apex.float(), output.displacement.float())
        return losses

    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return classes, the displacement and the flow that it stands for, and attention."""
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
        """Return the boxes of the regions, (B, 9, 4): left, top, right and bottom in px."""
        if self.config.regions == "grid":
            return grid_boxes(len(batch.labels), side=self.side)
        return action_unit_boxes(batch.landmarks[:, 0], side=self.side)

    def _inputs(self, batch: Batch) -> tuple[Tensor | None, ...]:
        flow = batch.flow if self.sees_flow else None
        return (batch.frames, batch.landmarks, flow, batch.image)


def near_pairs(onset: int, apex: int, count: int) -> np.ndarray:
    """Return pairs of frames near an onset and an apex, as variations for training.

    Parameters
    ----------
    onset, apex : int
        The two frames; the annotated pair comes first.
    count : int
        Frames of the clip.

    Returns
    -------
    ndarray, shape (K, 2), int64
        All pairs up to `REACH` frames away from either, in the same order of time; the annotated
        one alone if the apex is the onset.
    """
    pairs = [(onset, apex)]
    for first in range(max(0, onset - REACH), min(count, onset + REACH + 1)):
        for second in range(max(0, apex - REACH), min(count, apex + REACH + 1)):
            ordered = (second - first) * (apex - onset) > 0
            if ordered and (first, second) != pairs[0]:
                pairs.append((first, second))
    return np.array(pairs, np.int64)


def any_pairs(onset: int, count: int) -> np.ndarray:
    """Return the onset with every other frame of a clip, shape (count - 1, 2), int64."""
    others = [one for one in range(count) if one != onset] or [onset]
    return np.array([(onset, one) for one in others], np.int64)
