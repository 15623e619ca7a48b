"""Sweep the operations with faults and print a table: ``python -m tests.faults [NAME ...]``."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.faulty import KINDS
from tests.faults.operations import OPERATIONS
from tests.faults.sweep import Sweep

_WORDS = {"done": "went on", "error": "stopped with an error", "killed": "died"}


def main(names: Sequence[str]) -> int:
    """Sweep the named operations, or all; return the exit code."""
    unknown = sorted(set(names) - set(OPERATIONS))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(OPERATIONS)}", file=sys.stderr)
        return 2
    print(f"{'operation':<18} {'fault':<10} {'tried':>5} {'lost':>5} {'seconds':>8}  outcome")
    lost = 0
    for name in names or OPERATIONS:
        with tempfile.TemporaryDirectory() as folder:
            lost += _sweep(name, Path(folder))
    print("nothing was lost" if not lost else f"SOMETHING WAS LOST {lost} times")
    return 1 if lost else 0


def _sweep(name: str, folder: Path) -> int:
    for one in ("sources", "work"):
        (folder / one).mkdir()
    sweep = Sweep(OPERATIONS[name](folder / "sources"), folder / "work")
    lost = 0
    for kind in KINDS:
        started = time.monotonic()
        tried, problems, outcomes = 0, [], {}
        for number in itertools.count(1):
            try:
                tally = sweep.run(kind, [number])
            except AssertionError as problem:
                problems.append(str(problem))
                outcomes["LOST"] = len(problems)
            else:
                if not tally.tried:
                    break
                for how in tally.outcomes:
                    outcomes[_WORDS[how]] = outcomes.get(_WORDS[how], 0) + 1
            tried += 1
        said = ", ".join(f"{count} {how}" for how, count in outcomes.items())
        seconds = time.monotonic() - started
        print(
            f"{name:<18} {kind:<10} {tried:>5} {len(problems):>5} {seconds:>8.1f}  {said}",
            flush=True,
        )
        for problem in problems[:5]:
            print(f"    {problem}")
        lost += len(problems)
    return lost


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
