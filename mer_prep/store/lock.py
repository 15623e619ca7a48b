"""Locks: a file that says who is writing a shard, and since when.

A lock holds process id, host, start time of the process and command. It is taken by creating the
file exclusively. A lock whose process no longer lives on this host is removed and reported; one
from another host is believed, because nothing can be known about it but that it is touched now
and then.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from mer_prep.config import make_params, parse_json_object
from mer_prep.errors import ConfigError, LockedError
from mer_prep.records import record_text
from mer_prep.store import disk, files

#: Larger ones no kernel gives.
_LARGEST_PID = 2**31 - 1


@dataclass(frozen=True)
class Owner:
    """Who holds a lock."""

    pid: int
    host: str
    process_start: str
    command: str
    since: str
    namespace: str = ""

    def __str__(self) -> str:
        return (
            f"process {self.pid} on {self.host:.120}, since {self.since:.60}: {self.command:.400}"
        )


def process_start(pid: int) -> str | None:
    """Return when a process of this host started, as the kernel counts; None if there is none.

    It tells a process from a later one with the same id; boot id and ticks since boot are used,
    so no clock enters.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
        return _start_without_proc(pid)
    except OSError:
        return None
    state_and_rest = text.rsplit(")", 1)[1].split()
    if state_and_rest[0] in "ZX":
        return None
    return f"{boot}:{state_and_rest[19]}"


def _start_without_proc(pid: int) -> str | None:
    return "alive" if _answers(pid) else None


def _answers(pid: int) -> bool:
    """Return whether there is a process of this id, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def current_owner() -> Owner:
    """Return the owner record of this process."""
    pid = os.getpid()
    return Owner(
        pid=pid,
        host=platform.node(),
        process_start=process_start(pid) or "unknown",
        command=" ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:400],
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        namespace=pid_namespace(),
    )


def pid_namespace() -> str:
    """Return the namespace of process ids; two containers on one host number theirs apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def read_owner(path: Path) -> Owner | None:
    """Return the owner written in a lock file; None if it is gone, empty or unreadable."""
    try:
        owner: Owner = make_params(Owner, parse_json_object(record_text(path)), where="owner")
    except (OSError, ValueError, TypeError, ConfigError):
        return None
    return owner if 0 < owner.pid <= _LARGEST_PID else None


def _is_here(owner: Owner) -> bool:
    """Return whether the owner's process id means a process that can be seen from here."""
    return (owner.host, owner.namespace) == (platform.node(), pid_namespace())


def is_dead(owner: Owner) -> bool:
    """Return whether the owner certainly no longer runs (only ever true for this host)."""
    if not _is_here(owner):
        return False
    start = process_start(owner.pid)
    if start is None and not Path(f"/proc/{owner.pid}").exists():
        # Nothing to be seen of it: it is gone, unless this host hides others' processes.
        return not _answers(owner.pid)
    return start != owner.process_start


class Watch:
    """Tells which locks are held by live runs, on whatever machine.

    On this host processes can be seen. From another host only the touches of the lock file come
    (`Lock.touch`): as long as its time changes, its run lives. Only changes count, so clocks need
    not agree.

    Parameters
    ----------
    silence : float
        Seconds after which a run on another host that gave no sign counts as lost.
    """

    def __init__(self, *, silence: float = 60.0) -> None:
        self._silence = silence
        self._signs: dict[Path, tuple[int, float]] = {}

    def alive(self, locks: Iterable[Path]) -> set[Owner]:
        """Return the live owners of locks, except this very process."""
        owners = set()
        for path in locks:
            owner = read_owner(path)
            here = owner is not None and _is_here(owner)
            if owner is None or (here and owner.pid == os.getpid()):
                continue
            if (here and not is_dead(owner)) or (not here and self._gives_signs(path)):
                owners.add(owner)
        return owners

    def _gives_signs(self, path: Path) -> bool:
        now = time.monotonic()
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return True  # it has just been given back
        before, since = self._signs.get(path, (None, now))
        if changed != before:
            since = now
        self._signs[path] = (changed, since)
        return now - since < self._silence


class Lock:
    """The lock beside a shard; a context manager.

    Parameters
    ----------
    target : Path
        The file to be written; the lock is ``<target>.lock``.
    report : callable, optional
        Called with a sentence when a dead owner's lock is removed.

    Raises
    ------
    LockedError
        On entering, if another live run (or one on another host) holds the lock.
    """

    def __init__(self, target: Path, report: Callable[[str], None] = lambda _: None) -> None:
        self.path = target.with_name(target.name + ".lock")
        self._report = report
        self._held = False
        self._owner: Owner | None = None

    def acquire(self) -> None:
        """Take the lock or raise `LockedError`."""
        disk.make_folder(self.path.parent)
        self._owner = current_owner()
        body = json.dumps(asdict(self._owner)).encode()
        for _ in range(3):
            if self._create(body):
                self._held = True
                return
            owner = read_owner(self.path)
            if owner is None and self.path.exists():
                raise LockedError(
                    "A lock file is empty or unreadable.",
                    where=self.path,
                    hint="if no other run is writing this workspace, remove the file",
                )
            if owner is None:
                continue
            if not is_dead(owner):
                raise LockedError(
                    "Another run is writing this shard.",
                    where=self.path,
                    why=f"it is held by {owner}",
                    hint="wait for it, or if you know it is dead, remove the lock file",
                )
            self._remove_stale(owner)
        raise LockedError("The lock could not be taken.", where=self.path, hint="run again")

    def _create(self, body: bytes) -> bool:
        # Written under a private name and linked, so that a lock is never seen half written.
        private = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:12]}{files.PARTIAL}")
        try:
            disk.write_bytes(private, body, sync=True)
            try:
                disk.link(private, self.path)
            except FileExistsError:
                return False
            except OSError:
                # A file system without hard links: exclusive creation is the next best.
                return self._create_exclusively(body)
        finally:
            files.discard(private)
        return True

    def _create_exclusively(self, body: bytes) -> bool:
        try:
            disk.create(self.path).close()
        except FileExistsError:
            return False
        try:
            disk.write_bytes(self.path, body, sync=True)
        except OSError:
            # An empty lock has no owner whose death could be seen: it would stay for ever.
            files.discard(self.path)
            raise
        return True

    def _remove_stale(self, owner: Owner) -> None:
        # Of several runs that see the dead lock only one wins the rename; if it caught a fresh
        # lock instead, it is put back.
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:12]}{files.PARTIAL}")
        try:
            disk.replace(self.path, aside)
        except FileNotFoundError:
            return
        caught = read_owner(aside)
        if caught != owner:
            with contextlib.suppress(OSError):
                disk.link(aside, self.path)
        else:
            self._report(f"removed the lock of a run that no longer lives ({owner})")
        files.discard(aside)

    def release(self) -> None:
        """Give the lock back."""
        if self._held:
            # Someone may have taken the lock for dead and removed it; another's is left alone.
            if read_owner(self.path) == self._owner:
                disk.remove(self.path)
            # A live run that loses its private file to this creates its lock exclusively.
            files.discard_unfinished(self.path)
            self._held = False

    def touch(self) -> None:
        """Give a sign of life that `Watch` sees on other machines."""
        if self._held:
            with contextlib.suppress(OSError):
                disk.touch(self.path)

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
