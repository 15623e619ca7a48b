"""The CSV file of a folder of clips: onset, apex, offset, label and subject by clip.

``clip`` is its only required column; the others may follow in any order.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mer_prep.checks import suggest
from mer_prep.errors import AnnotationError
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
from mer_prep.sources.expressions import Expression, Reading
from mer_prep.sources.trees import note_refused, optional_text

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


def annotated_expressions(
    reading: Reading, found: Mapping[str, FoundClip], path: Path
) -> tuple[list[Expression], dict[str, float]]:
    """Return the expressions that a CSV file names, then the clips it leaves out, and frame rates.

    Parameters
    ----------
    reading : Reading
        Findings are added to it.
    found : mapping of str to FoundClip
        The clips on disk.
    path : Path
        The CSV file, with `COLUMNS`.

    Returns
    -------
    expressions : list of Expression
        One for every row, and for every clip without a row.
    rates : dict of str to float
        Frames per second by the key of the expression, where the file has them.

    Raises
    ------
    AnnotationError
        If the file has unknown columns, names clips that are not there, or most of its rows
        cannot be read.
    """
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
        plain = plain_expression(clip)
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
            expressions.append(plain_expression(clip))
    return expressions, rates


def plain_expression(clip: FoundClip) -> Expression:
    """Return a clip as an expression of which nothing is annotated."""
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
