"""The report that compares runs on the same clips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_prep.errors import ManifestError
from mer_prep.metrics import SCORES
from mer_prep.reports.markup import Html, render
from mer_prep.reports.page import Banner, Page, Section
from mer_prep.reports.run import marks
from mer_prep.reports.run_scores import confusion_tables
from mer_prep.training.compare import compare_runs, parameters
from mer_prep.training.results import read_predictions
from mer_prep.training.scored import read_scored
from mer_prep.training.study import Study

#: Most clips on which runs disagree that are listed.
SHOWN = 300


def comparison_page(runs: Sequence[tuple[Path, Study]]) -> Page:
    """Return the report of several finished runs, the first of which the others stand against.

    Parameters
    ----------
    runs : sequence of tuple of (Path, Study)
        Folders of the runs, two or more, and their studies.

    Raises
    ------
    TrainingError
        If a run is not scored yet, or its files do not belong together.
    """
    results = [
        read_scored(folder, study, read_predictions(folder, study)) for folder, study in runs
    ]
    names = [folder.name for folder, _ in runs]
    sections = [
        Section("scores", "Scores", _scores(runs, results)),
        Section("settings", "What differs", _settings(runs)),
        Section("clips", "Clips they disagree on", _clips(runs)),
    ]
    sections += [
        Section(f"confusion-{number}", f"Confusion: {name}", confusion_tables(found))
        for number, (name, found) in enumerate(zip(names, results, strict=True))
    ]
    return Page(
        title="Comparison of runs",
        subtitle=", ".join(names),
        banners=_banners(results),
        sections=sections,
        styles=("run.css",),
    )


def _banners(results: Sequence[Mapping[str, Any]]) -> list[Banner]:
    """Return every mark of any run once; the table says of which."""
    found: dict[str, Banner] = {}
    for one in results:
        for banner in marks(one):
            found.setdefault(banner.title, banner)
    return list(found.values())


def _scores(runs: Sequence[tuple[Path, Study]], results: Sequence[Mapping[str, Any]]) -> Html:
    rows = []
    for number, ((folder, study), found) in enumerate(zip(runs, results, strict=True)):
        scores = [
            (found["scores"]["all"][name], *found["scores"]["all"]["interval_95"][name])
            for name in SCORES
        ]
        test = "–" if number == 0 else _test(runs[0], (folder, study))
        titles = [banner.title for banner in marks(found) if banner.kind != "synthetic"]
        rows.append((folder.name, found["clips"], scores, parameters(study), test, titles))
    return render("run_compare.html", rows=rows, names=list(SCORES.values()), first=runs[0][0].name)


def _test(first: tuple[Path, Study], other: tuple[Path, Study]) -> str:
    try:
        found = compare_runs(other, first)
    except ManifestError as error:
        return f"not comparable: {error.what}"
    test = found.mcnemar
    text = (
        f"accuracy {100 * found.accuracy_difference:+.1f} points; {test.only_first} right here "
        f"only, {test.only_second} there only; p = {test.p_value:.3g}"
    )
    notes = "; ".join(f"not the same {name}" for name in found.differing)
    return f"{text}; {notes}" if notes else text


def _settings(runs: Sequence[tuple[Path, Study]]) -> Html:
    """Return the settings that are not the same in all runs."""
    facts = [_flat(study) for _, study in runs]
    keys = sorted({key for one in facts for key in one})
    one_model = len({study.model for _, study in runs}) == 1
    rows = []
    for key in keys:
        values = [one.get(key, "–") for one in facts]
        # An architecture has its own settings: those of another model are no difference of them.
        if len(set(values)) > 1 and (one_model or "–" not in values):
            rows.append((key, [(value, "long") for value in values]))
    return render(
        "run_differing.html",
        rows=rows,
        caption="Settings that are not the same in all runs."
        + ("" if one_model else " Those that only one of the models has are left out."),
        head=["setting", *(folder.name for folder, _ in runs)],
        empty="All settings are the same.",
    )


def _flat(study: Study) -> dict[str, str]:
    facts = study.facts()
    for name in ("clips", "folds", "findings", "left_out", "clip_lists", "annotations"):
        facts.pop(name)
    facts["clips"], facts["folds"] = len(study.clips), len(study.folds)
    flat: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": json.dumps(one) for key, one in value.items()}
        else:
            flat[name] = json.dumps(value)
    return flat


def _clips(runs: Sequence[tuple[Path, Study]]) -> Html:
    """Return the clips that all runs tested and that not all called the same."""
    tested = [
        {row["clip_id"]: row for row in read_predictions(folder, study)} for folder, study in runs
    ]
    common = [one for one in tested[0] if all(one in rows for rows in tested)]
    rows = []
    for clip_id in common:
        found = [
            (_class(study, rows[clip_id]["predicted"]), _class(study, rows[clip_id]["label"]))
            for (_, study), rows in zip(runs, tested, strict=True)
        ]
        if len({said for said, _ in found}) > 1:
            cells = [(said, "good" if said == label else "bad") for said, label in found]
            rows.append((clip_id, [(found[0][1], ""), *cells]))
    more = f"; the first {SHOWN} are shown" if len(rows) > SHOWN else ""
    return render(
        "run_differing.html",
        rows=rows[:SHOWN],
        caption=f"{len(rows)} of {len(common)} clips that all runs tested{more}.",
        head=["clip", "label", *(folder.name for folder, _ in runs)],
        empty=f"On all {len(common)} clips they say the same.",
    )


def _class(study: Study, label: str) -> str:
    return study.classes[int(label)]
