"""MOL: micro-expression, optical flow and landmarks, jointly from a few raw frames.

References
----------
.. [1] Z. Shao, Y. Cheng, F. Li, Y. Zhou, X. Lu, Y. Xie, L. Ma, "MOL: Joint Estimation of
   Micro-Expression, Optical Flow, and Landmark via Transformer-Graph-Style Convolution", IEEE
   TPAMI, 2025. arXiv:2506.14511.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError
from mer_prep.models.f5c import CCC_VARIANTS, F5C, FCC_VARIANTS
from mer_prep.models.flow_head import SIDE_MULTIPLE, FlowHead
from mer_prep.models.output import ModelOutput

#: What the recogniser sees of the local-global features G of the frames, Table XII of [1]_.
FUSIONS = ("concatenate", "first", "last", "frames", "add", "subtract")

LANDMARKS = 68


@dataclass(frozen=True)
class MolConfig:
    """The architecture of MOL; the defaults are the paper's.

    Parameters
    ----------
    frames : int
        Frames t of a sample, 2 or more.
    side : int
        Side of the frames in px, a multiple of 64.
    channels : int
        Feature maps C of every frame, a multiple of 8.
    fcc, ccc : str
        Forms of the two convolutions; see `mer_prep.models.f5c.F5C`.
    neighbours : int
        Nearest neighbours k of the channel correspondence.
    exclude_self : bool
        Whether a channel may not be its own neighbour, in the paper's form.
    blocks : int
        F5C blocks one after the other, 0 or more; Tables IX and X of the paper.
    share_blocks : bool
        Whether both frames of a pair go through the same blocks, as in the paper, or through
        blocks of their own, as in the code.
    flow, landmarks : bool
        Whether there are the auxiliary heads; Table VIII.
    fusion : {'concatenate', 'first', 'last', 'frames', 'add', 'subtract'}
        What the recogniser sees, along time: both frames of every pair in turn; the first, or
        the last, frame of every pair; every frame once; or the sum, or the difference, of every
        pair.
    flow_scale : float
        Factor of the widths of the flow head.
    patch, dilation : int
        Of its correlation.
    hidden : int
        Width of the recogniser's hidden layer; that of the landmark head is twice as wide.
    dropout : float
        Part of the recogniser's features left out in training.
    """

    frames: int = 8
    side: int = 128
    channels: int = 128
    fcc: str = "paper"
    ccc: str = "paper"
    neighbours: int = 4
    exclude_self: bool = True
    blocks: int = 1
    share_blocks: bool = True
    flow: bool = True
    landmarks: bool = True
    fusion: str = "concatenate"
    flow_scale: float = 1.0
    patch: int = 21
    dilation: int = 2
    hidden: int = 256
    dropout: float = 0.5

    def __post_init__(self) -> None:
        check_range("frames", self.frames, low=2, high=64)
        check_range("side", self.side, low=SIDE_MULTIPLE, high=1024)
        check_range("channels", self.channels, low=8, high=4096)
        check_option("fcc", self.fcc, FCC_VARIANTS)
        check_option("ccc", self.ccc, CCC_VARIANTS)
        check_range("neighbours", self.neighbours, low=1, high=self.channels - 1)
        check_range("blocks", self.blocks, low=0, high=64)
        check_option("fusion", self.fusion, FUSIONS)
        check_range("flow_scale", self.flow_scale, low=0.01, high=4)
        check_range("patch", self.patch, low=1, high=255)
        check_range("dilation", self.dilation, low=1, high=64)
        check_range("hidden", self.hidden, low=1, high=65_536)
        check_range("dropout", self.dropout, low=0, high=0.95)
        for name, multiple in (("side", SIDE_MULTIPLE), ("channels", 8)):
            if getattr(self, name) % multiple:
                raise ConfigError(
                    f"Invalid value for '{name}': {getattr(self, name)}.",
                    hint=f"choose a multiple of {multiple}",
                )
        if not self.patch % 2:
            raise ConfigError(
                f"Invalid value for 'patch': {self.patch}.", hint="choose an odd number"
            )


#: Architectures by name. `code` is the published implementation, `tiny` is for tests and demos.
PRESETS: dict[str, MolConfig] = {
    "paper": MolConfig(),
    "code": MolConfig(fcc="code", ccc="code", share_blocks=False),
    # Differences of the pairs show it motion at once, which a small model needs.
    "tiny": MolConfig(
        frames=4,
        side=64,
        channels=32,
        fusion="subtract",
        flow_scale=0.0625,
        patch=5,
        dilation=1,
        hidden=64,
        dropout=0.2,
    ),
}


class FrameEncoder(nn.Sequential):
    """The stack of plain convolutions that every frame goes through, Table I of the paper.

    There is no normalisation and no rectifier between them, as in the published code; the paper
    names none.

    Parameters
    ----------
    channels : int
        Feature maps of its output, on an eighth of the frame's size.
    """

    def __init__(self, channels: int) -> None:
        widths = [max(4, channels // divisor) for divisor in (16, 4, 2)]
        super().__init__(
            nn.Conv2d(1, widths[0], 4, 2),
            nn.Conv2d(widths[0], widths[1], 3, 2),
            nn.Conv2d(widths[1], widths[2], 2, 2, 1),
            nn.Conv2d(widths[2], channels, 1),
        )


class LandmarkHead(nn.Module):
    """68 landmarks from the local-global features of one frame.

    Parameters
    ----------
    channels, size : int
        Feature maps, and their height and width.
    hidden : int
        Width of the hidden layer.
    """

    def __init__(self, channels: int, size: int, *, hidden: int) -> None:
        super().__init__()
        maps = max(4, channels // 4)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, maps, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(maps * (size - 2) ** 2, hidden),
            nn.ReLU(),
        )
        self.points = nn.Linear(hidden, 2 * LANDMARKS)

    def start_from(self, landmarks: Tensor) -> None:
        """Make mean landmarks, shape (68, 2) in px, the first guess."""
        with torch.no_grad():
            self.points.bias.copy_(landmarks.reshape(-1))

    def forward(self, features: Tensor) -> Tensor:
        """Return landmarks (P, 68, 2) in px for features (P, C, size, size)."""
        return self.points(self.layers(features)).unflatten(1, (LANDMARKS, 2))


class ExpressionHead(nn.Module):
    """The recogniser: a convolution over space and time, and two linear layers.

    Parameters
    ----------
    channels, size : int
        Feature maps, and their height and width.
    maps : int
        Length in time of what it sees; kernels and pooling shrink to fit short ones.
    classes : int
        Number of classes n.
    hidden : int
        Width of the hidden layer.
    dropout : float
        Part of the features left out in training.
    """

    def __init__(
        self, channels: int, size: int, maps: int, classes: int, *, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        kernel = min(5, maps)
        pooled = 2 if maps - kernel + 1 >= 2 else 1
        width = max(4, channels // 4)
        length = (maps - kernel + 1) // pooled
        self.layers = nn.Sequential(
            nn.Conv3d(channels, width, (2, 2, kernel), (2, 2, 1)),
            nn.MaxPool3d((2, 2, pooled)),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(width * (size // 4) ** 2 * length, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, classes),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, n) for features (B, C, size, size, maps)."""
        return self.layers(features)


class Mol(nn.Module):
    """The whole of MOL.

    Parameters
    ----------
    config : MolConfig
        The architecture.
    classes : int
        Number of classes n, 2 or more.

    Notes
    -----
    All pairs of all clips are one batch. With blocks that both frames share, the features of a
    frame are computed once though two pairs use them. Statistics of batch normalisation are
    therefore those of all pairs together; the published code takes them pair by pair.
    """

    def __init__(self, config: MolConfig, classes: int) -> None:
        super().__init__()
        check_range("classes", classes, low=2)
        self.config, self.classes = config, classes
        channels, size = config.channels, config.side // 8
        self.encoder = FrameEncoder(channels)
        self.blocks = nn.ModuleList(
            self._block_stack(config) for _ in range(1 if config.share_blocks else 2)
        )
        self.flow = (
            FlowHead(
                channels, scale=config.flow_scale, patch=config.patch, dilation=config.dilation
            )
            if config.flow
            else None
        )
        self.landmarks = (
            LandmarkHead(channels, size, hidden=2 * config.hidden) if config.landmarks else None
        )
        self.expression = ExpressionHead(
            channels,
            size,
            fused_length(config),
            classes,
            hidden=config.hidden,
            dropout=config.dropout,
        )

    @staticmethod
    def _block_stack(config: MolConfig) -> nn.Sequential:
        return nn.Sequential(
            *(
                F5C(
                    config.channels,
                    config.side // 8,
                    fcc=config.fcc,
                    ccc=config.ccc,
                    neighbours=config.neighbours,
                    exclude_self=config.exclude_self,
                )
                for _ in range(config.blocks)
            )
        )

    def forward(self, frames: Tensor) -> ModelOutput:
        """Return classes, flow and landmarks.

        Parameters
        ----------
        frames : Tensor, shape (B, t, S, S), float
            Normalised grey frames.
        """
        clips, count = frames.shape[:2]
        rich = self.encoder(frames.flatten(0, 1)[:, None]).unflatten(0, (clips, count))
        firsts, seconds = self._local_global(rich)
        flow = None
        if self.flow is not None:
            flow = self.flow(frames, [firsts.flatten(0, 1), seconds.flatten(0, 1)])
        landmarks = None
        if self.landmarks is not None:
            found = self.landmarks(seconds.flatten(0, 1))
            landmarks = found.unflatten(0, (clips, count - 1))
        fused = fuse(firsts, seconds, self.config.fusion)
        return ModelOutput(self.expression(fused.permute(0, 2, 3, 4, 1)), flow, landmarks)

    def _local_global(self, rich: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the first and second frames of pairs, (B, t - 1, C, h, w)."""
        if self.config.share_blocks:
            every = self.blocks[0](rich.flatten(0, 1)).unflatten(0, rich.shape[:2])
            return every[:, :-1], every[:, 1:]
        ends = (rich[:, :-1], rich[:, 1:])
        first, second = (
            block(end.flatten(0, 1)).unflatten(0, end.shape[:2])
            for block, end in zip(self.blocks, ends, strict=True)
        )
        return first, second


def fused_length(config: MolConfig) -> int:
    """Return how many maps along time the recogniser sees."""
    pairs = config.frames - 1
    return {"concatenate": 2 * pairs, "frames": config.frames}.get(config.fusion, pairs)


def fuse(firsts: Tensor, seconds: Tensor, fusion: str) -> Tensor:
    """Return what the recogniser sees of pairs of features.

    Parameters
    ----------
    firsts, seconds : Tensor, shape (B, P, C, h, w)
        Features of the first and second frames of P pairs.
    fusion : str
        See `MolConfig`.

    Returns
    -------
    Tensor, shape (B, M, C, h, w)
        M maps along time.
    """
    if fusion == "concatenate":
        return torch.stack([firsts, seconds], dim=2).flatten(1, 2)
    if fusion == "frames":
        return torch.cat([firsts, seconds[:, -1:]], dim=1)
    if fusion == "add":
        return firsts + seconds
    if fusion == "subtract":
        return seconds - firsts
    return firsts if fusion == "first" else seconds
