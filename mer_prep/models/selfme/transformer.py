"""The vision transformers of SelfME: a plain one, and SCViT over four regions.

References
----------
.. [1] A. Dosovitskiy et al., "An image is worth 16x16 words: transformers for image recognition
   at scale", ICLR 2021. arXiv:2010.11929
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.models.selfme.config import SelfmeConfig
from mer_prep.models.selfme.regions import REGIONS, split_regions

#: Deviation of tokens and positions before training.
FIRST = 0.02


@dataclass
class Recognised:
    """What a transformer gives for B motion fields.

    Parameters
    ----------
    logits : Tensor, shape (B, n)
        Scores of the classes, before the softmax.
    features : Tensor, shape (B, 4, p), or None
        Features of the regions, each of length 1; a plain transformer has none.
    attention : Tensor, shape (B, 4)
        How much the class token looked at each region in the last layer, mean over heads; sums
        to 1, without gradient.
    """

    logits: Tensor
    features: Tensor | None
    attention: Tensor


class MotionTransformer(nn.Module):
    """Patches of motion to classes.

    Parameters
    ----------
    config : SelfmeConfig
        The architecture; its `classifier` decides between the two.
    classes : int
        Number of classes n.

    Notes
    -----
    ``vit`` is the usual transformer of [1]_ with layers normalised first: patches of the whole
    picture and a class token, all seeing all.

    ``scvit`` cuts the regions of `split_regions` into patches. Positions are those within a
    region, shared by all four, and a mirrored patch has that of its counterpart; a learned vector
    tells the regions apart. Every region has a token of its own. Patches and tokens of a region
    see their region alone, with weights that all regions share, so that what is contrasted says
    nothing of the other half of the face; the class token sees everything.
    """

    def __init__(self, config: SelfmeConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        side = config.side // 2 if config.contrasts else config.side
        self.patches = (side // config.patch) ** 2
        width = config.width
        self.embedding = nn.Conv2d(2, width, config.patch, config.patch)
        self.positions = nn.Parameter(FIRST * torch.randn(self.patches, width))
        self.special = nn.Parameter(FIRST * torch.randn(width))
        if config.contrasts:
            self.regions = nn.Parameter(FIRST * torch.randn(len(REGIONS), width))
            self.region_tokens = nn.Parameter(FIRST * torch.randn(len(REGIONS), width))
            self.projection = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, width),
                nn.GELU(),
                nn.Linear(width, config.projection),
            )
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                config.heads,
                config.hidden,
                config.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes))
        self.register_buffer("owner", self._owner(), persistent=False)

    def forward(self, field: Tensor, midline: Tensor | None = None) -> Recognised:
        """Return classes and features of motion fields.

        Parameters
        ----------
        field : Tensor, shape (B, 2, S, S), float
            Channels (u, v), normalised.
        midline : Tensor, shape (B,), float, optional
            See `split_regions`; a plain transformer has no use for it.
        """
        tokens = self._tokens(field, midline)
        hidden = self._hidden() if self.config.contrasts else None
        attention = tokens.new_zeros(())
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.TransformerEncoderLayer)
            if number == len(self.layers) - 1:
                attention = self._looked(layer, tokens)
            tokens = layer(tokens, src_mask=hidden)
        features = None
        if self.config.contrasts:
            features = functional.normalize(self.projection(tokens[:, 1:5]).float(), dim=-1)
        return Recognised(self.head(tokens[:, 0]), features, attention)

    def _tokens(self, field: Tensor, midline: Tensor | None) -> Tensor:
        """Return the class token, those of the regions, and all patches, (B, N, d)."""
        special = self.special.expand(len(field), 1, -1)
        if not self.config.contrasts:
            return torch.cat([special, self._embedded(field) + self.positions], dim=1)
        parts = split_regions(field, midline)
        patches = self._embedded(parts.flatten(0, 1)).unflatten(0, parts.shape[:2])
        patches = patches + self.positions + self.regions[:, None]
        of_regions = self.region_tokens.expand(len(field), -1, -1)
        return torch.cat([special, of_regions, patches.flatten(1, 2)], dim=1)

    def _embedded(self, pictures: Tensor) -> Tensor:
        return self.embedding(pictures).flatten(2).transpose(1, 2)

    def _owner(self) -> Tensor:
        """Return the region of every token, (N,); that of the class token is -1."""
        count = len(REGIONS)
        if self.config.contrasts:
            regions = torch.arange(count)
            return torch.cat([torch.tensor([-1]), regions, regions.repeat_interleave(self.patches)])
        edge = self.config.side // self.config.patch
        far = (torch.arange(edge) >= edge / 2).long()
        return torch.cat([torch.tensor([-1]), (2 * far[:, None] + far[None]).flatten()])

    def _hidden(self) -> Tensor:
        """Return which tokens (rows) do not see which others (columns), (N, N)."""
        assert isinstance(self.owner, Tensor)
        return (self.owner[:, None] != self.owner[None]) & (self.owner[:, None] >= 0)

    @torch.no_grad()
    def _looked(self, layer: nn.TransformerEncoderLayer, tokens: Tensor) -> Tensor:
        """Return the attention of the class token to the regions in a layer, (B, 4)."""
        assert isinstance(self.owner, Tensor)
        seen = layer.norm1(tokens)
        attended = layer.self_attn
        query, key, _ = attended.in_proj_weight.chunk(3)
        query_bias, key_bias, _ = attended.in_proj_bias.chunk(3)
        heads = (attended.num_heads, -1)
        asked = functional.linear(seen[:, 0], query, query_bias).unflatten(-1, heads).float()
        keys = functional.linear(seen, key, key_bias).unflatten(-1, heads).float()
        scores = torch.einsum("bhd,bnhd->bhn", asked, keys) / asked.shape[-1] ** 0.5
        weights = scores.softmax(dim=-1).mean(dim=1)[:, 1:]
        shares = weights.new_zeros(len(tokens), len(REGIONS))
        shares = shares.index_add(1, self.owner[1:], weights)
        return shares / shares.sum(dim=1, keepdim=True)
