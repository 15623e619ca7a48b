"""Folds in shares and side by side: one run, bit for bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mer_prep.errors import LockedError, ShardError, TrainingError  # noqa: E402
from mer_prep.store.lock import Lock  # noqa: E402
from mer_prep.training import folds  # noqa: E402
from mer_prep.training.folds import (  # noqa: E402
    Crew,
    share_of_folds,
    train_folds,
    train_runs,
    unfinished,
)
from mer_prep.training.results import read_predictions, write_results  # noqa: E402
from mer_prep.training.study import Study, finished, fold_folder, open_run  # noqa: E402
from tests.bars import FOLDS, SMALLEST, study, write_shards  # noqa: E402

MADE = study(architecture=SMALLEST)
NAMES = [fold.name for fold in FOLDS]

# Threads are shared out among the folds trained at a time, and their number may show in the
# last bits.
pytestmark = pytest.mark.usefixtures("one_core")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


def run_in(workspace: Path, name: str) -> Path:
    run = workspace / "runs" / name
    open_run(run, MADE)
    return run


@pytest.fixture(scope="module")
def whole(workspace) -> str:
    """Return the predictions of a run that one process trained."""
    run = run_in(workspace, "whole")
    seen = []
    train_folds(workspace, run, MADE, Crew(), progress=lambda *one: seen.append(one))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    write_results(run, MADE)
    return (run / "predictions.csv").read_text()


def test_shares_are_every_nth_fold():
    assert share_of_folds(7, (1, 3)) == [0, 3, 6]
    assert share_of_folds(7, (3, 3)) == [2, 5]
    assert share_of_folds(2, (3, 3)) == []
    together = [one for share in range(1, 5) for one in share_of_folds(10, (share, 4))]
    assert sorted(together) == list(range(10))


def test_two_shares_are_one_run(workspace, whole):
    run = run_in(workspace, "shares")
    train_folds(workspace, run, MADE, Crew(), share=(2, 2))
    assert unfinished(run, MADE) == [NAMES[0], NAMES[2]]
    with pytest.raises(TrainingError, match=r"2 of 3 folds are not finished: test/s0, test/s2"):
        read_predictions(run, MADE)
    train_folds(workspace, run, MADE, Crew(), share=(1, 2))
    assert unfinished(run, MADE) == []
    write_results(run, MADE)
    assert (run / "predictions.csv").read_text() == whole


@pytest.mark.slow
def test_processes_side_by_side_come_to_the_same(workspace, whole):
    run = run_in(workspace, "jobs")
    said = []
    train_folds(workspace, run, MADE, Crew(jobs=2, loader="stream"), say=said.append)
    write_results(run, MADE)
    assert (run / "predictions.csv").read_text() == whole
    assert "2 at a time" in said[0]
    assert "read from their shards" in said[1]


def test_a_fold_that_another_run_has_is_left_to_it(workspace):
    run = run_in(workspace, "locked")
    with (
        Lock(fold_folder(run, FOLDS[1]) / "fold"),
        pytest.raises(LockedError, match="training 1 of the folds: test/s1"),
    ):
        train_folds(workspace, run, MADE, Crew())
    # The others were trained meanwhile.
    assert unfinished(run, MADE) == [NAMES[1]]
    train_folds(workspace, run, MADE, Crew())
    assert all(finished(run, fold) for fold in FOLDS)
    assert not list(run.rglob("*.lock"))


def test_a_fold_that_another_run_lets_go_of_is_taken_up_at_the_end(workspace, whole):
    run = run_in(workspace, "let-go")
    lock = Lock(fold_folder(run, FOLDS[0]) / "fold")
    seen = []

    def let_go(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 1:
            lock.release()

    with lock:
        train_folds(workspace, run, MADE, Crew(), progress=let_go)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    write_results(run, MADE)
    assert (run / "predictions.csv").read_text() == whole


def test_what_was_wrong_took_its_time_too_before_folds_are_asked_for_again(workspace, monkeypatch):
    good, bad = run_in(workspace, "waits"), run_in(workspace, "breaks")
    for fold in FOLDS[1:]:
        (fold_folder(good, fold)).mkdir(parents=True)
        (fold_folder(good, fold) / "predictions.csv").touch()
    lock = Lock(fold_folder(good, FOLDS[0]) / "fold")
    honest = folds.read_study

    def read_study(run: Path) -> Study:
        if run == bad:
            lock.release()
            raise ShardError("It is broken.", where=run)
        return honest(run)

    monkeypatch.setattr(folds, "read_study", read_study)
    with lock:
        wrong = train_runs(workspace, [(good, MADE), (bad, MADE)], Crew(loader="resident"))
    assert list(wrong) == [bad]
    assert unfinished(good, MADE) == []


def test_a_finished_run_needs_no_clips(workspace):
    done = workspace / "runs" / "done"
    other = study(architecture=SMALLEST, seed=8, clips=tuple(map(_without_shards, MADE.clips)))
    open_run(done, other)
    for fold in FOLDS:
        fold_folder(done, fold).mkdir(parents=True)
        (fold_folder(done, fold) / "predictions.csv").touch()
    left = run_in(workspace, "left")
    assert train_runs(workspace, [(done, other), (left, MADE)], Crew()) == {}
    assert unfinished(left, MADE) == []


# Whether clips fit into memory is asked in this process, their shards are opened where they train.
@pytest.mark.parametrize("loader", ["auto", "resident"])
def test_runs_are_trained_side_by_side_and_one_that_is_wrong_is_given_up(workspace, whole, loader):
    good = run_in(workspace, f"good-{loader}")
    other = study(architecture=SMALLEST, seed=7, clips=tuple(map(_without_shards, MADE.clips)))
    bad = workspace / "runs" / f"bad-{loader}"
    open_run(bad, other)
    seen, said = [], []
    wrong = train_runs(
        workspace,
        [(bad, other), (good, MADE)],
        Crew(loader=loader),
        progress=lambda *one: seen.append(one),
        say=said.append,
    )
    assert list(wrong) == [bad]
    assert isinstance(wrong[bad], ShardError)
    assert seen == [(0, 6), (1, 6), (2, 6), (3, 6)]
    write_results(good, MADE)
    assert (good / "predictions.csv").read_text() == whole
    assert f"good-{loader}: training on the CPU: 6 steps in each of 3 folds, 1 at a" in said[-1]
    assert train_runs(workspace, [(good, MADE)], Crew()) == {}


def _without_shards(clip):
    return dataclasses.replace(clip, shards=dict.fromkeys(clip.shards, "cache/gone.h5"))


def test_a_run_that_another_process_trains_is_named_and_the_others_go_on(workspace):
    one, two = run_in(workspace, "held"), run_in(workspace, "free")
    with Lock(fold_folder(one, FOLDS[0]) / "fold"):
        wrong = train_runs(workspace, [(one, MADE), (two, MADE)], Crew())
    assert list(wrong) == [one]
    assert isinstance(wrong[one], LockedError)
    assert unfinished(one, MADE) == [NAMES[0]]
    assert unfinished(two, MADE) == []


def test_folds_that_test_nothing_give_no_results(tmp_path):
    made = dataclasses.replace(study(architecture=SMALLEST), folds=())
    open_run(tmp_path, made)
    with pytest.raises(TrainingError, match="No fold of this run tests a clip"):
        write_results(tmp_path, made)
