"""Results on paper: one JSON file, and the same as Markdown beside it."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tables import Table, markdown

FOLDER = Path(__file__).resolve().parent / "results"

SCHEMA = 1


@dataclass(frozen=True)
class ContestResult:
    """What a contest gave: its tables, and the seconds it took."""

    about: str
    tables: Sequence[Table]
    seconds: float


@dataclass(frozen=True)
class Results:
    """What a run gave.

    Parameters
    ----------
    machine : mapping
        See `benchmarks.machine.describe_machine`.
    size : {'quick', 'full'}
        Which set was run.
    date : date
        When.
    contests : mapping of str to ContestResult
        By name, in the order they ran.
    """

    machine: Mapping[str, Any]
    size: str
    date: datetime.date
    contests: Mapping[str, ContestResult]


def default_path(results: Results) -> Path:
    """Return where results are kept: ``<cpu>-<date>.json`` in the folder of results."""
    cpu = re.sub(r"[^a-z0-9]+", "-", str(results.machine["cpu"]).lower()).strip("-")
    return FOLDER / f"{cpu}-{results.date.isoformat()}.json"


def to_json(results: Results) -> str:
    """Return results as JSON; what is not a number becomes null."""
    document = {
        "schema": SCHEMA,
        "date": results.date.isoformat(),
        "size": results.size,
        "machine": dict(results.machine),
        "contests": {
            name: {
                "about": contest.about,
                "seconds": round(contest.seconds, 1),
                "tables": [_table(table) for table in contest.tables],
            }
            for name, contest in results.contests.items()
        },
    }
    return json.dumps(_plain(document), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _table(table: Table) -> dict[str, Any]:
    headings = {column.key: column.heading for column in table.columns}
    return dataclasses.asdict(table) | {"columns": headings}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: six digits, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def to_markdown(results: Results) -> str:
    """Return results as Markdown."""
    machine = "; ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in results.machine.items()
        if value is not None
    )
    parts = [f"# Benchmarks, {results.date.isoformat()}, {results.size} set", machine]
    for name, contest in results.contests.items():
        parts.append(f"## {name}: {contest.about} ({contest.seconds:.0f} s)")
        parts += [markdown(table).rstrip("\n") for table in contest.tables]
    return "\n\n".join(parts) + "\n"


def save(results: Results, path: Path) -> tuple[Path, Path]:
    """Write results as JSON to a path and as Markdown beside it; return both paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".md")
    path.write_text(to_json(results), encoding="utf-8")
    beside.write_text(to_markdown(results), encoding="utf-8")
    return path, beside
