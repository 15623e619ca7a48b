"""Rank pooling: one picture whose scores put the frames of a clip in their order.

A clip of T frames psi_1 ... psi_T is summed up by the direction d along which its frames come one
after the other. Ranked are either the frames themselves, ``V_t = psi_t``, or, with *smoothing*,
their time-varying means ``V_t = (psi_1 + ... + psi_t) / t``, as both papers have it. Either way d
is a weighted sum of the frames, so that the weights are all there is to compute. They sum to
zero: what does not change is not in d.

References
----------
.. [1] H. Bilen, B. Fernando, E. Gavves, A. Vedaldi, S. Gould, "Dynamic image networks for action
   recognition", CVPR 2016. doi:10.1109/CVPR.2016.331
.. [2] B. Fernando, E. Gavves, J. Oramas M., A. Ghodrati, T. Tuytelaars, "Modeling video evolution
   for action recognition", CVPR 2015. doi:10.1109/CVPR.2015.7299176
.. [3] O. Chapelle, S. S. Keerthi, "Efficient algorithms for ranking with SVMs", Information
   Retrieval 13(3), 2010. doi:10.1007/s10791-009-9109-9
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from mer_prep.checks import check_range
from mer_prep.errors import MotionError

METHODS = ("approximate", "exact")

#: Most frames of exact rank pooling: time grows with their cube, memory with their square.
MAX_EXACT_FRAMES = 1000

#: Frames taken into memory at a time for their inner products.
BLOCK = 32

#: Eigenvalues of the inner products below this, relative to the largest, are rounding.
SMALLEST_EIGENVALUE = 1e-12

#: Steps of Newton's method, and halvings of one; a handful is the rule.
MAX_STEPS, MAX_HALVINGS = 200, 40


def approximate_weights(count: int, *, smoothing: bool = True) -> np.ndarray:
    """Return the weights of the frames in approximate rank pooling, in closed form.

    Parameters
    ----------
    count : int
        Number of frames T, 1 or more.
    smoothing : bool
        Whether the time-varying means are ranked rather than the frames.

    Returns
    -------
    ndarray, shape (T,), float64
        ``2 / (T (T - 1)) alpha_t`` for t = 1 ... T, so that the pooled picture is the mean, over
        all pairs of frames q > t, of ``V_q - V_t``: grey levels in, grey levels out, whatever the
        length of the clip. One frame has the weight zero.

    Raises
    ------
    ConfigError
        If `count` is less than 1.

    Notes
    -----
    A first gradient step of the ranking machine from d = 0 gives, up to a factor that [1]_
    leaves open, ``d = sum over q > t of (V_q - V_t) = sum over t of (2 t - T - 1) V_t``. Hence,
    *of the frames themselves*, ``alpha_t = 2 t - T - 1``, which is antisymmetric in time: a clip
    played backwards gives the negative picture. *Of the time-varying means*, in terms of the
    frames, ``alpha_t = 2 (T - t + 1) - (T + 1) (H_T - H_{t-1})`` with the harmonic numbers
    ``H_t = 1 + 1/2 + ... + 1/t``. That is not antisymmetric: backwards gives another picture, of
    the opposite sign where a pixel rises or falls all the time. The two definitions agree for
    T = 2 but for a factor of two.
    """
    check_range("count", count, low=1)
    time = np.arange(1, count + 1, dtype=np.float64)
    if count == 1:
        return np.zeros(1)
    if smoothing:
        # H_T - H_{t-1} is the sum of 1/t ... 1/T.
        tails = np.cumsum(1 / time[::-1])[::-1]
        alpha = 2 * (count - time + 1) - (count + 1) * tails
    else:
        alpha = 2 * time - count - 1
    return 2 * alpha / (count * (count - 1))


def exact_weights(
    features: Sequence[np.ndarray], *, smoothing: bool = True, cost: float = 1.0
) -> np.ndarray:
    """Return the weights of the frames in exact rank pooling, by a ranking support vector machine.

    Parameters
    ----------
    features : sequence of T ndarray of one shape
        The frames; an array of shape (T, ...) will do.
    smoothing : bool
        Whether the time-varying means are ranked rather than the frames.
    cost : float
        C, above 0: what a pair costs that the margin does not part. At pictures of 8 bits 1 is
        large, so that pairs are parted wherever they can be.

    Returns
    -------
    ndarray, shape (T,), float64
        Weights whose sum of frames is d, the minimum of
        ``|d|^2 / 2 + C sum over q > t of max(0, 1 - d . (V_q - V_t))^2``; d is the weight vector
        of the machine itself, in 1 / units of the frames, without bias. Zeros for one frame, and
        for frames that are all equal.

    Raises
    ------
    ConfigError
        If the cost is not above 0.
    MotionError
        If there are more than 1,000 frames.

    Notes
    -----
    The machine of [2]_ with squared slacks, which make the minimum unique and the function
    smooth. It needs only the inner products of the frames, a T x T matrix made from `BLOCK`
    frames at a time, and is solved in their span by Newton's method [3]_. The function is
    piecewise quadratic, so the method ends, at the minimum but for rounding, when the set of
    pairs inside the margin no longer changes. Without smoothing, a clip played backwards gives
    the negative picture.
    """
    check_range("cost", cost, low=0, open_low=True)
    count = len(features)
    if count > MAX_EXACT_FRAMES:
        raise MotionError(
            f"Exact rank pooling takes {MAX_EXACT_FRAMES} frames at most, and there are {count}.",
            hint="use --set dynamic-image.method=approximate, or pool fewer frames",
        )
    means = np.eye(count)
    if smoothing:
        means = np.tril(np.ones((count, count))) / np.arange(1, count + 1)[:, None]
    products = means @ _inner_products(features) @ means.T
    products -= products.mean(axis=0)
    products -= products.mean(axis=1, keepdims=True)
    sizes, axes = np.linalg.eigh(products)
    kept = sizes > SMALLEST_EIGENVALUE * max(float(sizes[-1]), np.finfo(float).tiny)
    if count < 2 or not kept.any():
        return np.zeros(count)
    roots, axes = np.sqrt(sizes[kept]), axes[:, kept]
    # In units of the largest extent the equations are well conditioned.
    extent = float(roots[-1])
    solution = _rank(axes * (roots / extent), cost * extent**2)
    weights = means.T @ (axes @ (solution / roots)) / extent
    return np.asarray(weights - weights.mean())


def _inner_products(features: Sequence[np.ndarray]) -> np.ndarray:
    """Return the inner products of frames less the first one, shape (T, T), float64."""
    count = len(features)
    first = np.asarray(features[0], np.float64).ravel()

    def block(start: int) -> np.ndarray:
        stop = min(start + BLOCK, count)
        return np.stack(
            [np.asarray(features[t], np.float64).ravel() - first for t in range(start, stop)]
        )

    products = np.empty((count, count))
    for row in range(0, count, BLOCK):
        left = block(row)
        for column in range(0, row + 1, BLOCK):
            right = left if column == row else block(column)
            part = left @ right.T
            products[row : row + BLOCK, column : column + BLOCK] = part
            products[column : column + BLOCK, row : row + BLOCK] = part.T
    return products


def _rank(points: np.ndarray, cost: float) -> np.ndarray:
    """Return the direction, (K,), that ranks points (T, K) given in order of time."""
    count, dimensions = points.shape
    later = np.tri(count, k=-1, dtype=bool)  # row q, column t: q comes after t

    def slacks(direction: np.ndarray) -> np.ndarray:
        scores = points @ direction
        return np.where(later, np.maximum(0, 1 - (scores[:, None] - scores)), 0)

    def loss(direction: np.ndarray, slack: np.ndarray) -> float:
        return float(direction @ direction / 2 + cost * np.vdot(slack, slack))

    direction = np.zeros(dimensions)
    slack = slacks(direction)
    value = loss(direction, slack)
    for _ in range(MAX_STEPS):
        inside = slack > 0
        earlier, after = inside.sum(axis=0), inside.sum(axis=1)
        # The Laplacian of the graph whose edges are the pairs inside the margin.
        laplacian = np.diag((earlier + after).astype(np.float64)) - inside - inside.T
        curvature = np.eye(dimensions) / (2 * cost) + points.T @ laplacian @ points
        target = scipy.linalg.solve(curvature, points.T @ (after - earlier), assume_a="pos")
        step = 1.0
        for _ in range(MAX_HALVINGS):
            moved = direction + step * (target - direction)
            slack = slacks(moved)
            reached = loss(moved, slack)
            if reached <= value:
                break
            step /= 2
        else:
            return direction
        same = step == 1 and np.array_equal(slack > 0, inside)
        gained, direction, value = value - reached, moved, reached
        if same or gained <= 1e-14 * value:
            return direction
    raise MotionError(
        f"Exact rank pooling did not converge in {MAX_STEPS} steps.",
        hint="use --set dynamic-image.method=approximate, or a lower --set dynamic-image.cost",
    )


def pool(features: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return the weighted sum of frames.

    Parameters
    ----------
    features : sequence of T ndarray of one shape
        The frames.
    weights : ndarray, shape (T,)
        Weights that sum to zero.

    Returns
    -------
    ndarray, shape of a frame, float32
        Exactly zero where the frames do not change.
    """
    if len(features) != len(weights):
        raise ValueError(f"there are {len(features)} frames and {len(weights)} weights")
    first = np.asarray(features[0], np.float64)
    total = np.zeros(first.shape)
    for index in range(1, len(weights)):
        # Weights sum to zero, so the first frame may be taken off all of them.
        total += weights[index] * (np.asarray(features[index], np.float64) - first)
    return total.astype(np.float32)
