"""Pictures seen through displacement fields, and such fields inverted and mirrored.

Two fields describe one motion. The displacement D of FRL-DGT lives on the apex and points back:
``apex(p) = onset(p + D(p))``. The optical flow of this toolkit lives on the onset and points
ahead: the pixel x of the onset moves to ``x + flow(x)`` in the apex. `invert` leads from one to
the other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def sample_points(image: Tensor, points: Tensor) -> Tensor:
    """Return a picture at points, bilinearly.

    Parameters
    ----------
    image : Tensor, shape (B, C, H, W), float
        Pictures.
    points : Tensor, shape (B, h, w, 2), float
        Points (x, y) in px, pixel centres at whole numbers; outside the picture its border
        goes on.

    Returns
    -------
    Tensor, shape (B, C, h, w)
        The values; differentiable in the picture and in the points.
    """
    height, width = image.shape[-2:]
    last = points.new_tensor([max(width - 1, 1), max(height - 1, 1)])
    return functional.grid_sample(
        image, 2 * points / last - 1, mode="bilinear", padding_mode="border", align_corners=True
    )


def warp(image: Tensor, displacement: Tensor) -> Tensor:
    """Return a picture seen through a displacement field.

    Parameters
    ----------
    image : Tensor, shape (B, C, H, W), float
        Pictures.
    displacement : Tensor, shape (B, 2, H, W), float
        Channels (u, v) in px.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        ``output(p) = image(p + D(p))``, bilinear between pixel centres; beyond the border the
        nearest pixel of the border counts.

    Notes
    -----
    ``warp(onset, D)`` reconstructs the apex, so D tells of every pixel of the apex where it was
    in the onset.

    References
    ----------
    M. Jaderberg, K. Simonyan, A. Zisserman, K. Kavukcuoglu, "Spatial transformer networks",
    NeurIPS 2015. arXiv:1506.02025
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=image.device, dtype=displacement.dtype)
    columns = torch.arange(width, device=image.device, dtype=displacement.dtype)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return sample_points(image, displacement.permute(0, 2, 3, 1) + torch.stack([x, y], dim=-1))


def invert(displacement: Tensor, *, iterations: int = 5) -> Tensor:
    """Return the flow whose inverse is a displacement field, or the reverse.

    Parameters
    ----------
    displacement : Tensor, shape (B, 2, H, W), float
        Field D (u, v) in px, smooth: its derivatives must be below 1.
    iterations : int
        Steps of the fixed point; each multiplies the error by about the largest derivative.

    Returns
    -------
    Tensor, shape (B, 2, H, W)
        The field with ``flow(x) = -D(x + flow(x))``: if D reconstructs the apex from the onset,
        the flow in which the pixel x of the onset moves to ``x + flow(x)`` in the apex. Where
        that leaves the picture, the field at the border counts.

    References
    ----------
    M. Chen, W. Lu, Q. Chen, K. J. Ruchala, G. H. Olivera, "A simple fixed-point approach to
    invert a deformation field", Medical Physics 35(1), 2008. doi:10.1118/1.2816107
    """
    flow = -displacement
    for _ in range(iterations):
        flow = -warp(displacement, flow)
    return flow


def mirror_field(displacement: Tensor) -> Tensor:
    """Return the field of the mirrored pictures: columns in reverse, u with the other sign.

    Parameters
    ----------
    displacement : Tensor, shape (B, 2, H, W), float
        Channels (u, v) in px.
    """
    return displacement.flip(-1) * displacement.new_tensor([-1.0, 1.0])[:, None, None]
