"""SelfME put together: motion, its amplification, and classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mer_prep.checks import check_range
from mer_prep.models.selfme.amplify import Amplifier
from mer_prep.models.selfme.config import SelfmeConfig
from mer_prep.models.selfme.equivariance import equivariance
from mer_prep.models.selfme.motion import Motion
from mer_prep.models.selfme.objective import rebuilding
from mer_prep.models.selfme.regions import face_midline
from mer_prep.models.selfme.transformer import MotionTransformer


@dataclass
class SelfmeOutput:
    """What SelfME gives for B pairs.

    Parameters
    ----------
    logits : Tensor, shape (B, n), or None
        Scores of the classes, before the softmax; None in the motion stage.
    features : Tensor, shape (B, 4, p), or None
        Features of the regions, each of length 1.
    attention : Tensor, shape (B, 4), or None
        How much each region counts; sums to 1.
    displacement : Tensor, shape (B, 2, S, S), or None
        Learned motion D in px; the pixel p of the apex was at ``p + D(p)`` in the onset.
    rebuilt : mapping of str to Tensor
        Losses of the motion stage by name.
    """

    logits: Tensor | None = None
    features: Tensor | None = None
    attention: Tensor | None = None
    displacement: Tensor | None = None
    rebuilt: dict[str, Tensor] = field(default_factory=dict)


class Selfme(nn.Module):
    """The whole of SelfME.

    Parameters
    ----------
    config : SelfmeConfig
        The architecture.
    classes : int
        Number of classes n, 2 or more.

    Notes
    -----
    The two stages have no gradient in common: classes never change the motion.
    """

    def __init__(self, config: SelfmeConfig, classes: int) -> None:
        super().__init__()
        check_range("classes", classes, low=2)
        self.config = config
        self.motion = Motion(config) if config.learned else None
        self.amplifier = Amplifier(gamma=config.gamma, jitter=config.jitter)
        self.transformer = MotionTransformer(config, classes)

    def forward(
        self,
        frames: Tensor,
        landmarks: Tensor,
        flow: Tensor | None = None,
        *,
        recognise: bool = True,
    ) -> SelfmeOutput:
        """Return classes, or the losses of the motion stage.

        Parameters
        ----------
        frames : Tensor, shape (B, 2, 3, S, S), float
            Onset and apex in [0, 1].
        landmarks : Tensor, shape (B, 2, 68, 2), float
            Landmarks (x, y) in px of both frames; faces are cut at the middle of those of the
            onset.
        flow : Tensor, shape (B, 1, 2, S, S), float, or None
            TV-L1 flow in px from onset to apex, needed by ``motion`` 'tvl1'.
        recognise : bool
            Whether classes are wanted; otherwise the motion stage is.

        Raises
        ------
        ValueError
            If flow is needed and not given, or the motion stage is wanted and there is none.
        """
        if not recognise:
            return self._rebuild(frames)
        if self.motion is None and flow is None:
            raise ValueError("motion = 'tvl1' needs optical flow")
        displacement, given = None, flow
        if self.motion is not None:
            with torch.no_grad():
                displacement = self.motion(*frames.unbind(1))[0]
            given = displacement[:, None]
        assert given is not None
        found = self.transformer(self.amplifier(given[:, 0]), self._midline(landmarks))
        return SelfmeOutput(found.logits, found.features, found.attention, displacement)

    def _midline(self, landmarks: Tensor) -> Tensor | None:
        return face_midline(landmarks[:, 0]) if self.config.midline == "landmarks" else None

    def _rebuild(self, frames: Tensor) -> SelfmeOutput:
        if self.motion is None:
            raise ValueError("motion = 'tvl1' has no motion stage")
        onset, apex = frames.float().unbind(1)
        displacement, seen, points = self.motion(onset, apex)
        losses = rebuilding(self.motion.rebuilder(onset, displacement, seen), apex)
        bend = "spline" if self.config.bspline == "equivariance" else "thin-plate"
        losses |= equivariance(self.motion.detector, apex, points, bend=bend)
        return SelfmeOutput(displacement=displacement, rebuilt=losses)
