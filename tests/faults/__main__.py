"""Try every fault in full and print a table: ``python -m tests.faults [WORD ...]``.

It works in memory where it may, or in ``$TMPDIR``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from tests.faults.catalogue import catalogue, try_case

_ROW = "{number:>2}  {title:<58} {tried:>6} {seconds:>8}  {outcome}"


#: A disk in memory, where the system has one, and the free bytes it must have.
_MEMORY = Path("/dev/shm")
_ROOM = 2 * 2**30

#: Bytes of what was written to standard error that are shown of a case that fails.
_LAST_WORDS = 4000

#: Cases that a process tries before a fresh one takes over.
_CASES_EACH = 8


class Attendant(threading.local):
    """Has cases tried in a process of its thread's own, which is replaced now and then.

    A case may leave a process in a bad way, or even end it: then it is that case that failed.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._left = 0

    def __call__(self, name: str) -> tuple[int, float, str]:
        """Try a case; return how often, in how many seconds, and what was wrong."""
        started = time.monotonic()
        if self._pool is None or self._left == 0:
            self._replace()
        assert self._pool is not None
        self._left -= 1
        try:
            return self._pool.submit(_try_quietly, name).result()
        except BrokenProcessPool:
            self._left = 0
            return 0, time.monotonic() - started, "NOT STOOD: the process that tried it was killed"

    def _replace(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        self._left = _CASES_EACH


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


def _try_quietly(name: str) -> tuple[int, float, str]:
    """Try a case; what libraries say of hostile files is shown only if the case fails.

    A library writes to the file that standard error is, and not to Python's object for it.
    """
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            tried, seconds, problem = try_case(name)
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        if problem:
            said.seek(0, os.SEEK_END)
            said.seek(max(0, said.tell() - _LAST_WORDS))
            problem += "\n" + said.read().decode(errors="replace")
    return tried, seconds, problem


def _roomy(folder: Path) -> bool:
    """Return whether a folder can take the scratch files of all cases."""
    return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > _ROOM


def _fits(word: str, name: str, title: str) -> bool:
    if word.isdecimal():
        return name.startswith(f"{int(word):02d}-")
    return word in name or word in title


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
