"""Small pictures of motion, as shallow networks take them in: u, v and optical strain."""

from __future__ import annotations

import cv2
import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.ops.strain import strain_magnitude, strain_tensor

CHANNELS = ("u", "v", "strain")
NORMALISATIONS = ("min-max", "none")

#: A channel whose values differ by less than this, relative to the largest of them, is constant:
#: stretched, it would show nothing but rounding.
CONSTANT = 1e-6


def motion_image(flow: np.ndarray, *, size: int = 28, normalise: str = "min-max") -> np.ndarray:
    """Return u, v and optical strain of a flow as one small picture.

    Parameters
    ----------
    flow : ndarray, shape (2, H, W), float
        Channels u and v in px.
    size : int
        Side S of the result in px; 28 for STSTNet.
    normalise : {'min-max', 'none'}
        Whether every channel is stretched so that its least value becomes 0 and its greatest 1,
        or left in its units.

    Returns
    -------
    ndarray, shape (3, S, S), float32
        Channels u, v, strain, in this order. With 'min-max' from 0 to 1, each by its own range,
        and zero throughout where a channel is constant; with 'none' u and v in px of the flow's
        grid, and unitless strain.

    Raises
    ------
    ConfigError
        If a parameter is unknown or out of range.

    Notes
    -----
    Strain is derived at full size (see `mer_prep.ops.strain`), and then all three are made
    smaller by the mean over the area that a pixel covers. Where S is more than H and W there is
    nothing to average, and values are interpolated linearly. Min-max comes last, as
    ``(x - min) / (max - min)``; the sign of motion, and how strong it is, are lost by it.

    References
    ----------
    S.-T. Liong, Y. S. Gan, J. See, H.-Q. Khor, Y.-C. Huang, "Shallow triple stream
    three-dimensional CNN (STSTNet) for micro-expression recognition", FG 2019.
    doi:10.1109/FG.2019.8756567
    """
    check_option("normalise", normalise, NORMALISATIONS)
    check_range("size", size, low=1)
    u, v = np.asarray(flow, np.float32)
    full = (u, v, strain_magnitude(strain_tensor(flow)))
    method = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR}[resizing(min(u.shape), size)]
    # In double precision a constant channel stays constant to the last bit.
    small = np.stack(
        [cv2.resize(one.astype(np.float64), (size, size), interpolation=method) for one in full]
    ).astype(np.float32)
    return stretched(small) if normalise == "min-max" else small


def resizing(before: int, after: int) -> str:
    """Return how a side of `before` px becomes one of `after` px: 'area' or 'linear'."""
    return "area" if after <= before else "linear"


def stretched(image: np.ndarray) -> np.ndarray:
    """Return channels (C, H, W) stretched to 0 ... 1 one by one; those `CONSTANT` are zero.

    A channel with values that are not finite is not a number throughout, so that whoever stores it
    sees them.
    """
    values = image.astype(np.float64)
    values[~np.isfinite(values).all(axis=(1, 2))] = np.nan
    low = values.min(axis=(1, 2), keepdims=True)
    extent = values.max(axis=(1, 2), keepdims=True) - low
    constant = extent <= CONSTANT * np.abs(values).max(axis=(1, 2), keepdims=True)
    return np.where(constant, 0, (values - low) / np.where(constant, 1, extent)).astype(np.float32)
