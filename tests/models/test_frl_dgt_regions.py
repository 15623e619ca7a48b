from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mer_prep.models.frl_dgt.regions import (  # noqa: E402
    LEAST,
    MIRRORED_REGIONS,
    REGIONS,
    action_unit_boxes,
    crop_regions,
    grid_boxes,
)
from mer_prep.training.views import MIRRORED  # noqa: E402

SIDE = 64


def face():
    """Return 68 landmarks (1, 68, 2) laid out roughly as in a face of 64 px."""
    points = torch.zeros(68, 2)
    angles = torch.linspace(0, torch.pi, 17)
    points[:17] = torch.stack([32 - 26 * angles.cos(), 28 + 30 * angles.sin()], -1)
    points[17:22] = torch.stack([torch.linspace(12, 26, 5), torch.full((5,), 18.0)], -1)
    points[22:27] = torch.stack([torch.linspace(37, 51, 5), torch.full((5,), 18.0)], -1)
    points[27:31] = torch.stack([torch.full((4,), 32.0), torch.linspace(24, 36, 4)], -1)
    points[31:36] = torch.stack([torch.linspace(27, 37, 5), torch.full((5,), 39.0)], -1)
    ring = torch.linspace(-torch.pi, torch.pi, 7)[:6]
    eye = torch.stack([4 * ring.cos(), 2 * ring.sin()], -1)
    points[36:42], points[42:48] = eye + torch.tensor([20.0, 25]), eye + torch.tensor([43.0, 25])
    mouth = torch.linspace(-torch.pi, torch.pi, 13)[:12]
    points[48:60] = torch.stack([32 + 9 * mouth.cos(), 48 + 4 * mouth.sin()], -1)
    points[60:68] = torch.tensor([32.0, 48.0])
    return points[None]


def test_boxes_enclose_their_landmarks_and_are_square():
    landmarks = face()
    boxes = action_unit_boxes(landmarks, side=4 * SIDE)
    assert boxes.shape == (1, 9, 4)
    sizes = boxes[0, :, 2:] - boxes[0, :, :2]
    torch.testing.assert_close(sizes[:, 0], sizes[:, 1])
    distance = 43.0 - 20.0
    for region, (left, top, right, bottom) in zip(REGIONS, boxes[0].tolist(), strict=True):
        points = landmarks[0, region.landmarks]
        if region.between:
            points = points.mean(0, keepdim=True)
        margin = region.margin * distance
        assert (points[:, 0] - left >= margin - 1e-4).all()
        assert (right - points[:, 0] >= margin - 1e-4).all()
        assert (points[:, 1] - top >= margin - 1e-4).all()
        assert (bottom - points[:, 1] >= margin - 1e-4).all()


def test_the_box_of_a_mouth_corner_by_hand():
    boxes = action_unit_boxes(face(), side=SIDE)
    index = [region.name for region in REGIONS].index("left mouth corner")
    half = 0.3 * 23
    expected = torch.tensor([23 - half, 48 - half, 23 + half, 48 + half])
    torch.testing.assert_close(boxes[0, index], expected)


def test_regions_name_each_landmark_and_unit_once():
    assert len(REGIONS) == 9
    assert {unit for region in REGIONS for unit in region.units} == {
        *(1, 2, 4, 5, 6, 7, 9, 12, 14, 15, 17)
    }


def test_mirrored_landmarks_have_mirrored_boxes():
    landmarks = face() + torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) * 9
    mirrored = landmarks[:, MIRRORED].clone()
    mirrored[..., 0] = SIDE - 1 - mirrored[..., 0]
    expected = action_unit_boxes(landmarks, side=SIDE)[:, MIRRORED_REGIONS]
    left, top, right, bottom = expected.unbind(-1)
    expected = torch.stack([SIDE - 1 - right, top, SIDE - 1 - left, bottom], -1)
    torch.testing.assert_close(action_unit_boxes(mirrored, side=SIDE), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shift", [(0, 0), (-300, 0), (0, 500), (1e4, -1e4), (-20, 14)])
@pytest.mark.parametrize("scale", [0, 0.01, 1, 10])
def test_boxes_stay_in_the_picture_and_are_never_empty(shift, scale):
    boxes = action_unit_boxes(face() * scale + torch.tensor(shift), side=SIDE)
    assert boxes.min() >= -0.5
    assert boxes.max() <= SIDE - 0.5
    assert (boxes[..., 2:] - boxes[..., :2]).min() >= LEAST - 1e-4


def test_the_grid_tiles_the_picture():
    boxes = grid_boxes(2, side=48)
    assert boxes.shape == (2, 9, 4)
    assert boxes[1, 0].tolist() == [-0.5, -0.5, 15.5, 15.5]
    assert boxes[1, 5].tolist() == [31.5, 15.5, 47.5, 31.5]


def test_a_box_at_its_own_size_is_a_plain_crop():
    feature = torch.rand(2, 3, 48, 48)
    crops = crop_regions(feature, grid_boxes(2, side=48), size=16)
    assert crops.shape == (2, 9, 3, 16, 16)
    torch.testing.assert_close(crops[1, 5], feature[1, :, 16:32, 32:48], atol=1e-5, rtol=0)


def test_crops_of_a_slope_are_exact_at_any_size():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    box = torch.tensor([[[3.2, 10.5, 11.2, 18.5]]])
    crop = crop_regions(torch.stack([x, y])[None], box, size=5)[0, 0]
    middles = (torch.arange(5) + 0.5) * 8 / 5
    torch.testing.assert_close(crop[0], (3.2 + middles).expand(5, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(crop[1], (10.5 + middles)[:, None].expand(5, 5), atol=1e-4, rtol=0)


def test_gradients_reach_the_feature_only_where_a_box_is():
    feature = torch.zeros(1, 1, 20, 20, requires_grad=True)
    crop_regions(feature, torch.tensor([[[3.5, 3.5, 7.5, 7.5]]]), size=4).sum().backward()
    expected = torch.zeros(20, 20)
    expected[4:8, 4:8] = 1
    torch.testing.assert_close(feature.grad[0, 0], expected, atol=1e-4, rtol=0)
