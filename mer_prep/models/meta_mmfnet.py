"""Meta-MMFNet: two encoders, meta-trained on episodes, whose distances to prototypes are fused.

References
----------
.. [1] W. Gong, Y. Zhang, W. Wang, P. Cheng, J. Gonzalez, "Meta-MMFNet: Meta-learning-based
   multi-model fusion network for micro-expression recognition", ACM TOMM 20(2), 2023.
   doi:10.1145/3539576
.. [2] Y. Chen, Z. Liu, H. Xu, T. Darrell, X. Wang, "Meta-Baseline: exploring simple meta-learning
   for few-shot learning", ICCV 2021. doi:10.1109/ICCV48922.2021.00893
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.models.resnet18 import Trunk

ENCODERS = ("micro", "macro")
FEATURES = ("both", "difference", "flow")
METRICS = ("cosine", "dot")
APART, LEGACY = "apart", "legacy"
ALPHAS = ("nested", "fixed", LEGACY)

#: Score of a class that no training clip has.
_ABSENT = -1e4


@dataclass(frozen=True)
class MetaMmfnetConfig:
    """The architecture of Meta-MMFNet, and its episodes; the defaults are the paper's.

    Parameters
    ----------
    side : int
        Side of the frame difference and of the flow in px; stacked they are twice as high.
    width : int
        Features of the first stage of the trunks; see `mer_prep.models.resnet18.Trunk`.
    encoder : {'both', 'micro', 'macro'}
        Both encoders, or one alone; Table 3 of [1]_.
    features : {'both', 'difference', 'flow'}
        What the encoders see.
    metric : {'cosine', 'dot'}
        How a clip is compared with a prototype: by the cosine times a learned temperature, as in
        the code, or by the dot product, as printed.
    temperature : float
        The temperature at the start.
    ways, shots, queries : int
        Classes of an episode, and support and query clips of each.
    episodes : int
        Episodes a step.
    draw : {'apart', 'legacy'}
        Whether no clip is on both sides of an episode; see `mer_prep.training.episodes.Episodes`.
    meta : bool
        Whether there are episodes; without, the encoders are trained as classifiers only, as
        for pre-training on macro-expressions.
    macro : {'micro-clips', 'pretrained'}
        What the macro encoder starts from: at random, and then it is trained as a classifier of
        the micro-expressions like the other one, or from weights that were trained on
        macro-expressions, and then it goes to the episodes at once.
    support : int
        Training clips of a class that a test clip is compared with, drawn once a fold; 0 for all.
    alpha : {'nested', 'fixed', 'legacy'}
        How the weight of the macro encoder is chosen: on training subjects that are held out; not
        at all; or, as in the published code, on one random subject of those tested.
    alpha_value : float
        The weight if it is fixed.
    inner_folds : int
        Parts of the training subjects that are held out one after the other to choose it; 0 for
        every subject alone.
    weights : str
        A safetensors file of ResNet-18 that both encoders start from; empty for random weights.
    weights_sha256 : str
        SHA-256 of that file; found when the training begins.
    """

    side: int = 80
    width: int = 64
    encoder: str = "both"
    features: str = "both"
    metric: str = "cosine"
    temperature: float = 10.0
    ways: int = 4
    shots: int = 5
    queries: int = 1
    episodes: int = 4
    draw: str = APART
    meta: bool = True
    macro: str = "micro-clips"
    support: int = 5
    alpha: str = "nested"
    alpha_value: float = 1.0
    inner_folds: int = 5
    weights: str = ""
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        check_range("side", self.side, low=16, high=1024)
        check_range("width", self.width, low=1, high=1024)
        check_option("encoder", self.encoder, ("both", *ENCODERS))
        check_option("features", self.features, FEATURES)
        check_option("metric", self.metric, METRICS)
        check_range("temperature", self.temperature, low=0, high=1e4, open_low=True)
        check_range("ways", self.ways, low=2, high=1024)
        check_range("shots", self.shots, low=1, high=1024)
        check_range("queries", self.queries, low=1, high=1024)
        check_range("episodes", self.episodes, low=1, high=1024)
        check_option("draw", self.draw, (APART, LEGACY))
        check_option("macro", self.macro, ("micro-clips", "pretrained"))
        check_range("support", self.support, low=0, high=1e6)
        check_option("alpha", self.alpha, ALPHAS)
        check_range("alpha_value", self.alpha_value, low=0, high=1e3)
        check_range("inner_folds", self.inner_folds, low=0, high=1e6)
        if not re.fullmatch("([0-9a-f]{64})?", self.weights_sha256):
            raise ConfigError(
                f"'weights_sha256' is no SHA-256: {self.weights_sha256[:80]!r}.",
                hint="leave it out; it is taken from the file that meta-mmfnet.weights names",
            )

    @property
    def encoders(self) -> tuple[str, ...]:
        """Names of the encoders that there are."""
        return ENCODERS if self.encoder == "both" else (self.encoder,)

    @property
    def classified(self) -> tuple[str, ...]:
        """Names of the encoders that are trained as classifiers."""
        if self.meta and self.macro == "pretrained":
            return tuple(name for name in self.encoders if name != "macro")
        return self.encoders


#: Architectures by name.
PRESETS: dict[str, MetaMmfnetConfig] = {
    "paper": MetaMmfnetConfig(),
    "code": MetaMmfnetConfig(),
    "tiny": MetaMmfnetConfig(side=40, width=8, episodes=2, support=0, inner_folds=2),
}


class Encoder(nn.Module):
    """A trunk, the classifier it is first trained with, and the prototypes it is tested with.

    Parameters
    ----------
    config : MetaMmfnetConfig
        The architecture.
    classes : int
        Number of classes n.
    """

    prototypes: Tensor
    present: Tensor

    def __init__(self, config: MetaMmfnetConfig, classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(config.width)
        self.head = nn.Linear(self.trunk.features, classes)
        self.temperature: nn.Parameter | None = None
        if config.metric == "cosine":
            self.temperature = nn.Parameter(torch.tensor(config.temperature))
        self.register_buffer("prototypes", torch.zeros(classes, self.trunk.features))
        self.register_buffer("present", torch.zeros(classes, dtype=torch.bool))

    def compare(self, features: Tensor, prototypes: Tensor) -> Tensor:
        """Return how like features are to prototypes.

        Parameters
        ----------
        features : Tensor, shape (..., B, d)
            Of clips.
        prototypes : Tensor, shape (..., n, d)
            Means of the features of a class.

        Returns
        -------
        Tensor, shape (..., B, n)
            The dot products or, of a model with a temperature, the cosines times it.
        """
        if self.temperature is None:
            return features @ prototypes.transpose(-1, -2)
        cosines = functional.normalize(features, dim=-1) @ functional.normalize(
            prototypes, dim=-1
        ).transpose(-1, -2)
        return self.temperature * cosines

    def scores(self, features: Tensor) -> Tensor:
        """Return the scores (B, n) of features (B, d) by the prototypes that were kept.

        A class that no training clip has is the least likely of all.
        """
        return self.compare(features, self.prototypes).masked_fill(~self.present, _ABSENT)


class MetaMmfnet(nn.Module):
    """The two encoders, and the weight of the second.

    Parameters
    ----------
    config : MetaMmfnetConfig
        The architecture.
    classes : int
        Number of classes n.
    """

    flow_scale: Tensor
    alpha: Tensor

    def __init__(self, config: MetaMmfnetConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        for name in config.encoders:
            self.add_module(name, Encoder(config, classes))
        self.register_buffer("flow_scale", torch.ones(3))
        self.register_buffer("alpha", torch.tensor(config.alpha_value, dtype=torch.float64))

    def encoder(self, name: str) -> Encoder:
        """Return an encoder by its name."""
        found = getattr(self, name)
        assert isinstance(found, Encoder)
        return found

    def pictures(self, frames: Tensor, flow: Tensor) -> Tensor:
        """Return what the encoders see.

        Parameters
        ----------
        frames : Tensor, shape (B, 2, 3, S, S)
            Onset and apex; values of -1 to 1.
        flow : Tensor, shape (B, 1, 2, S, S)
            Flow (u, v) between them, px.

        Returns
        -------
        Tensor, shape (B, 3, 2 S, S) or (B, 3, S, S)
            The apex minus the onset, -2 to 2, above the flow (u, v, size), each part of it divided
            by its largest absolute value in the training clips.
        """
        parts = []
        if self.config.features != "flow":
            parts.append(frames[:, 1] - frames[:, 0])
        if self.config.features != "difference":
            parts.append(with_size(flow[:, 0]) / self.flow_scale.view(1, 3, 1, 1))
        return torch.cat(parts, dim=-2)

    def forward(
        self, frames: Tensor, flow: Tensor, *, encoders: tuple[str, ...] | None = None
    ) -> dict[str, Tensor]:
        """Return the features (B, d) of encoders by name, of all if none are named.

        Other parameters are those of `pictures`.
        """
        pictures = self.pictures(frames, flow)
        names = self.config.encoders if encoders is None else encoders
        return {name: self.encoder(name).trunk(pictures) for name in names}


def fuse(scores: Mapping[str, Tensor], alpha: float) -> Tensor:
    """Return scores (B, n) of encoders as one: ``micro + alpha macro``, or those of the only one.

    Parameters
    ----------
    scores : mapping of str to Tensor, shape (B, n)
        By the name of the encoder.
    alpha : float
        The weight of the macro encoder.
    """
    if len(scores) == 1:
        return next(iter(scores.values()))
    return scores["micro"] + alpha * scores["macro"]


def with_size(flow: Tensor) -> Tensor:
    """Return flow (B, 2, S, S) with its size as a third channel."""
    return torch.cat([flow, flow.square().sum(dim=1, keepdim=True).sqrt()], dim=1)


def episode_loss(
    encoder: Encoder, features: Tensor, episodes: Tensor, *, shots: int, queries: int
) -> Tensor:
    """Return the cross-entropy of the queries of episodes.

    Parameters
    ----------
    encoder : Encoder
        How features are compared with prototypes.
    features : Tensor, shape (E W (K + Q), d)
        Of E episodes of W classes, in each class first its K shots and then its Q queries.
    episodes : Tensor, shape (E W (K + Q),), int64
        Episode of every clip.
    shots, queries : int
        K and Q.

    Returns
    -------
    Tensor, shape ()
        The mean over queries of ``-log softmax(s(f(x), w))[y]`` where w_c is the mean of the
        features of the shots of class c of the same episode.
    """
    count = int(episodes.max()) + 1
    blocks = features.unflatten(0, (count, -1, shots + queries))
    prototypes = blocks[:, :, :shots].mean(dim=2)
    asked = blocks[:, :, shots:].flatten(1, 2)
    scores = encoder.compare(asked, prototypes)
    ways = prototypes.shape[1]
    classes = torch.arange(ways, device=features.device).repeat_interleave(queries)
    return functional.cross_entropy(scores.flatten(0, 1), classes.repeat(count))
