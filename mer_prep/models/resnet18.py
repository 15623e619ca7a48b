"""ResNet-18 without its classifier: pictures in, features out.

The names of its tensors are those of torchvision, so that weights published for that library fit.

References
----------
.. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
   doi:10.1109/CVPR.2016.90
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

#: Blocks of every stage.
BLOCKS = (2, 2, 2, 2)


class Trunk(nn.Module):
    """The convolutions of ResNet-18 and the mean over the picture.

    Parameters
    ----------
    width : int
        Features of the first stage; every further one has twice as many. 64 in [1]_, with which
        the trunk has 11,176,512 parameters.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.features = 8 * width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        widths = [width * 2**stage for stage in range(len(BLOCKS))]
        before = width
        for stage, (after, blocks) in enumerate(zip(widths, BLOCKS, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            parts = []
            for stride in strides:
                parts.append(BasicBlock(before, after, stride=stride))
                before = after
            setattr(self, f"layer{stage + 1}", nn.Sequential(*parts))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """Return features (B, 8 width) of pictures (B, 3, H, W)."""
        found = self.maxpool(functional.relu(self.bn1(self.conv1(pictures))))
        for stage in range(len(BLOCKS)):
            found = getattr(self, f"layer{stage + 1}")(found)
        return found.mean(dim=(-2, -1))


class BasicBlock(nn.Module):
    """Two convolutions 3x3, and the input added to what they give.

    Parameters
    ----------
    before, after : int
        Features that come in and go out.
    stride : int
        Of the first convolution; where it or the number of features changes the shape, the input
        is added through a convolution 1x1.
    """

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, given: Tensor) -> Tensor:
        """Return features (B, after, H / stride, W / stride) of (B, before, H, W)."""
        added = given if self.downsample is None else self.downsample(given)
        found = functional.relu(self.bn1(self.conv1(given)))
        return functional.relu(self.bn2(self.conv2(found)) + added)
