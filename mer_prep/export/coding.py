r"""Values as 8-bit codes, and back.

Whatever the scaling, the way back is one formula, with two numbers kept beside the codes:

.. math:: value = offset + step \cdot code, \quad code = 0 \ldots 255,

to within half a step for every value that is not clipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_option, check_range

SCALINGS = ("symmetric", "positive", "min-max")


@dataclass(frozen=True)
class Coding:
    """How values became codes.

    Parameters
    ----------
    offset, step : float
        value = offset + step * code, in the values' own units.
    clipped : int
        Number of values that lay outside of the range and became its end.
    """

    offset: float
    step: float
    clipped: int = 0

    @property
    def largest_error(self) -> float:
        """Largest difference of a value and its code's, of values that are not clipped."""
        return self.step / 2


#: 8-bit values stay as they are.
IDENTITY = Coding(0.0, 1.0)


def encode(
    values: np.ndarray, *, scaling: str = "symmetric", largest: float | None = None
) -> tuple[np.ndarray, Coding]:
    r"""Return values as codes, and how to undo it.

    Parameters
    ----------
    values : ndarray, any shape, integer or float
        Finite values.
    scaling : {'symmetric', 'positive', 'min-max'}
        `symmetric`: zero is code 128 exactly and the step is largest / 127. `positive`: zero is
        code 0, the step largest / 255, and negative values are clipped. `min-max`: the smallest
        value is code 0, the largest 255; where zero lies then differs from call to call.
    largest : float, optional
        Largest magnitude that is coded, above 0; by default the largest there is. Not for
        `min-max`.

    Returns
    -------
    codes : ndarray, uint8
        Shape as `values`.
    coding : Coding
        Values that are all zero, or for `min-max` all equal, have the step 0.

    Raises
    ------
    ConfigError
        For an unknown scaling or a range that is not positive.
    ValueError
        If values are not finite, or a range is given for `min-max`.
    """
    check_option("scaling", scaling, SCALINGS)
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    if scaling == "min-max":
        if largest is not None:
            raise ValueError("min-max takes no range: it is that of the values")
        offset = float(values.min())
        step = (float(values.max()) - offset) / 255
    else:
        if largest is None:
            largest = float(np.abs(values).max())
        else:
            check_range("range", largest, low=0, open_low=True)
        step = largest / (127 if scaling == "symmetric" else 255)
        offset = -128 * step if scaling == "symmetric" else 0.0
    if step == 0:
        code = 128 if scaling == "symmetric" else 0
        clipped = int(np.count_nonzero(values < 0)) if scaling == "positive" else 0
        return np.full(values.shape, code, np.uint8), Coding(offset, 0.0, clipped)
    codes = np.rint((values - offset) / step)
    # A value may lie half a step outside and still be met to within half a step.
    clipped = int(np.count_nonzero((codes < 0) | (codes > 255)))
    return np.clip(codes, 0, 255).astype(np.uint8), Coding(offset, step, clipped)


def decode(codes: np.ndarray, coding: Coding) -> np.ndarray:
    """Return the values (float64) of codes, to within `Coding.largest_error`."""
    return coding.offset + coding.step * np.asarray(codes, np.float64)
