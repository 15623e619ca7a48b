"""FRL-DGT as a newcomer runs it, on small synthetic corpora."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("dlib")

from mer_prep.errors import ConfigError
from mer_prep.synth.corpus import write_corpus
from mer_prep.workspace import Workspace
from tests.command_line import call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_core")]

SMALL = ("side=64", "width=8", "heads=2", "scale=0.05")


def train(workspace: Path, *options: object, command: str = "train"):
    settings = [part for one in SMALL for part in ("--set", f"frl-dgt.{one}")]
    fixed = ["--model", "frl-dgt", "--preset", "tiny", *settings]
    fixed += ["--steps", 2, "--pre-steps", 1, "--batch", 2, "--jobs", 1]
    return call(command, *fixed, "--workspace", workspace, *options)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Return a workspace with a run over CASME II, with apex frames, and SMIC, without."""
    root = tmp_path_factory.mktemp("pairs")
    for corpus, subjects in (("casme2", 2), ("smic", 1)):
        made = write_corpus(corpus, root, subjects=subjects, clips=2, frames=14)
        call("import", corpus, made.root, "-w", root / "ws")
    output = train(root / "ws", "--run", "run").output
    assert "apex: annotated in 3 clips, spotted in 2 clips" in output
    return root / "ws"


def results_of(workspace: Path, run: str):
    return json.loads((workspace / "runs" / run / "results.json").read_text())


def test_results_say_where_the_apex_comes_from(workspace):
    results = results_of(workspace, "run")
    assert results["apex"] == {
        "policy": "annotated-or-spotted",
        "sources": {"annotated": 3, "spotted": 2},
    }
    assert results["training"]["pre_steps"] == 1
    assert results["published"] == []


def test_it_is_scored_again_with_what_it_rebuilds(workspace):
    output = call("evaluate", "run", "-w", workspace).stdout
    assert "the apex from the onset by the displacement" in output
    assert "landmarks   mean error" not in output
    part = results_of(workspace, "run")["auxiliary"]["parts"]["all"]
    assert 0 < part["reconstruction_error"] < part["identity_error"]
    # It starts from guesses in closed form, which see something of the motion.
    assert part["true_flow_error_px"] < part["true_zero_error_px"]
    assert "landmark_failure_rate" not in part


def test_a_prediction_shows_displacement_and_regions(workspace, tmp_path):
    clip_id = (
        "casme2/sub01/"
        + sorted(
            one.clip for one in Workspace(workspace).clips("casme2") if one.subject == "sub01"
        )[0]
    )
    output = call("predict", clip_id, "--run", "run", "-w", workspace, "--output", tmp_path).stdout
    assert "regions by attention" in output
    assert "apex rebuilt from the onset" in output
    facts = json.loads((tmp_path / "probabilities.json").read_text())
    weights = [one["attention"] for one in facts["regions"].values()]
    assert sum(weights) == pytest.approx(1)
    for left, top, right, bottom in (one["box"] for one in facts["regions"].values()):
        assert 7 < left < right < 137
        assert 7 < top < bottom < 137
    clip = Workspace(workspace).find_clip(clip_id)
    with np.load(tmp_path / "flow.npz") as arrays:
        assert arrays["flow"].shape == arrays["displacement"].shape == (1, 1, 2, 64, 64)
        assert arrays["frames"].tolist() == [[[clip.onset, clip.apex]]]
        # One points ahead and the other back.
        assert (arrays["flow"] * arrays["displacement"]).mean() < 0
    assert not (tmp_path / "landmarks.csv").exists()
    assert cv2.imread(str(tmp_path / "prediction.png")).shape[1] > 4 * 280


def test_frames_of_nobody_known_are_judged_by_a_spotted_apex(workspace):
    clip = Workspace(workspace).clips("smic")[0]
    folder = Path(clip.root) / Path(clip.frames[0]).parent
    facts = json.loads(call("predict", folder, "--run", "run", "-w", workspace, "--json").stdout)
    stored = json.loads(
        call("predict", clip.clip_id, "--run", "run", "-w", workspace, "--json").stdout
    )
    assert facts["samples"][0]["frames"] == stored["samples"][0]["frames"]
    assert facts["weights"]["folds"] == stored["weights"]["folds"]
    for name, chance in stored["probabilities"].items():
        assert facts["probabilities"][name] == pytest.approx(chance, abs=1e-3)


def test_the_cost_of_a_spotted_apex_is_told(workspace):
    output = train(workspace, "--run", "spotted", "--set", "flow.apex=spotted").output
    apex = results_of(workspace, "spotted")["apex"]
    assert apex["policy"] == "spotted"
    assert apex["sources"] == {"spotted": 5}
    assert 0 <= apex["mean_error_frames"] < 4
    assert f"{apex['mean_error_frames']:.1f} frames away from it on average" in output
    compared = call("evaluate", "run", "--compare", "spotted", "-w", workspace).stdout
    assert "not the same apex: annotated-or-spotted and spotted" in compared


@pytest.mark.parametrize("displacement", ["tvl1", "dynamic-image"])
def test_what_takes_the_place_of_the_displacement_comes_from_the_shards(workspace, displacement):
    train(workspace, "--run", displacement, "--set", f"frl-dgt.displacement={displacement}")
    config = json.loads((workspace / "runs" / displacement / "config.json").read_text())
    assert ("dynamic-image" in config["clips"][0]["shards"]) == (displacement == "dynamic-image")
    assert config["training"]["pre_steps"] == 0
    part = results_of(workspace, displacement)["auxiliary"]["parts"]["all"]
    assert "flow_endpoint_error_px" not in part
    call("evaluate", displacement, "-w", workspace)
    clip = Workspace(workspace).clips("casme2")[0]
    folder = Path(clip.root) / Path(clip.frames[0]).parent
    options = ["--onset", clip.onset, "--offset", clip.offset, "-w", workspace, "--json"]
    facts = json.loads(call("predict", folder, "--run", displacement, *options).stdout)
    assert sum(facts["probabilities"].values()) == pytest.approx(1)


def test_other_pairs_are_refused(workspace):
    with pytest.raises(ConfigError, match=r"need flow\.pairs=onset-apex"):
        train(workspace, "--run", "x", "--set", "flow.pairs=consecutive")


def test_settings_of_another_model_are_refused(workspace):
    with pytest.raises(ConfigError, match="neither a stage nor a model 'mol' here") as caught:
        train(workspace, "--run", "x", "--set", "mol.blocks=2")
    assert "--set frl-dgt.NAME=VALUE" in caught.value.hint
    with pytest.raises(ConfigError, match="Did you mean 'frl-dgt'"):
        train(workspace, "--run", "x", "--set", "frl_dgt.fusion=after")


def test_it_is_trained_before_on_other_people(workspace, tmp_path):
    made = write_corpus("samm", tmp_path, subjects=2, clips=2, frames=12)
    call("import", "samm", made.root, "-w", tmp_path / "ws")
    train(tmp_path / "ws", "--run", "before", "--labels", "samm-3", command="pretrain")
    weights = tmp_path / "ws" / "runs" / "before" / "pretrained.safetensors"
    output = train(workspace, "--run", "after", "--init", weights).output
    assert "taken over" in output
    assert results_of(workspace, "after")["init"]["model"] == "frl-dgt"
