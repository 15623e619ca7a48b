from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mer_prep.synth.fields import (
    GaussianField,
    empty_field,
    invert_displacement,
    join_fields,
    sample,
    spline_weights,
    upsample,
)


@pytest.fixture
def field():
    return GaussianField(
        np.array([[20.0, 15.0], [42.0, 31.0]]),
        np.array([[2.0, -1.0], [-1.0, 0.5]]),
        np.array([[8.0, 8.0], [6.0, 10.0]]),
    )


def test_value_at_a_lone_centre_and_one_sigma_away():
    lone = GaussianField(np.array([[5.0, 7.0]]), np.array([[3.0, -4.0]]), np.array([[2.0, 1.0]]))
    points = np.array([[5.0, 7.0], [7.0, 7.0], [5.0, 8.0]])
    expected = np.array([3.0, -4.0]) * np.exp([[0.0], [-0.5], [-0.5]])
    assert_allclose(lone(points), expected, rtol=1e-12)
    assert lone.peak() == pytest.approx(5.0, rel=1e-4)


def test_grid_agrees_with_points(field):
    x, y = np.arange(0.0, 60.0, 2.5), np.arange(-3.0, 50.0)
    points = np.stack(np.meshgrid(x, y), axis=-1)
    assert_allclose(field.on_grid(x, y), field(points), atol=1e-8)


def test_inverse_undoes_the_map(field):
    targets = np.stack(np.meshgrid(np.arange(60.0), np.arange(50.0)), axis=-1)
    points = invert_displacement(field, targets)
    assert points.shape == targets.shape
    assert_allclose(points + field(points), targets, atol=1e-6)


def test_a_fold_is_an_error():
    folding = GaussianField(np.array([[0.0, 0.0]]), np.array([[9.0, 0.0]]), np.array([[2.0, 2.0]]))
    with pytest.raises(ArithmeticError, match="folds"):
        invert_displacement(folding, np.stack([np.arange(-9.0, 20.0), np.zeros(29)], axis=-1))


def test_empty_and_joined_fields(field):
    points = np.array([[1.0, 2.0], [40.0, 30.0]])
    assert_array_equal(empty_field()(points), np.zeros((2, 2)))
    assert empty_field().peak() == 0.0
    assert_allclose(join_fields(field, field.scaled(2.0), empty_field())(points), 3 * field(points))


def test_upsampling_keeps_cubic_polynomials():
    def poly(x, y):
        return np.stack([0.01 * x**3 - x * y, 0.02 * y**3 + x], axis=-1)

    rows, columns = np.arange(31) / 5, np.arange(41) / 5
    nodes = np.meshgrid(np.arange(9.0), np.arange(7.0))
    dense = upsample(poly(*nodes), spline_weights(7, rows), spline_weights(9, columns))
    assert dense.dtype == np.float32
    assert_allclose(dense, poly(*np.meshgrid(columns, rows)), atol=1e-5)


def test_sampling_reads_x_then_y():
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    points = np.array([[[2.0, 1.0], [0.5, 2.0]]], np.float32)
    assert_array_equal(sample(image, points, interpolation=cv2.INTER_LINEAR), [[6.0, 8.5]])
