"""MOL as the training engine sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from mer_prep.dataset import Batch, PreparedClip, phases
from mer_prep.errors import TrainingError
from mer_prep.models.mol import PRESETS, Mol, MolConfig
from mer_prep.models.output import ModelOutput
from mer_prep.ops.images import to_grey
from mer_prep.training.losses import mol_losses
from mer_prep.training.methods.base import Labelled, Method, StageArrays
from mer_prep.training.recipes import TrainingSettings


class MolMethod(Method):
    """Samples of t grey frames at every phase, and the flow between neighbours among them."""

    name = "mol"
    Config = MolConfig
    presets = PRESETS
    pipeline = "mol"

    @property
    def length(self) -> int:
        """Frames t of a sample."""
        return int(self.config.frames)

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        return {"align": ("frames", "landmarks"), "flow": ("flow", "pairs")}

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {"flow": {"pairs": "lagged", "lag_divisor": self.length}}

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return an aligned frame in grey."""
        return to_grey(frame)

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with the samples of all phases."""
        samples = phases(len(arrays["align"]["frames"]), self.length)
        expected = np.stack([samples[:, :-1], samples[:, 1:]], axis=-1).reshape(-1, 2)
        if not np.array_equal(arrays["flow"]["pairs"], expected):
            raise TrainingError(
                f"The flow of {clip.clip_id} is not that of samples of {self.length} frames.",
                where=where,
                hint=f"the pairs must be lagged with flow.lag_divisor={self.length}",
            )
        return self._prepared(clip, arrays, samples)

    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""
        return Mol(self.config, classes)

    def begin(self, model: nn.Module, landmarks: Callable[[], Tensor]) -> None:
        """Make the mean landmarks the first guess of the landmark head."""
        assert isinstance(model, Mol)
        if model.landmarks is not None:
            model.landmarks.start_from(landmarks())

    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the names of the losses of the heads that there are."""
        heads = {"flow": self.config.flow, "landmarks": self.config.landmarks}
        return ("expression", *(name for name, there in heads.items() if there))

    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weights of its losses by name."""
        return {
            "expression": 1.0,
            "flow": settings.flow_weight,
            "landmarks": settings.landmark_weight,
        }

    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the losses of a batch by name."""
        return mol_losses(model(batch.frames), batch)

    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return classes, flow and landmarks."""
        output: ModelOutput = model(batch.frames)
        return output
