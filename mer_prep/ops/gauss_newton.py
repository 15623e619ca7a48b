"""Robust inverse-compositional Gauss-Newton on one pair of pictures; see `registration`."""

from __future__ import annotations

import math

import cv2
import numpy as np

from mer_prep.ops.robust import TURNING_POINT, geman_mcclure
from mer_prep.ops.similarity import apply_transform, compose, invert

#: What the median absolute residual is multiplied by here. It is `robust.MAD_TO_SIGMA` rounded, and
#: stays so: the scale decides the weights, and with them where every aligned frame comes to lie.
RESIDUAL_TO_SIGMA = 1.48

#: Least residual that counts as an outlier's, in grey levels: pictures are rounded to whole ones.
SMALLEST_SIGMA = 0.3

#: A level of the pyramid is left when a step moves no pixel of the mask by more, in its px.
TOLERANCE = 0.003
COARSE_TOLERANCE = 0.05

#: Iterations of a level; a registration that still moves by `STILL_MOVING` px then has failed.
MAX_ITERATIONS = 30
STILL_MOVING = 0.1

#: Contrast relative to the reference below which a picture is not the same scene.
SMALLEST_GAIN = 0.25


class Level:
    """What depends on the reference alone, at one level of the pyramid.

    Parameters
    ----------
    image : ndarray, shape (H, W), float32
        The reference, smoothed.
    mask : ndarray, shape (H, W), bool
        Its N pixels to compare.
    degrees : {4, 3}
        Degrees of freedom.
    weights : ndarray, shape (H, W), float32, optional
        How much every pixel counts, 0 to 1; all alike by default.

    Attributes
    ----------
    columns : ndarray, shape (degrees + 2, N), float32
        How grey values change with shift along x and y, turn, growth, contrast and brightness:
        the steepest-descent pictures at the pixels of the mask.
    values : ndarray, shape (N,), float32
        The reference there.
    """

    def __init__(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        *,
        degrees: int,
        weights: np.ndarray | None = None,
    ) -> None:
        self.size = image.shape[1::-1]
        self.index = np.flatnonzero(mask)
        self.weights = None if weights is None else weights.ravel()[self.index]
        rows, columns = np.nonzero(mask)
        self.points = np.stack([columns, rows], axis=1).astype(np.float32)
        self.box = np.array(
            [(x, y) for x in (columns.min(), columns.max()) for y in (rows.min(), rows.max())],
            np.float64,
        )
        self.centre = self.points.mean(axis=0, dtype=np.float64)
        offsets = self.points - self.centre
        self.radius = float(np.sqrt((offsets**2).sum(axis=1).max()))
        self.rigid = degrees == 3
        self.values = image.ravel()[self.index]
        self.mean = float(self.values.mean(dtype=np.float64))
        centred = self.values - np.float32(self.mean)
        self.spread = max(float(centred.std(dtype=np.float64)), 1e-6)
        gradient_x, gradient_y = (values.ravel()[self.index] for values in _gradients(image))
        # Angles and scale in units of the radius, light in units of the spread: every column is
        # then of the order of a grey level per px, and the equations are well conditioned.
        x, y = (offsets / self.radius).T.astype(np.float32)
        columns_ = [gradient_x, gradient_y, gradient_y * x - gradient_x * y]
        if not self.rigid:
            columns_.append(gradient_x * x + gradient_y * y)
        columns_ += [centred / np.float32(self.spread), np.ones_like(centred)]
        self.columns = np.ascontiguousarray(columns_, np.float32)

    def step(self, solution: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the small similarity of a solution, and how far it moves a point at most."""
        shift, turn = solution[:2], solution[2] / self.radius
        growth = 0.0 if self.rigid else solution[3] / self.radius
        matrix = np.array([[1 + growth, -turn], [turn, 1 + growth]])
        if self.rigid:
            matrix /= math.hypot(1, turn)
        transform = np.column_stack([matrix, self.centre + shift - matrix @ self.centre])
        size = float(np.hypot(*shift)) + self.radius * math.hypot(turn, growth)
        return transform, size


class Search:
    """One registration at one level.

    Parameters
    ----------
    level : Level
        The reference.
    moving : ndarray, shape (H2, W2), float32
        The other picture, smoothed.
    transform : ndarray, shape (2, 3)
        Start, moving to reference px.

    Attributes
    ----------
    transform : ndarray, shape (2, 3), float64
        The estimate.
    gain, bias : float
        Light: moving = gain * (reference - mean) / spread + bias, with those of the level.
    values : ndarray, shape (N,), float32
        The moving picture at the pixels of the mask, as the estimate has them.
    inside : ndarray, shape (N,), bool, or None
        Which of them the moving picture covers; None for all.
    iterations : int
        Steps taken.
    failure : str
        Why the estimate is none; empty otherwise.
    """

    def __init__(self, level: Level, moving: np.ndarray, transform: np.ndarray) -> None:
        self.level = level
        self.transform = transform
        self.iterations = 0
        self.failure = ""
        self._scale = math.inf
        self._moving = moving
        self._sample()
        self.gain, self.bias = self._light()

    def run(self, *, tolerance: float) -> None:
        """Take steps until none moves a point of the mask by more than `tolerance` px."""
        size = math.inf
        while size > tolerance and self.iterations < MAX_ITERATIONS and not self.failure:
            size = self._iterate()
        if not self.failure and size > max(STILL_MOVING, tolerance):
            self.failure = f"no end after {self.iterations} iterations ({size:.2f} px a step)"

    def _sample(self) -> None:
        """Take the moving picture's values at the points of the mask."""
        warped = sampled(self._moving, self.transform, self.level.size)
        self.values = warped.ravel()[self.level.index]
        self.inside = self._covered()

    def _covered(self) -> np.ndarray | None:
        """Return which points of the mask the moving picture covers; None for all."""
        back, last = invert(self.transform), np.array(self._moving.shape[1::-1]) - 1

        def inside(points: np.ndarray) -> np.ndarray:
            placed = apply_transform(back, points)
            return np.asarray(((placed >= 0) & (placed <= last)).all(axis=1))

        return None if inside(self.level.box).all() else inside(self.level.points)

    def _light(self) -> tuple[float, float]:
        """Return gain and bias by least squares without motion."""
        values, reference = self.values, self.level.columns[-2]
        if self.inside is not None:
            if not self.inside.any():
                return 1.0, 0.0
            values, reference = values[self.inside], reference[self.inside]
        reference = reference - reference.mean()
        power = float(np.square(reference).mean())
        gain = float((reference * values).mean()) / max(power, 1e-9)
        return gain, float(values.mean(dtype=np.float64))

    def _residuals(self) -> np.ndarray:
        gain, bias = np.float32(self.gain), np.float32(self.bias)
        return np.asarray(self.values - gain * self.level.columns[-2] - bias)

    def sigma(self, residuals: np.ndarray | None = None) -> float:
        """Return the robust standard deviation of what remains; infinite without overlap."""
        residuals = self._residuals() if residuals is None else residuals
        if self.inside is not None:
            residuals = residuals[self.inside]
        if not residuals.size:
            return math.inf
        return RESIDUAL_TO_SIGMA * float(np.median(np.abs(residuals)))

    def _iterate(self) -> float:
        """Take one step and return how far it moves a point of the mask at most, in px."""
        level = self.level
        residuals = self._residuals()
        # Never widened again: a scale that follows every step can keep two solutions alternating.
        scale = min(self._scale, TURNING_POINT * max(self.sigma(residuals), SMALLEST_SIGMA))
        self._scale = scale
        if not math.isfinite(scale):
            self.failure = "the face has left the picture"
            return math.inf
        weights = geman_mcclure(residuals / np.float32(scale))
        if self.inside is not None:
            weights *= self.inside
        if level.weights is not None:
            weights = weights * level.weights
        weighted = level.columns * weights
        # Not a BLAS product: its sums depend on the number of threads, and results must not.
        normal = np.einsum("in,jn->ij", weighted, level.columns).astype(np.float64)
        target = np.einsum("in,n->i", weighted, residuals).astype(np.float64)
        try:
            solution = np.linalg.solve(normal, target)
        except np.linalg.LinAlgError:
            self.failure = "the picture has no texture to register"
            return math.inf
        self.iterations += 1
        self.gain += solution[-2]
        self.bias += solution[-1]
        # Far from the truth the gain is no contrast yet; its bound keeps the step finite.
        gain = max(self.gain / level.spread, SMALLEST_GAIN)
        change, size = level.step(solution[:-2] / gain)
        if not size < level.radius:
            self.failure = f"a step of {size:.0f} px leads astray"
            return math.inf
        self.transform = compose(change, self.transform)
        self._sample()
        return size


def sampled(image: np.ndarray, transform: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the smoothed picture on the grid of the reference, of `size` (width, height)."""
    # Linear: OpenCV's cubic kernel takes a shift of 0.010 px for one of 0.015 px.
    return np.asarray(
        cv2.warpAffine(
            image, transform, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    )


def _gradients(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the derivatives along x and y by central differences, grey levels a px."""
    return (
        cv2.Sobel(image, cv2.CV_32F, 1, 0, ksize=1, scale=0.5),
        cv2.Sobel(image, cv2.CV_32F, 0, 1, ksize=1, scale=0.5),
    )
