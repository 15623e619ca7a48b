"""The time of a training: what is counted, and what is not known."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from mer_prep.dataset import ClipStore
from mer_prep.errors import TrainingError
from mer_prep.store import disk
from mer_prep.training import timing
from mer_prep.training.machine import Machine
from mer_prep.training.predictions import read_fold
from mer_prep.training.results import write_results
from mer_prep.training.study import fold_folder, open_run, run_fold
from mer_prep.training.timing import TIMES, Stopwatch, checked_seconds
from tests.bars import CLIPS, FOLDS, SMALLEST, study


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def steps(watch: Stopwatch, clock: Clock, numbers, each: float) -> None:
    for number in numbers:
        clock.now += each
        watch.after(number)


def test_a_training_without_a_stop(tmp_path, clock):
    watch = Stopwatch(tmp_path, steps=5, every=2)
    steps(watch, clock, range(1, 5), 2.0)
    assert watch.seconds is None
    steps(watch, clock, [5], 2.0)
    assert watch.seconds == 10.0
    assert json.loads((tmp_path / TIMES).read_text()) == {"2": 4.0, "4": 8.0, "5": 10.0}
    watch.forget()
    assert list(tmp_path.iterdir()) == []


def test_steps_that_were_lost_do_not_count(tmp_path, clock):
    steps(Stopwatch(tmp_path, steps=6, every=2), clock, range(1, 6), 1.0)
    clock.now += 1000
    # The checkpoint is of step 4: step 5 is done again, in another process and more slowly.
    watch = Stopwatch(tmp_path, steps=6, every=2)
    steps(watch, clock, (5, 6), 3.0)
    assert watch.seconds == 4 * 1.0 + 2 * 3.0
    # All steps are done and only the test is missing.
    assert Stopwatch(tmp_path, steps=6, every=2).seconds == 10.0
    # From the beginning again, as the checkpoint was deleted.
    again = Stopwatch(tmp_path, steps=6, every=0)
    steps(again, clock, range(1, 7), 0.5)
    assert again.seconds == 3.0


@pytest.mark.parametrize("text", ["", "[]", '{"4": -1}', '{"4": "x"}', '{"4": NaN}', '{"x": 1}'])
def test_a_time_that_is_not_known_is_none(tmp_path, clock, text):
    (tmp_path / TIMES).write_text(text)
    watch = Stopwatch(tmp_path, steps=6, every=2)
    steps(watch, clock, (5, 6), 1.0)
    assert watch.seconds is None


@pytest.mark.parametrize("value", [True, None, "1", -1.0, float("nan"), float("inf")])
def test_what_is_no_number_of_seconds_is_refused(value):
    with pytest.raises(ValueError, match="no number of seconds"):
        checked_seconds(value)
    assert checked_seconds(0) == 0.0


def test_the_folds_and_the_results_have_it_and_the_study_does_not(tmp_path):
    made = study(architecture=SMALLEST, labels="megc2019-3", clip_lists={"all": "b" * 64})
    run = tmp_path / "run"
    open_run(run, made)
    for fold in FOLDS:
        run_fold(run, made, fold, ClipStore(CLIPS), Machine())
    paths = [fold_folder(run, fold) / "fold.json" for fold in FOLDS]
    seconds = [read_fold(path)["training_seconds"] for path in paths]
    assert all(0 < one < 60 for one in seconds)
    assert read_fold(paths[0])["threads"] == 1
    assert not list(run.rglob(TIMES))
    assert write_results(run, made)["training_seconds"] == pytest.approx(sum(seconds))
    facts = json.loads(paths[1].read_text())
    # A fold of an earlier version has none, so that of the run is not known.
    del facts["training_seconds"]
    paths[1].write_text(json.dumps(facts))
    assert write_results(run, made)["training_seconds"] is None
    paths[1].write_text(json.dumps(facts | {"training_seconds": -2}))
    with pytest.raises(TrainingError, match=r"cannot be read: -2 is no number of seconds"):
        write_results(run, made)


def test_a_fold_whose_test_was_interrupted_keeps_its_time_and_no_leftover(tmp_path):
    made = study(architecture=SMALLEST)
    open_run(tmp_path, made)
    folder = fold_folder(tmp_path, FOLDS[0])

    def die(call: disk.Call) -> None:
        if call.path.name.startswith("predictions.csv"):
            raise InterruptedError

    with pytest.raises(InterruptedError), disk.observed(die):
        run_fold(tmp_path, made, FOLDS[0], ClipStore(CLIPS), Machine())
    before = read_fold(folder / "fold.json")
    assert not (folder / "predictions.csv").exists()
    run_fold(tmp_path, made, FOLDS[0], ClipStore(CLIPS), Machine())
    assert before["training_seconds"] is not None
    assert read_fold(folder / "fold.json") == before
    assert not list(tmp_path.rglob(TIMES))
