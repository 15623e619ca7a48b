"""Try every fault in full and print a table: ``python -m tests.faults [WORD ...]``.

It works in memory where it may, or in ``$TMPDIR``.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.attendant import Attendant
from tests.faults.catalogue import catalogue

_ROW = "{number:>2}  {title:<58} {tried:>6} {seconds:>8}  {outcome}"


#: A disk in memory, where the system has one, and the free bytes it must have.
_MEMORY = Path("/dev/shm")
_ROOM = 2 * 2**30


def main(words: Sequence[str]) -> int:
    """Try the faults whose number, name or title has one of the words, or all."""
    cases = {
        name: case
        for name, case in catalogue().items()
        if not words or any(_fits(word, name, case.title) for word in words)
    }
    if not cases:
        print(f"no fault has {', '.join(words)} in its name", file=sys.stderr)
        return 2
    if "TMPDIR" not in os.environ and _roomy(_MEMORY):
        # Thousands of forced writes are told from thousands of remembered ones by their time alone.
        os.environ["TMPDIR"] = str(_MEMORY)
    print(_ROW.format(number="#", title="fault", tried="tried", seconds="seconds", outcome=""))
    started, total, failed = time.monotonic(), 0, 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        found = threads.map(Attendant(), cases)
        for name, (tried, seconds, problem) in zip(cases, found, strict=True):
            case = cases[name]
            number = len(case.without)
            good = f"stood; {number} of {number} protections missed when taken away"
            title = case.title if len(case.title) <= 58 else case.title[:57] + "…"
            print(
                _ROW.format(
                    number=case.number,
                    title=title,
                    tried=f"{tried:,}",
                    seconds=f"{seconds:.1f}",
                    outcome=problem or good,
                ),
                flush=True,
            )
            total += tried
            failed += bool(problem)
    minutes = (time.monotonic() - started) / 60
    end = f"{failed} FAULTS WERE NOT STOOD" if failed else "all were stood"
    print(f"{len(cases)} faults, tried {total:,} times in {minutes:.1f} min: {end}")
    return 1 if failed else 0


def _roomy(folder: Path) -> bool:
    """Return whether a folder can take the scratch files of all cases."""
    return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _ROOM


def _fits(word: str, name: str, title: str) -> bool:
    if word.isdecimal():
        return name.startswith(f"{int(word):02d}-")
    return word in name or word in title


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
