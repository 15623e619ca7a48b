r"""Bi-weighted oriented optical flow (Bi-WOOF): where, which way and how much a face moves.

The flow of every pixel has an orientation and a magnitude,

.. math:: \theta = \operatorname{atan2}(v, u), \quad \rho = \sqrt{u^2 + v^2},

and of the flow the optical strain :math:`\varepsilon` is taken. The face is divided into blocks.
Of block b, bin c of the histogram of orientations is a sum over its pixels, each weighted by its
own (local) weight, and the histogram as a whole by a (global) weight of its block,

.. math:: f_{b, c} = \bar\varepsilon_b \sum_{x \in b} \rho(x) \,
          [\theta_c \le \theta(x) < \theta_{c+1}], \quad \theta_c = -\pi + 2 \pi c / C,

with the mean strain :math:`\bar\varepsilon_b` of the block.
"""

from __future__ import annotations

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.ops.strain import strain_magnitude, strain_tensor

#: What a pixel, or a block by its mean, can be weighted by.
WEIGHTS = ("none", "magnitude", "strain")


def bi_woof(
    flow: np.ndarray,
    *,
    blocks: int = 8,
    bins: int = 8,
    local_weight: str = "magnitude",
    global_weight: str = "strain",
) -> np.ndarray:
    """Return the Bi-WOOF histograms of an optical flow.

    Parameters
    ----------
    flow : ndarray, shape (2, H, W), float
        Channels u and v in px, from the onset to the apex; H and W are 2 or more.
    blocks : int
        Rows, and columns, B of blocks that do not overlap.
    bins : int
        Bins C of orientation, 2 or more. The first begins at -180 degrees, which is motion to the
        left; they follow clockwise as one sees the picture, since y points down.
    local_weight, global_weight : {'none', 'magnitude', 'strain'}
        What a pixel counts for, and a block by its mean. By default they are those of the
        paper; without any weight a histogram just counts its pixels.

    Returns
    -------
    ndarray, shape (B, B, C), float32
        By row and column of the block, 0 or more; px times strain, as the weights are by default.

    Raises
    ------
    ValueError
        If the flow has another shape, or fewer pixels than blocks.
    ConfigError
        If a parameter is out of range.

    References
    ----------
    S.-T. Liong, J. See, K. Wong, R. C.-W. Phan, "Less is more: Micro-expression recognition from
    video using apex frame", Signal Processing: Image Communication 62, 2018.
    doi:10.1016/j.image.2017.11.006
    """
    check_range("blocks", blocks, low=1)
    check_range("bins", bins, low=2)
    check_option("local_weight", local_weight, WEIGHTS)
    check_option("global_weight", global_weight, WEIGHTS)
    strain = strain_magnitude(strain_tensor(flow))
    if min(strain.shape) < blocks:
        raise ValueError(f"{strain.shape} px are too few for {blocks} x {blocks} blocks")
    u, v = np.asarray(flow, np.float64)
    weights = {"none": np.ones(strain.shape), "magnitude": np.hypot(u, v), "strain": strain}
    rows, columns = (np.arange(size) * blocks // size for size in strain.shape)
    block = rows[:, None] * blocks + columns

    def total(cells: np.ndarray, of: np.ndarray, count: int) -> np.ndarray:
        return np.bincount(cells.ravel(), of.ravel(), minlength=count).astype(np.float64)

    cells = block * bins + orientation_bins(u, v, bins=bins)
    histograms = total(cells, weights[local_weight], blocks**2 * bins).reshape(-1, bins)
    means = total(block, weights[global_weight], blocks**2) / np.bincount(block.ravel())
    return (histograms * means[:, None]).reshape(blocks, blocks, bins).astype(np.float32)


def orientation_bins(u: np.ndarray, v: np.ndarray, *, bins: int) -> np.ndarray:
    """Return the bin of the orientation of every vector.

    Parameters
    ----------
    u, v : ndarray, float
        Components of one shape.
    bins : int
        Number of bins C.

    Returns
    -------
    ndarray, shape of u, int64
        0 to C - 1; motion straight to the left, at -180 and at 180 degrees, is in bin 0, and so
        is no motion at all in bin C // 2.
    """
    turns = np.arctan2(v, u) / (2 * np.pi) + 0.5
    return np.floor(turns * bins).astype(np.int64) % bins
