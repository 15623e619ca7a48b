"""Files of a prediction: probabilities, flow, landmarks and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep import __version__
from mer_prep.ops.similarity import apply_transform, invert
from mer_prep.pictures import write_png
from mer_prep.store import disk
from mer_prep.store.text import write_atomic
from mer_prep.training.apply import Prediction
from mer_prep.training.inputs import Ready
from mer_prep.training.sheet import prediction_sheet
from mer_prep.training.study import Study
from mer_prep.training.weights import Judges, read_results

#: Version of what `prediction_facts` gives.
SCHEMA = 2


def prediction_facts(
    run: Path, study: Study, ready: Ready, judges: Judges, prediction: Prediction
) -> dict[str, Any]:
    """Return all that is known of a prediction but its arrays, as plain values for JSON."""
    return {
        "schema": SCHEMA,
        "mer_prep": __version__,
        "clip": ready.prepared.clip_id,
        "synthetic": ready.synthetic,
        "restricted": ready.restricted,
        "run": run.name,
        "model": study.model,
        "preset": study.preset,
        "labels": study.labels,
        "study": study.digest(),
        "trained_on_synthetic_clips": study.synthetic,
        "trained_on_shuffled_labels": study.shuffled,
        "leaky": study.leaky or bool(read_results(run).get("leaky")),
        "weights": {"folds": [fold.name for fold in judges.folds], "why": judges.why},
        "predicted": prediction.predicted,
        "probabilities": _by_class(prediction, prediction.probabilities),
        "label": ready.label,
        "samples": [
            {
                "frames": [ready.frame_numbers[index] for index in sample],
                "probabilities": _by_class(prediction, chances),
            }
            for sample, chances in zip(ready.prepared.samples, prediction.by_sample, strict=True)
        ],
        "folds": {
            name: _by_class(prediction, chances) for name, chances in prediction.by_fold.items()
        },
        "regions": _regions(prediction),
        "auxiliary": dict(prediction.scores),
        "notes": list(ready.notes),
    }


def _regions(prediction: Prediction) -> dict[str, dict[str, Any]]:
    """Return attention to, and box in aligned px of, every region, of the first sample."""
    if prediction.boxes is None or not prediction.attention:
        return {}
    corners = prediction.boxes[0].reshape(-1, 2, 2).astype(np.float64)
    boxes = prediction.window.aligned(corners).reshape(-1, 4)
    return {
        name: {"attention": weight, "box": [round(float(edge), 2) for edge in box]}
        for (name, weight), box in zip(prediction.attention.items(), boxes, strict=True)
    }


def _by_class(prediction: Prediction, chances: np.ndarray) -> dict[str, float]:
    return dict(zip(prediction.classes, map(float, chances), strict=True))


def marks_of(facts: Mapping[str, Any]) -> list[str]:
    """Return what a reader must not overlook, from `prediction_facts`, as short phrases."""
    return [
        text
        for text, shown in (
            ("SYNTHETIC", facts["synthetic"]),
            ("restricted: do not pass on", facts["restricted"]),
            ("TRAINED ON SYNTHETIC CLIPS", facts["trained_on_synthetic_clips"]),
            ("TRAINED ON SHUFFLED LABELS", facts["trained_on_shuffled_labels"]),
            ("LEAKY", facts["leaky"]),
        )
        if shown
    ]


def write_prediction(
    folder: Path, ready: Ready, prediction: Prediction, facts: Mapping[str, Any]
) -> list[Path]:
    """Write a prediction into a folder and return the files.

    ``probabilities.json`` holds `prediction_facts`; ``flow.npz`` the arrays ``flow`` and ``tvl1``,
    shape (J, P, 2, S, S), px of the model's frames, ``displacement`` of that shape if the model
    has one, ``frames`` (J, P, 2), the numbers of the two frames of every pair, and what places
    them in the aligned frames; ``landmarks.csv`` a line for
    every point of every frame but the first of each sample, in aligned and in source px;
    ``prediction.png`` a picture of the first sample. What a model without the head does not give
    is not written.

    Parameters
    ----------
    folder : Path
        Where to; it is made if it is not there, and files of these names are replaced.
    ready : Ready
        The clip.
    prediction : Prediction
        What was predicted for it.
    facts : mapping
        As `prediction_facts` gives them.
    """
    disk.make_folder(folder)
    marks = marks_of(facts)
    written = [folder / "probabilities.json"]
    write_atomic(written[0], json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if prediction.flow is not None:
        written.append(folder / "flow.npz")
        _write_flow(written[-1], ready, prediction, marks)
    if prediction.landmarks is not None:
        written.append(folder / "landmarks.csv")
        write_atomic(written[-1], _landmark_lines(ready, prediction, prediction.landmarks, marks))
    written.append(folder / "prediction.png")
    shown = dict.fromkeys(marks, "") | {
        "predicted": prediction.predicted,
        "label": ready.label or "unknown",
        "weights": facts["weights"]["why"],
        "run": facts["run"],
    }
    sheet = prediction_sheet(ready, prediction, title=ready.prepared.clip_id, facts=shown)
    write_png(written[-1], sheet)
    return written


def _write_flow(path: Path, ready: Ready, prediction: Prediction, marks: list[str]) -> None:
    samples = np.asarray(ready.frame_numbers)[ready.prepared.samples]
    assert prediction.flow is not None
    arrays: dict[str, Any] = {}
    if prediction.displacement is not None:
        arrays["displacement"] = prediction.displacement
    np.savez_compressed(
        path,
        **arrays,
        flow=prediction.flow,
        tvl1=prediction.target_flow,
        frames=np.stack([samples[:, :-1], samples[:, 1:]], axis=-1),
        offset=prediction.window.offset,
        reduce=prediction.window.reduce,
        units="px of frames that show the aligned ones from (offset, offset), reduced by reduce",
        marks=np.array(marks, dtype=np.str_),
    )


def _landmark_lines(
    ready: Ready, prediction: Prediction, landmarks: np.ndarray, marks: list[str]
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sample", "frame", "point", "x", "y", "source_x", "source_y", "marks"])
    for number, (sample, of_sample) in enumerate(
        zip(ready.prepared.samples, landmarks, strict=True)
    ):
        for index, points in zip(sample[1:], of_sample, strict=True):
            aligned = prediction.window.aligned(points.astype(np.float64))
            source = apply_transform(invert(ready.transforms[index]), aligned)
            for point, values in enumerate(np.hstack([aligned, source])):
                row = [number, ready.frame_numbers[index], point]
                writer.writerow([*row, *(f"{one:.3f}" for one in values), "; ".join(marks)])
    return text.getvalue()
