"""Engines of TV-L1 against OpenCV's: time, agreement, and error against the known motion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.contests import Options
from benchmarks.pairs import Pair, end_point, known_pairs
from benchmarks.tables import STANDING, Column, Table, standing_row
from benchmarks.timing import Way, race
from mer_prep.errors import DependencyError
from mer_prep.ops.tvl1 import ENGINES, check_engine, kernel_paths, tvl1

#: Calls of a fast engine in one turn.
CALLS = 3


def working_engines() -> list[str]:
    """Return the engines of mer-prep that work here; OpenCV's, which is the peer, is left out."""
    found = []
    for engine in ENGINES:
        if engine in ("auto", "opencv", "torch"):  # torch is for comparing results, not times
            continue
        try:
            check_engine(engine)
        except DependencyError:
            continue
        found.append(engine)
    return found


def run(options: Options) -> list[Table]:
    """Return the times of the engines, and their flows' differences and errors."""
    engines = working_engines()
    pairs = known_pairs(seed=1)
    options.say(f"{len(pairs)} pairs, OpenCV and {', '.join(engines) or 'no other engine'}")
    ways = [Way("OpenCV", _opencv), *(Way(one, _engine(one), CALLS) for one in engines)]
    standings = race(ways, pairs, turns=6 if options.full else 3)
    reference = [peers.tvl1(pair.first, pair.second) for pair in pairs]
    flows = {"OpenCV": reference} | {
        one: [tvl1(pair.first, pair.second, engine=one) for pair in pairs] for one in engines
    }
    rows = [
        standing_row(standing, **agreement(flows[standing.way], reference, pairs))
        for standing in standings
    ]
    return [_times(rows, len(pairs)), _agreement(rows)]


def _opencv(pair: Pair) -> int:
    peers.tvl1(pair.first, pair.second)
    return 1


def _engine(name: str) -> Any:
    def work(pair: Pair) -> int:
        tvl1(pair.first, pair.second, engine=name)
        return 1

    return work


def agreement(
    flows: Sequence[np.ndarray], reference: Sequence[np.ndarray], pairs: Sequence[Pair]
) -> dict[str, float]:
    """Return how far flows are from a reference and from the truth, px, 4 px border left out."""
    differences = [end_point(one, other) for one, other in zip(flows, reference, strict=True)]
    errors = [
        float(end_point(one, pair.flow).mean()) for one, pair in zip(flows, pairs, strict=True)
    ]
    return {
        "difference": float(np.mean(differences)),
        "difference_worst": max(float(one.mean()) for one in differences),
        "difference_99": float(np.median([np.percentile(one, 99) for one in differences])),
        "difference_99_worst": max(float(np.percentile(one, 99)) for one in differences),
        "error": float(np.mean(errors)),
        "error_worst": max(errors),
    }


def _times(rows: Sequence[dict[str, Any]], count: int) -> Table:
    path = kernel_paths()
    return Table(
        f"TV-L1 at its defaults, {count} pairs of 144x144",
        STANDING,
        rows,
        "ms a pair, one thread, in turn on every pair; 'worst' is the pair with the smallest "
        f"ratio. The CPU engine uses {path[0]}."
        if path
        else "The CPU engine was not built here.",
    )


def _agreement(rows: Sequence[dict[str, Any]]) -> Table:
    return Table(
        "Difference from OpenCV's flow, and error against the known motion, px",
        (
            Column("way", "engine"),
            Column("difference", "mean difference", 4),
            Column("difference_worst", "worst pair", 4),
            Column("difference_99", "99th percentile", 3),
            Column("difference_99_worst", "worst pair", 3),
            Column("error", "mean error", 4),
            Column("error_worst", "worst pair", 4),
        ),
        rows,
        "Two portraits, each with noise alone, five local motions of 0.5 to 3 px, a shift and a "
        "rotation; 4 px at the edges are left out.",
    )
