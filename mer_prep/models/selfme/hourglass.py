"""Convolutional networks of the motion stage, with the layers of the First Order Motion Model.

Where that has batch normalisation, groups of channels are normalised within each sample here: no
pair depends on others of its batch, and what was learned stays the same in the second stage.

References
----------
A. Siarohin, S. Lathuiliere, S. Tulyakov, E. Ricci, N. Sebe, "First order motion model for image
animation", NeurIPS 2019. arXiv:2003.00196
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Channels of one group of the normalisation, where they can be so divided.
GROUP = 8


def normalised(channels: int) -> nn.GroupNorm:
    """Return the normalisation of some feature maps."""
    return nn.GroupNorm(channels // GROUP if channels % GROUP == 0 else 1, channels)


def convolution(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Return convolution, normalisation and rectifier."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), normalised(outputs), nn.ReLU()
    )


class Residual(nn.Module):
    """Twice normalisation, rectifier and convolution, beside the identity.

    Parameters
    ----------
    channels : int
        Feature maps of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                part
                for _ in range(2)
                for part in (
                    normalised(channels),
                    nn.ReLU(),
                    nn.Conv2d(channels, channels, 3, padding=1),
                )
            )
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, H, W) for such maps."""
        return maps + torch.as_tensor(self.layers(maps))


class Hourglass(nn.Module):
    """A U-Net that halves the side in every block, and keeps its input beside its output.

    Parameters
    ----------
    inputs : int
        Feature maps of the input.
    width : int
        Feature maps of the first layer; they double from block to block.
    blocks : int
        Blocks; the side is a multiple of ``2 ** blocks``.
    widest : int
        Most feature maps.
    """

    def __init__(self, inputs: int, *, width: int, blocks: int, widest: int) -> None:
        super().__init__()
        widths = [min(widest, width * 2**block) for block in range(blocks + 1)]
        befores = [inputs, *widths[1:-1]]
        self.down = nn.ModuleList(
            convolution(before, after) for before, after in zip(befores, widths[1:], strict=True)
        )
        self.up = nn.ModuleList(
            convolution((1 if block == blocks - 1 else 2) * widths[block + 1], widths[block])
            for block in reversed(range(blocks))
        )
        #: Feature maps of the output.
        self.outputs = width + inputs
        #: Those in the middle.
        self.middle = widths[-1]

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps (B, `outputs`, H, W) and those in the middle, of maps (B, inputs, H, W)."""
        skips = [maps]
        for layer in self.down:
            skips.append(functional.avg_pool2d(layer(skips[-1]), 2))
        middle = maps = skips.pop()
        for layer in self.up:
            maps = layer(functional.interpolate(maps, scale_factor=2))
            maps = torch.cat([maps, skips.pop()], dim=1)
        return maps, middle
