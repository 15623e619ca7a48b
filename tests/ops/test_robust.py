from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from mer_prep.ops.robust import MAD_TO_SIGMA, TURNING_POINT, geman_mcclure, robust_sigma


def test_the_factor_is_that_of_normal_noise():
    assert pytest.approx(1 / norm.ppf(0.75), abs=5e-5) == MAD_TO_SIGMA


def test_outliers_do_not_widen_the_spread():
    values = np.random.default_rng(0).normal(scale=3.0, size=20_000)
    values[:2000] = 1e6
    # A tenth of outliers takes the median from the quantile 1/2 to that of 5/9 of the others.
    expected = 3 * MAD_TO_SIGMA * norm.ppf(0.5 + 5 / 18)
    assert robust_sigma(values) == pytest.approx(expected, rel=0.02)
    columns = np.stack([np.full(5, 2.0), np.full(5, -1.0)], axis=1)
    np.testing.assert_allclose(robust_sigma(columns, axis=0), MAD_TO_SIGMA * np.array([2, 1]))


def test_weights_fall_to_a_quarter_at_the_turning_point():
    sigma = 0.7
    residuals = np.array([0, 1, -1, 3]) * TURNING_POINT * sigma
    np.testing.assert_allclose(
        geman_mcclure(residuals / (TURNING_POINT * sigma)), [1, 0.25, 0.25, 0.01]
    )
    # The pull of a residual, weight times residual, falls again beyond 1 / sqrt(3).
    r = np.linspace(0, 4, 4001)
    assert r[(r * geman_mcclure(r)).argmax()] == pytest.approx(1 / np.sqrt(3), abs=1e-3)
    assert geman_mcclure(np.float32([1.0])).dtype == np.float32
