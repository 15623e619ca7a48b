"""Geometry in full precision, whatever the networks around it compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[None]:
    """Return the context in which matrix products of float32 are not rounded.

    In mixed precision they are, to 1/256: of a position in px that leaves half a pixel, which is
    all that a micro-expression moves.

    Parameters
    ----------
    tensor : Tensor
        Tells the device.
    """
    return torch.autocast(tensor.device.type, enabled=False)
