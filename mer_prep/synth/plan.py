"""Which clips a synthetic corpus holds: names, emotions, lengths and frame numbers.

Names and numbers have the forms of the real corpora, so that importers meet what they will meet;
the clips themselves are invented.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mer_prep.synth.action_units import draw_coding
from mer_prep.synth.identity import Identity, draw_identity
from mer_prep.synth.layouts import Layout, PlannedClip

#: Emotions in the order in which clips take them, subject after subject. Any three clips in a row
#: hold most of the classes of the three-class composite; any subject of four holds all of them.
_EMOTIONS: Mapping[str, tuple[str, ...]] = {
    "casme2": (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "repression", "happiness", "disgust"),
        *("repression", "happiness", "surprise", "sadness"),
    ),
    "samm": (
        *("happiness", "anger", "surprise", "contempt"),
        *("surprise", "disgust", "happiness", "others"),
        *("anger", "surprise", "happiness", "fear"),
    ),
    # Only its three classes are annotated; what is shown as negative varies.
    "smic": (
        *("disgust", "happiness", "surprise", "sadness"),
        *("surprise", "anger", "happiness", "repression"),
        *("happiness", "fear", "surprise", "disgust"),
    ),
}

_SMIC_CLASSES = {"happiness": ("positive", "po"), "surprise": ("surprise", "sur")}
_SMIC_NEGATIVE = ("negative", "ne")

#: First subject of each corpus, and the numbers that no subject has.
_SUBJECTS: Mapping[str, tuple[int, frozenset[int]]] = {
    "casme2": (1, frozenset()),
    "samm": (6, frozenset({8, 27, 29})),
    "smic": (1, frozenset({7, 10, 16, 17})),
}

_CASME2_NAMES = ("EP02_01f", "EP11_01", "EP11_01f", "EP12_03", "EP06_02_01", "EP08_1", "EP09f")

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


def subject_name(corpus: str, subject: int) -> str:
    """Return the subject as importers spell it: ``sub01``, ``006``, ``s1``."""
    return {"casme2": f"sub{subject:02d}", "samm": f"{subject:03d}", "smic": f"s{subject:02d}"}[
        corpus
    ]


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
        Whether one clip of CASME II has no apex and one of SMIC lacks frames.

    Returns
    -------
    list of ClipPlan
        Subject by subject.
    """
    corpus = layout.corpus
    order = tuple(_EMOTIONS).index(corpus)
    first_subject, absent = _SUBJECTS[corpus]
    numbers = (n for n in itertools.count(first_subject) if n not in absent)
    plans: list[ClipPlan] = []
    for index, subject in enumerate(itertools.islice(numbers, subjects)):
        # Each corpus begins with another portrait.
        identity = draw_identity(index + order, rng=np.random.default_rng([seed, order, subject]))
        names = _NAMES[corpus](subject, index)
        for position in range(clips):
            cycle = _EMOTIONS[corpus]
            emotion = cycle[(index * clips + position) % len(cycle)]
            clip_seed = (seed, order, subject, position)
            rng = np.random.default_rng([*clip_seed, 0])
            coding, strengths = draw_coding(emotion, rng)
            label, code = (emotion, "")
            if corpus == "smic":
                label, code = _SMIC_CLASSES.get(emotion, _SMIC_NEGATIVE)
            length = _length(layout.frame_rate(variant), frames, rng)
            onset = _first_number(corpus, index, position, length, rng)
            lead, tail = _neutral(layout.frame_rate(variant), frames, rng)
            offset = onset + length - 1
            apex = _apex(onset, offset, rng)
            annotated = PlannedClip(
                subject=subject,
                clip=names(code),
                emotion=label,
                action_units="" if corpus == "smic" else coding,
                first=max(onset - lead, 1),
                last=offset + tail,
                onset=onset,
                apex=None
                if corpus == "smic" or (quirks and _lacks_apex(corpus, emotion, plans))
                else apex,
                offset=offset,
                objective_class=None if corpus == "smic" else objective_class(coding),
                missing=_missing(corpus, index, position, onset, apex, offset) if quirks else (),
            )
            peak = round(float(rng.uniform(*amplitude)), 4)
            plans.append(
                ClipPlan(annotated, identity, emotion, coding, strengths, apex, peak, clip_seed)
            )
    return plans


def _length(fps: float, frames: int | None, rng: np.random.Generator) -> int:
    """Return the frames from onset to offset: 0.2 to 0.4 seconds."""
    length = max(round(fps * float(rng.uniform(0.2, 0.4))), 8)
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


def _first_number(
    corpus: str, index: int, position: int, length: int, rng: np.random.Generator
) -> int:
    """Return the onset's frame number, with the digits the corpus is known for."""
    if corpus == "casme2":
        # Every other clip passes from two digits to three, where names sort wrongly.
        if position % 2 == 0:
            return 100 - int(rng.integers(1, max(length // 2, 2)))
        return int(rng.integers(30, 160))
    if corpus == "samm":
        # The layout writes even subjects with five digits, whether a number needs them or not.
        wide = index % 2 == 0 and position % 2 == 1
        return int(rng.integers(10_000, 14_000) if wide else rng.integers(1000, 9800))
    # Five digits, padded to six; six; and eight, as one real subject has.
    return int(rng.integers(10_000, 90_000)) + (0, 480_000, 17_500_000)[index % 3]


def _lacks_apex(corpus: str, emotion: str, before: list[ClipPlan]) -> bool:
    """Return whether this is the first clip of CASME II whose emotion is no composite class."""
    return (
        corpus == "casme2"
        and emotion == "others"
        and all(plan.annotated.apex is not None for plan in before)
    )


def _missing(
    corpus: str, index: int, position: int, onset: int, apex: int, offset: int
) -> tuple[int, ...]:
    """Return the frames that the second clip of SMIC's first subject lacks; never a key frame."""
    if corpus != "smic" or index != 0 or position != 1:
        return ()
    gap = apex + 1 if offset - apex > apex - onset else apex - 1
    return () if gap in (onset, offset) else (gap,)


def _casme2_names(subject: int, index: int) -> Callable[[str], str]:
    rotation = index % len(_CASME2_NAMES)
    names: Iterator[str] = itertools.chain(
        _CASME2_NAMES[rotation:] + _CASME2_NAMES[:rotation],
        (f"EP{13 + k // 9:02d}_{1 + k % 9:02d}" for k in itertools.count()),
    )
    return lambda code: next(names)


def _samm_names(subject: int, index: int) -> Callable[[str], str]:
    counter = itertools.count()

    def name(code: str) -> str:
        k = next(counter)
        return f"{subject:03d}_{1 + k // 2}_{2 + k % 2}"

    return name


def _smic_names(subject: int, index: int) -> Callable[[str], str]:
    taken: dict[str, int] = {}

    def name(code: str) -> str:
        taken[code] = taken.get(code, 0) + 1
        return f"s{subject}_{code}_{taken[code]:02d}"

    return name


_NAMES: Mapping[str, Callable[[int, int], Callable[[str], str]]] = {
    "casme2": _casme2_names,
    "samm": _samm_names,
    "smic": _smic_names,
}
