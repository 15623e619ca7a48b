"""Ways to do one thing, timed in turn on the same inputs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Input = TypeVar("Input")

#: Returns wall time and processor time of this process in seconds.
Clock = Callable[[], tuple[float, float]]


def clock() -> tuple[float, float]:
    """Return wall time and the processor time of this process, in seconds."""
    return time.perf_counter(), time.process_time()


@dataclass(frozen=True)
class Way(Generic[Input]):
    """One way to do the work of a race.

    Parameters
    ----------
    name : str
        Name in tables.
    work : callable
        Does the work on an input and returns how many units (frames, pairs) it has done.
    calls : int
        Calls in one turn; more for fast ways, whose single calls time badly.
    """

    name: str
    work: Callable[[Input], int]
    calls: int = 1


@dataclass(frozen=True)
class Cost:
    """Time of one unit in seconds: on the wall, and of the processor."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Standing:
    """How a way stands in a race; times in ms a unit, ratios to the first way of the race.

    The time of an input is the median of its turns. A ratio above 1 means faster than the first
    way; the ratio of an input is that of its two times.

    Parameters
    ----------
    way : str
        Name of the way.
    ms, ms_worst : float
        Median and largest wall time over the inputs.
    processor_ms : float
        Median processor time over the inputs; a machine that is busy with other work stretches
        it less than the wall time.
    ratio, ratio_worst : float
        Median and smallest ratio of wall times over the inputs.
    processor_ratio, processor_ratio_worst : float
        The same of processor times.
    """

    way: str
    ms: float
    ms_worst: float
    processor_ms: float
    ratio: float
    ratio_worst: float
    processor_ratio: float
    processor_ratio_worst: float


def race(
    ways: Sequence[Way[Input]],
    inputs: Iterable[Input],
    *,
    turns: int = 3,
    warm_up: bool = True,
    clock: Clock = clock,
) -> list[Standing]:
    """Time ways against each other; the first is what the others are compared with.

    On every input the ways take turns, each turn in the opposite order of the last, so that all
    meet the same load of the machine.

    Parameters
    ----------
    ways : sequence of Way
        At least one.
    inputs : iterable
        What the ways work on, one after the other; at least one.
    turns : int
        Turns on every input that are counted.
    warm_up : bool
        Whether the ways are called once before anything is counted.
    clock : callable
        Where the time comes from.

    Returns
    -------
    list of Standing
        One for every way, in their order.
    """
    costs: list[list[Cost]] = [[] for _ in ways]
    for one in inputs:
        if warm_up:
            for way in ways:
                way.work(one)
            warm_up = False
        for into, cost in zip(costs, _costs_of_input(ways, one, turns, clock), strict=True):
            into.append(cost)
    if not costs[0]:
        raise ValueError("a race needs an input")
    return [_standing(way.name, own, costs[0]) for way, own in zip(ways, costs, strict=True)]


def _costs_of_input(ways: Sequence[Way[Input]], one: Input, turns: int, clock: Clock) -> list[Cost]:
    """Return the median cost of every way on one input."""
    taken: list[list[Cost]] = [[] for _ in ways]
    order = list(range(len(ways)))
    for _ in range(turns):
        for index in order:
            for _ in range(ways[index].calls):
                taken[index].append(_cost(ways[index], one, clock))
        order.reverse()
    return [
        Cost(
            statistics.median(cost.wall for cost in costs),
            statistics.median(cost.processor for cost in costs),
        )
        for costs in taken
    ]


def _cost(way: Way[Input], one: Input, clock: Clock) -> Cost:
    wall, processor = clock()
    units = way.work(one)
    wall_after, processor_after = clock()
    return Cost((wall_after - wall) / units, (processor_after - processor) / units)


def _standing(name: str, own: Sequence[Cost], first: Sequence[Cost]) -> Standing:
    ratios = [a.wall / b.wall for a, b in zip(first, own, strict=True)]
    processor_ratios = [a.processor / b.processor for a, b in zip(first, own, strict=True)]
    return Standing(
        way=name,
        ms=1000 * statistics.median(cost.wall for cost in own),
        ms_worst=1000 * max(cost.wall for cost in own),
        processor_ms=1000 * statistics.median(cost.processor for cost in own),
        ratio=statistics.median(ratios),
        ratio_worst=min(ratios),
        processor_ratio=statistics.median(processor_ratios),
        processor_ratio_worst=min(processor_ratios),
    )
