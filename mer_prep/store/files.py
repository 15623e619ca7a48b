"""Files that appear at once when they are whole, and what is said when the disk refuses."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mer_prep.errors import ConfigError, ShardError
from mer_prep.store import disk

PARTIAL = ".partial"


def partial_path(target: Path) -> Path:
    """Return a fresh name in the target's folder for a file that is still being written."""
    return target.with_name(f"{target.name}.{uuid.uuid4().hex[:12]}{PARTIAL}")


def check_target(target: Path) -> None:
    """Refuse a name that is taken by something that is no file and would be lost, or wait.

    Raises
    ------
    ConfigError
        If a folder, a device or a pipe has the name; a link is replaced, not followed.
    """
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise ConfigError(
            f"{target.name} is there already and is no file.",
            where=target,
            why="it would be replaced by a file",
            hint="choose another name, or remove it",
        )


def publish(partial: Path, target: Path) -> None:
    """Make a finished file appear under its own name, durably and at once."""
    disk.sync(partial)
    disk.replace(partial, target)
    disk.sync(target.parent)


def discard(path: Path) -> bool:
    """Remove a file of no use and return whether it is gone; `mer-prep gc` removes what stays."""
    if not os.path.lexists(path):
        return True
    try:
        disk.remove(path)
    except OSError:
        return False
    return True


def discard_all_of(path: Path) -> None:
    """Remove a file of no use, and what writers that were killed left unfinished of it."""
    discard(path)
    discard_unfinished(path)


def discard_unfinished(path: Path) -> None:
    """Remove what writers that were killed left unfinished of a file; it has no live writer."""
    for partial in path.parent.glob(f"{glob.escape(path.name)}.*{PARTIAL}"):
        discard(partial)


_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(target: Path, needed: int = 0) -> Iterator[None]:
    """Turn what the HDF5 library says about a full or failing disk into a `ShardError`.

    Parameters
    ----------
    target : Path
        The file being made.
    needed : int
        Rough size in bytes, for the message.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ShardError(
                f"The cache cannot be written: {os.strerror(error.errno)}.",
                where=target,
                hint="choose a writable --workspace",
            ) from error
        free = free_bytes(target.parent)
        text = str(error)
        if getattr(error, "errno", None) == errno.EFBIG or f"errno = {errno.EFBIG}" in text:
            raise ShardError(
                f"{target.name} may not grow further: a limit on file sizes is in force.",
                where=target.parent,
                why="nothing was published; what is published is unchanged",
                hint="raise the limit (`ulimit -f`, or a quota), then run again",
            ) from error
        full = getattr(error, "errno", None) in _FULL or any(
            f"errno = {number}" in text for number in _FULL
        )
        if full or free < max(needed, 1 << 20):
            raise ShardError(
                f"No space left to write {target.name}: {free / 2**20:,.0f} MiB free"
                + (f", about {needed / 2**20:,.0f} MiB needed." if needed else "."),
                where=target.parent,
                why="nothing was published; what is published is unchanged",
                hint="free some space (`mer-prep gc` shows what nothing needs), then run again",
            ) from error
        raise ShardError(
            f"Writing failed: {text}.",
            where=target,
            why="nothing was published; what is published is unchanged",
            hint="check the disk, then run again",
        ) from error


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder (of its nearest existing parent)."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
