"""One synthetic clip: who moves how, the truth of it, and its frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from mer_prep.errors import ConfigError
from mer_prep.synth.action_units import blink_field, expression_field
from mer_prep.synth.fields import (
    empty_field,
    invert_displacement,
    join_fields,
    sample,
    spline_weights,
    upsample,
)
from mer_prep.synth.identity import MARGIN, SUPERSAMPLING, Identity, Subject, make_subject
from mer_prep.synth.landmarks import aligned_scale
from mer_prep.synth.motion import (
    blink_course,
    draw_head_motion,
    expression_course,
    flicker_course,
)
from mer_prep.synth.truth import ClipTruth

#: Accuracy to which the rendered motion is solved, px.
_TOLERANCE = 1e-4

#: Beyond this many sigmas from every pull, motion is below 0.001 px and not rendered.
_SUPPORT = 4.2


@dataclass(frozen=True)
class Scene:
    """What happens in a clip; with `seed` it fixes every pixel.

    Parameters
    ----------
    identity : Identity
        Who is seen.
    size : tuple of int
        Width and height of the frames in px.
    grey : bool
        Whether the camera is grey.
    numbers : tuple of int
        Ascending frame numbers of the frames that are rendered.
    onset, apex, offset : int
        Key frames, ``onset < apex < offset``.
    fps : float
        Frames per second.
    emotion : str
        Emotion, kept with the truth.
    action_units : str
        Coding, e.g. ``6+12``.
    strengths : dict of int to float
        Relative strengths of the action units.
    amplitude : float
        Largest displacement of the expression in px at 144x144.
    head_motion : float
        Scale of the rigid head motion; 0 for none.
    blinks : bool
        Whether the subject blinks once.
    noise : float, optional
        Sigma of the sensor noise in grey levels; the identity's own if None.
    flicker : float
        Relative change of the light over the frames.
    seed : tuple of int
        Seed of head motion, blink, flicker and noise.
    """

    identity: Identity
    size: tuple[int, int]
    grey: bool
    numbers: tuple[int, ...]
    onset: int
    apex: int
    offset: int
    fps: float
    emotion: str
    action_units: str
    strengths: dict[int, float] = field(default_factory=dict)
    amplitude: float = 1.0
    head_motion: float = 1.0
    blinks: bool = False
    noise: float | None = None
    flicker: float = 0.0
    seed: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.onset < self.apex < self.offset:
            raise ConfigError(f"Key frames must ascend: {self.onset}, {self.apex}, {self.offset}.")


def scene_truth(scene: Scene) -> ClipTruth:
    """Return the truth of a scene; its frames need not be rendered for it."""
    subject = make_subject(scene.identity, size=scene.size, grey=scene.grey)
    scale = aligned_scale(subject.landmarks)
    numbers = np.array(scene.numbers)
    duration = scene.offset - scene.onset + 1
    motion = draw_head_motion(
        np.random.default_rng([*scene.seed, 1]),
        frames=duration,
        scale=scene.head_motion,
        px=1 / scale,
    )
    head = motion.matrices(numbers, onset=scene.onset, centre=subject.landmarks.mean(axis=0))
    rng = np.random.default_rng([*scene.seed, 2])
    blink = blink_course(
        numbers,
        centre=float(rng.uniform(scene.onset, scene.offset)),
        length=max(0.17 * scene.fps, 4.0),
    )
    truth = ClipTruth(
        numbers=numbers,
        landmarks=np.empty((len(numbers), *subject.landmarks.shape), np.float32),
        expression=expression_field(
            scene.action_units,
            subject.landmarks,
            peak=scene.amplitude / scale,
            strengths=scene.strengths,
        ),
        expression_course=expression_course(
            numbers, onset=scene.onset, apex=scene.apex, offset=scene.offset
        ),
        blink=blink_field(subject.landmarks) if scene.blinks else empty_field(),
        blink_course=blink if scene.blinks else np.zeros(len(numbers)),
        head_motion=head,
        size=scene.size,
        facts={
            "onset": scene.onset,
            "apex": scene.apex,
            "offset": scene.offset,
            "fps": scene.fps,
            "emotion": scene.emotion,
            "action_units": scene.action_units,
            "amplitude": scene.amplitude,
            "aligned_scale": scale,
            "blinks": scene.blinks,
            "flicker": scene.flicker,
            "noise": subject.noise if scene.noise is None else scene.noise,
            "portrait": scene.identity.portrait,
            "mirrored": scene.identity.mirrored,
            "seed": scene.seed[0],
        },
    )
    for position, number in enumerate(scene.numbers):
        truth.landmarks[position] = truth.from_neutral(subject.landmarks, number)
    return truth


def render_frames(scene: Scene, truth: ClipTruth | None = None) -> Iterator[np.ndarray]:
    """Yield the frames of a scene in the order of their numbers.

    Each frame shows at x + d what the neutral face shows at x, with d the truth's displacement
    inverted to better than 0.001 px; noise, light and rounding to 8 bits come last.

    Yields
    ------
    ndarray, shape (H, W, 3) or (H, W), uint8
        RGB, or grey.
    """
    truth = scene_truth(scene) if truth is None else truth
    subject = make_subject(scene.identity, size=scene.size, grey=scene.grey)
    renderer = _Renderer(subject, truth)
    light = flicker_course(
        len(truth.numbers), flicker=scene.flicker, rng=np.random.default_rng([*scene.seed, 3])
    )
    for position, number in enumerate(scene.numbers):
        # Seeded by frame number, so that a frame is the same however many are rendered with it.
        rng = np.random.default_rng([*scene.seed, 4, number])
        yield _expose(
            renderer.frame(position),
            gain=float(light[position]),
            noise=float(truth.facts["noise"]),
            rng=rng,
        )


def _expose(
    image: np.ndarray, *, gain: float, noise: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the frame in its light and with noise, the same in the three channels."""
    exposed = image.astype(np.float32)
    exposed *= np.float32(gain)
    if noise:
        grain = np.float32(noise) * rng.standard_normal(image.shape[:2], np.float32)
        exposed += grain[..., None] if image.ndim == 3 else grain
    # Rounds and saturates in one pass.
    return cv2.convertScaleAbs(np.maximum(exposed, 0, out=exposed))


class _Renderer:
    """Renders the frames of a clip, keeping what they share."""

    def __init__(self, subject: Subject, truth: ClipTruth) -> None:
        self._texture = subject.texture
        self._truth = truth
        self._region = _support(truth)
        if self._region is not None:
            self._rows, self._columns = (
                spline_weights(_nodes(part), np.arange(part.stop - part.start) / part.step)
                for part in self._region
            )

    def frame(self, position: int) -> np.ndarray:
        """Return the frame without noise."""
        width, height = self._truth.size
        matrix = self._truth.head_motion[position]
        back = np.linalg.inv(matrix[:, :2])
        origin = back @ -matrix[:, 2] + MARGIN
        # The sample of the texture behind each pixel, first without facial motion.
        points = np.empty((height, width, 2), np.float32)
        for axis in (0, 1):
            along_y = SUPERSAMPLING * (back[axis, 1] * np.arange(height) + origin[axis])
            along_x = SUPERSAMPLING * back[axis, 0] * np.arange(width)
            np.add.outer(along_y, along_x, out=points[..., axis], casting="same_kind")
        if self._region is not None and self._moves(position):
            rows, columns = self._region
            area = (slice(rows.start, rows.stop), slice(columns.start, columns.stop))
            points[area] += SUPERSAMPLING * self._correction(position)
        return sample(self._texture, points, interpolation=cv2.INTER_LINEAR)

    def _moves(self, position: int) -> bool:
        truth = self._truth
        return bool(truth.expression_course[position] or truth.blink_course[position])

    def _correction(self, position: int) -> np.ndarray:
        """Return neutral point minus rigidly moved-back pixel in the region, (h, w, 2) float32."""
        assert self._region is not None
        number = int(self._truth.numbers[position])
        rows, columns = (part.start + part.step * np.arange(_nodes(part)) for part in self._region)
        pixels = np.stack(np.meshgrid(columns, rows), axis=-1).astype(np.float64)
        matrix = self._truth.head_motion[position]
        still = (pixels - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        neutral = invert_displacement(
            lambda points: self._truth.displacement(points, number), still, tolerance=_TOLERANCE
        )
        return upsample(neutral - still, self._rows, self._columns)


def _nodes(part: slice) -> int:
    """Return the number of nodes that cover a range of pixels, at least the four of a cubic."""
    return max(-(-(part.stop - 1 - part.start) // part.step) + 1, 4)


def _support(truth: ClipTruth) -> tuple[slice, slice] | None:
    """Return the rows and columns that facial motion reaches, stepped by the nodes' distance."""
    field = join_fields(truth.expression, truth.blink)
    if not len(field.centres):
        return None
    reach = _SUPPORT * field.sigmas
    # A few px more: the head carries the support along.
    low = np.floor((field.centres - reach).min(axis=0) - MARGIN / 2).astype(int)
    high = np.ceil((field.centres + reach).max(axis=0) + MARGIN / 2).astype(int)
    step = max(int(field.sigmas.min() / 3), 1)
    columns, rows = (
        slice(max(int(a), 0), min(int(b), side), step)
        for a, b, side in zip(low, high, truth.size, strict=True)
    )
    return rows, columns
