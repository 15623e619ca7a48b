"""The 68 landmarks: names of their groups, mirroring, and the measures taken from them.

The markup is that of iBUG 300-W [1]_; groups named left and right are the picture's left and
right, as seen by the viewer.

References
----------
.. [1] C. Sagonas et al., "300 Faces In-The-Wild Challenge: Database and results", Image and
   Vision Computing 47, 2016. https://doi.org/10.1016/j.imavis.2016.01.002
"""

from __future__ import annotations

import numpy as np

COUNT = 68

EYE_ON_LEFT = tuple(range(36, 42))
EYE_ON_RIGHT = tuple(range(42, 48))
NOSE_TIP = 30
MOUTH_CORNERS = (48, 54)

#: Side of the aligned face, in px, and the ratio of its box to the five points it is built on.
ALIGNED_SIDE = 144
BOX_RATIO = 2.5


def _mirror_order() -> tuple[int, ...]:
    partner = {
        **{i: 16 - i for i in range(17)},  # jaw
        **{i: 43 - i for i in range(17, 27)},  # brows
        **{i: i for i in range(27, 31)},  # nose bridge
        **{i: 66 - i for i in range(31, 36)},  # nostrils
        **{i: 81 - i for i in range(36, 40)},  # upper lids
        **{i: 87 - i for i in range(40, 42)},  # lower lids
        **{i: 102 - i for i in range(48, 55)},  # upper lip, outside
        **{i: 114 - i for i in range(55, 60)},  # lower lip, outside
        **{i: 124 - i for i in range(60, 65)},  # upper lip, inside
        **{i: 132 - i for i in range(65, 68)},  # lower lip, inside
    }
    partner.update({b: a for a, b in tuple(partner.items())})
    return tuple(partner[i] for i in range(COUNT))


#: ``MIRROR[i]`` is the landmark that takes the place of landmark i in a mirrored face.
MIRROR = _mirror_order()


def mirror_landmarks(landmarks: np.ndarray, *, width: int) -> np.ndarray:
    """Return the landmarks of the mirrored picture.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2), float
        (x, y) in px.
    width : int
        Width of the picture in px.

    Returns
    -------
    ndarray, shape (68, 2), float
        Each point keeps its meaning: landmark 36 is again on the picture's left.
    """
    mirrored = landmarks[list(MIRROR)].copy()
    mirrored[:, 0] = width - 1 - mirrored[:, 0]
    return mirrored


def eye_centres(landmarks: np.ndarray) -> np.ndarray:
    """Return the means of the six points of each eye: (2, 2), the picture's left eye first."""
    return np.stack(
        [landmarks[list(EYE_ON_LEFT)].mean(axis=0), landmarks[list(EYE_ON_RIGHT)].mean(axis=0)]
    )


def interocular_distance(landmarks: np.ndarray) -> float:
    """Return the distance between the eye centres in px."""
    left, right = eye_centres(landmarks)
    return float(np.hypot(*(right - left)))


def aligned_scale(landmarks: np.ndarray) -> float:
    """Return the scale from source px to the px of the 144x144 aligned face.

    The box of the aligned face is 2.5 times the larger side of the rectangle around five points:
    the eye centres, the nose tip and the mouth corners.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2), float
        (x, y) in source px.

    Returns
    -------
    float
        Aligned px per source px.
    """
    five = np.vstack([eye_centres(landmarks), landmarks[[NOSE_TIP, *MOUTH_CORNERS]]])
    return ALIGNED_SIDE / (BOX_RATIO * float(np.ptp(five, axis=0).max()))
