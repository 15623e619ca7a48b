"""Files of spotting: ground truth and predictions as CSV."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from mer_prep.checks import suggest
from mer_prep.errors import AnnotationError, ManifestError
from mer_prep.manifest import EXPRESSION_TYPES
from mer_prep.sources.annotations import (
    Column,
    Row,
    Table,
    check_width,
    find_table,
    normalise_heading,
    read_csv,
)
from mer_prep.sources.expressions import normalise_emotion
from mer_prep.spotting.intervals import Interval, Truth, Video
from mer_prep.spotting.scores import by_video
from mer_prep.store import disk
from mer_prep.store.text import write_atomic

PREDICTION_COLUMNS = (
    *(Column("video"), Column("onset"), Column("offset")),
    *(Column("type", required=False), Column("emotion", required=False)),
)

TRUTH_COLUMNS = (
    *(Column("video"), Column("subject", required=False)),
    *(Column("onset"), Column("offset"), Column("type"), Column("emotion", required=False)),
    *(Column("first", required=False), Column("last", required=False)),
    *(Column("note", ("notes",), required=False), Column("synthetic", required=False)),
)

#: Columns that are blank in a row that is of no video.
_OF_A_VIDEO = ("video", "subject", "onset", "offset", "type", "emotion", "first", "last")

_VIDEO = re.compile(r"\S+")
_TYPE = re.compile(r"(?i)(micro|macro)([-_ ]?expressions?)?")


def write_truth(path: Path, truth: Truth) -> Path:
    """Write a ground truth as CSV, one expression a row; `read_truth` reads it back.

    Parameters
    ----------
    path : Path
        The file.
    truth : Truth
        All of it is kept, but for the order: videos come by name, expressions by onset.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ManifestError
        If something in it would not be read back as it is: a name of a video that holds a blank, a
        frame below zero, an emotion that is not normalised, text that cannot be printed.

    Notes
    -----
    A video without expressions has a row of its own with nothing but what is known of the video,
    and a note has one with nothing else. The columns ``first``, ``last`` and ``note`` are there
    only if they hold something, ``synthetic`` only if the truth was made by ``mer-prep synth``.
    """
    for video in truth.videos:
        _check_video(video)
    for one in truth.intervals:
        _check_interval(one)
    for note in truth.notes:
        _check_text("note", note, where="the ground truth")
    rows = _truth_rows(truth)
    optional = ("first", "last", "note", "synthetic")
    used = {name for row in rows for name in row}
    names = [
        column.name
        for column in TRUTH_COLUMNS
        if column.name not in optional or column.name in used
    ]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    disk.make_folder(path.parent)
    write_atomic(path, buffer.getvalue())
    return path


def _truth_rows(truth: Truth) -> list[dict[str, str | int]]:
    """Return the cells of every row that hold something, by column."""
    inside = by_video(truth.intervals)
    rows: list[dict[str, str | int]] = []
    for video in sorted(truth.videos, key=lambda video: video.name):
        head: dict[str, str | int] = {"video": video.name, "subject": video.subject}
        ends = {"first": video.first, "last": video.last}
        head |= {name: frame for name, frame in ends.items() if frame is not None}
        found = sorted(
            inside[video.name],
            key=lambda one: (one.onset, one.offset, one.type, one.emotion or ""),
        )
        rows += [head | _cells(one) for one in found] or [head]
    rows += [{"note": note} for note in truth.notes]
    if truth.synthetic:
        rows = [row | {"synthetic": "yes"} for row in rows or [{}]]
    return rows


def _cells(one: Interval) -> dict[str, str | int]:
    cells: dict[str, str | int] = {"onset": one.onset, "offset": one.offset, "type": one.type}
    return cells | ({"emotion": one.emotion} if one.emotion else {})


def _check_video(video: Video) -> None:
    if not _VIDEO.fullmatch(video.name):
        raise ManifestError(
            f"{video.name!r} is no name of a video in a file: it is blank, or holds a blank.",
            why="the log of matches separates by blanks",
            hint="rename the recording and import it again",
        )
    _check_text("name", video.name, where=video.name)
    _check_text("subject", video.subject, where=video.name)


def _check_interval(one: Interval) -> None:
    if one.onset < 0:
        raise ManifestError(f"The onset {one.onset} is below zero.", where=one.video)
    if one.emotion is None:
        return
    _check_text("emotion", one.emotion, where=one.video)
    normalised = normalise_emotion(one.emotion)
    if not one.emotion or normalised != one.emotion:
        raise ManifestError(
            f"The emotion {one.emotion!r} is not normalised: it reads back as "
            f"{normalised or None!r}.",
            where=one.video,
            hint="mer_prep.sources.expressions.normalise_emotion normalises emotions",
        )


def _check_text(what: str, text: str, *, where: str) -> None:
    if text != text.strip() or not text.isprintable():
        raise ManifestError(
            f"The {what} {text!r} would not be read back as it is.",
            where=where,
            why="blanks at the ends and characters that cannot be printed are lost in a file",
        )


def read_truth(path: Path) -> Truth:
    """Read a ground truth from CSV.

    Columns ``video``, ``onset``, ``offset``, ``type``; ``subject``, ``emotion``, and ``first`` and
    ``last`` frame of the video may be left out. A row without onset and offset names a video, so
    that it counts even if it holds nothing; a row with nothing but a ``note`` is a note on the
    whole, and notes on rows that hold more are passed over. One interval may have several
    emotions, each on a row.

    Raises
    ------
    AnnotationError
        If the file is no such CSV; all bad lines are counted, the first is explained.
    """
    table = _table(path, TRUTH_COLUMNS)
    videos: dict[str, Video] = {}
    notes: list[str] = []

    def parse(row: Row) -> Interval | None:
        if not any(row.text(name) for name in _OF_A_VIDEO):
            # What cannot be printed would not be written again.
            note = "".join(one if one.isprintable() else " " for one in row.text("note")).strip()
            notes.extend([note] if note else [])
            return None
        video = _listed_video(row, videos)
        if row.optional_whole("onset") is None and row.optional_whole("offset") is None:
            return None
        return _interval(row, video.name, _type(row))

    intervals = _parse_all(table, parse, several_emotions=True)
    synthetic = any(row.text("synthetic") for row in table)
    return Truth(tuple(videos.values()), tuple(intervals), tuple(notes), synthetic)


def _listed_video(row: Row, videos: dict[str, Video]) -> Video:
    """Return the video of a row of a ground truth, and list it; every row says the same of it."""
    name = row.text("video")
    for what in ("video", "subject", "emotion"):
        if not row.text(what).isprintable():
            raise AnnotationError(
                f"The {what} {row.text(what)!r:.80} holds characters that cannot be printed.",
                where=row.where(what),
                hint="type the cell again",
            )
    if not _VIDEO.fullmatch(name):
        message = f"{name!r:.80} is no name of a video: it is blank, or holds a blank."
        raise AnnotationError(
            message,
            where=row.where("video"),
            hint="write the name of the recording, without blanks",
        )
    first, last = (row.optional_whole(end) for end in ("first", "last"))
    video = Video(name, row.text("subject"), first, last)
    listed = videos.setdefault(name, video)
    if listed.subject != video.subject:
        raise AnnotationError(
            f"Video '{name:.80}' is given to subject '{video.subject:.80}', further up to "
            f"'{listed.subject:.80}'.",
            where=row.where("subject"),
            hint="every row of a video names one subject",
        )
    if listed != video:
        raise AnnotationError(
            f"Video '{name}' has frames {_frames(video)}, further up {_frames(listed)}.",
            where=row.where("first"),
            hint="every row of a video says the same of its frames, or nothing",
        )
    return video


def _frames(video: Video) -> str:
    ends = ("-" if frame is None else str(frame) for frame in (video.first, video.last))
    return " to ".join(ends)


def read_predictions(
    path: Path,
    truth: Truth,
    *,
    types: Sequence[str] = EXPRESSION_TYPES,
    elsewhere: Collection[str] = (),
) -> list[Interval]:
    """Read spotted intervals from CSV.

    Columns ``video``, ``onset``, ``offset`` in any order; ``type`` (``micro`` or ``macro``) may be
    left out where one type is scored, ``emotion`` where none is; other columns are passed over. A
    video goes by its name in the ground truth, or without its corpus where that is unique.

    Parameters
    ----------
    path : Path
        The file; a heading and no rows means that nothing was spotted.
    truth : Truth
        Names the videos there are.
    types : sequence of {'micro', 'macro'}
        Types that will be scored.
    elsewhere : collection of str
        Corpora that are there, but not in the ground truth, for the hint of an error.

    Returns
    -------
    list of Interval
        In the order of the file, of all types it holds.

    Raises
    ------
    AnnotationError
        If the file is no such CSV, names a video that is not in the ground truth, or says
        something twice; all bad lines are counted, the first is explained.
    """
    table = _table(path, PREDICTION_COLUMNS)
    if "type" not in table.columns and len(types) > 1:
        raise AnnotationError(
            "The predictions have no column 'type', and both types are to be scored.",
            where=path,
            hint="add the column, or choose --type micro or --type macro",
        )
    names = _names(truth)

    def parse(row: Row) -> Interval:
        kind = _type(row) if "type" in table.columns else types[0]
        return _interval(row, _video(row, names, elsewhere), kind)

    return _parse_all(table, parse)


def _table(path: Path, columns: Sequence[Column]) -> Table:
    """Return the table of a CSV file; a heading that is nearly a column's is refused."""
    table = find_table([read_csv(path)], columns)
    lacking = [column.name for column in columns if column.name not in table.columns]
    known = {key for column in columns for key in column.keys}
    for heading in table.headings:
        key = normalise_heading(heading)
        near = difflib.get_close_matches(key, lacking, n=1, cutoff=0.8)
        if near and key not in known:
            raise AnnotationError(
                f"Unknown column '{heading:.80}'. Did you mean '{near[0]}'?",
                where=f"{path}, {table.sheet.place(table.header_row)}",
                hint=f"columns: {', '.join(column.name for column in columns)}",
            )
    return table


def _parse_all(
    table: Table, parse: Callable[[Row], Interval | None], *, several_emotions: bool = False
) -> list[Interval]:
    """Return the intervals of all rows; with `several_emotions` one may stand once with each.

    Raises
    ------
    AnnotationError
        If rows cannot be parsed, or two say the same; explains the first and names the lines of
        some others.
    """
    found: list[Interval] = []
    refused: list[tuple[Row, AnnotationError]] = []
    seen: dict[Interval, Row] = {}
    for row in table:
        try:
            check_width(row, table)
            one = parse(row)
            if one is None:
                continue
            key = one if several_emotions else dataclasses.replace(one, emotion=None)
            first = seen.setdefault(key, row)
            if first is not row:
                raise AnnotationError(
                    f"The line repeats {first.sheet.place(first.number)}: {one.type}, frames "
                    f"{one.onset} to {one.offset} of '{one.video}'.",
                    where=row.where(),
                    why="an interval that stands twice is counted twice",
                    hint="remove one of the two",
                )
            found.append(one)
        except AnnotationError as error:
            refused.append((row, error))
    if refused:
        raise _all_refused(refused)
    return found


def _all_refused(refused: Sequence[tuple[Row, AnnotationError]]) -> AnnotationError:
    (_, first), others = refused[0], refused[1:]
    if not others:
        return first
    lines = ", ".join(row.sheet.place(row.number).removeprefix("line ") for row, _ in others[:5])
    more = f" and {len(others) - 5} more" if len(others) > 5 else ""
    hint = f"{first.hint}; " if first.hint else ""
    return AnnotationError(
        f"{len(refused)} lines cannot be read. The first: {first.what}",
        where=first.where,
        why=first.why,
        hint=f"{hint}the others are lines {lines}{more}",
    )


def _interval(row: Row, video: str, kind: str) -> Interval:
    onset, offset = row.whole("onset"), row.whole("offset")
    if onset < 0:
        raise AnnotationError(
            f"The onset {onset} is below zero.",
            where=row.where("onset"),
            hint="frames count from 0 or more; correct the cell",
        )
    if onset > offset:
        raise AnnotationError(
            f"The onset {onset} lies after the offset {offset}.",
            where=row.where(),
            hint="onset and offset are the first and the last frame of the expression",
        )
    emotion = row.text("emotion")
    return Interval(video, onset, offset, kind, normalise_emotion(emotion) if emotion else None)


def _type(row: Row) -> str:
    match = _TYPE.fullmatch(row.text("type"))
    if match is None:
        raise AnnotationError(
            f"{row.text('type')!r:.80} is neither micro nor macro.",
            where=row.where("type"),
            hint="write micro or macro",
        )
    return match[1].lower()


def _names(truth: Truth) -> dict[str, list[str]]:
    """Return the videos by their names with and without corpus, whatever their case."""
    names: dict[str, list[str]] = {}
    for video in truth.videos:
        for name in {video.name.casefold(), video.name.split("/", 1)[-1].casefold()}:
            names.setdefault(name, []).append(video.name)
    return names


def _video(row: Row, names: Mapping[str, list[str]], elsewhere: Collection[str] = ()) -> str:
    text = row.text("video")
    found = names.get(text.casefold(), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise AnnotationError(
            f"The video '{text:.80}' is not unique: {', '.join(found)}.",
            where=row.where("video"),
            hint="write the corpus before it",
        )
    corpus = text.partition("/")[0]
    if "/" in text and corpus in elsewhere:
        raise AnnotationError(
            f"'{text:.80}' is of corpus '{corpus}', which is imported and is not scored here.",
            where=row.where("video"),
            why="what is spotted in it would count for nothing",
            hint=f"name {corpus} as well, or name no corpus to score all that are imported",
        )
    spelled = {name: one[0] for name, one in names.items()}
    near = suggest(text.casefold(), spelled)
    raise AnnotationError(
        f"The ground truth has no video '{text:.80}'.{near}",
        where=row.where("video"),
        why="what is spotted in it would count for nothing",
        hint="`mer-prep spotting-truth` lists the videos",
    )
