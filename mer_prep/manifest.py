"""Clips, findings and the manifest files that hold them.

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
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_prep.errors import ManifestError
from mer_prep.manifest_checks import (
    IMPORT_AGAIN,
    check_relative,
    check_schema,
    filled,
    is_name,
    is_root,
    strict_json,
)
from mer_prep.store import disk
from mer_prep.store.text import write_atomic

SCHEMA = 1

APEX_SOURCES = ("annotated", "spotted", "midpoint")

EXPRESSION_TYPES = ("micro", "macro")

LEVELS = ("error", "warning", "info")

#: A file of this name in a corpus folder says that ``mer-prep synth`` made it.
SYNTHETIC_MARK = "SYNTHETIC.txt"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something noticed about a corpus.

    Parameters
    ----------
    level : {'error', 'warning', 'info'}
        An error keeps a clip from being prepared; a warning does not.
    code : str
        Stable short name, e.g. ``apex-missing``.
    message : str
        What was found, and what was done about it.
    clip_id : str, optional
        The clip it concerns.
    where : str, optional
        File, row or cell.
    """

    level: str
    code: str
    message: str
    clip_id: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        place = " · ".join(part for part in (self.clip_id, self.where) if part)
        return f"{self.level} [{self.code}] {place + ': ' if place else ''}{self.message}"


#: Stands for the digest of frames that are missing or cannot be read.
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Clip:
    """One annotated expression: its frames, its key frames and its labels.

    Parameters
    ----------
    clip_id : str
        ``<corpus>/<subject>/<clip>``, plus ``@<onset>`` where that is not unique.
    corpus : str
        Name of the corpus, e.g. ``casme2``.
    subject : str
        Canonical subject within the corpus: ``sub01``, ``006``, ``s01``.
    clip : str
        Name of the clip within the corpus, spelled as the corpus spells it.
    root : str
        Absolute source folder; `frames` and `video` are relative to it.
    frame_numbers : tuple of int
        Number of every frame in order: the number in the file name, or for a video the
        zero-based index of the decoded frame. Numbers may have gaps.
    frames : tuple of str
        Relative POSIX paths of the frame files in order; empty if `video` is given.
    video : str, optional
        Relative POSIX path of a video file.
    fps : float, optional
        Frames per second of the recording.
    onset, apex, offset : int, optional
        Key frames, as frame numbers. None if unknown.
    apex_source : {'annotated', 'spotted', 'midpoint'}, optional
        Where `apex` comes from; None if there is no apex.
    emotion : str, optional
        Normalised emotion (lower case, field's spelling).
    emotion_raw : str, optional
        The annotation's own word.
    action_units : tuple of int
        Numbers of the action units named, ascending, sides and strengths left out.
    action_units_raw : str, optional
        The annotation's own text.
    objective_class : int, optional
        Objective class 1 to 7 where annotated.
    variant : str, optional
        Which form of the corpus: raw, selected, cropped, HS, VIS, NIR ...
    restricted : bool
        True for licensed corpora: nothing derived from it may be passed on.
    synthetic : bool
        True for frames made by ``mer-prep synth``.
    source_digest : str
        SHA-256 over the frame numbers and the bytes of all frames (see `sources.frames`);
        `UNREADABLE` if one is missing or cannot be read.
    flags : tuple of str
        Codes of the findings that concern this clip.
    expression_type : {'micro', 'macro'}
        Kind of expression; manifests that do not say hold micro-expressions.
    """

    clip_id: str
    corpus: str
    subject: str
    clip: str
    root: str
    frame_numbers: tuple[int, ...]
    frames: tuple[str, ...] = ()
    video: str | None = None
    fps: float | None = None
    onset: int | None = None
    apex: int | None = None
    offset: int | None = None
    apex_source: str | None = None
    emotion: str | None = None
    emotion_raw: str | None = None
    action_units: tuple[int, ...] = ()
    action_units_raw: str | None = None
    objective_class: int | None = None
    variant: str | None = None
    restricted: bool = False
    synthetic: bool = False
    source_digest: str = ""
    flags: tuple[str, ...] = ()
    expression_type: str = "micro"

    @property
    def subject_id(self) -> str:
        """Subject across corpora, ``<corpus>/<subject>``."""
        return f"{self.corpus}/{self.subject}"

    def position(self, number: int) -> int:
        """Return the zero-based position of a frame number among `frame_numbers`.

        Positions and numbers differ wherever a corpus has gaps or does not start at zero.
        """
        try:
            return self.frame_numbers.index(number)
        except ValueError:
            raise ManifestError(
                f"Frame {number} of clip {self.clip_id} is not on disk.",
                where=f"{self.root} (frames {self.frame_numbers[0]} to {self.frame_numbers[-1]})"
                if self.frame_numbers
                else self.root,
                why="a key frame that is missing cannot be replaced by a neighbour unnoticed",
                hint="restore the frame, or correct the annotation by an erratum",
            ) from None

    def expression_span(self) -> tuple[int, int]:
        """Return positions (first, last + 1) of the frames from onset to offset.

        An unknown onset means the first frame, an unknown offset the last. Frames missing inside
        the span are simply absent; a missing onset or offset frame is looked for by number, and
        the nearest frame inside the span stands in for a missing *offset* only.
        """
        first = 0 if self.onset is None else self.position(self.onset)
        if self.offset is None:
            return first, len(self.frame_numbers)
        last = max(
            (i for i, number in enumerate(self.frame_numbers) if number <= self.offset),
            default=-1,
        )
        if last < first:
            raise ManifestError(
                f"Clip {self.clip_id} has no frame between onset {self.onset} "
                f"and offset {self.offset}.",
                where=self.root,
                hint="check the annotation with `mer-prep validate`",
            )
        return first, last + 1


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


def make_clip_id(corpus: str, subject: str, clip: str, onset: int | None = None) -> str:
    """Return the NFC-normalised clip id, with ``@onset`` if an onset is given."""
    text = f"{corpus}/{subject}/{clip}" + ("" if onset is None else f"@{onset}")
    return unicodedata.normalize("NFC", text)


def unique_ids(clips: Sequence[Clip]) -> list[Clip]:
    """Return the clips with ``@<onset>`` added to ids that several clips share.

    Raises
    ------
    ManifestError
        If two clips have the same corpus, subject, clip and onset.
    """
    shared = {
        clip_id for clip_id, count in Counter(clip.clip_id for clip in clips).items() if count > 1
    }
    result = [
        dataclasses.replace(
            clip, clip_id=make_clip_id(clip.corpus, clip.subject, clip.clip, clip.onset)
        )
        if clip.clip_id in shared
        else clip
        for clip in clips
    ]
    check_unique(result)
    return result


def check_unique(clips: Iterable[Clip], *, where: str | None = None) -> None:
    """Raise `ManifestError` if two clips share one id."""
    seen: dict[str, int] = {}
    for row, clip in enumerate(clips, start=1):
        if clip.clip_id in seen:
            raise ManifestError(
                f"Clip id {clip.clip_id:.120} stands twice (clips {seen[clip.clip_id]} and {row}).",
                where=where or clip.root,
                why="results are stored and scored by clip id",
                hint="remove the duplicate row or folder",
            )
        seen[clip.clip_id] = row


def emotion_counts(clips: Iterable[Clip]) -> dict[str, int]:
    """Return the number of clips per normalised emotion, largest first."""
    return dict(Counter(clip.emotion or "unlabelled" for clip in clips).most_common())


def subject_counts(clips: Iterable[Clip]) -> dict[str, int]:
    """Return the number of clips per subject, sorted by subject."""
    return dict(sorted(Counter(clip.subject for clip in clips).items()))


@dataclass(frozen=True, slots=True)
class Recording:
    """A long video of a corpus, whether or not an expression is annotated in it.

    Parameters
    ----------
    name : str
        Name within the corpus, e.g. ``006_1``.
    subject : str
        Canonical subject within the corpus.
    folder : str
        Relative POSIX path of the folder of its frames: that of the frames of its clips.
    first, last : int
        Smallest and largest frame number.
    frames : int
        Frames on disk; fewer than the numbers from first to last where there are gaps.
    """

    name: str
    subject: str
    folder: str
    first: int
    last: int
    frames: int


@dataclass(frozen=True)
class ImportRecord:
    """How a corpus was read; stored as ``manifests/<corpus>.json``.

    Parameters
    ----------
    corpus : str
        Name of the corpus.
    source : str
        Name of the importer.
    root : str
        Absolute source folder.
    variant : str, optional
        Form of the corpus that was found or chosen.
    annotations : str, optional
        Annotation file.
    annotations_sha256 : str, optional
        Digest of the annotation file.
    annotation_version : str, optional
        Version recognised by content.
    errata : tuple of str
        Names of the errata that were applied.
    synthetic : bool
        True if the folder was made by ``mer-prep synth``.
    options : mapping of str to str
        What was chosen where the corpus leaves a choice, e.g. which column gives the emotion.
    findings : tuple of Finding
        What the importer noticed.
    recordings : tuple of Recording
        Every long video, for spotting; empty where the clips are not cut from long videos.
    manifest_sha256 : str, optional
        Digest of the ``.jsonl`` as it was written; shows lost or edited lines.
    """

    corpus: str
    source: str
    root: str
    variant: str | None = None
    annotations: str | None = None
    annotations_sha256: str | None = None
    annotation_version: str | None = None
    errata: tuple[str, ...] = ()
    synthetic: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = field(default=())
    recordings: tuple[Recording, ...] = ()
    manifest_sha256: str | None = field(default=None, compare=False)


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
        _check_regular(path)
        text = path.read_text(encoding="utf-8-sig")
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
