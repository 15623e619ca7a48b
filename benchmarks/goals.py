"""Measured figures beside the goals set for them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.tables import Column


@dataclass(frozen=True)
class Goal:
    """What a figure must reach and what it aims at; smaller is better."""

    must: float
    aim: float

    def verdict(self, value: float) -> str:
        """Return ``aim``, ``must`` or ``missed``, whichever the value reaches."""
        if not math.isfinite(value):
            return "missed"
        return "aim" if value <= self.aim else "must" if value <= self.must else "missed"


#: Columns of `judged_row`.
JUDGED = (
    Column("figure", "figure"),
    Column("value", "pooled", 3),
    Column("median", "median", 3),
    Column("worst", "worst", 3),
    Column("must", "must", 3),
    Column("aim", "aim", 3),
    Column("reached", "reached"),
    Column("worst_reached", "worst one"),
)


def judged_row(
    figure: str, values: Sequence[float], *, pooled: float, goal: Goal | None = None
) -> dict[str, Any]:
    """Return the row of a figure in a table with the columns `JUDGED`.

    Parameters
    ----------
    figure : str
        Name, with the unit.
    values : sequence of float
        The figure of every clip; median and worst are theirs.
    pooled : float
        The figure over all clips together, which is what the goal is for.
    goal : Goal, optional
        The goal, if one was set.
    """
    worst = max(values)
    return {
        "figure": figure,
        "value": pooled,
        "median": statistics.median(values),
        "worst": worst,
        "must": None if goal is None else goal.must,
        "aim": None if goal is None else goal.aim,
        "reached": None if goal is None else goal.verdict(pooled),
        "worst_reached": None if goal is None else goal.verdict(worst),
        "values": list(values),
    }


def rms(values: Sequence[float]) -> float:
    """Return the root mean square of values."""
    return math.sqrt(statistics.fmean(value * value for value in values))
