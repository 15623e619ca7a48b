"""Synthetic subjects: a portrait given another shape, skin, light and camera."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mer_prep.synth.fields import (
    GaussianField,
    invert_displacement,
    join_fields,
    sample,
    spline_weights,
    upsample,
)
from mer_prep.synth.landmarks import MIRROR, eye_centres, interocular_distance, mirror_landmarks
from mer_prep.synth.portraits import load_portrait, portrait_names

#: Canvas kept beyond each edge of the frame, in px, so that head motion never shows an end.
MARGIN = 32

#: Samples of the texture per px of the frame. Frames sample it bilinearly, which at this density
#: keeps both the sharpness and the place of details; OpenCV's bicubic kernel misplaces them by up
#: to 0.05 px.
SUPERSAMPLING = 3


@dataclass(frozen=True, slots=True)
class Trait:
    """One way in which faces differ: a smooth shift of some landmarks.

    Parameters
    ----------
    points : tuple of int
        Landmarks that are moved, on the picture's left and on the midline.
    vector : tuple of float
        Direction (right, down) of a positive value.
    sigma : float
        Width in interocular distances.
    reach : float
        Largest shift in interocular distances.
    """

    points: tuple[int, ...]
    vector: tuple[float, float]
    sigma: float
    reach: float


TRAITS: Mapping[str, Trait] = {
    "brow height": Trait((18, 20), (0.0, -1.0), 0.28, 0.05),
    "eye distance": Trait((37, 40), (-1.0, 0.0), 0.32, 0.05),
    "nose length": Trait((33,), (0.0, 1.0), 0.35, 0.06),
    "nose width": Trait((31,), (-1.0, 0.0), 0.2, 0.04),
    "mouth width": Trait((48,), (-1.0, 0.0), 0.28, 0.07),
    "upper lip": Trait((51,), (0.0, -1.0), 0.2, 0.03),
    "lower lip": Trait((57,), (0.0, 1.0), 0.2, 0.03),
    "cheek width": Trait((2,), (-1.0, 0.0), 0.5, 0.09),
    "jaw width": Trait((5,), (-1.0, 0.0), 0.45, 0.11),
    "chin length": Trait((8,), (0.0, 1.0), 0.5, 0.11),
}

#: Landmarks on the midline; a trait anchored there has no mirrored part.
_MIDLINE = frozenset(i for i, partner in enumerate(MIRROR) if partner == i)


@dataclass(frozen=True)
class Identity:
    """What makes a synthetic subject; everything else follows from it.

    Parameters
    ----------
    portrait : str
        Name of the portrait.
    mirrored : bool
        Whether the portrait is mirrored.
    traits : tuple of float
        Value in [-1, 1] of each of `TRAITS`, in their order.
    aspect : float
        Width over height of the face, relative to the portrait's.
    face_width : float
        Jaw width, relative to the reference width of the frame.
    roll : float
        Tilt of the head in radians.
    centre : tuple of float
        Centre of the landmarks, relative to the frame's width and height.
    skin : tuple of float
        Gains of red, green and blue.
    gamma : float
        Exponent of the tone curve.
    light : tuple of float
        Relative change of the light over the frame, rightwards and downwards.
    blur : float
        Sigma of the lens blur, px.
    noise : float
        Sigma of the sensor noise, grey levels.
    """

    portrait: str
    mirrored: bool
    traits: tuple[float, ...]
    aspect: float
    face_width: float
    roll: float
    centre: tuple[float, float]
    skin: tuple[float, float, float]
    gamma: float
    light: tuple[float, float]
    blur: float
    noise: float


def draw_identity(index: int, *, rng: np.random.Generator) -> Identity:
    """Draw the identity of a corpus's subject.

    Parameters
    ----------
    index : int
        Position of the subject in its corpus: neighbours have different portraits, and the
        portraits come mirrored every other round.
    rng : Generator
        Source of chance.
    """
    names = portrait_names()
    # Values near zero would leave two subjects alike, so they are not drawn.
    traits = rng.uniform(0.35, 1.0, len(TRAITS)) * rng.choice((-1.0, 1.0), len(TRAITS))
    warmth = rng.uniform(-0.07, 0.07)
    level = rng.uniform(0.78, 1.1)

    def draw(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 4)

    return Identity(
        portrait=names[index % len(names)],
        mirrored=bool(index // len(names) % 2),
        traits=tuple(round(float(value), 4) for value in traits),
        aspect=draw(0.93, 1.07),
        face_width=draw(0.9, 1.1),
        roll=draw(-0.05, 0.05),
        centre=(draw(0.47, 0.53), draw(-0.015, 0.015)),
        skin=(
            round(float(level * (1 + warmth)), 4),
            round(float(level), 4),
            round(float(level * (1 - warmth)), 4),
        ),
        gamma=draw(0.75, 1.3),
        light=(draw(-0.25, 0.25), draw(-0.1, 0.1)),
        blur=draw(0.55, 0.85),
        noise=draw(0.8, 1.6),
    )


@dataclass(frozen=True)
class Subject:
    """A neutral face, ready to be moved.

    Parameters
    ----------
    texture : ndarray, shape (3 * (H + 2 * MARGIN), 3 * (W + 2 * MARGIN)[, 3]), uint8
        The neutral face without noise, RGB or grey. Sample (i, j) shows the frame's point
        ``(j / SUPERSAMPLING - MARGIN, i / SUPERSAMPLING - MARGIN)``.
    landmarks : ndarray, shape (68, 2), float64
        Of the neutral face, in px of the frame.
    size : tuple of int
        Width and height of the frame in px.
    noise : float
        Sigma of the sensor noise, grey levels.
    """

    texture: np.ndarray
    landmarks: np.ndarray
    size: tuple[int, int]
    noise: float


def shape_field(identity: Identity, landmarks: np.ndarray) -> GaussianField:
    """Return the displacement that gives a portrait the identity's proportions.

    Parameters
    ----------
    identity : Identity
        Traits.
    landmarks : ndarray, shape (68, 2), float
        Of the portrait, px.
    """
    unit = interocular_distance(landmarks)
    fields = []
    for trait, value in zip(TRAITS.values(), identity.traits, strict=True):
        centres, vectors = [], []
        for point in trait.points:
            centres.append(landmarks[point])
            vectors.append(trait.vector)
            if point not in _MIDLINE:
                centres.append(landmarks[MIRROR[point]])
                vectors.append((-trait.vector[0], trait.vector[1]))
        sigmas = np.full((len(centres), 2), trait.sigma * unit)
        field = GaussianField(np.array(centres), np.array(vectors, dtype=float), sigmas)
        fields.append(field.scaled(value * trait.reach * unit / field.peak()))
    return join_fields(*fields)


@functools.lru_cache(maxsize=8)
def make_subject(identity: Identity, *, size: tuple[int, int], grey: bool) -> Subject:
    """Draw the neutral face of an identity.

    Parameters
    ----------
    identity : Identity
        Who.
    size : tuple of int
        Width and height of the frame in px. In an upright frame (a registered crop) the face
        fills most of the width; in a landscape frame its jaw is about half as wide as the frame
        is high.
    grey : bool
        Whether the camera is grey.

    Returns
    -------
    Subject
        Arrays are read-only and shared between calls.
    """
    portrait = load_portrait(identity.portrait)
    image, base = portrait.image, portrait.landmarks
    if identity.mirrored:
        base = mirror_landmarks(base, width=image.shape[1])
        image = np.ascontiguousarray(image[:, ::-1])
    field = shape_field(identity, base)
    shaped = base + field(base)
    placement = _placement(identity, shaped, size)
    landmarks = shaped @ placement[:, :2].T + placement[:, 2]

    texture = sample(
        _skin(image, identity, grey=grey),
        _portrait_points(field, placement, size),
        interpolation=cv2.INTER_CUBIC,
    )
    texture = _expose(texture, identity)
    texture.flags.writeable = landmarks.flags.writeable = False
    return Subject(texture, landmarks, size, identity.noise)


def _placement(identity: Identity, landmarks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the affine map (2, 3) from the shaped portrait to the frame."""
    width, height = size
    crop = height > width
    reference = 0.72 * width if crop else 0.48 * height
    face_width = reference * (1 + (identity.face_width - 1) * (0.4 if crop else 1.0))
    left, right = eye_centres(landmarks)
    tilt = identity.roll - np.arctan2(*(right - left)[::-1])
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    linear = turn @ np.diag([identity.aspect, 1.0])
    linear *= face_width / float(np.ptp((landmarks @ linear.T)[:17, 0]))
    low, high = (edge(landmarks @ linear.T, axis=0) for edge in (np.min, np.max))
    # The middle of the landmarks lies below the middle of the face: the forehead has none.
    sideways, lift = identity.centre
    sideways = 0.5 + (sideways - 0.5) * (0.3 if crop else 1.0)
    target = np.array([sideways * width, (0.58 + lift) * height])
    return np.column_stack([linear, target - (low + high) / 2])


def _portrait_points(
    field: GaussianField, placement: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Return the point of the portrait that each pixel of the texture shows, (H, W, 2) float32."""
    # The map is smooth: it is solved every eight px of the frame and interpolated between.
    step = 8
    nodes = [np.arange(-MARGIN, side + MARGIN + step, step, dtype=np.float64) for side in size]
    frame = np.stack(np.meshgrid(*nodes), axis=-1)
    shaped = (frame - placement[:, 2]) @ np.linalg.inv(placement[:, :2]).T
    coarse = invert_displacement(field, shaped)
    columns, rows = (
        spline_weights(
            len(node), np.arange((side + 2 * MARGIN) * SUPERSAMPLING) / (step * SUPERSAMPLING)
        )
        for node, side in zip(nodes, size, strict=True)
    )
    return upsample(coarse, rows, columns)


def _skin(image: np.ndarray, identity: Identity, *, grey: bool) -> np.ndarray:
    """Return the portrait with the identity's tone and colour, float32."""
    curve = 255 * (np.arange(256) / 255) ** identity.gamma
    seen = (curve[image] * np.array(identity.skin)).astype(np.float32)
    return cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY) if grey else seen


def _expose(texture: np.ndarray, identity: Identity) -> np.ndarray:
    """Return the texture in the identity's light and through its lens, uint8."""
    height, width = texture.shape[:2]
    rightwards = identity.light[0] * np.linspace(-0.5, 0.5, width, dtype=np.float32)
    downwards = identity.light[1] * np.linspace(-0.5, 0.5, height, dtype=np.float32)
    light = 1 + rightwards[None] + downwards[:, None]
    texture *= light[..., None] if texture.ndim == 3 else light
    texture = cv2.GaussianBlur(texture, (0, 0), identity.blur * SUPERSAMPLING)
    return cv2.convertScaleAbs(np.maximum(texture, 0, out=texture))
