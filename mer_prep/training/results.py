"""What became of a run: predictions of all folds, pooled scores, and what they rest on."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_prep import __version__
from mer_prep.errors import TrainingError
from mer_prep.labels import read_label_map
from mer_prep.metrics import bootstrap, score
from mer_prep.protocols import folds_digest
from mer_prep.records import record_text
from mer_prep.stages.base import library_versions
from mer_prep.store.key import digest
from mer_prep.store.text import write_atomic
from mer_prep.training.auxiliary import auxiliary_of, auxiliary_scores, parts_of
from mer_prep.training.cards import model_card
from mer_prep.training.predictions import parts_of_row, read_fold
from mer_prep.training.recipes import Published
from mer_prep.training.selection import LEAKY_WARNING, TRANSDUCTIVE_WARNING
from mer_prep.training.study import Study, finished, fold_folder

Row = dict[str, str]


def read_predictions(run: Path, study: Study) -> list[Row]:
    """Return the predictions of all folds as they are scored, one a clip.

    Raises
    ------
    TrainingError
        As `read_folds`.
    """
    return study.method.scored(read_folds(run, study), study.classes)[0]


def read_folds(run: Path, study: Study) -> list[Row]:
    """Return the predictions of all folds as they were written, one a clip.

    Raises
    ------
    TrainingError
        If a fold is not finished, or the clips are not those of the study.
    """
    waiting = [fold.name for fold in study.folds if not finished(run, fold)]
    if waiting:
        raise TrainingError(
            f"{len(waiting)} of {len(study.folds)} folds are not finished: "
            f"{', '.join(waiting[:5])}.",
            where=run,
            hint="run the same `mer-prep train` again, without --shard or with the shares that are "
            "missing; it goes on where it stopped",
        )
    rows: list[Row] = []
    for fold in study.folds:
        path = fold_folder(run, fold) / "predictions.csv"
        rows += _rows(path, study)
    found = [row["clip_id"] for row in rows]
    wanted = [clip_id for fold in study.folds for clip_id in fold.test]
    if sorted(found) != sorted(wanted):
        raise TrainingError(
            "The predictions are not those of the clips that the folds test.",
            where=run,
            hint="the files were changed; delete the folder `folds` and train again",
        )
    entries = {one.clip_id: one for one in study.clips}
    fields = {tuple(row) for row in rows}
    for row in rows:
        entry = entries[row["clip_id"]]
        if (row["corpus"], row["subject"]) != (entry.corpus, entry.subject) or len(fields) > 1:
            raise TrainingError(
                f"The predictions say another corpus, subject or column of {entry.clip_id} than "
                "the study and the other folds.",
                where=run,
                hint="the files were changed; delete the folder of that fold and train it again",
            )
        if row["label"] != str(entry.label):
            raise TrainingError(
                f"The predictions have another label of {row['clip_id']} than the study.",
                where=run,
                hint="the files were changed; delete the folder of that fold and train it again",
            )
    if not rows:
        raise TrainingError(
            "No fold of this run tests a clip, so there is nothing to score.",
            where=run / "study.json",
            hint="the file was changed, or its folds are empty; train a new run",
        )
    return rows


def fold_facts(run: Path, study: Study) -> dict[str, dict[str, Any]]:
    """Return how the results of all folds came about, by the name of the fold."""
    return {fold.name: read_fold(fold_folder(run, fold) / "fold.json") for fold in study.folds}


#: Columns that every prediction has, and those of numbers, where it has them.
_TEXTS = ("clip_id", "corpus", "subject", "fold", "label", "predicted")
_NUMBERS = ("flow_endpoint_error_px", "landmark_error_eye_centres")
_COUNTS = ("landmark_failures", "frames")


def _rows(path: Path, study: Study) -> list[Row]:
    """Return the predictions of one fold, checked.

    Raises
    ------
    TrainingError
        If the file is damaged or was changed.
    """
    try:
        stored = io.StringIO(record_text(path), newline="")
        rows: list[Row] = list(csv.DictReader(stored, strict=True))
        for number, row in enumerate(rows, start=1):
            try:
                _check_row(row, study)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"clip {number}: {error}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise TrainingError(
            f"The predictions of a fold cannot be read: {error!s:.200}.",
            where=path,
            hint="delete the folder of the fold, and it is trained again",
        ) from None
    return rows


def _check_row(row: Mapping[Any, Any], study: Study) -> None:
    if not all(isinstance(value, str) for value in row.values()) or None in row:
        raise ValueError("it has other cells than the heading")
    for name in _TEXTS:
        if not row[name]:
            raise ValueError(f"it has no {name}")
    chances = [f"p_{name}" for name in study.classes]
    for name in (*chances, *_NUMBERS, *_COUNTS):
        if name not in row:
            raise ValueError(f"it has no column {name!r:.80}")
    if not all(0 <= float(row[name]) <= 1 for name in chances):
        raise ValueError("a probability is none")
    if row["predicted"] not in {str(number) for number in range(len(study.classes))}:
        raise ValueError(f"its class is {row['predicted']!r}")
    for name in _NUMBERS:
        float(row[name] or 0)
    for name in _COUNTS:
        if not re.fullmatch(r"\d{1,9}", row[name], re.ASCII):
            raise ValueError(f"its {name} is {row[name]!r:.60}")


def write_results(run: Path, study: Study) -> dict[str, Any]:
    """Score a finished run; write ``predictions.csv`` and ``results.json``, and return the latter.

    All scores come from one confusion matrix over the predictions of all folds; those of a corpus
    are of a part of the same predictions.
    """
    rows, done = study.method.scored(read_folds(run, study), study.classes)
    folds = fold_facts(run, study)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(run / "predictions.csv", text.getvalue())
    results = {
        "mer_prep": __version__,
        **facts_of_study(study),
        "warnings": _warnings(study, folds),
        "computed": _distinct([one["computed"] for one in folds.values()]),
        "training_seconds": training_seconds(folds),
        "clips": len(rows),
        "subjects": len({row["subject"] for row in rows}),
        "scores": score_rows(rows, study),
        **({"parts": parts} if (parts := score_parts(rows, study)) else {}),
        **done,
        "auxiliary": _auxiliary(rows),
        "folds": {
            name: {"step": one["step"], "inner_subjects": one["inner_subjects"]}
            | {key: one[key] for key in ("tuned", "support") if key in one}
            for name, one in folds.items()
        },
        **_published(study),
        "note": model_card(study.model).note,
        "choices": list(model_card(study.model).preset(study.preset).choices),
        "libraries": library_versions(("torch", "numpy", "h5py")),
    }
    write_atomic(run / "results.json", json.dumps(results, indent=1) + "\n")
    return results


def facts_of_study(study: Study) -> dict[str, Any]:
    """Return what stands in ``results.json`` by the study alone, whatever became of it."""
    return {
        "synthetic": study.synthetic,
        "model": study.model,
        "preset": study.preset,
        "architecture": dataclasses.asdict(study.architecture),
        "training": dataclasses.asdict(study.training),
        "labels": study.labels,
        "draw_seed": study.draw_seed,
        "protocol": study.protocol,
        "selection": study.selection.kind,
        "leaky": study.leaky,
        "transductive": study.method.transductive,
        "shuffled_labels": study.shuffled,
        "seed": study.seed,
        "init": None if study.init is None else dataclasses.asdict(study.init),
        "classes": list(study.classes),
        "left_out": dict(study.left_out),
        "apex": dict(study.apex),
        "annotations": dict(study.annotations),
        "passport": {
            "clip_lists": dict(study.clip_lists),
            "study": study.digest(),
            "folds": folds_digest(study.folds),
            "sources": digest({one.clip_id: one.source_digest for one in study.clips}),
            "shards": digest({one.clip_id: dict(one.shards) for one in study.clips}),
        },
    }


def _warnings(study: Study, folds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what a reader of the scores must know."""
    found = [LEAKY_WARNING] if study.leaky else []
    found += study.method.remarks(init=study.init is not None)
    found += [TRANSDUCTIVE_WARNING] if study.method.transductive else []
    found += study.findings
    for name, fold in folds.items():
        if fold["absent_classes"]:
            found.append(
                f"In fold {name} nothing of {', '.join(fold['absent_classes'])} was trained on: "
                "such clips cannot be recognised there."
            )
    return found


def _distinct(values: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return every different value once, in the order they come."""
    return [one for number, one in enumerate(values) if one not in values[:number]]


def training_seconds(folds: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return how long all folds were trained, one after the other; None if it is not known.

    Parameters
    ----------
    folds : mapping of str to mapping
        By name what `mer_prep.training.predictions.read_fold` gives.
    """
    found = [one.get("training_seconds") for one in folds.values()]
    known = [float(one) for one in found if one is not None]
    return sum(known) if len(known) == len(found) else None


def _published(study: Study) -> dict[str, Any]:
    """Return the published results that the run may stand beside, or why it may not.

    Of a fused model, those of each of its parts alone are among them by the name of the part.
    """
    # Composite evaluation is leave-one-subject-out over several corpora: the same folds.
    protocol = "loso" if study.protocol == "cde" else study.protocol
    like = [
        one
        for one in model_card(study.model).published
        if (one.labels, one.protocol) == (study.labels, protocol)
        and one.preset in (None, study.preset)
        and (protocol != "cross-corpus" or one.part == study.folds[0].name)
    ]
    changed = study.method.changed(study.preset)
    same = [one for one in like if one.variant == changed]
    reason = _incomparable(study) if like else ""
    if like and not reason and not _is_whole(study, like[0]):
        reason = "the clips are not as many as were published"
    if like and not reason and not same:
        listed = ", ".join(f"{name}={value}" for name, value in changed.items())
        reason = f"nothing was published with {listed}"
    shown = [] if reason else [dataclasses.asdict(one) for one in same]
    alone = {
        part: [dataclasses.asdict(one) for one in like if one.variant == changed | change]
        for part, change in study.method.alone().items()
    }
    known = {} if reason or not any(alone.values()) else {"published_parts": alone}
    return {"published": shown, "published_left_out": reason, **known}


def _incomparable(study: Study) -> str:
    if not model_card(study.model).preset(study.preset).published:
        return f"preset '{study.preset}' has no published counterpart"
    marks = (
        (study.synthetic, "the clips are synthetic"),
        (study.shuffled, "the labels are shuffled"),
        (study.leaky, "the step was chosen on the test subject"),
        (study.method.transductive, "frames of the test subjects were trained on"),
        (
            study.apex.get("policy") in ("spotted", "midpoint"),
            "annotated apex frames were not used",
        ),
    )
    return next((text for found, text in marks if found), "")


def _is_whole(study: Study, published: Published) -> bool:
    """Return whether all corpora of a published result have as many clips as the map says.

    Of a map that is balanced, every class must have as many as are drawn of it.
    """
    labels = read_label_map(study.labels)
    if labels.balance is not None:
        drawn = Counter(one.label for one in study.clips)
        return drawn == dict.fromkeys(range(len(study.classes)), labels.drawn_per_class())
    named = published.part.split(" to ")
    corpora = named if len(named) > 1 else list(labels.corpora)
    counts = Counter(one.corpus for one in study.clips)
    return all(
        counts[name] in {one.clips for one in labels.corpora[name].expected} for name in corpora
    )


def _scores(rows: Sequence[Row], study: Study) -> dict[str, Any]:
    labels = [int(row["label"]) for row in rows]
    predicted = [int(row["predicted"]) for row in rows]
    found = score(labels, predicted, study.classes)
    intervals = bootstrap(
        labels, predicted, [row["subject"] for row in rows], study.classes, seed=study.seed
    )
    return {
        "clips": found.clips,
        **found.summary(),
        "interval_95": {name: [one.low, one.high] for name, one in intervals.items()},
        "draws_lacking_class": intervals["uf1"].lacking,
        "classes": {name: dataclasses.asdict(one) for name, one in found.classes.items()},
        "confusion": found.confusion.tolist(),
    }


def score_parts(rows: Sequence[Row], study: Study) -> dict[str, Any]:
    """Return the scores of the parts of a fused model, each alone, on the same clips."""
    by_row = [parts_of_row(row) for row in rows]
    found = {}
    for part in by_row[0]:
        alone = [
            row | {"predicted": str(max(range(len(one[part])), key=one[part].__getitem__))}
            for row, one in zip(rows, by_row, strict=True)
        ]
        found[part] = _scores(alone, study)
    return found


def _auxiliary(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the scores of the auxiliary tasks, as far as the predictions tell them."""
    return auxiliary_scores([auxiliary_of(row) for row in rows])


def score_rows(rows: Sequence[Row], study: Study) -> dict[str, Any]:
    """Return the scores of predictions: of all of them and, of several corpora, of each."""
    parts = parts_of(rows, [row["corpus"] for row in rows])
    return {name: _scores(part, study) for name, part in parts.items()}
