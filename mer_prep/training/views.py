"""Views of samples: crops, mirror images and reductions, with flow and landmarks to match."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mer_prep.dataset import Batch

#: Landmark that each of the 68 becomes in a mirrored face.
MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)


def crop(batch: Batch, offsets: Tensor, side: int) -> Batch:
    """Return a square part of every sample, with flow and landmarks to match.

    Parameters
    ----------
    batch : Batch
        Samples of B clips.
    offsets : Tensor, shape (B, 2), int64
        First column and row (x, y) of every part.
    side : int
        Side of the parts, px.
    """
    corners = offsets.tolist()

    def cut(pictures: Tensor) -> Tensor:
        return torch.stack(
            [
                one[..., y : y + side, x : x + side]
                for one, (x, y) in zip(pictures, corners, strict=True)
            ]
        )

    return Batch(
        cut(batch.frames),
        cut(batch.flow),
        # A new array: landmarks of the uncropped frames are used again by the next crop.
        batch.landmarks - offsets[:, None, None].to(batch.landmarks),
        batch.labels,
        None if batch.image is None else cut(batch.image),
        batch.features,
    )


def flip(batch: Batch, flipped: Tensor) -> Batch:
    """Return samples, some of them mirrored left to right; twice gives them back.

    Parameters
    ----------
    batch : Batch
        Samples of B clips.
    flipped : Tensor, shape (B,), bool
        Which are mirrored.

    Raises
    ------
    ValueError
        If they have features, which tell of the clip as it is and not of its mirror image.

    Notes
    -----
    A mirrored flow also changes the sign of u, and mirrored landmarks change places: the left
    corner of the mouth becomes the right one.
    """
    if batch.features is not None and bool(flipped.any()):
        raise ValueError("features of a clip cannot be mirrored")
    side = batch.frames.shape[-1]

    def chosen(mirrored: Tensor, plain: Tensor) -> Tensor:
        return torch.where(flipped.view(-1, *[1] * (plain.ndim - 1)), mirrored, plain)

    sign = torch.tensor([-1.0, 1.0], device=batch.flow.device)[:, None, None]
    order = torch.tensor(MIRRORED, device=batch.landmarks.device)
    points = batch.landmarks[:, :, order].clone()
    points[..., 0] = side - 1 - points[..., 0]
    return Batch(
        chosen(batch.frames.flip(-1), batch.frames),
        chosen(batch.flow.flip(-1) * sign, batch.flow),
        chosen(points, batch.landmarks),
        batch.labels,
        None if batch.image is None else chosen(batch.image.flip(-1), batch.image),
        batch.features,
    )


def reduce(batch: Batch, factor: int) -> Batch:
    """Return samples at a fraction of their size: areas are averaged, motion is scaled.

    Parameters
    ----------
    batch : Batch
        Samples.
    factor : int
        Whole number of px that become one.
    """
    if factor == 1:
        return batch

    def averaged(pictures: Tensor) -> Tensor:
        each = pictures.flatten(0, -3)[:, None]
        return functional.avg_pool2d(each, factor)[:, 0].unflatten(0, pictures.shape[:-2])

    return Batch(
        averaged(batch.frames),
        averaged(batch.flow) / factor,
        (batch.landmarks + 0.5) / factor - 0.5,
        batch.labels,
        None if batch.image is None else averaged(batch.image),
        batch.features,
    )


def draw_views(count: int, room: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the crops of a training batch.

    Parameters
    ----------
    count : int
        Number of samples B.
    room : int
        Largest offset of a crop, px.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    offsets : Tensor, shape (B, 2), int64
        First column and row of every crop.
    flipped : Tensor, shape (B,), bool
        Which are mirrored: half of them, on average.
    """
    offsets = torch.randint(0, room + 1, (count, 2), generator=generator)
    return offsets, torch.rand(count, generator=generator) < 0.5


def centre_view(batch: Batch, side: int) -> Batch:
    """Return the centre crop of every sample."""
    room = batch.frames.shape[-1] - side
    offsets = torch.full((len(batch.labels), 2), room // 2, dtype=torch.int64)
    return crop(batch, offsets, side)
