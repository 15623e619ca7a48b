"""Several runs as one: mean and deviation, and figures that may stand beside them."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("torch")

from mer_prep.errors import ConfigError
from mer_prep.protocols import Fold
from mer_prep.training.cards import model_card
from mer_prep.training.methods import architecture
from mer_prep.training.repeats import summary, write_summary
from mer_prep.training.results import _published
from mer_prep.training.study import ClipEntry, Study


def results(accuracy: float, seed: int, **changes: object) -> dict[str, object]:
    scores = {"uf1": accuracy / 2, "uar": accuracy, "acc": accuracy, "wf1": 0.25}
    facts: dict[str, object] = {
        "model": "survey",
        "preset": "paper",
        "architecture": {"side": 28},
        "training": {"steps": 150},
        "labels": "survey-4",
        "protocol": "lovo",
        "selection": "last",
        "leaky": False,
        "transductive": False,
        "shuffled_labels": False,
        "synthetic": True,
        "classes": ["a", "b"],
        "seed": seed,
        "draw_seed": seed - 1,
        "clips": 8,
        "scores": {"all": scores},
        "published": [],
        "published_left_out": "the clips are synthetic",
        "note": "a note",
    }
    return facts | changes


def test_mean_and_deviation_of_a_sample(tmp_path) -> None:
    runs = []
    for seed, accuracy in enumerate((0.25, 0.5, 0.75), start=1):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results(accuracy, seed)))
        runs.append(folder)
    path, found = write_summary(runs)
    assert path == runs[0] / "repeats.json"
    assert json.loads(path.read_text()) == found
    assert found["mean"] == {"uf1": 0.25, "uar": 0.5, "acc": 0.5, "wf1": 0.25}
    assert found["deviation"] == {"uf1": 0.125, "uar": 0.25, "acc": 0.25, "wf1": 0}
    assert list(found["runs"]) == ["run-1", "run-2", "run-3"]
    assert found["runs"]["run-3"] == {
        "seed": 3,
        "draw_seed": 2,
        "clips": 8,
        "uf1": 0.375,
        "uar": 0.75,
        "acc": 0.75,
        "wf1": 0.25,
    }


@pytest.mark.parametrize(
    "change",
    [{"protocol": "loso"}, {"training": {"steps": 9}}, {"leaky": True}, {"transductive": True}],
    ids=str,
)
def test_runs_that_differ_in_more_than_seeds_are_not_summed_up(change) -> None:
    (name,) = change
    with pytest.raises(ConfigError, match=name):
        summary({"one": results(0.5, 1), "two": results(0.5, 2, **change)})


def test_one_run_has_no_deviation() -> None:
    with pytest.raises(ConfigError, match="two runs"):
        summary({"one": results(0.5, 1)})


def study(model: str, preset: str, labels: str, counts: dict[int, int], **changes: object) -> Study:
    clips = tuple(
        ClipEntry(f"samm/{label}/{n}", "samm", f"samm/{n}", label, {}, "")
        for label, count in counts.items()
        for n in range(count)
    )
    values: dict[str, object] = {
        "model": model,
        "preset": preset,
        "architecture": architecture(model, preset),
        "training": model_card(model).preset(preset).training,
        "reduce": 1,
        "start_landmarks": False,
        "labels": labels,
        "protocol": "lovo",
        "classes": tuple("abcdefghi"[: len(counts)]),
        "seed": 1,
        "shuffled": False,
        "synthetic": False,
        "clips": clips,
        "folds": (Fold("one", (), ()),),
        "draw_seed": 3,
    }
    return Study(**values | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("preset", ["paper", "code"])
def test_balanced_sets_have_their_figure_when_every_class_has_all_its_clips(preset) -> None:
    four = study("survey", preset, "survey-4", dict.fromkeys(range(4), 112))
    assert [one["scores"] for one in _published(four)["published"]] == [{"acc": 0.4732}]
    nine = study("survey", preset, "survey-9", dict.fromkeys(range(9), 16))
    assert [one["scores"] for one in _published(nine)["published"]] == [{"acc": 0.2639}]
    assert Counter(one.label for one in nine.clips) == dict.fromkeys(range(9), 16)
    fewer = study("survey", preset, "survey-4", {0: 112, 1: 112, 2: 112, 3: 109})
    assert "not as many" in _published(fewer)["published_left_out"]
    loso = study("survey", preset, "survey-4", dict.fromkeys(range(4), 112), protocol="loso")
    assert _published(loso)["published"] == []


def test_figures_of_one_preset_stand_beside_that_preset_only() -> None:
    corpora = {"casme2": 145, "samm": 133, "smic": 164}
    clips = tuple(
        ClipEntry(f"{corpus}/{n}/x", corpus, f"{corpus}/{n}", 0, {}, "")
        for corpus, count in corpora.items()
        for n in range(count)
    )

    def figures(preset: str) -> dict[str, float]:
        one = study("off-apexnet", preset, "megc2019-3", {0: 0, 1: 0, 2: 0}, clips=clips)
        found = _published(Study(**vars(one) | {"protocol": "loso"}))["published"]
        return {row["part"]: row["scores"]["uf1"] for row in found}

    assert figures("meb") == {"all": 0.703}
    assert figures("paper") == {"all": 0.7196, "smic": 0.6817, "samm": 0.5409, "casme2": 0.8764}


def test_figures_chosen_on_the_test_subject_are_said_to_be() -> None:
    for one in model_card("htnet").published:
        assert "TEST subject" in one.source
    assert {one.scores["uf1"] for one in model_card("ststnet").published} >= {0.7353, 0.713}
