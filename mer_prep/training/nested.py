"""Values that a method chooses on training subjects held out, before it is trained on all of them.

No clip of a test subject takes part: the training clips of a fold are split once more by subject,
a model is trained without each part and tried on it, and the values are chosen by what these
models gave for all parts together.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from mer_prep.config import parse_json_object
from mer_prep.dataset import ClipSource
from mer_prep.errors import TrainingError
from mer_prep.models.output import ModelOutput
from mer_prep.protocols import Fold, Member, Protocol, make_folds
from mer_prep.records import record_text
from mer_prep.store import disk
from mer_prep.store.text import write_atomic
from mer_prep.training.auxiliary import joined
from mer_prep.training.fit import Machine, fit, predict
from mer_prep.training.seeds import seed_of
from mer_prep.training.start import checkpoint_facts, start_model, study_view

if TYPE_CHECKING:
    from mer_prep.training.study import Study

#: In the folder of a fold: the values that were chosen.
TUNED = "tuned.json"


def inner_folds(study: Study, fold: Fold, fitted: tuple[str, ...]) -> list[Fold]:
    """Return how the training clips of a fold are split once more, by subject.

    Raises
    ------
    TrainingError
        If all of them are of one subject.
    """
    training = set(fitted)
    members = [
        Member(one.clip_id, one.corpus, one.subject, one.label, one.source_digest)
        for one in study.clips
        if one.clip_id in training
    ]
    people = len({one.subject for one in members})
    if people < 2:
        raise TrainingError(
            f"Fold {fold.name} trains on one subject: nobody can be held out to choose by.",
            hint="take more subjects, or fix what would be chosen",
        )
    count = study.method.inner_folds
    assert count is not None, "there is something to choose"
    if not count or count >= people:
        return make_folds(Protocol("loso"), members)
    seed = seed_of("nested", study.seed, fold.name)
    return make_folds(Protocol("k-fold", folds=count, seed=seed), members)


def tune(
    run: Path,
    study: Study,
    fold: Fold,
    store: ClipSource,
    machine: Machine,
    fitted: tuple[str, ...],
    *,
    folder: Path,
) -> dict[str, float]:
    """Return the values that a method chooses for a fold; empty if it chooses none.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        The study.
    fold : Fold
        The fold.
    store : ClipSource
        Its clips.
    machine : Machine
        Where to compute.
    fitted : tuple of str
        The clips that the fold trains on.
    folder : Path
        Folder of the fold. Finished and unfinished trainings are kept there, so that one that was
        killed goes on.
    """
    if study.method.inner_folds is None:
        return {}
    path = folder / TUNED
    stamp = study.digest()
    if path.is_file():
        try:
            found = parse_json_object(record_text(path))
            if found["study"] == stamp:
                return {name: float(one) for name, one in found["values"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # damaged: they are found again
    labels = {one.clip_id: one.label for one in study.clips}
    outputs: dict[str, ModelOutput] = {}
    checkpoints = []
    for number, inner in enumerate(inner_folds(study, fold, fitted), start=1):
        checkpoint = folder / f"nested-{number}.safetensors"
        outputs |= _held_out(run, study, fold, inner, store, machine, checkpoint)
        checkpoints.append(checkpoint)
    values = study.method.tuned(list(outputs.values()), [labels[one] for one in outputs])
    facts = {"study": stamp, "values": values, "clips": len(outputs), "trainings": len(checkpoints)}
    write_atomic(path, json.dumps(facts, indent=1) + "\n")
    for checkpoint in checkpoints:
        disk.remove(checkpoint)
    return values


def _held_out(
    run: Path,
    study: Study,
    fold: Fold,
    inner: Fold,
    store: ClipSource,
    machine: Machine,
    checkpoint: Path,
) -> dict[str, ModelOutput]:
    """Train without one part of the subjects, and return what the model gives for their clips."""
    name = f"{fold.name} without {inner.name}"
    view = study_view(study, store, inner.train)
    model, _ = start_model(run, study, name, store, inner.train, view)
    model = machine.place(model)
    fit(
        model,
        study.method,
        store,
        inner.train,
        view,
        study.training,
        machine,
        name=name,
        seed=study.seed,
        checkpoint=checkpoint,
        facts=checkpoint_facts(run, study, name, inner.train, view),
    )
    found = predict(model, study.method, store, inner.test, view, machine)
    return {clip_id: joined(outputs)[0] for clip_id, outputs in found.items()}
