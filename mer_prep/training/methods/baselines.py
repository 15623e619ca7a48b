"""The small baselines as the training engine sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from mer_prep.models import htnet, off_apexnet, rcn, resnet18, ststnet, survey
from mer_prep.ops.face_parts import face_parts
from mer_prep.training.methods.base import StageArrays
from mer_prep.training.methods.picture import PictureMethod


class StstnetMethod(PictureMethod):
    """STSTNet."""

    name = "ststnet"
    Config = ststnet.StstnetConfig
    presets = ststnet.PRESETS
    Network = ststnet.Ststnet


class OffApexNetMethod(PictureMethod):
    """OFF-ApexNet."""

    name = "off-apexnet"
    Config = off_apexnet.OffApexNetConfig
    presets = off_apexnet.PRESETS
    Network = off_apexnet.OffApexNet

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        return f"u and v from onset to apex, {self.side}x{self.side}"


class RcnMethod(PictureMethod):
    """RCN-A."""

    name = "rcn-a"
    Config = rcn.RcnConfig
    presets = rcn.PRESETS
    Network = rcn.RcnA


class ResNet18Method(PictureMethod):
    """ResNet-18 on flow."""

    name = "resnet18"
    Config = resnet18.ResNet18Config
    presets = resnet18.PRESETS
    Network = resnet18.ResNet18


class HtnetMethod(PictureMethod):
    """A hierarchical transformer, after HTNet."""

    name = "htnet"
    Config = htnet.HtnetConfig
    presets = htnet.PRESETS
    Network = htnet.Htnet

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        of = " of eyes and mouth" if self.config.regions == "parts" else ""
        return f"u, v and strain{of} from onset to apex, {self.side}x{self.side}"

    def shown(
        self, arrays: StageArrays, onset: int, apex: int, landmarks: np.ndarray
    ) -> np.ndarray:
        """Return the parts of the face, where the onset has them, or the whole of it."""
        image = super().shown(arrays, onset, apex, landmarks)
        return face_parts(image, landmarks[onset]) if self.config.regions == "parts" else image


class SurveyMethod(PictureMethod):
    """The baseline of the survey: the apex frame, or u, v and strain in its place."""

    name = "survey"
    Config = survey.SurveyConfig
    presets = survey.PRESETS
    Network = survey.SurveyBaseline

    @property
    def sees_flow(self) -> bool:
        """Whether the model is fed on flow; otherwise the flow only says which frame is shown."""
        return bool(self.config.input == "flow")

    @property
    def input(self) -> str:
        """What it takes, as a phrase."""
        if self.sees_flow:
            return super().input
        return f"the apex frame in colour, {self.side}x{self.side}"

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        if self.sees_flow:
            return super().datasets()
        return {"align": ("frames", "landmarks"), "flow": ("flow", "pairs")}

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        needed: dict[str, Mapping[str, Any]] = {"flow": {"pairs": "onset-apex"}}
        if self.sees_flow:
            needed["motion-image"] = {"size": self.side, "normalise": "min-max"}
        return needed

    def shown(
        self, arrays: StageArrays, onset: int, apex: int, landmarks: np.ndarray
    ) -> np.ndarray:
        """Return the apex frame in colour, 0 to 255, or u, v and strain, 0 to 1."""
        if self.sees_flow:
            return super().shown(arrays, onset, apex, landmarks)
        frame = np.asarray(arrays["align"]["frames"][apex])
        return apex_picture(frame, side=self.side, gray=self.config.gray)


def apex_picture(frame: np.ndarray, *, side: int, gray: str) -> np.ndarray:
    """Return a frame as the survey's baseline sees it.

    Parameters
    ----------
    frame : ndarray, shape (H, W, 3), uint8
        Aligned frame, RGB; that of a grey recording has three equal channels.
    side : int
        Side S of the picture in px; it is made smaller by the mean over the area of a pixel.
    gray : {'replicate', 'r-only'}
        Whether a grey frame keeps three equal channels, or the red one alone.

    Returns
    -------
    ndarray, shape (3, S, S), float32
        Channels R, G, B, 0 to 255.
    """
    small = cv2.resize(frame.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    if gray == "r-only" and (frame == frame[..., :1]).all():
        small[..., 1:] = 0
    return np.ascontiguousarray(small.transpose(2, 0, 1))
