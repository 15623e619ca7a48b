"""Training as a newcomer runs it, on a small synthetic corpus."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("dlib")

from mer_prep.errors import ConfigError, DependencyError, LeakError, TrainingError
from mer_prep.metrics import score
from mer_prep.synth.corpus import write_corpus
from mer_prep.training.machine import choose_device
from mer_prep.training.methods import METHODS
from tests.command_line import call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_core")]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("training")
    for corpus, clips, frames in (("casme2", 4, 12), ("affwild2", 2, 32)):
        made = write_corpus(corpus, root, subjects=2, clips=clips, frames=frames)
        call("import", corpus, made.root, "--workspace", root / "ws")
    return root / "ws"


def train(workspace: Path, *options: object, command: str = "train"):
    fixed = ["--preset", "tiny", "--steps", 2, "--batch", 2, "--set", "mol.channels=8"]
    return call(command, *fixed, "--jobs", 1, "--workspace", workspace, *options)


def test_all_folds_are_trained_and_scored_together(workspace):
    result = train(workspace, "--run", "first")
    assert "SYNTHETIC" in result.output
    run = workspace / "runs" / "first"
    results = json.loads((run / "results.json").read_text())
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["fold"] for row in rows} == {"casme2/sub01", "casme2/sub02"}
    expected = score(
        [int(row["label"]) for row in rows],
        [int(row["predicted"]) for row in rows],
        results["classes"],
    )
    assert results["scores"]["all"]["uf1"] == expected.uf1
    assert results["clips"] == len(rows)
    assert results["selection"] == "last"
    assert results["synthetic"] is True
    assert results["auxiliary"]["parts"]["all"]["flow_endpoint_error_px"] > 0
    assert results["published"] == []
    assert "no published counterpart" in results["published_left_out"]
    assert "published figures are not shown" in result.output
    config = json.loads((run / "config.json").read_text())
    assert config["architecture"]["channels"] == 8
    # Everything is there: a second run only scores again.
    before = (run / "folds" / "casme2+sub01" / "log.csv").read_text()
    again = train(workspace, "--run", "first", "--json")
    assert json.loads(again.stdout) == results
    assert (run / "folds" / "casme2+sub01" / "log.csv").read_text() == before


def test_a_control_with_shuffled_labels_is_marked(workspace):
    result = train(workspace, "--shuffle-labels")
    assert "LABELS SHUFFLED" in result.output
    (run,) = (workspace / "runs").glob("*-shuffled")
    control = json.loads((run / "results.json").read_text())
    assert control["shuffled_labels"] is True
    labels = [one["label"] for one in json.loads((run / "config.json").read_text())["clips"]]
    train(workspace, "--run", "plain")
    plain = json.loads((workspace / "runs" / "plain" / "config.json").read_text())
    assert sorted(labels) == sorted(one["label"] for one in plain["clips"])


def test_shares_make_one_run_and_the_last_scores_it(workspace):
    first = train(workspace, "--run", "shares", "--shard", "2/2")
    assert "1 of 2 folds are left to other shares: casme2/sub01" in first.output
    run = workspace / "runs" / "shares"
    assert not (run / "results.json").exists()
    facts = json.loads(train(workspace, "--run", "shares", "--shard", "2/2", "--json").stdout)
    assert facts["unfinished"] == ["casme2/sub01"]
    last = train(workspace, "--run", "shares", "--shard", "1/2")
    assert "2 folds, 7 clips" in last.output
    train(workspace, "--run", "whole")
    files = [workspace / "runs" / one / "predictions.csv" for one in ("shares", "whole")]
    assert files[0].read_text() == files[1].read_text()


def test_repeats_are_runs_with_seeds_of_their_own_and_a_mean(workspace):
    result = train(workspace, "--run", "again", "--repeats", 2)
    runs = [workspace / "runs" / f"again-{number}" for number in (1, 2)]
    found = json.loads((runs[0] / "repeats.json").read_text())
    assert [one["seed"] for one in found["runs"].values()] == [1, 2]
    each = [json.loads((run / "results.json").read_text()) for run in runs]
    assert [one["seed"] for one in each] == [1, 2]
    scores = [one["scores"]["all"]["acc"] for one in each]
    assert found["mean"]["acc"] == pytest.approx(sum(scores) / 2)
    assert "2 runs (SYNTHETIC)" in result.stdout
    assert "deviation" in result.stdout
    only = train(workspace, "--run", "again", "--repeats", 2, "--json")
    assert json.loads(only.stdout) == found
    part = train(workspace, "--run", "part", "--repeats", 2, "--shard", "1/2")
    assert "no mean yet" in part.output
    assert not (workspace / "runs" / "part-1" / "repeats.json").exists()


def test_what_leaks_is_stamped_wherever_it_is_seen(workspace):
    result = train(workspace, "--run", "mine", "--reproduce-leaky")
    assert result.stderr.startswith("warning: LEAKY: the step is chosen by the test subject's own")
    assert "(SYNTHETIC, LEAKY)" in result.stdout
    assert result.stdout.rstrip().endswith("mine-LEAKY/results.json")
    run = workspace / "runs" / "mine-LEAKY"
    results = json.loads((run / "results.json").read_text())
    assert (results["leaky"], results["selection"]) == (True, "LEAKY")
    lines = (run / "predictions.csv").read_text().splitlines()
    assert all("LEAKY" in line for line in lines[1:])


def test_from_macro_to_micro_expressions(workspace):
    result = train(workspace, "affwild2", "--run", "macro", command="pretrain")
    assert "4 clips of 2 subjects, 2 steps" in result.output
    weights = workspace / "runs" / "macro" / "pretrained.safetensors"
    assert f"mer-prep train --init {weights}" in result.output
    facts = json.loads(
        train(workspace, "affwild2", "--run", "macro", "--json", command="pretrain").stdout
    )
    assert (facts["corpora"], facts["synthetic"]) == (["affwild2"], True)
    result = train(workspace, "casme2", "--init", weights)
    assert "2 start at random: expression.layers.7.bias" in result.output
    (run,) = (workspace / "runs").glob("mol-tiny-*-init")
    results = json.loads((run / "results.json").read_text())
    assert results["init"]["corpora"] == ["affwild2"]
    assert results["computed"][0]["precision"] == "float32"
    fold = next((run / "folds").iterdir()) / "checkpoint.safetensors"
    with pytest.raises(LeakError, match=r"trained on casme2/sub0\d, tested here"):
        train(workspace, "casme2", "--init", fold)


def test_a_balanced_map_is_drawn_by_its_own_seed(workspace, tmp_path):
    labels = tmp_path / "balanced.toml"
    labels.write_text(
        'title = "x"\nsource = "y"\nclasses = ["surprise", "any"]\nbalance = "minimum"\n'
        '[corpora.casme2.emotions]\nsurprise = "surprise"\n'
        'disgust = "any"\nhappiness = "any"\nrepression = "any"\nothers = "any"\n'
    )
    train(workspace, "--labels", labels, "--draw-seed", 1)
    (run,) = (workspace / "runs").glob("*-balanced-draw1-*")
    results = json.loads((run / "results.json").read_text())
    composite = call("composite", "--labels", labels, "--seed", 1, "--workspace", workspace)
    assert f"composite: {results['clips']} clips" in composite.output
    assert results["draw_seed"] == 1
    drawn = json.loads((workspace / "composite.jsonl").read_text().splitlines()[0])["clip_id"]
    config = json.loads((run / "config.json").read_text())
    assert config["clips"][0]["clip_id"] == drawn
    with pytest.raises(ConfigError, match="keeps all clips"):
        train(workspace, "--draw-seed", 1)


def test_mistakes_are_named(workspace):
    train(workspace, "--run", "mine")
    with pytest.raises(ConfigError, match=r"another study: training\.learning_rate differ"):
        train(workspace, "--run", "mine", "--learning-rate", 0.1)
    with pytest.raises(ConfigError, match="Did you mean 'tiny'"):
        call("train", "--preset", "tini", "--workspace", workspace)
    with pytest.raises(ConfigError, match=r"Unknown parameter 'mol\.block'"):
        train(workspace, "--set", "mol.block=2")
    with pytest.raises(ConfigError, match=r"need flow\.pairs=lagged"):
        train(workspace, "--set", "flow.pairs=consecutive")
    with pytest.raises(TrainingError, match="of the composite are not prepared"):
        train(workspace, "--set", "mol.frames=64", "--run", "long")
    with pytest.raises(ConfigError, match="exclude each other"):
        train(workspace, "--selection", "inner", "--reproduce-leaky")
    with pytest.raises(ConfigError, match="None of the 1 training subjects can be held out"):
        train(workspace, "--selection", "inner")
    with pytest.raises(TrainingError, match="There is no checkpoint"):
        train(workspace, "--init", workspace / "none.safetensors")
    with pytest.raises(ConfigError, match="Unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(DependencyError, match="sees no device 'cuda:99'"):
        choose_device("cuda:99")


def test_models_counts_parameters_outside_of_modules():
    """The embeddings of FRL-DGT's nine regions, of 32 numbers each, belong to no module."""
    facts = json.loads(call("models", "frl-dgt", "--json").stdout)
    counts = facts["presets"]["tiny"]["parameters"]
    model = METHODS["frl-dgt"](METHODS["frl-dgt"].presets["tiny"]).build(3)
    assert counts["region_embedding"] == 9 * 32
    assert counts["all"] == sum(one.numel() for one in model.parameters())


def test_models_are_described():
    facts = json.loads(call("models", "mol", "--json").stdout)
    assert facts["presets"]["code"]["parameters"]["all"] == 44_104_865
    assert facts["presets"]["code"]["parameters"]["flow"] == 39_730_282
    mirrored = {name: one["training"]["mirror"] for name, one in facts["presets"].items()}
    assert mirrored == {"paper": True, "code": False, "tiny": True}
    assert "mol" in call("models").output
    table_8 = "Acc 0.7526, recall of surprise 0.8736, recall of positive 0.5275"
    assert table_8 in call("models", "meta-mmfnet").output
    text = call("models", "mol").output
    assert "44,104,865" in text
    assert "Table VI" not in text.splitlines()[0]


def test_the_auxiliary_tasks_can_be_left_out_and_results_say_so(workspace):
    found = {}
    for name, switches in {
        "both": (),
        "no-flow": ("mol.flow=false",),
        "no-landmarks": ("mol.landmarks=false",),
        "neither": ("mol.flow=false", "mol.landmarks=false"),
    }.items():
        options = [part for one in switches for part in ("--set", one)]
        train(workspace, "--run", f"switch-{name}", *options)
        run = workspace / "runs" / f"switch-{name}"
        results = json.loads((run / "results.json").read_text())
        architecture = results["architecture"]
        assert architecture["flow"] == ("mol.flow=false" not in switches)
        assert architecture["landmarks"] == ("mol.landmarks=false" not in switches)
        scores = results["auxiliary"]["parts"]["all"]
        assert ("flow_endpoint_error_px" in scores) == architecture["flow"]
        assert ("landmark_error_eye_centres" in scores) == architecture["landmarks"]
        with (run / "predictions.csv").open(newline="") as file:
            found[name] = [list(row.values())[6:9] for row in csv.DictReader(file)]
    # Other losses, other weights, other probabilities.
    assert len({str(rows) for rows in found.values()}) == 4
