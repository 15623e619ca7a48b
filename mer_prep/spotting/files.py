"""Files of spotting: ground truth and predictions as CSV, and the log of matches."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mer_prep.checks import suggest
from mer_prep.errors import AnnotationError
from mer_prep.manifest import EXPRESSION_TYPES, write_atomic
from mer_prep.sources.annotations import (
    Column,
    Row,
    Table,
    find_table,
    normalise_heading,
    read_csv,
)
from mer_prep.sources.expressions import normalise_emotion
from mer_prep.spotting.intervals import Interval, Truth, Video
from mer_prep.spotting.scores import SpottingScores

PREDICTION_COLUMNS = (
    *(Column("video"), Column("onset"), Column("offset")),
    *(Column("type", required=False), Column("emotion", required=False)),
)

TRUTH_COLUMNS = (
    *(Column("video"), Column("subject", required=False)),
    *(Column("onset"), Column("offset"), Column("type"), Column("emotion", required=False)),
    Column("synthetic", required=False),
)

#: Stands in a log for the interval that a false positive or a false negative lacks.
NO_FRAME = "-"

_TYPE = re.compile(r"(?i)(micro|macro)([-_ ]?expressions?)?")


def write_truth(path: Path, truth: Truth) -> Path:
    """Write a ground truth as CSV, one expression a row; `read_truth` reads it back.

    A video without expressions has a row of its own with nothing but its name and subject. The
    column ``synthetic`` is there only if the truth was made by ``mer-prep synth``.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    mark = ("yes",) if truth.synthetic else ()
    head = ("video", "subject", "onset", "offset", "type", "emotion")
    writer.writerow((*head, "synthetic") if mark else head)
    for video in sorted(truth.videos, key=lambda video: video.name):
        inside = [one for one in truth.intervals if one.video == video.name]
        for one in sorted(inside, key=lambda one: (one.onset, one.offset, one.type)):
            cells = (one.onset, one.offset, one.type, one.emotion or "")
            writer.writerow((video.name, video.subject, *cells, *mark))
        if not inside:
            writer.writerow((video.name, video.subject, "", "", "", "", *mark))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return path


def read_truth(path: Path) -> Truth:
    """Read a ground truth from CSV.

    Columns ``video``, ``onset``, ``offset``, ``type``; ``subject`` and ``emotion`` may be left
    out. A row without onset and offset names a video, so that it counts even if it holds nothing.

    Raises
    ------
    AnnotationError
        If the file is no such CSV; all bad lines are counted, the first is explained.
    """
    table = _table(path, TRUTH_COLUMNS)
    subjects: dict[str, str] = {}

    def parse(row: Row) -> Interval | None:
        video, subject = row.text("video"), row.text("subject")
        if not video or re.search(r"\s", video):
            message = f"{video!r} is no name of a video: it is blank, or holds a blank."
            raise AnnotationError(message, where=row.where("video"))
        if subjects.setdefault(video, subject) != subject:
            raise AnnotationError(
                f"Video '{video}' is given to subject '{subject}', further up to "
                f"'{subjects[video]}'.",
                where=row.where("subject"),
            )
        if row.optional_whole("onset") is None and row.optional_whole("offset") is None:
            return None
        return _interval(row, video, _type(row))

    intervals = _parse_all(table, parse)
    videos = tuple(Video(name, subject) for name, subject in subjects.items())
    synthetic = any(row.text("synthetic") for row in table)
    return Truth(videos, tuple(intervals), synthetic=synthetic)


def read_predictions(
    path: Path, truth: Truth, *, types: Sequence[str] = EXPRESSION_TYPES
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
        return _interval(row, _video(row, names), kind)

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
                f"Unknown column '{heading}'. Did you mean '{near[0]}'?",
                where=f"{path}, {table.sheet.place(table.header_row)}",
                hint=f"columns: {', '.join(column.name for column in columns)}",
            )
    return table


def _parse_all(table: Table, parse: Callable[[Row], Interval | None]) -> list[Interval]:
    """Return the intervals of all rows.

    Raises
    ------
    AnnotationError
        If rows cannot be parsed, or two say the same; explains the first and names the lines of
        some others.
    """
    found: list[Interval] = []
    refused: list[tuple[Row, AnnotationError]] = []
    seen: dict[tuple[str, int, int, str], Row] = {}
    for row in table:
        try:
            one = parse(row)
            if one is None:
                continue
            first = seen.setdefault((one.video, one.onset, one.offset, one.type), row)
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
        raise AnnotationError(f"The onset {onset} is below zero.", where=row.where("onset"))
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
            f"{row.text('type')!r} is neither micro nor macro.", where=row.where("type")
        )
    return match[1].lower()


def _names(truth: Truth) -> dict[str, list[str]]:
    """Return the videos by their names with and without corpus, whatever their case."""
    names: dict[str, list[str]] = {}
    for video in truth.videos:
        for name in {video.name.casefold(), video.name.split("/", 1)[-1].casefold()}:
            names.setdefault(name, []).append(video.name)
    return names


def _video(row: Row, names: Mapping[str, list[str]]) -> str:
    text = row.text("video")
    found = names.get(text.casefold(), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise AnnotationError(
            f"The video '{text}' is not unique: {', '.join(found)}.",
            where=row.where("video"),
            hint="write the corpus before it",
        )
    spelled = {name: one[0] for name, one in names.items()}
    near = suggest(text.casefold(), spelled)
    raise AnnotationError(
        f"The ground truth has no video '{text}'.{near}",
        where=row.where("video"),
        why="what is spotted in it would count for nothing",
        hint="`mer-prep spotting-truth` lists the videos",
    )


def write_log(path: Path, scores: SpottingScores) -> Path:
    """Write which interval was matched with which, one interval a line.

    Parameters
    ----------
    path : Path
        The text file.
    scores : SpottingScores
        Scores by video.

    Notes
    -----
    ``video onset offset onset offset TP|FP|FN``, separated by spaces: the annotated interval, then
    the spotted one, a ``-`` for each frame that is not there. Where more than one type was scored,
    the type follows. Videos with nothing annotated and nothing spotted have no line.
    """
    lines = []
    for one in sorted(scores.videos, key=lambda one: (one.video.name, one.type)):
        pairs = dict(one.match.pairs)
        spotted = set(range(len(one.spotted))) - set(pairs.values())
        rows: list[tuple[Interval | None, Interval | None]] = [
            (annotated, one.spotted[pairs[i]] if i in pairs else None)
            for i, annotated in enumerate(one.annotated)
        ]
        rows += [(None, one.spotted[j]) for j in spotted]
        rows.sort(key=lambda row: min(side.onset for side in row if side is not None))
        kind = f" {one.type}" if len(scores.types) > 1 else ""
        lines += [f"{one.video.name} {_line(*row)}{kind}\n" for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(lines))
    return path


def _line(annotated: Interval | None, spotted: Interval | None) -> str:
    frames = [
        f"{one.onset} {one.offset}" if one else f"{NO_FRAME} {NO_FRAME}"
        for one in (annotated, spotted)
    ]
    result = "TP" if annotated and spotted else "FP" if spotted else "FN"
    return f"{' '.join(frames)} {result}"
