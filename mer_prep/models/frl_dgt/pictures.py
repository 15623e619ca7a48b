"""Colour pictures in grey."""

from __future__ import annotations

import torch
from torch import Tensor

#: Luminance of red, green and blue, ITU-R BT.601.
LUMINANCE = (0.299, 0.587, 0.114)


def grey(pictures: Tensor) -> Tensor:
    """Return grey pictures (B, 1, H, W) of RGB ones (B, 3, H, W), in the same range."""
    return torch.einsum("bchw,c->bhw", pictures, pictures.new_tensor(LUMINANCE))[:, None]
