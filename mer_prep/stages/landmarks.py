"""Stage ``landmarks``: the face of every frame and its 68 points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import DependencyError, NoFaceError
from mer_prep.manifest import Clip
from mer_prep.ops.faces import THRESHOLD, FaceFinder, dlib_version
from mer_prep.ops.predictor import predictor_digest, predictor_file
from mer_prep.ops.tracking import (
    FaceTrack,
    detect_every_frame,
    track_face,
)
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput

#: Predictions averaged in every frame by the settings that follow the face.
SAMPLES = {"fast": 1, "precise": 9}

PRECISIONS = (*SAMPLES, "published")


@dataclass(frozen=True)
class LandmarkParams:
    """Parameters of the stage ``landmarks``.

    Parameters
    ----------
    precision : {'fast', 'precise', 'published'}
        `fast`: the face is detected once and followed, with one prediction a frame. `precise`:
        the same with the mean of nine predictions, which jitters three to eight times less than
        `published` and takes three times as long as `fast`. `published`: the face is detected
        anew in every frame, enlarged twice, and landmarks are whole pixels, as in the scripts of
        published recognisers; ten times slower than `fast`, for comparison.
    min_face : float
        Smallest side of an accepted face relative to the shorter side of the frame, 0.02 to 1.
    recheck : int
        Frames after which a followed face is checked, 1 or more.
    predictor : str, optional
        File of the 68-point model; by default the one that is installed. Its content enters the
        key, not its path.
    """

    precision: str = "fast"
    min_face: float = 0.15
    recheck: int = 8
    predictor: str | None = field(default=None, metadata={"key": False})  # `identity` has it

    def __post_init__(self) -> None:
        check_option("landmarks.precision", self.precision, PRECISIONS)
        check_range("landmarks.min_face", self.min_face, low=0.02, high=1)
        check_range("landmarks.recheck", self.recheck, low=1, high=10**6)


class Landmarks(Stage):
    """Finds the face once and follows it; see `mer_prep.ops.tracking`."""

    name = "landmarks"
    version = 2
    reads_frames = True
    libraries = ("opencv",)
    fields = (
        Field(
            "landmarks",
            "float32",
            "frame point coordinate",
            "px",
            "x y",
            note="68 points of the iBUG 300-W scheme in source pixels; pixel centres; where "
            "'detected' is false, interpolated over time",
        ),
        Field("box", "float32", "frame edge", "px", "left top right bottom"),
        Field("detected", "bool", "frame", "unitless", note="whether the frame shows the face"),
        Field(
            "n_faces",
            "int16",
            "frame",
            "unitless",
            note="faces seen by the detector; -1 where it did not run, the face being followed",
        ),
        Field(
            "confidence",
            "float32",
            "frame",
            "unitless",
            note="score of dlib's detector: 0 or more for a face, typically 1 to 3, and -1 for "
            "frames without one; linear in time between the frames it looked at",
        ),
    )
    Params: ClassVar[type] = LandmarkParams

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._finder = FaceFinder(
            samples=SAMPLES.get(self.params.precision, 1),
            min_face=self.params.min_face,
            predictor=self.params.predictor,
        )

    def identity(self) -> dict[str, str]:
        """Return the version of dlib and the SHA-256 of the landmark model."""
        try:
            digest = predictor_digest(predictor_file(self.params.predictor))
        except DependencyError:
            digest = "missing"
        return {"dlib": dlib_version(), "predictor": digest}

    def check(self) -> None:
        """Raise `DependencyError` if dlib or its landmark model is missing."""
        self._finder.check()

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return landmarks, box, detected and n_faces of the frames seen.

        Raises
        ------
        NoFaceError
            If no frame shows a face.
        """
        size: list[int] = []

        def noting_size() -> Iterator[np.ndarray]:
            for image in frames:
                size[:] = image.shape[1::-1]
                yield image

        track = self._track(noting_size())
        if not track.detected.any():
            raise self._no_face(clip, len(frames), size)
        return StageOutput(
            arrays={
                "landmarks": interpolate_missing(track.landmarks, track.detected),
                "box": interpolate_missing(track.box, track.detected),
                "detected": track.detected,
                "n_faces": track.n_faces,
                "confidence": track.confidence,
            },
            facts={
                "detections": track.detections,
                "lost": track.lost,
                "frames_without_face": int((~track.detected).sum()),
                "lowest_confidence": float(track.confidence.min()),
            },
            warnings=tuple(_warnings(track, frames.numbers)),
        )

    def _track(self, images: Iterator[np.ndarray]) -> FaceTrack:
        if self.params.precision == "published":
            return detect_every_frame(self._finder, images)
        return track_face(self._finder, images, recheck=self.params.recheck)

    def _no_face(self, clip: Clip, count: int, size: list[int]) -> NoFaceError:
        shape = f"{size[0]}x{size[1]} px" if size else "no"
        smallest = self.params.min_face * min(size, default=0)
        return NoFaceError(
            f"No face was found in any of {count} frames ({shape}).",
            where=clip.clip_id,
            why=f"dlib's HOG detector found none with a score of {THRESHOLD:g} or more "
            f"and at least {smallest:.0f} px wide",
            hint="look at the frames; faces that are smaller are found with a lower "
            "--set landmarks.min_face=...",
        )


def interpolate_missing(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return values with the unknown frames filled in.

    Parameters
    ----------
    values : ndarray, shape (T, ...), float32
        Values over time; what stands at unknown frames does not matter.
    known : ndarray, shape (T,), bool
        Whether a frame's values are known; at least one is.

    Returns
    -------
    ndarray, shape (T, ...), float32
        Linear in time between known frames, constant before the first and after the last.
    """
    frames = np.arange(len(values))
    flat = values.reshape(len(values), -1)
    filled = np.stack(
        [np.interp(frames, frames[known], column[known]) for column in flat.T], axis=1
    )
    return np.where(known[:, None], flat, filled).astype(np.float32).reshape(values.shape)


def _warnings(track: FaceTrack, numbers: tuple[int, ...]) -> list[str]:
    sentences = []
    missing = np.flatnonzero(~track.detected)
    if missing.size:
        sentences.append(
            f"{missing.size} of {len(numbers)} frames show no face, the first is frame "
            f"{numbers[missing[0]]}; their landmarks are interpolated."
        )
    if track.lost:
        sentences.append(f"The face was lost {track.lost} times while it was followed.")
    if track.n_faces.max() > 1:
        index = int(track.n_faces.argmax())
        sentences.append(
            f"Frame {numbers[index]} shows {track.n_faces[index]} faces; "
            "the largest and most central one was taken."
        )
    return sentences
