"""What each model feeds on and how it is trained, by preset.

A preset joins an architecture with the settings it was published with. What a paper leaves open
is chosen here, and `choices` says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mer_prep.checks import check_option, check_range

OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "step")

#: How the weights behind a published figure were chosen, and in words.
SELECTED = {
    "leak-free": "leak-free",
    "test-subject": "weights chosen on the test subject",
    "not-stated": "not stated if leak-free",
}


#: Of settings that came later: at their defaults they are no part of a study's digest.
_LATER = {"key": "unless default"}


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    optimiser : {'adam', 'adamw', 'sgd'}
        Optimiser.
    learning_rate : float
        Its learning rate at the start.
    weight_decay : float
        Its weight decay.
    schedule : {'constant', 'cosine', 'step'}
        The learning rate over the steps: kept, brought to 0 along half a cosine, or multiplied by
        `decay` every so many steps.
    steps : int
        Steps of training per fold.
    batch : int
        Samples a step.
    clip_gradient : float
        Largest norm of the gradient; 0 for no limit.
    flow_weight, landmark_weight : float
        Weights of the auxiliary losses of MOL; that of the expression is 1.
    pre_steps : int
        Steps before, in which the displacement of FRL-DGT, or the motion of SelfME, is trained on
        reconstruction alone, or the encoders of Meta-MMFNet as classifiers.
    reconstruction_weight : float
        Weight of that reconstruction beside the expression.
    displacement_rate : float
        Factor of the learning rate of the network that gives the displacement.
    brightness : float
        Largest change of brightness of a training sample, as a part of it; 0 to 0.9.
    mirror : bool
        Whether half of the training samples are mirrored left to right.
    momentum : float
        Momentum of ``sgd``, 0 or more and below 1.
    decay : float
        What the learning rate is multiplied by in the schedule ``step``.
    decay_steps, pre_decay_steps : int
        After how many steps each time, in the training and in the steps before; 0 for never.
    pre_learning_rate : float
        Learning rate of the steps before; 0 for the same.
    """

    optimiser: str = "adam"
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    schedule: str = "constant"
    steps: int = 1000
    batch: int = 32
    clip_gradient: float = 0.0
    flow_weight: float = 0.1
    landmark_weight: float = 68.0
    pre_steps: int = field(default=0, metadata=_LATER)
    reconstruction_weight: float = field(default=1.0, metadata=_LATER)
    displacement_rate: float = field(default=1.0, metadata=_LATER)
    brightness: float = field(default=0.0, metadata=_LATER)
    mirror: bool = field(default=True, metadata=_LATER)
    momentum: float = field(default=0.0, metadata=_LATER)
    decay: float = field(default=0.1, metadata=_LATER)
    decay_steps: int = field(default=0, metadata=_LATER)
    pre_decay_steps: int = field(default=0, metadata=_LATER)
    pre_learning_rate: float = field(default=0.0, metadata=_LATER)

    def __post_init__(self) -> None:
        check_option("optimiser", self.optimiser, OPTIMISERS)
        check_option("schedule", self.schedule, SCHEDULES)
        check_range("learning_rate", self.learning_rate, low=1e-9, high=10)
        check_range("weight_decay", self.weight_decay, low=0)
        check_range("steps", self.steps, low=1)
        check_range("batch", self.batch, low=1)
        check_range("clip_gradient", self.clip_gradient, low=0)
        check_range("flow_weight", self.flow_weight, low=0)
        check_range("landmark_weight", self.landmark_weight, low=0)
        check_range("pre_steps", self.pre_steps, low=0)
        check_range("reconstruction_weight", self.reconstruction_weight, low=0)
        check_range("displacement_rate", self.displacement_rate, low=0)
        check_range("brightness", self.brightness, low=0, high=0.9)
        check_range("momentum", self.momentum, low=0, high=0.9999)
        check_range("decay", self.decay, low=0, high=1, open_low=True)
        check_range("decay_steps", self.decay_steps, low=0)
        check_range("pre_decay_steps", self.pre_decay_steps, low=0)
        check_range("pre_learning_rate", self.pre_learning_rate, low=0, high=10)

    @property
    def all_steps(self) -> int:
        """Steps of a fold in all."""
        return self.pre_steps + self.steps


@dataclass(frozen=True)
class Preset:
    """A named way to train a model.

    Parameters
    ----------
    name : str
        Its name.
    title : str
        One line on what it is.
    training : TrainingSettings
        How it is trained.
    reduce : int
        Px of the aligned frames that become one.
    start_landmarks : bool
        Whether the mean landmarks of the training clips are the first guess of that head.
    choices : tuple of str
        What the source leaves open and was chosen here.
    published : bool
        Whether published results are of this way.
    """

    name: str
    title: str
    training: TrainingSettings
    reduce: int = 1
    start_landmarks: bool = False
    choices: tuple[str, ...] = ()
    published: bool = True


@dataclass(frozen=True)
class Published:
    """One published result.

    Parameters
    ----------
    protocol, labels : str
        What was evaluated; names of this toolkit.
    part : str
        Corpus, or ``all``.
    scores : mapping of str to float
        Scores by name, 0 to 1.
    source : str
        Where it is printed.
    variant : mapping
        What of the architecture is not as in the preset, for ablations.
    selected : {'leak-free', 'test-subject', 'not-stated'}
        How the weights behind it were chosen: known to have been without the test subject, chosen
        on it, as in a published script that keeps the best epoch, or not said.
    preset : str, optional
        The preset it is of; any that has a published counterpart if None.
    """

    protocol: str
    labels: str
    part: str
    scores: Mapping[str, float]
    source: str
    variant: Mapping[str, Any] = field(default_factory=dict)
    selected: str = "not-stated"
    preset: str | None = None

    def __post_init__(self) -> None:
        check_option("selected", self.selected, SELECTED)


@dataclass(frozen=True)
class ModelCard:
    """What is known of a model without building it.

    Parameters
    ----------
    name, title, reference : str
        Names, and the publication.
    presets : mapping of str to Preset
        Ways to train it.
    published : tuple of Published
        Published results.
    note : str
        What a reader of the results should know.
    """

    name: str
    title: str
    reference: str
    presets: Mapping[str, Preset]
    published: tuple[Published, ...] = field(default=())
    note: str = ""

    def preset(self, name: str) -> Preset:
        """Return a preset by name; an unknown one is an error that suggests the nearest."""
        check_option("preset", name, self.presets)
        return self.presets[name]


def with_changes(settings: TrainingSettings, changes: Mapping[str, Any]) -> TrainingSettings:
    """Return settings with those that are not None replaced."""
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(settings, **given)
