"""SelfME put together: motion, its amplification, and classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mer_prep.checks import check_range
from mer_prep.models.selfme.amplify import Amplifier
from mer_prep.models.selfme.config import SelfmeConfig
from mer_prep.models.selfme.regions import face_midline
from mer_prep.models.selfme.transformer import MotionTransformer


@dataclass
class SelfmeOutput:
    """What SelfME gives for B pairs.

    Parameters
    ----------
    logits : Tensor, shape (B, n), or None
        Scores of the classes, before the softmax.
    features : Tensor, shape (B, 4, p), or None
        Features of the regions, each of length 1.
    attention : Tensor, shape (B, 4), or None
        How much each region counts; sums to 1.
    """

    logits: Tensor | None = None
    features: Tensor | None = None
    attention: Tensor | None = None


class Selfme(nn.Module):
    """The whole of SelfME.

    Parameters
    ----------
    config : SelfmeConfig
        The architecture.
    classes : int
        Number of classes n, 2 or more.
    """

    def __init__(self, config: SelfmeConfig, classes: int) -> None:
        super().__init__()
        check_range("classes", classes, low=2)
        self.config = config
        self.amplifier = Amplifier(gamma=config.gamma, jitter=config.jitter)
        self.transformer = MotionTransformer(config, classes)

    def forward(
        self, frames: Tensor, landmarks: Tensor, flow: Tensor | None = None
    ) -> SelfmeOutput:
        """Return classes.

        Parameters
        ----------
        frames : Tensor, shape (B, 2, 3, S, S), float
            Onset and apex in [0, 1].
        landmarks : Tensor, shape (B, 2, 68, 2), float
            Landmarks (x, y) in px of both frames.
        flow : Tensor, shape (B, 1, 2, S, S), float, or None
            TV-L1 flow in px from onset to apex, needed by ``motion`` 'tvl1'.
        """
        if flow is None:
            raise ValueError("motion = 'tvl1' needs optical flow")
        found = self.transformer(self.amplifier(flow[:, 0]), self.midline(landmarks))
        return SelfmeOutput(found.logits, found.features, found.attention)

    def midline(self, landmarks: Tensor) -> Tensor | None:
        """Return the column (B,) at which faces are cut, px; None for the middle of the picture."""
        return face_midline(landmarks[:, 0]) if self.config.midline == "landmarks" else None
