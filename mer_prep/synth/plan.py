"""Which clips a synthetic corpus holds: names, emotions, lengths and frame numbers.

Names and numbers have the forms of the real corpora, so that importers meet what they will meet;
the clips themselves are invented.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mer_prep.errors import ConfigError
from mer_prep.synth.action_units import draw_coding
from mer_prep.synth.identity import Identity, draw_identity
from mer_prep.synth.layouts import Layout, PlannedClip

#: Objective classes by action units. Davison, Merghani, Yap: "Objective Classes for Micro-Facial
#: Expression Recognition", Journal of Imaging 4(10), 2018, https://doi.org/10.3390/jimaging4100119
_OBJECTIVE_CLASSES: Mapping[int, tuple[str, ...]] = {
    1: ("6", "12", "6+12", "6+7+12", "7+12"),
    2: ("1+2", "5", "25", "1+2+25", "25+26", "5+24"),
    3: ("23", "4", "4+7", "4+5", "4+5+7", "17+24", "4+6+7", "4+38"),
    4: ("10", "9", "4+9", "4+40", "4+5+40", "4+7+9", "4+9+17", "4+7+10", "4+5+7+9", "7+10"),
    5: ("1", "15", "6+15", "15+17"),
    6: ("1+2+4", "20"),
}


#: Largest displacement, px at 144x144, that the warps take without folds.
MAX_AMPLITUDE = 4.0


@dataclass(frozen=True)
class ClipPlan:
    """A clip to be made: what is annotated, and what is true.

    Parameters
    ----------
    annotated : PlannedClip
        What frames and workbook say.
    identity : Identity
        Who is seen.
    emotion : str
        Emotion shown, a key of `action_units.EMOTIONS`.
    action_units : str
        Coding shown.
    strengths : dict of int to float
        Relative strengths of the action units.
    apex : int
        True apex frame, known even where the annotation has none.
    amplitude : float
        Peak displacement in px at 144x144.
    seed : tuple of int
        Seed of all else.
    """

    annotated: PlannedClip
    identity: Identity
    emotion: str
    action_units: str
    strengths: dict[int, float]
    apex: int
    amplitude: float
    seed: tuple[int, ...]


def objective_class(coding: str) -> int:
    """Return the objective class of a coding, sides left out; 7 for all other combinations."""
    plain = "+".join(sorted({t.strip("LR") for t in coding.split("+")}, key=int))
    return next((k for k, codings in _OBJECTIVE_CLASSES.items() if plain in codings), 7)


def plan_corpus(
    layout: Layout,
    *,
    variant: str,
    subjects: int,
    clips: int,
    seed: int,
    amplitude: tuple[float, float],
    frames: int | None,
    quirks: bool,
) -> list[ClipPlan]:
    """Plan all clips of a synthetic corpus.

    Parameters
    ----------
    layout : Layout
        Layout of the corpus.
    variant : str
        Variant of the layout.
    subjects, clips : int
        Number of subjects, and of clips of each.
    seed : int
        Seed.
    amplitude : tuple of float
        Range of the peak displacement, px at 144x144.
    frames : int, optional
        Most frames from onset to offset, and most neutral frames on either side.
    quirks : bool
        Whether the corpora have their irregular clips, see `Layout.quirk`.

    Returns
    -------
    list of ClipPlan
        Subject by subject.

    Raises
    ------
    ConfigError
        If the corpus has fewer subjects.
    """
    numbers = list(itertools.islice(layout.subject_numbers(), subjects))
    if len(numbers) < subjects:
        raise ConfigError(
            f"{layout.folder} has {len(numbers)} subjects, not {subjects}.",
            why="clips are found by the published numbers of the subjects",
            hint=f"ask for up to {len(numbers)} subjects",
        )
    plans: list[ClipPlan] = []
    for index, subject in enumerate(numbers):
        # Each corpus begins with another portrait.
        rng = np.random.default_rng([seed, layout.stream, subject])
        identity = draw_identity(index + layout.stream, rng=rng)
        names = layout.clip_names(subject, index)
        for position in range(clips):
            cycle = layout.emotions
            emotion = cycle[(index * clips + position) % len(cycle)]
            clip_seed = (seed, layout.stream, subject, position)
            rng = np.random.default_rng([*clip_seed, 0])
            coding, strengths = draw_coding(emotion, rng)
            fps = layout.frame_rate(variant)
            macro = layout.expression_type(position) == "macro"
            length = _length(fps, frames, rng, macro=macro)
            onset = layout.first_number(index, position, length, rng)
            lead, tail = _neutral(fps, frames, rng)
            offset = onset + length - 1
            apex = _apex(onset, offset, rng)
            annotated = layout.annotate(
                PlannedClip(
                    subject=subject,
                    clip=names(layout.label(emotion)),
                    emotion=layout.label(emotion),
                    action_units=coding if layout.coded else "",
                    first=max(onset - lead, 1),
                    last=offset + tail,
                    onset=onset,
                    apex=apex,
                    offset=offset,
                    objective_class=objective_class(coding) if layout.classed else None,
                    expression_type="macro" if macro else "micro",
                ),
                emotion,
            )
            if quirks:
                before = [plan.annotated for plan in plans]
                annotated = layout.quirk(annotated, index=index, position=position, before=before)
            if not layout.coded:
                annotated = dataclasses.replace(annotated, apex=None)
            peak = float(rng.uniform(*amplitude))
            peak = round(min(2 * peak, MAX_AMPLITUDE) if macro else peak, 4)
            plans.append(
                ClipPlan(annotated, identity, emotion, coding, strengths, apex, peak, clip_seed)
            )
    return plans


def _length(
    fps: float, frames: int | None, rng: np.random.Generator, *, macro: bool = False
) -> int:
    """Return the frames from onset to offset: 0.2 to 0.4 seconds, or 0.6 to 1 if `macro`."""
    seconds = float(rng.uniform(0.6, 1.0) if macro else rng.uniform(0.2, 0.4))
    length = max(round(fps * seconds), 8)
    return length if frames is None else min(length, frames)


def _neutral(fps: float, frames: int | None, rng: np.random.Generator) -> tuple[int, int]:
    """Return the neutral frames before onset and after offset: 0.1 to 0.25 seconds."""
    lead, tail = (max(round(fps * float(s)), 2) for s in rng.uniform(0.1, 0.25, 2))
    return (lead, tail) if frames is None else (min(lead, frames), min(tail, frames))


def _apex(onset: int, offset: int, rng: np.random.Generator) -> int:
    # Kept off the middle, or the midpoint would pass for a method that spots it.
    part = float(rng.uniform(0.28, 0.43))
    part = part if rng.random() < 0.6 else 1 - part
    return min(max(onset + round(part * (offset - onset)), onset + 1), offset - 1)
