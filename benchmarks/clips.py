"""Synthetic clips of one face, written as JPEG files and read back as the program reads them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import Align, AlignParams
from mer_prep.stages.base import Arrays
from mer_prep.stages.landmarks import LandmarkParams, Landmarks
from mer_prep.synth.clips import Scene, render_frames, scene_truth
from mer_prep.synth.corpus import encode_frame
from mer_prep.synth.fields import GaussianField
from mer_prep.synth.identity import draw_identity
from mer_prep.synth.truth import ClipTruth

#: Expressions in the order in which clips take them: happiness, surprise, anger.
ACTION_UNITS = ("6+12", "1+2+26", "4+7")

FPS = 200.0

VGA = (640, 480)
MEGAPIXELS = (2040, 1088)

#: Standard deviation of the camera noise, grey levels.
NOISE = 1.5


@dataclass(frozen=True)
class Film:
    """A clip on disk with its truth, and the paths of its frames in order."""

    name: str
    clip: Clip
    truth: ClipTruth
    paths: tuple[Path, ...]

    def frames(self) -> ClipFrames:
        """Return the frames, of which none is decoded yet."""
        return ClipFrames(self.clip, 0, len(self.paths))


def make_scene(
    face: int,
    *,
    frames: int,
    step: int = 1,
    size: tuple[int, int] = VGA,
    amplitude: float = 1.0,
    head_motion: float = 2.0,
    blinks: bool = False,
    flicker: float = 0.0,
    take: int = 0,
) -> Scene:
    """Return the scene of a face.

    Parameters
    ----------
    face : int
        Number of the face: neighbours come from other portraits, all have other proportions.
    frames, step : int
        Number of frames, and the frames of the camera from one to the next.
    size : tuple of int
        Width and height in px.
    amplitude : float
        Peak of the expression, px at 144x144.
    head_motion : float
        Scale of the head motion; at 2 up to about 3 px at 144x144 and about 1 degree.
    blinks : bool
        Whether the face blinks.
    flicker : float
        Relative amplitude of the light's flicker.
    take : int
        Number of the take: other expression, motion and noise.
    """
    numbers = tuple(range(0, frames * step, step))
    return Scene(
        identity=draw_identity(face, rng=np.random.default_rng([7, face])),
        size=size,
        grey=False,
        numbers=numbers,
        onset=numbers[0],
        apex=numbers[len(numbers) // 2],
        offset=numbers[-1],
        fps=FPS,
        emotion="happiness",
        action_units=ACTION_UNITS[(face + take) % len(ACTION_UNITS)],
        amplitude=amplitude,
        head_motion=head_motion,
        blinks=blinks,
        noise=NOISE,
        flicker=flicker,
        seed=(7, face, take),
    )


def shoot(folder: Path, name: str, scene: Scene, *, truth: ClipTruth | None = None) -> Film:
    """Render a scene as JPEG files of quality 95 into ``folder/name``."""
    truth = scene_truth(scene) if truth is None else truth
    (folder / name).mkdir(parents=True)
    relative = tuple(f"{name}/img{number:04d}.jpg" for number in scene.numbers)
    for path, image in zip(relative, render_frames(scene, truth), strict=True):
        (folder / path).write_bytes(encode_frame(image, ".jpg"))
    clip = Clip(
        clip_id=f"bench/{name}/{name}",
        corpus="bench",
        subject=name,
        clip=name,
        root=str(folder),
        frame_numbers=scene.numbers,
        frames=relative,
        fps=scene.fps,
        onset=scene.onset,
        apex=scene.apex,
        offset=scene.offset,
        apex_source="annotated",
        synthetic=True,
    )
    return Film(name, clip, truth, tuple(folder / path for path in relative))


def with_yaw(scene: Scene, *, degrees: float) -> ClipTruth:
    """Return the truth of a scene whose head also turns about its vertical axis, and back.

    What lies in front of the axis moves sideways by its depth times the sine of the angle. The
    depth is a bump of 0.45 face widths (sigma 0.35) and a nose of 0.12 (sigma 0.08), a coarse
    model that no two-dimensional motion can undo. It takes the place of the blink.
    """
    truth = scene_truth(scene)
    points = np.asarray(truth.landmarks[0], np.float64)
    width = float(np.ptp(points[:17, 0]))
    sideways = np.sin(np.deg2rad(degrees)) * width
    yaw = GaussianField(
        np.stack([points.mean(axis=0), points[30]]),
        np.array([[0.45 * sideways, 0.0], [0.12 * sideways, 0.0]]),
        np.array([[0.35 * width] * 2, [0.08 * width] * 2]),
    )
    phase = np.arange(len(scene.numbers)) / max(len(scene.numbers) - 1, 1)
    turned = dataclasses.replace(truth, blink=yaw, blink_course=np.sin(np.pi * phase) ** 2)
    neutral = scene_truth(dataclasses.replace(scene, amplitude=0.0, head_motion=0.0, blinks=False))
    landmarks = [turned.from_neutral(neutral.landmarks[0], number) for number in scene.numbers]
    return dataclasses.replace(turned, landmarks=np.stack(landmarks).astype(np.float32))


@dataclass(frozen=True)
class Prepared:
    """What the stages gave for a clip: landmarks, alignment, and the facts of both."""

    landmarks: Arrays
    aligned: Arrays
    facts: dict[str, object]


def find_landmarks(clip: Clip, frames: ClipFrames, params: LandmarkParams | None = None) -> Arrays:
    """Run the stage ``landmarks``."""
    return Landmarks(params).run(clip, frames, {}).arrays


def prepare(
    clip: Clip, frames: ClipFrames, *, params: LandmarkParams | None = None, mode: str | None = None
) -> Prepared:
    """Run the stages ``landmarks`` and ``align``, as the program does."""
    found = Landmarks(params).run(clip, frames, {})
    align = Align(None if mode is None else AlignParams(mode=mode))
    aligned = align.run(clip, frames, {"landmarks": found.arrays})
    return Prepared(found.arrays, aligned.arrays, {**found.facts, **aligned.facts})
