"""How a face moves over the frames of a clip: expression, blink, head and light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def expression_course(numbers: np.ndarray, *, onset: int, apex: int, offset: int) -> np.ndarray:
    """Return the strength of the expression at each frame.

    It rises as a squared sine from 0 at the onset to 1 at the apex and falls in the same way to 0
    at the offset; it is 0 outside, smooth everywhere, and 1 at no other frame than the apex.

    Parameters
    ----------
    numbers : ndarray, shape (T,), int
        Frame numbers.
    onset, apex, offset : int
        Key frames, ``onset < apex < offset``.

    Returns
    -------
    ndarray, shape (T,), float64
        Strength in [0, 1].
    """
    rise = np.clip((numbers - onset) / (apex - onset), 0.0, 1.0)
    fall = np.clip((offset - numbers) / (offset - apex), 0.0, 1.0)
    return np.sin(0.5 * np.pi * np.minimum(rise, fall)) ** 2


def blink_course(numbers: np.ndarray, *, centre: float, length: float) -> np.ndarray:
    """Return how far the lids are closed at each frame: a raised cosine, (T,) in [0, 1].

    Parameters
    ----------
    numbers : ndarray, shape (T,), int
        Frame numbers.
    centre : float
        Frame at which the lids are closed.
    length : float
        Frames from open to open.
    """
    phase = np.clip((numbers - centre) / length, -0.5, 0.5)
    return np.cos(np.pi * phase) ** 2


@dataclass(frozen=True, slots=True)
class HeadMotion:
    """A slow, smooth, slight rigid motion: one sine in each of x, y and angle.

    Parameters
    ----------
    amplitudes : tuple of float
        Of x and y in px, and of the angle in radians.
    periods : tuple of float
        In frames.
    phases : tuple of float
        In radians.
    """

    amplitudes: tuple[float, float, float]
    periods: tuple[float, float, float]
    phases: tuple[float, float, float]

    def matrices(self, numbers: np.ndarray, *, onset: int, centre: np.ndarray) -> np.ndarray:
        """Return the rigid motion from the onset frame to each frame.

        Parameters
        ----------
        numbers : ndarray, shape (T,), int
            Frame numbers.
        onset : int
            Frame at which the motion is the identity.
        centre : ndarray, shape (2,), float
            Point the head turns about, px.

        Returns
        -------
        ndarray, shape (T, 2, 3), float64
            ``y = M[:, :2] @ x + M[:, 2]``, px.
        """
        turn = 2 * np.pi / np.array(self.periods)
        phases = np.array(self.phases)
        course = np.sin(np.outer(numbers - onset, turn) + phases) - np.sin(phases)
        x, y, angle = (course * np.array(self.amplitudes)).T
        cos, sin = np.cos(angle), np.sin(angle)
        result = np.empty((len(numbers), 2, 3))
        result[:, :, :2] = np.moveaxis(np.array([[cos, -sin], [sin, cos]]), -1, 0)
        result[:, :, 2] = centre - result[:, :, :2] @ centre + np.stack([x, y], axis=1)
        return result


def draw_head_motion(
    rng: np.random.Generator, *, frames: int, scale: float, px: float
) -> HeadMotion:
    """Draw a head motion.

    Parameters
    ----------
    rng : Generator
        Source of chance.
    frames : int
        Length of the expression; the periods are 0.8 to 1.6 times as long.
    scale : float
        1 for a translation of up to about 2 px at 144x144 and a rotation below 1 degree; 0 for
        none.
    px : float
        Source px per px at 144x144.
    """
    translations = rng.uniform(0.4, 0.9, 2) * px * scale
    angle = np.deg2rad(rng.uniform(0.15, 0.45)) * scale
    periods = rng.uniform(0.8, 1.6, 3) * max(frames, 8)
    phases = rng.uniform(0.0, 2 * np.pi, 3)
    return HeadMotion(
        (float(translations[0]), float(translations[1]), float(angle)),
        (float(periods[0]), float(periods[1]), float(periods[2])),
        (float(phases[0]), float(phases[1]), float(phases[2])),
    )


def flicker_course(frames: int, *, flicker: float, rng: np.random.Generator) -> np.ndarray:
    """Return the gain of the light at each frame, (T,), of mean about 1.

    A beat with the mains (two thirds) and a random part (one third) of `flicker` in amplitude.
    """
    phase, period = rng.uniform(0, 2 * np.pi), rng.uniform(6.0, 14.0)
    beat = np.sin(2 * np.pi * np.arange(frames) / period + phase)
    return 1.0 + flicker * (2 * beat + rng.uniform(-1.0, 1.0, frames)) / 3
