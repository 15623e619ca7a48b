"""How a fold starts: whom it trains on, what the model sees, and on whom its step is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from mer_prep.dataset import ClipSource
from mer_prep.errors import ConfigError
from mer_prep.metrics import score
from mer_prep.protocols import Fold
from mer_prep.training.fit import Machine, Trial, View, predict
from mer_prep.training.initial import COPY, Loaded, lineage, load_init, read_init
from mer_prep.training.predictions import Found, mean_probabilities
from mer_prep.training.seeds import seed_of
from mer_prep.training.selection import INNER, LAST, inner_subjects

if TYPE_CHECKING:
    from mer_prep.training.study import Study


def split_training(
    study: Study, fold: Fold
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return subjects held out of training, clips to train on, and clips to choose the step on.

    The last two are parts of the fold's training clips; only with the selection ``inner`` is
    anything held out.
    """
    if study.selection.kind != INNER:
        return (), fold.train, ()
    training = set(fold.train)
    entries = [entry for entry in study.clips if entry.clip_id in training]
    held_out = inner_subjects(
        {entry.clip_id: entry.subject for entry in entries},
        {entry.clip_id: entry.label for entry in entries},
        part=study.selection.held_out,
        seed=seed_of("inner", study.seed, fold.name),
    )
    inner = {entry.clip_id for entry in entries if entry.subject in held_out}
    fitted = tuple(one for one in fold.train if one not in inner)
    return held_out, fitted, tuple(one for one in fold.train if one in inner)


def study_view(study: Study, store: ClipSource, fitted: tuple[str, ...]) -> View:
    """Return how samples become what the model takes, normalised by the clips trained on."""
    side = study.method.side * study.reduce
    if side > store.side:
        raise ConfigError(
            f"The model takes crops of {side} px, and the frames have {store.side}.",
            hint="align larger frames (--set align.size=...), or choose a smaller side",
        )
    statistics = study.method.statistics(store, fitted)
    training = study.training
    return View(side, study.reduce, statistics, training.brightness, training.mirror)


def start_model(
    run: Path, study: Study, name: str, store: ClipSource, fitted: tuple[str, ...], view: View
) -> tuple[nn.Module, Loaded | None]:
    """Return a model before its first step, and what was taken over from other weights."""
    torch.manual_seed(seed_of("weights", study.seed, name))
    model = study.method.build(len(study.classes))
    if study.start_landmarks:
        study.method.begin(model, lambda: _mean_landmarks(store, fitted, view))
    loaded = None if study.init is None else load_init(run / COPY, model, name=study.model)
    study.method.measure(model, store, fitted, view)
    return model, loaded


def _mean_landmarks(store: ClipSource, fitted: tuple[str, ...], view: View) -> torch.Tensor:
    """Return the training clips' mean landmarks as the model sees them, in the centre crop."""
    points = store.mean_landmarks(fitted) - (store.side - view.side) // 2
    return (points + 0.5) / view.reduce - 0.5


def checkpoint_facts(
    run: Path, study: Study, name: str, fitted: tuple[str, ...], view: View
) -> dict[str, Any]:
    """Return what the checkpoints of a training belong to, the most telling first."""
    before = read_init(run / COPY)[1] if study.init else None
    # Weights that have seen frames of tested subjects say so too, if others start from them.
    seen = {one.clip_id for one in study.clips} if study.method.transductive else set(fitted)
    return {
        "model": study.model,
        "preset": study.preset,
        "fold": name,
        "architecture": dataclasses.asdict(study.architecture),
        "classes": list(study.classes),
        "study": study.digest(),
        "reduce": study.reduce,
        "mean": view.statistics.mean,
        "deviation": view.statistics.deviation,
        "selection": study.selection.kind,
        "lineage": lineage([one for one in study.clips if one.clip_id in seen], before),
    }


def choose_by(
    study: Study,
    fold: Fold,
    store: ClipSource,
    view: View,
    inner: tuple[str, ...],
    machine: Machine,
) -> Trial | None:
    """Return how the step of a fold is chosen; None for the last one."""
    if study.selection.kind == LAST:
        return None
    clips = fold.test if study.leaky else inner
    labels = {entry.clip_id: entry.label for entry in study.clips}

    def measure(model: nn.Module) -> tuple[float, float]:
        found = predict(model, study.method, store, clips, view, machine)
        return measured(found, labels, study)

    # Before, there is nobody to recognise.
    begin = study.training.pre_steps
    tried = frozenset(begin + one for one in study.selection.steps(study.training.steps))
    return Trial(tried, study.selection.kind, measure)


def measured(found: Found, labels: Mapping[str, int], study: Study) -> tuple[float, float]:
    """Return score and mean cross-entropy of some clips.

    The score is UF1; where the step is chosen on the test subject it is accuracy, as in published
    scripts.
    """
    chances = torch.stack([mean_probabilities(outputs) for outputs in found.values()])
    true = torch.tensor([labels[clip_id] for clip_id in found])
    loss = float(functional.nll_loss(chances.clamp_min(1e-12).log(), true))
    scores = score(true.numpy(), chances.argmax(dim=1).numpy(), study.classes)
    return (scores.accuracy if study.leaky else scores.uf1), loss


def absent_classes(study: Study, fitted: tuple[str, ...]) -> list[str]:
    """Return the classes without a single training clip."""
    training = set(fitted)
    present = {entry.label for entry in study.clips if entry.clip_id in training}
    return [name for number, name in enumerate(study.classes) if number not in present]
