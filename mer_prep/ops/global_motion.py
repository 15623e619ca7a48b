"""The motion of a whole face in an optical flow: what all of its parts have in common."""

from __future__ import annotations

import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import MotionError
from mer_prep.ops.robust import TURNING_POINT, geman_mcclure

#: Models of the common motion, by the name they have in configuration.
GLOBAL_MODELS = ("translation", "similarity")

#: Fewest pixels that a motion is fitted to.
MIN_PIXELS = 200

#: Residuals below this, in px, count as none; optical flow is no better than this.
SMALLEST_SIGMA = 0.01

#: Steps with least-absolute weights, which find the motion of the majority, and the most that
#: follow with weights that forget the minority.
FIRST_STEPS, MOST_STEPS = 15, 50

#: The fit ends when no pixel of the region moves by more in a step, in px.
TOLERANCE = 1e-5

#: Median length of a vector of two independent normal values of standard deviation 1.
_MEDIAN_LENGTH = 1.1774


def fit_global_motion(
    flow: np.ndarray, mask: np.ndarray, *, model: str = "similarity"
) -> np.ndarray:
    """Return the motion that most of a region has in common.

    Parameters
    ----------
    flow : ndarray, shape (2, H, W), float
        Channels u and v in px: pixel (x, y) moves to (x + u, y + v).
    mask : ndarray, shape (H, W), bool
        The region, 200 px or more; the rigid part of a face.
    model : {'translation', 'similarity'}
        One shift, or shift, rotation and scale.

    Returns
    -------
    ndarray, shape (2, 3), float64
        Matrix M that takes a pixel (x, y) of the first frame to ``M @ (x, y, 1)`` in the second.

    Raises
    ------
    ConfigError
        For an unknown model.
    ValueError
        For shapes that do not fit.
    MotionError
        If the region is too small.

    Notes
    -----
    With x, y counted from the centre of the region, ``u = a + c x - d y`` and
    ``v = b + d x + c y``; c is the growth and d the rotation (small, in radians; the subject's
    left goes down for d > 0, as y points down). The four numbers are fitted by iteratively
    reweighted least squares: at first with weights 1 / r, where r is the length of a residual
    (least absolute residuals), then with Geman and McClure's ``1 / (1 + (r / k s)^2)^2``, where s
    is the residuals' robust standard deviation and k = 2. What moves otherwise than the face as a
    whole - brows, mouth - has then no say, as long as it covers less than half of the region.

    References
    ----------
    S. Geman, D. E. McClure, "Statistical methods for tomographic image reconstruction", Bulletin
    of the International Statistical Institute 52(4), 1987.
    """
    check_option("model", model, GLOBAL_MODELS)
    if flow.ndim != 3 or len(flow) != 2 or mask.shape != flow.shape[1:] or mask.dtype != bool:
        raise ValueError(
            "a flow must have shape (2, H, W) and its mask be bool of shape (H, W), not "
            f"{flow.shape} and {mask.dtype} {mask.shape}"
        )
    rows, columns = np.nonzero(mask)
    if len(rows) < MIN_PIXELS:
        raise MotionError(
            f"The common motion is fitted to {MIN_PIXELS} pixels or more, and there are "
            f"{len(rows)}.",
            hint="look at the landmarks of the aligned frame, or use --set flow.remove_global=none",
        )
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    centre = points.mean(axis=0)
    radius = float(np.hypot(*(points - centre).T).max())
    design = _design((points - centre) / radius, model)
    solution = _robust_solution(design, flow[:, rows, columns].astype(np.float64))
    growth, turn = (float(one) / radius for one in (*solution, 0.0, 0.0)[2:4])
    matrix = np.array([[1 + growth, -turn], [turn, 1 + growth]])
    return np.column_stack([matrix, centre + solution[:2] - matrix @ centre])


def _design(offsets: np.ndarray, model: str) -> np.ndarray:
    """Return how u, then v, of N pixels, (2 N, K), depend on the K numbers of a model."""
    x, y = offsets.T
    one, zero = np.ones_like(x), np.zeros_like(x)
    u, v = [one, zero], [zero, one]
    if model == "similarity":
        u, v = [*u, x, -y], [*v, y, x]
    return np.hstack([np.stack(u), np.stack(v)]).T


def _robust_solution(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the numbers of a model, (K,), that most of the values (2, N) agree on."""
    solution = np.zeros(design.shape[1])
    solution[:2] = np.median(values, axis=1)
    flat = values.ravel()
    turning = 0.0
    for step in range(FIRST_STEPS + MOST_STEPS):
        lengths = np.hypot(*(flat - design @ solution).reshape(2, -1))
        if step < FIRST_STEPS:
            weights = 1 / np.maximum(lengths, SMALLEST_SIGMA)
        else:
            if step == FIRST_STEPS:
                sigma = float(np.median(lengths)) / _MEDIAN_LENGTH
                turning = TURNING_POINT * max(sigma, SMALLEST_SIGMA)
            weights = geman_mcclure(lengths / turning)
        weighted = design.T * np.tile(weights, 2)
        found = np.linalg.solve(weighted @ design, weighted @ flat)
        # Offsets are at most 1, so a step moves no pixel by more than the sum of its parts.
        moved, solution = float(np.abs(found - solution).sum()), found
        if step > FIRST_STEPS and moved < TOLERANCE:
            break
    return solution


def motion_field(transform: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the flow that a transform of the plane makes.

    Parameters
    ----------
    transform : ndarray, shape (2, 3)
        Matrix that takes a pixel (x, y) of the first frame to its place in the second.
    shape : tuple of int
        Height H and width W.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels u and v in px.
    """
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
    grid = np.stack([x, y])
    matrix = np.asarray(transform, np.float64)
    moved = np.tensordot(matrix[:, :2] - np.eye(2), grid, axes=1) + matrix[:, 2, None, None]
    return moved.astype(np.float32)
