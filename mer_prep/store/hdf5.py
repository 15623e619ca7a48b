"""HDF5 files: written through `mer_prep.store.disk` and sealed, read as they were sealed.

There is one plain error when the disk fails, and one when a file is damaged.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import numpy as np

from mer_prep.errors import MerPrepError, ShardAccessError, ShardError
from mer_prep.records import check_regular
from mer_prep.store import disk, files
from mer_prep.store.damage import AGAIN
from mer_prep.store.seal import SEALED_SCHEMAS, open_sealed, seal


@contextmanager
def new_hdf5(
    path: Path, *, target: Path, needed: int = 0
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Open a new HDF5 file for the time of a ``with`` block, at whose end it is written and sealed.

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
            seal(raw)


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a finished HDF5 file for reading.

    Finished files never change, so no lock is asked of the file system; network disks that
    refuse locks are no obstacle. What is read of a sealed file is as it was sealed.

    Raises
    ------
    ShardAccessError
        If the operating system refuses it: by permissions, or by a lock that HDF5 insists on.
    ShardError
        If the file is missing or no whole HDF5 file, or its seal is damaged or gone.
    """
    with ExitStack() as stack:
        try:
            check_regular(path)
            sealed = open_sealed(path)
            if sealed is None:
                file = _open_unsealed(path)
            else:
                stack.enter_context(sealed)
                file = h5py.File(sealed, "r")
            stack.enter_context(file)
            ought = sealed is None and _number(file.attrs.get("schema")) in SEALED_SCHEMAS
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, OSError) and _is_refusal(error):
                raise ShardAccessError(
                    f"The shard cannot be opened: {error}.",
                    where=path,
                    why="it is not damaged by that, and is not made again",
                    hint="check its permissions; where locks are refused, as on network disks, "
                    "`export HDF5_USE_FILE_LOCKING=FALSE`, or take a --workspace on a local disk",
                ) from None
            what = "is missing" if not path.exists() else f"cannot be opened: {error}"
            raise ShardError(
                f"The shard {what}.",
                where=path,
                hint=f"{AGAIN}; `mer-prep verify` lists all that are damaged",
            ) from None
        if ought:
            raise ShardError(
                "The checksums at the end of the shard are gone.",
                where=path,
                why="the shard was changed or cut off after it was published",
                hint=AGAIN,
            )
        yield file


def _open_unsealed(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        # This process has it open already, with a lock: HDF5 then wants the same again.
        return h5py.File(path, "r")


#: Permissions (EPERM, EACCES); locks that are held (EAGAIN) or not to be had (ENOLCK, ENOTSUPP).
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EAGAIN, errno.ENOLCK, 524)


def _is_refusal(error: OSError) -> bool:
    """Return whether a file was refused, whatever is in it; HDF5 may name the cause in words."""
    return error.errno in _REFUSALS or any(
        f"errno = {number}," in str(error) for number in _REFUSALS
    )


def _number(value: Any) -> int:
    return int(value) if isinstance(value, np.integer) else 0


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
