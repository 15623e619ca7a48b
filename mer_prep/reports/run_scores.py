"""Scores of a run as parts of a page: tables, confusion matrices, subjects, losses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_prep.metrics import SCORES, largest_class
from mer_prep.reports.charts import Line, line_chart
from mer_prep.reports.markup import Html, render
from mer_prep.training.cards import model_card
from mer_prep.training.predictions import LossLog
from mer_prep.training.study import Study, fold_folder

#: Most points of a curve of losses.
_POINTS = 150

#: Shades of a confusion matrix, see the style sheet.
_SHADES = 10


def scores_table(results: Mapping[str, Any]) -> Html:
    """Return the scores of all parts with intervals, the published ones, and those of no skill.

    Of a fused model, those of what is fused are among them, each alone.
    """
    rows = _rows(results["scores"])
    published = _published(results["published"])
    alone = {f"{part} alone": found for part, found in results.get("parts", {}).items()}
    for part, figures in results.get("published_parts", {}).items():
        published += _published(figures, f"{part} alone")
    return render(
        "run_scores.html",
        names=list(SCORES.values()),
        rows=[*rows, *_rows(alone)],
        published=published,
        reference=model_card(results["model"]).reference,
        left_out=results["published_left_out"],
        largest=_largest_class(results["scores"]["all"], results["classes"]),
        lacking=results["scores"]["all"]["draws_lacking_class"],
    )


def _rows(scores: Mapping[str, Any]) -> list[tuple[str, int, list[tuple[float, float, float]]]]:
    return [
        (name, found["clips"], [_interval(found, one) for one in SCORES])
        for name, found in scores.items()
    ]


def _published(
    figures: Sequence[Mapping[str, Any]], name: str = ""
) -> list[tuple[str, str, list[float | None]]]:
    return [
        (name or one["part"], one["source"], [one["scores"].get(score) for score in SCORES])
        for one in figures
    ]


def _interval(found: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    low, high = found["interval_95"][name]
    return found[name], low, high


def _largest_class(found: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, list[float]]:
    """Return the largest class, and the scores of always saying it."""
    labels = [one for one, row in enumerate(found["confusion"]) for _ in range(sum(row))]
    name, scores = largest_class(labels, classes)
    summary = scores.summary()
    return name, [summary[score] for score in SCORES]


def confusion_tables(results: Mapping[str, Any]) -> Html:
    """Return a confusion matrix for all clips and for every part, with the classes' scores.

    Recalls that are published stand beside those of all clips.
    """
    parts = [
        (
            part,
            _confusion(found["confusion"], results["classes"]),
            found["classes"],
            _published_recalls(results, part),
        )
        for part, found in results["scores"].items()
    ]
    return render("run_confusion.html", parts=parts, classes=results["classes"])


def _published_recalls(results: Mapping[str, Any], part: str) -> dict[str, float]:
    """Return the published recalls of a part by class, as far as there are any."""
    return {
        name: one["scores"][f"recall of {name}"]
        for one in results["published"]
        if one["part"] == part
        for name in results["classes"]
        if f"recall of {name}" in one["scores"]
    }


def _confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[tuple[str, list]]:
    rows = []
    for name, row in zip(classes, matrix, strict=True):
        total = sum(row)
        shares = [count / total if total else 0.0 for count in row]
        cells = [
            (count, share, round(share * _SHADES)) for count, share in zip(row, shares, strict=True)
        ]
        rows.append((name, cells))
    return rows


def subjects_table(rows: Sequence[Mapping[str, str]], study: Study) -> Html:
    """Return clips and hits of every subject, those with the fewest hits first."""
    by_subject: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        by_subject[row["subject"]].append(row)
    found = []
    for subject, mine in by_subject.items():
        right = sum(row["label"] == row["predicted"] for row in mine)
        labels = [
            sum(int(row["label"]) == one for row in mine) for one in range(len(study.classes))
        ]
        found.append((subject, len(mine), right, right / len(mine), labels))
    found.sort(key=lambda one: (one[3], -one[1], one[0]))
    return render("run_subjects.html", subjects=found, classes=study.classes)


def loss_charts(run: Path, study: Study) -> Html:
    """Return the course of every loss, as the mean over the folds."""
    curves = mean_losses([fold_folder(run, fold) / "log.csv" for fold in study.folds])
    charts = [
        line_chart(
            [Line(name, steps, values)],
            title=f"Loss '{name}' over the steps, mean over {len(study.folds)} folds",
            x_label="step",
            y_label=f"loss: {name}",
        )
        for name, (steps, values) in curves.items()
    ]
    return render("run_losses.html", charts=charts, folds=len(study.folds))


def mean_losses(logs: Sequence[Path]) -> dict[str, tuple[list[float], list[float]]]:
    """Return steps and mean losses by name.

    Parameters
    ----------
    logs : sequence of Path
        ``log.csv`` of every fold; one that is missing is left out, and lines that are damaged.

    Returns
    -------
    dict of str to (list, list)
        By loss its steps, at most 150 stretches of them, and the mean over stretch and folds.
    """
    read = [LossLog.of(log) for log in logs if log.is_file()]
    # Twice over the files, so that however many lines they have only the stretches are held.
    last = max((step for log in read for step, _ in log.rows()), default=1)
    width = -(-max(last, 1) // _POINTS)
    sums: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0, 0]))
    for log in read:
        for step, losses in log.rows():
            for name, value in losses.items():
                stretch = sums[name][(step - 1) // width]
                stretch[0] += value
                stretch[1] += 1
    found = {}
    for name, stretches in sums.items():
        ordered = sorted(stretches)
        found[name] = (
            [one * width + (width + 1) / 2 for one in ordered],
            [stretches[one][0] / stretches[one][1] for one in ordered],
        )
    return found
