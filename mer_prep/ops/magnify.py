r"""Motion magnification: frames in which a subtle motion is larger than it was.

Both methods compare every frame with a reference frame, usually the onset, and enlarge what has
changed. With :math:`\delta(x, t)` the motion from the reference and :math:`\alpha` the
*amplification*, as the papers define it, the motion becomes

.. math:: (1 + \alpha) \, \delta(x, t);

an amplification of 0 leaves the clip as it is, one of 4 shows five times the motion. The reference
frame itself never changes.

**Phase-based** magnification turns the phases of a complex steerable pyramid by :math:`\alpha`
times their change. It moves waves of wavelength :math:`\lambda` rightly as long as
:math:`\alpha |\delta|` stays below about :math:`\lambda / 2`, and leaves noise as strong as it is.
**Linear** magnification adds :math:`\alpha` times the change of grey values, level by level of a
Laplacian pyramid. To first order, :math:`I(x + \delta) \approx I(x) + \delta \, I'(x)`, that is the
same motion; it holds while :math:`(1 + \alpha) |\delta| < \lambda / 8`, and noise grows
:math:`\alpha`-fold.

Neither is exact. Waves longer than a local motion is wide average it with what stands still, and
the envelopes of waves do not move with their phases: measured by optical flow, a shift of the whole
picture comes out at 0.91 to 0.97 of its nominal size, blobs of motion 20 px wide in a face of
144x144 px at about 0.8 (`phase`, motion up to 1 px, amplification 1 to 4).

A *temporal band* keeps, of the change, only what recurs at some frequencies; see
`temporal_filter`. Only the luminance is changed: red, green and blue move by one amount.

References
----------
H.-Y. Wu, M. Rubinstein, E. Shih, J. Guttag, F. Durand, W. T. Freeman, "Eulerian video
magnification for revealing subtle changes in the world", ACM Transactions on Graphics 31 (4), 2012.
doi:10.1145/2185520.2185561

N. Wadhwa, M. Rubinstein, F. Durand, W. T. Freeman, "Phase-based video motion processing", ACM
Transactions on Graphics 32 (4), 2013. doi:10.1145/2461912.2461966
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import MotionError
from mer_prep.ops.steerable_pyramid import Pyramid, steerable_pyramid

METHODS = ("phase", "linear")

#: Mirrored rim, px, against the joined borders of the spectrum.
_MARGIN = 16

#: Frames worked on together where time is not filtered.
_CHUNK = 8

#: Luminance weights of red, green and blue, ITU-R BT.601.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def temporal_filter(
    count: int,
    *,
    reference: int = 0,
    fps: float | None = None,
    band: tuple[float, float] | None = None,
) -> np.ndarray:
    r"""Return the matrix that takes the course of a value to its change against one frame.

    Without a band row t is :math:`e_t - e_r`: the difference to the reference frame r. With one,
    it is the same difference of the band-passed course. The band-pass is ideal and of zero phase:
    of the discrete cosine transform of the course, which continues it by reflection and so makes
    no jump at its ends, the frequencies :math:`k f / (2 T), k = 0 \ldots T - 1`, outside of the
    band are set to zero.

    Parameters
    ----------
    count : int
        Number of frames T.
    reference : int
        Index r of the reference frame.
    fps : float, optional
        Frames per second f, above 0; needed with a band.
    band : tuple of float, optional
        Lowest and highest frequency kept, Hz, both included.

    Returns
    -------
    ndarray, shape (T, T), float64
        Rows sum to zero, except for the band's rounding; row r is zero.

    Raises
    ------
    MotionError
        If a clip of this length has no frequency within the band.
    ValueError
        For a band without a frame rate.
    """
    if band is None:
        course = np.eye(count)
    else:
        if fps is None:
            raise ValueError("a temporal band needs the frames per second")
        frequencies = np.arange(count) * fps / (2 * count)
        kept = (frequencies >= band[0]) & (frequencies <= band[1])
        if not (kept & (frequencies > 0)).any():
            raise MotionError(
                f"The band {band[0]:g} to {band[1]:g} Hz holds no frequency of {count} frames at "
                f"{fps:g} frames per second.",
                why=f"such a clip tells frequencies {fps / (2 * count):.3g} Hz apart, up to "
                f"{fps / 2 * (count - 1) / count:.3g} Hz",
                hint="choose a wider band, or none",
            )
        times = (np.arange(count) + 0.5) / count
        cosines = np.cos(np.pi * np.flatnonzero(kept)[:, None] * times)
        course = cosines.T @ (cosines * np.where(np.flatnonzero(kept) == 0, 1, 2)[:, None]) / count
    return course - course[reference]


def level_amplification(
    amplification: float, levels: int, *, cutoff_wavelength: float = 0.0
) -> np.ndarray:
    r"""Return the amplification of every level of a Laplacian pyramid, finest first.

    Level l holds waves about :math:`\lambda_l = 4 \cdot 2^l` px long. The cutoff
    :math:`\lambda_c` says how large a motion is reckoned with,
    :math:`\delta = \lambda_c / (8 (1 + \alpha))`, and shorter waves, for which the first-order
    bound then breaks, get less:

    .. math:: \alpha_l = \min(\alpha, \max(0, (1 + \alpha) \lambda_l / \lambda_c - 1)).

    Parameters
    ----------
    amplification : float
        :math:`\alpha`.
    levels : int
        Number of levels.
    cutoff_wavelength : float
        :math:`\lambda_c` in px; 0 for one amplification at all levels.

    Returns
    -------
    ndarray, shape (levels,), float64
    """
    if cutoff_wavelength == 0:
        return np.full(levels, float(amplification))
    wavelengths = 4.0 * 2.0 ** np.arange(levels)
    bounded = (1 + amplification) * wavelengths / cutoff_wavelength - 1
    return np.minimum(amplification, np.maximum(bounded, 0))


def magnify(
    frames: Sequence[np.ndarray] | np.ndarray,
    *,
    method: str = "phase",
    amplification: float,
    reference: int = 0,
    fps: float | None = None,
    band: tuple[float, float] | None = None,
    directions: int = 8,
    smoothing: float = 0.5,
    cutoff_wavelength: float = 0.0,
) -> np.ndarray:
    """Return a clip with its motion magnified.

    Parameters
    ----------
    frames : sequence of T ndarray, shape (H, W, 3) or (H, W), uint8
        The frames, RGB or grey, 16 px or more in height and width.
    method : {'phase', 'linear'}
        See the module.
    amplification : float
        Amplification, 0 or more: motion becomes 1 + amplification times as large.
    reference : int
        Index of the frame that motion is measured from; it stays as it is.
    fps, band : float and tuple of float, optional
        Temporal band; see `temporal_filter`. Without, all change against the reference frame is
        magnified.
    directions : int
        Directions of the steerable pyramid, 2 to 16; for the method `phase`.
    smoothing : float
        Standard deviation, in samples of a sub-band (a quarter of its wavelength), with which the
        change of phase is smoothed, weighted by amplitude; 0 for none. For the method `phase`.
    cutoff_wavelength : float
        See `level_amplification`; for the method `linear`.

    Returns
    -------
    ndarray, shape as the clip, uint8

    Raises
    ------
    MotionError
        If a clip of this length has no frequency within the band.
    ConfigError
        For options out of range.

    Notes
    -----
    Frames are read one at a time. Without a band, memory does not grow with their number but for
    the result; with one, the filter needs them all: about 1.3 MB a frame of 144x144 px
    (`phase`), 0.3 MB (`linear`).
    """
    check_option("method", method, METHODS)
    check_range("amplification", amplification, low=0)
    first = np.asarray(frames[0])
    if first.dtype != np.uint8:
        raise ValueError(f"frames must be uint8, not {first.dtype}")
    count = len(frames)
    result = np.empty((count, *first.shape), np.uint8)
    matrix = temporal_filter(count, reference=reference, fps=fps, band=band)
    changer: _PhaseChange | _LinearChange
    if method == "phase":
        changer = _PhaseChange(first.shape[:2], amplification, directions, smoothing)
    else:
        changer = _LinearChange(first.shape[:2], amplification, cutoff_wavelength)
    origin = luminance(np.asarray(frames[reference]))
    step = count if band is not None else _CHUNK
    for start in range(0, count, step):
        part = range(start, min(start + step, count))
        greys = np.stack([luminance(np.asarray(frames[index])) for index in part])
        changes = changer(greys, origin, None if band is None else matrix)
        for index, change in zip(part, changes, strict=True):
            frame = np.asarray(frames[index]).astype(np.int32)
            added = np.rint(change).astype(np.int32)
            result[index] = np.clip(
                frame + (added if frame.ndim == 2 else added[..., None]), 0, 255
            )
    return result


def luminance(frame: np.ndarray) -> np.ndarray:
    """Return the luminance (H, W), float32, of a frame: ITU-R BT.601, not rounded."""
    if frame.ndim == 2:
        return frame.astype(np.float32)
    return np.ascontiguousarray(frame.astype(np.float32) @ _LUMINANCE)


class _PhaseChange:
    """What phase-based magnification adds to frames."""

    def __init__(
        self, shape: tuple[int, int], amplification: float, directions: int, smoothing: float
    ) -> None:
        from scipy.fft import next_fast_len

        self._amplification = amplification
        self._smoothing = check_range("smoothing", smoothing, low=0)
        rim = [next_fast_len(side + 2 * min(_MARGIN, side - 1)) - side for side in shape]
        self._pad = (rim[0] // 2, rim[0] - rim[0] // 2, rim[1] // 2, rim[1] - rim[1] // 2)
        self._inside = tuple(
            slice(before, before + side) for before, side in zip(self._pad[::2], shape, strict=True)
        )
        self._pyramid: Pyramid = steerable_pyramid(
            (shape[0] + rim[0], shape[1] + rim[1]), directions=directions
        )

    def __call__(
        self, greys: np.ndarray, origin: np.ndarray, matrix: np.ndarray | None
    ) -> list[np.ndarray]:
        """Return what to add to frames (N, H, W); `matrix` filters time if it is given."""
        pyramid = self._pyramid
        spectra = np.stack([self._spectrum(grey) for grey in greys])
        start = self._spectrum(origin)
        totals = np.zeros_like(spectra)
        for band in pyramid.bands:
            still = pyramid.analyse(start, band).conj()
            waves = [pyramid.analyse(spectrum, band) for spectrum in spectra]
            phases = np.stack([np.angle(wave * still) for wave in waves])
            if matrix is not None:
                phases = np.tensordot(matrix.astype(np.float32), phases, axes=1)
            for total, wave, phase in zip(totals, waves, phases, strict=True):
                turn = self._amplification * self._smoothed(phase, np.abs(wave))
                # Only what is added is put together, so that no turn adds exactly nothing.
                pyramid.add(total, band, wave * (np.exp(1j * turn) - 1))
        return [pyramid.picture(total)[self._inside] for total in totals]

    def _spectrum(self, grey: np.ndarray) -> np.ndarray:
        padded = cv2.copyMakeBorder(grey, *self._pad, cv2.BORDER_REFLECT_101)
        return self._pyramid.spectrum(np.asarray(padded))

    def _smoothed(self, phase: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
        """Return the phase averaged over its neighbourhood: strong waves know it best."""
        if self._smoothing == 0:
            return phase
        weight = amplitude + np.float32(1e-6)
        size = (0, 0)
        total = cv2.GaussianBlur(phase * weight, size, self._smoothing)
        return np.asarray(total / cv2.GaussianBlur(weight, size, self._smoothing))


class _LinearChange:
    """What linear magnification adds to frames."""

    def __init__(
        self, shape: tuple[int, int], amplification: float, cutoff_wavelength: float
    ) -> None:
        check_range("cutoff_wavelength", cutoff_wavelength, low=0)
        levels = max(1, int(math.log2(min(shape))) - 3)
        self._gains = level_amplification(
            amplification, levels, cutoff_wavelength=cutoff_wavelength
        )

    def __call__(
        self, greys: np.ndarray, origin: np.ndarray, matrix: np.ndarray | None
    ) -> list[np.ndarray]:
        """Return what to add to frames (N, H, W); `matrix` filters time if it is given."""
        changes = greys - origin
        if matrix is not None:
            changes = np.tensordot(matrix.astype(np.float32), changes, axes=1)
        return [self._weighted(change) for change in changes]

    def _weighted(self, change: np.ndarray) -> np.ndarray:
        """Return the levels of a change, weighted and summed; the low-pass residual is left out.

        What changes so widely is light, not motion.
        """
        details = []
        for gain in self._gains:
            coarse = np.asarray(cv2.pyrDown(change))
            size = change.shape[::-1]
            details.append(np.float32(gain) * (change - cv2.pyrUp(coarse, dstsize=size)))
            change = coarse
        total = np.zeros_like(change)
        for detail in reversed(details):
            total = detail + cv2.pyrUp(total, dstsize=detail.shape[::-1])
        return total
