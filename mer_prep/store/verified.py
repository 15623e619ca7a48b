"""Remembers which shards were read back whole, as the index of the sources does for frames.

Size, times and inode of a shard only decide whether it is read back again; a shard that nothing
has touched since it was checked is believed. Bits that rot on the disk without the file system's
knowing are therefore found by `mer-prep verify`, which reads everything, and whenever the shard
is used, since every dataset has its checksum.
"""

from __future__ import annotations

import json
from pathlib import Path

from mer_prep.config import parse_json_object
from mer_prep.records import record_text
from mer_prep.store.readback import check_shard
from mer_prep.store.text import write_atomic


class Verified:
    """The shards of a cache that were read back whole.

    Parameters
    ----------
    folder : Path
        Root of the cache; the record is ``.verified.json`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = folder / ".verified.json"
        self._known = self._read()
        self._fresh: dict[str, str] = {}

    def check(self, path: Path) -> None:
        """Read a shard back, unless it is as it was when that was last done.

        Raises
        ------
        ShardError
            If it is damaged.
        """
        name, signature = self._name(path), _signature(path)
        if signature is not None and self._known.get(name) == signature:
            return
        check_shard(path)
        self.note(path)

    def note(self, path: Path) -> None:
        """Take down that a shard has just been read back."""
        signature = _signature(path)
        if signature is not None:
            self._known[self._name(path)] = self._fresh[self._name(path)] = signature

    def save(self) -> None:
        """Write what was learned, beside what others have learned meanwhile.

        Two runs that write at the same moment may lose entries of one; these shards are then
        read back once more.
        """
        if not self._fresh:
            return
        entries = {**self._read(), **self._fresh}
        entries = {name: of for name, of in entries.items() if _is_there(self._folder, name)}
        try:
            write_atomic(self._index, json.dumps(entries, indent=0))
        except OSError:
            return  # a read-only workspace: shards are read back again next time
        self._fresh.clear()

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()

    def _read(self) -> dict[str, str]:
        try:
            return parse_json_object(record_text(self._index))
        except (OSError, ValueError):
            return {}


def _is_there(folder: Path, name: str) -> bool:
    try:
        return (folder / name).exists()
    except (OSError, ValueError):
        return False  # no name that a file can have


def _signature(path: Path) -> str | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}"
