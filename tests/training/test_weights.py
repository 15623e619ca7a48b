from __future__ import annotations

import pytest

pytest.importorskip("torch")

from mer_prep.errors import ConfigError, LeakError, TrainingError
from mer_prep.protocols import Member
from mer_prep.training.weights import (
    NO_CORPUS,
    check_pre_training,
    check_weights,
    choose_judges,
    find_run,
    read_results,
)
from mer_prep.workspace import Workspace


def member(clip_id, digest="", corpus="toy"):
    return Member(clip_id, corpus, clip_id.rpartition("/")[0], -1, digest)


def names(judges):
    return [fold.name for fold in judges.folds]


def test_a_tested_clip_is_judged_by_the_fold_that_tested_it(toy_study):
    found = choose_judges(toy_study(), member("toy/s1/c0", "digest-1-0"))
    assert names(found) == ["toy/s1"]
    assert found.why == "fold toy/s1, which tested this clip"


@pytest.mark.parametrize(
    "clip",
    [
        member("toy/s2/not-labelled"),
        member("toy/S02/spelled-otherwise"),
        member("elsewhere/x/copy", "digest-2-1", corpus="elsewhere"),
        member("/tmp/video.avi", "digest-2-0", corpus=NO_CORPUS),
    ],
)
def test_whom_folds_were_trained_on_they_do_not_judge(toy_study, clip):
    found = choose_judges(toy_study(), clip)
    assert names(found) == ["toy/s2"]
    assert "the only one not trained on this person or these frames" in found.why
    with pytest.raises(LeakError, match="Fold toy/s0 was trained on"):
        choose_judges(toy_study(), clip, fold="toy/s0")
    with pytest.raises(LeakError, match="was trained on"):
        choose_judges(toy_study(), clip, ensemble=True)


def test_a_stranger_is_judged_by_all(toy_study):
    stranger = member("elsewhere/x/c", "other", corpus="elsewhere")
    found = choose_judges(toy_study(), stranger)
    assert names(found) == ["toy/s0", "toy/s1", "toy/s2"]
    assert found.why == "mean of all 3 folds, trained neither on it nor on its person"
    video = member("/tmp/a.avi", "other", corpus=NO_CORPUS)
    assert "who is seen is not known" in choose_judges(toy_study(), video).why
    assert names(choose_judges(toy_study(), video, fold="toy/s1")) == ["toy/s1"]
    assert len(choose_judges(toy_study(), video, ensemble=True).folds) == 3


def test_a_clip_that_every_fold_was_trained_on_has_no_judge(toy_study):
    study = toy_study()
    only = toy_study(folds=study.folds[:1])
    with pytest.raises(LeakError, match="Fold toy/s0 was trained on"):
        choose_judges(only, member("toy/s1/c0", "digest-1-0"))


def test_where_persons_may_recur_only_the_clip_itself_leaks(toy_study):
    study = toy_study(protocol="lovo")
    found = choose_judges(study, member("toy/s0/not-labelled"))
    assert len(found.folds) == 3
    with pytest.raises(LeakError):
        choose_judges(study, member("toy/s0/c0"), fold="toy/s1")


def test_what_a_run_was_pre_trained_on_it_does_not_judge(toy_study, tmp_path):
    from torch import nn

    from mer_prep.training.checkpoints import save_checkpoint
    from mer_prep.training.initial import COPY, read_init

    check_pre_training(tmp_path, toy_study(), member("macro/p1/c"))
    seen = {"corpora": ["macro"], "subjects": ["macro/p1"], "sources": ["digest-of-macro-"]}
    facts = {"model": "mol", "preset": "tiny", "lineage": seen}
    save_checkpoint(tmp_path / COPY, nn.Linear(1, 1), optimiser=None, step=1, facts=facts)
    study = toy_study(init=read_init(tmp_path / COPY)[0])
    for clip in (member("macro/p1/other"), member("/tmp/x.avi", "digest-of-macro-1", NO_CORPUS)):
        with pytest.raises(LeakError, match="The weights were trained on"):
            check_pre_training(tmp_path, study, clip)
    check_pre_training(tmp_path, study, member("toy/s1/c0", "digest-1-0"))


def test_folds_are_named(toy_study):
    with pytest.raises(ConfigError, match="Did you mean 'toy/s1'"):
        choose_judges(toy_study(), member("a/b/c"), fold="toy/s11")
    with pytest.raises(ConfigError, match="choose --fold or --ensemble"):
        choose_judges(toy_study(), member("a/b/c"), fold="toy/s1", ensemble=True)


def test_the_folder_one_stands_in_has_its_name(toy_study, store_run, tmp_path, monkeypatch):
    study = toy_study()
    run = store_run("first", study, {one.clip_id: 0 for one in study.clips})
    monkeypatch.chdir(run)
    assert find_run(Workspace(tmp_path / "elsewhere"), ".")[1].name == "first"


def test_runs_are_found_by_name_and_by_folder(toy_study, store_run, tmp_path):
    study = toy_study()
    run = store_run("first", study, {one.clip_id: 0 for one in study.clips})
    here = Workspace(tmp_path)
    assert find_run(here, "first") == (here, run)
    # A run knows its workspace, wherever the user is.
    elsewhere = Workspace(tmp_path / "elsewhere")
    assert find_run(elsewhere, str(run)) == (Workspace(tmp_path.resolve()), run)
    copied = tmp_path / "copied"
    run.rename(copied)
    assert find_run(elsewhere, str(copied)) == (elsewhere, copied)
    with pytest.raises(ConfigError, match=r"no run 'first'\.") as caught:
        find_run(here, "first")
    assert "mer-prep train" in caught.value.hint


def test_folds_without_weights_are_named(toy_study, store_run):
    study = toy_study()
    run = store_run("run", study, {one.clip_id: 0 for one in study.clips})
    (run / "folds" / "toy+s1" / "checkpoint.safetensors").touch()
    check_weights(run, study.folds[1:2])
    with pytest.raises(TrainingError, match=r"2 of 3 folds have no weights: toy/s0, toy/s2\."):
        check_weights(run, study.folds)
    with pytest.raises(TrainingError, match=r"The fold has no weights: toy/s0\."):
        check_weights(run, study.folds[:1])


def test_damaged_results_are_an_error(tmp_path):
    assert read_results(tmp_path) == {}
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(TrainingError, match="results cannot be read"):
        read_results(tmp_path)
