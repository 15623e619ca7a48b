"""Stage ``magnify``: aligned frames with their motion magnified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError, ManifestError, MotionError
from mer_prep.manifest import Clip
from mer_prep.ops.magnify import METHODS, magnify
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.stages.key_frames import onset_index


@dataclass(frozen=True)
class MagnifyParams:
    """Parameters of the stage ``magnify``.

    Parameters
    ----------
    method : {'phase', 'linear'}
        Phase-based or linear Eulerian magnification.
    amplification : float
        The alpha of the papers, 0 to 100: motion from the onset becomes 1 + amplification times
        as large. 0 leaves the frames as they are.
    low_hz : float or None
        Lowest frequency of the temporal band in Hz; none for no band. A band needs the frames per
        second of the clip.
    high_hz : float or None
        Highest frequency of the temporal band in Hz; given together with `low_hz`.
    directions : int
        Directions of the steerable pyramid, 2 to 16, for the method `phase`.
    smoothing : float
        Smoothing of the change of phase in samples of a sub-band, 0 to 10, for the method `phase`.
    cutoff_wavelength : float
        Wavelength in px below which the method `linear` amplifies less, 0 to 1000; 0 for none.
    """

    method: str = "phase"
    amplification: float = 4.0
    low_hz: float | None = None
    high_hz: float | None = None
    directions: int = 8
    smoothing: float = 0.5
    cutoff_wavelength: float = 0.0

    def __post_init__(self) -> None:
        check_option("magnify.method", self.method, METHODS)
        check_range("magnify.amplification", self.amplification, low=0, high=100)
        check_range("magnify.directions", self.directions, low=2, high=16)
        check_range("magnify.smoothing", self.smoothing, low=0, high=10)
        check_range("magnify.cutoff_wavelength", self.cutoff_wavelength, low=0, high=1000)
        if (self.low_hz is None) != (self.high_hz is None):
            raise ConfigError(
                "A temporal band needs both ends.",
                where="magnify.low_hz, magnify.high_hz",
                hint="for example --set magnify.low_hz=1 --set magnify.high_hz=15",
            )
        if self.low_hz is not None and self.high_hz is not None:
            check_range("magnify.low_hz", self.low_hz, low=0)
            check_range("magnify.high_hz", self.high_hz, low=self.low_hz, open_low=True)

    @property
    def band(self) -> tuple[float, float] | None:
        """The temporal band in Hz, if there is one."""
        if self.low_hz is None or self.high_hz is None:
            return None
        return self.low_hz, self.high_hz


class Magnify(Stage):
    """Frames with the motion from the onset magnified; see `mer_prep.ops.magnify`."""

    name = "magnify"
    version = 1
    requires = ("align",)
    key_frames = ("onset", "fps")
    libraries = ("opencv", "scipy")
    fields = (
        Field(
            "frames",
            "uint8",
            "frame y x channel",
            "grey value",
            "red green blue",
            note="motion from the onset frame is 1 + amplification times as large",
        ),
    )
    Params: ClassVar[type] = MagnifyParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the magnified frames.

        Raises
        ------
        ManifestError
            If there is a temporal band and the clip does not say its frames per second.
        MotionError
            If a clip of this length has no frequency within the band.
        """
        band = self.params.band
        if band is not None and clip.fps is None:
            raise ManifestError(
                f"Clip {clip.clip_id} does not say its frames per second.",
                where=clip.root,
                why="a temporal band in Hz needs them",
                hint="import it with a column fps in the annotations, or leave out magnify.low_hz "
                "and magnify.high_hz",
            )
        reference = onset_index(clip, frames)
        try:
            magnified = magnify(
                inputs["align"]["frames"],
                method=self.params.method,
                amplification=self.params.amplification,
                reference=reference,
                fps=clip.fps,
                band=band,
                directions=self.params.directions,
                smoothing=self.params.smoothing,
                cutoff_wavelength=self.params.cutoff_wavelength,
            )
        except MotionError as error:
            raise MotionError(
                error.what, where=clip.clip_id, why=error.why, hint=error.hint
            ) from None
        facts: dict[str, str | int | float | bool] = {
            "method": self.params.method,
            "factor": 1 + self.params.amplification,
            "reference_frame": int(frames.numbers[reference]),
        }
        warnings: list[str] = []
        if band is not None and (np.diff(frames.numbers) != 1).any():
            warnings.append("Frames are missing; the temporal band takes them for equally spaced.")
        still = _why_still(inputs["align"]["frames"])
        if still:
            warnings.append(f"{still}: there is no motion to magnify.")
            facts["still"] = True
        return StageOutput({"frames": magnified}, facts, tuple(warnings))


def _why_still(frames: np.ndarray) -> str:
    """Return why nothing moves in the frames of a clip; an empty text if something does."""
    if len(frames) == 1:
        return "The clip has one frame"
    first = np.asarray(frames[0])
    # Of frames that move, two are read.
    if any((np.asarray(frames[index]) != first).any() for index in range(1, len(frames))):
        return ""
    return f"All {len(frames)} frames are the same"
