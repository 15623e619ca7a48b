"""The regions of a face where action units show, and what a feature holds there.

That the paper crops regions of action units by landmarks, and tries 3 x 3 patches in their place,
is certain; which regions, their sizes and that they are nine too is chosen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mer_prep.models.frl_dgt.warp import sample_points


@dataclass(frozen=True)
class Region:
    """One region.

    Parameters
    ----------
    name : str
        What it shows; left is the left of the picture.
    units : tuple of int
        Action units of FACS that show there.
    landmarks : tuple of int
        Those of the 68 landmarks it encloses.
    margin : float
        Room around them, in inter-ocular distances.
    between : bool
        Whether it lies around the mean of its landmarks instead of enclosing them.
    """

    name: str
    units: tuple[int, ...]
    landmarks: tuple[int, ...]
    margin: float
    between: bool = False


#: Regions in the order of boxes and attention.
REGIONS = (
    Region("inner brows", (1, 4), (21, 22), 0.2),
    Region("left brow and eye", (2, 5, 7), (*range(17, 22), *range(36, 42)), 0.05),
    Region("right brow and eye", (2, 5, 7), (*range(22, 27), *range(42, 48)), 0.05),
    Region("nose root", (9,), (27, 28, 29, 30), 0.1),
    Region("left cheek", (6,), (40, 48), 0.3, between=True),
    Region("right cheek", (6,), (47, 54), 0.3, between=True),
    Region("left mouth corner", (12, 14, 15), (48,), 0.3),
    Region("right mouth corner", (12, 14, 15), (54,), 0.3),
    Region("chin", (17,), (8, 57), 0.1),
)

#: For every region, the one that it becomes in a mirrored face.
MIRRORED_REGIONS = (0, 2, 1, 3, 5, 4, 7, 6, 8)

#: Least side of a box in px.
LEAST = 2.0


def action_unit_boxes(landmarks: Tensor, *, side: int) -> Tensor:
    """Return the boxes of `REGIONS`.

    Parameters
    ----------
    landmarks : Tensor, shape (B, 68, 2), float
        Landmarks (x, y) in px of the picture.
    side : int
        Side S of the picture in px.

    Returns
    -------
    Tensor, shape (B, 9, 4)
        Boxes (left, top, right, bottom) in px, where pixel centres are whole numbers and the
        picture reaches from -0.5 to S - 0.5. Each is the least square around its landmarks,
        larger by the margin on every side, as far as it lies in the picture; never narrower or
        lower than 2 px.
    """
    eyes = landmarks[:, 36:42].mean(1), landmarks[:, 42:48].mean(1)
    distance = torch.linalg.vector_norm(eyes[1] - eyes[0], dim=-1)
    boxes = []
    for region in REGIONS:
        points = landmarks[:, region.landmarks]
        if region.between:
            points = points.mean(1, keepdim=True)
        low, high = points.amin(1), points.amax(1)
        half = (high - low).amax(-1) / 2 + region.margin * distance
        centre = (low + high) / 2
        boxes.append(torch.cat([centre - half[:, None], centre + half[:, None]], dim=-1))
    return _inside(torch.stack(boxes, dim=1), side)


def _inside(boxes: Tensor, side: int) -> Tensor:
    """Return what of boxes (B, K, 4) lies in the picture; at its border where that is nothing."""
    low, high = boxes.clamp(-0.5, side - 0.5).split(2, dim=-1)
    half = ((high - low) / 2).clamp(min=LEAST / 2)
    centre = ((low + high) / 2).clamp(LEAST / 2 - 0.5, side - 0.5 - LEAST / 2)
    return torch.cat([centre - half, centre + half], dim=-1)


def grid_boxes(
    batch: int, *, side: int, cells: int = 3, device: str | torch.device = "cpu"
) -> Tensor:
    """Return the boxes of a regular grid, row by row.

    Parameters
    ----------
    batch : int
        Pictures B.
    side : int
        Side S of a picture in px.
    cells : int
        Cells along each side.
    device : str or torch.device
        Where the boxes are needed.

    Returns
    -------
    Tensor, shape (B, cells * cells, 4), float32
        Boxes (left, top, right, bottom) in px that tile the picture, from -0.5 to S - 0.5.
    """
    edges = torch.linspace(0, side, cells + 1, device=device) - 0.5
    top, left = torch.meshgrid(edges[:-1], edges[:-1], indexing="ij")
    bottom, right = torch.meshgrid(edges[1:], edges[1:], indexing="ij")
    boxes = torch.stack([left, top, right, bottom], dim=-1).flatten(0, 1)
    return boxes.expand(batch, -1, -1)


def crop_regions(feature: Tensor, boxes: Tensor, *, size: int) -> Tensor:
    """Return what a feature holds in boxes, all at one size.

    Parameters
    ----------
    feature : Tensor, shape (B, C, H, W), float
        Feature maps.
    boxes : Tensor, shape (B, K, 4), float
        Boxes (left, top, right, bottom) in px.
    size : int
        Side of the result.

    Returns
    -------
    Tensor, shape (B, K, C, size, size)
        Each box cut into ``size * size`` cells, the feature read bilinearly at the middle of
        every cell. No coordinate is rounded; a box of whole pixels at its own size is a plain
        crop.

    References
    ----------
    K. He, G. Gkioxari, P. Dollar, R. Girshick, "Mask R-CNN", ICCV 2017.
    doi:10.1109/ICCV.2017.322 (RoIAlign, here with one sample a cell)
    """
    count = boxes.shape[1]
    middles = (torch.arange(size, device=boxes.device, dtype=boxes.dtype) + 0.5) / size
    low, high = boxes.split(2, dim=-1)
    along = low[..., None, :] + (high - low)[..., None, :] * middles[:, None]
    x = along[..., 0][:, :, None, :].expand(-1, -1, size, -1)
    y = along[..., 1][:, :, :, None].expand(-1, -1, -1, size)
    # The boxes lie one below the other in one sampling, so that the feature is not repeated.
    found = sample_points(feature, torch.stack([x, y], dim=-1).flatten(1, 2))
    return found.unflatten(2, (count, size)).transpose(1, 2)
