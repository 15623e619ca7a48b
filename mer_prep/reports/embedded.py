"""Pictures as addresses that hold them."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from mer_prep.errors import MerPrepError

#: Quality of WebP at which no value changes, for drawings.
LOSSLESS = 101


def data_uri(picture: np.ndarray, *, quality: int) -> str:
    """Return a picture as a data URI in WebP.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
        RGB.
    quality : int
        Quality from 1 to 100, or `LOSSLESS`.

    Raises
    ------
    MerPrepError
        If OpenCV cannot encode WebP.
    """
    bgr = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR)
    good, data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not good:
        raise MerPrepError("OpenCV cannot encode WebP here.", hint="`mer-prep doctor` shows OpenCV")
    return f"data:image/webp;base64,{base64.b64encode(data.tobytes()).decode()}"
