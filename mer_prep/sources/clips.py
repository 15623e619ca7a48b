"""Reads any folder of clips: frame folders or video files, with an optional CSV file.

A clip is ``<clip>/`` or ``<subject>/<clip>/`` with numbered frames in it, or ``<clip>.avi`` or
``<subject>/<clip>.avi``. The CSV file may say what the folders cannot: ``clip`` is its only
required column, ``subject``, ``onset``, ``apex``, ``offset``, ``emotion``, ``fps`` and
``action_units`` may follow in any order.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from mer_prep.checks import suggest
from mer_prep.errors import AnnotationError, ConfigError, DecodeError, ManifestError
from mer_prep.manifest import Clip
from mer_prep.sources.annotations import (
    BLANKS,
    Column,
    Row,
    Sheet,
    Table,
    check_width,
    find_table,
    normalise_heading,
    read_sheets,
)
from mer_prep.sources.expressions import (
    Expression,
    Reading,
    check_key_frames,
    check_on_disk,
    expression_ids,
    index_frames,
    normalise_emotion,
    note_copies,
    parse_action_units,
)
from mer_prep.sources.folders import Folder, walk
from mer_prep.sources.frames import iterate_video, path_below
from mer_prep.sources.trees import Request, note_refused, optional_text
from mer_prep.sources.videos import check_video

COLUMNS = (
    Column("clip"),
    *(
        Column(name, required=False)
        for name in ("subject", "onset", "apex", "offset", "emotion", "fps", "action_units")
    ),
)

#: Subject of clips whose subject nothing tells.
UNKNOWN_SUBJECT = "unknown"

#: Frame rates a container may state and be believed, in frames per second.
SANE_FPS = (1.0, 10_000.0)

#: What to do about a video that OpenCV cannot read.
_CONVERT = "convert it to H.264 MP4 or to a folder of frames"


@dataclass(frozen=True, slots=True)
class FoundClip:
    """A clip on disk: its frames, or its video, by number."""

    subject: str | None
    name: str
    relative: str
    numbers: tuple[int, ...]
    frames: tuple[str, ...] = ()
    video: str | None = None
    fps: float | None = None


def read(request: Request) -> Reading:
    """Read a folder of clips.

    Raises
    ------
    ManifestError
        If there are no clips, or two of one name.
    AnnotationError
        If the CSV file has unknown columns, names clips that are not there, or a cell is not
        what it must be.
    """
    if request.variant is not None:
        raise ConfigError("A folder of clips has no variants.", hint="leave --variant out")
    if not isinstance(request.errata, bool) and request.errata:
        raise ConfigError("A folder of clips has no errata.", hint="leave --errata out")
    reading = Reading(request.name, request.root, cut=True, restricted=False)
    folders = walk(request.root, reading.findings)
    found = _find(reading, folders)
    if not found:
        raise ManifestError(
            "No clip was found: no folder with numbered frames and no readable video.",
            where=request.root,
            hint="expected clip or subject/clip, each a folder of frames or a video file",
        )
    if request.annotations is None:
        expressions = [_expression(clip) for clip in found.values()]
        rates: dict[str, float] = {}
    else:
        reading.annotations = request.annotations
        expressions, rates = _annotated(reading, found, request.annotations)
    expressions = _one_spelling(reading, expressions)
    _note_subjects(reading, expressions)
    for clip_id, expression in zip(
        expression_ids(request.name, expressions), expressions, strict=True
    ):
        source = found[str(expression.key)]
        reading.clips.append(_clip(reading, expression, clip_id, source, rates))
    return reading


def _find(reading: Reading, folders: Sequence[Folder]) -> dict[str, FoundClip]:
    """Return the clips on disk by their relative path without suffix."""
    found: dict[str, FoundClip] = {}

    def add(clip: FoundClip) -> None:
        key = "/".join(part for part in (clip.subject, clip.name) if part)
        if key in found:
            raise ManifestError(
                f"Two clips have the name '{key}': {found[key].relative} and {clip.relative}.",
                where=reading.root,
                why="results are stored and scored by clip",
                hint="rename one of them",
            )
        found[key] = clip

    for folder in folders:
        if folder.images:
            _add_folder(reading, folder, folders, add)
        for name in folder.videos:
            _add_video(reading, folder, name, add)
        if not (folder.images or folder.videos) and _is_leaf(folder, folders):
            reading.note("warning", "clip-empty", "The folder is empty.", where=folder.relative)
    return found


def _is_leaf(folder: Folder, folders: Sequence[Folder]) -> bool:
    depth = len(folder.parts)
    return depth > 0 and not any(
        len(other.parts) > depth and other.parts[:depth] == folder.parts for other in folders
    )


def _add_folder(
    reading: Reading,
    folder: Folder,
    folders: Sequence[Folder],
    add: Callable[[FoundClip], None],
) -> None:
    if len(folder.parts) > 2:
        message = "Frames lie deeper than subject/clip; left out. Import the folder above them."
        reading.note("error", "folder-too-deep", message, where=folder.relative)
        return
    if not folder.parts and len(folders) > 1:
        message = "Frames lie beside the clip folders; left out."
        reading.note("warning", "frames-loose", message, where=folder.images[0])
        return
    frames = index_frames(reading.root, folder)
    if isinstance(frames, str):
        reading.note("error", "frames-unusable", frames, where=folder.relative)
        return
    note_copies(reading, folder)
    add(
        FoundClip(
            subject=folder.parts[0] if len(folder.parts) == 2 else None,
            name=folder.name or reading.root.name,
            relative=folder.relative,
            numbers=tuple(number for number, _ in frames),
            frames=tuple(path for _, path in frames),
        )
    )


def _add_video(
    reading: Reading, folder: Folder, name: str, add: Callable[[FoundClip], None]
) -> None:
    relative = "/".join((*folder.parts, name))
    if len(folder.parts) > 1:
        message = "A video lies deeper than subject/clip; left out. Import the folder above it."
        reading.note("error", "folder-too-deep", message, where=relative)
        return
    try:
        relative.encode("utf-8")
        count, stated, fps = measure_video(path_below(reading.root, relative, where=relative))
    except (ManifestError, DecodeError, UnicodeEncodeError) as error:
        what = error.what if isinstance(error, (ManifestError, DecodeError)) else "Bad name."
        reading.note("error", "video-unreadable", f"{what} Left out.", where=repr(relative))
        return
    if count < stated - 1:
        message = f"Only {count} of the {stated} frames that the video states could be decoded."
        reading.note("warning", "video-short", message, where=relative)
    add(
        FoundClip(
            subject=folder.name or None,
            name=Path(name).stem,
            relative=relative,
            numbers=tuple(range(count)),
            video=relative,
            fps=fps,
        )
    )


def measure_video(path: Path) -> tuple[int, int, float | None]:
    """Return how many frames can be decoded, how many the container states, and a sane rate.

    The count by decoding is what holds; a container that states more was perhaps cut short. The
    rate is None if the container's is not sane.

    Raises
    ------
    DecodeError
        If it cannot be opened or has no frame.
    """
    count = sum(1 for _ in iterate_video(path))
    if not count:
        raise DecodeError("The video has no frame that can be decoded.", where=path, hint=_CONVERT)
    return count, *stated_length(path)


def stated_length(path: Path) -> tuple[int, float | None]:
    """Return how many frames a video's container states, 0 if none, and its rate if it is sane.

    Raises
    ------
    DecodeError
        If it cannot be opened.
    """
    check_video(path)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DecodeError("The video cannot be opened.", where=path, hint=_CONVERT)
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    stated_count = int(stated) if math.isfinite(stated) and 0 <= stated < 2**31 else 0
    sane = fps if math.isfinite(fps) and SANE_FPS[0] <= fps <= SANE_FPS[1] else None
    return stated_count, sane


def _expression(clip: FoundClip) -> Expression:
    return Expression(
        key="/".join(part for part in (clip.subject, clip.name) if part),
        number=0,
        subject=clip.subject or UNKNOWN_SUBJECT,
        clip=clip.name,
        onset=None,
        apex=None,
        offset=None,
        emotion_raw=None,
        where=clip.relative or None,
    )


def _annotated(
    reading: Reading, found: Mapping[str, FoundClip], path: Path
) -> tuple[list[Expression], dict[str, float]]:
    """Return the expressions that the CSV file names, then the clips it leaves out."""
    sheets = read_sheets(path)
    _check_delimiter(sheets[0])
    table = find_table(sheets, COLUMNS)
    _check_columns(table)
    names = _by_name(found)
    expressions: list[Expression] = []
    rates: dict[str, float] = {}
    unknown: list[Row] = []
    refused: list[AnnotationError] = []
    left_out: set[Hashable] = set()
    for row in table:
        subject = row.text("subject")
        if subject.casefold() in BLANKS:
            subject = ""
        clip = names.get(_plain(f"{subject}/{row.text('clip')}")) if subject else None
        clip = clip or names.get(_plain(row.text("clip")))
        if clip is not None and subject and clip.subject:
            _check_subject(row, subject, clip, {str(one.subject) for one in found.values()})
        if clip is None:
            unknown.append(row)
            continue
        plain = _expression(clip)
        try:
            check_width(row, table)
            expression = _row_expression(row, plain, subject)
            fps = _fps(row) if row.text("fps") else None
        except AnnotationError as error:
            refused.append(error)
            left_out.add(plain.key)
            continue
        _note_subject_cell(reading, row, expression.subject)
        expressions.append(expression)
        if fps is not None:
            rates[str(plain.key)] = fps
    if unknown:
        raise _unknown_clips(reading, unknown, found)
    note_refused(reading, refused, total=len(expressions) + len(refused))
    named = left_out | {expression.key for expression in expressions}
    for key, clip in found.items():
        if key not in named:
            message = "The clip has no row in the CSV file; kept without labels."
            reading.note("warning", "clip-without-row", message, where=clip.relative)
            expressions.append(_expression(clip))
    return expressions, rates


def _check_subject(row: Row, subject: str, clip: FoundClip, folders: set[str]) -> None:
    """Refuse a row that moves a clip to the subject of another folder; a new name is the user's."""
    others = {_plain(name) for name in folders} - {_plain(str(clip.subject))}
    if _plain(subject) in others:
        raise AnnotationError(
            f"The row gives clip {clip.name!r} to subject {subject!r}; it lies in the folder of "
            f"{clip.subject!r}.",
            where=row.where("subject"),
            why="one person under two names is trained on and tested",
            hint="correct the row, or move the clip",
        )


#: What others call the columns, for the hint only: a guess is never taken for the name.
_OTHER_NAMES = {
    "label": "emotion",
    "class": "emotion",
    "expression": "emotion",
    "name": "clip",
    "file": "clip",
    "filename": "clip",
    "video": "clip",
    "person": "subject",
    "participant": "subject",
    "start": "onset",
    "peak": "apex",
    "end": "offset",
    "framerate": "fps",
    "au": "action_units",
    "aus": "action_units",
}


def _suggested_column(heading: str, names: list[str]) -> str:
    meant = _OTHER_NAMES.get(normalise_heading(heading))
    return f" Did you mean '{meant}'?" if meant else suggest(heading, names)


#: What separates columns in files that are no CSV, and what it is called.
_DELIMITERS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars"}


def _check_delimiter(sheet: Sheet) -> None:
    """Refuse a file whose first row is one cell that holds all columns."""
    cells = [str(value) for value in (sheet.rows[0] if sheet.rows else ()) if value]
    for delimiter, name in _DELIMITERS.items():
        if len(cells) == 1 and delimiter in cells[0]:
            raise AnnotationError(
                f"The columns are separated by {name}.",
                where=f"{sheet.file}, {sheet.place(1)}",
                hint="save the file as comma-separated UTF-8; semicolons in every row do as well",
            )


def _check_columns(table: Table) -> None:
    known = {key for column in COLUMNS for key in column.keys}
    names = [column.name for column in COLUMNS]
    for heading in table.headings:
        if heading and normalise_heading(heading) not in known:
            raise AnnotationError(
                f"Unknown column '{heading}'.{_suggested_column(heading, names)}",
                where=f"{table.sheet.file}, {table.sheet.place(table.header_row)}",
                hint=f"columns: {', '.join(names)}",
            )


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).replace("\\", "/").strip("/")


def _by_name(found: Mapping[str, FoundClip]) -> dict[str, FoundClip]:
    """Return the clips by every unambiguous name: subject/clip, path, or clip alone."""
    names: dict[str, FoundClip | None] = {}
    for key, clip in found.items():
        alone = {_plain(clip.name), _plain(Path(clip.relative).name)}
        for name in {_plain(key), _plain(clip.relative)} | alone:
            names[name] = None if name in names and name in alone else clip
    return {name: clip for name, clip in names.items() if clip is not None}


def _unknown_clips(
    reading: Reading, rows: Sequence[Row], found: Mapping[str, FoundClip]
) -> AnnotationError:
    first = rows[0]
    name = first.text("clip")
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    several = [key for key in found if key.split("/")[-1] == name]
    if len(several) > 1:
        return AnnotationError(
            f"The clip '{name}'{more} is not unique: {', '.join(several[:3])}.",
            where=first.where("clip"),
            hint="name the clip with its subject, as subject/clip, or fill the subject column",
        )
    return AnnotationError(
        f"There is no clip '{name}'{more} in the folder.{suggest(name, found)}",
        where=first.where("clip"),
        why="a label without its clip would be lost",
        hint=f"clips are named as in {', '.join(repr(key) for key in list(found)[:3])} "
        f"(folder: {reading.root})",
    )


def _row_expression(row: Row, plain: Expression, subject: str) -> Expression:
    subject = unicodedata.normalize("NFC", subject) or plain.subject
    if not re.fullmatch(r"[^/\x00-\x1f]+", subject):
        raise AnnotationError(
            f"{subject!r} cannot name a subject.",
            where=row.where("subject"),
            hint="leave out slashes and control characters",
        )
    return replace(
        plain,
        subject=subject,
        onset=row.optional_whole("onset"),
        apex=row.optional_whole("apex"),
        offset=row.optional_whole("offset"),
        emotion_raw=optional_text(row, "emotion"),
        action_units_raw=optional_text(row, "action_units"),
        where=row.where(),
    )


def _note_subject_cell(reading: Reading, row: Row, subject: str) -> None:
    """Note a subject cell that may mean that there is none."""
    text = row.text("subject")
    if text and text.casefold() in BLANKS:
        message = f"The subject is {text!r}, which says that it is not known; taken as '{subject}'."
        reading.note("warning", "subject-blank", message, where=row.where("subject"))
    elif text.strip("0") == "" and text:
        message = f"The subject is {text!r}. If that stands for none, clips of several people are "
        message += "taken for one person's; kept as it is."
        reading.note("warning", "subject-zero", message, where=row.where("subject"))


def _one_spelling(reading: Reading, expressions: Sequence[Expression]) -> list[Expression]:
    """Return the expressions with subjects that differ only by case under one name."""
    spellings: dict[str, list[str]] = {}
    for expression in expressions:
        found = spellings.setdefault(expression.subject.casefold(), [])
        if expression.subject not in found:
            found.append(expression.subject)
    for first, *others in spellings.values():
        if others:
            listed = ", ".join(repr(name) for name in (first, *others))
            message = f"The subjects {listed} differ only by case; taken as one person, '{first}'. "
            message += "Two names would let one person be trained on and tested."
            reading.note("warning", "subject-case", message)
    return [replace(item, subject=spellings[item.subject.casefold()][0]) for item in expressions]


def _fps(row: Row) -> float:
    try:
        fps = float(row.text("fps"))
    except ValueError:
        fps = math.nan
    if SANE_FPS[0] <= fps <= SANE_FPS[1]:
        return fps
    raise AnnotationError(
        f"'fps' must be a number from {SANE_FPS[0]:g} to {SANE_FPS[1]:g}, not {row.text('fps')!r}.",
        where=row.where("fps"),
    )


def _note_subjects(reading: Reading, expressions: Sequence[Expression]) -> None:
    count = sum(expression.subject == UNKNOWN_SUBJECT for expression in expressions)
    if count:
        reading.note(
            "warning",
            "subject-unknown",
            f"The subject of {count} clips is unknown. Without subjects no honest split exists: "
            "one person would be both trained on and tested. Sort the clips into subject folders "
            "or give a CSV file with a subject column.",
        )


def _clip(
    reading: Reading,
    expression: Expression,
    clip_id: str,
    source: FoundClip,
    rates: Mapping[str, float],
) -> Clip:
    if expression.onset is not None or expression.offset is not None or expression.apex is not None:
        expression = _checked(reading, expression, clip_id, source)
    raw = expression.emotion_raw
    units = expression.action_units_raw
    return Clip(
        clip_id=clip_id,
        corpus=reading.corpus,
        subject=unicodedata.normalize("NFC", expression.subject),
        clip=unicodedata.normalize("NFC", expression.clip),
        root=str(reading.root),
        frame_numbers=source.numbers,
        frames=source.frames,
        video=source.video,
        fps=rates.get(str(expression.key), source.fps),
        onset=expression.onset,
        apex=expression.apex,
        offset=expression.offset,
        apex_source=None if expression.apex is None else "annotated",
        emotion=normalise_emotion(raw) if raw else None,
        emotion_raw=raw,
        action_units=parse_action_units(units or ""),
        action_units_raw=units,
    )


def _checked(
    reading: Reading, expression: Expression, clip_id: str, source: FoundClip
) -> Expression:
    before = len(reading.findings)
    # Zero is a frame of a video, not a way to write "none"; blank key frames are no news here.
    zero = expression.offset == 0 and 0 in source.numbers
    checked = check_key_frames(
        reading, replace(expression, offset=None) if zero else expression, clip_id
    )
    if zero:
        checked = replace(checked, offset=0)
    new = reading.findings[before:]
    reading.findings[before:] = [
        item for item in new if item.code not in ("apex-missing", "offset-missing")
    ]
    check_on_disk(reading, checked, clip_id, source.numbers, source.relative)
    return checked
