"""Repeated runs that several processes share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from mer_prep.training import folds, prepare
from mer_prep.training.study import fold_folder
from mer_prep.training.weights import read_results
from tests.command_line import call


@pytest.fixture
def shared(toy_study, store_run, tmp_path, monkeypatch) -> Path:
    """Let another process finish the first run while this one trains the second."""
    studies = {seed: toy_study(seed=seed) for seed in (1, 2)}

    def finish(seed: int) -> None:
        made = studies[seed]
        store_run(f"part-{seed}", made, {one.clip_id: one.label for one in made.clips})
        for fold in made.folds:
            facts = {
                "step": 2,
                "inner_subjects": [],
                "absent_classes": [],
                "computed": {"device": "cpu", "precision": "float32"},
                "training_seconds": 1.0,
                "threads": 1,
            }
            (fold_folder(tmp_path / "runs" / f"part-{seed}", fold) / "fold.json").write_text(
                json.dumps(facts)
            )

    def train_folds(root, run, study, crew, **others):
        if study.seed == 2:
            for seed in studies:
                finish(seed)

    monkeypatch.setattr(prepare, "prepare_study", lambda *_, seed, **others: studies[seed])
    monkeypatch.setattr(folds, "train_folds", train_folds)
    monkeypatch.setattr("mer_prep.training.inputs.keep_recipe", lambda workspace, run, study: None)
    return tmp_path


def repeats(workspace: Path, *options: object):
    shares = ["--model", "mol", "--run", "part", "--repeats", 2, "--shard", "1/2"]
    return call("train", *shares, "-j", 1, "-w", workspace, *options)


def test_whoever_ends_last_sums_up_runs_that_others_finished(shared):
    result = repeats(shared)
    assert "3 of 3 folds are left to other shares" in result.stdout
    assert "no mean yet" not in result.stdout
    assert read_results(shared / "runs" / "part-1")["scores"]["all"]["acc"] == 1.0
    found = json.loads((shared / "runs" / "part-1" / "repeats.json").read_text())
    assert [one["seed"] for one in found["runs"].values()] == [1, 2]


def test_what_is_left_of_all_runs_is_one_document(shared, monkeypatch):
    monkeypatch.setattr(folds, "train_folds", lambda *_, **others: None)
    result = repeats(shared, "--json")
    subjects = [f"toy/s{number}" for number in range(3)]
    assert json.loads(result.stdout) == {"unfinished": {"part-1": subjects, "part-2": subjects}}
