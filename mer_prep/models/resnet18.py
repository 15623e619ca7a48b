"""ResNet-18 over u, v and optical strain.

References
----------
.. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
   doi:10.1109/CVPR.2016.90
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_option, check_range
from mer_prep.models.picture import CENTRES, PictureNetwork
from mer_prep.ops.motion_image import NORMALISATIONS


@dataclass(frozen=True)
class ResNet18Config:
    """The architecture of ResNet-18 on flow.

    Parameters
    ----------
    side : int
        Side of the pictures, px.
    width : int
        Feature maps of the first stage; they double with each of the others.
    dropout : float
        Part of the features left out in training before the classifier.
    normalise : {'min-max', 'none'}
        As of `mer_prep.models.ststnet.StstnetConfig`.
    centre : {'none', 'mean-image', 'standard', 'bytes'}
        As of it.
    """

    side: int = 112
    width: int = 64
    dropout: float = 0.0
    normalise: str = "none"
    centre: str = "standard"

    def __post_init__(self) -> None:
        check_range("side", self.side, low=16, high=1024)
        check_range("width", self.width, low=1, high=1024)
        check_range("dropout", self.dropout, low=0, high=0.95)
        check_option("normalise", self.normalise, NORMALISATIONS)
        check_option("centre", self.centre, CENTRES)


#: Architectures by name.
PRESETS: dict[str, ResNet18Config] = {
    "paper": ResNet18Config(),
    "tiny": ResNet18Config(side=56, width=8, dropout=0.2),
}


class ResidualBlock(nn.Module):
    """Two convolutions of 3 x 3 and a way past them [1]_.

    Parameters
    ----------
    before, after : int
        Channels of input and output.
    stride : int
        Step of the first convolution. Where it is not 1, or the channels are not the same, the way
        past is a convolution of 1 x 1.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return features (B, C', h', w') of features (B, C, h, w)."""
        inner = torch.relu(self.bn1(self.conv1(features)))
        return torch.relu(self.bn2(self.conv2(inner)) + self.downsample(features))


class Trunk(nn.Sequential):
    """The layers of ResNet-18 up to the classifier, by the names that public weights have.

    With a width of 64 it has 11,176,512 parameters and gives 512 features.

    Parameters
    ----------
    width : int
        Feature maps w of the first stage.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.features = 8 * width
        self.add_module("conv1", nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False))
        self.add_module("bn1", nn.BatchNorm2d(width))
        self.add_module("relu", nn.ReLU())
        self.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
        before = width
        for stage in range(4):
            after = width * 2**stage
            first = ResidualBlock(before, after, 1 if stage == 0 else 2)
            self.add_module(
                f"layer{stage + 1}", nn.Sequential(first, ResidualBlock(after, after, 1))
            )
            before = after
        self.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
        self.add_module("flatten", nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ResNet18(PictureNetwork):
    """ResNet-18 with random weights over u, v and strain.

    Parameters
    ----------
    config : ResNet18Config
        Its architecture.
    classes : int
        Number of classes n.
    """

    def __init__(self, config: ResNet18Config, classes: int) -> None:
        super().__init__(3, config.side)
        self.trunk = Trunk(config.width)
        self.head = nn.Sequential(
            nn.Dropout(config.dropout), nn.Linear(self.trunk.features, classes)
        )

    def scores(self, pictures: Tensor) -> Tensor:
        """Return the scores (B, n) of normalised pictures (B, 3, S, S)."""
        return self.head(self.trunk(pictures))
