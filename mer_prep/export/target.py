"""The folder of an export: what may be replaced there, and how the new one takes its place."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mer_prep.config import parse_json
from mer_prep.errors import ConfigError, LockedError
from mer_prep.export.pictures import SIDECAR
from mer_prep.manifest import SYNTHETIC_MARK
from mer_prep.records import record_text
from mer_prep.store import disk
from mer_prep.store.lock import Lock

#: The file that says what an export is; a folder without it is never replaced.
DESCRIPTION = "export.json"

INDEX = "index.csv"

#: The composite's folds, beside the index of its clips.
FOLDS = "folds.json"

RESTRICTED_MARK = "RESTRICTED.txt"

#: Files that file managers leave in every folder they show; nobody misses them.
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def check_target(out: Path, *, replace: bool, sources: list[str]) -> None:
    """Raise `ConfigError` unless an export may be written to a folder.

    Parameters
    ----------
    out : Path
        The folder.
    replace : bool
        Whether an earlier export there may be replaced; never one that holds other files.
    sources : list of str
        Folders of the corpora, in which nothing is ever written.
    """
    target = out.resolve()
    for source in sources:
        if target.is_relative_to(Path(source).resolve()):
            raise ConfigError(
                "An export is not written into a corpus folder.",
                where=target,
                why="source folders are only ever read",
            )
    if out.exists() and not out.is_dir():
        raise ConfigError("There is a file of that name.", where=out)
    aside = _set_aside(out)
    if aside is not None and not replace:
        raise ConfigError(
            "The folder held an export, and the run that was to replace it ended early.",
            where=aside,
            why="the earlier export is still whole",
            hint=f"add --replace to replace it, or give the folder its name back: {out.name}",
        )
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not (out / DESCRIPTION).is_file():
        raise ConfigError(
            "The folder is not empty, and it is no export.",
            where=out,
            why="its files would be lost",
            hint="choose another --out",
        )
    if not replace:
        raise ConfigError(
            "The folder holds an earlier export.",
            where=out,
            hint="add --replace to replace it, or choose another --out",
        )
    check_replaceable(out)


def check_replaceable(out: Path) -> None:
    """Raise `ConfigError` if a folder holds files that no export wrote there."""
    foreign = foreign_files(out)
    if not foreign:
        return
    more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
    raise ConfigError(
        f"The folder holds files that are not of the export: {', '.join(foreign[:3])}{more}.",
        where=out,
        why="they would be lost with it",
        hint="move them elsewhere, or choose another --out",
    )


def foreign_files(out: Path) -> list[str]:
    """Return the files of an export's folder that it did not write, sorted, below the folder.

    What an export wrote is told by its index and, where clips have folders, by what stands beside
    the pictures and arrays of each.
    """
    own = {DESCRIPTION, INDEX, FOLDS, RESTRICTED_MARK, SYNTHETIC_MARK}
    for path in _indexed(out / INDEX):
        own |= {path} if path.endswith(".tar") else _files_of_clip(out, path)
    found = []
    for folder, folders, names in os.walk(out):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [
            Path(folder, name).relative_to(out).as_posix()
            for name in (*names, *links)
            if name not in _LITTER
        ]
    return sorted(set(found) - own)


def _indexed(path: Path) -> set[str]:
    try:
        rows = csv.DictReader(io.StringIO(record_text(path), newline=""))
        return {row["path"] for row in rows if row.get("path")}
    except (OSError, ValueError, csv.Error):
        return set()


def _files_of_clip(out: Path, path: str) -> set[str]:
    names = {SIDECAR}
    try:
        facts = parse_json(record_text(out / path / SIDECAR))
        names |= {*facts.get("pictures", ()), *facts.get("arrays", ())}
    except (OSError, ValueError, AttributeError, TypeError):
        pass  # what cannot be told to be the export's own is kept
    return {f"{path}/{name}" for name in names}


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that takes its place at the end, or is removed on an error.

    What an export of the same name left behind when it was killed is removed first.

    Raises
    ------
    LockedError
        If another export to the same folder is running.
    ConfigError
        If, at the end, the folder holds files that are not of an export.
    """
    disk.make_folder(out.parent)
    lock = Lock(out)
    try:
        lock.acquire()
    except LockedError as error:
        raise LockedError(
            "Another export is being written to this folder.",
            where=error.where,
            why=error.why,
            hint="wait for it, or if you know that it is dead, remove the lock file",
        ) from None
    try:
        _put_back(out)
        _remove_leftovers(out)
        yield from _replacing(out)
    finally:
        lock.release()


def _replacing(out: Path) -> Iterator[Path]:
    mark = uuid.uuid4().hex[:12]
    folder = out.with_name(f"{out.name}.{mark}.partial")
    disk.make_folder(folder, fresh=True)
    try:
        yield folder
        disk.sync_tree(folder)
        if not out.exists():
            disk.replace(folder, out)
            disk.sync(out.parent)
            return
        # Once more: files may have come while the export was made.
        check_replaceable(out)
        old = out.with_name(f"{out.name}.{mark}.old")
        disk.replace(out, old)
        try:
            disk.replace(folder, out)
        except OSError:
            disk.replace(old, out)
            raise
        disk.sync(out.parent)
        _remove_leftovers(out)
    finally:
        if folder.exists():
            with contextlib.suppress(OSError):
                disk.remove_tree(folder)


def _put_back(out: Path) -> None:
    """Give an export its name back that was set aside by a run that was then killed."""
    aside = _set_aside(out)
    if aside is not None:
        disk.replace(aside, out)


def _set_aside(out: Path) -> Path | None:
    """Return the export that was to be replaced and whose name nothing has taken since."""
    if out.exists() or not out.parent.is_dir():
        return None
    aside = (path for path in _folders_beside(out, "old") if (path / DESCRIPTION).is_file())
    return next(aside, None)


def _remove_leftovers(out: Path) -> None:
    """Remove unfinished folders of killed exports, and replaced ones that were not yet removed.

    A replaced one stays if nothing has taken its place: it is then all there is.
    """
    kinds = "partial|old" if (out / DESCRIPTION).is_file() else "partial"
    for path in _folders_beside(out, kinds):
        disk.remove_tree(path)


def _folders_beside(out: Path, kinds: str) -> list[Path]:
    name = re.compile(rf"{re.escape(out.name)}\.[0-9a-f]{{12}}\.({kinds})")
    return sorted(
        path
        for path in out.parent.iterdir()
        if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )
