"""Which step of a training is kept, and on whom that is decided.

``last`` keeps the last step and decides nothing. ``inner`` holds out some of the training subjects
and keeps the step that recognises them best. ``LEAKY`` keeps the step that does best on the test
subject, as published scripts do; its scores are no estimate of anything, and exist to show what
those scripts report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError

LAST, INNER, LEAKY = "last", "inner", "LEAKY"
SELECTIONS = (LAST, INNER, LEAKY)

#: Said wherever a step was chosen on the test subject.
LEAKY_WARNING = (
    "LEAKY: the step is chosen by the test subject's own score, as published scripts do. "
    "These figures are no estimate of how well anyone is recognised; never report them as such."
)

#: Said wherever a model has seen frames of test subjects, without their labels.
TRANSDUCTIVE_WARNING = (
    "TRANSDUCTIVE: part of the model was trained on frames of the test subjects, without their "
    "labels. These figures are no estimate of how well a stranger is recognised."
)


def leaks_of(facts: Mapping[str, Any]) -> list[str]:
    """Return LEAKY and TRANSDUCTIVE, as far as a line, or one of a table, is."""
    # Tables that an earlier version wrote do not know of the latter.
    return [one.upper() for one in ("leaky", "transductive") if facts.get(one)]


def marked_name(line: Mapping[str, Any]) -> str:
    """Return the name of a line with what it leaks."""
    return " ".join([line["name"], *leaks_of(line)])


@dataclass(frozen=True)
class Selection:
    """How the step is chosen.

    Parameters
    ----------
    kind : {'last', 'inner', 'LEAKY'}
        On whom.
    evaluations : int
        How often the model is tried in the course of a training, evenly spaced; the last step is
        always tried.
    held_out : float
        For ``inner``, the part of the training subjects that is held out.
    """

    kind: str = LAST
    evaluations: int = 10
    held_out: float = 0.2

    def __post_init__(self) -> None:
        check_option("selection", self.kind, SELECTIONS)
        check_range("evaluations", self.evaluations, low=1)
        check_range("held_out", self.held_out, low=0, high=0.5, open_low=True)

    def steps(self, steps: int) -> frozenset[int]:
        """Return the steps, counted from 1, after which the model is tried."""
        if self.kind == LAST:
            return frozenset()
        count = min(self.evaluations, steps)
        return frozenset(round(steps * (one + 1) / count) for one in range(count))


@dataclass(frozen=True)
class Evaluation:
    """How a model did after a step, on those whom the choice rests on.

    Parameters
    ----------
    step : int
        The step, from 1.
    score : float
        UF1 for ``inner``, accuracy for ``LEAKY``; 0 to 1.
    loss : float
        Mean cross-entropy of the clips.
    """

    step: int
    score: float
    loss: float


def best_evaluation(evaluations: Sequence[Evaluation], kind: str) -> Evaluation:
    """Return the evaluation whose step is kept.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        In the order of steps, at least one.
    kind : {'inner', 'LEAKY'}
        Equal scores are common with few clips. ``inner`` then takes the lower loss, and the
        earlier step if that is equal too; ``LEAKY`` takes the later step, as published scripts do.
    """
    if kind == LEAKY:
        return max(evaluations, key=lambda one: (one.score, one.step))
    return max(evaluations, key=lambda one: (one.score, -one.loss, -one.step))


def inner_subjects(
    subjects: Mapping[str, str], labels: Mapping[str, int], *, part: float, seed: int
) -> tuple[str, ...]:
    """Return the training subjects that are held out, sorted.

    Parameters
    ----------
    subjects, labels : mapping of str
        Subject, and class, of every training clip, by clip id.
    part : float
        Part of the subjects to hold out, rounded up.
    seed : int
        Decides which. A subject without whom a class would have no training clip stays in.

    Raises
    ------
    ConfigError
        If nobody can be held out.
    """
    names = sorted(set(subjects.values()))
    wanted = min(math.ceil(part * len(names)), len(names) - 1)
    order = [names[one] for one in np.random.default_rng(seed).permutation(len(names))]
    everything = set(labels.values())
    chosen: set[str] = set()
    for name in order:
        if len(chosen) == wanted:
            break
        left = chosen | {name}
        if {labels[clip] for clip, one in subjects.items() if one not in left} == everything:
            chosen = left
    if not chosen:
        raise ConfigError(
            f"None of the {len(names)} training subjects can be held out without losing a class.",
            hint="take --selection last, or more subjects",
        )
    return tuple(sorted(chosen))


def evaluation_facts(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return evaluations as plain values for JSON."""
    return [{"step": one.step, "score": one.score, "loss": one.loss} for one in evaluations]
