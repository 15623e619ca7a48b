"""Where the eyes are: the part of a face whose motion is blinking and looking about."""

from __future__ import annotations

import cv2
import numpy as np

from mer_prep.checks import check_range
from mer_prep.ops.similarity import LEFT_EYE, RIGHT_EYE, eye_distance
from mer_prep.ops.stabilization import filled_hull


def eye_mask(landmarks: np.ndarray, *, size: int, margin: float = 0.3) -> np.ndarray:
    """Return the pixels in the eyes and near them.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in px of the picture.
    size : int
        Side S of the picture in px.
    margin : float
        Largest distance from the contour of an eye, relative to the distance between the outer
        eye corners (see `mer_prep.ops.similarity.eye_distance`); 0 to 1, 0 for the eyes alone.

    Returns
    -------
    ndarray, shape (S, S), bool
        True inside the convex hull of the six points of an eye, and where a pixel of that hull
        is no farther away than the margin.

    Raises
    ------
    ConfigError
        If the margin is out of range.

    Notes
    -----
    At 0.3 the mask takes in the lids, the bags below them and the brows above, so that action
    units 1, 2 and 4 are lost with the blinks; at 0.1 the brows stay.
    """
    check_range("margin", margin, low=0, high=1)
    points = np.asarray(landmarks, np.float64)
    reach = margin * float(eye_distance(points))
    mask = np.zeros((size, size), bool)
    for eye in (RIGHT_EYE, LEFT_EYE):
        filled = filled_hull(points[eye], size)
        if filled.any():
            away = cv2.distanceTransform(1 - filled, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            mask |= away <= reach
    return mask
