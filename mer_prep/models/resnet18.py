"""ResNet-18 without its classifier: pictures in, features out.

The names of its tensors are those of torchvision, so that weights published for that library fit.

References
----------
.. [1] K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
   doi:10.1109/CVPR.2016.90
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mer_prep.errors import TrainingError

#: Blocks of every stage, and the classifier's tensors, which no trunk has a place for.
BLOCKS = (2, 2, 2, 2)
CLASSIFIER = ("fc.weight", "fc.bias")


class ResNet18(nn.Module):
    """The convolutions of ResNet-18 and the mean over the picture.

    Parameters
    ----------
    channels : int
        Channels of the pictures.
    width : int
        Features of the first stage; every further one has twice as many. 64 in [1]_, with which
        the trunk has 11,176,512 parameters for three channels.
    """

    def __init__(self, *, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.features = 8 * width
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
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
        """Return features (B, 8 width) of pictures (B, channels, H, W)."""
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


def load_trunk(trunk: ResNet18, path: Path) -> None:
    """Give a trunk the weights of a file, such as those of ImageNet.

    Parameters
    ----------
    trunk : ResNet18
        Where they go.
    path : Path
        A safetensors file with the names of torchvision; a classifier in it is left out.

    Raises
    ------
    TrainingError
        If the file cannot be read, or is not of this trunk.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"The weights cannot be read: {error}.",
            where=path,
            why="only safetensors files are read: reading pickled weights can run any code",
            hint="convert them where you trust them, by safetensors.torch.save_file",
        ) from None
    # Files older than PyTorch 0.4.1 do not count batches; nothing here reads the count.
    wanted = {
        name: one
        for name, one in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    given = {
        name: one
        for name, one in found.items()
        if name not in CLASSIFIER and not name.endswith("num_batches_tracked")
    }
    unlike = sorted(
        name
        for name in wanted.keys() | given.keys()
        if name not in wanted or name not in given or wanted[name].shape != given[name].shape
    )
    if unlike:
        raise TrainingError(
            f"The weights are not of this ResNet-18: {len(unlike)} tensors differ, the first is "
            f"{unlike[0]}.",
            where=path,
            hint="take the weights of a ResNet-18 of the same width, named as torchvision does",
        )
    trunk.load_state_dict(given, strict=False)
