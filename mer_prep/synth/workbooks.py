"""The tables of the annotation workbooks, row by row, as the corpora lay them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook

if TYPE_CHECKING:
    from mer_prep.synth.layouts import PlannedClip

Table = list[list[Any]]

_SAMM_PROSE = (
    "Synthetic annotation in the layout of the SAMM micro-movement release",
    "Every row below the headings is one micro-movement",
    "Frame numbers are those of the recordings at 200 frames per second",
    "Onset: first frame of the movement",
    "Apex: frame of the strongest movement",
    "Offset: last frame of the movement",
    "Duration: frames from onset to offset, both included",
    "Action units: L left, R right, A to E strength",
    "Estimated emotion: not part of the coding itself",
    "Objective classes: 1 to 7, from the action units alone",
    "Subjects are numbered with three digits",
    "Notes: remarks of the coder",
    "The table starts on the next row",
)


def casme2_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the coding table of CASME II; with quirks it has blank columns and mixed cells."""
    header: list[Any] = ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame"]
    header += [None, "Action Units", "Estimated Emotion"]
    rows = [
        [
            f"{clip.subject:02d}",
            clip.clip,
            None,
            clip.onset,
            ("/" if quirks else None) if clip.apex is None else clip.apex,
            clip.offset,
            None,
            _action_unit_cell(clip.action_units, quirks=quirks),
            clip.emotion,
        ]
        for clip in clips
    ]
    if not quirks:
        header, *rows = [[*row[:2], *row[3:6], *row[7:]] for row in [header, *rows]]
    return [header, *rows]


def samm_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the FACS codes of SAMM; with quirks 13 rows of prose come first."""
    header = ["Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame"]
    header += ["Offset Frame", "Duration", "Micro", "Action Units", "Estimated Emotion"]
    header += ["Objective Classes", "Notes"]
    if quirks:
        header = [f"{name} " if index % 3 == 2 else name for index, name in enumerate(header)]
    rows: list[list[Any]] = [[line] for line in _SAMM_PROSE] if quirks else []
    rows.append(header)
    for clip in clips:
        emotion = "Other" if clip.emotion == "others" else clip.emotion.capitalize()
        inducement = clip.clip.split("_")[1] if "_" in clip.clip else "1"
        row: list[Any] = [f"{clip.subject:03d}", clip.clip, int(inducement)]
        row += [clip.onset, clip.apex, clip.offset, clip.offset - clip.onset + 1]
        row += ["Micro - 1/2", clip.action_units, emotion, clip.objective_class, None]
        rows.append(row)
    return rows


def smic_e_rows(clips: Sequence[PlannedClip], camera: str, *, quirks: bool) -> Table:
    """Return the SMIC-E table; clips that share a name are expressions of one long clip."""
    end = " NIR" if camera == "NIR" else ""
    expressions = [f"{name}{n}F{end}" for n in ("", "2", "3") for name in ("Onset", "Offset")]
    extent = ["FirstF", "LastF"]
    totals = ["TotalMF1", "TotalMF2", "TotalMF3", "TotalVL", "Emotion"]
    # The VIS workbook has its columns in another order.
    vis = camera == "VIS"
    header: list[Any] = ["Subject", "Filename", None]
    header += [*extent, *expressions, None] if vis else [*expressions, None, *extent]
    rows: Table = [header + totals]
    grouped: dict[tuple[int, str], list[PlannedClip]] = {}
    for clip in clips:
        grouped.setdefault((clip.subject, clip.clip), []).append(clip)
    for row, ((subject, name), group) in enumerate(grouped.items()):
        spans: list[int | None] = [number for clip in group for number in (clip.onset, clip.offset)]
        lengths: list[int | None] = [clip.offset - clip.onset + 1 for clip in group]
        first: Any = "missing" if quirks and row == 0 else group[0].first
        ends = [first, group[0].last]
        emotion = group[0].emotion
        if quirks and row == len(grouped) - 1:
            emotion = "positive" if emotion == "negative" else "negative"
        spans += [None] * (6 - len(spans))
        lengths += [None] * (3 - len(lengths))
        cells: list[Any] = [subject, name, None]
        cells += [*ends, *spans, None] if vis else [*spans, None, *ends]
        rows.append([*cells, *lengths, group[0].last - group[0].first + 1, emotion])
    if quirks:
        rows += [[], ["Numbers are those of the frame files."], ["A clip may hold three."]]
    return rows


def _action_unit_cell(text: str, *, quirks: bool) -> Any:
    if not quirks:
        return text
    if not text:
        return "?"
    # The release stores single action units as numbers.
    return int(text) if text.isdigit() else text


def write_workbook(path: Path, sheets: Mapping[str, Table]) -> Path:
    """Write sheets of rows as an ``.xlsx`` workbook and return its path."""
    book = Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)
    return path
