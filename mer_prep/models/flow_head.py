"""A FlowNet-style encoder and decoder that estimates the optical flow between two frames.

References
----------
.. [1] A. Dosovitskiy et al., "FlowNet: learning optical flow with convolutional networks", ICCV
   2015. doi:10.1109/ICCV.2015.316
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Slope of the rectifiers.
SLOPE = 0.1

#: Frames are halved six times, so their side is a multiple of this, in px.
SIDE_MULTIPLE = 64


def correlation(first: Tensor, second: Tensor, *, patch: int, dilation: int) -> Tensor:
    """Return how each position of one map correlates with those around it in another.

    Parameters
    ----------
    first, second : Tensor, shape (B, C, H, W)
        Feature maps.
    patch : int
        Displacements a direction, odd.
    dilation : int
        Positions between neighbouring displacements.

    Returns
    -------
    Tensor, shape (B, patch * patch, H, W)
        Channel ``a * patch + b`` is ``sum_c first[c, i, j] * second[c, i + y, j + x]`` with
        ``y = dilation * (a - patch // 2)`` and ``x = dilation * (b - patch // 2)``; 0 where that
        lies outside.

    Notes
    -----
    All pairs of positions are multiplied at once, and the wanted ones gathered: the maps are
    small, and no extension has to be compiled.
    """
    batch, _, height, width = first.shape
    products = first.flatten(2).transpose(1, 2) @ second.flatten(2)
    index, inside = _displaced(height, width, patch, dilation)
    index, inside = index.to(first.device), inside.to(first.device)
    gathered = products.gather(2, index.expand(batch, -1, -1)) * inside
    return gathered.transpose(1, 2).reshape(batch, patch * patch, height, width)


def _displaced(height: int, width: int, patch: int, dilation: int) -> tuple[Tensor, Tensor]:
    """Return the flat index of every displaced position, (HW, patch^2), and whether it exists."""
    steps = dilation * (torch.arange(patch) - patch // 2)
    rows = torch.arange(height)[:, None, None, None] + steps[:, None]
    columns = torch.arange(width)[:, None, None] + steps
    rows, columns = torch.broadcast_tensors(rows, columns)
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    return index.reshape(height * width, -1), inside.reshape(height * width, -1)


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """Return convolution, batch normalisation and rectifier; halves the size at stride 2."""
    padding = (kernel - 1) // 2 if stride == 1 else (kernel - stride + 1) // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class FlowHead(nn.Module):
    """Optical flow from two grey frames and their local-global features.

    Parameters
    ----------
    features : int
        Channels of the local-global features of each frame; 0 for none.
    scale : float
        Factor of all widths; 1 is the published one.
    patch, dilation : int
        Of the correlation; 21 and 2 as published, with which most displacements leave a map of
        16 by 16.

    Notes
    -----
    The encoder has three levels shared by both frames, the correlation, and three deeper
    levels; the decoder doubles the size six times, and only its finest flow is an output. The
    local-global features enter beside the correlation, on maps of an eighth of the frames' size.
    """

    def __init__(
        self, features: int, *, scale: float = 1.0, patch: int = 21, dilation: int = 2
    ) -> None:
        super().__init__()
        self.patch, self.dilation = patch, dilation

        def width(full: int) -> int:
            return max(4, round(full * scale))

        one, two, three, four, six = (width(n) for n in (64, 128, 256, 512, 1024))
        redirected = width(32)
        self.tower = nn.ModuleList(
            [
                _convolution(1, one, 6, stride=2),
                _convolution(one, two, 4, stride=2),
                _convolution(two, three, 2, stride=2),
            ]
        )
        self.redirect = _convolution(three, redirected, 1)
        joined = redirected + patch**2 + 2 * features
        self.joined = _convolution(joined, three, 3)
        self.deeper = nn.ModuleList(
            nn.Sequential(_convolution(a, b, 3, stride=2), _convolution(b, b, 3))
            for a, b in ((three, four), (four, four), (four, six))
        )
        grown = [four, width(256), width(128), width(128), width(64), width(32)]
        skips = [four, four, three, two, one, 1]
        entering = [six, *(a + b + 2 for a, b in zip(skips, grown, strict=True))]
        self.predict = nn.ModuleList(
            nn.Conv2d(inputs, 2, 3, padding=1, bias=False) for inputs in entering
        )
        self.grow = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False),
                nn.LeakyReLU(SLOPE, inplace=True),
            )
            for inputs, outputs in zip(entering[:-1], grown, strict=True)
        )
        self.upsample = nn.ModuleList(nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=False) for _ in grown)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)

    def forward(self, frames: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Return the flow between neighbouring frames.

        Parameters
        ----------
        frames : Tensor, shape (B, T, S, S)
            Grey frames of B clips; S is a multiple of 64. Each goes through the shared levels
            once, though it belongs to two pairs.
        features : sequence of Tensor, shape (B * (T - 1), C, S/8, S/8)
            Local-global features of the first and of the second frames of all pairs, clip by
            clip; empty for none.

        Returns
        -------
        Tensor, shape (B, T - 1, 2, S, S)
            Flow (u, v) in px from each frame to the next.
        """
        clips, count, side = frames.shape[:3]
        level = frames.reshape(clips * count, 1, side, side)
        skips = [_firsts(level, count)]
        for layer in self.tower:
            level = layer(level)
            skips.append(_firsts(level, count))
        ahead, behind = skips.pop(), _seconds(level, count)
        correlated = correlation(ahead, behind, patch=self.patch, dilation=self.dilation)
        correlated = functional.leaky_relu(correlated / ahead.shape[1], SLOPE)
        deep = self.joined(torch.cat([self.redirect(ahead), correlated, *features], dim=1))
        for layer in self.deeper:
            skips.append(deep)
            deep = layer(deep)
        flow = self.predict[0](deep)
        for grow, upsample, predict in zip(self.grow, self.upsample, self.predict[1:], strict=True):
            deep = torch.cat([skips.pop(), grow(deep), upsample(flow)], dim=1)
            flow = predict(deep)
        return flow.reshape(clips, count - 1, 2, side, side)


def _firsts(maps: Tensor, count: int) -> Tensor:
    """Return the maps of all frames but the last of each clip, shape (B * (T - 1), ...)."""
    return maps.unflatten(0, (-1, count))[:, :-1].flatten(0, 1)


def _seconds(maps: Tensor, count: int) -> Tensor:
    """Return the maps of all frames but the first of each clip, shape (B * (T - 1), ...)."""
    return maps.unflatten(0, (-1, count))[:, 1:].flatten(0, 1)
