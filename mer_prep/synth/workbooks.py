"""Writes annotation workbooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openpyxl import Workbook

Table = list[list[Any]]


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


def action_unit_cell(text: str, *, quirks: bool) -> Any:
    """Return action units as releases hold them: a single one as a number, ``?`` for none."""
    if not quirks:
        return text
    if not text:
        return "?"
    return int(text) if text.isdigit() else text
