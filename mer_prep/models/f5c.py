"""The F5C block of MOL: fully-connected convolution, then channel correspondence convolution.

Each part exists as its paper writes it (``paper``) and as the published code computes it
(``code``); the two differ, and so do their results.

References
----------
.. [1] Z. Shao, Y. Cheng, F. Li, Y. Zhou, X. Lu, Y. Xie, L. Ma, "MOL: Joint Estimation of
   Micro-Expression, Optical Flow, and Landmark via Transformer-Graph-Style Convolution", IEEE
   TPAMI, 2025. arXiv:2506.14511. Equations (1) to (5).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

FCC_VARIANTS = ("paper", "code", "vertical", "horizontal", "transformer", "none")
CCC_VARIANTS = ("paper", "code", "none")

#: Lengths of the kernels and embeddings that the published code declares; it uses half of them.
CODE_LENGTH = 32

#: Hidden channels of the feed-forward part that the published code declares and never calls.
CODE_HIDDEN = 2

Direction = Literal["vertical", "horizontal"]


def circular_convolution(features: Tensor, kernel: Tensor, *, direction: Direction) -> Tensor:
    """Return the depthwise circular correlation of features with full-length kernels.

    Parameters
    ----------
    features : Tensor, shape (B, C, H, W)
        Feature maps.
    kernel : Tensor, shape (C, L)
        One kernel a channel; L is H for ``vertical`` and W for ``horizontal``.
    direction : {'vertical', 'horizontal'}
        Along which axis.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        ``out[c, i, j] = sum_s kernel[c, s] * features[c, (i + s) % H, j]``, equation (2) of
        [1]_, and the same along j for equation (3b).
    """
    channels, length = kernel.shape
    if direction == "vertical":
        padded = torch.cat([features, features[:, :, : length - 1]], dim=2)
        return functional.conv2d(padded, kernel[:, None, :, None], groups=channels)
    padded = torch.cat([features, features[:, :, :, : length - 1]], dim=3)
    return functional.conv2d(padded, kernel[:, None, None, :], groups=channels)


class DirectedConvolution(nn.Module):
    """FCC-V or FCC-H: a positional embedding, then a circular convolution; equations (1) to (3).

    Parameters
    ----------
    channels : int
        Number of feature maps C.
    length : int
        Their extent along the direction.
    direction : {'vertical', 'horizontal'}
        Along which axis.
    bias : bool
        Whether a constant is added per channel, as the code does and the paper does not.
    declared : int, optional
        Length of the parameters if it differs; the first `length` elements are used.
    """

    def __init__(
        self,
        channels: int,
        length: int,
        direction: Direction,
        *,
        bias: bool = False,
        declared: int | None = None,
    ) -> None:
        super().__init__()
        self.direction, self.length = direction, length
        declared = length if declared is None else declared
        self.embedding = nn.Parameter(torch.empty(channels, declared))
        self.kernel = nn.Parameter(torch.empty(channels, declared))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        nn.init.trunc_normal_(self.embedding, std=0.02)
        nn.init.normal_(self.kernel, std=length**-0.5)

    def embed(self, features: Tensor) -> Tensor:
        """Return the features with their positions added."""
        positions = self.embedding[:, : self.length]
        if self.direction == "vertical":
            return features + positions[:, :, None]
        return features + positions[:, None, :]

    def convolve(self, features: Tensor) -> Tensor:
        """Return the circular convolution."""
        kernel = self.kernel[:, : self.length]
        convolved = circular_convolution(features, kernel, direction=self.direction)
        return convolved if self.bias is None else convolved + self.bias[:, None, None]

    def forward(self, features: Tensor) -> Tensor:
        """Return both in turn, shape (B, C, H, W)."""
        return self.convolve(self.embed(features))


class FullyConnectedConvolution(nn.Module):
    """FCC as written in the paper: two orders of the directions, between 1x1 convolutions.

    Parameters
    ----------
    channels : int
        Number of feature maps C.
    size : int
        Their height and width.
    directions : {'both', 'vertical', 'horizontal'}
        ``both`` for the paper's FCC; the others are the ablations of its Table XI.
    """

    def __init__(self, channels: int, size: int, *, directions: str = "both") -> None:
        super().__init__()

        def directed(*order: Direction) -> nn.Sequential:
            return nn.Sequential(*(DirectedConvolution(channels, size, one) for one in order))

        self.before = nn.Conv2d(channels, channels, 1)
        if directions == "both":
            branches = [directed("vertical", "horizontal"), directed("horizontal", "vertical")]
        elif directions == "vertical":
            branches = [directed("vertical")]
        else:
            branches = [directed("horizontal")]
        self.branches = nn.ModuleList(branches)
        self.after = nn.Conv2d(len(branches) * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape (B, C, H, W)."""
        prepared = self.before(features)
        return self.after(torch.cat([branch(prepared) for branch in self.branches], dim=1))


class SplitConvolution(nn.Module):
    """FCC as the published code computes it: each order of the directions on half the channels.

    There are no 1x1 convolutions; a batch normalisation follows the first embedding, and the
    input is added to the output. The feed-forward part is declared and never called there: it is
    kept so that numbers of parameters agree.

    Parameters
    ----------
    channels : int
        Number of feature maps C, even.
    size : int
        Their height and width, at most 32.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        half = channels // 2

        def directed(direction: Direction) -> DirectedConvolution:
            return DirectedConvolution(half, size, direction, bias=True, declared=CODE_LENGTH)

        self.first = nn.ModuleList([directed("vertical"), directed("horizontal")])
        self.second = nn.ModuleList([directed("horizontal"), directed("vertical")])
        self.norms = nn.ModuleList(nn.BatchNorm2d(half) for _ in range(2))
        self.unused = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, CODE_HIDDEN, 1),
            nn.Conv2d(CODE_HIDDEN, channels, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape (B, C, H, W)."""
        halves = []
        parts = features.chunk(2, dim=1)
        for part, first, second, norm in zip(
            parts, self.first, self.second, self.norms, strict=True
        ):
            assert isinstance(first, DirectedConvolution)
            halves.append(second(first.convolve(norm(first.embed(part)))))
        return features + torch.cat(halves, dim=1)


class AttentionConvolution(nn.Module):
    """A transformer encoder layer over positions in the place of FCC, for Table XI.

    Parameters
    ----------
    channels : int
        Number of feature maps C, the width of the tokens; a multiple of 8.
    size : int
        Height and width; there are `size` squared tokens.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(size * size, channels))
        nn.init.trunc_normal_(self.embedding, std=0.02)
        self.layer = nn.TransformerEncoderLayer(
            channels, nhead=8, dim_feedforward=2 * channels, dropout=0.0, batch_first=True
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape (B, C, H, W)."""
        tokens = self.layer(features.flatten(2).transpose(1, 2) + self.embedding)
        return tokens.transpose(1, 2).reshape(features.shape)


def nearest_neighbours(vectors: Tensor, count: int, *, exclude_self: bool) -> Tensor:
    """Return the indices of the vectors with the largest cosine similarity to each.

    Parameters
    ----------
    vectors : Tensor, shape (B, N, D)
        N vectors a sample.
    count : int
        Number of neighbours k.
    exclude_self : bool
        Whether a vector may not be its own neighbour; otherwise it is the first one.

    Returns
    -------
    Tensor, shape (B, N, k), int64
    """
    unit = functional.normalize(vectors.detach().float(), dim=-1)
    similarity = unit @ unit.transpose(1, 2)
    if exclude_self:
        similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return similarity.topk(count, dim=-1).indices


class ChannelCorrespondence(nn.Module):
    """CCC as written in the paper: a graph of channels; equations (4) and (5).

    Parameters
    ----------
    channels : int
        Number of feature maps C, the vertices.
    size : int
        Their height and width; a vertex has `size` squared values.
    neighbours : int
        Number k of nearest channels.
    exclude_self : bool
        Whether a channel may not be its own neighbour.

    Notes
    -----
    With f_i the values of channel i, ``e_ij = ReLU(V1 f_i + V2 (f_j - f_i))`` and the output is
    ``max_j e_ij`` over its neighbours j. ReLU and the maximum commute, and V2 is linear, so that
    V2 f is computed once per channel and gathered, instead of once per edge. Biases are this
    implementation's choice; the equations have none.
    """

    def __init__(
        self, channels: int, size: int, *, neighbours: int = 4, exclude_self: bool = True
    ) -> None:
        super().__init__()
        self.neighbours, self.exclude_self = neighbours, exclude_self
        self.own = nn.Linear(size * size, size * size)
        self.other = nn.Linear(size * size, size * size)
        self.after = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape (B, C, H, W)."""
        vertices = features.flatten(2)
        indices = nearest_neighbours(vertices, self.neighbours, exclude_self=self.exclude_self)
        carried = functional.linear(vertices, self.other.weight)
        edges = self.own(vertices) - carried + self.other.bias + _largest(carried, indices)
        return self.after(functional.relu(edges).reshape(features.shape))


def _largest(rows: Tensor, indices: Tensor) -> Tensor:
    """Return the element-wise maximum over chosen rows.

    Parameters
    ----------
    rows : Tensor, shape (B, N, D)
        Vectors.
    indices : Tensor, shape (B, N, k)
        Which rows belong to each of N.
    """
    batch, count, width = rows.shape
    chosen = indices.flatten(1)[..., None].expand(-1, -1, width)
    return rows.gather(1, chosen).reshape(batch, count, -1, width).amax(dim=2)


class PositionCorrespondence(nn.Module):
    """CCC as the published code computes it: a graph of positions, and f_i subtracted twice.

    Parameters
    ----------
    channels : int
        Number of feature maps C.
    size : int
        Their height and width; every one of `size` squared positions is a vertex with C values.
    neighbours : int
        Number k of nearest positions, the position itself being the first.

    Notes
    -----
    For each channel with values x over positions, and D_j the values at the j-th neighbours of
    all positions minus x, the code computes ``max_j ReLU(V1 x + V2 (D_j - x))`` in loops over
    channels and neighbours.
    """

    def __init__(self, channels: int, size: int, *, neighbours: int = 4) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.own = nn.Linear(size * size, size * size)
        self.other = nn.Linear(size * size, size * size)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape (B, C, H, W)."""
        values = features.flatten(2)
        indices = nearest_neighbours(values.transpose(1, 2), self.neighbours, exclude_self=False)
        batch, channels, positions = values.shape
        chosen = indices.flatten(1)[:, None].expand(-1, channels, -1)
        gathered = values.gather(2, chosen).reshape(batch, channels, positions, -1)
        differences = gathered.permute(0, 1, 3, 2) - 2 * values[:, :, None]
        carried = self.other(differences).amax(dim=2)
        return functional.relu(self.own(values) + carried).reshape(features.shape)


class F5C(nn.Module):
    """Local-global features: FCC and CCC, each within a residual connection.

    Parameters
    ----------
    channels, size : int
        Number of feature maps, and their height and width.
    fcc : {'paper', 'code', 'vertical', 'horizontal', 'transformer', 'none'}
        Form of the fully-connected convolution.
    ccc : {'paper', 'code', 'none'}
        Form of the channel correspondence convolution.
    neighbours : int
        Its number of neighbours.
    exclude_self : bool
        Whether, in the paper's form, a channel may not be its own neighbour.
    """

    def __init__(
        self,
        channels: int,
        size: int,
        *,
        fcc: str = "paper",
        ccc: str = "paper",
        neighbours: int = 4,
        exclude_self: bool = True,
    ) -> None:
        super().__init__()
        # The code's form and the encoder layer have their residual connection inside.
        self.add_input = fcc in ("paper", "vertical", "horizontal")
        self.fcc: nn.Module
        if fcc == "code":
            self.fcc = SplitConvolution(channels, size)
        elif fcc == "transformer":
            self.fcc = AttentionConvolution(channels, size)
        elif fcc == "none":
            self.fcc = nn.Identity()
        else:
            both = "both" if fcc == "paper" else fcc
            self.fcc = FullyConnectedConvolution(channels, size, directions=both)
        self.ccc: nn.Module | None = None
        if ccc == "code":
            self.ccc = PositionCorrespondence(channels, size, neighbours=neighbours)
        elif ccc == "paper":
            self.ccc = ChannelCorrespondence(
                channels, size, neighbours=neighbours, exclude_self=exclude_self
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape (B, C, H, W)."""
        mixed = self.fcc(features)
        if self.add_input:
            mixed = mixed + features
        return mixed if self.ccc is None else mixed + self.ccc(mixed)
