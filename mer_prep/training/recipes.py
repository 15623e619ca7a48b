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

OPTIMISERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine")


#: Of settings that came later: at their defaults they are no part of a study's digest.
_LATER = {"key": "unless default"}


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained.

    Parameters
    ----------
    optimiser : {'adam', 'adamw'}
        Optimiser.
    learning_rate : float
        Its learning rate at the start.
    weight_decay : float
        Its weight decay.
    schedule : {'constant', 'cosine'}
        The learning rate over the steps: kept, or brought to 0 along half a cosine.
    steps : int
        Steps of training per fold.
    batch : int
        Samples a step.
    clip_gradient : float
        Largest norm of the gradient; 0 for no limit.
    flow_weight, landmark_weight : float
        Weights of the auxiliary losses of MOL; that of the expression is 1.
    pre_steps : int
        Steps before, in which the displacement of FRL-DGT is trained on reconstruction alone.
    reconstruction_weight : float
        Weight of that reconstruction beside the expression.
    displacement_rate : float
        Factor of the learning rate of the network that gives the displacement.
    brightness : float
        Largest change of brightness of a training sample, as a part of it; 0 to 0.9.
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
    """

    protocol: str
    labels: str
    part: str
    scores: Mapping[str, float]
    source: str
    variant: Mapping[str, Any] = field(default_factory=dict)


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


MOL = ModelCard(
    name="mol",
    title="MOL: micro-expression, optical flow and landmarks from raw frames",
    reference="Shao et al., MOL: Joint Estimation of Micro-Expression, Optical Flow, and Landmark "
    "via Transformer-Graph-Style Convolution, IEEE TPAMI, 2025. arXiv:2506.14511",
    presets={
        "paper": Preset(
            "paper",
            "as written in the paper, without pre-training",
            TrainingSettings(),
            choices=(
                "1000 steps a fold (the paper names no number)",
                "grey frames (the text says colour, Table I one channel)",
                "a channel is not its own neighbour",
                "frames are registered to the onset instead of aligned one by one",
                "probabilities of a clip are averaged over its phases",
            ),
        ),
        "code": Preset(
            "code",
            "as the published code computes it, without its errors in data and scoring",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=1e-4,
                weight_decay=1e-3,
                # Its weights 10 and 0.1 of losses divided, and not divided, by 7 pairs.
                flow_weight=10 / 7,
                landmark_weight=0.1 * 7,
            ),
            choices=(
                "statistics of batch normalisation over all pairs together",
                "frames are registered to the onset instead of aligned one by one",
                "probabilities of a clip are averaged over its phases",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "a small version of `paper` for tests and demos on a CPU",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=5e-3,
                weight_decay=1e-2,
                schedule="cosine",
                steps=120,
                batch=16,
                clip_gradient=1.0,
                landmark_weight=1.0,
            ),
            reduce=2,
            start_landmarks=True,
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(
        Published("loso", "casme2-3", "all", {"acc": 0.9126, "wf1": 0.8891}, "Table IV"),
        Published("loso", "casme2-5", "all", {"acc": 0.7923, "wf1": 0.7585}, "Table IV"),
        Published("loso", "samm-3", "all", {"acc": 0.8836, "wf1": 0.8272}, "Table IV"),
        Published("loso", "samm-5", "all", {"acc": 0.7668, "wf1": 0.7190}, "Table IV"),
        Published("loso", "smic-3", "all", {"acc": 0.8071, "wf1": 0.7881}, "Table V"),
        Published("loso", "megc2019-3", "all", {"uf1": 0.8779, "uar": 0.8542}, "Table VI"),
        Published("loso", "megc2019-3", "casme2", {"uf1": 0.9008, "uar": 0.8992}, "Table VI"),
        Published("loso", "megc2019-3", "samm", {"uf1": 0.8972, "uar": 0.8900}, "Table VI"),
        Published("loso", "megc2019-3", "smic", {"uf1": 0.8100, "uar": 0.7234}, "Table VI"),
        Published(
            "cross-corpus",
            "megc2019-3",
            "casme2 to smic",
            {"acc": 0.4713, "wf1": 0.4391},
            "Table VII",
        ),
        Published(
            "cross-corpus",
            "megc2019-3",
            "samm to smic",
            {"acc": 0.4458, "wf1": 0.3232},
            "Table VII",
        ),
    ),
    note="The published figures rest on pre-training with Aff-Wild2, and the published code picks "
    "its checkpoint on the test subject.",
)

_FULL = {"all": (0.812, 0.811), "smic": (0.743, 0.749), "samm": (0.772, 0.758)}
_FULL["casme2"] = (0.919, 0.903)

#: Table 2 of FRL-DGT: what differs, and UF1 and UAR of the whole, SMIC, SAMM and CASME II.
_ABLATIONS: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("M0", {"displacement": "tvl1"}, (0.741, 0.718, 0.671, 0.662, 0.695, 0.662, 0.846, 0.834)),
    (
        "M1",
        {"displacement": "tvl1-normalised"},
        (0.758, 0.739, 0.671, 0.667, 0.778, 0.730, 0.869, 0.831),
    ),
    (
        "M2",
        {"displacement": "dynamic-image"},
        (0.739, 0.720, 0.684, 0.679, 0.762, 0.745, 0.759, 0.716),
    ),
    ("M3", {"self_supervised": False}, (0.778, 0.777, 0.707, 0.718, 0.697, 0.677, 0.914, 0.889)),
    ("M4", {"fusion": "after"}, (0.797, 0.792, 0.746, 0.746, 0.734, 0.719, 0.898, 0.885)),
    ("M5", {"regions": "grid"}, (0.765, 0.765, 0.665, 0.673, 0.754, 0.734, 0.894, 0.876)),
    ("M6", {"full_face": False}, (0.773, 0.774, 0.689, 0.698, 0.758, 0.704, 0.876, 0.881)),
    ("M7", {"local_fusion": False}, (0.781, 0.765, 0.741, 0.745, 0.725, 0.672, 0.848, 0.838)),
    ("M8", {"global_fusion": False}, (0.782, 0.773, 0.701, 0.706, 0.711, 0.671, 0.904, 0.886)),
)


def _composite(
    source: str, variant: Mapping[str, Any], figures: Mapping[str, tuple[float, float]]
) -> tuple[Published, ...]:
    """Return published UF1 and UAR of the composite and of its parts."""
    return tuple(
        Published("loso", "megc2019-3", part, {"uf1": uf1, "uar": uar}, source, variant)
        for part, (uf1, uar) in figures.items()
    )


def _parts(figures: tuple[float, ...]) -> dict[str, tuple[float, float]]:
    pairs = zip(figures[::2], figures[1::2], strict=True)
    return dict(zip(_FULL, pairs, strict=True))


FRL_DGT = ModelCard(
    name="frl-dgt",
    title="FRL-DGT: a learned displacement from onset to apex, fused over regions of action units",
    reference="Zhai et al., Feature Representation Learning with Adaptive Displacement Generation "
    "and Transformer Fusion for Micro-Expression Recognition, CVPR 2023. arXiv:2304.04420",
    presets={
        "paper": Preset(
            "paper",
            "after the paper's poster and abstract; no code is published",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=1e-4,
                weight_decay=1e-2,
                schedule="cosine",
                steps=840,
                batch=32,
                clip_gradient=1.0,
                pre_steps=420,
                reconstruction_weight=30.0,
                displacement_rate=0.5,
                brightness=0.1,
            ),
            choices=(
                "all sizes of all layers, the nine regions, and how tokens are fused",
                "the displacement starts from guesses in closed form (frl-dgt.guess)",
                "the terms of the reconstruction and their weights: 30 times that of the classes, "
                "as grey levels from 0 to 1 differ by hundredths",
                "420 steps of reconstruction alone, then 840 of both (30 and 60 times the clips); "
                "AdamW, its rate halved for the displacement, and all that is in `training`",
                "crops of 128 of 144 px, mirrored, brighter or darker by up to a tenth, and frames "
                "up to 2 away from onset and apex",
                "frames are registered to the onset; the apex is spotted where none is annotated",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "a small version of `paper` for tests and demos on a CPU",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=2e-3,
                weight_decay=1e-2,
                schedule="cosine",
                steps=60,
                batch=8,
                clip_gradient=1.0,
                pre_steps=30,
                reconstruction_weight=30.0,
                brightness=0.1,
            ),
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(
        *_composite("Table 1", {}, _FULL),
        *(
            one
            for name, variant, figures in _ABLATIONS
            for one in _composite(f"Table 2, {name}", variant, _parts(figures))
        ),
    ),
    note="A re-implementation from the paper's poster and abstract: whatever these do not say was "
    "chosen here.",
)

#: Models by name.
MODELS: dict[str, ModelCard] = {"mol": MOL, "frl-dgt": FRL_DGT}


def model_card(name: str) -> ModelCard:
    """Return what is known of a model; an unknown name is an error that suggests the nearest."""
    check_option("model", name, MODELS)
    return MODELS[name]


def with_changes(settings: TrainingSettings, changes: Mapping[str, Any]) -> TrainingSettings:
    """Return settings with those that are not None replaced."""
    given = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(settings, **given)
