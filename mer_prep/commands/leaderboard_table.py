"""How a leaderboard is printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mer_prep.commands.common import plural, table
from mer_prep.terminal import echo


def print_leaderboard(facts: Mapping[str, Any]) -> None:
    """Print the table, and below it what was published, what is chance and what failed."""
    from mer_prep.training.leaderboard import changes_of, marks_of

    marks = marks_of(facts, facts)
    echo(
        f"{facts['labels']}, {facts['protocol']}, {plural(facts['folds'], 'fold')}, "
        f"{plural(facts['clips'], 'clip')} of {facts['subjects']} subjects"
        + (f" ({', '.join(marks)})" if marks else "")
    )
    echo(table(*_cells(facts)))
    if facts["against"]:
        echo(
            f"  p: McNemar's exact test of the accuracy against {facts['against']}, two-sided, by "
            "Holm for all of them"
        )
    largest = facts["largest_class"]
    for one in facts["entries"]:
        if changed := changes_of(one):
            echo(f"  {one['name']} with {changed}")
        if not one["beats_largest_class"] and not one["leaky"]:
            echo(f"  {one['name']} is not known to beat always '{largest['class']}'")
    _print_published(facts)
    for name, reason in facts["failed"].items():
        echo(f"  not in the table, {name}: {reason}", err=True)


def _cells(facts: Mapping[str, Any]) -> tuple[list[tuple[Any, ...]], tuple[str, ...]]:
    """Return the lines of the table and its head."""
    from mer_prep.metrics import SCORES
    from mer_prep.progress import duration
    from mer_prep.training.selection import marked_name

    head = ["model", "UF1", "95 % interval", *list(SCORES.values())[1:], "parameters", "training"]
    head += ["p"] if facts["against"] else []
    head += ["control UF1"] if any(one["control"] for one in facts["entries"]) else []
    rows = []
    for one in facts["entries"]:
        low, high = one["interval_95"]["uf1"]
        seconds = one["training_seconds"]
        row = [
            marked_name(one),
            f"{one['scores']['uf1']:.3f}",
            f"{low:.3f}-{high:.3f}",
            *(f"{one['scores'][score]:.3f}" for score in list(SCORES)[1:]),
            f"{one['parameters']:,}",
            "-" if seconds is None else duration(seconds),
        ]
        if "p" in head:
            row.append(f"{one['against']['p_holm']:.3g}" if one["against"] else "-")
        if "control UF1" in head:
            row.append(f"{one['control']['scores']['uf1']:.3f}" if one["control"] else "-")
        rows.append(tuple(row))
    largest = facts["largest_class"]
    chance = [f"always {largest['class']}", f"{largest['uf1']:.3f}", ""]
    chance += [f"{largest[score]:.3f}" for score in list(SCORES)[1:]]
    rows.append(tuple(chance + [""] * (len(head) - len(chance))))
    return rows, tuple(head)


def _print_published(facts: Mapping[str, Any]) -> None:
    from mer_prep.training.leaderboard import published_whole
    from mer_prep.training.recipes import SELECTED

    # Presets of one model have their published figures in common.
    lines: dict[str, None] = {}
    for one in facts["entries"]:
        found = published_whole(one)
        if found:
            scores = ", ".join(f"{name.upper()} {v:.3f}" for name, v in found["scores"].items())
            how = f"{found['source']}; {SELECTED[found['selected']]}"
            lines[f"  published of {one['model']}: {scores} ({how})"] = None
    for line in lines:
        echo(line)
    if facts["synthetic"] and lines:
        echo("  published figures are of licensed corpora: nothing here compares with them")
