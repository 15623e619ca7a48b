"""Pairs of aligned faces whose motion is known, for timing and comparing engines of flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import face_transform, warp
from mer_prep.synth.portraits import load_portrait, portrait_names

#: Motion (u, v) in px of the points (x, y).
Motion = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

SIZE = 144
CENTRE = (SIZE - 1) / 2


@dataclass(frozen=True)
class Pair:
    """Two grey pictures (144, 144) uint8, and the true flow (2, 144, 144) float64 in px."""

    name: str
    first: np.ndarray
    second: np.ndarray
    flow: np.ndarray


def local(peak: float, centre: tuple[int, int], degrees: float, *, sigma: float = 12.0) -> Motion:
    """Return a bump of motion: `peak` px at `centre`, in one direction, Gaussian around it."""
    across, down = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))

    def motion(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        square = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        bump = peak * np.exp(-square / (2 * sigma**2))
        return across * bump, down * bump

    return motion


def shift(u: float, v: float) -> Motion:
    """Return the same motion everywhere."""
    return lambda x, y: (np.full_like(x, u), np.full_like(y, v))


def rotation(degrees: float) -> Motion:
    """Return a rotation about the middle of the picture."""
    cosine, sine = np.cos(np.deg2rad(degrees)) - 1, np.sin(np.deg2rad(degrees))
    return lambda x, y: (
        cosine * (x - CENTRE) - sine * (y - CENTRE),
        sine * (x - CENTRE) + cosine * (y - CENTRE),
    )


#: The motions of a portrait, by name.
MOTIONS: dict[str, Motion] = {
    "noise alone": shift(0, 0),
    "local 0.5 px": local(0.5, (60, 100), 40),
    "local 1 px": local(1, (85, 100), 115),
    "local 1.5 px": local(1.5, (50, 50), -57),
    "local 2 px": local(2, (70, 100), 86),
    "local 3 px": local(3, (90, 50), 172),
    "shift 0.42 px": shift(0.3, -0.3),
    "rotation 1 degree": rotation(1),
}


def aligned_face(name: str) -> np.ndarray:
    """Return a portrait as an aligned grey face, (144, 144) uint8."""
    portrait = load_portrait(name)
    return to_grey(warp(np.array(portrait.image), face_transform(portrait.landmarks)))


def move(face: np.ndarray, motion: Motion) -> tuple[np.ndarray, np.ndarray]:
    """Return the moved picture, float32, and the flow of every pixel, (2, H, W) float64."""
    y, x = np.mgrid[: face.shape[0], : face.shape[1]].astype(np.float64)
    from_x, from_y = x, y
    for _ in range(30):  # a fixed point: the pixel that moves to (x, y)
        u, v = motion(from_x, from_y)
        from_x, from_y = x - u, y - v
    moved = cv2.remap(
        face.astype(np.float32),
        from_x.astype(np.float32),
        from_y.astype(np.float32),
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return moved, np.stack(motion(x, y))


def known_pairs(*, noise: float = 1.2, seed: int = 0) -> list[Pair]:
    """Return every portrait with every motion, and normal noise on both pictures.

    Parameters
    ----------
    noise : float
        Standard deviation of the noise, grey levels.
    seed : int
        Seed of the noise.
    """
    pairs = []
    for order, portrait in enumerate(portrait_names()):
        face = aligned_face(portrait)
        for index, (name, motion) in enumerate(MOTIONS.items()):
            rng = np.random.default_rng([seed, order, index])
            moved, flow = move(face, motion)
            first, second = (
                np.clip(np.rint(one + rng.normal(0, noise, one.shape)), 0, 255).astype(np.uint8)
                for one in (face, moved)
            )
            pairs.append(Pair(f"{portrait}, {name}", first, second, flow))
    return pairs


def inside(values: np.ndarray, border: int = 4) -> np.ndarray:
    """Return values (..., H, W) without `border` px at the edges."""
    return values[..., border:-border, border:-border]


def end_point(flow: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the distance between two flows (2, H, W) in px, 4 px inside the edges."""
    return inside(np.hypot(*(flow - other)))
