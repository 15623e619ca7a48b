"""Every change the program makes to the files it keeps, so that a test can make each one fail.

The store, manifests, composites, exports and checkpoints change the disk through these functions
alone. Before each change an observer is told of it, if there is one; what it raises comes through
as if the operating system had refused the call. Without an observer a call costs a comparison.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """A change that is about to be made.

    Parameters
    ----------
    name : str
        ``mkdir``, ``create``, ``write``, ``truncate``, ``sync``, ``replace``, ``link``,
        ``remove``, ``rmtree`` or ``touch``; ``library`` for a file that a library writes itself.
    path : Path
        What is changed; of ``replace`` and ``link`` the name that appears.
    file : FileIO, optional
        Of ``write`` and ``truncate`` the open file.
    data : memoryview, optional
        Of ``write`` the bytes.
    source : Path, optional
        Of ``replace`` and ``link`` the name that is there already.
    """

    name: str
    path: Path
    file: io.FileIO | None = None
    data: memoryview | None = None
    source: Path | None = None


Observer = Callable[[Call], None]

_observer: Observer | None = None


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Have an observer told of every change before it is made, for the time of a ``with`` block.

    Parameters
    ----------
    observer : callable
        Called with each `Call`. An `OSError` that it raises is what the caller of the function
        meets, and the change is not made.
    """
    global _observer
    before, _observer = _observer, observer
    try:
        yield
    finally:
        _observer = before


def _announce(name: str, path: str | Path, **details: Any) -> None:
    if _observer is not None:
        _observer(Call(name, Path(path), **details))


class RawFile(io.FileIO):
    """A file without a buffer, whose writes are announced; made by `create`."""

    def write(self, data: Any, /) -> int:
        """Write bytes and return how many were taken, which may be fewer."""
        if _observer is not None:
            view = memoryview(data).cast("B")
            _announce("write", str(self.name), file=self, data=view)
        try:
            return super().write(data)
        except OSError as error:
            error.filename = error.filename or str(self.name)  # which the system leaves out
            raise

    def truncate(self, size: int | None = None, /) -> int:
        """Give the file a size, its present position by default."""
        _announce("truncate", str(self.name), file=self)
        return super().truncate(size)


def create(path: Path, mode: str = "xb") -> RawFile:
    """Open a file to be written, without a buffer.

    Parameters
    ----------
    path : Path
        The file.
    mode : str
        As of `open`: ``xb`` for a file that must not be there, ``xb+`` to read it too, ``wb`` to
        empty one that is, ``ab`` to add to it.
    """
    _announce("create", path)
    return RawFile(path, mode.replace("b", ""))


def write_bytes(path: Path, data: bytes, *, mode: str = "wb", sync: bool = False) -> None:
    """Write a file at once; nothing is promised if this ends early.

    Parameters
    ----------
    path : Path
        The file.
    data : bytes
        What to write.
    mode : str
        As of `create`.
    sync : bool
        Whether to force it to the disk.
    """
    with create(path, mode) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        if sync:
            _announce("sync", path)
            os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 at once, as `write_bytes`."""
    write_bytes(path, text.encode())


def library_writes(path: Path) -> None:
    """Announce that a library is about to write a file by itself."""
    _announce("library", path)


def sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    _announce("sync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Force a folder and all files in it to the disk."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync(path)
    sync(folder)


def make_folder(folder: Path, *, fresh: bool = False) -> None:
    """Create a folder and its parents; one that is there already is an error if `fresh`."""
    if fresh or not folder.is_dir():
        _announce("mkdir", folder)
        folder.mkdir(parents=True, exist_ok=not fresh)


def replace(source: Path, target: Path) -> None:
    """Give a file or folder another name at once, in place of what has it."""
    _announce("replace", target, source=source)
    os.replace(source, target)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, which must be free."""
    _announce("link", target, source=source)
    os.link(source, target)


def remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    _announce("remove", path)
    path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder and all in it."""
    _announce("rmtree", path)
    shutil.rmtree(path)


def touch(path: Path) -> None:
    """Give a file the time of now."""
    _announce("touch", path)
    os.utime(path)
