"""Scratch folders of runs: each says whose it is, so that a killed run's can be cleared away."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from mer_prep.store.lock import current_owner, is_dead, read_owner

_PREFIX = "mer-prep-"
_OWNER = "owner.json"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder for the time of a ``with`` block; those of dead processes are removed first.

    Yields
    ------
    Path
        An empty folder below the system's folder for temporary files.
    """
    remove_stale()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
        owner = json.dumps(asdict(current_owner()))
        (Path(folder) / _OWNER).write_text(owner, encoding="utf-8")
        inner = Path(folder) / "scratch"
        inner.mkdir()
        yield inner


def remove_stale() -> list[Path]:
    """Remove the scratch folders of processes that certainly no longer run.

    Only folders of this user that hold an owner's record are touched. A link is never followed.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    for folder in sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")):
        try:
            ours = folder.lstat().st_uid == os.getuid() and not folder.is_symlink()
        except OSError:
            continue
        owner = read_owner(folder / _OWNER) if ours else None
        if owner is not None and is_dead(owner):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
