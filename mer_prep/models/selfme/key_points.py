"""Key points that are learned without annotation, and the sparse motion between two sets of them.

References
----------
.. [1] A. Siarohin, S. Lathuiliere, S. Tulyakov, E. Ricci, N. Sebe, "First order motion model for
   image animation", NeurIPS 2019. arXiv:2003.00196
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.models.selfme.hourglass import Hourglass
from mer_prep.models.selfme.precision import full_precision

#: Temperature of the heat maps.
TEMPERATURE = 0.1

#: Smallest size of a determinant that is divided by.
SMALLEST = 0.05

#: Factor of the usual first weights of the heat maps: wide ones hardly differ between two frames,
#: so that the motion starts near none.
FIRST = 0.1

#: Side of the last convolutions.
KERNEL = 7


class KeyPoints(NamedTuple):
    """Key points of B pictures.

    Parameters
    ----------
    positions : Tensor, shape (B, K, 2)
        (x, y) in px.
    jacobians : Tensor, shape (B, K, 2, 2), or None
        Derivatives of the picture with respect to an abstract reference, around each point.
    """

    positions: Tensor
    jacobians: Tensor | None


def pixel_grid(side: int, *, shrink: int, like: Tensor) -> Tensor:
    """Return the centres (x, y) of shrunken pixels in px of the whole picture, (side, side, 2)."""
    line = torch.arange(side, device=like.device, dtype=torch.float32) * shrink + (shrink - 1) / 2
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


class KeyPointDetector(nn.Module):
    """An hourglass whose heat maps have their means at the key points.

    Parameters
    ----------
    count : int
        Key points K.
    width, blocks, widest : int
        See `Hourglass`.
    shrink : int
        Px that become one before.
    first_order : bool
        Whether Jacobians are given too; they start as the identity.
    """

    def __init__(
        self, count: int, *, width: int, blocks: int, widest: int, shrink: int, first_order: bool
    ) -> None:
        super().__init__()
        self.shrink = shrink
        self.network = Hourglass(3, width=width, blocks=blocks, widest=widest)
        self.heat = nn.Conv2d(self.network.outputs, count, KERNEL, padding=KERNEL // 2)
        with torch.no_grad():
            self.heat.weight.mul_(FIRST)
        self.jacobian = None
        if first_order:
            self.jacobian = nn.Conv2d(self.network.outputs, 4 * count, KERNEL, padding=KERNEL // 2)
            nn.init.zeros_(self.jacobian.weight)
            assert self.jacobian.bias is not None
            with torch.no_grad():
                self.jacobian.bias.copy_(torch.eye(2).flatten().repeat(count))

    def forward(self, pictures: Tensor) -> KeyPoints:
        """Return the key points of pictures (B, 3, S, S) in [0, 1]."""
        maps, _ = self.network(functional.avg_pool2d(pictures, self.shrink))
        heat = (self.heat(maps).float() / TEMPERATURE).flatten(2).softmax(dim=-1)
        grid = pixel_grid(maps.shape[-1], shrink=self.shrink, like=maps)
        with full_precision(heat):
            positions = heat @ grid.flatten(0, 1)
        if self.jacobian is None:
            return KeyPoints(positions, None)
        local = self.jacobian(maps).float().unflatten(1, (-1, 4)).flatten(3)
        jacobians = (heat[:, :, None] * local).sum(dim=-1).unflatten(-1, (2, 2))
        return KeyPoints(positions, jacobians)


def inverse(matrices: Tensor) -> Tensor:
    """Return the inverses of matrices (..., 2, 2); determinants near 0 count as `SMALLEST`."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrices.unbind(-2))
    determinant = a * d - b * c
    size = determinant.abs().clamp_min(SMALLEST)
    determinant = torch.where(determinant < 0, -size, size)
    turned = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    return turned / determinant[..., None, None]


def sparse_motion(onset: KeyPoints, apex: KeyPoints, grid: Tensor) -> Tensor:
    """Return where every pixel of the apex was in the onset, by the motion of each key point.

    Parameters
    ----------
    onset, apex : KeyPoints
        Key points S and D of both pictures.
    grid : Tensor, shape (h, w, 2)
        Pixels z of the apex in px.

    Returns
    -------
    Tensor, shape (B, K + 1, h, w, 2)
        ``T_k(z) = S_k + J_k (z - D_k)`` in px with ``J_k = J_k^S (J_k^D)^-1``, equation (4) of
        [1]_; the identity without Jacobians. First comes the background, that stands still.
    """
    away = grid - apex.positions[:, :, None, None]
    if onset.jacobians is not None and apex.jacobians is not None:
        with full_precision(away):
            local = onset.jacobians @ inverse(apex.jacobians)
        away = (local[:, :, None, None] * away[..., None, :]).sum(dim=-1)
    moved = onset.positions[:, :, None, None] + away
    still = grid.expand(len(moved), 1, *grid.shape)
    return torch.cat([still, moved], dim=1)


def heat_difference(onset: KeyPoints, apex: KeyPoints, grid: Tensor, *, deviation: float) -> Tensor:
    """Return where key points came and went: Gaussians around those of the apex less the onset's.

    Parameters
    ----------
    onset, apex : KeyPoints
        Key points of both pictures.
    grid : Tensor, shape (h, w, 2)
        Pixels in px.
    deviation : float
        Of the Gaussians, px.

    Returns
    -------
    Tensor, shape (B, K + 1, h, w)
        First the background, which is 0.
    """

    def spots(points: Tensor) -> Tensor:
        away = (grid - points[:, :, None, None]).square().sum(dim=-1)
        return torch.exp(-away / (2 * deviation**2))

    found = spots(apex.positions) - spots(onset.positions)
    return torch.cat([torch.zeros_like(found[:, :1]), found], dim=1)
