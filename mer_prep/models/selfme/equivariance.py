"""Key points must follow a picture that is warped: the equivariance constraint.

References
----------
.. [1] A. Siarohin, S. Lathuiliere, S. Tulyakov, E. Ricci, N. Sebe, "First order motion model for
   image animation", NeurIPS 2019. arXiv:2003.00196. Section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mer_prep.checks import check_option
from mer_prep.models.frl_dgt.warp import sample_points
from mer_prep.models.selfme.key_points import KeyPoints, inverse, pixel_grid
from mer_prep.models.selfme.precision import full_precision
from mer_prep.models.selfme.spline import spline_weights

#: What random warps bend by, beside their affine part: thin plates as in [1]_, or B-splines.
BENDS = ("thin-plate", "spline")

#: Deviations of the affine part, of the weights of thin plates, and of B-spline control points, in
#: half sides; and the number of control points along a side.
AFFINE, PLATE, SPLINE, CONTROL = 0.05, 0.005, 0.02, 5

#: Step of the derivatives, in half sides.
STEP = 1e-2


class RandomWarp:
    """One random smooth warp T per sample.

    Parameters
    ----------
    count : int
        Samples B.
    bend : {'thin-plate', 'spline'}
        What it bends by: ``sum_j w_j r^2 log r`` with distances r to a grid of control points, or
        a cubic B-spline.
    side : int
        Side of the pictures, px.
    device : torch.device
        Where.
    """

    def __init__(self, count: int, *, bend: str, side: int, device: torch.device) -> None:
        check_option("bend", bend, BENDS)
        self.bend, self.side = bend, side
        affine = AFFINE * torch.randn(count, 2, 3, device=device)
        affine[:, :, :2] += torch.eye(2, device=device)
        self.affine = affine
        size = PLATE if bend == "thin-plate" else SPLINE
        self.control = size * torch.randn(count, CONTROL**2, 2, device=device)

    def __call__(self, points: Tensor) -> Tensor:
        """Return the points (B, N, 2) that points (B, N, 2) are taken to, px."""
        half = (self.side - 1) / 2
        return half * (self._centred(points / half - 1) + 1)

    def derivative(self, points: Tensor) -> Tensor:
        """Return the derivatives (B, N, 2, 2) at points (B, N, 2), by central differences."""
        step = STEP * (self.side - 1) / 2
        columns = []
        for axis in range(2):
            ahead = points.new_zeros(2)
            ahead[axis] = step
            columns.append((self(points + ahead) - self(points - ahead)) / (2 * step))
        return torch.stack(columns, dim=-1)

    def picture(self, pictures: Tensor) -> Tensor:
        """Return pictures (B, C, S, S) whose pixel z shows what was at T(z)."""
        grid = pixel_grid(self.side, shrink=1, like=pictures)
        points = self(grid.flatten(0, 1).expand(len(pictures), -1, -1))
        return sample_points(pictures, points.unflatten(1, (self.side, self.side)))

    def _centred(self, points: Tensor) -> Tensor:
        """Do so with the centre at 0 and the borders at -1 and 1."""
        ahead = (self.affine[:, None, :, :2] * points[..., None, :]).sum(dim=-1)
        return ahead + self.affine[:, None, :, 2] + self._bent(points)

    def _bent(self, points: Tensor) -> Tensor:
        if self.bend == "spline":
            x, y = (spline_weights((one + 1) / 2, count=CONTROL) for one in points.unbind(dim=-1))
            weights = (y[..., :, None] * x[..., None, :]).flatten(-2)
        else:
            line = torch.linspace(-1, 1, CONTROL, device=points.device)
            y, x = torch.meshgrid(line, line, indexing="ij")
            centres = torch.stack([x, y], dim=-1).flatten(0, 1)
            squared = (points[:, :, None] - centres).square().sum(dim=-1)
            weights = squared * (squared + 1e-6).log() / 2
        return (weights[..., None] * self.control[:, None]).sum(dim=2)


def equivariance(
    detect: Callable[[Tensor], KeyPoints], pictures: Tensor, found: KeyPoints, *, bend: str
) -> dict[str, Tensor]:
    """Return how far key points are from following random warps.

    Parameters
    ----------
    detect : callable
        Gives the key points of pictures.
    pictures : Tensor, shape (B, 3, S, S), float
        Pictures in [0, 1].
    found : KeyPoints
        Those of the pictures as they are.
    bend : {'thin-plate', 'spline'}
        See `RandomWarp`.

    Returns
    -------
    dict of str to Tensor, shape ()
        ``points``, the mean of ``|D - T(D_T)|`` in half sides, and with Jacobians ``jacobians``,
        that of ``|1 - (J^D)^-1 T'(D_T) J^D_T|``; both are 0 for points that follow. D_T and J^D_T
        are those of the pictures seen through T, equations (9) to (11) of [1]_.
    """
    warped = RandomWarp(len(pictures), bend=bend, side=pictures.shape[-1], device=pictures.device)
    again = detect(warped.picture(pictures))
    half = (pictures.shape[-1] - 1) / 2
    losses = {"points": (found.positions - warped(again.positions)).abs().mean() / half}
    if found.jacobians is not None and again.jacobians is not None:
        unit = torch.eye(2, device=pictures.device)
        with full_precision(pictures):
            through = warped.derivative(again.positions) @ again.jacobians
            losses["jacobians"] = (unit - inverse(found.jacobians) @ through).abs().mean()
    return losses
