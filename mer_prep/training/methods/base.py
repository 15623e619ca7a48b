"""What the training engine asks of a model: its inputs, its losses, and what it gives."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from mer_prep.dataset import TESTED, Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import ConfigError
from mer_prep.models.output import ModelOutput
from mer_prep.training.recipes import TrainingSettings

#: Arrays of a clip: by stage, and in it by name.
StageArrays = Mapping[str, Mapping[str, Any]]


class Labelled(Protocol):
    """Which clip something is, and its class."""

    @property
    def clip_id(self) -> str:
        """Its id."""

    @property
    def corpus(self) -> str:
        """Its corpus."""

    @property
    def subject(self) -> str:
        """Its subject, named across corpora."""

    @property
    def label(self) -> int:
        """Its class."""


@dataclass(frozen=True)
class Stretch:
    """A part of a training: steps that draw from the same samples and minimise the same.

    Parameters
    ----------
    objective : str
        What is minimised; a name that the method knows.
    steps : int
        How many steps.
    kind : str
        Kind of the samples; see `mer_prep.dataset.PreparedClip`.
    by_clip : bool
        Whether a clip is drawn first, and then one of its samples; see
        `mer_prep.training.loading.Draw`.
    balanced : bool
        Whether a batch has as many samples of every class as of any other.
    everyone : bool
        Whether clips that the fold does not train on are drawn too; see `Method.transductive`.
    """

    objective: str
    steps: int
    kind: str = TESTED
    by_clip: bool = False
    balanced: bool = False
    everyone: bool = False


class Method(ABC):
    """A published method, as the training engine sees it.

    Parameters
    ----------
    config : object
        Its architecture, an instance of `Config`.
    """

    #: Its name, as in `mer_prep.training.cards.MODELS`.
    name: ClassVar[str]
    #: Class of its architecture.
    Config: ClassVar[type]
    #: Architectures by the name of the preset.
    presets: ClassVar[Mapping[str, Any]]
    #: Pipeline that makes its inputs.
    pipeline: ClassVar[str]
    #: Values of every pixel of its frames: 1 for grey, 3 for colour.
    colours: ClassVar[int] = 1
    #: Names of the regions that `ModelOutput.attention` weighs.
    regions: tuple[str, ...] = ()

    def __init__(self, config: Any) -> None:
        self.config = config

    def changed(self, preset: str) -> dict[str, Any]:
        """Return what of the architecture is not as in a preset, by name."""
        usual, mine = dataclasses.asdict(self.presets[preset]), dataclasses.asdict(self.config)
        return {name: value for name, value in mine.items() if value != usual[name]}

    @property
    @abstractmethod
    def length(self) -> int:
        """Frames t of a sample."""

    @property
    def side(self) -> int:
        """Side of its frames, px."""
        return int(self.config.side)

    @property
    def sees_flow(self) -> bool:
        """Whether the model is fed on flow, instead of only learning to give it."""
        return False

    @property
    def transductive(self) -> bool:
        """Whether a stretch sees frames of clips that are tested, though never their labels."""
        return False

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        kind = "grey" if self.colours == 1 else "colour"
        return f"{self.length} {kind} frames of {self.side}x{self.side}"

    @abstractmethod
    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage.

        Those of ``align`` are `frames` and `landmarks`, those of ``flow`` `flow` and `pairs`.
        """

    @abstractmethod
    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""

    def stages(self) -> tuple[str, ...]:
        """Return the stages of the pipeline that it needs."""
        return ("landmarks", *self.datasets())

    @abstractmethod
    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return an aligned frame (S, S, 3), uint8, as it is fed: (S, S) or (3, S, S)."""

    def image(self, array: np.ndarray) -> np.ndarray:
        """Return a stored picture of the whole clip (S, S, C) as it is fed, (C, S, S)."""
        return np.ascontiguousarray(array.transpose(2, 0, 1), np.float32)

    @abstractmethod
    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its samples.

        Parameters
        ----------
        clip : Labelled
            Which clip.
        arrays : mapping
            What `datasets` names.
        where : object, optional
            Where the flow lies, for errors.

        Raises
        ------
        TrainingError
            If the flow is not of the pairs that samples have.
        """

    def _prepared(
        self,
        clip: Labelled,
        arrays: StageArrays,
        samples: np.ndarray,
        *,
        image: np.ndarray | None = None,
        others: Mapping[str, np.ndarray] | None = None,
    ) -> PreparedClip:
        """Return a clip with its frames as they are fed, and the samples that were chosen."""
        return PreparedClip(
            clip_id=clip.clip_id,
            corpus=clip.corpus,
            subject=clip.subject,
            label=clip.label,
            frames=np.stack([self.picture(frame) for frame in arrays["align"]["frames"]]),
            flow=arrays["flow"]["flow"],
            landmarks=arrays["align"]["landmarks"],
            samples=samples,
            image=image,
            others=others or {},
        )

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""

    def begin(self, model: nn.Module, landmarks: Callable[[], Tensor]) -> None:  # noqa: B027
        """Make use, before the first step, of the training clips' mean landmarks (68, 2), px."""

    def statistics(self, source: ClipSource, clip_ids: tuple[str, ...]) -> Statistics:
        """Return how frames are normalised, from the training clips alone."""
        return source.statistics(clip_ids)

    def settled(self, settings: TrainingSettings) -> TrainingSettings:
        """Return settings without what the architecture has no use for.

        Raises
        ------
        ConfigError
            If steps are asked for that the method does not have.
        """
        if settings.pre_steps:
            raise ConfigError(
                f"{self.name} has no steps before its training.",
                hint="leave --pre-steps out; it is for frl-dgt and selfme",
            )
        return settings

    def stretches(self, settings: TrainingSettings) -> tuple[Stretch, ...]:
        """Return the parts of a training, in order."""
        return (Stretch("all", settings.steps),)

    @abstractmethod
    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the names of the losses that a training has, in the order of its log."""

    @abstractmethod
    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weights of its losses by name."""

    def rates(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return factors of the learning rate by the first names of parameters."""
        return {}

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the losses of a batch by name, those that count for the objective.

        Parameters
        ----------
        model : nn.Module
            The model, or what compiles or shares it.
        batch : Batch
            The samples.
        objective : str
            As in `Stretch`.
        """

    def boxes(self, batch: Batch) -> Tensor | None:
        """Return the boxes (B, K, 4) of `regions`: left, top, right and bottom in px."""
        return None

    @abstractmethod
    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return what the model gives for samples that are tested."""
