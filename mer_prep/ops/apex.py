"""Onset, apex and offset in a curve that says how strong the expression is in every frame."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from mer_prep.ops.robust import robust_sigma

#: Part of the height of a peak above which its top is fitted.
TOP = 0.7

#: Part of the height of a peak up to which its foot is fitted.
FOOT = 0.5

#: Range of a curve over its noise at which the confidence is one half. Measured: still faces
#: with noise alone reach 0.03 to 0.56, expressions of 0.5 to 1.5 px 0.7 and more.
_HALF_CONFIDENCE = 10.0


@dataclass(frozen=True, slots=True)
class KeyFrames:
    """Key frames found in a curve.

    Parameters
    ----------
    onset, apex, offset : int
        Indices into the curve; ``onset <= apex <= offset``.
    confidence : float
        How far the apex stands out of the noise of the curve, 0 to 1: with s the range of the
        smoothed curve over its noise, ``s^2 / (s^2 + 100)``. 0 if nothing was found, and the
        midpoint stands for the apex.
    """

    onset: int
    apex: int
    offset: int
    confidence: float


def midpoint(first: int, stop: int) -> int:
    """Return the middle index of the frames `first` to `stop` - 1.

    Of N frames it is the one at position floor((N + 1) / 2), counted from one: the middle of an
    odd number, the earlier of the two middle ones of an even number.
    """
    return first + (stop - first + 1) // 2 - 1


def find_key_frames(score: np.ndarray, *, smoothing: float = 2.0) -> KeyFrames:
    """Return where an expression begins, is strongest, and ends.

    Parameters
    ----------
    score : ndarray, shape (T,), float
        Strength of the expression in every frame, up to a constant; T is 1 or more.
    smoothing : float
        Sigma of the Gaussian under which the highest peak is looked for, in frames, 0 or more.
        The peak itself is then placed in the curve as it is.

    Returns
    -------
    KeyFrames
        For a curve that is constant or shorter than three frames: the first frame, the midpoint,
        the last frame, and no confidence.

    Raises
    ------
    ValueError
        If the curve is empty, not one-dimensional or not finite.
    """
    score = _checked(score)
    smooth = _smoothed(score, smoothing)
    if len(score) < 3 or not np.ptp(smooth):
        return KeyFrames(0, midpoint(0, len(score)), len(score) - 1, 0.0)
    apex = peak_position(score, int(smooth.argmax()), smooth)
    return bounds(score, apex, smooth=smooth)


def divide_and_conquer(score: np.ndarray, *, smoothing: float = 3.0) -> KeyFrames:
    """Return the key frames of a curve, its apex found by binary search among its peaks.

    Parameters
    ----------
    score : ndarray, shape (T,), float
        As in `find_key_frames`.
    smoothing : float
        Sigma of the Gaussian under which peaks are looked for, in frames. Every peak counts, so
        it should be larger than for `find_key_frames`.

    Returns
    -------
    KeyFrames
        As from `find_key_frames`.

    Notes
    -----
    The curve is divided in the middle, the half whose peaks have the larger sum is kept, and so
    on until one peak is left; without any peak the largest value stands for it. Where both halves
    weigh the same, the one with the highest peak is kept.

    References
    ----------
    S.-T. Liong, J. See, K. Wong, A. C. Le Ngo, Y.-H. Oh, R. Phan, "Automatic apex frame spotting
    in micro-expression database", ACPR 2015. doi:10.1109/ACPR.2015.7486586
    """
    score = _checked(score)
    smooth = _smoothed(score, smoothing)
    if len(score) < 3 or not np.ptp(smooth):
        return KeyFrames(0, midpoint(0, len(score)), len(score) - 1, 0.0)
    heights = smooth - smooth.min()
    peaks = find_peaks(heights)[0]
    low, high = 0, len(heights)
    while len(peaks) > 1:
        middle = (low + high) // 2
        halves = peaks[peaks < middle], peaks[peaks >= middle]
        weights = [(heights[half].sum(), heights[half].max(initial=0)) for half in halves]
        first = weights[0] >= weights[1]
        low, high, peaks = (low, middle, halves[0]) if first else (middle, high, halves[1])
    apex = int(peaks[0]) if len(peaks) else int(heights.argmax())
    return bounds(score, apex, smooth=smooth)


def peak_position(score: np.ndarray, peak: int, smooth: np.ndarray) -> int:
    """Return where the top of a peak really is.

    Parameters
    ----------
    score : ndarray, shape (T,), float
        The curve.
    peak : int
        Index of the highest value of the smoothed curve.
    smooth : ndarray, shape (T,), float
        The smoothed curve; it says how far the top reaches.

    Returns
    -------
    int
        The frame p from which two parabolas that meet in their common vertex,
        ``c - k max(0, p - t)^2 - m max(0, t - p)^2``, fit the curve best where it is within
        0.3 of its range of the highest value. Smoothing moves the peak of a lopsided curve to
        its flatter side, and so does one parabola; two do not.
    """
    low = _baseline(smooth)
    first, last = _stretch(smooth, peak, low + TOP * (smooth[peak] - low))
    top = score[first : last + 1]
    if len(top) < 5:
        return peak
    time = np.arange(first, last + 1, dtype=np.float64)
    best, place = np.inf, peak
    # One frame more on either side would leave one of the parabolas undefined.
    for candidate in range(first + 1, last):
        distance = time - candidate
        sides = (np.minimum(distance, 0) ** 2, np.maximum(distance, 0) ** 2)
        basis = np.stack([np.ones(len(time)), *sides], axis=1)
        height, *curvatures = np.linalg.lstsq(basis, top, rcond=None)[0]
        error = float(((basis @ (height, *curvatures) - top) ** 2).sum())
        if max(curvatures) <= 0 and error < best:
            best, place = error, candidate
    return place


def bounds(score: np.ndarray, apex: int, *, smooth: np.ndarray) -> KeyFrames:
    """Return onset and offset around an apex.

    Parameters
    ----------
    score : ndarray, shape (T,), float
        The curve.
    apex : int
        Index of the apex.
    smooth : ndarray, shape (T,), float
        The smoothed curve.

    Returns
    -------
    KeyFrames
        On either side of the apex, the curve from the end of the clip up to where it has risen by
        half is fitted by a constant followed by a parabola that leaves it smoothly,
        ``c + k max(0, t - t0)^2``, and t0 is the onset (mirrored in time, the offset). Any
        motion that starts from rest begins like this. Where the curve falls below its height at
        rest again, towards the end of the clip, something else happens, and nothing beyond the
        lowest point is looked at.
    """
    onset = _foot(score[: apex + 1], smooth[: apex + 1])
    offset = len(score) - 1 - _foot(score[apex:][::-1], smooth[apex:][::-1])
    return KeyFrames(onset, apex, offset, _confidence(score, smooth))


def _foot(rise: np.ndarray, smooth: np.ndarray) -> int:
    """Return where a curve that ends in its peak starts to rise."""
    half = smooth.min() + FOOT * (smooth[-1] - smooth.min())
    above = _stretch(smooth, len(smooth) - 1, half)[0]
    values = rise[: above + 1]
    if len(values) < 3 or smooth[-1] <= smooth.min():
        return 0 if len(rise) <= 3 else int(smooth[: above + 1].argmin())
    time = np.arange(len(values), dtype=np.float64)
    best, start = np.inf, 0
    for candidate in range(len(values) - 1):
        parabola = np.maximum(time - candidate, 0) ** 2
        parabola -= parabola.mean()
        centred = values - values.mean()
        slope = max(float(parabola @ centred) / float(parabola @ parabola), 0.0)
        error = float(((centred - slope * parabola) ** 2).sum())
        if error < best:
            best, start = error, candidate
    return start


def _baseline(smooth: np.ndarray) -> float:
    """Return the height of a curve at rest."""
    return float(np.percentile(smooth, 10))


def _stretch(curve: np.ndarray, peak: int, level: float) -> tuple[int, int]:
    """Return the first and last index of the stretch around a peak that stays above a level."""
    below = np.flatnonzero(curve < level)
    before, after = below[below < peak], below[below > peak]
    return (
        int(before[-1]) + 1 if before.size else 0,
        int(after[0]) - 1 if after.size else len(curve) - 1,
    )


def _confidence(score: np.ndarray, smooth: np.ndarray) -> float:
    noise = float(robust_sigma(np.diff(score, 2))) / math.sqrt(6)
    if noise == 0:
        return 1.0
    height, half = float(np.ptp(smooth)), _HALF_CONFIDENCE * noise
    # Parts of the hypotenuse, so that nothing overflows whatever the ratio.
    return (height / math.hypot(height, half)) ** 2


def _smoothed(score: np.ndarray, smoothing: float) -> np.ndarray:
    return gaussian_filter1d(score, smoothing, mode="nearest") if smoothing else score


def _checked(score: np.ndarray) -> np.ndarray:
    score = np.asarray(score, np.float64)
    if score.ndim != 1 or not score.size:
        raise ValueError(f"a score must have shape (T,), not {score.shape}")
    if not np.isfinite(score).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(score))} values are not finite")
    return score
