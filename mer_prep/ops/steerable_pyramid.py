r"""The complex steerable pyramid: a picture as local waves, each with an amplitude and a phase.

The picture's spectrum is split by raised-cosine rings, an octave apart, and by K directions; only
the half plane of each direction is kept, so that a sub-band is complex: its modulus says how
strong the wave is at a place, its argument where the wave stands. A picture that moves turns the
phases, by :math:`2 \pi / \lambda` a pixel.

With r the radial frequency in rad/px and the low-pass filters

.. math:: L_s(r) = \cos(\tfrac \pi 2 \, c), \quad
          c = 1 + \log_2(r / r_s) \text{ held within } [0, 1], \quad r_s = 2^{-s} \pi,

the rings are :math:`R_s = \sqrt{L_s^2 - L_{s+1}^2}`, the residuals
:math:`\sqrt{1 - L_0^2}` and :math:`L_S`, and the directions
:math:`G_k(\theta) = \alpha_K \cos^{K-1}(\theta - \pi k / K)`. The squares of all filters sum to
one, so the same filters that split a picture put it together again, exactly.

References
----------
E. P. Simoncelli, W. T. Freeman, "The steerable pyramid", ICIP 1995. doi:10.1109/ICIP.1995.537667

J. Portilla, E. P. Simoncelli, "A parametric texture model based on joint statistics of complex
wavelet coefficients", International Journal of Computer Vision 40, 2000.
doi:10.1023/A:1026553619983
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mer_prep.checks import check_range


@dataclass(frozen=True)
class SubBand:
    """One ring and direction of a pyramid.

    Parameters
    ----------
    scale, direction : int
        Ring, 0 the finest, and direction, at the angle pi direction / K from the x axis.
    rows, columns : ndarray of int, shapes (h, 1) and (1, w)
        The part of the spectrum in which the filter is not zero. The sub-band has only so many
        samples, which hold all there is in it.
    filter : ndarray, shape (h, w), float64
        Values of the filter there, twice the half plane's for the real picture's sake.
    """

    scale: int
    direction: int
    rows: np.ndarray
    columns: np.ndarray
    filter: np.ndarray


@dataclass(frozen=True)
class Pyramid:
    """The sub-bands of pictures of one size; see `steerable_pyramid`.

    Parameters
    ----------
    shape : tuple of int
        Height H and width W.
    bands : tuple of SubBand
        By scale, then direction.
    residual : ndarray, shape (H, W), float64
        Squares of the two residuals' filters, summed: what no sub-band holds.
    """

    shape: tuple[int, int]
    bands: tuple[SubBand, ...]
    residual: np.ndarray

    def spectrum(self, picture: np.ndarray) -> np.ndarray:
        """Return the spectrum (H, W) of a picture (H, W), complex; its mean stands at [0, 0].

        float32 gives complex64, float64 complex128.
        """
        from scipy.fft import fft2

        return fft2(picture, norm="forward")

    def picture(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the real picture (H, W) of a spectrum."""
        from scipy.fft import ifft2

        return ifft2(spectrum, norm="forward").real

    def analyse(self, spectrum: np.ndarray, band: SubBand) -> np.ndarray:
        """Return a sub-band (h, w), complex, of a picture's spectrum.

        Its real part is the picture seen through the filter, sampled on h x w points.
        """
        from scipy.fft import ifft2

        part = spectrum[band.rows, band.columns]
        return ifft2(part * band.filter.astype(part.real.dtype), norm="forward")

    def add(self, spectrum: np.ndarray, band: SubBand, values: np.ndarray) -> None:
        """Add to a spectrum what a sub-band (h, w) contributes to its picture."""
        from scipy.fft import fft2

        part = fft2(values, norm="forward")
        spectrum[band.rows, band.columns] += part * (0.5 * band.filter).astype(part.real.dtype)

    def split(self, picture: np.ndarray) -> Iterator[np.ndarray]:
        """Yield every sub-band of a picture, in the order of `bands`."""
        spectrum = self.spectrum(picture)
        for band in self.bands:
            yield self.analyse(spectrum, band)

    def reconstruct(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture split and put together again: itself, up to rounding."""
        spectrum = self.spectrum(picture)
        total = spectrum * self.residual
        for band in self.bands:
            self.add(total, band, self.analyse(spectrum, band))
        return self.picture(total)


@lru_cache(maxsize=4)
def steerable_pyramid(shape: tuple[int, int], *, directions: int = 8) -> Pyramid:
    """Return the pyramid of pictures of one size.

    Parameters
    ----------
    shape : tuple of int
        Height and width in px, 8 or more. The borders are joined (periodic); pad pictures first.
    directions : int
        Number of directions K, 2 to 16.

    Raises
    ------
    ConfigError
        For sizes or numbers out of range.
    """
    check_range("height and width", min(shape), low=8)
    check_range("directions", directions, low=2, high=16)
    y, x = (2 * np.pi * np.fft.fftfreq(side) for side in shape)
    radius = np.hypot(y[:, None], x[None])
    angle = np.arctan2(y[:, None], x[None])
    gain = 2 ** (directions - 1) * math.factorial(directions - 1)
    gain /= math.sqrt(directions * math.factorial(2 * (directions - 1)))
    halves = [
        gain * np.maximum(np.cos(angle - np.pi * number / directions), 0) ** (directions - 1)
        for number in range(directions)
    ]
    # The low-pass residual is left only the waves of about half a side and more.
    scales = max(1, int(math.log2(min(shape))) - 2)
    edges = [2.0**-scale for scale in range(scales + 1)]
    lows = [_low_pass(radius, edge) for edge in edges]
    bands = []
    for scale, edge in enumerate(edges[:-1]):
        rows, columns = np.ix_(*(_below(edge, side) for side in shape))
        ring = np.sqrt(np.maximum(lows[scale] ** 2 - lows[scale + 1] ** 2, 0))
        for direction, half in enumerate(halves):
            values = 2 * (ring * half)[rows, columns]
            bands.append(SubBand(scale, direction, rows, columns, values))
    residual = 1 - lows[0] ** 2 + lows[-1] ** 2
    return Pyramid((shape[0], shape[1]), tuple(bands), residual)


def _low_pass(radius: np.ndarray, edge: float) -> np.ndarray:
    """Return the low-pass filter that reaches zero at `edge`, relative to the highest frequency."""
    octaves = np.log2(np.maximum(radius / (np.pi * edge), 1e-12))
    return np.cos(np.pi / 2 * np.clip(1 + octaves, 0, 1))


def _below(edge: float, side: int) -> np.ndarray:
    """Return the indices of the frequencies below an edge, zero first."""
    half = math.ceil(edge * side / 2)
    if 2 * half >= side:
        return np.arange(side)
    return np.r_[0:half, side - half : side]
