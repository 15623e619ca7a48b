"""The motion stage: key points, sparse motion, dense motion, and the apex rebuilt from the onset.

That it goes from key points over sparse to dense motion, with B-splines, and learns by rebuilding,
is the paper's. The networks are those of the First Order Motion Model, which the first author's
other work is built on; where the B-splines belong is not said on the slides.

References
----------
A. Siarohin, S. Lathuiliere, S. Tulyakov, E. Ricci, N. Sebe, "First order motion model for image
animation", NeurIPS 2019. arXiv:2003.00196
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.models.frl_dgt.warp import sample_points, warp
from mer_prep.models.selfme.config import SelfmeConfig
from mer_prep.models.selfme.hourglass import Hourglass, Residual, convolution
from mer_prep.models.selfme.key_points import (
    KERNEL,
    KeyPointDetector,
    KeyPoints,
    heat_difference,
    pixel_grid,
    sparse_motion,
)
from mer_prep.models.selfme.spline import spline_field

#: Deviation of the Gaussians around key points, as a part of half the side.
DEVIATION = 0.1

#: Factor of the usual first weights of what is added to a motion or picture that is good as it is.
FIRST = 0.01


class DenseMotion(nn.Module):
    """Which of the sparse motions counts at every pixel.

    Parameters
    ----------
    config : SelfmeConfig
        The architecture.

    Notes
    -----
    The network sees the onset moved by every sparse motion, and the heat maps; never the apex, of
    which it is told by key points alone. With ``bspline = ffd`` its middle also gives control
    points of a free-form deformation, which is added to the field.
    """

    def __init__(self, config: SelfmeConfig) -> None:
        super().__init__()
        self.shrink = config.shrink
        count = config.key_points + 1
        self.network = Hourglass(
            4 * count, width=config.motion_width, blocks=config.blocks, widest=config.widest
        )
        outputs = self.network.outputs
        self.mask = nn.Conv2d(outputs, count, KERNEL, padding=KERNEL // 2)
        self.occlusion = (
            nn.Conv2d(outputs, 1, KERNEL, padding=KERNEL // 2) if config.occlusion else None
        )
        self.control = None
        if config.bspline == "ffd":
            self.control = nn.Sequential(
                nn.AdaptiveAvgPool2d(config.control_points), nn.Conv2d(self.network.middle, 2, 1)
            )
            with torch.no_grad():
                for parameter in self.control.parameters():
                    parameter.mul_(FIRST)

    def forward(
        self, onset: Tensor, before: KeyPoints, after: KeyPoints
    ) -> tuple[Tensor, Tensor | None]:
        """Return the dense motion, and what of the onset can be seen in the apex.

        Parameters
        ----------
        onset : Tensor, shape (B, 3, S, S), float
            Pictures in [0, 1].
        before, after : KeyPoints
            Key points of onset and apex.

        Returns
        -------
        displacement : Tensor, shape (B, 2, S, S)
            D in px: the pixel p of the apex was at p + D(p) in the onset.
        seen : Tensor, shape (B, 1, S / r, S / r), or None
            0 to 1, for pictures shrunk by r.
        """
        side = onset.shape[-1]
        small = functional.avg_pool2d(onset, self.shrink)
        grid = pixel_grid(small.shape[-1], shrink=self.shrink, like=small)
        motions = sparse_motion(before, after, grid)
        heat = heat_difference(before, after, grid, deviation=DEVIATION * (side - 1) / 2)
        count = motions.shape[1]
        points = (motions.flatten(0, 1) - (self.shrink - 1) / 2) / self.shrink
        moved = sample_points(small.float().repeat_interleave(count, dim=0), points)
        seen = torch.cat([heat.flatten(0, 1)[:, None], moved], dim=1)
        maps, middle = self.network(seen.unflatten(0, (-1, count)).flatten(1, 2))
        masks = self.mask(maps).float().softmax(dim=1)
        field = (masks[..., None] * (motions - grid)).sum(dim=1).permute(0, 3, 1, 2)
        if self.shrink > 1:
            field = functional.interpolate(
                field, scale_factor=self.shrink, mode="bilinear", align_corners=False
            )
        if self.control is not None:
            field = field + spline_field(self.control(middle).float(), side=side)
        visible = None if self.occlusion is None else torch.sigmoid(self.occlusion(maps).float())
        return field, visible


class Rebuilder(nn.Module):
    """The apex from the onset and its motion: features of the onset are moved, and decoded.

    Parameters
    ----------
    config : SelfmeConfig
        The architecture.

    Notes
    -----
    What is decoded is added to the onset as it is moved, and starts near 0: a micro-expression
    changes grey levels by a hundredth, and a decoder that has to learn faces first would for long
    say nothing of motion.
    """

    def __init__(self, config: SelfmeConfig) -> None:
        super().__init__()
        one, two, four = (config.decoder_width * factor for factor in (1, 2, 4))
        self.first = convolution(3, one, KERNEL)
        self.down = nn.ModuleList([convolution(one, two), convolution(two, four)])
        self.middle = nn.Sequential(*(Residual(four) for _ in range(config.residual_blocks)))
        self.up = nn.ModuleList([convolution(four, two), convolution(two, one)])
        self.last = nn.Conv2d(one, 3, KERNEL, padding=KERNEL // 2)
        with torch.no_grad():
            for parameter in self.last.parameters():
                parameter.mul_(FIRST)

    def forward(self, onset: Tensor, displacement: Tensor, seen: Tensor | None) -> Tensor:
        """Return the apex (B, 3, S, S) as far as it follows from what `DenseMotion` gives."""
        maps = self.first(onset)
        for layer in self.down:
            maps = functional.avg_pool2d(layer(maps), 2)
        maps = warp(maps.float(), functional.avg_pool2d(displacement, 4) / 4)
        if seen is not None:
            maps = maps * functional.interpolate(
                seen, size=maps.shape[-2:], mode="bilinear", align_corners=False
            )
        maps = self.middle(maps)
        for layer in self.up:
            maps = layer(functional.interpolate(maps, scale_factor=2))
        return warp(onset, displacement) + self.last(maps)


class Motion(nn.Module):
    """Onset and apex to the motion between them.

    Parameters
    ----------
    config : SelfmeConfig
        The architecture.
    """

    def __init__(self, config: SelfmeConfig) -> None:
        super().__init__()
        self.detector = KeyPointDetector(
            config.key_points,
            width=config.key_point_width,
            blocks=config.blocks,
            widest=config.widest,
            shrink=config.shrink,
            first_order=config.first_order,
        )
        self.dense = DenseMotion(config)
        self.rebuilder = Rebuilder(config)

    def forward(self, onset: Tensor, apex: Tensor) -> tuple[Tensor, Tensor | None, KeyPoints]:
        """Return displacement, visibility and the key points of the apex; see `DenseMotion`.

        Parameters
        ----------
        onset, apex : Tensor, shape (B, 3, S, S), float
            Pictures in [0, 1].
        """
        before, after = self.detector(onset), self.detector(apex)
        displacement, seen = self.dense(onset, before, after)
        return displacement, seen, after
