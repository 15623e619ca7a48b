r"""A linear support vector machine (SVM) for several classes: one against the rest.

For each class, w and b minimise

.. math:: \tfrac 1 2 |w|^2 + C \sum_i k_i \max(0, 1 - y_i (w \cdot x_i + b)),

where y is 1 for the samples of the class and -1 for all others. With balanced weights k both
sides count the same in total: :math:`k_i = N / (2 N_\pm)`, N_± being the size of the side. The
class of a sample is that with the largest :math:`w \cdot x + b`.

References
----------
C. Cortes, V. Vapnik, "Support-vector networks", Machine Learning 20, 1995.
doi:10.1007/BF00994018
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mer_prep.checks import check_range, soft_import
from mer_prep.errors import TrainingError

#: Offset of a class without samples: nothing is ever of that class.
NEVER = -1e6

#: Iterations of the solver at most; a few thousand are usual.
_MOST_ITERATIONS = 10_000_000


def require_solver() -> None:
    """Raise `DependencyError` unless scikit-learn is installed."""
    _solver()


def linear_svm(
    features: np.ndarray, labels: np.ndarray, *, classes: int, cost: float, balanced: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights and offsets of a linear SVM, one class against the rest.

    Parameters
    ----------
    features : ndarray, shape (N, F), float
        The samples, without units: F numbers each, of like size.
    labels : ndarray, shape (N,), int
        Their classes, 0 to `classes` - 1.
    classes : int
        Number of classes n.
    cost : float
        C, above 0: how much a sample on the wrong side counts against a wide margin.
    balanced : bool
        Whether both sides count the same, however many samples they have.

    Returns
    -------
    weights : ndarray, shape (n, F), float64
        The w of every class. That of a class without samples is 0 with the offset `NEVER`; that of
        a class without any others is 0 with the offset 1.
    offsets : ndarray, shape (n,), float64
        The b of every class.

    Raises
    ------
    DependencyError
        If scikit-learn is not installed.
    TrainingError
        If the solver does not come to an end.

    Notes
    -----
    Solved in the dual form by libsvm, to its tolerance of 1e-5, from the N x N scalar products;
    there is no randomness in it.
    """
    check_range("cost", cost, low=0, open_low=True)
    values = np.asarray(features, np.float64)
    weights, offsets = np.zeros((classes, values.shape[1])), np.zeros(classes)
    products = values @ values.T
    for number in range(classes):
        sides = np.where(np.asarray(labels) == number, 1, -1)
        if (sides == sides[0]).all():
            offsets[number] = 1.0 if sides[0] > 0 else NEVER
            continue
        support, factors, offsets[number] = _two_sides(products, sides, cost, balanced)
        weights[number] = factors @ values[support]
    return weights, offsets


def _two_sides(
    products: np.ndarray, sides: np.ndarray, cost: float, balanced: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the support vectors' numbers and factors, and the offset, of one class."""
    machine = _solver()(
        kernel="precomputed",
        C=cost,
        class_weight="balanced" if balanced else None,
        tol=1e-5,
        max_iter=_MOST_ITERATIONS,
    )
    with warnings.catch_warnings():
        # What it would warn of is an error below.
        warnings.filterwarnings("ignore", "Solver terminated early")
        machine.fit(products, sides)
    if machine.fit_status_:
        raise TrainingError(
            f"A support vector machine was not solved in {_MOST_ITERATIONS:,} iterations.",
            why="its weights would depend on where the solver stopped",
            hint="lower its cost",
        )
    return machine.support_, machine.dual_coef_[0], float(machine.intercept_[0])


def _solver() -> Any:
    module = soft_import(
        "sklearn.svm", purpose="solves support vector machines", install="mer-prep[baselines]"
    )
    return module.SVC
