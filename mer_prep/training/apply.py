"""A trained model applied to one clip: class probabilities, flow and landmarks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mer_prep.dataset import ClipStore
from mer_prep.errors import ConfigError
from mer_prep.training.auxiliary import Window, joined, score_targets
from mer_prep.training.fit import View, predict
from mer_prep.training.inputs import Ready
from mer_prep.training.study import Study, trained_model
from mer_prep.training.weights import Judges, check_weights, machine_of, view_of


@dataclass(frozen=True)
class Prediction:
    """What a model, or the mean of several, gives for one clip of J samples with P pairs each.

    Parameters
    ----------
    classes : tuple of str
        Names of the n classes.
    probabilities : ndarray, shape (n,), float64
        Of the clip: the mean over samples and folds.
    by_sample : ndarray, shape (J, n), float64
        Of every sample, the mean over folds.
    by_fold : mapping of str to ndarray, shape (n,)
        Of the clip, by every fold.
    flow : ndarray, shape (J, P, 2, S, S), float32, or None
        Flow (u, v) in px of the model's frames, pixel x of the first frame of a pair moving to
        x + u in the second.
    target_flow : ndarray, shape (J, P, 2, S, S), float32
        That of TV-L1.
    landmarks : ndarray, shape (J, P, 68, 2), float32, or None
        Landmarks (x, y) of the second frame of every pair, in px of the model's frames.
    target_landmarks : ndarray, shape (J, P, 68, 2), float32
        Those of the stage ``landmarks``.
    displacement : ndarray, shape (J, P, 2, S, S), float32, or None
        What rebuilds the second frame of a pair from the first: its pixel p was at p + D(p), px.
    attention : mapping of str to float
        How much each region counts for the answer, the mean over samples and folds; empty if the
        model does not weigh regions.
    boxes : ndarray, shape (J, K, 4), float32, or None
        Where these regions are: left, top, right and bottom in px of the model's frames.
    window : Window
        Which part of the aligned frames the model's frames are.
    scores : mapping of str to float
        How flow and landmarks compare with these two; see `mer_prep.training.auxiliary`.
    """

    classes: tuple[str, ...]
    probabilities: np.ndarray
    by_sample: np.ndarray
    by_fold: Mapping[str, np.ndarray]
    flow: np.ndarray | None
    target_flow: np.ndarray
    landmarks: np.ndarray | None
    target_landmarks: np.ndarray
    displacement: np.ndarray | None
    attention: Mapping[str, float]
    boxes: np.ndarray | None
    window: Window
    scores: Mapping[str, float]

    @property
    def predicted(self) -> str:
        """Name of the most probable class."""
        return self.classes[int(self.probabilities.argmax())]


def apply_folds(
    run: Path, study: Study, ready: Ready, judges: Judges, *, device: str = "cpu"
) -> Prediction:
    """Apply the models of some folds to a clip, and return the mean of what they give.

    Frames are cut as in testing: every sample of t frames at the interval N // t, and the centre
    crop.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        Its study.
    ready : Ready
        The clip.
    judges : Judges
        The folds.
    device : str
        Where to compute.

    Raises
    ------
    TrainingError
        If a fold has no weights, or they are of another training.
    ConfigError
        If the aligned frames are smaller than the crop.
    """
    check_weights(run, judges.folds)
    machine = machine_of(study, device)
    store = ClipStore([ready.prepared])
    clip_id = ready.prepared.clip_id
    outputs = []
    for fold in judges.folds:
        model, statistics = trained_model(run, study, fold)
        view = view_of(study, statistics)
        _check_side(store.side, view)
        found = predict(machine.place(model), study.method, store, [clip_id], view, machine)
        outputs.append(joined(found[clip_id]))
    chances = torch.stack([torch.softmax(one.logits.double(), dim=1) for one, _ in outputs])
    mean, batch = outputs[0]
    for name in ("flow", "landmarks", "displacement", "attention"):
        if getattr(mean, name) is not None:
            parts = [getattr(one, name) for one, _ in outputs]
            setattr(mean, name, torch.stack(parts).mean(dim=0))
    boxes = study.method.boxes(batch)
    names = [fold.name for fold in judges.folds]
    return Prediction(
        classes=study.classes,
        probabilities=chances.mean(dim=(0, 1)).numpy(),
        by_sample=chances.mean(dim=0).numpy(),
        by_fold=dict(zip(names, chances.mean(dim=1).numpy(), strict=True)),
        flow=None if mean.flow is None else mean.flow.numpy(),
        target_flow=batch.flow.numpy(),
        landmarks=None if mean.landmarks is None else mean.landmarks.numpy(),
        target_landmarks=batch.landmarks[:, 1:].numpy(),
        displacement=None if mean.displacement is None else mean.displacement.numpy(),
        attention={}
        if mean.attention is None
        else dict(zip(study.method.regions, mean.attention.mean(dim=0).tolist(), strict=True)),
        boxes=None if boxes is None else boxes.numpy(),
        window=_window(ready.pictures.shape[1], store.side, view),
        scores=score_targets(mean, batch, deviation=statistics.deviation),
    )


def _window(aligned: int, side: int, view: View) -> Window:
    """Return which part of aligned frames a view of frames of `side` px shows."""
    offset = (side - view.side) // 2
    if side == aligned:
        return Window(offset, view.reduce)
    # A method that keeps a small picture only sees the whole of the aligned frames in it.
    return Window(round(offset * aligned / side), view.reduce * aligned / side)


def _check_side(side: int, view: View) -> None:
    if view.side > side:
        raise ConfigError(
            f"The model takes crops of {view.side} px, and the aligned frames have {side}.",
            hint="align larger frames (--set align.size=... in training)",
        )
