from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from mer_prep.models.frl_dgt.warp import invert, mirror_field, sample_points, warp  # noqa: E402


def grid(side):
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([x, y]).double()


def affine(matrix, offset, side):
    """Return the field D(p) = M p + c around the middle of the picture, (1, 2, S, S)."""
    points = grid(side) - (side - 1) / 2
    return (torch.einsum("ij,jyx->iyx", matrix, points) + offset[:, None, None])[None]


def test_a_shift_of_whole_pixels_is_exact_and_repeats_the_border():
    image = torch.rand(1, 2, 5, 7)
    shift = torch.tensor([2.0, -1.0])[None, :, None, None].expand(1, 2, 5, 7)
    columns, rows = (torch.arange(7) + 2).clamp(max=6), (torch.arange(5) - 1).clamp(min=0)
    torch.testing.assert_close(warp(image, shift), image[:, :, rows][:, :, :, columns])


def test_warping_is_the_bilinear_interpolation_of_scipy():
    torch.manual_seed(0)
    image, displacement = torch.rand(1, 1, 128, 96), 4 * torch.randn(1, 2, 128, 96)
    y, x = np.mgrid[:128, :96] + displacement[0].flip(0).numpy().astype(float)
    expected = ndimage.map_coordinates(
        image[0, 0].numpy().astype(float), [y, x], order=1, mode="nearest"
    )
    assert np.abs(warp(image, displacement)[0, 0].numpy() - expected).max() < 1e-4


def test_points_are_x_then_y():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[[[3.0, 0.0], [0.0, 2.0], [0.5, 0.5]]]])
    assert sample_points(image, points).flatten().tolist() == [3.0, 8.0, 2.5]


def test_the_warped_onset_is_the_apex():
    """Onset and apex are rendered from one formula, moved by a known affine motion."""
    matrix = torch.tensor([[0.02, -0.01], [0.015, -0.02]]).double()
    displacement = affine(matrix, torch.tensor([0.4, -0.7]).double(), 64)

    def scene(points):
        return torch.sin(points[:, :1] / 5) * torch.cos(points[:, 1:] / 7)

    onset, apex = scene(grid(64)[None]), scene(grid(64) + displacement)
    inner = (..., slice(4, -4), slice(4, -4))
    error = (warp(onset, displacement) - apex)[inner].abs().max()
    assert error < 0.01
    assert error < 0.1 * (onset - apex)[inner].abs().max()


def test_the_inverse_of_a_shift_is_the_opposite_shift():
    shift = torch.tensor([1.5, -0.25])[None, :, None, None].expand(1, 2, 9, 9)
    torch.testing.assert_close(invert(shift), -shift)


def test_the_inverse_of_an_affine_field_in_closed_form():
    """p = (I + M)^-1 (x - c) is where the pixel x of the onset went."""
    matrix = torch.tensor([[0.03, -0.02], [0.01, 0.02]]).double()
    offset = torch.tensor([0.6, -0.3]).double()
    inverse = torch.linalg.inv(torch.eye(2).double() + matrix)
    expected = affine(inverse - torch.eye(2), -inverse @ offset, 40)
    found = invert(affine(matrix, offset, 40))
    inner = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-7, rtol=0)


def test_mirrored_fields_move_mirrored_pictures():
    torch.manual_seed(1)
    image, displacement = torch.rand(2, 3, 16, 16).double(), torch.randn(2, 2, 16, 16).double()
    torch.testing.assert_close(
        warp(image.flip(-1), mirror_field(displacement)), warp(image, displacement).flip(-1)
    )
    assert torch.equal(mirror_field(mirror_field(displacement)), displacement)
