"""A hierarchical transformer over the eyes and the corners of the mouth, after HTNet.

References
----------
.. [1] Z. Wang, K. Zhang, W. Luo, R. Sankaranarayana, "HTNet for micro-expression recognition",
   Neurocomputing 602, 2024. arXiv:2307.14637
.. [2] Z. Zhang, H. Zhang, L. Zhao, T. Chen, S. O. Arik, T. Pfister, "Nested hierarchical
   transformer: towards accurate, data-efficient and interpretable visual understanding",
   AAAI 2022. arXiv:2105.12723
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.models.picture import CENTRES, PictureNetwork
from mer_prep.ops.motion_image import NORMALISATIONS

REGIONS = ("parts", "whole")

#: Levels of the hierarchy; on each, the picture falls into 4, 2 and 1 blocks a side.
LEVELS = 3


@dataclass(frozen=True)
class HtnetConfig:
    """The architecture; the defaults are the published one's but for `dim`, which is 256 there.

    Parameters
    ----------
    side : int
        Side of the pictures, px.
    patch : int
        Side of a patch, px; the patches of a side are a multiple of 4.
    dim : int
        Width of the first level; it doubles with every level. The published size is 256.
    heads : int
        Attention heads of the first level; they double too.
    blocks : str
        Transformer layers of every level, with ``+`` between them.
    regions : {'parts', 'whole'}
        The four parts of the face in one picture, see `mer_prep.ops.face_parts`; or the face.
    dropout : float
        Part of the features left out in training.
    normalise : {'min-max', 'none'}
        As of `mer_prep.models.ststnet.StstnetConfig`.
    centre : {'none', 'mean-image', 'standard', 'bytes'}
        As of it.
    """

    side: int = 28
    patch: int = 7
    dim: int = 64
    heads: int = 3
    blocks: str = "2+2+10"
    regions: str = "parts"
    dropout: float = 0.0
    normalise: str = "min-max"
    centre: str = "none"

    def __post_init__(self) -> None:
        check_range("side", self.side, low=8, high=1024)
        check_range("patch", self.patch, low=1, high=256)
        check_range("heads", self.heads, low=1, high=64)
        check_range("dim", self.dim, low=self.heads, high=4096)
        check_option("regions", self.regions, REGIONS)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_option("normalise", self.normalise, NORMALISATIONS)
        check_option("centre", self.centre, CENTRES)
        if self.side % (4 * self.patch):
            raise ConfigError(
                f"Patches of {self.patch} px do not divide {self.side} px into a multiple of 4.",
                hint="choose htnet.side as a multiple of 4 times htnet.patch",
            )
        if len(self.depths) != LEVELS or min(self.depths) < 1:
            raise ConfigError(
                f"Invalid value for 'blocks': '{self.blocks}'.",
                hint=f"give the layers of {LEVELS} levels, such as 2+2+10",
            )

    @property
    def depths(self) -> tuple[int, ...]:
        """Transformer layers of every level."""
        return tuple(
            int(one) if re.fullmatch("[0-9]{1,6}", one) else 0 for one in self.blocks.split("+")
        )


#: Architectures by name. `paper` has the published size.
PRESETS: dict[str, HtnetConfig] = {
    "paper": HtnetConfig(dim=256),
    "small": HtnetConfig(),
    "tiny": HtnetConfig(dim=24, blocks="1+1+1", normalise="none", centre="standard"),
}


class ChannelNorm(nn.Module):
    """Layer normalisation of the channels at every place, with gain and bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, h, w) normalised."""
        return self.norm(features.movedim(1, -1)).movedim(-1, 1)


class Attention(nn.Module):
    """Self-attention among the places of a block, by convolutions of 1 x 1.

    A head has ``channels // heads`` channels; what does not divide is left out inside, as in the
    published code.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, width = heads, channels // heads * heads
        self.mixed = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(width, channels, 1), nn.Dropout(dropout))
        self.dropout = dropout

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, h, w) of the same shape."""
        parts = self.mixed(features).unflatten(1, (3, self.heads, -1)).flatten(4)
        query, key, value = (one.transpose(-1, -2) for one in parts.unbind(1))
        found = nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        joined = found.transpose(-1, -2).flatten(1, 2)
        return self.out(joined.unflatten(-1, features.shape[-2:]))


class Level(nn.Module):
    """Transformer layers within blocks, and what joins neighbouring blocks.

    Parameters
    ----------
    channels, wider : int
        Channels of its input, and of its output.
    blocks : int
        Blocks a side.
    places : int
        Places of a block.
    depth, heads : int
        Layers, and heads of each.
    dropout : float
        Part of the features left out in training.
    """

    def __init__(
        self,
        channels: int,
        wider: int,
        *,
        blocks: int,
        places: int,
        depth: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        # One number a place, for all channels, as in the published code.
        self.position = nn.Parameter(torch.randn(places))
        self.layers = nn.ModuleList()
        for _ in range(depth):
            attend = nn.Sequential(ChannelNorm(channels), Attention(channels, heads, dropout))
            change = nn.Sequential(
                ChannelNorm(channels),
                nn.Conv2d(channels, 4 * channels, 1),
                nn.GELU(),
                nn.Dropout(dropout),
                nn.Conv2d(4 * channels, channels, 1),
                nn.Dropout(dropout),
            )
            self.layers += [attend, change]
        self.join = nn.Identity() if blocks == 1 else _joining(channels, wider)

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C, h, w) as (B, C', h / 2, w / 2); at the last level as large."""
        inner = split_blocks(features, self.blocks)
        inner = inner + self.position.view(inner.shape[-2:])
        for layer in self.layers:
            inner = inner + layer(inner)
        joined: Tensor = self.join(join_blocks(inner, self.blocks))
        return joined


def _joining(channels: int, wider: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, padding=1),
        ChannelNorm(wider),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def split_blocks(features: Tensor, blocks: int) -> Tensor:
    """Return features (B, C, h, w) cut into `blocks` a side, (B blocks^2, C, h', w')."""
    count, channels, height, width = features.shape
    cut = features.view(count, channels, blocks, height // blocks, blocks, width // blocks)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def join_blocks(blocks_of: Tensor, blocks: int) -> Tensor:
    """Return blocks (B blocks^2, C, h', w') put together again, (B, C, h, w)."""
    channels, height, width = blocks_of.shape[1:]
    cut = blocks_of.reshape(-1, blocks, blocks, channels, height, width)
    return cut.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class Htnet(PictureNetwork):
    """A nested transformer [2]_ over patches of the parts of a face [1]_.

    With the published sizes it has 139,582,982 parameters with three classes. There a block is one
    place on every level (patches of 7 in 28 px), so that attention has nothing to choose from and
    each layer mixes channels only; patches of 3 or less px give it places.

    Parameters
    ----------
    config : HtnetConfig
        Its architecture.
    classes : int
        Number of classes n.
    """

    def __init__(self, config: HtnetConfig, classes: int) -> None:
        super().__init__(3, config.side)
        self.patches = nn.Conv2d(3, config.dim, config.patch, stride=config.patch)
        places = (config.side // config.patch // 4) ** 2
        widths = [config.dim * 2**level for level in range(LEVELS)]
        self.levels = nn.Sequential(
            *(
                Level(
                    width,
                    wider,
                    blocks=2 ** (LEVELS - 1 - level),
                    places=places,
                    depth=config.depths[level],
                    heads=config.heads * 2**level,
                    dropout=config.dropout,
                )
                for level, (width, wider) in enumerate(
                    zip(widths, [*widths[1:], widths[-1]], strict=True)
                )
            )
        )
        self.norm = ChannelNorm(widths[-1])
        self.head = nn.Linear(widths[-1], classes)

    def scores(self, pictures: Tensor) -> Tensor:
        """Return the scores (B, n) of normalised pictures (B, 3, S, S)."""
        features = self.norm(self.levels(self.patches(pictures)))
        return self.head(features.mean(dim=(2, 3)))
