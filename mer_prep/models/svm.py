"""A linear support vector machine on features of a clip, as a module with weights to keep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_range
from mer_prep.ops.svm import linear_svm

#: A feature that varies less than this among the training clips is constant but for rounding.
_CONSTANT = 1e-12


@dataclass(frozen=True)
class SvmConfig:
    """How features of a clip are told apart; the features themselves are of other classes.

    Parameters
    ----------
    side : int
        Side S of the middle of the aligned frames that is seen, 16 to 4096 px.
    cost : float
        C of the support vector machine, above 0; see `mer_prep.ops.svm`.
    balanced : bool
        Whether a class and the rest count the same, however many clips they have.
    standardised : bool
        Whether each feature is brought to mean 0 and deviation 1 over the training clips.
    """

    side: int = 144
    cost: float = 1.0
    balanced: bool = True
    standardised: bool = True

    def __post_init__(self) -> None:
        check_range("side", self.side, low=16, high=4096)
        check_range("cost", self.cost, low=0, high=1e9, open_low=True)

    @property
    def features(self) -> int:
        """Number F of features."""
        raise NotImplementedError


class LinearSvm(nn.Module):
    """A linear support vector machine, one class against the rest.

    Parameters
    ----------
    features, classes : int
        Numbers F and n of features and classes.

    Notes
    -----
    Its buffers are ``mean`` and ``deviation``, shape (F,), and its parameters are those of the
    layer ``machine``, weights (n, F) and offsets (n,): as long as nothing is solved, 0.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.machine = nn.Linear(features, classes)
        nn.init.zeros_(self.machine.weight)
        nn.init.zeros_(self.machine.bias)

    @torch.no_grad()
    def solve(self, features: Tensor, labels: Tensor, config: SvmConfig) -> None:
        """Take the weights that tell training clips apart, and nothing of any others.

        Parameters
        ----------
        features : Tensor, shape (N, F), float
            Features of the training clips.
        labels : Tensor, shape (N,), int64
            Their classes.
        config : SvmConfig
            How.

        Raises
        ------
        DependencyError
            If scikit-learn is not installed.
        TrainingError
            If the solver does not come to an end.
        """
        values = features.double().cpu()
        if config.standardised:
            deviation = values.std(dim=0, correction=0)
            # What is the same in all training clips tells nothing, and must not be divided by 0.
            constant = deviation <= _CONSTANT * values.abs().amax(dim=0)
            self._take(self.mean, values.mean(dim=0))
            self._take(self.deviation, torch.where(constant, 1.0, deviation))
        weights, offsets = linear_svm(
            self._standardised(values).numpy(),
            labels.cpu().numpy(),
            classes=self.machine.out_features,
            cost=config.cost,
            balanced=config.balanced,
        )
        self._take(self.machine.weight, torch.from_numpy(weights))
        self._take(self.machine.bias, torch.from_numpy(offsets))

    def forward(self, features: Tensor) -> Tensor:
        """Return how far clips lie on the side of every class, shape (B, n), float32.

        The distance is in margins: 1 and more is well within the class. It is computed in float64,
        so that it is the same whatever the precision of the run.
        """
        weight, bias = self.machine.weight.double(), self.machine.bias.double()
        values = self._standardised(features.double())
        return nn.functional.linear(values, weight, bias).float()

    def _standardised(self, values: Tensor) -> Tensor:
        mean, deviation = self.mean.to(values), self.deviation.to(values)
        return (values - mean) / deviation

    @staticmethod
    def _take(tensor: Tensor, values: Tensor) -> None:
        tensor.copy_(values.to(tensor))


def hinge_loss(margins: Tensor, labels: Tensor) -> Tensor:
    """Return the mean hinge loss, one class against the rest.

    Parameters
    ----------
    margins : Tensor, shape (B, n), float
        As `LinearSvm` gives them.
    labels : Tensor, shape (B,), int64
        Classes.

    Returns
    -------
    Tensor, shape (), float64
        The mean of ``max(0, 1 - y m)`` over samples and classes, y being 1 for the class of the
        sample and -1 for others.
    """
    sides = 2 * nn.functional.one_hot(labels, margins.shape[1]).to(margins) - 1
    return (1 - sides * margins).clamp_min(0).double().mean()
