"""What the displacement generation module minimises without any label.

That a self-supervised term trains the module beside the classes is the paper's; which terms, and
their weights, are chosen here, after unsupervised optical flow and depth.

References
----------
.. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from error
   visibility to structural similarity", IEEE TIP 13(4), 2004. doi:10.1109/TIP.2003.819861
.. [2] C. Godard, O. Mac Aodha, G. J. Brostow, "Unsupervised monocular depth estimation with
   left-right consistency", CVPR 2017. doi:10.1109/CVPR.2017.699
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mer_prep.models.frl_dgt.pictures import grey
from mer_prep.models.frl_dgt.warp import warp

#: Share of each part in the self-supervised loss.
WEIGHTS = {"photometric": 1.0, "structure": 1.0, "smoothness": 0.1}

#: Side of the square window of the structural similarity, in px.
WINDOW = 7

#: Its two constants for grey levels in [0, 1]: (0.01 L)^2 and (0.03 L)^2 with L = 1, as in [1]_.
CONSTANTS = (0.01**2, 0.03**2)

#: How fast an edge of the apex, in grey levels a px, frees the field from being smooth there.
EDGE = 10.0


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return the structural similarity of every window of two pictures.

    Parameters
    ----------
    first, second : Tensor, shape (B, C, H, W), float
        Pictures in [0, 1]; H and W are 7 or more.

    Returns
    -------
    Tensor, shape (B, C, H - 6, W - 6)
        SSIM of windows of 7 px that lie in the picture, uniformly weighted; at most 1, and 1
        only where the windows are the same.

    References
    ----------
    [1]_.
    """
    levels, contrast = CONSTANTS

    def mean(picture: Tensor) -> Tensor:
        return functional.avg_pool2d(picture, WINDOW, stride=1)

    a, b = mean(first), mean(second)
    variances = mean(first.square()) - a.square() + mean(second.square()) - b.square()
    covariance = mean(first * second) - a * b
    return ((2 * a * b + levels) * (2 * covariance + contrast)) / (
        (a.square() + b.square() + levels) * (variances + contrast)
    )


def smoothness(displacement: Tensor, guide: Tensor) -> Tensor:
    """Return how much a field changes where its picture does not.

    Parameters
    ----------
    displacement : Tensor, shape (B, 2, H, W), float
        Channels (u, v) in px.
    guide : Tensor, shape (B, 1, H, W), float
        Grey picture in [0, 1] on the same grid.

    Returns
    -------
    Tensor, shape ()
        Mean of ``|dD/dx| exp(-10 |dI/dx|)`` plus that along y, differences of neighbours; 0 for
        a translation. As in [2]_, with the weight of an edge chosen here.
    """
    total = displacement.new_zeros(())
    for axis in (-1, -2):
        weight = torch.exp(-EDGE * guide.diff(dim=axis).abs())
        total = total + (displacement.diff(dim=axis).abs() * weight).mean()
    return total


def self_supervision(onset: Tensor, apex: Tensor, displacement: Tensor) -> dict[str, Tensor]:
    """Return the parts of the self-supervised loss of a displacement field.

    Parameters
    ----------
    onset, apex : Tensor, shape (B, 3, S, S), float
        Pictures in [0, 1]; all parts look at their grey levels.
    displacement : Tensor, shape (B, 2, S, S), float
        Field D in px through which the onset becomes the apex.

    Returns
    -------
    dict of str to Tensor, shape ()
        ``photometric``, the mean of ``|onset(p + D(p)) - apex(p)|``; ``structure``, the mean of
        ``(1 - SSIM) / 2`` of the same two pictures; ``smoothness`` of D along the apex. All are
        0 for the right field of a translation, and never negative.
    """
    onset, apex = grey(onset), grey(apex)
    seen = warp(onset, displacement)
    return {
        "photometric": (seen - apex).abs().mean(),
        "structure": (1 - structural_similarity(seen, apex)).mean() / 2,
        "smoothness": smoothness(displacement, apex),
    }
