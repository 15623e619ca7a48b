"""Robust statistics: the spread of most values, and weights that forget the others.

References
----------
.. [1] F. R. Hampel, "The influence curve and its role in robust estimation", Journal of the
   American Statistical Association 69, 1974. doi:10.1080/01621459.1974.10482962
.. [2] S. Geman, D. E. McClure, "Statistical methods for tomographic image reconstruction",
   Bulletin of the International Statistical Institute 52(4), 1987.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: The median absolute deviation of normal noise times this is its standard deviation: 1 over the
#: third quartile of the standard normal distribution.
MAD_TO_SIGMA = 1.4826

#: Residual, in standard deviations, at which `geman_mcclure` weights have fallen to a quarter.
TURNING_POINT = 2.0


def robust_sigma(deviations: np.ndarray, *, axis: int | None = None) -> Any:
    """Return the robust standard deviation [1]_ of values whose centre is zero.

    Parameters
    ----------
    deviations : ndarray, float
        Values less their centre; up to half of them may be outliers.
    axis : int, optional
        Axis along which to take it; over all values by default.

    Returns
    -------
    float or ndarray
        ``1.4826 median |d|``, in the unit of the values.
    """
    return MAD_TO_SIGMA * np.median(np.abs(deviations), axis=axis)


def geman_mcclure(residuals: np.ndarray) -> np.ndarray:
    """Return the weights of Geman and McClure's estimator [2]_ in least squares.

    Parameters
    ----------
    residuals : ndarray, float
        Residuals over their turning point, which is `TURNING_POINT` standard deviations.

    Returns
    -------
    ndarray
        ``1 / (1 + r^2)^2``: 1 for none, a quarter at the turning point, next to nothing far
        beyond it. Squares of Cauchy's weights ``1 / (1 + r^2)``, which never quite forget.
    """
    return (1 + np.square(residuals)) ** -2
