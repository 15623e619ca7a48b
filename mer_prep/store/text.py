"""Small text files that are replaced as a whole."""

from __future__ import annotations

import glob
import hashlib
import os
import platform
from pathlib import Path

from mer_prep.store import disk, files
from mer_prep.store.lock import pid_namespace, process_start


def write_atomic(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old or the new one, never a part.

    What writers of the same file left unfinished when they were killed on this machine is removed.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        What it will hold, in UTF-8.
    """
    partial = path.with_name(f".{path.name}.{_here()}-{os.getpid()}{files.PARTIAL}")
    try:
        disk.write_bytes(partial, text.encode(), sync=True)
        disk.replace(partial, path)
    finally:
        files.discard(partial)
    for left in path.parent.glob(f".{glob.escape(path.name)}.{_here()}-*{files.PARTIAL}"):
        number = left.name.removesuffix(files.PARTIAL).rpartition("-")[2]
        if number.isdecimal() and process_start(int(number)) is None:
            files.discard(left)


def _here() -> str:
    """Return a short name for where a process id means the same process."""
    return hashlib.sha256(f"{platform.node()} {pid_namespace()}".encode()).hexdigest()[:8]
