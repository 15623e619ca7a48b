"""Motion fields cut into four regions of a face, the right ones mirrored onto the left ones.

Left and right are those of the picture. On mirrored faces a motion is mirrored too: columns come in
reverse and u changes its sign, so that the two corners of a symmetric smile become the same field.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_prep.models.frl_dgt.warp import sample_points

#: The four regions, in the order of all arrays.
REGIONS = ("left upper", "right upper", "left lower", "right lower")

#: The mirror image of each.
MIRROR = (1, 0, 3, 2)


def face_midline(landmarks: Tensor) -> Tensor:
    """Return the column in the middle of faces.

    Parameters
    ----------
    landmarks : Tensor, shape (B, 68, 2), float
        Landmarks (x, y) in px.

    Returns
    -------
    Tensor, shape (B,)
        Mean x of all landmarks in px. They come in mirrored pairs and along the midline, so that
        a mirrored face has the mirrored column.
    """
    return landmarks[..., 0].mean(dim=-1)


def split_regions(field: Tensor, midline: Tensor | None = None) -> Tensor:
    """Return the four regions of motion fields, in the geometry of the left half.

    Parameters
    ----------
    field : Tensor, shape (B, 2, S, S), float
        Channels (u, v); S is even.
    midline : Tensor, shape (B,), float, optional
        Column of each face's midline in px; the middle of the picture, (S - 1) / 2, by default.

    Returns
    -------
    Tensor, shape (B, 4, 2, S / 2, S / 2)
        Regions in the order of `REGIONS`, S / 2 px on either side of the midline, bilinearly; the
        border goes on where they leave the picture. The right ones have their columns in reverse
        and -u for u. Column j of a left region and of its mirror image are equally far from the
        midline.
    """
    half = field.shape[-1] // 2
    if midline is None:
        left, right = field[..., :half], field[..., half:].flip(-1)
    else:
        away = half - 0.5 - torch.arange(half, device=field.device, dtype=field.dtype)
        left, right = (
            _columns(field, midline.to(field)[:, None] + side * away) for side in (-1, 1)
        )
    right = right * right.new_tensor([-1.0, 1.0])[:, None, None]
    halves = torch.stack([left, right], dim=1)
    upper, lower = halves[..., :half, :], halves[..., half:, :]
    return torch.cat([upper, lower], dim=1)


def region_boxes(midline: Tensor, *, side: int) -> Tensor:
    """Return where the regions are, shape (B, 4, 4): left, top, right and bottom in px.

    Parameters
    ----------
    midline : Tensor, shape (B,), float
        Column of each face's midline in px.
    side : int
        Side of the picture, px. Boxes end at its border, and hold the centres of their pixels.
    """
    middle, edge = (side - 1) / 2, torch.zeros_like(midline)
    low, high, cut = edge - 0.5, edge + side - 0.5, edge + middle
    split = midline.clamp(0, side - 1)
    boxes = (
        (low, low, split, cut),
        (split, low, high, cut),
        (low, cut, split, high),
        (split, cut, high, high),
    )
    return torch.stack([torch.stack(one, dim=-1) for one in boxes], dim=1)


def _columns(field: Tensor, columns: Tensor) -> Tensor:
    """Return fields (B, 2, S, n) at columns (B, n), in px."""
    rows = torch.arange(field.shape[-2], device=field.device, dtype=field.dtype)
    x = columns[:, None, :].expand(-1, len(rows), -1)
    y = rows[None, :, None].expand_as(x)
    return sample_points(field, torch.stack([x, y], dim=-1))
