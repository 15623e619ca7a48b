from __future__ import annotations

import dataclasses

import pytest

pytest.importorskip("torch")

from mer_prep.errors import ManifestError, TrainingError
from mer_prep.training.compare import compare_runs, comparison_facts


def right_but(study, *wrong):
    """Return the classes of all clips, the wrong one for some."""
    return {
        one.clip_id: 1 - one.label if one.clip_id in wrong else one.label for one in study.clips
    }


def test_two_runs_are_compared_by_mcnemars_test(toy_study, store_run):
    study = toy_study()
    ids = [one.clip_id for one in study.clips]
    first = store_run("first", study, right_but(study, ids[0]))
    second = store_run("second", study, right_but(study, *ids[:5]))
    found = compare_runs((first, study), (second, study))
    assert found.clips == 6
    assert (found.first["acc"], found.second["acc"]) == pytest.approx((5 / 6, 1 / 6))
    assert found.accuracy_difference == pytest.approx(4 / 6)
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == (4, 0)
    # Two-sided, exact: twice the probability of 4 heads in 4 throws.
    assert found.mcnemar.p_value == pytest.approx(2 / 2**4)
    assert found.differing == {}
    assert comparison_facts(found)["mcnemar"]["only_first"] == 4
    back = compare_runs((second, study), (first, study))
    assert back.accuracy_difference == -found.accuracy_difference
    assert back.mcnemar.only_second == 4


def test_other_folds_are_said(toy_study, store_run):
    study = toy_study()
    two = dataclasses.replace(
        study.folds[0],
        name="two",
        train=study.folds[2].test,
        test=study.folds[0].test + study.folds[1].test,
    )
    three = dataclasses.replace(study.folds[2])
    other = toy_study(protocol="k-fold", folds=(two, three))
    runs = [store_run(name, one, right_but(one)) for name, one in (("a", study), ("b", other))]
    found = compare_runs((runs[0], study), (runs[1], other))
    assert found.differing == {"protocol": ("loso", "k-fold"), "folds": (3, 2)}
    assert found.mcnemar.p_value == 1


def test_what_cannot_be_compared_is_named(toy_study, store_run):
    study = toy_study()
    run = store_run("run", study, right_but(study))
    fewer = toy_study(clips=study.clips[:4], folds=study.folds[:2])
    less = store_run("less", fewer, right_but(fewer))
    with pytest.raises(ManifestError, match=r"same clips: 2 only here, such as toy/s2/c0\."):
        compare_runs((run, study), (less, fewer))
    with pytest.raises(ManifestError, match=r"same clips: 2 only there"):
        compare_runs((less, fewer), (run, study))
    shuffled = toy_study(
        shuffled=True,
        clips=tuple(dataclasses.replace(one, label=1 - one.label) for one in study.clips),
    )
    control = store_run("control", shuffled, right_but(shuffled))
    with pytest.raises(ManifestError, match="6 of 6 clips have other labels there"):
        compare_runs((run, study), (control, shuffled))
    other = toy_study(classes=("left", "right"))
    with pytest.raises(ManifestError, match="down, up here, left, right there"):
        compare_runs((run, study), (store_run("other", other, right_but(other)), other))
    (less / "folds" / "toy+s0" / "predictions.csv").unlink()
    with pytest.raises(TrainingError, match="1 of 2 folds are not finished: toy/s0"):
        compare_runs((run, study), (less, fewer))
