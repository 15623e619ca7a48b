"""How large a workbook is, told from its archive before a library makes a table of it."""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from mer_prep.errors import AnnotationError

#: More cells than any sheet of annotations has, counting the blank ones up to the last value.
MAX_CELLS = 5_000_000

#: More rows than any corpus has; a workbook beyond it is not an annotation.
MAX_ROWS = 200_000

#: Largest file within a workbook, unpacked, in bytes.
MAX_MEMBER_BYTES = 256 * 2**20

_CELL = re.compile(r"([A-Z]{1,3})(\d{1,7})")


def cell_name(row: int, column: int) -> str:
    """Return a cell's name, ``D7``, from its row (from 1) and column (from 0)."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row}"


def check_extent(path: Path) -> None:
    """Refuse a workbook that would take more memory than any annotation, before it is opened.

    One stray value far down or far to the right makes a table of everything in between.

    Raises
    ------
    AnnotationError
        Naming the cell or the size. Files that are no zip archive pass; they have other limits.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.file_size > MAX_MEMBER_BYTES:
                    raise AnnotationError(
                        f"The workbook unpacks to {member.file_size / 2**20:,.0f} MiB "
                        f"({member.filename}), more than any corpus.",
                        where=path,
                        hint="check that this is the annotation; remove pictures and other sheets",
                    )
            for member in archive.infolist():
                # Where the sheets lie is told by another member; other XML has no cells.
                if member.filename.endswith(".xml"):
                    with archive.open(member) as sheet:
                        down, right = _extent(sheet)
                    if down[0] * (right[1] + 1) > MAX_CELLS or down[0] > MAX_ROWS:
                        stray = down if down[0] > right[1] else right
                        raise too_wide(f"{path}, {member.filename}", cell_name(*stray))
    except (
        *(zipfile.BadZipFile, ElementTree.ParseError, zlib.error, lzma.LZMAError, EOFError),
        *(NotImplementedError, RuntimeError, ValueError, LookupError, struct.error),
    ):
        # No archive, encrypted or damaged: whoever reads it says so in its own words.
        return
    except OSError as error:
        raise AnnotationError(
            f"The annotation file cannot be read: {error.strerror}.",
            where=path,
            hint="check the disk or the network folder, then run again",
        ) from None


def _extent(sheet: IO[bytes]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the (row, column) of the lowest and of the rightmost cell that holds a value."""
    down = right = cell = (1, 0)
    row, column = 0, -1
    for event, element in ElementTree.iterparse(sheet, ("start", "end")):
        name = element.tag.rpartition("}")[2]
        if event == "start" and name in ("row", "table-row"):
            row, column = _number(element.get("r"), row + 1), -1
        elif event == "start" and name == "c":
            # Rows and cells that do not say where they are follow the one before.
            match = _CELL.fullmatch(element.get("r", "").upper())
            row, column = _position(match) if match else (row, column + 1)
        elif event == "end" and name == "c" and len(element):
            cell = (row, column)
        elif event == "end" and name == "table-cell" and (len(element) or len(element.attrib) > 1):
            # Those of OpenDocument have no place but repeat.
            column += _repeats(element, "columns")
            cell = (row, column)
        elif event == "end" and name == "table-cell":
            column += _repeats(element, "columns")
        elif event == "end" and name == "table-row":
            row += _repeats(element, "rows") - 1
            cell = (row, cell[1]) if column >= 0 and len(element) else cell
        down, right = max(down, cell), max(right, cell, key=lambda one: one[1])
        if event == "end" and name in ("c", "row", "table-row"):
            element.clear()
    return down, right


def _number(text: str | None, default: int) -> int:
    return int(text) if text and re.fullmatch(r"\d{1,9}", text) else default


def _repeats(element: ElementTree.Element, what: str) -> int:
    """Return how often a cell or row of OpenDocument stands there."""
    names = (name for name in element.attrib if name.endswith(f"}}number-{what}-repeated"))
    return max((_number(element.get(name), 1) for name in names), default=1)


def _position(match: re.Match[str]) -> tuple[int, int]:
    """Return the row (from 1) and column (from 0) of a cell's name."""
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    return int(match[2]), column - 1


def too_wide(where: str, cell: str) -> AnnotationError:
    """Return the error for a sheet that reaches to a cell far away."""
    return AnnotationError(
        f"The sheet reaches to cell {cell}, far beyond any annotation.",
        where=where,
        why="a table of all cells up to there does not fit into memory",
        hint=f"delete the value in or near {cell} (Ctrl+End leads there), and save the workbook",
    )
