"""Colour pictures in grey."""

from __future__ import annotations

from torch import Tensor

#: Luminance of red, green and blue, ITU-R BT.601.
LUMINANCE = (0.299, 0.587, 0.114)


def grey(pictures: Tensor) -> Tensor:
    """Return grey pictures (B, 1, H, W) of RGB ones (B, 3, H, W), in the same range.

    No matrix product: in mixed precision that would round them to 1/256, which is as much as a
    micro-expression changes them.
    """
    weights = pictures.new_tensor(LUMINANCE)[:, None, None]
    return (pictures * weights).sum(dim=1, keepdim=True)
