"""Methods of optical flow: time and error against the known motion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import peers
from benchmarks.contests import Options
from benchmarks.contests.engines import working_engines
from benchmarks.pairs import Pair, end_point, known_pairs
from benchmarks.tables import STANDING, Column, Table, standing_row
from benchmarks.timing import Way, race
from mer_prep.ops.flow import METHODS, optical_flow

CALLS = 3

Flow = Callable[[np.ndarray, np.ndarray], np.ndarray]


def flow_ways() -> dict[str, Flow]:
    """Return the methods by name; OpenCV's TV-L1 comes first."""
    ways: dict[str, Flow] = {"TV-L1, OpenCV": peers.tvl1}
    for method in METHODS:
        for engine in working_engines() if method == "tvl1" else ["opencv"]:
            ways[f"{method}, {engine}"] = _by(method, engine)
    return ways


def _by(method: str, engine: str) -> Flow:
    return lambda first, second: optical_flow(first, second, method=method, engine=engine)


def _work(flow: Flow) -> Callable[[Pair], int]:
    def work(pair: Pair) -> int:
        flow(pair.first, pair.second)
        return 1

    return work


def run(options: Options) -> list[Table]:
    """Return times and errors of the methods."""
    ways, pairs = flow_ways(), known_pairs(seed=2)
    options.say(f"{len(pairs)} pairs, {', '.join(ways)}")
    racers = [
        Way(name, _work(flow), 1 if flow is peers.tvl1 else CALLS) for name, flow in ways.items()
    ]
    rows = []
    for standing in race(racers, pairs, turns=5 if options.full else 2):
        flow = ways[standing.way]
        errors = [float(end_point(flow(one.first, one.second), one.flow).mean()) for one in pairs]
        rows.append(standing_row(standing, error=float(np.mean(errors)), error_worst=max(errors)))
    zero = [float(end_point(np.zeros_like(one.flow), one.flow).mean()) for one in pairs]
    return [
        Table(
            f"optical flow, {len(pairs)} pairs of 144x144",
            (*STANDING, Column("error", "error px", 3), Column("error_worst", "worst pair", 3)),
            rows,
            f"ms a pair, one thread. A flow of zero has an error of {np.mean(zero):.3f} px "
            f"(worst pair {max(zero):.3f}).",
        )
    ]
