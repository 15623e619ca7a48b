"""Where shards lie: ``cache/<stage>/<key16>/<corpus>--<subject>.h5``."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import ShardError
from mer_prep.store import files
from mer_prep.store.lock import is_dead, read_owner
from mer_prep.store.shard import ShardHeader, read_header

#: Folder of the parts of a stage.
PARTS = ".parts"


def file_stem(corpus: str, subject: str) -> str:
    """Return ``<corpus>--<subject>`` with what file systems dislike replaced, never ambiguous."""
    text = f"{corpus}--{subject}"
    safe = re.sub(r"[^\w.@+ -]", "_", text)
    if safe != text or len(safe.encode()) > 150:
        safe = f"{safe[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return safe


@dataclass(frozen=True)
class Cache:
    """The cache folder of a workspace.

    Parameters
    ----------
    folder : Path
        Its root; it need not exist yet.
    """

    folder: Path

    def shard(self, stage: str, key: str, corpus: str, subject: str) -> Path:
        """Return the path of a shard."""
        return self.folder / stage / key[:16] / f"{file_stem(corpus, subject)}.h5"

    def part(self, stage: str, clip_key: str) -> Path:
        """Return the path of one clip's result that waits for its subject to be complete."""
        return self.folder / stage / PARTS / f"{clip_key}.h5"

    def stages(self) -> list[str]:
        """Return the names of the stages that have a folder."""
        if not self.folder.is_dir():
            return []
        return sorted(
            path.name for path in self.folder.iterdir() if path.is_dir() and path.name[0] != "."
        )

    def shards(self, stage: str | None = None, stem: str = "*") -> list[Path]:
        """Return the published shards, of one stage or all, sorted."""
        if stem != "*":
            stem = re.sub(r"([*?\[])", r"[\1]", stem)
        stages = self.stages() if stage is None else [stage]
        return sorted(
            path
            for name in stages
            for path in (self.folder / name).glob(f"*/{stem}.h5")
            if path.parent.name != PARTS
        )

    def headers(
        self, stage: str, corpus: str, subject: str, *, listing: Listing | None = None
    ) -> list[ShardHeader]:
        """Return the readable shards of a stage and subject, under whatever key, newest first.

        Whoever asks for many subjects gives a `Listing`, or the folder is gone through for each.
        """
        stem = file_stem(corpus, subject)
        found = []
        for path in self.shards(stage, stem) if listing is None else listing.shards(stage, stem):
            try:
                header = read_header(path)
            except ShardError:
                continue
            if (header.corpus, header.subject) == (corpus, subject):
                found.append((path.stat().st_mtime_ns, header))
        return [header for _, header in sorted(found, key=lambda pair: -pair[0])]

    def parts(self) -> list[Path]:
        """Return the parts of subjects that are not complete yet."""
        return sorted(self.folder.glob(f"*/{PARTS}/*.h5"))

    def holds(self, path: Path) -> bool:
        """Return whether a file lies in the cache, and is not merely reached by a link in it.

        Only such files are removed: what a folder that is linked to holds is somebody else's.
        """
        return path.parent.resolve().is_relative_to(self.folder.resolve())

    def leftovers(self) -> list[Path]:
        """Return unfinished files, if no live run could still be writing them."""
        if not self.folder.is_dir() or any(not _dead(lock) for lock in self.locks()):
            return []
        return sorted(self.folder.glob(f"**/*{files.PARTIAL}"))

    def locks(self) -> list[Path]:
        """Return all lock files."""
        return sorted(self.folder.glob("**/*.lock")) if self.folder.is_dir() else []

    def dead_locks(self) -> list[Path]:
        """Return the locks whose owner certainly no longer runs."""
        return [path for path in self.locks() if _dead(path)]


class Listing:
    """The shards of a cache by stage and file name; the folders are gone through once.

    Every shard has a folder of its own, by its key: to look for each of N subjects by itself would
    mean N times N looks.

    Parameters
    ----------
    cache : Cache
        The cache.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._known: dict[str, dict[str, list[Path]]] = {}

    def shards(self, stage: str, stem: str) -> list[Path]:
        """Return the shards of a stage with a file name, as they were at the first question."""
        if stage not in self._known:
            named: dict[str, list[Path]] = {}
            for path in self._cache.shards(stage):
                named.setdefault(path.stem, []).append(path)
            self._known[stage] = named
        return self._known[stage].get(stem, [])


def _dead(lock: Path) -> bool:
    owner = read_owner(lock)
    return owner is not None and is_dead(owner)
