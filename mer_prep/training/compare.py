"""Two runs on the same clips: how much better one is, and whether that may be chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import ManifestError
from mer_prep.metrics import Comparison, mcnemar, score
from mer_prep.training.results import read_predictions
from mer_prep.training.study import Study


@dataclass(frozen=True)
class RunComparison:
    """The predictions of two runs side by side.

    Parameters
    ----------
    clips : int
        Clips that both tested.
    first, second : mapping of str to float
        ``acc``, ``uf1``, ``uar`` and ``wf1`` of the two runs, 0 to 1.
    accuracy_difference : float
        Accuracy of the first minus that of the second, -1 to 1.
    mcnemar : Comparison
        McNemar's test of that difference.
    differing : mapping of str to tuple
        Of protocol, folds and where the apex comes from, what is not the same in the two runs.
    """

    clips: int
    first: Mapping[str, float]
    second: Mapping[str, float]
    accuracy_difference: float
    mcnemar: Comparison
    differing: Mapping[str, tuple[object, object]]


def compare_runs(first: tuple[Path, Study], second: tuple[Path, Study]) -> RunComparison:
    """Compare two finished runs by the predictions they stored.

    Parameters
    ----------
    first, second : tuple of (Path, Study)
        Folders of the runs, and their studies.

    Raises
    ------
    TrainingError
        If a run is not finished.
    ManifestError
        If clips, classes or labels are not the same.
    """
    (run, study), (other_run, other_study) = first, second
    if study.classes != other_study.classes:
        raise ManifestError(
            f"The runs have other classes: {', '.join(study.classes)} here, "
            f"{', '.join(other_study.classes)} there.",
            where=other_run,
            hint="compare runs of one label map",
        )
    rows = {row["clip_id"]: row for row in read_predictions(run, study)}
    others = {row["clip_id"]: row for row in read_predictions(other_run, other_study)}
    _check_same(list(rows), list(others), other_run)
    labels = {clip_id: int(row["label"]) for clip_id, row in rows.items()}
    unlike = [clip_id for clip_id, row in others.items() if int(row["label"]) != labels[clip_id]]
    if unlike:
        raise ManifestError(
            f"{len(unlike)} of {len(labels)} clips have other labels there: {unlike[0]}.",
            where=other_run,
            why="one recogniser was asked another question",
            hint="compare runs of one label map; shuffled labels compare only with their like",
        )
    found = [{one: int(row["predicted"]) for one, row in part.items()} for part in (rows, others)]
    scores = [
        score(list(labels.values()), [part[one] for one in labels], study.classes) for part in found
    ]
    return RunComparison(
        clips=len(labels),
        first=scores[0].summary(),
        second=scores[1].summary(),
        accuracy_difference=scores[0].accuracy - scores[1].accuracy,
        mcnemar=mcnemar(labels, *found),
        differing=_differing(study, other_study),
    )


def _check_same(here: list[str], there: list[str], other_run: Path) -> None:
    missing, added = sorted(set(here) - set(there)), sorted(set(there) - set(here))
    if missing or added:
        texts = [
            f"{len(ids)} only {where}, such as {ids[0]}"
            for ids, where in ((missing, "here"), (added, "there"))
            if ids
        ]
        raise ManifestError(
            f"The runs did not test the same clips: {'; '.join(texts)}.",
            where=other_run,
            why="recognisers can only be compared on the same clips",
            hint="train both on the same corpora and label map",
        )


def _differing(study: Study, other: Study) -> dict[str, tuple[object, object]]:
    facts = {
        "protocol": (study.protocol, other.protocol),
        "folds": (len(study.folds), len(other.folds)),
        "apex": (study.apex.get("policy"), other.apex.get("policy")),
    }
    found: dict[str, tuple[object, object]] = {
        name: pair for name, pair in facts.items() if pair[0] != pair[1]
    }
    if "folds" not in found and study.folds != other.folds:
        found["folds"] = ("other clips", "in the same number of folds")
    return found


def comparison_facts(comparison: RunComparison) -> dict[str, object]:
    """Return a comparison as plain values for JSON."""
    return dataclasses.asdict(comparison)


def parameters(study: Study) -> int:
    """Return the number of trained parameters of a study's model."""
    import torch

    with torch.device("meta"):
        model = study.method.build(len(study.classes))
    return sum(one.numel() for one in model.parameters())
