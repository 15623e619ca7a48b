"""Annotation workbooks: cells as text, tables found by their headings, errors that name the cell.

Every cell is read as text first. A spreadsheet library left to itself turns the subject ``01``
into 1 in one workbook and leaves ``006`` alone in the next.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

from mer_prep.errors import AnnotationError
from mer_prep.sources.workbooks import (
    MAX_CELLS,
    cell_name,
    not_readable,
    open_workbook,
    text_of,
    too_wide,
)

WORKBOOK_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods", ".csv")

#: Rows searched for the headings; the longest preamble known has 13.
HEADER_ROWS = 60

#: More rows than any corpus has; a workbook beyond it is not an annotation.
MAX_ROWS = 200_000

#: More sheets than any workbook of annotations has.
MAX_SHEETS = 100

#: What annotators write for "none".
BLANKS = frozenset({"", "/", "\\", "-", "nan", "na", "null", "none", "n/a", "#n/a"})

_WHOLE = re.compile(r"[+-]?\d+(\.0+)?")

#: No recording has so many frames; larger numbers are slips.
LARGEST_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column looked for by its heading.

    Parameters
    ----------
    name : str
        Heading as the corpus spells it.
    aliases : tuple of str
        Other headings that mean the same. Case, blanks and punctuation never matter.
    required : bool
        Whether a table without it is refused.
    """

    name: str
    aliases: tuple[str, ...] = ()
    required: bool = True

    @property
    def keys(self) -> frozenset[str]:
        """Normalised headings."""
        return frozenset(normalise_heading(text) for text in (self.name, *self.aliases))


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet of a workbook, or a CSV file: raw cell values by row, the first being row 1.

    Parameters
    ----------
    file : Path
        The file.
    name : str
        Name of the sheet.
    rows : sequence of sequence
        Values.
    lines : sequence of int
        Line of the file, from 1, on which each row begins; empty for workbooks.
    """

    file: Path
    name: str
    rows: Sequence[Sequence[Any]]
    lines: Sequence[int] = ()

    def place(self, row: int, column: int | None = None, heading: str = "") -> str:
        """Return where a row (from 1) or a cell (column from 0) is, as its own program says it."""
        if not self.lines:
            if column is None:
                return f"{self.name} row {row}"
            return f"{self.name}!{cell_name(row, column)}"
        cell = "" if column is None else f", column {column + 1}"
        return f"line {self.lines[row - 1]}{cell}" + (f" ('{heading}')" if heading else "")

    def heading_place(self, row: int, column: int) -> str:
        """Return where a heading is within the sheet: ``B1``, or ``column 2`` of a CSV file."""
        return f"column {column + 1}" if self.lines else cell_name(row, column)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Parameters
    ----------
    sheet : Sheet
        The sheet it stands on.
    number : int
        Spreadsheet row, from 1.
    columns : mapping of str to int
        Zero-based position of every column found.
    """

    sheet: Sheet
    number: int
    columns: Mapping[str, int]

    def where(self, column: str | None = None) -> str:
        """Return the file and the cell (or row) for messages.

        ``codes.xlsx, Sheet1!D7`` in a workbook, ``clips.csv, line 7, column 4 ('onset')`` in a
        CSV file.
        """
        position = None if column is None else self.columns.get(column)
        heading = column if column is not None and position is not None else ""
        return f"{self.sheet.file.name}, {self.sheet.place(self.number, position, heading)}"

    def filled(self, column: str) -> bool:
        """Return whether a cell holds anything, of whatever type."""
        values = self.sheet.rows[self.number - 1]
        position = self.columns.get(column)
        return (
            position is not None and position < len(values) and values[position] not in ("", None)
        )

    def text(self, column: str) -> str:
        """Return a cell as text; empty if it is blank or its column is absent.

        Raises
        ------
        AnnotationError
            If the cell holds a date or a time.
        """
        values = self.sheet.rows[self.number - 1]
        position = self.columns.get(column)
        if position is None or position >= len(values):
            return ""
        return cell_text(values[position], where=self.where(column))

    def whole(self, column: str) -> int:
        """Return a cell as a whole number.

        Raises
        ------
        AnnotationError
            If it is anything else, naming the cell.
        """
        text = self.text(column)
        if _WHOLE.fullmatch(text):
            number = int(text.partition(".")[0])
            if abs(number) > LARGEST_NUMBER:
                raise AnnotationError(
                    f"'{column}' is {text[:20]}, more than any recording has.",
                    where=self.where(column),
                    hint="correct the cell",
                )
            return number
        raise AnnotationError(
            f"'{column}' must be a whole number, not {text!r:.80}.",
            where=self.where(column),
            why="key frames are frame numbers",
            hint="correct the cell"
            if self.sheet.lines
            else "a formula that was never calculated reads as blank; correct the cell, or save "
            "the workbook once in a spreadsheet program",
        )

    def optional_whole(self, column: str) -> int | None:
        """Return a cell as a whole number, or None if it says "none" (``/``, blank, NaN)."""
        return None if self.text(column).casefold() in BLANKS else self.whole(column)


@dataclass(frozen=True, slots=True)
class Table:
    """A table on a sheet.

    Parameters
    ----------
    sheet : Sheet
        The sheet.
    header_row : int
        Spreadsheet row of the headings, from 1.
    columns : mapping of str to int
        Zero-based position of every column found, by `Column.name`.
    headings : tuple of str
        All headings, as they stand.
    """

    sheet: Sheet
    header_row: int
    columns: Mapping[str, int]
    headings: tuple[str, ...]

    def __iter__(self) -> Iterator[Row]:
        for number in range(self.header_row + 1, len(self.sheet.rows) + 1):
            if any(value not in ("", None) for value in self.sheet.rows[number - 1]):
                yield Row(self.sheet, number, self.columns)


def check_width(row: Row, table: Table) -> None:
    """Refuse a row of a CSV file wider than its headings: a comma has shifted its cells.

    Raises
    ------
    AnnotationError
        If there is text beyond the last heading. Workbooks may have notes there.
    """
    if not table.sheet.lines:
        return
    width = max(index for index, heading in enumerate(table.headings, start=1) if heading)
    cells = row.sheet.rows[row.number - 1]
    if any(str(cell).strip() for cell in cells[width:] if cell is not None):
        raise AnnotationError(
            f"The row has {len(cells)} cells and the table {width} columns.",
            where=row.where(),
            why="what stands in a shifted cell would be read as something else",
            hint="put texts that hold commas in quotes",
        )


def normalise_heading(text: str) -> str:
    """Return the letters and digits of a heading in lower case."""
    return re.sub(r"[^a-z0-9]", "", text.casefold())


def cell_text(value: Any, *, where: str) -> str:
    """Return a cell's value as text: ``12`` for 12.0, empty for blank and NaN, else stripped.

    Raises
    ------
    AnnotationError
        For dates and times, which spreadsheets make out of entries such as ``1-2``, and for
        numbers of hundreds of digits, which no name and no frame has.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        if len(value) > 300 and re.search(r"\d{300}", value):
            raise AnnotationError(
                f"The cell holds a number of hundreds of digits ({value[:20]}...).",
                where=where,
                hint="correct the cell",
            )
        return value.replace("\u00a0", " ").replace("\ufeff", "").strip()
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return ""
        return str(int(value)) if value == int(value) else repr(value)
    raise AnnotationError(
        f"The cell holds a date or a time ({value}), not text or a number.",
        where=where,
        why="the spreadsheet program replaced what was typed, and it cannot be had back from here",
        hint="format the cell as text and type the original entry again",
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Sequence[Path]) -> str:
    """Return the SHA-256 over the names and bytes of several files, whatever their order."""
    digest = hashlib.sha256()
    for name, content in sorted((path.name, file_sha256(path)) for path in paths):
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read_sheets(path: Path) -> list[Sheet]:
    """Read all sheets of an ``.xlsx``, ``.xls`` or ``.ods`` workbook, or a ``.csv`` file.

    Raises
    ------
    AnnotationError
        If the file is missing, is no workbook, is protected, or is absurdly long.
    """
    if path.suffix.lower() == ".csv":
        return [read_csv(path)]
    try:
        with open_workbook(path) as book:
            return list(_sheets(book, path))
    except AnnotationError:
        raise
    except BaseException as error:
        # What the library, written in Rust, did not expect ends in a panic, which is no Exception.
        panic = type(error).__name__ == "PanicException"
        if not panic and not isinstance(error, CalamineError | OSError | ValueError | MemoryError):
            raise
        raise not_readable(path, "it is damaged" if panic else f"{error!s:.300}") from None


def _sheets(book: CalamineWorkbook, path: Path) -> Iterator[Sheet]:
    cells = 0
    if not book.sheet_names:
        raise AnnotationError(
            "The workbook has no sheet.", where=path, hint="copy it again from the corpus"
        )
    if len(book.sheet_names) > MAX_SHEETS:
        raise AnnotationError(
            f"The workbook has {len(book.sheet_names):,} sheets, more than any corpus.",
            where=path,
            hint="check that this is the annotation; remove other sheets",
        )
    for name in book.sheet_names:
        sheet = book.get_sheet_by_name(name)
        if sheet.total_height > MAX_ROWS:
            raise _too_long(f"{path}, {name}")
        cells += sheet.total_height * sheet.total_width
        # One sheet too wide, or many that are too wide together.
        if cells > MAX_CELLS:
            raise too_wide(f"{path}, {name}", cell_name(sheet.total_height, sheet.total_width - 1))
        yield Sheet(path, name, sheet.to_python(skip_empty_area=False))


def _too_long(where: object) -> AnnotationError:
    return AnnotationError(
        f"The table has more than {MAX_ROWS:,} rows, more than any corpus.",
        where=where,
        hint="check that this is the annotation; remove other sheets",
    )


def read_csv(path: Path) -> Sheet:
    """Read a comma- or semicolon-separated file in UTF-8, with or without a byte-order mark.

    Raises
    ------
    AnnotationError
        If it is not UTF-8 or not CSV.
    """
    text = text_of(path)
    try:
        first = text.split("\n", 1)[0]
        # Spreadsheet programs in countries with a decimal comma separate by semicolons.
        delimiter = ";" if first.count(";") > first.count(",") else ","
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        rows: list[list[str]] = []
        lines: list[int] = []
        # A quoted cell may hold line breaks, so that rows are not lines.
        line = 1
        for row in reader:
            if len(rows) == MAX_ROWS:
                raise _too_long(path)
            rows.append(row)
            lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationError(
            f"The file cannot be read as CSV: {error}.",
            where=path,
            hint="save it as comma-separated UTF-8",
        ) from None
    return Sheet(path, path.stem, rows, lines or [1])


def find_table(sheets: Sequence[Sheet], columns: Sequence[Column]) -> Table:
    """Find the table that has the required columns, on any sheet, below any preamble.

    Raises
    ------
    AnnotationError
        If there is none: names the sheets, or the nearest sheet and row with the columns missing
        there and the headings most like them. If a row of it stands above its headings.
    """
    best: tuple[int, Sheet, int] | None = None
    required = [column for column in columns if column.required]
    for sheet in sheets:
        for index, values in enumerate(sheet.rows[:HEADER_ROWS]):
            found = _match(values, columns)
            score = sum(column.name in found for column in required)
            if score == len(required):
                _check_not_twice(sheet, index, values, columns)
                _check_nothing_above(sheet, index, [found[one.name] for one in required])
                headings = tuple(_heading(value) for value in values)
                return Table(sheet, index + 1, found, headings)
            if best is None or score > best[0]:
                best = (score, sheet, index)
    raise _no_table(sheets, best, required)


def _heading(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _match(values: Sequence[Any], columns: Sequence[Column]) -> dict[str, int]:
    found: dict[str, int] = {}
    keys = [normalise_heading(_heading(value)) for value in values]
    for column in columns:
        for position, key in enumerate(keys):
            if key and key in column.keys:
                found[column.name] = position
                break
    return found


def _check_not_twice(
    sheet: Sheet, index: int, values: Sequence[Any], columns: Sequence[Column]
) -> None:
    for column in columns:
        cells = [
            sheet.heading_place(index + 1, position)
            for position, value in enumerate(values)
            if normalise_heading(_heading(value)) in column.keys
        ]
        if len(cells) > 1:
            raise AnnotationError(
                f"The column '{column.name}' stands twice: {' and '.join(cells)}.",
                where=f"{sheet.file.name}, {sheet.place(index + 1)}",
                hint="remove or rename the one that is not the annotation's own",
            )


def _check_nothing_above(sheet: Sheet, index: int, positions: Sequence[int]) -> None:
    """Raise an error if a row above the headings holds numbers where the table does."""
    for above, values in enumerate(sheet.rows[:index]):
        numbers = [at for at in positions if at < len(values) and _is_number(values[at])]
        if len(numbers) >= 2:
            raise AnnotationError(
                "A row of the table stands above its headings.",
                where=f"{sheet.file.name}, {sheet.place(above + 1)}",
                why=f"the headings are in {sheet.place(index + 1)}, and what stands above them "
                "would be left out without a word",
                hint="move the headings to the top: sorting a table sorts them too",
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (
        isinstance(value, str) and re.fullmatch(r"\s*-?\d+(\.0*)?\s*", value) is not None
    )


def _no_table(
    sheets: Sequence[Sheet], best: tuple[int, Sheet, int] | None, required: Sequence[Column]
) -> AnnotationError:
    names = [column.name for column in required]
    expected = f"expected columns: {', '.join(names)}"
    file = sheets[0].file if sheets else None
    if best is None or best[0] < max(2, len(required) // 2):
        listed = ", ".join(f"'{sheet.name}'" for sheet in sheets) or "none"
        looked = f"the first {HEADER_ROWS} rows of each were searched for its headings"
        what = f"No sheet holds the annotation table (sheets: {listed}; {looked})."
        if any(sheet.lines for sheet in sheets):
            what = f"None of the first {HEADER_ROWS} lines holds the headings of the table."
        return AnnotationError(
            what,
            where=file,
            why="columns are recognised by their headings",
            hint=expected,
        )
    _, sheet, index = best
    values = sheet.rows[index]
    found = _match(values, required)
    missing = [name for name in names if name not in found]
    taken = set(found.values())
    others = {
        _heading(value): sheet.heading_place(index + 1, position)
        for position, value in enumerate(values)
        if _heading(value) and position not in taken
    }
    near = [
        f"'{match}' in {others[match]} is most like '{name}'"
        for name in missing
        for match in difflib.get_close_matches(name, list(others), n=1)
    ]
    return AnnotationError(
        f"The annotation table lacks the column{'s' * (len(missing) > 1)} "
        f"{', '.join(repr(name) for name in missing)}.",
        where=f"{sheet.file}, {sheet.place(index + 1)} (the headings)",
        hint="; ".join([expected, *near]),
    )
