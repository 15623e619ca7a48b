"""How the scores of a run, and of several runs of one study, are printed."""

from __future__ import annotations

from typing import Any

from mer_prep.commands.common import plural, table
from mer_prep.terminal import echo

#: What nobody may miss of scores, by what it is called in ``results.json``.
_MARKS = {
    "synthetic": "SYNTHETIC",
    "shuffled_labels": "LABELS SHUFFLED",
    "leaky": "LEAKY",
    "transductive": "TRANSDUCTIVE",
}


def print_results(results: dict[str, Any]) -> None:
    """Print the scores of a run beside the published ones."""
    marks = [text for key, text in _MARKS.items() if results.get(key)]
    echo(
        f"{results['model']} ({results['preset']}), {results['labels']}, {results['protocol']}, "
        f"selection {results['selection']}, seed {results['seed']}"
        + (f" ({', '.join(marks)})" if marks else "")
    )
    rows = []
    for part, found in results["scores"].items():
        low, high = found["interval_95"]["uf1"]
        rows.append(
            (
                part,
                found["clips"],
                f"{found['uf1']:.3f}",
                f"{low:.3f}-{high:.3f}",
                f"{found['uar']:.3f}",
                f"{found['acc']:.3f}",
                f"{found['wf1']:.3f}",
            )
        )
    head = ("corpus", "clips", "UF1", "95 % interval", "UAR", "Acc", "WF1")
    echo(table(rows, head))
    for part, found in results.get("parts", {}).items():
        echo(
            f"  {part} alone, on the same clips: UF1 {found['uf1']:.3f}, UAR {found['uar']:.3f}, "
            f"Acc {found['acc']:.3f}"
        )
    if results.get("apex"):
        echo(f"  {_apex_line(results['apex'])}")
    for text in results["warnings"]:
        echo(f"  warning: {text}")
    print_published(results)


def _apex_line(apex: dict[str, Any]) -> str:
    text = ", ".join(f"{source} in {plural(n, 'clip')}" for source, n in apex["sources"].items())
    if "mean_error_frames" in apex:
        frames = f"{apex['mean_error_frames']:.1f}"
        text += f"; where another is annotated, {frames} frames away from it on average"
    return f"apex: {text}"


def print_repeats(found: dict[str, Any]) -> None:
    """Print what `mer_prep.training.repeats.summary` gives: every run, mean and deviation."""
    from mer_prep.metrics import SCORES

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
    from mer_prep.metrics import SCORES

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
    from mer_prep.metrics import SCORES

    scores = ", ".join(
        f"{SCORES.get(score, score)} {value:.3f}" for score, value in published["scores"].items()
    )
    echo(f"  published, {name}: {scores} ({published['source']})")
