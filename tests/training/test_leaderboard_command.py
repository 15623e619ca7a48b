"""The command leaderboard on toy clips: trained, gone on with, refused, written."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

from mer_prep.errors import ConfigError, ManifestError, TrainingError
from mer_prep.models import mol
from mer_prep.store.lock import Lock
from mer_prep.training import prepare
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.study import fold_folder, read_study
from mer_prep.training.weights import read_results
from tests.bars import SMALLEST, study, write_shards
from tests.command_line import call

#: Presets of the toys, and their learning rates.
RATES = {"tiny": 1e-3, "paper": 2e-3}


@pytest.fixture(autouse=True, scope="module")
def _toys(one_core):
    with pytest.MonkeyPatch.context() as patch:
        # The toys' shards hold no recipe.
        patch.setattr("mer_prep.training.inputs.keep_recipe", lambda workspace, run, study: None)
        patch.setattr(prepare, "prepare_study", toy_study)
        for preset in RATES:
            patch.setitem(mol.PRESETS, preset, SMALLEST)
        yield


def toy_study(workspace, corpora, *, model, preset, shuffled=False, seed=1, **others):
    """Return a study as `prepare_study` would, of the toy clips."""
    if model == "frl-dgt":
        raise TrainingError("9 of 9 clips of the composite are not prepared: a, b.")
    made = study(
        model=model,
        preset=preset,
        architecture=SMALLEST,
        training=TrainingSettings(steps=4, batch=4, learning_rate=RATES[preset]),
        labels=others["labels"],
        shuffled=shuffled,
        seed=seed,
        clip_lists={"all": "b" * 64},
    )
    if shuffled:
        turned = [dataclasses.replace(one, label=(one.label + 1) % 3) for one in made.clips]
        made = dataclasses.replace(made, clips=tuple(turned))
    return made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("board") / "ws")


def board(workspace: Path, *options: object, code: int = 0):
    return call("leaderboard", *options, "-j", 1, "-w", workspace, code=code)


def facts_of(workspace: Path) -> dict:
    return json.loads((workspace / "reports" / "leaderboard.json").read_text())


TINY, PAPER = (f"mol-{preset}-megc2019-3-loso-seed1" for preset in ("tiny", "paper"))


@pytest.fixture(scope="module")
def first(workspace):
    """Return what a leaderboard of two presets and their controls prints."""
    options = ["--model", "mol:tiny", "--model", "mol", "--shuffled", "--against", "mol:paper"]
    return board(workspace, *options)


def test_models_are_trained_as_ordinary_runs_and_tabled(workspace, first):
    facts = facts_of(workspace)
    runs = sorted(path.name for path in (workspace / "runs").iterdir())
    assert runs == sorted([TINY, PAPER, f"{TINY}-shuffled", f"{PAPER}-shuffled"])
    for line in facts["entries"]:
        results = read_results(workspace / "runs" / line["run"])
        assert line["scores"]["uf1"] == results["scores"]["all"]["uf1"]
        assert line["training_seconds"] == results["training_seconds"] > 0
        control = read_results(workspace / "runs" / f"{line['run']}-shuffled")
        assert control["shuffled_labels"]
        assert line["control"]["scores"]["uf1"] == control["scores"]["all"]["uf1"]
    with (workspace / "reports" / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows[:-1]] == [one["name"] for one in facts["entries"]]
    page = (workspace / "reports" / "leaderboard.html").read_text()
    assert "SYNTHETIC" in page
    assert f"run {TINY}" in page


def test_what_is_printed(first):
    assert first.stdout.startswith("megc2019-3, loso, 3 folds, 9 clips of 3 subjects (SYNTHETIC)\n")
    head = first.stdout.splitlines()[1].split()
    assert head[:2] == ["model", "UF1"]
    assert {"p", "control"} <= set(head)
    assert "\nalways still" in first.stdout
    assert "against mol:paper, two-sided, by Holm" in first.stdout
    published = "published of mol: UF1 0.878, UAR 0.854 (Table VI; not stated if leak-free)"
    assert first.stdout.count(published) == 1
    assert "nothing here compares with them" in first.stdout
    last = first.stdout.splitlines()[-1]
    assert last.startswith("leaderboard: 2 models, 3 folds each, 9 clips, ")
    assert last.endswith("reports/leaderboard.html")


def test_what_is_finished_is_taken_and_what_was_stopped_goes_on(workspace, first):
    before = facts_of(workspace)
    run = workspace / "runs" / TINY
    times = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    result = board(workspace, "--all", "tiny", "--model", "mol:paper", code=1)
    assert "training on the CPU" not in result.stderr
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    # One fold was not finished: it alone is trained again.
    lost = fold_folder(run, read_study(run).folds[1]) / "predictions.csv"
    text = lost.read_text()
    lost.unlink()
    again = board(workspace, "--model", "mol:tiny", "--model", "mol:paper", "--shuffled")
    assert f"{TINY}: training on the CPU: 4 steps in each of 1 fold, 1 at a time" in again.stderr
    assert "paper" not in again.stderr
    assert lost.read_text() == text
    now = facts_of(workspace)
    assert [one["scores"] for one in now["entries"]] == [one["scores"] for one in before["entries"]]


def test_a_model_that_cannot_be_trained_is_named_and_the_others_are_tabled(workspace, first):
    result = board(workspace, "--model", "mol:tiny", "--model", "frl-dgt:tiny", code=1)
    assert "frl-dgt:tiny will not be in the table: 9 of 9 clips" in result.stderr
    assert "not in the table, frl-dgt:tiny: 9 of 9 clips" in result.stderr
    facts = facts_of(workspace)
    assert [one["name"] for one in facts["entries"]] == ["mol:tiny"]
    assert list(facts["failed"]) == ["frl-dgt:tiny"]
    page = (workspace / "reports" / "leaderboard.html").read_text()
    assert "INCOMPLETE" in page
    with pytest.raises(TrainingError, match="9 of 9 clips"):
        board(workspace, "--model", "frl-dgt")


def test_a_run_of_other_settings_is_refused_by_what_can_be_done_here(workspace, first):
    other = workspace / "runs" / "mol-tiny-megc2019-3-loso-seed6"
    shutil.copytree(workspace / "runs" / TINY, other)
    try:
        with pytest.raises(ConfigError, match="another study: seed differ") as caught:
            board(workspace, "--model", "mol:tiny", "--seed", 6)
    finally:
        shutil.rmtree(other)
    # --run adds a finished run here, and names none that is to be made.
    assert f"--run {other.name} in the place of --model mol:tiny" in caught.value.hint


def test_a_run_that_another_process_trains_is_left_out(workspace, first):
    board(workspace, "--model", "mol:tiny", "--seed", 3, "--shard", "2/3")
    run = workspace / "runs" / "mol-tiny-megc2019-3-loso-seed3"
    study = read_study(run)
    with Lock(fold_folder(run, study.folds[0]) / "fold"):
        options = ["--seed", 3, "--run", TINY, "--against", "mol-tiny-megc2019-3-loso-seed3"]
        result = board(workspace, "--model", "mol:tiny", *options, code=1)
    assert "Another run is training 1 of the folds" in result.stderr
    facts = facts_of(workspace)
    assert [one["run"] for one in facts["entries"]] == [TINY]
    # What the others should be compared with is not there.
    assert facts["against"] is None


def test_shares_train_and_the_last_writes_the_table(workspace, tmp_path, first):
    target = tmp_path / "board.html"
    options = ["--model", "mol:tiny", "--seed", 2, "--out", target]
    result = board(workspace, *options, "--shard", "1/2")
    assert "mol-tiny-megc2019-3-loso-seed2: 1 fold left to other shares" in result.stdout
    assert not target.exists()
    facts = json.loads(board(workspace, *options, "--shard", "1/2", "--json").stdout)
    assert list(facts["unfinished"].values()) == [["test/s1"]]
    board(workspace, *options, "--shard", "2/2")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["board.csv", "board.html", "board.json"]
    printed = json.loads(board(workspace, *options, "--json").stdout)
    assert printed == json.loads((tmp_path / "board.json").read_text())


def test_finished_runs_are_added_and_others_refused(workspace, first):
    board(workspace, "--run", TINY, "--run", PAPER, "--run", TINY)
    assert sorted(one["run"] for one in facts_of(workspace)["entries"]) == [PAPER, TINY]
    with pytest.raises(ManifestError, match=f"{TINY}-shuffled is a control"):
        board(workspace, "--run", TINY, "--run", f"{TINY}-shuffled")
    board(workspace, "--model", "mol:tiny", "--labels", "casme2-3")
    other = "mol-tiny-casme2-3-loso-seed1"
    with pytest.raises(ManifestError, match=f"{other} does not stand on the folds of {TINY}"):
        board(workspace, "--model", "mol:tiny", "--run", other)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ([], "nothing to compare"),
        (["--model", "moll"], "Did you mean 'mol'"),
        (["--model", "mol:tni"], "Invalid value for 'preset'"),
        (["--all", "tinyy"], "No model has a preset 'tinyy'. Did you mean 'tiny'"),
        (["--run", "nope"], "There is no run 'nope'"),
        (["--model", "mol:tiny", "--against", "frl"], "'frl' means none of the runs"),
        (["--model", "mol:tiny", "--out", "board.csv"], "is no name of a page"),
    ],
)
def test_mistakes_are_named(workspace, options, match):
    with pytest.raises(ConfigError, match=match):
        board(workspace, *options)


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_place_that_is_taken_is_said_before_anything_is_trained(tmp_path, suffix):
    workspace = write_shards(tmp_path / "ws")
    (tmp_path / f"board{suffix}").mkdir()
    with pytest.raises(ConfigError, match=f"board{suffix} is there already and is no file"):
        board(workspace, "--model", "mol:tiny", "--out", tmp_path / "board.html")
    assert not (workspace / "runs").exists()
    assert not (tmp_path / "board.html").exists()
