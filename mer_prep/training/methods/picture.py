"""What all methods share that see one picture of a clip and name its class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.dataset import Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import TrainingError
from mer_prep.models.output import ModelOutput
from mer_prep.models.picture import PictureNetwork
from mer_prep.training.methods.base import Labelled, Method, StageArrays
from mer_prep.training.recipes import TrainingSettings

if TYPE_CHECKING:
    from mer_prep.training.fit import View


class PictureMethod(Method):
    """One small picture of every clip: u, v and optical strain from onset to apex.

    The picture is `Batch.image`. No frame is kept, and of the flow nothing but what the picture
    shows of it, so that all clips fit into memory anywhere. Pictures are seen as they are, neither
    moved nor mirrored.
    """

    #: Its network, made from the architecture and the number of classes.
    Network: ClassVar[type[Any]]
    pipeline = "ststnet-uvos"
    small = True

    @property
    def length(self) -> int:
        """Frames of a sample: onset and apex."""
        return 2

    @property
    def sees_flow(self) -> bool:
        """Whether the model is fed on flow."""
        return True

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        return f"u, v and strain from onset to apex, {self.side}x{self.side}"

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        return {
            "align": ("landmarks",),
            "flow": ("flow", "pairs"),
            "motion-image": ("motion_image",),
        }

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {
            "flow": {"pairs": "onset-apex"},
            "motion-image": {"size": self.side, "normalise": self.config.normalise},
        }

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame as it is fed: not at all, (0, S, S)."""
        return np.empty((0, self.side, self.side), np.uint8)

    def shown(
        self, arrays: StageArrays, onset: int, apex: int, landmarks: np.ndarray
    ) -> np.ndarray:
        """Return the picture of a clip.

        Parameters
        ----------
        arrays : mapping
            What `datasets` names.
        onset, apex : int
            Which of the aligned frames they are.
        landmarks : ndarray, shape (N, 68, 2), float32
            Landmarks of all frames in px of the picture.

        Returns
        -------
        ndarray, shape (C, S, S), float32
            The picture.
        """
        return np.asarray(arrays["motion-image"]["motion_image"][0], np.float32)

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its picture, and its onset and apex as the only sample."""
        pairs = np.asarray(arrays["flow"]["pairs"], np.int64)
        if pairs.shape != (1, 2):
            raise TrainingError(
                f"The flow of {clip.clip_id} is not that from an onset to an apex.",
                where=where,
                hint="the pairs must be those of flow.pairs=onset-apex",
            )
        onset, apex = (int(one) for one in pairs[0])
        scale = self.side / arrays["flow"]["flow"].shape[-1]
        landmarks = (np.asarray(arrays["align"]["landmarks"], np.float64) + 0.5) * scale - 0.5
        landmarks = landmarks.astype(np.float32)
        return PreparedClip(
            clip_id=clip.clip_id,
            corpus=clip.corpus,
            subject=clip.subject,
            label=clip.label,
            frames=np.empty((len(landmarks), 0, self.side, self.side), np.uint8),
            # Not a number, so that nothing uses it by accident.
            flow=np.full((1, 2, self.side, self.side), np.nan, np.float32),
            landmarks=landmarks,
            samples=pairs,
            image=self.shown(arrays, onset, apex, landmarks),
        )

    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""
        network: PictureNetwork = self.Network(self.config, classes)
        return network

    def measure(
        self, model: nn.Module, source: ClipSource, clip_ids: tuple[str, ...], view: View
    ) -> None:
        """Normalise by the pictures of the training clips."""
        assert isinstance(model, PictureNetwork)
        pictures = source.batch(source.samples(clip_ids)).image
        assert pictures is not None
        model.measure(pictures.to(model.mean.device), centre=self.config.centre)

    def statistics(self, source: ClipSource, clip_ids: tuple[str, ...]) -> Statistics:
        """Return that no frame is normalised; pictures are, by the model."""
        return Statistics(0.0, 1.0, frozenset(clip_ids))

    def settled(self, settings: TrainingSettings) -> TrainingSettings:
        """Return settings under which no picture is mirrored: u would have to change its sign."""
        return dataclasses.replace(super().settled(settings), mirror=False)

    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the name of its loss."""
        return ("expression",)

    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weight of its loss."""
        return {"expression": 1.0}

    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the cross-entropy of a batch."""
        scores = model(batch.image)
        return {"expression": functional.cross_entropy(scores.float(), batch.labels)}

    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return the classes."""
        return ModelOutput(model(batch.image))
