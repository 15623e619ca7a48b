"""Disks that fail: the k-th change a process makes is refused, or is the last thing it does.

An operation runs in a process of its own, so that one that is killed is really gone, and one that
is refused leaves its locks to be judged by another process.
"""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import MerPrepError
from mer_prep.store.disk import Call, observed

#: One call fails; the disk is full from a call on; the process is killed; the power is cut.
EIO, ENOSPC, KILLED, POWER = ("EIO", "ENOSPC", "killed", "power cut")

_NEEDS_ROOM = frozenset({"mkdir", "create", "write", "link", "library"})


@dataclass
class Fault:
    """An observer of `mer_prep.store.disk` that lets the k-th change fail.

    Parameters
    ----------
    kind : str
        ``EIO``: the k-th call fails, those after it work. ``ENOSPC``: from the k-th call on nothing
        that needs room works; of a write the first half still fits. ``killed``: the process is
        killed before the k-th call, or half-way through if it is a write. ``power cut``: as
        killed, and of every file that was not forced to the disk only the first half is left.
    number : int
        k, counted from 1; 0 for no fault.
    """

    kind: str
    number: int

    def __post_init__(self) -> None:
        self.calls = 0
        self.fired = False
        self._unsafe: set[Path] = set()

    def __call__(self, call: Call) -> None:
        self.calls += 1
        if self.calls == self.number and self.kind in (KILLED, POWER):
            self._begin(call)
            self._die()
        if self.kind == EIO and self.calls == self.number:
            self.fired = True
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(call.path))
        full = self.kind == ENOSPC and 0 < self.number <= self.calls
        if full and call.name in _NEEDS_ROOM:
            self.fired = True
            self._begin(call)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(call.path))
        self._follow(call)

    def _begin(self, call: Call) -> None:
        """Do the first half of a write."""
        if call.name == "library":
            call.path.write_bytes(b"{torn")
        elif call.name == "write":
            assert call.file is not None
            assert call.data is not None
            io.FileIO.write(call.file, call.data[: len(call.data) // 2])
        if call.name in ("library", "write"):
            self._unsafe.add(call.path)

    def _die(self) -> None:
        if self.kind == POWER:
            for path in self._unsafe:
                if path.is_file():
                    os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    def _follow(self, call: Call) -> None:
        """Keep in mind which files are not safe on the disk, under the names they have."""
        if call.name in ("create", "write", "truncate", "library"):
            self._unsafe.add(call.path)
        elif call.name == "sync":
            self._unsafe = {one for one in self._unsafe if not one.is_relative_to(call.path)}
        elif call.name in ("replace", "link"):
            assert call.source is not None
            moved = {one for one in self._unsafe if one.is_relative_to(call.source)}
            self._unsafe |= {call.path / one.relative_to(call.source) for one in moved}


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: ``done``, ``error`` or ``killed``, and whether a fault came."""

    how: str
    error: str = ""
    fair: bool = True
    fired: bool = False
    calls: int = 0


def attempt(operation: Callable[[Path], object], folder: Path, fault: Fault) -> Outcome:
    """Run an operation on a folder in a process of its own, on a disk with a fault."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run
        child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            answer = _attempt_here(operation, folder, fault)
            os.write(writing, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return Outcome("killed", fired=True)
    return Outcome(**json.loads(answer))


def _attempt_here(
    operation: Callable[[Path], object], folder: Path, fault: Fault
) -> dict[str, object]:
    scratch = folder.with_name(f"{folder.name}-scratch")
    scratch.mkdir(exist_ok=True)
    tempfile.tempdir = str(scratch)
    found: dict[str, object] = {"how": "done"}
    try:
        with observed(fault):
            operation(folder)
    except BaseException as error:
        # What is shown to people without a traceback, see `mer_prep.cli.main`.
        fair = isinstance(error, MerPrepError | OSError)
        found = {"how": "error", "error": f"{type(error).__name__}: {error}", "fair": fair}
    return {**found, "fired": fault.fired, "calls": fault.calls}
