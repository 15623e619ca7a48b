"""Parts of a face in one picture: the eyes above, the corners of the mouth below."""

from __future__ import annotations

import numpy as np

#: Landmarks whose mean is the centre of a part, in the order of the quarters: left eye, right
#: eye, left and right corner of the mouth, as they are seen.
CENTRES = (tuple(range(36, 42)), tuple(range(42, 48)), (48,), (54,))


def face_parts(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return four parts of a face as the quarters of a picture of the same size.

    Parameters
    ----------
    image : ndarray, shape (C, S, S)
        The face, with an even side S.
    landmarks : ndarray, shape (68, 2), float
        Landmarks (x, y) in px of it.

    Returns
    -------
    ndarray, shape (C, S, S)
        Left eye, right eye; left and right corner of the mouth: squares of S / 2 px around their
        centres, rounded to px and moved into the picture where they would reach beyond it.

    Raises
    ------
    ValueError
        If the picture is not square with an even side.

    References
    ----------
    Z. Wang, K. Zhang, W. Luo, R. Sankaranarayana, "HTNet for micro-expression recognition",
    Neurocomputing 602, 2024. arXiv:2307.14637
    """
    side = image.shape[-1]
    if image.ndim != 3 or image.shape[1] != side or side % 2:
        raise ValueError(f"a picture must have shape (C, S, S) with an even S, not {image.shape}")
    half = side // 2
    parts = np.empty_like(image)
    for number, points in enumerate(CENTRES):
        centre = landmarks[list(points)].mean(axis=0)
        # The square of px i ... i + half - 1 has its centre at i + (half - 1) / 2.
        left, top = np.clip(np.rint(centre - (half - 1) / 2), 0, side - half).astype(int)
        row, column = (half * one for one in divmod(number, 2))
        parts[:, row : row + half, column : column + half] = image[
            :, top : top + half, left : left + half
        ]
    return parts
