"""What the training engine asks of a model: its inputs, its losses, and what it gives."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from mer_prep.dataset import TESTED, Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import ConfigError
from mer_prep.models.output import ModelOutput
from mer_prep.training.episodes import Episodes
from mer_prep.training.recipes import TrainingSettings

if TYPE_CHECKING:
    from mer_prep.training.fit import Machine, View

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
    solved : bool
        Whether it is one step in which the weights are not improved but solved for, from all of
        its samples; see `Method.solve`.
    episodes : Episodes, optional
        What a step draws, if it is made of episodes.
    fresh : bool
        Whether the optimiser begins without what it remembers of the steps before.
    """

    objective: str
    steps: int
    kind: str = TESTED
    by_clip: bool = False
    balanced: bool = False
    everyone: bool = False
    episodes: Episodes | None = None
    fresh: bool = False
    solved: bool = False

    def __post_init__(self) -> None:
        if self.solved and self.steps != 1:
            raise ValueError(f"what is solved takes 1 step, not {self.steps}")


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
    #: Stages of which only features are computed; none of their arrays is kept with a clip.
    described: ClassVar[tuple[str, ...]] = ()
    #: Whether all weights are solved for, so that it does not matter which they were before.
    solved: ClassVar[bool] = False
    #: Whether its clips are so small that all of them stay in memory, whatever the loader.
    small: ClassVar[bool] = False
    #: Names of the regions that `ModelOutput.attention` weighs.
    regions: tuple[str, ...] = ()

    def __init__(self, config: Any) -> None:
        self.config = config

    def changed(self, preset: str) -> dict[str, Any]:
        """Return what of the architecture is not as in a preset, by name."""
        usual, mine = dataclasses.asdict(self.presets[preset]), dataclasses.asdict(self.config)
        return {name: value for name, value in mine.items() if value != usual[name]}

    def alone(self) -> dict[str, dict[str, Any]]:
        """Return, by the name of each part of a fused model, the change that leaves it alone."""
        return {}

    def marks(self, preset: str) -> list[str]:
        """Return what the name of a run says of its architecture."""
        return [f"{name}-{value}" for name, value in self.changed(preset).items()]

    def located(self) -> Method:
        """Return the method with the files that it is given named for good, by their contents.

        Raises
        ------
        TrainingError
            If a file cannot be read.
        """
        return self

    def remarks(self, *, init: bool) -> list[str]:
        """Return what a reader of its scores must know, such as what it starts from.

        Parameters
        ----------
        init : bool
            Whether weights are given by ``--init``.

        Raises
        ------
        ConfigError
            If the method needs weights and there are none.
        """
        return []

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
        features: np.ndarray | None = None,
    ) -> PreparedClip:
        """Return a clip with its frames as they are fed, and the samples that were chosen.

        Without the stage ``flow`` its flow is not a number.
        """
        frames = np.stack([self.picture(frame) for frame in arrays["align"]["frames"]])
        if "flow" in arrays:
            flow = arrays["flow"]["flow"]
        else:
            pairs = len(samples) * (samples.shape[1] - 1)
            flow = np.full((pairs, 2, *frames.shape[-2:]), np.nan, np.float32)
        return PreparedClip(
            clip_id=clip.clip_id,
            corpus=clip.corpus,
            subject=clip.subject,
            label=clip.label,
            frames=frames,
            flow=flow,
            landmarks=arrays["align"]["landmarks"],
            samples=samples,
            image=image,
            others=others or {},
            features=features,
        )

    @abstractmethod
    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""

    def begin(self, model: nn.Module, landmarks: Callable[[], Tensor]) -> None:  # noqa: B027
        """Make use, before the first step, of the training clips' mean landmarks (68, 2), px."""

    def measure(  # noqa: B027
        self, model: nn.Module, source: ClipSource, clip_ids: tuple[str, ...], view: View
    ) -> None:
        """Take from the training clips what the model keeps in its buffers, before the first step.

        Checkpoints hold it beside the weights.
        """

    def conclude(  # noqa: B027
        self,
        model: nn.Module,
        source: ClipSource,
        clip_ids: Sequence[str],
        view: View,
        machine: Machine,
        *,
        name: str,
        seed: int,
    ) -> None:
        """Make a trained model ready to be tested, by its training clips alone.

        Parameters
        ----------
        model : nn.Module
            The model; what it needs becomes buffers of it.
        source : ClipSource
            The clips.
        clip_ids : sequence of str
            Those it was trained on.
        view : View
            How samples become what it takes.
        machine : Machine
            Where to compute.
        name : str
            Name of the fold.
        seed : int
            The seed of the study.
        """

    def tested_by(
        self, source: ClipSource, clip_ids: Sequence[str], *, name: str, seed: int
    ) -> dict[str, Any]:
        """Return what of the training clips `conclude` takes, as plain values for JSON."""
        return {}

    @property
    def inner_folds(self) -> int | None:
        """Folds of the training subjects that `tuned` needs; 0 for one a subject, None for none."""
        return None

    def tuned(self, outputs: Sequence[ModelOutput], labels: Sequence[int]) -> dict[str, float]:
        """Return values that are chosen by what models gave for training subjects held out.

        Parameters
        ----------
        outputs : sequence of ModelOutput
            For every clip, by a model that was not trained on its subject.
        labels : sequence of int
            Classes of the clips.
        """
        return {}

    def take(self, model: nn.Module, values: Mapping[str, float]) -> None:  # noqa: B027
        """Give a model the values that were `tuned`."""

    def scored(
        self, rows: Sequence[dict[str, str]], classes: Sequence[str]
    ) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Return the predictions of all folds as they are scored, and what was done to them.

        Parameters
        ----------
        rows : sequence of dict
            Lines of ``predictions.csv``.
        classes : sequence of str
            Names of the classes.
        """
        return list(rows), {}

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
                hint="leave --pre-steps out; it is for frl-dgt, selfme and meta-mmfnet",
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

    def solve(
        self, model: nn.Module, batches: Iterable[Batch], objective: str
    ) -> dict[str, Tensor]:
        """Give a model the weights that solve a stretch in closed form; return its losses by name.

        Whatever the features are normalised by must come from these samples alone: they are those
        of the training clips of the fold.

        Parameters
        ----------
        model : nn.Module
            The model, on the machine's device.
        batches : iterable of Batch
            All samples of the stretch, once, as they are when tested.
        objective : str
            As in `Stretch`.
        """
        raise NotImplementedError(f"{self.name} is not solved in closed form")

    def boxes(self, batch: Batch) -> Tensor | None:
        """Return the boxes (B, K, 4) of `regions`: left, top, right and bottom in px."""
        return None

    @abstractmethod
    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return what the model gives for samples that are tested."""
