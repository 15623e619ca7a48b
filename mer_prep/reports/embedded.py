"""Pictures as addresses that hold them."""

from __future__ import annotations

import base64

import cv2
import numpy as np

#: Quality of WebP, 1 to 100.
_QUALITY = 80


def embedded(picture: np.ndarray, *, lossless: bool = False) -> str:
    """Return a picture as a data address, in WebP.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        RGB.
    lossless : bool
        Whether no value may change, as of drawings.
    """
    quality = 101 if lossless else _QUALITY  # above 100 OpenCV writes without loss
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    good, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not good:
        raise ValueError(f"a picture of shape {picture.shape} cannot be encoded")
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"
