r"""Temporal interpolation: a clip resampled in time to any number of frames.

The temporal interpolation model (TIM) embeds the frames of a clip in a path graph, frame by frame
its neighbours, and interpolates along the smooth curve on which the embedding lies. Frame i of n
stands at i / n, and the coordinates of the curve are the eigenvectors of the graph's Laplacian,

.. math:: y_k(t) = \sin(\pi k t + \pi (n - k) / (2 n)), \quad k = 1 \ldots n - 1,
          \quad t \in [1 / n, 1].

The published algorithm takes the mean :math:`\bar x` off the frames, reduces them by a singular
value decomposition U S V^T, solves for the linear map M that takes the curve's coordinates Y to
the reduced frames, and maps a point of the curve back to a picture by
:math:`x(t) = \bar x + U M y(t)`. Where the frames are linearly independent, which it presumes, the
pictures drop out: the rows of Y span just the rows of the frames without their mean, so that
:math:`U M = (X - \bar x) Y^+`, and because the y_k are the cosines of a discrete cosine transform,
:math:`Y^+ = (2 / n) Y^T`. Every picture of the curve is a weighted sum of frames, with weights that
depend on n and t alone:

.. math:: x(t) = \sum_i w_i(t) x_i, \quad
          w_i(t) = \frac 1 n + \frac 2 n \sum_k y_k(i / n) \, y_k(t).

The weights are used here in that form: no decomposition, no sign or rank to decide, and clips of
equal or constant frames, for which the published form has no solution, are no special case.

References
----------
Z. Zhou, G. Zhao, M. Pietikäinen, "Towards a practical lipreading system", CVPR 2011.
doi:10.1109/CVPR.2011.5995345

T. Pfister, X. Li, G. Zhao, M. Pietikäinen, "Recognising spontaneous facial micro-expressions",
ICCV 2011. doi:10.1109/ICCV.2011.6126401
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError

METHODS = ("tim", "linear")

#: Pictures made at a time; the frames are read once for each such block.
_BLOCK = 16


def equidistant_positions(count: int, length: int) -> np.ndarray:
    """Return `length` equidistant positions from the first to the last of `count` frames.

    Parameters
    ----------
    count : int
        Number of frames n, 2 or more.
    length : int
        Number of positions, 2 or more.

    Returns
    -------
    ndarray, shape (length,), float64
        Positions in frames, from 0 to n - 1; position p stands at t = (p + 1) / n.

    Raises
    ------
    MotionError
        If there are fewer than two frames.
    ConfigError
        If fewer than two positions are asked for.
    """
    check_range("length", length, low=2)
    _check_count(count)
    return np.linspace(0, count - 1, length)


def interpolation_weights(count: int, positions: np.ndarray, *, method: str = "tim") -> np.ndarray:
    """Return how much every frame contributes to a picture at each position.

    Parameters
    ----------
    count : int
        Number of frames n, 2 or more.
    positions : ndarray, shape (t,), float
        Positions in frames, 0 to n - 1.
    method : {'tim', 'linear'}
        Temporal interpolation model, or linear interpolation of the two nearest frames.

    Returns
    -------
    ndarray, shape (t, n), float64
        Each row sums to one. At a whole position the row picks that frame and no other.

    Raises
    ------
    MotionError
        If there are fewer than two frames.
    ConfigError
        For an unknown method.
    ValueError
        For positions outside of the clip.
    """
    check_option("method", method, METHODS)
    _check_count(count)
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 1 or not ((positions >= 0) & (positions <= count - 1)).all():
        raise ValueError(f"positions must lie between 0 and {count - 1}, in one row")
    if method == "linear":
        return _linear_weights(count, positions)
    weights = 1 / count + (2 / count) * _curve(count, positions) @ _curve(count, np.arange(count)).T
    whole = positions == np.rint(positions)
    weights[whole] = np.eye(count)[positions[whole].astype(int)]
    return weights


def interpolate(frames: Sequence[np.ndarray] | np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return weighted sums of 8-bit frames.

    Parameters
    ----------
    frames : sequence of n ndarray, shape (H, W, 3) or (H, W), uint8
        The frames. They are read one at a time, so they need not all be in memory; besides the
        result, no more is held than 16 pictures of float64.
    weights : ndarray, shape (t, n), float
        What `interpolation_weights` gives.

    Returns
    -------
    ndarray, shape (t, H, W, 3) or (t, H, W), uint8
        Rounded and clipped to 0 ... 255. TIM overshoots at jumps, as every band-limited
        interpolation does.

    Raises
    ------
    ValueError
        If frames and weights differ in count, or frames are not uint8.
    """
    if len(frames) != weights.shape[1]:
        raise ValueError(f"{len(frames)} frames do not fit weights of shape {weights.shape}")
    first = np.asarray(frames[0])
    if first.dtype != np.uint8:
        raise ValueError(f"frames must be uint8, not {first.dtype}")
    result = np.empty((len(weights), *first.shape), np.uint8)
    for start in range(0, len(weights), _BLOCK):
        rows = weights[start : start + _BLOCK]
        total = np.zeros((len(rows), *first.shape))
        for index, of_frame in enumerate(rows.T):
            used = np.flatnonzero(of_frame)
            if used.size:
                frame = np.asarray(frames[index], np.float64)
                for row in used:
                    total[row] += of_frame[row] * frame
        result[start : start + len(rows)] = np.clip(np.rint(total), 0, 255)
    return result


def _check_count(count: int) -> None:
    if count < 2:
        raise MotionError(
            f"Temporal interpolation needs 2 frames, and there is {count}.",
            why="one frame has no course in time",
            hint="give more of the recording",
        )


def _curve(count: int, positions: np.ndarray) -> np.ndarray:
    """Return y_k at positions, shape (t, n - 1)."""
    k = np.arange(1, count)
    t = (positions[:, None] + 1) / count
    return np.sin(np.pi * k * t + np.pi * (count - k) / (2 * count))


def _linear_weights(count: int, positions: np.ndarray) -> np.ndarray:
    before = np.minimum(positions.astype(int), count - 2)
    rows = np.arange(len(positions))
    weights = np.zeros((len(positions), count))
    weights[rows, before] = 1 - (positions - before)
    weights[rows, before + 1] = positions - before
    return weights
