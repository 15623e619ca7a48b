"""The peak of memory of a program and of every process it starts, read while it runs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import CHECKOUT
from mer_prep.errors import MerPrepError

#: Seconds between looks. A peak is the kernel's own, so that only its last rise may be missed.
_LOOK = 0.1

#: By this in its command line a worker process of joblib is known.
_WORKER = b"loky.backend.popen_loky"


@dataclass(frozen=True)
class Usage:
    """What a program took.

    Parameters
    ----------
    seconds : float
        Wall time, from the start of the program to its end.
    processor_seconds : float
        Processor time of the program and all that it started and saw end.
    parent : int
        Largest resident memory of the program's own process, bytes.
    workers : tuple of int
        The same of each of its worker processes, largest first; shared libraries count for each.
    output : str
        What it printed to its standard output.
    """

    seconds: float
    processor_seconds: float
    parent: int
    workers: tuple[int, ...]
    output: str


def measure(module: str, *arguments: object, accepted: Sequence[int] = (0,)) -> Usage:
    """Run ``python -m MODULE ARGUMENTS`` of this checkout and return what it took.

    Parameters
    ----------
    module : str
        The program.
    arguments : object
        Its arguments.
    accepted : sequence of int
        Exit codes of a run that did what it should.

    Raises
    ------
    MerPrepError
        If it ends with another exit code; what it wrote to its standard error is in the message.
    """
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    started, before = time.perf_counter(), _children_seconds()
    program = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peaks: dict[int, int] = {}
    workers: set[int] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for pid in _tree(program.pid):
                peaks[pid] = max(peaks.get(pid, 0), peak_bytes(pid))
                if _WORKER in _command(pid):
                    workers.add(pid)
            over.wait(_LOOK)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        output, errors = program.communicate()
    finally:
        over.set()
        watcher.join()
    seconds = time.perf_counter() - started
    processor = _children_seconds() - before
    if program.returncode not in accepted:
        words = " ".join(map(str, arguments))
        raise MerPrepError(f"{module} {words} ended with {program.returncode}:\n{errors}")
    of_workers = sorted((peaks[pid] for pid in workers), reverse=True)
    return Usage(seconds, processor, peaks[program.pid], tuple(of_workers), output)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_bytes(pid: int | None = None) -> int:
    """Return the largest resident memory of a process so far, of this one by default.

    It is 0 for a process that is gone. Not of `resource.getrusage`, which on Linux also counts
    the process that started this one.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # it has ended, and only its exit code is kept


def _tree(pid: int) -> list[int]:
    """Return a process and all that it has started, as far as they still run."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text(encoding="ascii").split())
            except OSError:
                continue
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
