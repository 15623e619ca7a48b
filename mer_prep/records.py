"""Small files that the program wrote, and that somebody may have put something else in place of."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

#: Bytes of the largest record that is read; the configuration of a run of ten thousand clips and a
#: thousand folds has fewer.
LARGEST = 512 * 2**20


def record_bytes(path: Path) -> bytes:
    """Return what a small file holds.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        If it cannot be read, has more than `LARGEST` bytes, or is no regular file: a pipe would
        be waited for, and a device may never end.
    """
    check_regular(path)  # before it is opened, which some devices take for an order
    with open(path, "rb") as file:
        facts = os.fstat(file.fileno())
        _check(facts, path)
        if facts.st_size > LARGEST:
            raise OSError(errno.EFBIG, f"It has more than {LARGEST / 2**20:,.0f} MiB", str(path))
        return file.read(facts.st_size)


def record_text(path: Path) -> str:
    """Return the text of a small file in UTF-8; errors as of `record_bytes`.

    Raises
    ------
    UnicodeDecodeError
        If it is not UTF-8.
    """
    return record_bytes(path).decode()


def check_regular(path: Path) -> None:
    """Raise `OSError` unless there is a regular file: a pipe would be waited for."""
    _check(os.stat(path), path)


def _check(facts: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(errno.EINVAL, "It is no regular file", str(path))
