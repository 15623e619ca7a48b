"""STSTNet: three shallow streams over u, v and optical strain.

References
----------
.. [1] S.-T. Liong, Y. S. Gan, J. See, H.-Q. Khor, Y.-C. Huang, "Shallow triple stream
   three-dimensional CNN (STSTNet) for micro-expression recognition", FG 2019.
   doi:10.1109/FG.2019.8756567
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_option, check_range
from mer_prep.models.picture import CENTRES, PictureNetwork
from mer_prep.ops.motion_image import NORMALISATIONS


@dataclass(frozen=True)
class StstnetConfig:
    """The architecture of STSTNet; the defaults are the paper's.

    Parameters
    ----------
    side : int
        Side of the pictures, px.
    streams : str
        Filters of every stream, with ``+`` between them.
    dropout : float
        Part of the features left out in training.
    normalise : {'min-max', 'none'}
        Whether every channel of a picture is stretched to 0 ... 1, or keeps its units; see
        `mer_prep.ops.motion_image.motion_image`.
    centre : {'none', 'mean-image', 'standard', 'bytes'}
        What the training pictures normalise; see `PictureNetwork.measure`.
    """

    side: int = 28
    streams: str = "3+5+8"
    dropout: float = 0.5
    normalise: str = "min-max"
    centre: str = "mean-image"

    def __post_init__(self) -> None:
        check_range("side", self.side, low=6, high=1024)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_option("normalise", self.normalise, NORMALISATIONS)
        check_option("centre", self.centre, CENTRES)
        for one in self.filters:
            check_range("streams", one, low=1, high=512)

    @property
    def filters(self) -> tuple[int, ...]:
        """Filters of every stream."""
        return tuple(
            int(one) if re.fullmatch("[0-9]{1,6}", one) else 0 for one in self.streams.split("+")
        )


#: Architectures by name. `tiny` keeps the sign and the strength of motion.
PRESETS: dict[str, StstnetConfig] = {
    "paper": StstnetConfig(),
    "code": StstnetConfig(centre="bytes"),
    "tiny": StstnetConfig(dropout=0.2, normalise="none", centre="standard"),
}


class ShallowStreams(PictureNetwork):
    """Streams of one convolution each over the same picture, pooled twice, and one linear layer.

    A stream is a convolution of 3 x 3, ReLU, batch normalisation, the maximum of 3 x 3 at steps of
    3, and dropout; of the features of all streams the mean of 2 x 2 is taken. With the streams
    3 + 5 + 8 it is STSTNet [1]_, with one stream of 5 the baseline of
    `mer_prep.models.survey`.

    Parameters
    ----------
    filters : tuple of int
        Filters of every stream.
    side : int
        Side of the pictures, px.
    dropout : float
        Part of the features left out in training.
    classes : int
        Number of classes n.
    """

    def __init__(
        self, filters: tuple[int, ...], *, side: int, dropout: float, classes: int
    ) -> None:
        super().__init__(3, side)
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(3, width, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(width),
                nn.MaxPool2d(3, 3, padding=1),
                nn.Dropout(dropout),
            )
            for width in filters
        )
        self.pool = nn.AvgPool2d(2, 2)
        pooled = ((side - 1) // 3 + 1) // 2
        self.head = nn.Linear(sum(filters) * pooled**2, classes)

    def scores(self, pictures: Tensor) -> Tensor:
        """Return the scores (B, n) of normalised pictures (B, 3, S, S)."""
        features = torch.cat([stream(pictures) for stream in self.streams], dim=1)
        return self.head(self.pool(features).flatten(1))


class Ststnet(ShallowStreams):
    """STSTNet: 1,683 parameters with three classes."""

    def __init__(self, config: StstnetConfig, classes: int) -> None:
        super().__init__(config.filters, side=config.side, dropout=config.dropout, classes=classes)
