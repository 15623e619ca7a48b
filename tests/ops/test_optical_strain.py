from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from mer_prep.ops.flow import optical_flow
from mer_prep.ops.strain import strain_magnitude, strain_tensor


def linear_flow(matrix: list[list[float]], size: tuple[int, int] = (40, 50)) -> np.ndarray:
    """Return the flow u = a x + b y, v = c x + d y of [[a, b], [c, d]], from the middle."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)
    x, y = x - size[1] / 2, y - size[0] / 2
    (a, b), (c, d) = matrix
    return np.stack([a * x + b * y, c * x + d * y]).astype(np.float32)


@pytest.mark.parametrize(
    ("matrix", "expected", "magnitude"),
    [
        ([[0.02, 0], [0, 0]], (0.02, 0, 0), 0.02),
        ([[0, 0], [0, -0.03]], (0, -0.03, 0), 0.03),
        ([[0, 0.04], [0, 0]], (0, 0, 0.02), 0.02 * math.sqrt(2)),
        ([[0, 0.01], [0.03, 0]], (0, 0, 0.02), 0.02 * math.sqrt(2)),
        ([[0.01, 0.02], [0.03, -0.04]], (0.01, -0.04, 0.025), math.sqrt(0.00295)),
        ([[0, -0.05], [0.05, 0]], (0, 0, 0), 0),  # a small rotation strains nothing
    ],
)
def test_strain_of_a_linear_warp_is_that_of_theory(matrix, expected, magnitude):
    tensor = strain_tensor(linear_flow(matrix))
    assert tensor.dtype == np.float32
    wanted = np.broadcast_to(np.array(expected)[:, None, None], tensor.shape)
    np.testing.assert_allclose(tensor, wanted, atol=1e-6)
    found = strain_magnitude(tensor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.full(found.shape, magnitude), atol=1e-6)


def test_derivatives_are_central_inside_and_one_sided_at_the_borders():
    u = np.array([[0, 1, 4, 9, 16]] * 3, np.float32)
    tensor = strain_tensor(np.stack([u, np.zeros_like(u)]))
    np.testing.assert_array_equal(tensor[0], [[1, 2, 4, 6, 7]] * 3)
    np.testing.assert_array_equal(tensor[1:], 0)


def test_magnitude_does_not_depend_on_the_frame_of_reference():
    flow = linear_flow([[0.03, 0.02], [-0.01, 0.01]], (31, 31))
    angle = 0.7
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = turn @ np.array([[0.03, 0.02], [-0.01, 0.01]]) @ turn.T
    np.testing.assert_allclose(
        strain_magnitude(strain_tensor(linear_flow(turned.tolist(), (31, 31)))),
        strain_magnitude(strain_tensor(flow)),
        atol=1e-6,
    )


def test_a_shift_and_no_motion_have_no_strain():
    for flow in (np.zeros((2, 8, 8), np.float32), np.full((2, 8, 8), 3.5, np.float32)):
        assert not strain_magnitude(strain_tensor(flow)).any()


def test_half_precision_flow_is_derived_in_single_precision():
    flow = linear_flow([[0.5, 0], [0, 0]]).astype(np.float16)
    assert strain_tensor(flow).dtype == np.float32
    np.testing.assert_array_equal(strain_tensor(flow)[0], 0.5)


def test_stretching_seen_by_tvl1_is_near_theory():
    noise = np.random.default_rng(1).normal(size=(96, 96)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    first = cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)
    stretch, middle = 0.03, 47.5
    matrix = np.array([[1 + stretch, 0, -stretch * middle], [0, 1, 0]])
    second = cv2.warpAffine(
        first, matrix, (96, 96), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )
    pictures = [np.clip(np.rint(one), 0, 255).astype(np.uint8) for one in (first, second)]
    tensor = strain_tensor(optical_flow(*pictures))[:, 16:-16, 16:-16]
    np.testing.assert_allclose(tensor.mean(axis=(1, 2)), (stretch, 0, 0), atol=0.003)


@pytest.mark.parametrize("shape", [(40, 50), (3, 8, 8), (2, 1, 8), (1, 2, 8, 8)])
def test_other_shapes_of_flow_are_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(2, H, W\)"):
        strain_tensor(np.zeros(shape, np.float32))


def test_other_shapes_of_tensors_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3, H, W\)"):
        strain_magnitude(np.zeros((2, 8, 8), np.float32))
