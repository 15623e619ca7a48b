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

from benchmarks.tables import Column, Table, markdown

FOLDER = Path(__file__).resolve().parent / "results"

SCHEMA = 1


@dataclass(frozen=True)
class ContestResult:
    """What a contest gave.

    Parameters
    ----------
    about : str
        What was compared.
    tables : sequence of Table
        The results.
    seconds : float
        Time it took.
    size : {'quick', 'full'}
        The set.
    commit : str, optional
        Commit of the checkout it ran in.
    """

    about: str
    tables: Sequence[Table]
    seconds: float
    size: str = "quick"
    commit: str | None = None


@dataclass(frozen=True)
class Results:
    """What a run gave.

    Parameters
    ----------
    machine : mapping
        See `benchmarks.machine.describe_machine`.
    date : date
        When.
    contests : mapping of str to ContestResult
        By name, in the order they ran.
    """

    machine: Mapping[str, Any]
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
        "machine": dict(results.machine),
        "contests": {
            name: {
                "about": contest.about,
                "size": contest.size,
                "commit": contest.commit,
                "seconds": round(contest.seconds, 1),
                "tables": [dataclasses.asdict(table) for table in contest.tables],
            }
            for name, contest in results.contests.items()
        },
    }
    return json.dumps(_plain(document), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def read(path: Path) -> Results:
    """Return the results in a JSON file that `save` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("schema") != SCHEMA:
        raise ValueError(f"{path} is not a file of benchmark results of schema {SCHEMA}")
    contests = {
        name: ContestResult(
            about=contest["about"],
            tables=[
                Table(**table | {"columns": [Column(**one) for one in table["columns"]]})
                for table in contest["tables"]
            ],
            seconds=contest["seconds"],
            size=contest["size"],
            commit=contest["commit"],
        )
        for name, contest in document["contests"].items()
    }
    date = datetime.date.fromisoformat(document["date"])
    return Results(document["machine"], date, contests)


def joined(earlier: Results, later: Results) -> Results:
    """Return the later results with those earlier contests that they do not have.

    Contests of another machine, other versions or another day are left out.
    """

    def facts(results: Results) -> dict[str, Any]:
        kept = dict(results.machine) | {"date": results.date.isoformat()}
        return {name: value for name, value in kept.items() if name != "load_before"}

    if facts(earlier) != facts(later):
        return later
    return dataclasses.replace(later, contests={**earlier.contests, **later.contests})


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
    parts = [f"# Benchmarks, {results.date.isoformat()}", machine]
    for name, contest in results.contests.items():
        parts.append(f"## {name}: {contest.about}")
        commit = f", commit {contest.commit}" if contest.commit else ""
        parts.append(f"{contest.size.capitalize()} set, {contest.seconds:.0f} s{commit}")
        parts += [markdown(table).rstrip("\n") for table in contest.tables]
    return "\n\n".join(parts) + "\n"


def save(results: Results, path: Path) -> tuple[Path, Path]:
    """Write results as JSON to a path and as Markdown beside it; return both paths.

    Contests that the file already holds, of the same machine, versions and day, are kept.
    """
    if path.exists():
        results = joined(read(path), results)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".md")
    path.write_text(to_json(results), encoding="utf-8")
    beside.write_text(to_markdown(results), encoding="utf-8")
    return path, beside
