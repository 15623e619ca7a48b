"""A finished run scored again from its saved weights, its auxiliary tasks too."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mer_prep import __version__
from mer_prep.dataset import TESTED, Batch, ClipSource, ClipStore
from mer_prep.errors import TrainingError
from mer_prep.metrics import landmark_errors
from mer_prep.models.output import ModelOutput
from mer_prep.store.shard import read_clip
from mer_prep.store.text import write_atomic
from mer_prep.training.auxiliary import (
    ClipAuxiliary,
    Window,
    auxiliary_scores,
    flat,
    joined,
    score_targets,
)
from mer_prep.training.fit import predict
from mer_prep.training.inputs import check_shards
from mer_prep.training.predictions import part_scores
from mer_prep.training.results import Row, read_folds, score_rows, write_results
from mer_prep.training.study import ClipEntry, Study, load_clips, trained_model
from mer_prep.training.truth import score_truth
from mer_prep.training.weights import check_weights, machine_of, read_results, view_of
from mer_prep.workspace import Workspace

#: Largest difference of a probability that another device or precision explains.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Rescored:
    """What the saved weights of a run give for the clips that its folds tested.

    Parameters
    ----------
    rows : tuple of Row
        The predictions, as in ``predictions.csv``.
    clips : tuple of ClipAuxiliary
        The auxiliary tasks.
    largest_difference : float
        Largest difference of a probability from the one stored.
    other_class : tuple of str
        Clips whose class is now another one, by so little that rounding explains it.
    """

    rows: tuple[Row, ...]
    clips: tuple[ClipAuxiliary, ...]
    largest_difference: float
    other_class: tuple[str, ...]


def rescore(
    workspace: Workspace,
    run: Path,
    study: Study,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rescored:
    """Predict every tested clip again with the weights of the fold that tested it.

    Parameters
    ----------
    workspace : Workspace
        The workspace that holds the run's shards.
    run : Path
        Folder of the run.
    study : Study
        Its study.
    device : str
        Where to compute.
    progress : callable
        Called with (folds done, folds).

    Raises
    ------
    TrainingError
        If folds are not finished or have no weights, or the weights do not give the stored
        predictions.
    ShardError
        If the data of the run are gone.
    """
    stored = {row["clip_id"]: row for row in read_folds(run, study)}
    check_weights(run, study.folds)
    entries = {entry.clip_id: entry for entry in study.clips}
    check_shards(workspace, study, entries=study.clips)
    means = {clip_id: _mean_landmarks(workspace, entry) for clip_id, entry in entries.items()}
    machine = machine_of(study, device)
    rows, clips = [], []
    for done, fold in enumerate(study.folds):
        progress(done, len(study.folds))
        tested = tuple(entries[clip_id] for clip_id in fold.test)
        store = ClipStore(load_clips(workspace.root, dataclasses.replace(study, clips=tested)))
        model, statistics = trained_model(run, study, fold)
        view = view_of(study, statistics)
        found = predict(machine.place(model), study.method, store, fold.test, view, machine)
        window = Window((store.side - view.side) // 2, view.reduce)
        mean_face = np.mean([means[clip_id] for clip_id in fold.train], axis=0)
        for clip_id, outputs in found.items():
            output, batch = joined(outputs)
            rows.append(_row(stored[clip_id], output, batch, study))
            entry, samples = entries[clip_id], tested_samples(store, clip_id)
            scores = _auxiliary(output, batch, window, mean_face, statistics.deviation)
            scores |= score_truth(workspace, entry, output, batch, window, samples)
            clips.append(ClipAuxiliary(clip_id, entry.corpus, fold.name, **scores))
    progress(len(study.folds), len(study.folds))
    return _compared(study, stored, rows, clips, run)


def tested_samples(store: ClipSource, clip_id: str) -> np.ndarray:
    """Return the frames of every sample of a clip that is tested, shape (J, t)."""
    clip = store.clips[store.index[clip_id]]
    return clip.samples[list(clip.kinds[TESTED])]


def _mean_landmarks(workspace: Workspace, entry: ClipEntry) -> np.ndarray:
    path = workspace.root / entry.shards["align"]
    aligned, _ = read_clip(path, entry.clip_id, ("landmarks",))
    return np.asarray(aligned["landmarks"], np.float64).mean(axis=0)


def _row(stored: Row, output: ModelOutput, batch: Batch, study: Study) -> Row:
    """Return a line of ``predictions.csv`` with what the model gives now."""
    mean = torch.softmax(output.logits.double(), dim=1).mean(dim=0)
    chances = {f"p_{name}": repr(float(p)) for name, p in zip(study.classes, mean, strict=True)}
    parts = dict(part_scores([(output, batch)], study.classes))
    return {**stored, "predicted": str(int(mean.argmax())), **chances, **parts}


def _auxiliary(
    output: ModelOutput, batch: Batch, window: Window, mean_face: np.ndarray, deviation: float
) -> dict[str, Any]:
    scores = score_targets(output, batch, deviation=deviation)
    if output.landmarks is not None:
        target = flat(batch.landmarks[:, 1:])
        guess = np.broadcast_to(window.seen(mean_face), target.shape)
        scores["mean_face_error"] = float(landmark_errors(guess, target).mean())
    return scores


def _compared(
    study: Study,
    stored: Mapping[str, Row],
    rows: Sequence[Row],
    clips: Sequence[ClipAuxiliary],
    run: Path,
) -> Rescored:
    """Return the result if the predictions are those stored."""
    largest, worst = 0.0, ""
    for row in rows:
        before = stored[row["clip_id"]]
        difference = max(
            abs(float(row[f"p_{name}"]) - float(before[f"p_{name}"])) for name in study.classes
        )
        if not difference <= largest:
            largest, worst = difference, row["clip_id"]
    if not largest <= TOLERANCE:
        raise TrainingError(
            f"The saved weights do not give the predictions of the run: a probability of {worst} "
            f"differs by {largest:.3g}.",
            where=run,
            why="its results would not be those of its weights",
            hint="files of the run were replaced; train it again under another --run",
        )
    other = [
        row["clip_id"] for row in rows if row["predicted"] != stored[row["clip_id"]]["predicted"]
    ]
    return Rescored(tuple(rows), tuple(clips), largest, tuple(other))


def write_rescored(run: Path, study: Study, rescored: Rescored) -> dict[str, Any]:
    """Write what was found into the run, and return its results with it.

    ``auxiliary`` in ``results.json`` is replaced and ``rescored`` added; ``auxiliary.csv`` holds
    the scores of the auxiliary tasks by clip.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        Its study.
    rescored : Rescored
        What `rescore` found.
    """
    results = read_results(run) or write_results(run, study)
    results["auxiliary"] = auxiliary_scores(rescored.clips)
    results["rescored"] = {
        "mer_prep": __version__,
        "scores": score_rows(study.method.scored(rescored.rows, study.classes)[0], study),
        "largest_difference": rescored.largest_difference,
        "other_class": list(rescored.other_class),
    }
    write_atomic(run / "results.json", json.dumps(results, indent=1) + "\n")
    text = io.StringIO()
    names = [one.name for one in dataclasses.fields(ClipAuxiliary)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for clip in rescored.clips:
        values = dataclasses.asdict(clip)
        unknown = [name for name in names if isinstance(values[name], float)]
        writer.writerow(values | {name: "" for name in unknown if not math.isfinite(values[name])})
    write_atomic(run / "auxiliary.csv", text.getvalue())
    return results
