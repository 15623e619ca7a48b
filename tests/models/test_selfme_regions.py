"""Regions of a face: mirrored halves are the same field, and splines reproduce what they must."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import BSpline

torch = pytest.importorskip("torch")

from mer_prep.models.frl_dgt.warp import mirror_field  # noqa: E402
from mer_prep.models.selfme.regions import (  # noqa: E402
    face_midline,
    region_boxes,
    split_regions,
)
from mer_prep.models.selfme.spline import spline_field, spline_weights  # noqa: E402
from mer_prep.training.views import MIRRORED  # noqa: E402


def some(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def test_the_right_half_comes_reversed_and_with_u_negated():
    field = torch.arange(2 * 4 * 4).float().view(1, 2, 4, 4)
    found = split_regions(field)[0]
    u, v = field[0]
    assert torch.equal(found[0], torch.stack([u[:2, :2], v[:2, :2]]))
    assert torch.equal(found[1], torch.stack([-u[:2, [3, 2]], v[:2, [3, 2]]]))
    assert torch.equal(found[2], torch.stack([u[2:, :2], v[2:, :2]]))
    assert torch.equal(found[3], torch.stack([-u[2:, [3, 2]], v[2:, [3, 2]]]))


@pytest.mark.parametrize("midline", [None, 7.5])
def test_a_symmetric_motion_is_the_same_field_twice(midline):
    half = some(1, 2, 16, 16)
    field = half + mirror_field(half)
    middle = None if midline is None else torch.tensor([midline])
    left_upper, right_upper, left_lower, right_lower = split_regions(field, middle)[0]
    torch.testing.assert_close(left_upper, right_upper, atol=1e-5, rtol=0)
    torch.testing.assert_close(left_lower, right_lower, atol=1e-5, rtol=0)
    assert not torch.allclose(left_upper, left_lower)


def test_a_mirrored_face_has_its_regions_exchanged():
    field, midline = some(2, 2, 16, 16), torch.tensor([6.2, 8.9])
    turned = split_regions(mirror_field(field), 15 - midline)
    torch.testing.assert_close(
        turned[:, [1, 0, 3, 2]], split_regions(field, midline), atol=1e-4, rtol=0
    )


def test_the_middle_of_the_picture_is_the_usual_midline():
    field = some(2, 2, 16, 16)
    torch.testing.assert_close(
        split_regions(field, torch.full((2,), 7.5)), split_regions(field), atol=1e-5, rtol=0
    )
    # A face further to the right is cut further to the right, by whole pixels here.
    moved = split_regions(field, torch.full((2,), 9.5))
    torch.testing.assert_close(moved[:, 0], field[:, :, :8, 2:10], atol=1e-5, rtol=0)


def test_the_midline_of_a_mirrored_face_is_mirrored():
    points = 30 + 5 * some(1, 68, 2)
    other = points[:, list(MIRRORED)].clone()
    other[..., 0] = 63 - other[..., 0]
    torch.testing.assert_close(face_midline(other), 63 - face_midline(points))


def test_boxes_meet_at_the_midline_and_fill_the_picture():
    boxes = region_boxes(torch.tensor([20.0, 33.0]), side=64)
    assert boxes[0].tolist() == [
        [-0.5, -0.5, 20, 31.5],
        [20, -0.5, 63.5, 31.5],
        [-0.5, 31.5, 20, 63.5],
        [20, 31.5, 63.5, 63.5],
    ]
    sizes = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    assert sizes.sum(dim=1).tolist() == [64 * 64, 64 * 64]


@pytest.mark.parametrize("count", [4, 5, 8])
def test_spline_weights_are_those_of_scipy(count):
    x = np.linspace(0, 1, 23)
    knots = np.arange(count + 4) - 2.0
    expected = np.stack(
        [BSpline(knots, row, 3)(1 + (count - 3) * x) for row in np.eye(count)], axis=-1
    )
    found = spline_weights(torch.from_numpy(x), count=count)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-12)


def test_constant_and_linear_control_points_give_themselves():
    line = torch.arange(8, dtype=torch.float64)
    control = torch.stack([torch.full((8, 8), 3.0).double(), line.expand(8, 8)])[None]
    found = spline_field(control, side=26)
    torch.testing.assert_close(found[0, 0], torch.full((26, 26), 3.0).double())
    # The second control point lies on the first pixel, the last but one on the last.
    expected = torch.linspace(1, 6, 26, dtype=torch.float64).expand(26, 26)
    torch.testing.assert_close(found[0, 1], expected)


def test_a_control_point_moves_its_surroundings_only():
    control = torch.zeros(1, 1, 8, 8)
    control[0, 0, 3, 4] = 1
    found = spline_field(control, side=51)[0, 0]
    # Control point 3 lies on pixel (3 - 1) * 10, and 4 on 30; its reach is two spacings.
    assert found.argmax() == 20 * 51 + 30
    assert float(found[20, 30]) == pytest.approx((2 / 3) ** 2)
    assert found[0].abs().max() == 0
    assert found[:, :10].abs().max() == 0
    assert float(found[20, 40]) == pytest.approx(2 / 3 / 6)
