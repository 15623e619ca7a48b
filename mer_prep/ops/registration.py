"""Sub-pixel registration of one picture to another by a similarity, blind to expression and light.

The method is inverse-compositional Gauss-Newton [1]_: everything that depends on the reference
picture alone is computed once, so that following a face through a clip costs a few resamplings a
frame. Two more columns, the reference itself and a constant, absorb a change of light [2]_;
Geman and McClure's weights (see `robust`) forget pixels that move otherwise than the head does.

References
----------
.. [1] S. Baker, I. Matthews, "Lucas-Kanade 20 years on: a unifying framework", International
   Journal of Computer Vision 56(3), 2004. doi:10.1023/B:VISI.0000011205.11775.fd
.. [2] A. Bartoli, "Groupwise geometric and photometric direct image registration", IEEE TPAMI
   30(12), 2008. doi:10.1109/TPAMI.2008.22
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import cv2
import numpy as np

from mer_prep.checks import check_range
from mer_prep.errors import ConfigError
from mer_prep.ops.gauss_newton import (
    COARSE_TOLERANCE,
    SMALLEST_GAIN,
    SMALLEST_SIGMA,
    TOLERANCE,
    Level,
    Search,
    sampled,
)
from mer_prep.ops.similarity import apply_transform, compose, invert, scale_of

IDENTITY = np.eye(2, 3)

#: Degrees of freedom: shift and rotation, without and with scale.
DEGREES = (3, 4)

#: Halvings of the pictures before the first estimate of a coarse start.
COARSE_LEVELS = 2

#: A residual grown by this factor over that of the start shows a registration gone astray.
WORSE = 1.05

#: Standard deviation in grey levels below which a picture shows nothing.
NO_CONTRAST = 0.01

#: Pixels of a mask beyond which every second one, like the white fields of a chessboard, is enough:
#: neighbours in a smoothed picture say the same.
ENOUGH_PIXELS = 6000

#: Fewest pixels of a mask; six unknowns and their weights need a multiple of them.
MIN_PIXELS = 200


@dataclass(frozen=True)
class Limits:
    """What a registration may come to before it is called a failure.

    Parameters
    ----------
    shift : float
        Largest shift of the centre of the mask from where the start had it, in px.
    turn : float
        Largest rotation against the start, in degrees.
    scale : float
        Largest change of scale against the start, as a factor above 1.
    correlation : float
        Smallest correlation of the two pictures inside the mask, -1 to 1.
    overlap : float
        Smallest part of the mask that the moving picture covers, 0 to 1.
    """

    shift: float = 16.0
    turn: float = 12.0
    scale: float = 1.15
    correlation: float = 0.85
    overlap: float = 0.7


@dataclass(frozen=True)
class Registration:
    """What became of a registration.

    Parameters
    ----------
    transform : ndarray, shape (2, 3), float64
        Similarity that takes points (x, y) of the moving picture to the reference, px, at pixel
        centres. Not a number throughout if the registration failed.
    gain, bias : float
        Light: the moving picture is about gain times the reference plus bias, in grey levels.
    residual : float
        Robust standard deviation (1.48 times the median absolute) of what remains inside the
        mask, in grey levels.
    correlation : float
        Correlation of the two pictures inside the mask, -1 to 1.
    overlap : float
        Part of the mask that the moving picture covers, 0 to 1.
    iterations : int
        Steps taken, over all levels.
    values : ndarray, shape (N,), float32
        The moving picture, smoothed, at the N pixels of the mask in their order.
    failure : str
        Why the result must not be used; empty if it may.
    """

    transform: np.ndarray
    gain: float
    bias: float
    residual: float
    correlation: float
    overlap: float
    iterations: int
    values: np.ndarray
    failure: str = ""

    @property
    def converged(self) -> bool:
        """Whether the transform may be used."""
        return not self.failure


class Reference:
    """A picture that others are registered to.

    Parameters
    ----------
    image : ndarray, shape (H2, W2), uint8 or float32
        Grey values.
    mask : ndarray, shape (H, W), bool
        Pixels to compare, on the grid that others are registered to.
    placement : ndarray, shape (2, 3), optional
        Similarity from px of the picture to that grid, for a picture finer than it; the identity
        by default. Pictures twice as fine keep interpolation from blurring what is compared.
    degrees : {4, 3}
        Degrees of freedom: shift, rotation and scale, or shift and rotation.
    blur : float
        Sigma of a Gaussian both pictures are smoothed with, in px; 0.5 to 4.
    weights : ndarray, shape (H, W), float32, optional
        How much every pixel of the mask counts, 0 to 1; all alike by default.

    Raises
    ------
    ConfigError
        If `degrees` or `blur` is out of range.
    ValueError
        If shapes or types do not fit, or the mask has too few pixels.
    """

    def __init__(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        *,
        placement: np.ndarray | None = None,
        degrees: int = 4,
        blur: float = 1.5,
        weights: np.ndarray | None = None,
    ) -> None:
        if degrees not in DEGREES:
            raise ConfigError(f"A registration has 4 or 3 degrees of freedom, not {degrees!r}.")
        check_range("blur", blur, low=0.5, high=4)
        placement = _checked(IDENTITY if placement is None else placement)
        if weights is not None and (weights.shape != mask.shape or weights.dtype != np.float32):
            raise ValueError(
                f"weights must be float32 of the mask's shape {mask.shape}, "
                f"not {weights.dtype} {weights.shape}"
            )
        if mask.ndim != 2 or mask.dtype != bool:
            raise ValueError(f"a mask must be bool of shape (H, W), not {mask.dtype} {mask.shape}")
        if int(mask.sum()) < MIN_PIXELS:
            raise ValueError(f"a mask must have {MIN_PIXELS} pixels, and this has {mask.sum()}")
        self._blur = blur
        self._centre = np.argwhere(mask)[:, ::-1].mean(axis=0)
        grid = sampled(_smoothed(image, blur / scale_of(placement)), placement, mask.shape[::-1])
        if int(mask.sum()) > ENOUGH_PIXELS:
            mask = mask & (np.indices(mask.shape).sum(axis=0) % 2 == 0)
        self._levels = []
        for depth, level in enumerate(_pyramid(grid, COARSE_LEVELS + 1)):
            cells = np.s_[:: 2**depth, :: 2**depth]
            if int(mask[cells].sum()) >= MIN_PIXELS // 2:
                level_weights = None if weights is None else weights[cells]
                self._levels.append(
                    Level(level, mask[cells], degrees=degrees, weights=level_weights)
                )

    @property
    def values(self) -> np.ndarray:
        """The reference itself, smoothed, at the pixels of the mask, shape (N,), float32."""
        return self._levels[0].values

    def register(
        self,
        moving: np.ndarray,
        *,
        initial: np.ndarray | None = None,
        coarse: bool | None = None,
        limits: Limits | None = None,
    ) -> Registration:
        """Find the similarity that takes a picture to the reference.

        Parameters
        ----------
        moving : ndarray, shape (H2, W2), uint8 or float32
            Grey values; of any size.
        initial : ndarray, shape (2, 3), optional
            Start: moving to reference px; the identity by default.
        coarse : bool, optional
            Whether to begin on pictures a quarter the size, which holds from about 13 px away at
            144x144; by default where there is no `initial`. A start that is within 1 px needs it
            not.
        limits : Limits, optional
            What counts as a failure.

        Returns
        -------
        Registration
            Its `failure` says if, and why, it must not be used.
        """
        limits = Limits() if limits is None else limits
        start = _checked(IDENTITY if initial is None else initial)
        coarse = initial is None if coarse is None else coarse
        depths = len(self._levels) if coarse else 1
        density = scale_of(start)
        # Halvings that bring a finer moving picture to the reference's own density.
        finer = max(0, round(-math.log2(density)))
        smooth = _smoothed(moving, self._blur / density)
        pictures = _pyramid(smooth, depths + finer if coarse else 1)
        search = Search(self._levels[0], pictures[0], start)
        before, iterations, transform = search.sigma(), 0, start
        for depth in range(depths - 1, 0, -1):
            begin = between_depths(transform, depth + finer, depth)
            rough = Search(self._levels[depth], pictures[depth + finer], begin)
            rough.run(tolerance=COARSE_TOLERANCE)
            iterations += rough.iterations
            transform = between_depths(rough.transform, -depth - finer, -depth)
        if coarse:
            search = Search(self._levels[0], pictures[0], transform)
        search.run(tolerance=TOLERANCE)
        found = _compared(search, iterations + search.iterations)
        failure = (
            search.failure
            or self._out_of_limits(found.transform, start, limits)
            or _unlike(found, before, limits)
        )
        if failure:
            nothing = np.full((2, 3), np.nan)
            return dataclasses.replace(found, transform=nothing, failure=failure)
        return found

    def _out_of_limits(self, transform: np.ndarray, start: np.ndarray, limits: Limits) -> str:
        change = compose(transform, invert(start))
        shift = float(np.hypot(*(apply_transform(change, self._centre) - self._centre)))
        turn = abs(math.degrees(math.atan2(change[1, 0], change[0, 0])))
        scale = scale_of(change)
        if shift > limits.shift:
            return f"the shift of {shift:.1f} px is beyond {limits.shift:g} px"
        if turn > limits.turn:
            return f"the turn of {turn:.1f} degrees is beyond {limits.turn:g} degrees"
        if not 1 / limits.scale <= scale <= limits.scale:
            return f"the change of scale by {scale:.2f} is beyond {limits.scale:g}"
        return ""


def register(
    reference: np.ndarray,
    moving: np.ndarray,
    mask: np.ndarray,
    *,
    initial: np.ndarray | None = None,
    degrees: int = 4,
    blur: float = 1.5,
    limits: Limits | None = None,
) -> Registration:
    """Find the similarity that takes one picture to another.

    For many pictures and one reference, `Reference` does what concerns the reference once.

    Parameters
    ----------
    reference : ndarray, shape (H, W), uint8 or float32
        Grey values of the picture that is registered to.
    moving : ndarray, shape (H2, W2), uint8 or float32
        Grey values of the other.
    mask : ndarray, shape (H, W), bool
        Pixels of the reference to compare.
    initial : ndarray, shape (2, 3), optional
        Start: moving to reference px, right within about 1 px. Without it the search begins at
        the identity, on pictures a quarter the size.
    degrees, blur, limits
        As for `Reference` and `Reference.register`.

    Returns
    -------
    Registration
        ``transform`` takes points (x, y) of `moving` to `reference`; ``failure`` says if, and
        why, there is none.
    """
    fixed = Reference(reference, mask, degrees=degrees, blur=blur)
    return fixed.register(moving, initial=initial, limits=limits)


def between_depths(transform: np.ndarray, moving: int, reference: int) -> np.ndarray:
    """Return a transform as it is between pictures halved `moving` and `reference` times."""
    # cv2.pyrDown keeps every second pixel, so that coordinates are halved and nothing else.
    scaled = np.array(transform, np.float64) / 2.0**reference
    scaled[:, :2] *= 2.0**moving
    return scaled


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two sets of grey values, -1 to 1; 0 if one has no contrast."""
    if not first.size:
        return 0.0
    first = first - first.mean(dtype=np.float64)
    second = second - second.mean(dtype=np.float64)
    spreads = float(first.std()), float(second.std())
    if min(spreads) < NO_CONTRAST:
        return 0.0
    return float((first * second).mean()) / (spreads[0] * spreads[1])


def _compared(search: Search, iterations: int) -> Registration:
    """Return the transform of a search and how the pictures compare under it."""
    level = search.level
    values, reference, overlap = search.values, level.values, 1.0
    if search.inside is not None:
        values, reference = values[search.inside], reference[search.inside]
        overlap = float(search.inside.mean())
    gain = search.gain / level.spread
    return Registration(
        transform=search.transform,
        gain=gain,
        bias=search.bias - gain * level.mean,
        residual=search.sigma(),
        correlation=correlation(values, reference),
        overlap=overlap,
        iterations=iterations,
        values=search.values,
    )


def _unlike(found: Registration, before: float, limits: Limits) -> str:
    """Return why two registered pictures do not show the same; empty if they do."""
    if found.overlap < limits.overlap:
        return f"only {found.overlap:.0%} of the mask is in the picture"
    if found.gain < SMALLEST_GAIN:
        return f"the pictures have nothing in common (gain {found.gain:.2f})"
    if found.correlation < limits.correlation:
        return f"the pictures differ (correlation {found.correlation:.2f})"
    if found.residual > WORSE * max(before, SMALLEST_SIGMA):
        return f"what remains, {found.residual:.1f} grey levels, is more than before"
    return ""


def _checked(transform: np.ndarray) -> np.ndarray:
    transform = np.asarray(transform, np.float64)
    if (
        transform.shape != (2, 3)
        or not np.isfinite(transform).all()
        or np.linalg.det(transform[:, :2]) <= 0
    ):
        raise ValueError(
            f"a transform must be a similarity of shape (2, 3), not {transform.tolist()}"
        )
    return transform


def _smoothed(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the picture as float32, smoothed; refuse what is not a grey picture."""
    if image.ndim != 2 or image.dtype not in (np.uint8, np.float32) or 0 in image.shape:
        raise ValueError(
            f"a picture must be uint8 or float32 of shape (H, W), not {image.dtype} {image.shape}"
        )
    if image.dtype == np.float32 and not np.isfinite(image).all():
        raise ValueError("a picture to register must be finite")
    return np.asarray(cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma))


def _pyramid(image: np.ndarray, depths: int) -> list[np.ndarray]:
    """Return the picture, and it halved again and again."""
    pictures = [image]
    while len(pictures) < depths:
        pictures.append(cv2.pyrDown(pictures[-1]))
    return pictures
