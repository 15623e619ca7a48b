"""Results of a run as reports take them: only such as its study and its predictions give."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_prep.errors import TrainingError
from mer_prep.training.results import Row, facts_of_study, score_parts, score_rows
from mer_prep.training.study import Study
from mer_prep.training.weights import read_results

#: How far a score may be from the same one computed on another machine.
_TOLERANCE = 1e-6


def read_scored(run: Path, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what ``results.json`` of a run says, seen to be what its other files give.

    Scores are computed again from the predictions, and all that the study decides, the marks
    LEAKY, SYNTHETIC and LABELS SHUFFLED among it, is compared with the study.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        Its study.
    rows : sequence of mapping
        Its predictions.

    Raises
    ------
    TrainingError
        If the run is not scored yet, or the file is damaged, was changed, or is of another run.
    """
    results = read_results(run)
    if not results:
        raise TrainingError(
            "The run is not scored yet.",
            where=run,
            hint="run the same `mer-prep train` again; it goes on where it stopped",
        )
    try:
        _check(results, study, rows)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise TrainingError(
            f"The results are not those of the run: {told:.300}.",
            where=run / "results.json",
            why="figures would be shown that the predictions do not give",
            hint="run the same `mer-prep train` again; it only scores a finished run",
        ) from None
    return results


def _check(results: Mapping[str, Any], study: Study, rows: Sequence[Row]) -> None:
    counts = {"clips": len(rows), "subjects": len({row["subject"] for row in rows})}
    for name, value in {**_plain(facts_of_study(study)), **counts}.items():
        if results[name] != value:
            raise ValueError(f"'{name}' is {results[name]!r:.80}, not {value!r:.80}")
    _check_same("scores", results["scores"], _plain(score_rows(rows, study)))
    _check_same("parts", results.get("parts", {}), _plain(score_parts(rows, study)))
    if set(results["folds"]) != {fold.name for fold in study.folds}:
        raise ValueError("its folds are others")
    for name in ("mer_prep", "note", "published_left_out"):
        _check_texts(name, [results[name]])
    for name in ("warnings", "choices"):
        _check_texts(name, _list(name, results[name]))
    _check_texts("libraries", list(results["libraries"].values()))
    for one in _list("computed", results["computed"]):
        _check_texts("computed", [one["device"], one["precision"]])
    alone = results.get("published_parts", {})
    if not set(alone) <= set(results.get("parts", {})):
        raise ValueError("figures are published of parts that it does not have")
    lists = [results["published"], *alone.values()]
    for one in [one for found in lists for one in _list("published", found)]:
        _check_texts("published", [one["part"], one["source"]])
        _check_numbers("published", one["scores"].values())
    for part in results["auxiliary"]["parts"].values():
        _check_numbers("auxiliary", part.values())


def _plain(facts: Any) -> Any:
    """Return facts as they come back from JSON."""
    return json.loads(json.dumps(facts))


def _check_same(name: str, found: Any, wanted: Any) -> None:
    """Raise `ValueError` if two values of JSON differ by more than rounding."""
    if isinstance(wanted, dict) and isinstance(found, dict) and found.keys() == wanted.keys():
        for key, value in wanted.items():
            _check_same(f"{name}.{key}", found[key], value)
    elif isinstance(wanted, list) and isinstance(found, list) and len(found) == len(wanted):
        for one, other in zip(found, wanted, strict=True):
            _check_same(name, one, other)
    elif isinstance(wanted, float) and _is_number(found):
        if abs(found - wanted) > _TOLERANCE:
            raise ValueError(f"'{name}' is {found:.6g}, and the predictions give {wanted:.6g}")
    elif type(found) is not type(wanted) or found != wanted:
        raise ValueError(f"'{name}' is {found!r:.80}, and the predictions give {wanted!r:.80}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_numbers(name: str, values: Any) -> None:
    for value in values:
        # Not a number is one here: it is shown as such.
        if value is not None and not isinstance(value, float) and not _is_number(value):
            raise ValueError(f"'{name}' holds {value!r:.80}, which is no number")


def _check_texts(name: str, values: Sequence[Any]) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"'{name}' holds {value!r:.80}, which is no text")


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"'{name}' is {value!r:.80}, which is no list")
    return value
