"""Uniform cubic B-splines: free-form deformations, given by a grid of control points.

References
----------
D. Rueckert, L. I. Sonoda, C. Hayes, D. L. G. Hill, M. O. Leach, D. J. Hawkes, "Nonrigid
registration using free-form deformations: application to breast MR images", IEEE TMI 18(8), 1999.
doi:10.1109/42.796284
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_prep.models.selfme.precision import full_precision


def spline_weights(positions: Tensor, *, count: int) -> Tensor:
    """Return how much each control point of a line counts at some positions.

    Parameters
    ----------
    positions : Tensor, shape (...), float
        0 at one end of the line, 1 at the other.
    count : int
        Control points n, 4 or more; the second lies at 0 and the last but one at 1.

    Returns
    -------
    Tensor, shape (..., n)
        The cubic B-spline ``b(t - i)`` with ``t = 1 + (n - 3) x``: ``b(s) = 2/3 - s^2 + |s|^3 / 2``
        up to |s| = 1 and ``(2 - |s|)^3 / 6`` up to 2. It sums to 1 between 0 and 1.
    """
    knots = torch.arange(count, device=positions.device, dtype=positions.dtype)
    away = (1 + (count - 3) * positions[..., None] - knots).abs()
    near = 2 / 3 - away.square() + away**3 / 2
    far = (2 - away).clamp_min(0) ** 3 / 6
    return torch.where(away < 1, near, far)


def spline_field(control: Tensor, *, side: int) -> Tensor:
    """Return the field of a free-form deformation.

    Parameters
    ----------
    control : Tensor, shape (B, C, n, n), float
        Values at the control points.
    side : int
        Side S of the picture, px.

    Returns
    -------
    Tensor, shape (B, C, S, S)
        ``sum_ij b_i(y) b_j(x) control_ij``, twice continuously differentiable; a constant or
        linear field of control points gives itself.
    """
    positions = torch.linspace(0, 1, side, device=control.device, dtype=control.dtype)
    weights = spline_weights(positions, count=control.shape[-1])
    with full_precision(control):
        return weights @ control @ weights.T
