"""The displacement generation module (DGM), and the dynamic features made of a motion field.

The paper describes the module as a convolutional network that is learned with the recogniser;
its layers, the range of its output and the third channel of the dynamic feature are chosen here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.checks import check_option
from mer_prep.models.frl_dgt.least_squares import least_squares_displacement
from mer_prep.models.frl_dgt.pictures import grey
from mer_prep.models.frl_dgt.warp import mirror_field

#: Slope of the rectifiers.
SLOPE = 0.1

#: Channels of one group of the normalisation.
GROUP = 8

#: Third channel of the dynamic feature, beside u and v.
FEATURES = ("magnitude", "strain")

#: Factor of the last convolution's usual first parameters, so that the displacement starts small.
FIRST = 0.01

#: Sides of the windows whose displacements are the guesses, px.
WINDOWS = (3, 7, 13)

#: Factor of the guesses as the network sees them, so that tenths of a px are not lost.
GAIN = 5.0

#: Pictures are halved three times, so their side is a multiple of this, in px.
HALVED = 8


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, rectify: bool = True
) -> nn.Sequential:
    """Return convolution, group normalisation and, unless told not to, a rectifier."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.GroupNorm(max(1, outputs // GROUP), outputs),
    ]
    if rectify:
        layers.append(nn.LeakyReLU(SLOPE, inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """Two convolutions beside the identity.

    Parameters
    ----------
    channels : int
        Feature maps of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _convolution(channels, channels, 3),
            _convolution(channels, channels, 3, rectify=False),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, H, W) for such maps."""
        return functional.leaky_relu(maps + self.layers(maps), SLOPE)


class DisplacementGenerator(nn.Module):
    """A U-Net from an onset and an apex to the displacement field between them.

    Parameters
    ----------
    scale : float
        Factor of all widths; at 1 they are 32, 64, 128 and 256.
    largest : float
        Displacement in px that no component exceeds.
    guess : bool
        Whether the network starts from displacements in closed form, those of `WINDOWS`: it sees
        them, and gives the share of each, and of standing still, at every pixel, and what is to
        be added. Without, it sees the two pictures alone and gives all of the field.
    symmetric : bool
        Whether the field is the mean of the pair's and of the mirrored pair's, mirrored back:
        then mirrored faces have exactly the mirrored field, at twice the cost.

    Notes
    -----
    Groups of channels are normalised within each sample, so no pair depends on others of its
    batch. The last convolution starts near 0, and so does what is added.

    That the network is given a guess is chosen here. A micro-expression changes grey levels by a
    hundredth and moves by tenths of a pixel, which is little to learn from in a few hundred clips.

    References
    ----------
    O. Ronneberger, P. Fischer, T. Brox, "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI 2015. doi:10.1007/978-3-319-24574-4_28

    Y. Wu, K. He, "Group normalization", ECCV 2018. doi:10.1007/978-3-030-01261-8_1
    """

    def __init__(
        self,
        *,
        scale: float = 1.0,
        largest: float = 4.0,
        guess: bool = True,
        symmetric: bool = False,
    ) -> None:
        super().__init__()
        self.largest, self.symmetric = largest, symmetric
        self.windows = WINDOWS if guess else ()
        shares = len(WINDOWS) + 1 if guess else 0
        one, two, three, four = (max(4, round(full * scale)) for full in (32, 64, 128, 256))
        self.first = _convolution(6 + 2 * len(self.windows), one, 7)
        self.down = nn.ModuleList(
            _convolution(inputs, outputs, 3, stride=2)
            for inputs, outputs in ((one, two), (two, three), (three, four))
        )
        self.middle = nn.Sequential(Residual(four), Residual(four))
        self.up = nn.ModuleList(
            _convolution(below + skip, skip, 3)
            for below, skip in ((four, three), (three, two), (two, one))
        )
        self.field = nn.Conv2d(one, 2 + shares, 3, padding=1)
        with torch.no_grad():
            for parameter in self.field.parameters():
                parameter.mul_(FIRST)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the displacement fields of pairs.

        Parameters
        ----------
        frames : Tensor, shape (B, 2, 3, S, S), float
            Onset and apex in [0, 1]; S is a multiple of 8.

        Returns
        -------
        Tensor, shape (B, 2, S, S)
            Channels (u, v) in px, between ``-largest`` and ``largest``; the pixel p of the apex
            was at ``p + D(p)`` in the onset.
        """
        field = self._field(frames)
        if self.symmetric:
            field = (field + mirror_field(self._field(frames.flip(-1)))) / 2
        return field

    def _field(self, frames: Tensor) -> Tensor:
        onset, apex = (grey(one.float()) for one in frames.unbind(1))
        guesses = [least_squares_displacement(onset, apex, window=one) for one in self.windows]
        seen = torch.cat([frames.flatten(1, 2) * 2 - 1, *(GAIN * one for one in guesses)], dim=1)
        maps = self.first(seen)
        skips = []
        for layer in self.down:
            skips.append(maps)
            maps = layer(maps)
        maps = self.middle(maps)
        for layer in self.up:
            skip = skips.pop()
            maps = functional.interpolate(
                maps, size=skip.shape[-2:], mode="bilinear", align_corners=False
            )
            maps = layer(torch.cat([maps, skip], dim=1))
        found = self.field(maps)
        field = found[:, :2]
        if guesses:
            shares = found[:, 2:].softmax(dim=1)
            for share, guess in zip(shares.split(1, dim=1), guesses, strict=False):
                field = field + share * guess
        return self.largest * torch.tanh(field.float() / self.largest)


def dynamic_feature(field: Tensor, *, kind: str = "magnitude") -> Tensor:
    """Return the picture of a motion field that the recogniser sees.

    Parameters
    ----------
    field : Tensor, shape (B, 2, H, W), float
        Channels (u, v) in px.
    kind : {'magnitude', 'strain'}
        Third channel: ``sqrt(u^2 + v^2)`` in px, or the optical strain
        ``sqrt(e_xx^2 + e_yy^2 + 2 e_xy^2)`` as `mer_prep.ops.strain` defines it, unitless.

    Returns
    -------
    Tensor, shape (B, 3, H, W)
        Channels u, v, and the third.

    Raises
    ------
    ConfigError
        For another kind.

    Notes
    -----
    A number of the order of 1e-6 under the roots keeps their gradients finite where nothing
    moves.
    """
    check_option("feature", kind, FEATURES)
    u, v = field.unbind(1)
    if kind == "magnitude":
        squared = u.square() + v.square()
    else:
        du_dy, du_dx = torch.gradient(u, dim=(-2, -1))
        dv_dy, dv_dx = torch.gradient(v, dim=(-2, -1))
        squared = du_dx.square() + dv_dy.square() + (du_dy + dv_dx).square() / 2
    return torch.stack([u, v, (squared + 1e-12).sqrt()], dim=1)


def normalised_field(field: Tensor, *, quantile: float = 0.99, least: float = 1e-3) -> Tensor:
    """Return fields of comparable size: the ablation "OF+NORM" of the paper.

    Parameters
    ----------
    field : Tensor, shape (B, 2, H, W), float
        Channels (u, v) in px.
    quantile : float
        Which quantile of the magnitudes over the picture becomes 1.
    least : float
        Magnitude in px below which a field counts as still and is not amplified further.

    Returns
    -------
    Tensor, shape (B, 2, H, W)
        Every field divided by that quantile of its own magnitudes; unitless.

    Notes
    -----
    The paper names the normalisation and does not define it; a quantile, which few wild vectors
    cannot move, is chosen here.
    """
    magnitude = torch.linalg.vector_norm(field, dim=1).flatten(1)
    size = torch.quantile(magnitude, quantile, dim=1).clamp(min=least)
    return field / size[:, None, None, None]
