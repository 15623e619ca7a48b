"""New HDF5 files, written through `mer_prep.store.disk`: one plain error when the disk fails."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import h5py

from mer_prep.errors import MerPrepError
from mer_prep.store import disk, files


@contextmanager
def new_hdf5(
    path: Path, *, target: Path, needed: int = 0
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Open a new HDF5 file for the time of a ``with`` block, at whose end all of it is written.

    Parameters
    ----------
    path : Path
        The file; it must not be there.
    target : Path
        The file it will become, for messages.
    needed : int
        Rough size in bytes, for messages.

    Yields
    ------
    file : h5py.File
        The file.
    check : callable
        Raises the `OSError` of the first write that failed, if one has.

    Raises
    ------
    ShardError
        If the disk is full or fails.
    """
    with files.explained(target, needed):
        raw = disk.create(path, "xb+")
    with raw:
        patient = _PatientFile(raw)
        try:
            with h5py.File(patient, "w") as file:
                yield file, patient.check
        except Exception as error:
            if patient.failure is None or isinstance(error, MerPrepError):
                raise
            # The library stumbled over what did not reach the disk: the disk is to blame.
        with files.explained(target, needed):
            patient.check()


class _PatientFile(io.RawIOBase):
    """A file for the HDF5 library that remembers the first failure instead of raising it.

    On a full disk the library would raise once and then complain from every object it drops, and
    an interruption would go through C code that does not stand it. Here the library goes on
    writing into nothing until it is asked, and there is one plain error.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self.failure: BaseException | None = None
        self._raw = raw

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self.failure is not None:
            raise self.failure

    def fail(self, error: BaseException) -> None:
        """Remember a failure, unless there was one before."""
        if self.failure is None:
            self.failure = error

    def readinto(self, buffer: Any, /) -> int | None:
        try:
            return self._raw.readinto(buffer)
        except (OSError, ValueError) as error:
            self.fail(error)
            return len(memoryview(buffer).cast("B"))

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.failure is None and len(rest):
                rest = rest[self._raw.write(rest) :]
        except (OSError, ValueError) as error:
            self.fail(error)
        return size

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return self._raw.seek(offset, whence)
        except (OSError, ValueError) as error:
            self.fail(error)
            return offset

    def tell(self) -> int:
        try:
            return self._raw.tell()
        except (OSError, ValueError) as error:
            self.fail(error)
            return 0

    def truncate(self, size: int | None = None, /) -> int:
        try:
            if self.failure is None:
                return self._raw.truncate(size)
        except (OSError, ValueError) as error:
            self.fail(error)
        return self.tell() if size is None else size

    def flush(self) -> None:
        """Do nothing: there is no buffer."""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


_CALLED_BY_HDF5 = frozenset(
    getattr(_PatientFile, name).__code__
    for name in ("readinto", "write", "seek", "tell", "truncate", "flush")
)


def hold_back(error: BaseException, frame: FrameType | None) -> bool:
    """Keep what a signal handler is about to raise while the HDF5 library is writing.

    The library would not stand it. It is raised instead as soon as the writing is left.

    Parameters
    ----------
    error : BaseException
        What is to be raised.
    frame : frame, optional
        The frame that the handler was given.

    Returns
    -------
    bool
        Whether it is kept; if not, the handler may raise it.
    """
    while frame is not None:
        if frame.f_code in _CALLED_BY_HDF5:
            frame.f_locals["self"].fail(error)
            return True
        frame = frame.f_back
    return False
