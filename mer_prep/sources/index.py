"""Remembers which source files were already hashed, as git's index does.

Size, times and inode of a clip's files only decide whether their bytes are hashed again. They
never enter a key.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mer_prep.config import parse_json_object
from mer_prep.errors import MerPrepError
from mer_prep.manifest import UNREADABLE, Clip
from mer_prep.records import record_text
from mer_prep.sources.frames import source_digest, source_files, stat_signature
from mer_prep.store import disk
from mer_prep.store.text import write_atomic

#: A file changed less than this before it was hashed may change again within the clock's grain.
_GRAIN_NS = 2_000_000_000


def current_digests(
    clips: Sequence[Clip],
    index: Path,
    *,
    others: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Return the digest of every clip's source as it is now.

    Parameters
    ----------
    clips : sequence of Clip
        Clips of one corpus.
    index : Path
        File of remembered digests; made or updated if the folder can be written.
    others : iterable of str
        Ids of clips of the corpus that are not asked for; what is remembered of them stays, and
        that of all other clips is forgotten.
    progress : callable, optional
        Called with (clips hashed, clips to hash).

    Returns
    -------
    dict of str to str
        Digest by clip id; ``unreadable`` where a file is missing or cannot be read.
    """
    remembered = _read(index)
    digests: dict[str, str] = {}
    fresh: dict[str, list[str]] = {}
    todo: list[tuple[Clip, str | None]] = []
    for clip in clips:
        signature = stat_signature(clip)
        known = remembered.get(clip.clip_id)
        if signature is not None and known is not None and known[0] == signature:
            digests[clip.clip_id] = known[1]
            fresh[clip.clip_id] = known
        else:
            todo.append((clip, signature))
    for done, (clip, signature) in enumerate(todo, start=1):
        started = time.time_ns()
        try:
            digest = source_digest(clip)
        except MerPrepError:
            digest = UNREADABLE
        digests[clip.clip_id] = digest
        settled = signature is not None and _newest(clip) < started - _GRAIN_NS
        if digest != UNREADABLE and settled:
            fresh[clip.clip_id] = [str(signature), digest]
        if progress:
            progress(done, len(todo))
    staying = set(others) - digests.keys()
    if fresh != {key: one for key, one in remembered.items() if key not in staying}:
        # Read again: what another run has learned meanwhile of the others stays, too.
        kept = {key: one for key, one in _read(index).items() if key in staying}
        _write(index, {**kept, **fresh})
    return digests


def _newest(clip: Clip) -> int:
    newest = 0
    for relative in source_files(clip):
        facts = os.stat(os.path.join(clip.root, relative))
        newest = max(newest, facts.st_mtime_ns, facts.st_ctime_ns)
    return newest


def _read(index: Path) -> dict[str, list[str]]:
    try:
        loaded = parse_json_object(record_text(index))
    except (OSError, ValueError):
        return {}
    return {clip_id: known for clip_id, known in loaded.items() if _is_entry(known)}


def _is_entry(known: object) -> bool:
    """Return whether something may stand for the signature and the digest of a clip."""
    return (
        isinstance(known, list)
        and len(known) == 2
        and all(isinstance(one, str) for one in known)
        and re.fullmatch(r"[0-9a-f]{64}", known[1]) is not None
    )


def _write(index: Path, entries: dict[str, list[str]]) -> None:
    try:
        disk.make_folder(index.parent)
        write_atomic(index, json.dumps(entries))
    except OSError:
        # A read-only workspace: everything still works, bytes are hashed again next time.
        return
