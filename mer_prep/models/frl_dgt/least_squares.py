"""Small displacements in closed form, by least squares over windows.

References
----------
.. [1] B. D. Lucas, T. Kanade, "An iterative image registration technique with an application to
   stereo vision", IJCAI 1981.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: What is added to the mean squared slopes of a window, in squared grey levels a px: a slope of a
#: fiftieth a px counts as much as the wish to stand still.
STIFFNESS = 3e-5


def least_squares_displacement(onset: Tensor, apex: Tensor, *, window: int) -> Tensor:
    """Return the displacement that explains a pair of pictures best in every window.

    Parameters
    ----------
    onset, apex : Tensor, shape (B, 1, H, W), float
        Grey pictures in [0, 1].
    window : int
        Side of the square over which means are taken, twice, px; odd.

    Returns
    -------
    Tensor, shape (B, 2, H, W)
        Field D with ``apex(p) = onset(p + D(p))`` to first order, channels (u, v) in px; drawn
        towards 0 where there is nothing to follow. It holds for motion of about a pixel or less.

    Notes
    -----
    With I the mean of both pictures, D minimises the window's mean of
    ``(D . grad I - (apex - onset))^2`` plus `STIFFNESS` times ``|D|^2``, one step of [1]_.
    """

    def mean(values: Tensor) -> Tensor:
        for _ in range(2):
            values = functional.avg_pool2d(values, window, 1, window // 2, count_include_pad=False)
        return values

    dy, dx = torch.gradient((onset + apex) / 2, dim=(-2, -1))
    change = apex - onset
    xx, yy, xy = mean(dx * dx) + STIFFNESS, mean(dy * dy) + STIFFNESS, mean(dx * dy)
    xt, yt = mean(dx * change), mean(dy * change)
    return torch.cat([yy * xt - xy * yt, xx * yt - xy * xt], dim=1) / (xx * yy - xy * xy)
