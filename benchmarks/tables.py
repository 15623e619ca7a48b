"""Tables of results: what the contests give, and how it is printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.timing import Standing


@dataclass(frozen=True)
class Column:
    """A column: the key of its values in the rows, its heading, and decimals of numbers."""

    key: str
    heading: str
    digits: int = 2


@dataclass(frozen=True)
class Table:
    """A table of results.

    Parameters
    ----------
    title : str
        What was measured, on what.
    columns : sequence of Column
        What is printed; rows may hold more, which only the JSON file shows.
    rows : sequence of mapping
        Texts and numbers by key; None and not-a-number print as a dash.
    note : str
        What a reader must know to judge the figures.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    note: str = ""


def markdown(table: Table) -> str:
    """Return a table as Markdown that also reads well as plain text."""
    cells = [[_text(row.get(c.key), c.digits) for c in table.columns] for row in table.rows]
    headings = [column.heading for column in table.columns]
    widths = [max(map(len, column), default=0) for column in zip(headings, *cells, strict=True)]
    numeric = [
        all(_is_number(row.get(c.key)) for row in table.rows) and bool(table.rows)
        for c in table.columns
    ]

    def line(texts: Sequence[str]) -> str:
        padded = (
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, numeric, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 1) + ":" if right else "-" * (width + 2)
        for width, right in zip(widths, numeric, strict=True)
    )
    lines = [f"### {table.title}", "", line(headings), f"|{rule}|", *map(line, cells)]
    if table.note:
        lines += ["", table.note]
    return "\n".join(lines) + "\n"


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _text(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


#: Columns of `Standing`.
STANDING = (
    Column("way", "way"),
    Column("ms", "ms", 1),
    Column("ms_worst", "worst ms", 1),
    Column("processor_ms", "CPU ms", 1),
    Column("ratio", "times faster", 1),
    Column("ratio_worst", "worst", 1),
    Column("processor_ratio", "by CPU time", 1),
    Column("processor_ratio_worst", "worst", 1),
)


def standing_row(standing: Standing, **more: Any) -> dict[str, Any]:
    """Return the row of a standing in a table with the columns `STANDING`, and more."""
    names = Standing.__dataclass_fields__
    return {name: getattr(standing, name) for name in names} | more
