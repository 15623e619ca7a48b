"""Synthetic clips of known onset, apex and offset, prepared by the stages landmarks and align."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_prep.manifest import Clip
from mer_prep.ops.images import to_grey
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import Align
from mer_prep.stages.landmarks import Landmarks
from mer_prep.synth.action_units import EMOTIONS, draw_coding
from mer_prep.synth.clips import Scene, render_frames
from mer_prep.synth.identity import draw_identity

#: Conditions in the order in which clips take them, so that half of the clips blink: what moves
#: besides the face and the noise of the camera.
CONDITIONS = (
    *("still", "blink", "motion", "all", "flicker", "blink"),
    *("still", "all", "motion", "blink", "flicker", "all"),
)

#: Frames from onset to offset, and neutral frames before and after them.
EXPRESSION = 60
NEUTRAL = 20
FPS = 200.0

#: Relative change of the light where it flickers.
FLICKER = 0.02


@dataclass(frozen=True)
class PreparedClip:
    """A clip as the stage ``apex`` sees it.

    Parameters
    ----------
    name, condition, portrait : str
        What it shows.
    onset, apex, offset : int
        True key frames, counted from the first frame of `recording`.
    expression : ndarray, shape (60, 144, 144), uint8
        Aligned grey frames from onset to offset.
    expression_landmarks : ndarray, shape (60, 68, 2), float32
        Landmarks in px of these frames.
    recording : ndarray, shape (100, 144, 144), uint8
        The same with neutral frames on both sides, aligned with no key frame known.
    recording_landmarks : ndarray, shape (100, 68, 2), float32
        Landmarks in px of these frames.
    """

    name: str
    condition: str
    portrait: str
    onset: int
    apex: int
    offset: int
    expression: np.ndarray
    expression_landmarks: np.ndarray
    recording: np.ndarray
    recording_landmarks: np.ndarray


class RenderedFrames(ClipFrames):
    """Frames that are in memory already."""

    def __init__(self, clip: Clip, images: list[np.ndarray], start: int, stop: int) -> None:
        super().__init__(clip, start, stop)
        self._kept = dict(enumerate(images[start:stop]))
        height, width = images[start].shape[:2]
        self._size = (height, width)


def draw_scene(index: int, *, seed: int) -> tuple[Scene, str]:
    """Return the scene of one clip and its condition; every clip has a subject of its own.

    Parameters
    ----------
    index : int
        Number of the clip; neighbours have different portraits.
    seed : int
        Seed of the whole set.
    """
    condition = CONDITIONS[index % len(CONDITIONS)]
    rng = np.random.default_rng([seed, index])
    emotion = tuple(EMOTIONS)[int(rng.integers(len(EMOTIONS)))]
    coding, strengths = draw_coding(emotion, rng)
    return (
        Scene(
            # Conditions and portraits both have an even period; the shift keeps them apart.
            identity=draw_identity(index + index // len(CONDITIONS), rng=rng),
            size=(640, 480),
            grey=False,
            numbers=tuple(range(EXPRESSION + 2 * NEUTRAL)),
            onset=NEUTRAL,
            apex=NEUTRAL + int(rng.integers(18, 43)),
            offset=NEUTRAL + EXPRESSION - 1,
            fps=FPS,
            emotion=emotion,
            action_units=coding,
            strengths=strengths,
            amplitude=float(rng.uniform(0.5, 1.5)),
            head_motion=1.0 if condition in ("motion", "all") else 0.0,
            blinks=condition in ("blink", "all"),
            flicker=FLICKER if condition in ("flicker", "all") else 0.0,
            seed=(seed, index),
        ),
        condition,
    )


def prepare(index: int, *, seed: int, folder: Path) -> PreparedClip:
    """Render and align one clip, or read it if `folder` has it.

    Parameters
    ----------
    index, seed : int
        See `draw_scene`.
    folder : Path
        Where prepared clips are kept; what they depend on is part of their name.
    """
    scene, condition = draw_scene(index, seed=seed)
    digest = hashlib.sha256(f"{scene} {Landmarks.version} {Align.version}".encode()).hexdigest()
    path = folder / f"{digest[:16]}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, **_render(scene))
        partial.replace(path)
    with np.load(path) as arrays:
        return PreparedClip(
            name=f"{seed}/{index:03d} {scene.action_units}",
            condition=condition,
            portrait=scene.identity.portrait,
            onset=scene.onset,
            apex=scene.apex,
            offset=scene.offset,
            **{name: arrays[name] for name in arrays},
        )


def _render(scene: Scene) -> dict[str, np.ndarray]:
    images = list(render_frames(scene))
    facts = {
        "clip_id": "benchmark/s1/clip",
        "corpus": "benchmark",
        "subject": "s1",
        "clip": "clip",
        "root": "/",
        "frame_numbers": scene.numbers,
        "frames": tuple(f"{number}.png" for number in scene.numbers),
    }
    known = Clip(**facts, onset=scene.onset, offset=scene.offset)
    arrays = {}
    for name, clip in (("expression", known), ("recording", Clip(**facts))):
        frames = RenderedFrames(clip, images, *clip.expression_span())
        found = Landmarks().run(clip, frames, {}).arrays
        aligned = Align().run(clip, frames, {"landmarks": found}).arrays
        arrays[name] = np.stack([to_grey(image) for image in aligned["frames"]])
        arrays[f"{name}_landmarks"] = aligned["landmarks"]
    return arrays
