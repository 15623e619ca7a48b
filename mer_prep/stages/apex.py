"""Stage ``apex``: onset, apex and offset found in the frames themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.manifest import Clip
from mer_prep.ops.apex import KeyFrames, divide_and_conquer, find_key_frames
from mer_prep.ops.expression_score import difference_score, flow_score, lbp_score
from mer_prep.ops.flow import METHODS as FLOW_METHODS
from mer_prep.ops.flow import flow_engine
from mer_prep.ops.tvl1 import ENGINES, check_engine
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.stages.flow import engine_identity
from mer_prep.stages.key_frames import KEY_FRAMES, onset_index

METHODS = ("flow", "divide-and-conquer", "frame-difference")

#: Frames per second of clips that do not say.
ASSUMED_FPS = 200.0

#: Smoothing of the binary search, which counts every peak, relative to that of the other methods.
SEARCH_SMOOTHING = 1.5

#: Confidence below which a spotted apex may be one of noise alone.
LOW_CONFIDENCE = 0.6


@dataclass(frozen=True)
class ApexParams:
    """Parameters of the stage ``apex``.

    Parameters
    ----------
    method : {'flow', 'divide-and-conquer', 'frame-difference'}
        `flow`: the peak of the main motion of the face against the onset frame, by far the most
        exact. `divide-and-conquer`: binary search among the peaks of local binary patterns, after
        Liong et al.; for comparison. `frame-difference`: the peak of grey-value
        differences to both ends of the clip, 30 times faster than `flow`.
    flow : {'dis', 'tvl1', 'farneback'}
        Flow of the method `flow`. TV-L1 places the apex no worse and takes four times as long,
        or far longer where its C engine was not built.
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        Implementation of the flow; see the stage ``flow``.
    eye_radius : float
        Radius around the eye centres that is covered so that blinks are not seen, in distances
        of the eye centres, 0 (nothing) to 0.5.
    smoothing : float
        Sigma of the Gaussian over time under which the peak is looked for, in seconds, 0 to 1;
        200 frames per second are assumed of clips that do not say, and a tenth of the clip is the
        most.
    """

    method: str = "flow"
    flow: str = "dis"
    engine: str = "auto"
    eye_radius: float = 0.35
    smoothing: float = 0.01

    def __post_init__(self) -> None:
        check_option("apex.method", self.method, METHODS)
        check_option("apex.flow", self.flow, FLOW_METHODS)
        check_option("apex.engine", self.engine, ENGINES)
        if self.engine != "auto":
            flow_engine(self.flow, self.engine)
        check_range("apex.eye_radius", self.eye_radius, low=0, high=0.5)
        check_range("apex.smoothing", self.smoothing, low=0, high=1)


class Apex(Stage):
    """Spots key frames in aligned frames; see `mer_prep.ops.expression_score` and `ops.apex`."""

    name = "apex"
    version = 1
    requires = ("align",)
    key_frames = KEY_FRAMES
    libraries = ("opencv", "scipy")
    fields = (
        Field(
            "score",
            "float32",
            "frame",
            "unitless",
            note="strength of the expression up to a constant; in noise of the flow, in "
            "dissimilarity of patterns, or in grey levels, by the method",
        ),
        Field(
            "key_frames",
            "int32",
            "key_frame",
            "frames",
            note="onset, apex, offset as found: zero-based indices into the frames of the stage "
            "'align'",
        ),
        Field("key_frame_numbers", "int64", "key_frame", "frame numbers", note="the same"),
        Field(
            "confidence",
            "float32",
            "clip",
            "unitless",
            note="how far the apex stands out of the noise, 0 to 1; 0 if nothing moves: the apex "
            "is then the midpoint",
        ),
    )
    Params: ClassVar[type] = ApexParams

    def __init__(self, params: ApexParams | None = None) -> None:
        super().__init__(params)
        # Resolved once, here: every worker of a run must use the engine that the keys name.
        engine = flow_engine(self.params.flow, self.params.engine)
        self.params = replace(self.params, engine=engine)

    def identity(self) -> dict[str, str]:
        """Return the engine of the flow, and the version of our own."""
        return engine_identity(self.params.engine) if self.params.method == "flow" else {}

    def check(self) -> None:
        """Raise `DependencyError` if the engine of TV-L1 asked for does not work here."""
        if self.params.method == "flow" and self.params.flow == "tvl1":
            check_engine(self.params.engine)

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the score of every frame and the key frames found in it."""
        aligned = inputs["align"]
        reference = onset_index(clip, frames)
        score, found = spot(
            aligned["frames"], aligned["landmarks"], self.params, reference=reference, fps=clip.fps
        )
        indices = np.array([found.onset, found.apex, found.offset], np.int32)
        numbers = np.array(frames.numbers, np.int64)[indices]
        facts: dict[str, str | int | float | bool] = {
            "method": self.params.method,
            "apex_source": "spotted" if found.confidence > 0 else "midpoint",
            "confidence": found.confidence,
        }
        for name, index, number in zip(KEY_FRAMES, indices, numbers, strict=True):
            facts[f"spotted_{name}"] = int(number)
            facts[f"spotted_{name}_index"] = int(index)
        return StageOutput(
            arrays={
                "score": score.astype(np.float32),
                "key_frames": indices,
                "key_frame_numbers": numbers,
                "confidence": np.array([found.confidence], np.float32),
            },
            facts={**facts, **annotation_errors(clip, frames, found)},
            warnings=_warnings(found, len(score)),
        )


def spot(
    frames: np.ndarray,
    landmarks: np.ndarray,
    params: ApexParams,
    *,
    reference: int = 0,
    fps: float | None = None,
) -> tuple[np.ndarray, KeyFrames]:
    """Return the score of every frame, (T,) float64, and the key frames found in it.

    Parameters
    ----------
    frames : ndarray, shape (T, S, S, 3) or (T, S, S), uint8
        Aligned frames.
    landmarks : ndarray, shape (T, 68, 2), float
        Landmarks in px of these frames.
    params : ApexParams
        Method and its parameters.
    reference : int
        Index of the onset, or of any neutral frame.
    fps : float, optional
        Frames per second; 200 if unknown.
    """
    if params.method == "flow":
        score = flow_score(
            frames,
            landmarks,
            reference=reference,
            eye_radius=params.eye_radius,
            method=params.flow,
            engine=params.engine,
        )
    else:
        of_frames = lbp_score if params.method == "divide-and-conquer" else difference_score
        score = of_frames(frames, landmarks, reference=reference, eye_radius=params.eye_radius)
    smoothing = smoothing_frames(params.smoothing, fps, len(score))
    if params.method == "divide-and-conquer":
        return score, divide_and_conquer(score, smoothing=SEARCH_SMOOTHING * smoothing)
    return score, find_key_frames(score, smoothing=smoothing)


def smoothing_frames(seconds: float, fps: float | None, count: int) -> float:
    """Return the sigma of the smoothing over time in frames.

    Parameters
    ----------
    seconds : float
        Sigma in seconds.
    fps : float, optional
        Frames per second; 200 if unknown.
    count : int
        Number of frames; a tenth of it is the most.
    """
    return min(seconds * (ASSUMED_FPS if fps is None else fps), count / 10)


def annotation_errors(clip: Clip, frames: ClipFrames, found: KeyFrames) -> dict[str, int]:
    """Return found minus annotated index of each key frame that is annotated and seen.

    Returns
    -------
    dict of str to int
        ``onset_error``, ``apex_error`` and ``offset_error`` in frames, positive if found later.
    """
    errors = {}
    for name in KEY_FRAMES:
        number = getattr(clip, name)
        if number not in frames.numbers or (name == "apex" and clip.apex_source != "annotated"):
            continue
        errors[f"{name}_error"] = getattr(found, name) - frames.numbers.index(number)
    return errors


def _warnings(found: KeyFrames, count: int) -> tuple[str, ...]:
    if found.confidence == 0:
        why = "Nothing moves" if count > 2 else f"There are only {count} frames"
        return (f"{why}; the midpoint stands for the apex.",)
    if found.confidence < LOW_CONFIDENCE:
        return (
            f"The apex hardly stands out of the noise (confidence {found.confidence:.2f}); look at "
            "the score before you rely on it.",
        )
    return ()
