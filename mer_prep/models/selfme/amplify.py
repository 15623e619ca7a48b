"""Motion brought to one scale and amplified."""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Deviations below this many px are not amplified any further by the normalisation.
STILL = 0.02


class Amplifier(nn.Module):
    """``gamma (field - mean) / deviation``, with the mean and deviation of the training samples.

    Parameters
    ----------
    gamma : float
        The amplification.
    jitter : float
        In training each sample has an amplification of its own, gamma times a number between
        1 - jitter and 1 + jitter.

    Notes
    -----
    The statistics are those of all training batches so far, one number for each of u and v: they
    belong to the state of the model and never see a tested sample. The amplification comes after
    them; before, they would cancel it.
    """

    def __init__(self, *, gamma: float = 2.0, jitter: float = 0.0) -> None:
        super().__init__()
        self.gamma, self.jitter = gamma, jitter
        self.register_buffer("batches", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(2, dtype=torch.float64))

    def forward(self, field: Tensor) -> Tensor:
        """Return amplified fields (B, 2, H, W) of such fields (u, v) in px.

        In training the batch first becomes a part of the statistics.
        """
        batches, mean, square = (getattr(self, one) for one in ("batches", "mean", "square"))
        if self.training:
            with torch.no_grad():
                values = field.detach().double()
                batches += 1
                mean += (values.mean(dim=(0, 2, 3)) - mean) / batches
                square += (values.square().mean(dim=(0, 2, 3)) - square) / batches
        deviation = (square - mean.square()).clamp_min(STILL**2).sqrt()
        scaled = (field - mean.to(field)[:, None, None]) / deviation.to(field)[:, None, None]
        factor: float | Tensor = self.gamma
        if self.training and self.jitter:
            spread = 2 * torch.rand(len(field), 1, 1, 1, device=field.device) - 1
            factor = self.gamma * (1 + self.jitter * spread)
        return scaled * factor
