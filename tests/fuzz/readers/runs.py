"""Readers of checkpoints and of the files of a run."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from tests.fuzz.documents import broken_csv, broken_json, broken_safetensors
from tests.fuzz.engine import Reader

_TORCH = ("torch", "safetensors")
_FOLD = "run/folds/toy+s0"


@functools.cache
def _study() -> Any:
    """Return a study of three subjects with two clips each."""
    from mer_prep.models.mol import PRESETS
    from mer_prep.protocols import Fold
    from mer_prep.training.recipes import TrainingSettings
    from mer_prep.training.study import ClipEntry, Study

    entries = tuple(
        ClipEntry(f"toy/s{s}/c{c}", "toy", f"toy/s{s}", c, {}, f"digest-{s}-{c}")
        for s in range(3)
        for c in range(2)
    )
    folds = tuple(
        Fold(
            f"toy/s{s}",
            tuple(one.clip_id for one in entries if one.subject != f"toy/s{s}"),
            tuple(one.clip_id for one in entries if one.subject == f"toy/s{s}"),
        )
        for s in range(3)
    )
    return Study(
        model="mol",
        preset="tiny",
        architecture=PRESETS["tiny"],
        training=TrainingSettings(steps=2),
        reduce=2,
        start_landmarks=True,
        labels="megc2019-3",
        protocol="loso",
        classes=("down", "up"),
        seed=1,
        shuffled=False,
        synthetic=True,
        clips=entries,
        folds=folds,
    )


def _make_run(folder: Path) -> None:
    from mer_prep.training.predictions import LossLog, write_fold
    from mer_prep.training.results import write_results
    from mer_prep.training.study import fold_folder, open_run

    study, run = _study(), folder / "run"
    open_run(run, study)
    head = "clip_id,corpus,subject,fold,selection,label,predicted,p_down,p_up,"
    head += "flow_endpoint_error_px,landmark_error_eye_centres,landmark_failures,frames"
    for fold in study.folds:
        there = fold_folder(run, fold)
        there.mkdir(parents=True)
        lines = [
            f"{one},toy,{fold.name},{fold.name},last,{one[-1]},0,0.75,0.25,0.5,0.04,0,8"
            for one in fold.test
        ]
        (there / "predictions.csv").write_text("\n".join([head, *lines]) + "\n")
        facts = {"step": 2, "inner_subjects": [], "computed": {"device": "cpu"}}
        write_fold(there / "fold.json", {**facts, "absent_classes": []})
        log = LossLog(there / "log.csv", ("loss", "flow"))
        for step in range(3):
            log.add(step, {"loss": 1.0, "flow": 0.5})
    write_results(run, study)


def _read_study(folder: Path) -> None:
    from mer_prep.training.study import Study, read_study

    study = read_study(folder / "run")
    assert isinstance(study, Study)
    assert len(study.digest()) == 64
    known = {one.clip_id for one in study.clips}
    assert all({*fold.test, *fold.train} <= known for fold in study.folds)
    assert all(0 <= one.label < len(study.classes) for one in study.clips)
    _ = study.method


def _read_predictions(folder: Path) -> None:
    from mer_prep.training.results import read_predictions, write_results

    rows = read_predictions(folder / "run", _study())
    assert len(rows) == 6
    results = write_results(folder / "run", _study())
    assert results["scores"]["all"]["clips"] == 6


def _read_results(folder: Path) -> None:
    from mer_prep.training.weights import read_results

    results = read_results(folder / "run")
    assert isinstance(results, dict)
    bool(results.get("leaky"))


def _make_recipe(folder: Path) -> None:
    from mer_prep.stages import all_stages
    from mer_prep.stages.base import build_stages
    from mer_prep.stages.plan import Recipe
    from mer_prep.training.inputs import RECIPE

    (folder / "run").mkdir()
    recipe = Recipe(*build_stages(all_stages(), _study().method.stages(), {}))
    (folder / "run" / RECIPE).write_text(json.dumps(recipe.facts("flow"), indent=1))


def _read_recipe(folder: Path) -> None:
    from mer_prep.training.inputs import recipe_of
    from mer_prep.workspace import Workspace

    recipe, notes = recipe_of(Workspace(folder), folder / "run", _study())
    assert "flow" in recipe.stages
    assert all(isinstance(note, str) for note in notes)


def _read_log(folder: Path) -> None:
    from mer_prep.training.predictions import LossLog

    path = folder / _FOLD / "log.csv"
    log = LossLog(path, ("loss", "flow"))
    found = log.last(2)
    assert all(isinstance(value, float) for value in found.values())
    log.add(1, {"loss": 2.0})
    assert path.read_text().splitlines()[-1].startswith("1,2")


def _make_checkpoint(folder: Path) -> None:
    import torch

    from mer_prep.training.checkpoints import save_checkpoint
    from mer_prep.training.initial import lineage

    torch.manual_seed(0)
    model = torch.nn.Linear(2, 3)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    facts = {
        "model": "linear",
        "preset": "tiny",
        "classes": ["down", "up"],
        "lineage": lineage(_study().clips),
    }
    path = folder / "checkpoint.safetensors"
    save_checkpoint(path, model, optimiser=optimiser, step=7, facts=facts)


def _read_checkpoint(folder: Path) -> None:
    import torch

    from mer_prep.training.checkpoints import load_model, read_facts, resume
    from mer_prep.training.initial import Init, check_unseen, load_init, read_init

    path = folder / "checkpoint.safetensors"
    step, facts = read_facts(path)
    assert isinstance(step, int)
    assert step >= 0
    assert isinstance(facts, dict)
    init, seen = read_init(path)
    assert isinstance(init, Init)
    hash(init)
    check_unseen(path, seen, {"toy/s9/x": ("toy/s9", "another")})
    model = torch.nn.Linear(2, 3)
    load_model(path, model, expected={"model": "linear"})
    str(load_init(path, model, name="linear"))
    optimiser = torch.optim.Adam(model.parameters())
    step, _ = resume(path, model, optimiser, expected={})
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    json.dumps(seen)


def _of_run(
    name: str, target: str, read: Any, broken: Any, *more: str, examples: int = 20
) -> Reader:
    return Reader(
        name,
        target,
        _make_run,
        read,
        broken,
        named=(Path(target).name, *more),
        examples=examples,
        needs=_TORCH,
    )


READERS = (
    Reader(
        "checkpoint",
        "checkpoint.safetensors",
        _make_checkpoint,
        _read_checkpoint,
        broken_safetensors,
        needs=_TORCH,
        examples=50,
    ),
    _of_run("run-config", "run/config.json", _read_study, broken_json),
    _of_run("run-predictions", f"{_FOLD}/predictions.csv", _read_predictions, broken_csv, "run"),
    _of_run("run-fold", f"{_FOLD}/fold.json", _read_predictions, broken_json),
    _of_run("run-results", "run/results.json", _read_results, broken_json),
    Reader("run-recipe", "run/recipe.json", _make_recipe, _read_recipe, broken_json, needs=_TORCH),
    _of_run("run-log", f"{_FOLD}/log.csv", _read_log, broken_csv),
)
