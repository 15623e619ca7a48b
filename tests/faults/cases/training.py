"""Trainings that are stopped, changed, leak, lose numbers or memory, or have no GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

from mer_prep.errors import ConfigError, DependencyError, TrainingError
from tests.faults.catalogue import Tries, fault, in_process, instead, nothing, refused

_NEEDS = ("torch", "safetensors")


def _bars() -> Any:
    """Return the made-up clips and studies; they import PyTorch."""
    from tests import bars

    return bars


def _crowd(count: int, **changes: Any) -> Any:
    """Return a study of many subjects with one clip each, and the clips."""
    from mer_prep.protocols import Fold
    from mer_prep.training.study import ClipEntry

    bars = _bars()
    clips = [bars.prepared(f"test/s{n:02d}/c", f"test/s{n:02d}", n % 3) for n in range(count)]
    names = [one.clip_id for one in clips]
    entries = tuple(
        ClipEntry(one.clip_id, "test", one.subject, one.label, {}, f"{number:064d}")
        for number, one in enumerate(clips)
    )
    folds = tuple(
        Fold(one.subject, tuple(x for x in names if x != one.clip_id), (one.clip_id,))
        for one in clips
    )
    settings = dataclasses.replace(bars.study().training, steps=1, batch=1)
    values = {"clips": entries, "folds": folds, "training": settings}
    return bars.study(architecture=bars.SMALLEST, **values | changes), clips


def _train(run: Path, study: Any, clips: Any, *, die_at: int | None = None) -> int:
    """Train all folds in a process of its own, which is killed in the middle of one."""
    return in_process(lambda: _train_here(run, study, clips, die_at))


def _train_here(run: Path, study: Any, clips: Any, die_at: int | None) -> int:
    import torch

    from mer_prep.dataset import ClipStore
    from mer_prep.training import folds
    from mer_prep.training.study import open_run

    torch.set_num_threads(1)
    open_run(run, study)
    begun = 0

    def killed(*args: Any, **options: Any) -> None:
        nonlocal begun
        begun += 1
        if die_at is not None and begun > die_at:
            options["on_step"] = lambda step, losses: os.kill(os.getpid(), signal.SIGKILL)
        real(*args, **options)

    real, store = folds.run_fold, ClipStore(clips)
    with (
        mock.patch.object(folds, "run_fold", killed),
        mock.patch.object(folds, "_loaded", return_value=(study, store)),
        mock.patch.object(os, "sched_getaffinity", return_value={0}),
    ):
        folds.train_folds(run.parent, run, study, folds.Crew(loader="resident"))
    return 0


def _results(run: Path) -> dict[str, tuple[bytes, int]]:
    """Return every finished fold's predictions, and when they were written."""
    return {
        path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(run.glob("folds/*/predictions.csv"))
    }


@fault(
    35,
    "leave-one-subject-out that is killed in the middle and goes on",
    without={
        "the folds that are done": instead(
            "mer_prep.training.folds.finished", lambda run, fold: False
        ),
        "the seeds of every fold and step": instead(
            "mer_prep.training.start.seed_of", lambda *_: os.getpid()
        ),
    },
    needs=_NEEDS,
)
def killed_studies(tries: Tries) -> None:
    subjects = 5 if tries.quick else 68
    study, clips = _crowd(subjects)
    # PyTorch loads much at its first step; here, the processes below have it already.
    _train_here(tries.fresh() / "first", *_crowd(2), None)
    whole = tries.fresh() / "run"
    assert _train(whole, study, clips) == 0
    expected = {name: text for name, (text, _) in _results(whole).items()}
    assert len(expected) == subjects
    for stop in tries.of([2] if tries.quick else [0, 13, 67]):
        run = tries.fresh() / "run"
        assert _train(run, study, clips, die_at=stop) == -signal.SIGKILL
        before = _results(run)
        assert len(before) == stop
        assert _train(run, study, clips) == 0
        after = _results(run)
        assert {name: after[name] for name in before} == before, "finished folds were done again"
        assert {name: text for name, (text, _) in after.items()} == expected


def _changes() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return changes of a study, with the key that a message must name."""
    from mer_prep.training.selection import Selection

    bars = _bars()
    made = bars.study()
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for part, changed in (
        ("training", {"steps": 7, "batch": 5, "learning_rate": 0.5, "brightness": 0.1}),
        ("training", {"optimiser": "adamw", "schedule": "cosine", "weight_decay": 0.5}),
        ("training", {"clip_gradient": 3.0, "flow_weight": 0.7, "landmark_weight": 2.0}),
        ("architecture", {"channels": 16, "hidden": 8, "dropout": 0.4, "blocks": 0}),
    ):
        for key, value in changed.items():
            one = dataclasses.replace(getattr(made, part), **{key: value})
            if one != getattr(made, part):
                found[f"{part}.{key}"] = (f"{part}.{key}", {part: one})
    for key, value in {
        "seed": 2,
        "labels": "others",
        "protocol": "k-fold",
        "classes": ("still", "up", "down"),
        "precision": "bf16",
        "reduce": 2,
        "start_landmarks": False,
        "shuffled": True,
        "clips": made.clips[1:],
        "folds": made.folds[1:],
        "draw_seed": 3,
    }.items():
        found[key] = (key, {key: value})
    found["selection"] = ("selection.kind", {"selection": Selection("inner")})
    found["apart"] = ("clip_lists.all", {"clip_lists": {"all": "another"}})
    return found


@fault(
    35,
    "a run that is gone on with after its configuration was changed",
    without={
        "the digest of the study": instead(
            "mer_prep.training.study.Study.digest", lambda self: "the same"
        ),
        "the names of what differs": instead(
            "mer_prep.training.study._differing", lambda old, new: ["something"]
        ),
    },
    needs=_NEEDS,
)
def changed_studies(tries: Tries) -> None:
    from mer_prep.training.study import open_run, read_study

    bars = _bars()
    base = bars.study(clip_lists={"all": "one"})
    run = tries.fresh() / "run"
    open_run(run, base)
    kept = (run / "config.json").read_bytes()
    for key, changes in tries.of(_changes().values(), quick=50):
        values = {"clip_lists": {"all": "one"}} | changes
        with refused(ConfigError, f"another study: {key} differ", str(run)):
            open_run(run, bars.study(**values))
        assert (run / "config.json").read_bytes() == kept
    open_run(run, bars.study(clip_lists={"all": "one"}, findings=("a remark",)))
    assert read_study(run).digest() == base.digest()


@fault(
    35,
    "the configuration of a run that is damaged, or names files elsewhere",
    without={
        "the look at where shards lie": instead("mer_prep.training.study.check_relative", nothing)
    },
    needs=_NEEDS,
)
def damaged_studies(tries: Tries) -> None:
    from mer_prep.training.study import open_run, read_study

    run = tries.fresh() / "run"
    open_run(run, _bars().study())
    path = run / "config.json"
    whole = path.read_text(encoding="utf-8")
    facts = json.loads(whole)
    texts = [whole[:length] for length in range(0, len(whole) - 1, max(1, len(whole) // 100))]
    texts += ["[]", "null", "1", '"run"', "{}", "\x00"]
    optional = {"findings", "apex", "left_out", "annotations", "clip_lists", "init"}
    optional |= {"draw_seed", "selection", "precision"}
    for key in facts:
        if key not in optional:
            texts.append(json.dumps({name: facts[name] for name in facts if name != key}))
        texts.append(json.dumps(facts | {f"{key}s": 1}))
    for key in ("model", "architecture", "training", "clips", "folds", "selection"):
        texts += [json.dumps(facts | {key: wrong}) for wrong in (None, 1, "x", [1], {"x": 1})]
    for place in ("/etc/passwd", "../../x.h5", "cache/../../x.h5", "a\0b"):
        clips = [one | {"shards": {"align": place}} for one in facts["clips"]]
        texts.append(json.dumps(facts | {"clips": clips}))
    for text in tries.of(texts, quick=len(texts)):
        path.write_text(text, encoding="utf-8")
        with refused(TrainingError, "config.json", "cannot be read"):
            read_study(run)


@fault(
    37,
    "a GPU that is asked for and is not there",
    without={
        "the names of devices": instead(
            "mer_prep.training.machine.choose_device", lambda name: "cpu"
        ),
    },
    needs=_NEEDS,
)
def absent_gpus(tries: Tries) -> None:
    import torch

    from mer_prep.training import machine

    with (
        mock.patch.object(torch.cuda, "is_available", return_value=False),
        mock.patch.object(torch.cuda, "device_count", return_value=0),
    ):
        assert machine.choose_device("auto") == "cpu"
        assert machine.choose_precision("auto", "cpu") == "float32"
        for number in tries.of(["", *(f":{one}" for one in range(100))]):
            with refused(DependencyError, f"cuda{number}", "--device cpu"):
                machine.choose_device(f"cuda{number}")
        for name in tries.of(("gpu", "cuda:-1", "cuda:x", "CPU", "mps", "tpu", "0")):
            with refused(ConfigError, f"'{name}'"):
                machine.choose_device(name)


def _short(*_: object, **__: object) -> object:
    import torch

    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _no_memory(*_: object, **__: object) -> object:
    raise MemoryError


#: Where memory may be short, and what must be said of it.
_PLACES = {
    "mer_prep.training.methods.mol.mol_losses": ("batch of 4 samples", "frames [4, 4, 64, 64]"),
    "torch.Tensor.backward": ("batch of 4 samples", "frames [4, 4, 64, 64]"),
    "torch.optim.Adam.step": ("batch of 4 samples", "landmarks [4, 4, 68, 2]"),
    "torch.nn.Module.to": ("the model on cpu",),
    "mer_prep.training.methods.mol.MolMethod.apply": ("samples (frames [",),
}


@fault(
    37,
    "memory that is short: in a step, in its gradient, in a test, for the model, for the clips",
    without={
        "the words for it": instead(
            "mer_prep.training.fit.memory_errors", lambda what: mock.MagicMock(__exit__=nothing)
        ),
        "those for the model": instead(
            "mer_prep.training.machine.memory_errors", lambda what: mock.MagicMock(__exit__=nothing)
        ),
        "those for clips": instead(
            "mer_prep.training.loading.memory_errors", lambda what: mock.MagicMock(__exit__=nothing)
        ),
    },
    needs=_NEEDS,
)
def short_memory(tries: Tries) -> None:
    from mer_prep.dataset import ClipStore
    from mer_prep.training.loading import open_clips
    from mer_prep.training.machine import Machine
    from mer_prep.training.study import run_fold

    bars = _bars()
    store = ClipStore(bars.CLIPS)
    study = bars.study(
        architecture=bars.SMALLEST,
        training=dataclasses.replace(bars.study().training, steps=1),
    )
    ways = [(place, error) for place in _PLACES for error in (_short, _no_memory)]
    for place, error in tries.of(ways):
        with mock.patch(place, error), refused(TrainingError, *_PLACES[place], "--batch"):
            run_fold(tries.fresh(), study, bars.FOLDS[0], store, Machine())
    for error in tries.of((_short, _no_memory)):
        with (
            mock.patch("mer_prep.training.loading.load_clip", error),
            refused(TrainingError, "9 clips on cpu", "--loader stream"),
        ):
            open_clips("resident", tries.folder, study.clips, study.method, "cpu")


@fault(
    37,
    "a loss or a gradient that is no number",
    without={
        "the look at the losses": instead("mer_prep.training.fit._check_finite", nothing),
        "what is left of the step": instead("mer_prep.training.fit.write_atomic", nothing),
    },
    needs=_NEEDS,
)
def spoilt_losses(tries: Tries) -> None:
    import numpy as np
    import torch

    from mer_prep.dataset import ClipStore
    from mer_prep.training.checkpoints import read_checkpoint
    from mer_prep.training.machine import Machine
    from mer_prep.training.study import finished, fold_folder, run_fold

    bars = _bars()
    fold, study = bars.FOLDS[0], bars.study()
    folder = fold_folder(Path(), fold)
    for value in tries.of((np.nan, np.inf, -np.inf)):
        spoilt = [
            dataclasses.replace(one, flow=np.full_like(one.flow, value)) for one in bars.CLIPS
        ]
        run = tries.fresh()
        with refused(
            TrainingError, "The loss", "step 1 of fold test/s0", "--learning-rate", "test/s"
        ):
            run_fold(run, study, fold, ClipStore(spoilt), Machine())
        left = json.loads((run / folder / "stopped.json").read_text())
        assert left["step"] == 1
        assert set(left["clips"]) <= set(fold.train)
        assert left["clips"]
        assert not finished(run, fold)
        run_fold(run, study, fold, ClipStore(bars.CLIPS), Machine())
        assert finished(run, fold)
        assert not (run / folder / "stopped.json").exists()
    for step in tries.of(range(2, 7), quick=2):
        run, store = tries.fresh(), ClipStore(bars.CLIPS)
        real, calls = study.method.losses, 0

        def losses(self: object, *args: Any, step: int = step, real: Any = real) -> Any:
            nonlocal calls
            calls += 1
            found = real(*args)
            return (
                {name: one * torch.nan for name, one in found.items()} if calls == step else found
            )

        with (
            mock.patch.object(type(study.method), "losses", losses),
            refused(TrainingError, f"step {step} of fold test/s0"),
        ):
            run_fold(run, study, fold, store, Machine(checkpoint_every=1))
        assert read_checkpoint(run / folder / "checkpoint.safetensors")[1] == step - 1
