"""OFF-ApexNet: two streams over u and v of the flow from onset to apex.

References
----------
.. [1] Y. S. Gan, S.-T. Liong, W.-C. Yau, Y.-C. Huang, L.-K. Tan, "OFF-ApexNet on micro-expression
   recognition system", Signal Processing: Image Communication 74, 2019. arXiv:1805.08699
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.models.picture import CENTRES, PictureNetwork
from mer_prep.ops.motion_image import NORMALISATIONS


@dataclass(frozen=True)
class OffApexNetConfig:
    """The architecture of OFF-ApexNet; the defaults are the paper's.

    Parameters
    ----------
    side : int
        Side of the pictures, px.
    separate : bool
        Whether u and v have a stream each, which is the paper's; or both are the channels of one.
    kernel : int
        Side of the filters, an odd number.
    hidden : int
        Width of the hidden layers.
    layers : int
        Hidden layers.
    dropout : float
        Part of the features left out in training before every linear layer.
    normalise : {'min-max', 'none'}
        As of `mer_prep.models.ststnet.StstnetConfig`.
    centre : {'none', 'mean-image', 'standard', 'bytes'}
        As of it.
    """

    side: int = 28
    separate: bool = True
    kernel: int = 5
    hidden: int = 1024
    layers: int = 2
    dropout: float = 0.5
    normalise: str = "min-max"
    centre: str = "none"

    def __post_init__(self) -> None:
        check_range("side", self.side, low=4, high=1024)
        check_range("kernel", self.kernel, low=1, high=15)
        check_range("hidden", self.hidden, low=1, high=1 << 14)
        check_range("layers", self.layers, low=0, high=8)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_option("normalise", self.normalise, NORMALISATIONS)
        check_option("centre", self.centre, CENTRES)
        if not self.kernel % 2:
            raise ConfigError(
                f"Invalid value for 'kernel': {self.kernel}.", hint="choose an odd number"
            )


#: Architectures by name. `meb` is the network of the benchmark of that name, one small stream.
PRESETS: dict[str, OffApexNetConfig] = {
    "paper": OffApexNetConfig(),
    "meb": OffApexNetConfig(separate=False, kernel=3, layers=1),
    "tiny": OffApexNetConfig(hidden=32, layers=1, dropout=0.2, normalise="none", centre="standard"),
}


def _stream(channels: int, kernel: int) -> nn.Sequential:
    """Return two convolutions of 6 and 16 filters, each with ReLU and the maximum of 2 x 2."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel, padding=kernel // 2),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class OffApexNet(PictureNetwork):
    """OFF-ApexNet; of the picture it sees u and v, not the strain.

    Parameters
    ----------
    config : OffApexNetConfig
        Its architecture.
    classes : int
        Number of classes n.
    """

    def __init__(self, config: OffApexNetConfig, classes: int) -> None:
        super().__init__(3, config.side)
        channels = (1, 1) if config.separate else (2,)
        self.streams = nn.ModuleList(_stream(one, config.kernel) for one in channels)
        widths = [len(channels) * 16 * (config.side // 4) ** 2, *[config.hidden] * config.layers]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Dropout(config.dropout), nn.Linear(before, after), nn.ReLU()]
        layers += [nn.Dropout(config.dropout), nn.Linear(widths[-1], classes)]
        self.head = nn.Sequential(*layers)

    def scores(self, pictures: Tensor) -> Tensor:
        """Return the scores (B, n) of normalised pictures (B, 3, S, S)."""
        parts = pictures[:, :2].chunk(len(self.streams), dim=1)
        features = [stream(part) for stream, part in zip(self.streams, parts, strict=True)]
        return self.head(torch.cat(features, dim=1).flatten(1))
