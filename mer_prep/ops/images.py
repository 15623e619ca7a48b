"""Small things all picture operations share: grey values and checks of what comes in."""

from __future__ import annotations

import cv2
import numpy as np


def to_grey(image: np.ndarray) -> np.ndarray:
    """Return the luminance of a picture.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3) or (H, W), uint8
        RGB picture; a grey one is returned as it is.

    Returns
    -------
    ndarray, shape (H, W), uint8
        0.299 R + 0.587 G + 0.114 B, rounded (ITU-R BT.601). Equal channels give themselves.

    Raises
    ------
    ValueError
        For another shape or type.
    """
    if image.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8, not {image.dtype}")
    if image.ndim == 2:
        return image
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"a picture must have shape (H, W, 3) or (H, W), not {image.shape}")
    if 0 in image.shape:
        raise ValueError(f"a picture must have pixels, and this one has shape {image.shape}")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def check_grey_pair(first: np.ndarray, second: np.ndarray) -> None:
    """Check that two pictures are grey, 8-bit and of one size.

    Raises
    ------
    ValueError
        Names the argument that is wrong, and says how.
    """
    for name, image in (("first", first), ("second", second)):
        if image.dtype != np.uint8:
            extra = ""
            if np.issubdtype(image.dtype, np.floating):
                bad = int(image.size - np.count_nonzero(np.isfinite(image)))
                extra = f" ({bad} of its values are not finite)" if bad else ""
            raise ValueError(f"'{name}' must be uint8 grey values, not {image.dtype}{extra}")
        if image.ndim != 2 or 0 in image.shape:
            raise ValueError(f"'{name}' must have shape (H, W), not {image.shape}; see to_grey")
    if first.shape != second.shape:
        raise ValueError(f"'first' has shape {first.shape}, 'second' has shape {second.shape}")
