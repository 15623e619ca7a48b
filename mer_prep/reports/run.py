"""The report of a run: scores, subjects, losses, wrong clips, and what to write of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mer_prep.reports.citations import citations, methods_paragraph
from mer_prep.reports.markup import Html, render
from mer_prep.reports.page import Banner, Page, Section
from mer_prep.reports.run_scores import (
    confusion_tables,
    loss_charts,
    scores_table,
    subjects_table,
)
from mer_prep.reports.wrong_clips import is_restricted, wrong_clips, wrong_rows
from mer_prep.training.inputs import RECIPE, kept_recipe
from mer_prep.training.results import read_predictions
from mer_prep.training.scored import read_scored
from mer_prep.training.study import Study

#: Scores of the auxiliary tasks: key, title, unit, factor, and the key of what they must beat.
_AUXILIARY = (
    ("flow_endpoint_error_px", "flow against TV-L1", "px", 1, "zero_flow_error_px"),
    ("reconstruction_error", "apex rebuilt", "grey levels", 1, "identity_error"),
    ("landmark_error_eye_centres", "landmarks", "% of eye distance", 100, "mean_face_error"),
    ("landmark_failure_rate", "landmark failures", "% of frames", 100, None),
    ("true_flow_error_px", "flow against the truth", "px", 1, "true_zero_error_px"),
    ("true_tvl1_error_px", "TV-L1 against the truth", "px", 1, None),
)


def run_page(root: Path, run: Path, study: Study, *, faces: bool = True) -> Page:
    """Return the report of a finished run.

    Parameters
    ----------
    root : Path
        The workspace.
    run : Path
        Folder of the run.
    study : Study
        Its study.
    faces : bool
        Whether faces are shown; without, landmarks.

    Raises
    ------
    TrainingError
        If the run is not scored yet, or its files do not belong together.
    """
    rows = read_predictions(run, study)
    results = read_scored(run, study, rows)
    wrong = wrong_rows(rows, study.classes)
    sections = [
        Section("scores", "Scores", scores_table(results)),
        Section("confusion", "Confusion", confusion_tables(results)),
        Section("what", "What was done", _facts(results)),
        Section("subjects", "Subjects", subjects_table(rows, study), str(results["subjects"])),
        Section("losses", "Losses", loss_charts(run, study)),
    ]
    if any(len(part) > 1 for part in results["auxiliary"]["parts"].values()):
        sections.append(Section("auxiliary", "Flow and landmarks", _auxiliary(results)))
    cards = wrong_clips(root, study, wrong, faces=faces)
    sections += [
        Section("wrong", "Wrong clips", cards, str(len(wrong))),
        Section("cite", "Methods and citations", _cite(run, study, results)),
    ]
    return Page(
        title=run.name,
        subtitle=f"{results['model']} ({results['preset']}), {results['labels']}, "
        f"{results['protocol']}, {results['clips']} clips of {results['subjects']} subjects",
        banners=[*marks(results), *_face_banner(root, study, faces=faces)],
        sections=sections,
        styles=("run.css",),
    )


def marks(results: Mapping[str, Any]) -> Iterator[Banner]:
    """Yield what nobody may miss of the results."""
    if results["leaky"]:
        text = "The step was chosen on the test subject. These figures mean nothing."
        yield Banner("leaky", "LEAKY", text)
    if results.get("transductive"):
        text = "Frames of the test subjects were trained on, without their labels."
        yield Banner("leaky", "TRANSDUCTIVE", text)
    if results["shuffled_labels"]:
        text = "The labels were shuffled among the clips: a control, which must come out at chance."
        yield Banner("note", "LABELS SHUFFLED", text)
    if results["synthetic"]:
        yield Banner("synthetic", "SYNTHETIC", "Made-up clips: these are no scores of a corpus.")


def _face_banner(root: Path, study: Study, *, faces: bool) -> Iterator[Banner]:
    if is_restricted(root, study):
        text = (
            "This page shows faces of a licensed corpus. Its licence forbids to pass it on; "
            "--no-faces draws landmarks in their place."
            if faces
            else "Landmarks and flow of a licensed corpus, without faces; its licence may forbid "
            "to pass them on."
        )
        yield Banner("restricted", "RESTRICTED", text)


def _facts(results: Mapping[str, Any]) -> Html:
    passport, computed = results["passport"], results["computed"]
    devices = ", ".join(sorted({f"{one['device']}, {one['precision']}" for one in computed}))
    left_out = ", ".join(f"{count}: {why}" for why, count in results["left_out"].items())
    apex = ", ".join(f"{one} in {n}" for one, n in results["apex"].get("sources", {}).items())
    facts = [
        ("model, preset", f"{results['model']}, {results['preset']}"),
        ("label map", results["labels"]),
        ("protocol", f"{results['protocol']}, {len(results['folds'])} folds"),
        ("selection", results["selection"]),
        ("seed", results["seed"]),
        ("computed on", devices),
        ("annotations", ", ".join(f"{k} {v}" for k, v in results["annotations"].items()) or "–"),
        ("left out", left_out or "none"),
        ("apex", apex or "not used"),
        ("clip list", passport["clip_lists"].get("all", "–")[:16]),
        ("frames", passport["sources"][:16]),
        ("shards", passport["shards"][:16]),
        ("folds", passport["folds"][:16]),
        ("study", passport["study"][:16]),
        ("mer-prep", results["mer_prep"]),
        ("libraries", ", ".join(f"{k} {v}" for k, v in results["libraries"].items())),
        ("training", ", ".join(f"{k} {v}" for k, v in results["training"].items())),
        ("architecture", ", ".join(f"{k} {v}" for k, v in results["architecture"].items())),
    ]
    return render(
        "run_facts.html",
        facts=facts,
        warnings=results["warnings"],
        choices=results["choices"],
        note=results["note"],
    )


def _auxiliary(results: Mapping[str, Any]) -> Html:
    parts: Mapping[str, Mapping[str, float]] = results["auxiliary"]["parts"]
    shown = [one for one in _AUXILIARY if any(one[0] in part for part in parts.values())]

    def cell(part: Mapping[str, float], key: str | None, factor: float) -> float | None:
        return None if key is None or key not in part else part[key] * factor

    rows = [
        (name, [(cell(part, one[0], one[3]), cell(part, one[4], one[3])) for one in shown])
        for name, part in parts.items()
    ]
    return render(
        "run_auxiliary.html",
        columns=[(title, unit) for _, title, unit, _, _ in shown],
        rows=rows,
        against_nothing=any(nothing is not None for _, cells in rows for _, nothing in cells),
    )


def _cite(run: Path, study: Study, results: Mapping[str, Any]) -> Html:
    path = run / RECIPE
    recipe = kept_recipe(path, study.method) if path.is_file() else {}
    return render(
        "run_cite.html", paragraph=methods_paragraph(results, recipe), works=citations(results)
    )
