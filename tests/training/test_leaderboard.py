"""What a leaderboard says of finished runs, and which it refuses."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

from mer_prep.errors import ConfigError, ManifestError, TrainingError
from mer_prep.models.mol import PRESETS
from mer_prep.reports.leaderboard import leaderboard_page
from mer_prep.training.cards import model_card
from mer_prep.training.leaderboard import (
    Entrant,
    check_comparable,
    check_entrants,
    leaderboard_csv,
    leaderboard_facts,
    published_whole,
)
from mer_prep.training.methods import architecture
from mer_prep.training.selection import LEAKY, Selection, marked_name
from mer_prep.training.study import fold_folder


def right_but(study, *wrong):
    """Return the classes of all clips, the wrong one for some."""
    return {
        one.clip_id: 1 - one.label if one.clip_id in wrong else one.label for one in study.clips
    }


def finish(run: Path, study, seconds: float | None = 2.0) -> None:
    """Write what the folds of a stored run say of themselves."""
    facts = {
        "step": 2,
        "inner_subjects": [],
        "absent_classes": [],
        "computed": {"device": "cpu", "precision": "float32"},
        "training_seconds": seconds,
        "threads": 1,
    }
    for fold in study.folds:
        (fold_folder(run, fold) / "fold.json").write_text(json.dumps(facts))


@pytest.fixture
def entrant(toy_study, store_run):
    """Return a maker of finished runs with some clips wrong."""

    def make(name, *wrong, seconds=2.0, control=None, **changes):
        study = toy_study(**changes)
        run = store_run(name, study, right_but(study, *wrong))
        finish(run, study, seconds)
        return Entrant(run, study, control)

    return make


IDS = [f"toy/s{s}/c{c}" for s in range(3) for c in range(2)]


def test_lines_stand_by_uf1_and_leaky_ones_last(entrant):
    best = entrant("best", IDS[0])
    worst = entrant("worst", *IDS[:3], preset="paper", seconds=None)
    leaky = entrant("leaky-LEAKY", selection=Selection(LEAKY, 2), preset="code")
    facts = leaderboard_facts([worst, leaky, best])
    assert [one["name"] for one in facts["entries"]] == ["mol:tiny", "mol:paper", "mol:code"]
    first, second, last = facts["entries"]
    # One of three clips of class 0 called 1: F1 are 2 * 2 / 5 and 2 * 3 / 7.
    assert first["scores"]["uf1"] == pytest.approx((4 / 5 + 6 / 7) / 2)
    assert first["scores"]["acc"] == pytest.approx(5 / 6)
    assert (first["training_seconds"], second["training_seconds"]) == (6.0, None)
    assert first["parameters"] > 100_000
    assert (last["leaky"], last["scores"]["acc"], last["beats_largest_class"]) == (True, 1, False)
    assert (facts["leaky"], facts["synthetic"], facts["against"]) == (True, True, None)
    assert (facts["clips"], facts["subjects"], facts["folds"]) == (6, 3, 3)
    # Two classes of three clips: always the first has F1 2/3 and 0.
    assert facts["largest_class"]["uf1"] == pytest.approx(1 / 3)
    assert json.loads(json.dumps(facts)) == facts


def test_what_beats_the_largest_class_does_so_with_its_whole_interval(entrant):
    perfect = leaderboard_facts([entrant("perfect")])["entries"][0]
    assert perfect["interval_95"]["uf1"][0] == 1.0
    assert perfect["beats_largest_class"]
    none = leaderboard_facts([entrant("none", *IDS)])["entries"][0]
    assert not none["beats_largest_class"]


def test_mcnemar_against_one_of_them_by_holm(entrant):
    good = entrant("good", preset="paper")
    middle = entrant("middle", *IDS[:4])
    bad = entrant("bad", *IDS, preset="code")
    leaky = entrant("leaky", selection=Selection(LEAKY, 2), seed=5)
    facts = leaderboard_facts([middle, good, bad, leaky], against="mol:paper")
    by_run = {one["run"]: one for one in facts["entries"]}
    assert facts["against"] == "mol:paper"
    assert by_run["good"]["reference"]
    assert (by_run["good"]["against"], by_run["leaky"]["against"]) == (None, None)
    # 4 and 6 clips that only the reference has right: twice the chance of that many heads.
    tests = [by_run[name]["against"] for name in ("middle", "bad")]
    assert [one["only_there"] for one in tests] == [4, 6]
    assert [one["p_value"] for one in tests] == pytest.approx([2 / 2**4, 2 / 2**6])
    assert [one["p_holm"] for one in tests] == pytest.approx([2 / 2**4, 2 * 2 / 2**6])
    assert tests[0]["accuracy_difference"] == pytest.approx(-4 / 6)
    # Two runs of one preset go by the names of their folders.
    assert {"middle", "leaky"} <= {one["name"] for one in facts["entries"]}


def test_controls_stand_beside_their_models(entrant, toy_study, store_run):
    shuffled = toy_study(
        shuffled=True,
        clips=tuple(dataclasses.replace(one, label=1 - one.label) for one in toy_study().clips),
    )
    run = store_run("control", shuffled, right_but(shuffled, *IDS[:3]))
    facts = leaderboard_facts([entrant("run", control=(run, shuffled))])
    control = facts["entries"][0]["control"]
    assert (control["run"], control["scores"]["acc"]) == ("control", pytest.approx(0.5))
    assert control["interval_95"]["uf1"][0] <= control["scores"]["uf1"]
    with pytest.raises(ManifestError, match="control is a control: its labels are shuffled"):
        check_entrants([Entrant(run, shuffled)], None)


def test_published_figures_are_those_of_the_question(entrant):
    labels = {"labels": "megc2019-3", "protocol": "cde"}
    line = leaderboard_facts([entrant("cde", **labels)])["entries"][0]
    printed = published_whole(line)
    assert printed == {
        "part": "all",
        "scores": {"uf1": 0.8779, "uar": 0.8542},
        "source": "Table VI",
        "selected": "not-stated",
    }
    one = leaderboard_facts([entrant("one", labels="casme2-5")])["entries"][0]
    assert published_whole(one)["selected"] == "test-subject"
    # An ablation has no figures of the whole, nor has a label map that nobody published with.
    changed = dataclasses.replace(PRESETS["tiny"], flow=False)
    ablation = entrant("ablation", architecture=changed, **labels)
    line = leaderboard_facts([ablation])["entries"][0]
    assert (line["published"], line["changed"]) == ([], {"flow": False})
    assert published_whole(leaderboard_facts([entrant("own")])["entries"][0]) is None


def test_the_table_as_csv(entrant):
    runs = [
        entrant("a", IDS[0], labels="megc2019-3"),
        entrant("b", preset="paper", labels="megc2019-3", seconds=None),
        entrant("c", preset="code", labels="megc2019-3", selection=Selection(LEAKY, 2)),
    ]
    rows = list(csv.DictReader(leaderboard_csv(leaderboard_facts(runs, against="b")).splitlines()))
    assert [row["run"] for row in rows] == ["b", "a", "c", ""]
    assert [row["marks"] for row in rows] == [
        "SYNTHETIC",
        "SYNTHETIC",
        "SYNTHETIC LEAKY",
        "SYNTHETIC",
    ]
    assert [row["training_seconds"] for row in rows] == ["", "6.0", "6.0", ""]
    assert float(rows[1]["acc"]) == pytest.approx(5 / 6)
    assert (rows[1]["p_value"], rows[1]["p_holm"], rows[0]["p_value"]) == ("1.0", "1.0", "")
    assert (rows[1]["published_uf1"], rows[1]["published_selected"]) == ("0.8779", "not-stated")
    assert (rows[3]["name"], rows[3]["uf1_low"], rows[3]["parameters"]) == ("always down", "", "")
    assert float(rows[3]["uar"]) == 0.5


def moved(study):
    """Return folds in which the clips of two subjects are tested together."""
    first, second, third = study.folds
    both = dataclasses.replace(first, train=third.test, test=first.test + second.test)
    return (both, third)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda one: {"labels": "other"}, "its labels are other, not made-up"),
        (lambda one: {"classes": ("left", "right")}, "its labels are made-up"),
        (
            lambda one: {"clips": one.clips[:4], "folds": one.folds[:2]},
            "2 clips only in first, such as toy/s2/c0",
        ),
        (
            lambda one: {"clips": (*one.clips[1:], dataclasses.replace(one.clips[0], label=1))},
            "1 clip there with other labels, such as toy/s0/c0",
        ),
        (
            lambda one: {
                "clips": tuple(dataclasses.replace(c, source_digest="x") for c in one.clips)
            },
            "6 clips there with other frames",
        ),
        (lambda one: {"protocol": "k-fold"}, "its protocol is k-fold, not loso"),
        (lambda one: {"folds": moved(one)}, "its 2 folds test or train other clips"),
    ],
)
def test_what_does_not_stand_on_the_same_folds_is_refused_by_name(toy_study, change, match):
    study = toy_study()
    other = dataclasses.replace(study, **change(study))
    with pytest.raises(
        ManifestError, match=f"second does not stand on the folds of first: {match}"
    ):
        check_comparable(("first", study), ("second", other))
    # The order of folds and clips is no difference.
    turned = dataclasses.replace(study, folds=study.folds[::-1], clips=study.clips[::-1])
    check_comparable(("first", study), ("second", turned))


def test_whom_to_compare_with_must_be_plain(entrant):
    runs = [entrant("a"), entrant("b", preset="paper")]
    with pytest.raises(ConfigError, match=r"'mol' means several runs\.\n"):
        leaderboard_facts(runs, against="mol")
    with pytest.raises(ConfigError, match=r"none of the runs\. Did you mean 'mol:tiny'"):
        leaderboard_facts(runs, against="mol:tin")
    leaky = entrant("c", preset="code", selection=Selection(LEAKY, 2))
    with pytest.raises(ConfigError, match="'c' is LEAKY"):
        leaderboard_facts([*runs, leaky], against="c")


def test_a_run_that_is_called_like_a_model_is_meant_by_its_name(entrant):
    runs = [entrant("a"), entrant("mol", preset="paper"), entrant("mol:tiny", preset="code")]
    for given, meant in (("mol", "mol"), ("mol:tiny", "mol:tiny"), ("mol:paper", "mol")):
        assert check_entrants(runs, given) == [one.run.name for one in runs].index(meant)


def test_folders_of_one_name_go_by_their_paths(entrant, tmp_path):
    here, other = entrant("same"), entrant("other", seed=2)
    there = tmp_path / "elsewhere" / "same"
    there.parent.mkdir()
    other.run.rename(there)
    facts = leaderboard_facts([here, Entrant(there, other.study)], against=str(there))
    assert {one["name"] for one in facts["entries"]} == {str(here.run), str(there)}
    assert facts["against"] == str(there)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@sum"])
def test_a_spreadsheet_computes_nothing_from_the_name_of_a_run(entrant, name):
    runs = [entrant(name), entrant("b", seed=2)]
    facts = leaderboard_facts(runs)
    assert {one["run"] for one in facts["entries"]} == {name, "b"}
    rows = list(csv.DictReader(leaderboard_csv(facts).splitlines()))
    assert {(row["name"], row["run"]) for row in rows[:2]} == {(f"'{name}",) * 2, ("b", "b")}


def test_what_saw_frames_of_test_subjects_is_marked_everywhere(entrant):
    changed = architecture("selfme", "paper", {"stage1": "all"})
    seen = entrant("seen", model="selfme", preset="paper", architecture=changed)
    facts = leaderboard_facts([seen, entrant("own", IDS[0])])
    assert facts["transductive"]
    assert [one["transductive"] for one in facts["entries"]] == [True, False]
    rows = list(csv.DictReader(leaderboard_csv(facts).splitlines()))
    assert [row["marks"] for row in rows[:2]] == ["SYNTHETIC TRANSDUCTIVE", "SYNTHETIC"]
    assert marked_name(facts["entries"][0]) == "selfme:paper TRANSDUCTIVE"
    page = "".join(leaderboard_page(facts).pieces())
    assert "<strong>TRANSDUCTIVE</strong>" in page
    assert 'selfme:paper <strong class="bad">TRANSDUCTIVE</strong>' in page


def test_leaks_are_marked_in_the_scores_of_every_corpus(entrant):
    leaky = entrant("a-LEAKY", selection=Selection(LEAKY, 2))
    facts = leaderboard_facts([leaky])
    (line,) = facts["entries"]
    parts = {"one": line["scores"], "two": line["scores"]}
    board = facts | {"corpora": ["one", "two"], "entries": [line | {"parts": parts}]}
    page = "".join(leaderboard_page(board).pieces())
    assert '<th scope="row">mol:tiny LEAKY</th>' in page


def test_a_hostile_name_stays_text_on_the_page(entrant):
    name = '"><script>alert(1)<'
    runs = [entrant(name), entrant("b", seed=2)]
    page = "".join(leaderboard_page(leaderboard_facts(runs, against=name)).pieces())
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_training_that_is_not_that_of_the_preset_says_so(entrant):
    usual = model_card("mol").preset("tiny").training
    plain = entrant("plain", training=usual)
    shorter = entrant("shorter", training=dataclasses.replace(usual, steps=7), seed=2)
    facts = leaderboard_facts([plain, shorter])
    by_run = {one["run"]: one for one in facts["entries"]}
    assert by_run["plain"]["changed_training"] == {}
    assert by_run["shorter"]["changed_training"] == {"steps": 7}
    page = "".join(leaderboard_page(facts).pieces())
    assert page.count("steps=7") == 1


def test_a_run_that_is_not_finished_is_refused(entrant):
    one = entrant("a")
    (fold_folder(one.run, one.study.folds[1]) / "predictions.csv").unlink()
    with pytest.raises(TrainingError, match="1 of 3 folds are not finished: toy/s1"):
        leaderboard_facts([one])
