"""Support vector machines on features of clips, as the training engine sees them."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mer_prep.dataset import Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import ConfigError, TrainingError
from mer_prep.models import bi_woof_svm, lbp_top_svm
from mer_prep.models.output import ModelOutput
from mer_prep.models.svm import LinearSvm, hinge_loss
from mer_prep.ops.images import to_grey
from mer_prep.ops.svm import require_solver
from mer_prep.training.methods.base import Labelled, Method, StageArrays, Stretch
from mer_prep.training.recipes import TrainingSettings

#: Settings that say nothing of what is solved for: how many clips are handed over at a time.
_WITHOUT_EFFECT = {"batch"}


class SvmMethod(Method):
    """Features of the whole clip and a linear support vector machine, solved in one step."""

    solved = True

    @property
    def length(self) -> int:
        """Frames of a sample: two, which are only for pictures of it."""
        return 2

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return an aligned frame in grey."""
        return to_grey(frame)

    def middle(self, pictures: np.ndarray) -> np.ndarray:
        """Return the middle (..., S, S) of pictures (..., H, W)."""
        top, left = ((size - self.side) // 2 for size in pictures.shape[-2:])
        if min(top, left) < 0:
            raise ConfigError(
                f"The model takes frames of {self.side} px, and the aligned ones have "
                f"{pictures.shape[-1]}.",
                hint=f"align larger frames (--set align.size={self.side}), or choose "
                f"--set {self.name}.side={min(pictures.shape[-2:])}",
            )
        return pictures[..., top : top + self.side, left : left + self.side]

    def build(self, classes: int) -> nn.Module:
        """Return the machine before it is solved."""
        return LinearSvm(self.config.features, classes)

    def statistics(self, source: ClipSource, clip_ids: tuple[str, ...]) -> Statistics:
        """Return the scale to 0 ... 1; features are standardised by the machine itself."""
        return Statistics(0.0, 255.0, frozenset(clip_ids))

    def settled(self, settings: TrainingSettings) -> TrainingSettings:
        """Return the settings; those of a training by gradients are refused.

        Raises
        ------
        ConfigError
            If a setting is given that a machine solved in one step does not have.
        DependencyError
            If scikit-learn is not installed.
        """
        usual = dataclasses.asdict(TrainingSettings(steps=1))
        given = dataclasses.asdict(settings)
        strange = [one for one in usual if given[one] != usual[one] and one not in _WITHOUT_EFFECT]
        if strange:
            options = " or ".join(f"--{one.replace('_', '-')}" for one in strange)
            raise ConfigError(
                f"{self.name} is solved in one step; it has no {options}.",
                hint=f"--set {self.name}.cost=VALUE says how hard it fits; `mer-prep models "
                f"{self.name} --json` lists what else there is",
            )
        require_solver()
        return settings

    def stretches(self, settings: TrainingSettings) -> tuple[Stretch, ...]:
        """Return the one step."""
        return (Stretch("all", 1, solved=True),)

    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the name of what is noted of the step."""
        return ("hinge",)

    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weight of the only loss."""
        return {"hinge": 1.0}

    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the mean hinge loss of a batch."""
        return {"hinge": hinge_loss(model(batch.features), batch.labels)}

    def solve(
        self, model: nn.Module, batches: Iterable[Batch], objective: str
    ) -> dict[str, Tensor]:
        """Solve the machine on all training clips; return their mean hinge loss."""
        assert isinstance(model, LinearSvm)
        parts = [(_features(batch), batch.labels) for batch in batches]
        features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        model.solve(features, labels, self.config)
        return {"hinge": hinge_loss(model(features), labels)}

    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return the classes."""
        return ModelOutput(model(_features(batch)))

    @abstractmethod
    def describe(self, arrays: StageArrays) -> np.ndarray:
        """Return the features (F,), float32, of a clip."""


class LbpTopSvmMethod(SvmMethod):
    """Clips at one length, by the stage ``tim``, and local binary patterns in three planes."""

    name = "lbp-top-svm"
    Config = lbp_top_svm.LbpTopSvmConfig
    presets = lbp_top_svm.PRESETS
    pipeline = "lbp-top"
    described = ("tim",)

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        return f"a clip at {self.config.frames} grey frames of {self.side}x{self.side}"

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        return {"align": ("frames", "landmarks"), "tim": ("frames",)}

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {"tim": {"length": self.config.frames}}

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its features; its sample shows the first and the middle frame."""
        samples = np.array([[0, len(arrays["align"]["frames"]) // 2]], np.int64)
        return self._prepared(clip, arrays, samples, features=self.describe(arrays))

    def describe(self, arrays: StageArrays) -> np.ndarray:
        """Return the LBP-TOP histograms of a clip."""
        grey = np.stack([to_grey(frame) for frame in arrays["tim"]["frames"]])
        return self.config.describe(self.middle(grey))


class BiWoofSvmMethod(SvmMethod):
    """The flow from onset to apex, and histograms of its orientations."""

    name = "bi-woof-svm"
    Config = bi_woof_svm.BiWoofSvmConfig
    presets = bi_woof_svm.PRESETS
    pipeline = "bi-woof"

    @property
    def sees_flow(self) -> bool:
        """Whether the model is fed on flow: on nothing else."""
        return True

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        return f"the flow from onset to apex of {self.side}x{self.side}"

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        return {"align": ("frames", "landmarks"), "flow": ("flow", "pairs")}

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {"flow": {"pairs": "onset-apex"}}

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its features; its sample is the onset and the apex."""
        pairs = np.asarray(arrays["flow"]["pairs"], np.int64)
        if pairs.shape != (1, 2):
            raise TrainingError(
                f"The flow of {clip.clip_id} is not that from an onset to an apex.",
                where=where,
                hint="the pairs must be those of flow.pairs=onset-apex",
            )
        return self._prepared(clip, arrays, pairs, features=self.describe(arrays))

    def describe(self, arrays: StageArrays) -> np.ndarray:
        """Return the Bi-WOOF histograms of a clip."""
        flow = np.asarray(arrays["flow"]["flow"][0], np.float32)
        return self.config.describe(self.middle(flow))


def _features(batch: Batch) -> Tensor:
    assert batch.features is not None, "the clips were prepared with their features"
    return batch.features
