"""Smooth displacement fields made of Gaussians, and the inversion of the maps they define."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.interpolate import make_interp_spline

#: Beyond this many sigmas from every centre a field is below 1e-9 of its strength.
_SUPPORT = 6.5


@dataclass(frozen=True)
class GaussianField:
    r"""A sum of Gaussian-supported displacements.

    .. math:: F(x) = \sum_k v_k \exp\left(-\tfrac12 \lVert (x - c_k) / \sigma_k \rVert^2\right)

    Parameters
    ----------
    centres : ndarray, shape (K, 2), float64
        Centres :math:`c_k`, (x, y) in px.
    vectors : ndarray, shape (K, 2), float64
        Displacements :math:`v_k` at the centres, (u, v) in px.
    sigmas : ndarray, shape (K, 2), float64
        Widths :math:`\sigma_k` along x and y in px, > 0.
    """

    centres: np.ndarray
    vectors: np.ndarray
    sigmas: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the displacement (..., 2) in px at points (..., 2) in px."""
        flat = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        result = np.zeros_like(flat)
        near = self._near(flat)
        if near.any():
            x, y = flat[near].T
            total = np.zeros((2, len(x)))
            for (cx, cy), (u, v), (sx, sy) in zip(
                self.centres, self.vectors, self.sigmas, strict=True
            ):
                weight = np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))
                total[0] += u * weight
                total[1] += v * weight
            result[near] = total.T
        return result.reshape(np.shape(points))

    def on_grid(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the displacement (H, W, 2), float64, at columns `x` (W,) and rows `y` (H,)."""
        along_x = np.exp(-0.5 * ((x[None] - self.centres[:, :1]) / self.sigmas[:, :1]) ** 2)
        along_y = np.exp(-0.5 * ((y[None] - self.centres[:, 1:]) / self.sigmas[:, 1:]) ** 2)
        return np.stack(
            [(along_y * self.vectors[:, c : c + 1]).T @ along_x for c in (0, 1)], axis=-1
        )

    def peak(self) -> float:
        """Return the largest length of the displacement in px, to about one part in 10^5."""
        if not len(self.centres):
            return 0.0
        low, high = self._bounds(2.0)
        step = max(float(self.sigmas.min()) / 8, float((high - low).max()) / 400)
        largest = 0.0
        # Around the largest value on a grid, a finer grid finds the peak between its nodes.
        for _ in range(2):
            x, y = (np.arange(low[axis], high[axis] + step, step) for axis in (0, 1))
            lengths = np.linalg.norm(self.on_grid(x, y), axis=-1)
            row, column = np.unravel_index(np.argmax(lengths), lengths.shape)
            largest = float(lengths[row, column])
            top = np.array([x[column], y[row]])
            low, high, step = top - step, top + step, step / 12
        return largest

    def scaled(self, factor: float) -> GaussianField:
        """Return the field times `factor`."""
        return GaussianField(self.centres, self.vectors * factor, self.sigmas)

    def _bounds(self, sigmas: float) -> tuple[np.ndarray, np.ndarray]:
        reach = sigmas * self.sigmas
        return (self.centres - reach).min(axis=0), (self.centres + reach).max(axis=0)

    def _near(self, flat: np.ndarray) -> np.ndarray:
        if not len(self.centres):
            return np.zeros(len(flat), dtype=bool)
        low, high = self._bounds(_SUPPORT)
        return np.all((flat >= low) & (flat <= high), axis=1)


def empty_field() -> GaussianField:
    """Return the field that is zero everywhere."""
    return GaussianField(np.zeros((0, 2)), np.zeros((0, 2)), np.ones((0, 2)))


def join_fields(*fields: GaussianField) -> GaussianField:
    """Return the sum of fields."""
    return GaussianField(
        np.concatenate([field.centres for field in fields]),
        np.concatenate([field.vectors for field in fields]),
        np.concatenate([field.sigmas for field in fields]),
    )


def invert_displacement(
    displacement: Callable[[np.ndarray], np.ndarray],
    targets: np.ndarray,
    *,
    tolerance: float = 1e-6,
    iterations: int = 200,
) -> np.ndarray:
    """Return the points x with ``x + displacement(x) = targets``, by fixed-point iteration.

    The iteration converges where the displacement changes by less than a pixel per pixel, which
    holds for every map of this package: a face does not fold.

    Parameters
    ----------
    displacement : callable
        Maps points (N, 2) to displacements (N, 2), px.
    targets : ndarray, shape (..., 2), float
        Points after the displacement, px.
    tolerance : float
        Largest last change accepted, px.
    iterations : int
        Largest number of iterations.

    Raises
    ------
    ArithmeticError
        If the iteration does not converge: the map folds.
    """
    flat = np.asarray(targets, dtype=np.float64).reshape(-1, 2)
    points = flat.copy()
    moving = np.arange(len(flat))
    for _ in range(iterations):
        change = flat[moving] - displacement(points[moving]) - points[moving]
        points[moving] += change
        # Points that have settled are left out: most lie outside the support at once.
        moving = moving[np.abs(change).max(axis=1) > tolerance]
        if not len(moving):
            return points.reshape(np.shape(targets))
    raise ArithmeticError("the displacement cannot be inverted: it folds")


def spline_weights(nodes: int, positions: np.ndarray) -> np.ndarray:
    """Return the matrix of cubic-spline interpolation between equidistant nodes.

    Parameters
    ----------
    nodes : int
        Number of nodes, at 0, 1, 2 ...; at least 4.
    positions : ndarray, shape (N,), float
        Where to interpolate, in node distances.

    Returns
    -------
    ndarray, shape (N, nodes), float64
        ``weights @ values`` are the interpolated values.
    """
    return make_interp_spline(np.arange(nodes), np.eye(nodes), k=3)(positions)


def upsample(coarse: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate a vector field with the weights of `spline_weights`.

    Parameters
    ----------
    coarse : ndarray, shape (h, w, 2), float
        Field at the nodes.
    rows, columns : ndarray, shapes (H, h) and (W, w), float
        Weights along y and x.

    Returns
    -------
    ndarray, shape (H, W, 2), float32
        The field.
    """
    return np.stack(
        [(rows @ coarse[..., axis] @ columns.T).astype(np.float32) for axis in (0, 1)], axis=-1
    )


def sample(image: np.ndarray, points: np.ndarray, *, interpolation: int) -> np.ndarray:
    """Return the picture's values at points; beyond its edges it is reflected.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, 3), uint8 or float32
        Picture.
    points : ndarray, shape (h, w, 2), float32
        (x, y) in px.
    interpolation : int
        One of OpenCV's ``INTER_`` flags.

    Returns
    -------
    ndarray, shape (h, w) or (h, w, 3)
        Of the picture's dtype.
    """
    both_axes_in_first: Any = None
    return cv2.remap(
        image, points, both_axes_in_first, interpolation, borderMode=cv2.BORDER_REFLECT_101
    )
