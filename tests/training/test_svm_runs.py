"""LBP-TOP and Bi-WOOF as a newcomer runs them, on small synthetic corpora."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip("torch")
pytest.importorskip("dlib")
pytest.importorskip("sklearn")

from mer_prep.errors import ConfigError, TrainingError
from mer_prep.synth.corpus import write_corpus
from mer_prep.workspace import Workspace
from tests.command_line import call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_core")]

MODELS = ("lbp-top-svm", "bi-woof-svm")


def train(workspace: Path, model: str, *options: object):
    return call("train", "--model", model, "--jobs", 1, "-w", workspace, *options)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Return a workspace with a run of each model over two subjects."""
    root = tmp_path_factory.mktemp("machines")
    made = write_corpus("casme2", root, subjects=2, clips=3, frames=14)
    call("import", "casme2", made.root, "-w", root / "ws")
    for model in MODELS:
        output = train(root / "ws", model, "--run", model).output
        assert "training on the CPU" not in output
        assert "SYNTHETIC" in output
    return root / "ws"


def results_of(workspace: Path, run: str):
    return json.loads((workspace / "runs" / run / "results.json").read_text())


@pytest.mark.parametrize("model", MODELS)
def test_a_run_says_what_it_is_and_is_scored_again(workspace, model):
    before = results_of(workspace, model)
    assert before["training"]["steps"] == 1
    assert bool(before["apex"]) == (model == "bi-woof-svm")
    config = json.loads((workspace / "runs" / model / "config.json").read_text())
    assert ("flow" in config["clips"][0]["shards"]) == (model == "bi-woof-svm")
    assert ("tim" in config["clips"][0]["shards"]) == (model == "lbp-top-svm")
    # Weights alone are enough to test: nothing is solved again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.svm", None)
        output = call("evaluate", model, "-w", workspace).output
    assert "as the run stored them" in output
    after = results_of(workspace, model)
    assert after["rescored"]["scores"] == before["scores"]
    assert after["rescored"]["largest_difference"] < 1e-6


@pytest.mark.parametrize("model", MODELS)
def test_a_folder_of_frames_is_judged_as_the_clip_itself(workspace, tmp_path, model):
    clip = Workspace(workspace).clips("casme2")[0]
    folder = Path(clip.root) / Path(clip.frames[0]).parent
    key_frames = ("--onset", clip.onset, "--offset", clip.offset)
    options = ("--run", model, "-w", workspace, "--json")
    facts = json.loads(call("predict", folder, *key_frames, *options).stdout)
    stored = json.loads(call("predict", clip.clip_id, *options, "--output", tmp_path).stdout)
    assert facts["weights"]["folds"] == stored["weights"]["folds"]
    # Nobody says where the apex of the folder is; Bi-WOOF has it spotted.
    tolerance = 1e-6 if model == "lbp-top-svm" else 0.5
    for name, chance in stored["probabilities"].items():
        assert facts["probabilities"][name] == pytest.approx(chance, abs=tolerance)
    assert stored["auxiliary"] == {}
    assert {path.name for path in tmp_path.iterdir()} == {"probabilities.json", "prediction.png"}
    assert cv2.imread(str(tmp_path / "prediction.png")).shape[1] > 288


@pytest.mark.parametrize("model", MODELS)
def test_how_clips_were_prepared_is_known_without_the_run_s_own_note(workspace, model, tmp_path):
    clip = Workspace(workspace).clips("casme2")[0]
    folder = Path(clip.root) / Path(clip.frames[0]).parent
    arguments = ("predict", folder, "--run", model, "-w", workspace, "--json")
    kept = json.loads(call(*arguments).stdout)
    note = workspace / "runs" / model / "recipe.json"
    text = note.read_text()
    note.unlink()
    try:
        assert json.loads(call(*arguments).stdout)["probabilities"] == kept["probabilities"]
        note.write_text("{}")
        with pytest.raises(TrainingError, match="stages of the run cannot be read"):
            call(*arguments)
    finally:
        note.write_text(text)


def test_a_report_shows_a_run_without_flow(workspace):
    call("report", "lbp-top-svm", "-w", workspace)
    page = (workspace / "runs" / "lbp-top-svm" / "report.html").read_text()
    assert "lbp-top-svm" in page
    assert "10.1109/TPAMI.2007.1110" in page


def test_what_does_not_fit_is_refused_before_anything_is_made(workspace, tmp_path):
    with pytest.raises(ConfigError, match="it has no --learning-rate or --steps"):
        train(workspace, "bi-woof-svm", "--steps", 3, "--learning-rate", 0.1)
    with pytest.raises(ConfigError, match="starts from no weights"):
        train(workspace, "bi-woof-svm", "--init", tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="is not trained before"):
        call("pretrain", "--model", "lbp-top-svm", "-w", workspace)
    with pytest.raises(ConfigError, match=r"need flow\.pairs=onset-apex"):
        train(workspace, "bi-woof-svm", "--set", "flow.pairs=consecutive")
    with pytest.raises(ConfigError, match=r"need tim\.length=10"):
        train(workspace, "lbp-top-svm", "--set", "tim.length=9")


def test_a_switch_names_its_run(workspace):
    train(workspace, "bi-woof-svm", "--set", "bi-woof-svm.global_weight=none")
    (found,) = (workspace / "runs").glob("*global_weight-none")
    assert found.name.startswith("bi-woof-svm-paper-")
