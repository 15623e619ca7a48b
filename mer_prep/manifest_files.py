"""Manifest files: written at once, and read strictly.

A manifest is ``manifests/<corpus>.jsonl``, one clip a line, with ``<corpus>.json`` beside it: how
the corpus was read (root, variant, annotation version, errata) and what was found on the way.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import operator
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mer_prep.errors import ManifestError
from mer_prep.manifest import (
    APEX_SOURCES,
    EXPRESSION_TYPES,
    Clip,
    Finding,
    ImportRecord,
    Recording,
    check_unique,
    emotion_counts,
    make_clip_id,
)
from mer_prep.manifest_checks import (
    IMPORT_AGAIN,
    check_relative,
    check_schema,
    filled,
    is_name,
    is_root,
    strict_json,
)
from mer_prep.records import record_bytes
from mer_prep.store import disk
from mer_prep.store.text import write_atomic

SCHEMA = 1


#: Largest frame number; above it JSON readers lose digits.
_LARGEST = 2**53


_CLIP_FIELDS = {f.name: f for f in dataclasses.fields(Clip)}


_TUPLES = {"frame_numbers", "frames", "action_units", "flags"}


_REQUIRED = {"clip_id", "corpus", "subject", "clip", "root", "frame_numbers"}


_TYPES: dict[str, tuple[type, ...]] = {
    "fps": (int, float),
    "onset": (int,),
    "apex": (int,),
    "offset": (int,),
    "objective_class": (int,),
    "restricted": (bool,),
    "synthetic": (bool,),
}


def clip_to_json(clip: Clip) -> str:
    """Return the clip's manifest line, without the newline."""
    record: dict[str, Any] = {"schema": SCHEMA}
    for name in _CLIP_FIELDS:
        record[name] = getattr(clip, name)
    return json.dumps(record, ensure_ascii=False)


def clip_from_json(line: str, *, where: str) -> Clip:
    """Read one manifest line strictly.

    Raises
    ------
    ManifestError
        For text that is not JSON, an unknown schema, unknown, missing or mistyped fields, and
        paths that are absolute, climb out of the root or hold a NUL.
    """
    try:
        return _clip(strict_json(line, where=where, what="A manifest line"), where)
    except ManifestError as error:
        error.hint = error.hint or IMPORT_AGAIN
        raise


def _clip(record: dict[str, Any], where: str) -> Clip:
    check_schema(record, SCHEMA, where=where)
    unknown = sorted(set(record) - set(_CLIP_FIELDS))
    missing = sorted(_REQUIRED - set(record))
    if unknown or missing:
        raise _refused(
            f"The clip's fields do not fit: unknown {unknown!s:.300}, missing {missing}.", where
        )
    for name, value in record.items():
        record[name] = _checked(name, value, where)
    clip = Clip(**record)
    if bool(clip.video) == bool(clip.frames):
        raise _refused("A clip has either frames or a video.", where)
    if clip.frames and len(clip.frames) != len(clip.frame_numbers):
        raise _refused("A clip's frames and frame numbers differ in count.", where)
    if not all(map(operator.lt, clip.frame_numbers, clip.frame_numbers[1:])):
        raise _refused("A clip's frame numbers do not ascend.", where)
    if (clip.apex is None) != (clip.apex_source is None) or (
        clip.apex_source is not None and clip.apex_source not in APEX_SOURCES
    ):
        raise _refused(
            f"Apex {clip.apex!r} and its source {clip.apex_source!r:.60} do not fit.", where
        )
    if clip.expression_type not in EXPRESSION_TYPES:
        raise _refused(f"A clip is {clip.expression_type!r:.60}, not micro or macro.", where)
    _check_names(clip, where)
    return clip


def _refused(what: str, where: str) -> ManifestError:
    return ManifestError(what, where=where, hint=IMPORT_AGAIN)


def _check_names(clip: Clip, where: str) -> None:
    """Check what ids, paths and numbers are made of."""
    names = (clip.corpus, clip.subject, clip.clip)
    ids = (make_clip_id(*names), make_clip_id(*names, clip.onset))
    if clip.clip_id not in ids or not all(map(is_name, names)):
        raise _refused(f"Clip id {clip.clip_id!r:.120} does not fit {names!s:.300}.", where)
    numbers = clip.frame_numbers
    if not numbers or numbers[0] < 0 or numbers[-1] > _LARGEST:
        raise _refused("A clip's frame numbers are missing or out of range.", where)
    for name in ("onset", "apex", "offset", "objective_class"):
        value = getattr(clip, name)
        if value is not None and abs(value) > _LARGEST:
            raise _refused(f"A clip's {name} is out of range.", where)
    if clip.fps is not None and not 0 < clip.fps < 1e6:
        raise _refused(f"A clip has {clip.fps!s:.60} frames per second.", where)
    if not is_root(clip.root):
        raise _refused(f"The root {clip.root!r:.120} is not an absolute path.", where)


def _checked(name: str, value: Any, where: str) -> Any:
    def bad(expected: str) -> ManifestError:
        return _refused(f"Field '{name}' must be {expected}, not {_shown(value)}.", where)

    if name in _TUPLES:
        kind: type = int if name in {"frame_numbers", "action_units"} else str
        # What JSON holds is of these very types; a bool is not a whole number here.
        if not isinstance(value, list) or not set(map(type, value)) <= {kind}:
            raise bad(f"a list of {'whole numbers' if kind is int else 'texts'}")
        if name == "frames":
            for item in value:
                check_relative(str(item), where=where)
        return tuple(value)
    if value is None and name not in _REQUIRED and _CLIP_FIELDS[name].default is None:
        return None
    kinds = _TYPES.get(name, (str,))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise bad(" or ".join(kind.__name__ for kind in kinds))
    if name == "video":
        check_relative(str(value), where=where)
    return value


def _shown(value: Any) -> str:
    # A number of thousands of digits has no decimal text in Python.
    return "a huge number" if isinstance(value, int) and abs(value) > 10**80 else f"{value!r:.80}"


def write_manifest(folder: Path, clips: Sequence[Clip], record: ImportRecord) -> Path:
    """Write ``<corpus>.jsonl`` and ``<corpus>.json`` atomically; return the former's path."""
    check_unique(clips)
    disk.make_folder(folder)
    path = folder / f"{record.corpus}.jsonl"
    text = "".join(clip_to_json(clip) + "\n" for clip in clips)
    facts = {
        "schema": SCHEMA,
        **dataclasses.asdict(record),
        "manifest_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "clips": len(clips),
        "subjects": len({clip.subject for clip in clips}),
        "emotions": emotion_counts(clips),
    }
    write_atomic(path.with_suffix(".json"), json.dumps(facts, ensure_ascii=False, indent=1) + "\n")
    write_atomic(path, text)
    return path


def read_manifest(path: Path) -> list[Clip]:
    """Read a manifest strictly.

    Raises
    ------
    ManifestError
        If the file is missing, a line is bad (named by number) or two clips share an id.
    """
    clips = []
    try:
        _check_regular(path)
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                place = f"{path}, line {number}"
                clip = clip_from_json(line, where=place)
                if clip.corpus != path.stem:
                    raise ManifestError(
                        f"A clip of corpus '{clip.corpus:.60}' stands in the manifest {path.name}.",
                        where=place,
                        hint=IMPORT_AGAIN,
                    )
                clips.append(clip)
    except FileNotFoundError:
        raise ManifestError(
            f"There is no manifest {path.name}.",
            where=path.parent,
            hint=f"run `mer-prep import {path.stem} FOLDER` first",
        ) from None
    except UnicodeDecodeError as error:
        raise _refused(f"The manifest is not UTF-8: {error}.", str(path)) from None
    except OSError as error:
        raise ManifestError(
            f"The manifest cannot be read: {error.strerror}.", where=path, hint="check the disk"
        ) from None
    check_unique(clips, where=str(path))
    return clips


def _check_regular(path: Path) -> None:
    """Refuse what would never end, or wait for ever, if it were read."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ManifestError(
            "A manifest is not a regular file.", where=path, hint="remove it; " + IMPORT_AGAIN
        )


def read_record(path: Path) -> ImportRecord:
    """Read the import record beside a manifest (`path` is the ``.jsonl`` or the ``.json``).

    Raises
    ------
    ManifestError
        If it is missing, of another schema or another corpus, or a field is not what it must be.
    """
    path = path.with_suffix(".json")
    where = str(path)
    try:
        text = record_bytes(path).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"The import record cannot be read: {error}.", where=where, hint=IMPORT_AGAIN
        ) from None
    facts = strict_json(text, where=where, what="The import record")
    check_schema(facts, SCHEMA, where=where)
    known = {field.name for field in dataclasses.fields(ImportRecord)}
    record = filled(
        ImportRecord,
        {key: facts[key] for key in facts if key in known},
        lists={"errata": str, "findings": Finding, "recordings": Recording},
        where=where,
    )
    if record.corpus != path.stem or not is_root(record.root):
        raise ManifestError(
            f"The import record is of corpus {record.corpus!r:.80} in {record.root!r:.120}.",
            where=where,
            hint=IMPORT_AGAIN,
        )
    return record
