"""Action units as smooth displacements, and the emotions made of them.

An action unit is a few Gaussian-supported pulls anchored on landmarks, in directions that follow
FACS [1]_. They move the skin the way the muscle does; wrinkles and shading are not drawn.

References
----------
.. [1] P. Ekman, W. V. Friesen, J. C. Hager, "Facial Action Coding System: The Manual", 2002.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import ConfigError
from mer_prep.synth.fields import GaussianField, join_fields
from mer_prep.synth.landmarks import MIRROR, eye_centres, interocular_distance

#: Width of a pull, in interocular distances.
SIGMA = 0.16


@dataclass(frozen=True, slots=True)
class Pull:
    """One Gaussian-supported pull, described on the picture's left half of the face.

    Parameters
    ----------
    points : tuple of int
        Landmarks whose mean is the anchor.
    vector : tuple of float
        Displacement along the eye line (to the picture's right) and down the face, relative to
        the other pulls of the action unit.
    offset : tuple of float
        Shift of the anchor from that mean, in interocular distances, same axes.
    sigma : float
        Width in interocular distances.
    """

    points: tuple[int, ...]
    vector: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)
    sigma: float = SIGMA


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """An action unit: its FACS name, and its pulls on each side and on the midline."""

    name: str
    side: tuple[Pull, ...] = ()
    middle: tuple[Pull, ...] = ()


ACTION_UNITS: Mapping[int, ActionUnit] = {
    1: ActionUnit("inner brow raiser", (Pull((21,), (0.05, -1.0)), Pull((20,), (0.0, -0.6)))),
    2: ActionUnit("outer brow raiser", (Pull((18,), (0.0, -1.0)), Pull((17, 19), (0.0, -0.5)))),
    4: ActionUnit(
        "brow lowerer",
        (Pull((21,), (0.55, 0.8)), Pull((20,), (0.35, 0.7)), Pull((18, 19), (0.15, 0.45))),
    ),
    5: ActionUnit("upper lid raiser", (Pull((37, 38), (0.0, -0.8), sigma=0.1),)),
    6: ActionUnit(
        "cheek raiser",
        (
            Pull((40, 41), (-0.05, -0.9), offset=(-0.08, 0.3)),
            Pull((36,), (0.35, 0.1), offset=(-0.12, 0.06)),
        ),
    ),
    7: ActionUnit(
        "lid tightener",
        (Pull((40, 41), (0.1, -0.7), sigma=0.09), Pull((37, 38), (0.0, 0.25), sigma=0.09)),
    ),
    9: ActionUnit(
        "nose wrinkler",
        (
            Pull((31,), (0.2, -0.9), offset=(0.02, -0.14)),
            Pull((21,), (0.25, 0.4)),
            Pull((50,), (0.0, -0.35)),
        ),
    ),
    10: ActionUnit(
        "upper lip raiser",
        (Pull((50,), (-0.1, -1.0)), Pull((31,), (-0.05, -0.55), offset=(-0.14, 0.12))),
    ),
    12: ActionUnit(
        "lip corner puller",
        (Pull((48,), (-0.7, -0.75)), Pull((48,), (-0.25, -0.55), offset=(-0.16, -0.3))),
    ),
    14: ActionUnit(
        "dimpler",
        (Pull((48,), (-0.75, -0.1)), Pull((48,), (0.6, 0.0), offset=(-0.26, 0.0))),
    ),
    15: ActionUnit(
        "lip corner depressor",
        (Pull((48,), (-0.15, 1.0)), Pull((48,), (0.0, 0.5), offset=(-0.04, 0.24))),
    ),
    17: ActionUnit(
        "chin raiser", middle=(Pull((57, 8), (0.0, -1.0)), Pull((57,), (0.0, -0.6), sigma=0.13))
    ),
    20: ActionUnit(
        "lip stretcher",
        (Pull((48,), (-1.0, 0.15)), Pull((48,), (-0.6, 0.2), offset=(-0.2, 0.1))),
    ),
    23: ActionUnit(
        "lip tightener",
        (Pull((48,), (0.7, 0.0)),),
        (Pull((51,), (0.0, 0.3), sigma=0.12), Pull((57,), (0.0, -0.3), sigma=0.12)),
    ),
    24: ActionUnit(
        "lip pressor",
        middle=(Pull((50, 51, 52), (0.0, 0.7)), Pull((56, 57, 58), (0.0, -0.7))),
    ),
    25: ActionUnit(
        "lips part",
        middle=(Pull((51,), (0.0, -0.35), sigma=0.13), Pull((57,), (0.0, 0.8), sigma=0.13)),
    ),
    26: ActionUnit(
        "jaw drop",
        (Pull((5, 6), (0.1, 0.5), sigma=0.22),),
        (Pull((8,), (0.0, 1.0), sigma=0.24), Pull((57,), (0.0, 0.8))),
    ),
}

#: Codings each emotion may take, from which one is drawn. L and R are the subject's own sides.
EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "happiness": ("6+12", "12", "6+12+25"),
    "disgust": ("9+10", "4+9", "7+9+10"),
    "surprise": ("1+2+5", "1+2", "1+2+5+26"),
    "repression": ("14+15", "15+17", "14+15+24"),
    "anger": ("4+7+24", "4+5+7+23", "4+7"),
    "contempt": ("L14", "R12+R14", "L12+L14"),
    "fear": ("1+2+4+20", "1+2+4+5+20+25", "4+20"),
    "sadness": ("1+4+15", "1+15+17", "1+4"),
    "others": ("R2+14", "17+20", "L4+17"),
}

_TOKEN = re.compile(r"([LR]?)(\d+)")


def parse_units(coding: str) -> list[tuple[int, str]]:
    """Read a coding such as ``4+R12``.

    Returns
    -------
    list of (int, str)
        Number of each action unit, and its side: ``L``, ``R`` or empty for both.

    Raises
    ------
    ConfigError
        If the text is not of that form or names an action unit that is not modelled.
    """
    units = []
    for token in coding.split("+"):
        found = _TOKEN.fullmatch(token.strip())
        if not found or int(found[2]) not in ACTION_UNITS:
            raise ConfigError(
                f"{token.strip()!r} is not an action unit that can be synthesised.",
                where=f"coding {coding!r}",
                hint=f"known: {', '.join(map(str, ACTION_UNITS))}, with L or R before for one side",
            )
        units.append((int(found[2]), found[1]))
    return units


def unit_field(number: int, side: str, landmarks: np.ndarray) -> GaussianField:
    """Return one action unit at full strength on one face.

    Parameters
    ----------
    number : int
        Action unit, a key of `ACTION_UNITS`.
    side : {'', 'L', 'R'}
        The subject's own left or right; both if empty. The midline part is always there.
    landmarks : ndarray, shape (68, 2), float
        The neutral face, px.

    Returns
    -------
    GaussianField
        Displacement whose largest length is 1.
    """
    unit = ACTION_UNITS[number]
    pulls = [(pull, False) for pull in unit.middle]
    # The subject's right is on the picture's left, where the pulls are described.
    pulls += [(pull, False) for pull in unit.side if side != "L"]
    pulls += [(pull, True) for pull in unit.side if side != "R"]
    field = _anchor(pulls, landmarks)
    return field.scaled(1 / field.peak())


def _anchor(pulls: Sequence[tuple[Pull, bool]], landmarks: np.ndarray) -> GaussianField:
    unit = interocular_distance(landmarks)
    left, right = eye_centres(landmarks)
    along = (right - left) / unit
    axes = np.stack([along, [-along[1], along[0]]])
    centres, vectors, sigmas = [], [], []
    for pull, mirrored in pulls:
        points = [MIRROR[i] for i in pull.points] if mirrored else list(pull.points)
        flip = np.array([-1.0 if mirrored else 1.0, 1.0])
        centres.append(landmarks[points].mean(axis=0) + (flip * pull.offset) @ axes * unit)
        vectors.append((flip * pull.vector) @ axes)
        sigmas.append([pull.sigma * unit] * 2)
    return GaussianField(np.array(centres), np.array(vectors), np.array(sigmas))


def expression_field(
    coding: str,
    landmarks: np.ndarray,
    *,
    peak: float,
    strengths: Mapping[int, float] | None = None,
) -> GaussianField:
    """Return the displacement of a whole expression at its apex.

    Parameters
    ----------
    coding : str
        Action units, e.g. ``6+12`` or ``L14``.
    landmarks : ndarray, shape (68, 2), float
        The neutral face, px.
    peak : float
        Largest length of the displacement, px.
    strengths : mapping of int to float, optional
        Strength of action units relative to the others; 1 where absent.

    Returns
    -------
    GaussianField
        Displacement in px.
    """
    strengths = strengths or {}
    field = join_fields(
        *(
            unit_field(number, side, landmarks).scaled(strengths.get(number, 1.0))
            for number, side in parse_units(coding)
        )
    )
    return field.scaled(peak / field.peak())


def draw_coding(emotion: str, rng: np.random.Generator) -> tuple[str, dict[int, float]]:
    """Draw a coding of an emotion, and strengths of its action units between 0.75 and 1.25.

    Raises
    ------
    ConfigError
        For an emotion that is not in `EMOTIONS`.
    """
    codings = EMOTIONS[check_option("emotion", emotion, EMOTIONS)]
    coding = codings[int(rng.integers(len(codings)))]
    strengths = {
        number: round(float(rng.uniform(0.75, 1.25)), 3) for number, _ in parse_units(coding)
    }
    return coding, strengths


def blink_field(landmarks: np.ndarray, *, closure: float = 0.7) -> GaussianField:
    """Return the displacement of both upper lids at the deepest point of a blink.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2), float
        The neutral face, px.
    closure : float
        Part of the opening that the upper lid travels; below 0.9, so that the map does not fold.

    Returns
    -------
    GaussianField
        Displacement in px.
    """
    eyes = []
    for lid, below in (((36, 37, 38, 39), (41, 40)), ((42, 43, 44, 45), (47, 46))):
        upper, lower = landmarks[list(lid)], landmarks[list(below)]
        opening = lower.mean(axis=0) - upper[1:3].mean(axis=0)
        height, width = float(np.hypot(*opening)), float(np.hypot(*(upper[3] - upper[0])))
        # The two points of the lid's middle, raised a little: its edge is thicker than a line.
        centres = upper[1:3] - 0.1 * opening
        vectors = np.repeat(opening[None], 2, axis=0)
        sigmas = np.repeat([[0.2 * width, max(0.6 * height, 0.05 * width)]], 2, axis=0)
        eye = GaussianField(centres, vectors, sigmas)
        eyes.append(eye.scaled(closure * height / eye.peak()))
    return join_fields(*eyes)
