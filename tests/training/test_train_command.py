"""Training as a newcomer runs it, on a small synthetic corpus."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("dlib")

from mer_prep.cli import cli
from mer_prep.errors import ConfigError, DependencyError, MerPrepError, TrainingError
from mer_prep.metrics import score
from mer_prep.synth.corpus import write_corpus
from mer_prep.training.folds import choose_device

pytestmark = pytest.mark.slow


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    if isinstance(result.exception, MerPrepError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("training")
    made = write_corpus("casme2", root, subjects=2, clips=4, frames=12)
    call("import", "casme2", made.root, "--workspace", root / "ws")
    return root / "ws"


def train(workspace: Path, *options: object):
    fixed = ["--preset", "tiny", "--steps", 2, "--batch", 2, "--set", "mol.channels=8"]
    return call("train", *fixed, "--jobs", 1, "--workspace", workspace, *options)


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
    assert results["published"][0]["scores"] == {"uf1": 0.8779, "uar": 0.8542}
    config = json.loads((run / "config.json").read_text())
    assert config["architecture"]["channels"] == 8
    # Everything is there: a second run only scores again.
    before = (run / "folds" / "casme2--sub01" / "log.csv").read_text()
    again = train(workspace, "--run", "first", "--json")
    assert json.loads(again.stdout) == results
    assert (run / "folds" / "casme2--sub01" / "log.csv").read_text() == before


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
    with pytest.raises(ConfigError, match="another study: training differ"):
        train(workspace, "--run", "mine", "--learning-rate", 0.1)
    with pytest.raises(ConfigError, match="Did you mean 'tiny'"):
        call("train", "--preset", "tini", "--workspace", workspace)
    with pytest.raises(ConfigError, match=r"Unknown parameter 'mol\.block'"):
        train(workspace, "--set", "mol.block=2")
    with pytest.raises(ConfigError, match=r"need flow\.pairs=lagged"):
        train(workspace, "--set", "flow.pairs=consecutive")
    with pytest.raises(TrainingError, match="of the composite are not prepared"):
        train(workspace, "--set", "mol.frames=64", "--run", "long")
    with pytest.raises(ConfigError, match="Unknown device 'gpu'"):
        choose_device("gpu")
    with pytest.raises(DependencyError, match="sees no device 'cuda:99'"):
        choose_device("cuda:99")


def test_models_are_described():
    facts = json.loads(call("models", "mol", "--json").stdout)
    assert facts["presets"]["code"]["parameters"]["all"] == 44_104_865
    assert facts["presets"]["code"]["parameters"]["flow"] == 39_730_282
    assert "mol" in call("models").output
    text = call("models", "mol").output
    assert "44,104,865" in text
    assert "Table VI" not in text.splitlines()[0]
