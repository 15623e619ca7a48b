"""Stage ``align``: upright faces of one size."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import NoFaceError
from mer_prep.manifest import Clip
from mer_prep.ops.similarity import (
    apply_transform,
    check_face_shape,
    compose,
    face_transform,
    five_points,
    point_jitter,
    scale_of,
    transform_jitter,
    warp,
)
from mer_prep.ops.stabilization import HeadFollower
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.base import Arrays, Field, Inputs, Stage, StageOutput, StageStream
from mer_prep.stages.key_frames import onset_index
from mer_prep.store.blocks import Blocks

MODES = ("stabilized", "onset", "median", "per-frame")

#: Frames after the onset that may stand in for it if it shows no face.
ONSET_SEARCH = 8

#: Part of the frames that may fail to register before another mode is recommended.
MANY_FAILURES = 0.25

#: Motion of the head over a clip, in aligned px, beyond which one transform is questionable.
MUCH_MOTION = 10.0


@dataclass(frozen=True)
class AlignParams:
    """Parameters of the stage ``align``.

    Parameters
    ----------
    size : int
        Side of the aligned frames in px, 16 to 1024.
    enlarge : float
        Side of the aligned square relative to the box of the five points, 1 to 10.
    mode : {'stabilized', 'onset', 'median', 'per-frame'}
        `stabilized`: the transform of the onset frame, from its landmarks, and for every other
        frame the same after its head motion is undone, which is measured by registration to the
        onset frame (shift, rotation and scale; see `mer_prep.ops.stabilization`). `onset`: that
        one transform for the whole clip, head motion and all. `median`: one transform from the
        median over time of every landmark. `per-frame`: one for every frame from its own
        landmarks, as the MOL recogniser was published; it adds the jitter of the landmarks, and
        of the expression itself, to the motion.
    border : int
        Grey value outside the source frame, 0 to 255.
    """

    size: int = 144
    enlarge: float = 2.5
    mode: str = "stabilized"
    border: int = 128

    def __post_init__(self) -> None:
        check_range("align.size", self.size, low=16, high=1024)
        check_range("align.enlarge", self.enlarge, low=1, high=10)
        check_option("align.mode", self.mode, MODES)
        check_range("align.border", self.border, low=0, high=255)


@dataclass(frozen=True)
class _Placed:
    """What a mode gives beside the frames: transforms (T, 2, 3), and what it has to say."""

    transforms: np.ndarray
    facts: Mapping[str, int | float]
    warnings: tuple[str, ...]


#: A mode gives the aligned frames one by one, (1, S, S, 3), in order, and then the rest.
_Frames = Generator[np.ndarray, None, _Placed]


class Align(Stage):
    """Warps every frame once, from source to aligned pixels; see `mer_prep.ops.similarity`."""

    name = "align"
    version = 5
    requires = ("landmarks",)
    reads_frames = True
    key_frames = ("onset",)
    libraries = ("opencv",)
    fields = (
        Field("frames", "uint8", "frame y x channel", "grey value", "red green blue"),
        Field(
            "landmarks",
            "float32",
            "frame point coordinate",
            "px",
            "x y",
            note="68 points of the iBUG 300-W scheme in aligned pixels; pixel centres",
        ),
        Field(
            "transform",
            "float64",
            "frame row column",
            "px",
            note="aligned = transform[:, :2] @ source + transform[:, 2]; points (x, y), pixel "
            "centres",
        ),
    )
    Params: ClassVar[type] = AlignParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        """Return the aligned frames, their landmarks and the transforms.

        Raises
        ------
        NoFaceError
            If the face that the transform is taken from is missing or impossible.
        """
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        """Return as `run` does, the frames one by one."""
        source = np.asarray(inputs["landmarks"]["landmarks"])
        detected = np.asarray(inputs["landmarks"]["detected"], bool)
        reference, warnings = self._reference_frame(clip, frames, detected)
        placed: list[_Placed] = []

        def aligned() -> Iterator[np.ndarray]:
            try:
                if self.params.mode == "stabilized":
                    mode = self._stabilized(frames, source, reference)
                else:
                    mode = self._by_landmarks(frames, source, detected, reference)
                placed.append((yield from mode))
            except NoFaceError as error:
                raise NoFaceError(
                    error.what, where=error.where or clip.clip_id, why=error.why, hint=error.hint
                ) from None

        def finish() -> StageOutput:
            (result,) = placed
            return self._output(frames, source, reference, result, warnings)

        shape = (len(frames), self.params.size, self.params.size, 3)
        return StageStream({"frames": Blocks(shape, np.uint8, aligned())}, finish)

    def _output(
        self,
        frames: ClipFrames,
        source: np.ndarray,
        reference: int,
        result: _Placed,
        warnings: tuple[str, ...],
    ) -> StageOutput:
        landmarks = np.stack(
            [apply_transform(*pair) for pair in zip(result.transforms, source, strict=True)]
        )
        return StageOutput(
            arrays={
                "landmarks": landmarks.astype(np.float32),
                "transform": result.transforms,
            },
            facts={
                "jitter_px": transform_jitter(result.transforms, five_points(source[reference])),
                "head_motion_px": head_motion(landmarks, reference),
                "landmark_jitter_px": point_jitter(landmarks),
                "reference_frame": int(frames.numbers[reference]),
                **result.facts,
            },
            warnings=(*warnings, *result.warnings),
        )

    def _stabilized(self, frames: ClipFrames, landmarks: np.ndarray, reference: int) -> _Frames:
        """Align by the reference frame's landmarks and the registration of all others to it."""
        onset = self._transform(landmarks[reference], frames.size)
        follower = HeadFollower(landmarks, reference)
        seen = 0
        if reference:
            # Of earlier frames the motion is known only once the reference has been seen.
            seen = reference + 1
            for image in islice(frames, seen):
                follower.see(image)
        for index, image in enumerate(frames):
            if index >= seen:
                follower.see(image)
            yield self._warp(image, compose(onset, follower.motions[index]))
        residuals = np.delete(follower.residuals, [reference, *follower.failures])
        return _Placed(
            transforms=np.stack([compose(onset, motion) for motion in follower.motions]),
            facts={
                "head_motion_px": scale_of(onset) * follower.head_motion(),
                "registration_residual": float(np.median(residuals)) if residuals.size else 0.0,
                "registration_failures": len(follower.failures),
                "registrations_by_neighbour": len(follower.chained),
            },
            warnings=failure_warnings(follower.failures, frames.numbers),
        )

    def _by_landmarks(
        self, frames: ClipFrames, landmarks: np.ndarray, detected: np.ndarray, reference: int
    ) -> _Frames:
        """Align by landmarks alone."""
        transforms = self._transforms(landmarks, detected, reference, frames.size)
        for image, transform in zip(frames, transforms, strict=True):
            yield self._warp(image, transform)
        placed = np.stack(
            [apply_transform(*pair) for pair in zip(transforms, landmarks, strict=True)]
        )
        warnings: tuple[str, ...] = ()
        motion = head_motion(placed, reference)
        if motion > MUCH_MOTION and self.params.mode != "per-frame":
            warnings = (
                f"The head is up to {motion:.0f} px away from where it is in frame "
                f"{frames.numbers[reference]}; one transform for the whole clip does not fit "
                "(--set align.mode=stabilized follows the head).",
            )
        return _Placed(transforms, {}, warnings)

    def _warp(self, image: np.ndarray, transform: np.ndarray) -> np.ndarray:
        return warp(image, transform, size=self.params.size, border=self.params.border)[None]

    def _reference_frame(
        self, clip: Clip, frames: ClipFrames, detected: np.ndarray
    ) -> tuple[int, tuple[str, ...]]:
        """Return the index of the frame whose face stands for the clip, and what to say of it."""
        onset = onset_index(clip, frames)
        if detected[onset]:
            return onset, ()
        shown = np.flatnonzero(detected)
        if self.params.mode not in ("stabilized", "onset"):
            return int(shown[np.abs(shown - onset).argmin()]), ()
        shown = shown[(shown > onset) & (shown <= onset + ONSET_SEARCH)]
        if not shown.size:
            raise NoFaceError(
                f"Neither the onset frame {frames.numbers[onset]} nor any of the next "
                f"{ONSET_SEARCH} frames shows a face.",
                where=clip.clip_id,
                why="the clip is aligned by the face of its onset frame",
                hint="check the onset, or use --set align.mode=median",
            )
        return int(shown[0]), (
            f"The onset frame {frames.numbers[onset]} shows no face; the clip is aligned by "
            f"frame {frames.numbers[shown[0]]}.",
        )

    def _transforms(
        self,
        landmarks: np.ndarray,
        detected: np.ndarray,
        reference: int,
        image_size: tuple[int, int],
    ) -> np.ndarray:
        """Return one transform a frame, shape (T, 2, 3)."""
        count = len(landmarks)
        if self.params.mode == "per-frame":
            return np.stack([self._transform(points, image_size) for points in landmarks])
        points = landmarks[reference]
        if self.params.mode == "median":
            points = np.median(landmarks[detected], axis=0)
        return np.repeat(self._transform(points, image_size)[None], count, axis=0)

    def _transform(self, landmarks: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
        check_face_shape(landmarks, image_size)
        return face_transform(landmarks, size=self.params.size, enlarge=self.params.enlarge)


def failure_warnings(failures: Mapping[int, str], numbers: Sequence[int]) -> tuple[str, ...]:
    """Return what to say of frames that could not be registered; nothing if there are none.

    Parameters
    ----------
    failures : mapping of int to str
        Reasons by index of the frame.
    numbers : sequence of int
        Numbers of all frames seen.
    """
    if not failures:
        return ()
    first = min(failures)
    sentence = (
        f"The head could not be followed in {len(failures)} of {len(numbers)} frames, which are "
        f"placed like their neighbours; the first is frame {numbers[first]}: {failures[first]}."
    )
    if len(failures) > MANY_FAILURES * len(numbers):
        sentence += (
            " With so many, --set align.mode=per-frame may serve better, at the price of jitter."
        )
    return (sentence,)


def head_motion(landmarks: np.ndarray, reference: int) -> float:
    """Return how far the head is from its place in a reference frame, at most, in aligned px.

    Parameters
    ----------
    landmarks : ndarray, shape (T, 68, 2)
        Landmarks in aligned px.
    reference : int
        Index of the reference frame.

    Returns
    -------
    float
        Largest distance over time of the mean of the five points.
    """
    centres = np.stack([five_points(points).mean(axis=0) for points in landmarks])
    return float(np.hypot(*(centres - centres[reference]).T).max())
