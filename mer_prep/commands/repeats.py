"""How several runs of one study, and published figures beside a run, are printed."""

from __future__ import annotations

from typing import Any

from mer_prep.commands.common import table
from mer_prep.metrics import SCORES
from mer_prep.terminal import echo

_MARKS = {"synthetic": "SYNTHETIC", "shuffled_labels": "LABELS SHUFFLED", "leaky": "LEAKY"}


def print_repeats(found: dict[str, Any]) -> None:
    """Print what `mer_prep.training.repeats.summary` gives: every run, mean and deviation."""
    rows = []
    for name, row in found["runs"].items():
        draw = "-" if row["draw_seed"] is None else row["draw_seed"]
        rows.append((name, draw, row["seed"], row["clips"], *_cells(row)))
    rows += [(name, "", "", "", *_cells(found[name])) for name in ("mean", "deviation")]
    marks = ", ".join(text for key, text in _MARKS.items() if found[key])
    echo(f"{len(found['runs'])} runs" + (f" ({marks})" if marks else ""))
    echo(table(rows, ("run", "draw", "seed", "clips", *SCORES.values())))
    print_published(found)


def _cells(scores: dict[str, float]) -> list[str]:
    return [f"{scores[key]:.3f}" for key in SCORES]


def print_published(results: dict[str, Any]) -> None:
    """Print the published figures that results may stand beside, or why there are none."""
    alone = results.get("published_parts", {})
    for one in results["published"]:
        _print_figures(one["part"], one)
    for part, figures in alone.items():
        for one in figures:
            _print_figures(f"{part} alone", one)
    if results["published_left_out"]:
        echo(f"  published figures are not shown: {results['published_left_out']}")
    if results["published"] or alone:
        echo(f"  {results['note']}")


def _print_figures(name: str, published: dict[str, Any]) -> None:
    scores = ", ".join(
        f"{SCORES.get(score, score)} {value:.3f}" for score, value in published["scores"].items()
    )
    echo(f"  published, {name}: {scores} ({published['source']})")
