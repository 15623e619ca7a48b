"""Signed differences of pictures."""

from __future__ import annotations

import numpy as np


def signed_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what a second picture has more than a first, exactly.

    Parameters
    ----------
    first, second : ndarray, shape (H, W, 3) or (H, W), uint8
        Pictures of one shape.

    Returns
    -------
    ndarray, shape of the pictures, int16
        ``second - first``, -255 to 255 grey levels: positive where the second is brighter.

    Raises
    ------
    ValueError
        For other types, or shapes that differ.
    """
    if first.dtype != np.uint8 or second.dtype != np.uint8:
        raise ValueError(f"pictures must be uint8, not {first.dtype} and {second.dtype}")
    if first.shape != second.shape:
        raise ValueError(f"'first' has shape {first.shape}, 'second' has shape {second.shape}")
    return second.astype(np.int16) - first.astype(np.int16)
