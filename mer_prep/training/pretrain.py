"""Pre-training on all clips of a corpus of macro-expressions: no fold, nothing tested.

The weights it leaves say which subjects they have seen, and a study that tests one of them refuses
to start from them.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mer_prep import __version__
from mer_prep.errors import ConfigError
from mer_prep.protocols import Fold
from mer_prep.stages.base import library_versions
from mer_prep.store import disk
from mer_prep.store.key import digest
from mer_prep.store.text import write_atomic
from mer_prep.training.checkpoints import load_model, read_facts, save_checkpoint
from mer_prep.training.distributed import World, check_same_weights
from mer_prep.training.fit import Machine, fit
from mer_prep.training.loading import open_clips
from mer_prep.training.predictions import LossLog
from mer_prep.training.start import checkpoint_facts, start_model, study_view
from mer_prep.training.study import Study

#: Name of the protocol, and of the only fold.
PROTOCOL = "pretrain"

#: Name of the weights in the run's folder.
WEIGHTS = "pretrained.safetensors"

#: Last steps whose mean losses are stated.
_LAST = 20


def without_test(study: Study) -> Study:
    """Return a study that trains on all of its clips and tests on none."""
    everything = tuple(entry.clip_id for entry in study.clips)
    return dataclasses.replace(study, protocol=PROTOCOL, folds=(Fold(PROTOCOL, everything, ()),))


def pretrain(
    workspace: Path,
    run: Path,
    study: Study,
    machine: Machine,
    *,
    loader: str,
    world: World | None = None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> Path:
    """Train on all clips of a study, or go on where that stopped.

    Parameters
    ----------
    workspace, run : Path
        Folders of the workspace and of the run.
    study : Study
        As `without_test` returns it.
    machine : Machine
        Where to compute.
    loader : {'resident', 'stream'}
        See `mer_prep.training.loading.choose_loader`.
    world : World, optional
        The processes that train together.
    on_step : callable
        Called after every step with its number and losses.

    Returns
    -------
    Path
        The weights, ``pretrained.safetensors`` in the run's folder, with their lineage.

    Raises
    ------
    ConfigError
        If a batch cannot be dealt evenly to the processes.
    """
    world = World() if world is None else world
    if study.training.batch % world.size:
        raise ConfigError(
            f"A batch of {study.training.batch} cannot be dealt evenly to {world.size} processes.",
            hint=f"choose --batch as a multiple of {world.size}",
        )
    (fold,) = study.folds
    path = run / WEIGHTS
    source = open_clips(loader, workspace, study.clips, study.method, machine.device)
    view = study_view(study, source, fold.train)
    model, _ = start_model(run, study, fold.name, source, fold.train, view)
    facts = checkpoint_facts(run, study, fold.name, fold.train, view)
    if path.is_file():
        load_model(path, model, expected=facts)
        return path
    if machine.cuda and world.size > 1:
        # Statistics of the whole batch; there is no such thing on the CPU.
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = machine.place(model)
    log = LossLog(run / "log.csv", study.method.loss_names(study.training))

    def noted(step: int, losses: dict[str, float]) -> None:
        if world.first:
            log.add(step, losses)
        on_step(step, losses)

    checkpoint = run / "checkpoint.safetensors"
    fit(
        model,
        study.method,
        source,
        fold.train,
        view,
        study.training,
        dataclasses.replace(machine, rank=world.rank, world=world.size),
        name=fold.name,
        seed=study.seed,
        checkpoint=checkpoint,
        facts=facts,
        on_step=noted,
    )
    check_same_weights(world, model)
    if world.first:
        final = facts | {"final": True, "losses": log.last(_LAST), "computed": machine.facts()}
        save_checkpoint(path, model, optimiser=None, step=study.training.all_steps, facts=final)
        disk.remove(checkpoint)
    return path


def write_pretrained(run: Path, study: Study) -> dict[str, Any]:
    """Write and return what the weights of a finished pre-training rest on, ``results.json``."""
    step, facts = read_facts(run / WEIGHTS)
    counts = Counter(study.classes[entry.label] for entry in study.clips)
    results = {
        "mer_prep": __version__,
        "synthetic": study.synthetic,
        "model": study.model,
        "preset": study.preset,
        "labels": study.labels,
        "protocol": study.protocol,
        "seed": study.seed,
        "steps": step,
        "batch": study.training.batch,
        "losses": facts["losses"],
        "computed": facts["computed"],
        "corpora": sorted({entry.corpus for entry in study.clips}),
        "clips": len(study.clips),
        "subjects": len({entry.subject for entry in study.clips}),
        "classes": {name: counts[name] for name in study.classes},
        "weights": WEIGHTS,
        "passport": {
            "study": study.digest(),
            "sources": digest({one.clip_id: one.source_digest for one in study.clips}),
            "shards": digest({one.clip_id: dict(one.shards) for one in study.clips}),
        },
        "libraries": library_versions(("torch", "numpy", "h5py")),
    }
    write_atomic(run / "results.json", json.dumps(results, indent=1) + "\n")
    return results
