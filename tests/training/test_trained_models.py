"""Trained weights as a newcomer uses them: evaluate and predict, on a small synthetic corpus."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("dlib")

from mer_prep.errors import (  # noqa: E402
    ConfigError,
    LeakError,
    ManifestError,
    MotionError,
    NoFaceError,
    ShardError,
    TrainingError,
)
from mer_prep.evaluation import aligned_true_flow  # noqa: E402
from mer_prep.store.shard import read_clip  # noqa: E402
from mer_prep.synth.corpus import write_corpus  # noqa: E402
from mer_prep.synth.truth import read_truth  # noqa: E402
from mer_prep.training.auxiliary import Window  # noqa: E402
from mer_prep.training.study import fold_folder, read_study  # noqa: E402
from mer_prep.training.truth import score_truth, true_batch  # noqa: E402
from mer_prep.workspace import Workspace  # noqa: E402
from tests.command_line import call  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """Return a workspace with a run of two folds, in which each subject tests the other's model."""
    root = tmp_path_factory.mktemp("trained")
    made = write_corpus("casme2", root, subjects=2, clips=2, frames=12)
    call("import", "casme2", made.root, "-w", root / "ws")
    options = ["--preset", "tiny", "--steps", 2, "--batch", 2, "--set", "mol.channels=8"]
    call("train", *options, "--jobs", 1, "--run", "run", "-w", root / "ws")
    return root / "ws"


@pytest.fixture
def run(workspace, tmp_path) -> Path:
    """Return a copy of the run that a test may damage."""
    return Path(shutil.copytree(workspace / "runs" / "run", tmp_path / "copied"))


@pytest.fixture
def study(workspace):
    return read_study(workspace / "runs" / "run")


def predict(workspace: Path, *arguments: object, run: object = "run"):
    return json.loads(call("predict", *arguments, "--run", run, "-w", workspace, "--json").stdout)


def frames_of(workspace: Path, clip_id: str) -> list[Path]:
    clip = Workspace(workspace).find_clip(clip_id)
    return [Path(clip.root) / frame for frame in clip.frames]


def write_video(path: Path, images: list[np.ndarray]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()
    return path


def test_a_run_is_scored_again_to_the_same_numbers(workspace, run, study):
    before = json.loads((run / "results.json").read_text())
    text = call("evaluate", run, "-w", workspace).stdout
    assert "(SYNTHETIC)" in text
    assert "px are of the model's frames (64x64, 2 aligned px each)" in text
    after = json.loads((run / "results.json").read_text())
    assert after["rescored"]["scores"] == before["scores"] == after["scores"]
    assert after["rescored"]["largest_difference"] < 1e-6
    assert after["rescored"]["other_class"] == []
    old, new = (one["auxiliary"]["parts"]["all"] for one in (before, after))
    for name in ("flow_endpoint_error_px", "landmark_error_eye_centres", "landmark_failure_rate"):
        assert new[name] == pytest.approx(old[name], rel=1e-4)
    assert new["clips"] == new["true_clips"] == len(study.clips)
    # TV-L1 is nearer to the truth than no motion at all, and the mean of people is no person.
    assert new["true_tvl1_error_px"] < new["true_zero_error_px"]
    assert new["true_target_error"] < new["mean_face_error"]
    with (run / "auxiliary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["clip_id"]: row["fold"] for row in rows} == {
        clip_id: fold.name for fold in study.folds for clip_id in fold.test
    }
    mean = np.mean([float(row["true_flow_error_px"]) for row in rows])
    assert new["true_flow_error_px"] == pytest.approx(mean)


def test_a_prediction_is_that_of_the_fold_that_tested_the_clip(workspace, study, tmp_path):
    fold = study.folds[0]
    with (workspace / "runs" / "run" / "predictions.csv").open(newline="") as file:
        stored = {row["clip_id"]: row for row in csv.DictReader(file)}[fold.test[0]]
    facts = predict(workspace, fold.test[0], "--output", tmp_path / "out")
    assert facts["weights"]["folds"] == [fold.name]
    assert facts["probabilities"] == {
        name: pytest.approx(float(stored[f"p_{name}"]), abs=1e-6) for name in study.classes
    }
    assert facts["predicted"] == study.classes[int(stored["predicted"])]
    assert facts["label"] == study.classes[int(stored["label"])]
    assert (facts["synthetic"], facts["restricted"]) == (True, False)
    assert facts["auxiliary"]["landmark_error_eye_centres"] == pytest.approx(
        float(stored["landmark_error_eye_centres"]), rel=1e-4
    )
    assert json.loads((tmp_path / "out" / "probabilities.json").read_text()) == facts
    _check_files(tmp_path / "out", workspace, study, facts)


def _check_files(folder, workspace, study, facts):
    """Check flow, landmarks and picture against the shards that the clip was prepared in."""
    entry = {one.clip_id: one for one in study.clips}[facts["clip"]]
    aligned, _ = read_clip(workspace / entry.shards["align"], entry.clip_id)
    landmarks, _ = read_clip(workspace / entry.shards["landmarks"], entry.clip_id)
    target, _ = read_clip(workspace / entry.shards["flow"], entry.clip_id)
    numbers = [int(number) for number in aligned["frame_numbers"]]
    with np.load(folder / "flow.npz") as flow:
        pairs = len(facts["samples"]), study.architecture.frames - 1
        assert flow["flow"].shape == flow["tvl1"].shape == (*pairs, 2, 64, 64)
        assert flow["frames"][0, 0].tolist() == facts["samples"][0]["frames"][:2]
        # The mean of 2x2 px of the centre crop, in px that are twice as large.
        whole = target["flow"][0][:, 8:136, 8:136]
        half = whole.reshape(2, 64, 2, 64, 2).mean(axis=(2, 4)) / 2
        np.testing.assert_allclose(flow["tvl1"][0, 0], half, atol=1e-6)
        assert "SYNTHETIC" in flow["marks"]
    with (folder / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 68 * pairs[0] * pairs[1]
    found = np.array([[float(row[key]) for key in ("x", "y")] for row in rows]).reshape(-1, 68, 2)
    source = np.array([[float(row[f"source_{key}"]) for key in "xy"] for row in rows])
    source = source.reshape(found.shape)
    for row, (points, there) in enumerate(zip(found, source, strict=True)):
        index = numbers.index(int(rows[68 * row]["frame"]))
        matrix = aligned["transform"][index]
        np.testing.assert_allclose(there @ matrix[:, :2].T + matrix[:, 2], points, atol=0.01)
    # An untrained head gives the mean face, which is near any face, in both systems of px.
    eyes = np.linalg.norm(landmarks["landmarks"][0, 36] - landmarks["landmarks"][0, 45])
    assert np.linalg.norm(source[0] - landmarks["landmarks"][0], axis=1).mean() < 0.5 * eyes
    picture = cv2.imread(str(folder / "prediction.png"))
    assert picture.shape[0] > 3 * 288
    assert picture.shape[1] > 3 * 288
    assert picture.std() > 20


def test_frames_of_a_tested_clip_are_known_by_their_bytes(workspace, study):
    clip_id = study.folds[0].test[0]
    folder = frames_of(workspace, clip_id)[0].parent
    clip = Workspace(workspace).find_clip(clip_id)
    facts = predict(workspace, folder, "--onset", clip.onset, "--offset", clip.offset)
    assert facts["weights"]["folds"] == [study.folds[0].name]
    assert facts["synthetic"] is True
    assert facts["label"] is None
    # What is prepared in memory comes out as from the shards.
    stored = predict(workspace, clip_id)
    assert facts["samples"][0]["frames"] == stored["samples"][0]["frames"]
    assert facts["probabilities"] == pytest.approx(stored["probabilities"], abs=1e-6)
    assert facts["auxiliary"] == pytest.approx(stored["auxiliary"], abs=1e-6)
    with pytest.raises(LeakError, match="was trained on this clip, its frames or its person"):
        predict(workspace, folder, "--ensemble")


def test_a_foreign_video_is_judged_by_all_folds_or_one(workspace, study, tmp_path):
    images = [cv2.imread(str(one)) for one in frames_of(workspace, study.clips[0].clip_id)]
    video = write_video(tmp_path / "face.avi", images)
    both = predict(workspace, video)
    assert both["weights"]["folds"] == [fold.name for fold in study.folds]
    assert "who is seen is not known" in both["weights"]["why"]
    assert (both["synthetic"], both["restricted"]) == (False, True)
    assert both["trained_on_synthetic_clips"] is True
    parts = [predict(workspace, video, "--fold", fold.name) for fold in study.folds]
    for name in study.classes:
        mean = np.mean([one["probabilities"][name] for one in parts])
        assert both["probabilities"][name] == pytest.approx(mean)
        assert both["folds"][parts[0]["weights"]["folds"][0]] == parts[0]["probabilities"]
    cut = predict(workspace, video, "--onset", 2, "--offset", 9)
    assert cut["samples"] == [
        {"frames": [2 + j, 4 + j, 6 + j, 8 + j], "probabilities": one["probabilities"]}
        for j, one in enumerate(cut["samples"])
    ]
    assert len(cut["samples"]) == 2
    assert not any("all frames count" in note for note in cut["notes"])
    text = call("predict", video, "--run", "run", "-w", workspace).stdout
    assert "restricted: do not pass on" in text
    assert "over folds" in text


def test_a_run_without_its_shards_can_still_be_applied(workspace, run, study, tmp_path):
    images = [cv2.imread(str(one)) for one in frames_of(workspace, study.clips[0].clip_id)]
    video = write_video(tmp_path / "face.avi", images)
    elsewhere = tmp_path / "elsewhere"
    there = predict(elsewhere, video, run=run)
    assert there["probabilities"] == predict(workspace, video)["probabilities"]
    recipe = json.loads((run / "recipe.json").read_text())
    recipe["stages"]["align"]["version"] -= 1
    (run / "recipe.json").write_text(json.dumps(recipe))
    old = predict(elsewhere, video, run=run)
    assert any(note.startswith("stage align is of version") for note in old["notes"])
    (run / "recipe.json").unlink()
    with pytest.raises(ShardError, match="Nothing is left that says how"):
        predict(elsewhere, video, run=run)
    with pytest.raises(ShardError, match="shards that the run was tested with are gone"):
        call("evaluate", run, "-w", elsewhere)


def test_what_a_run_is_marked_with_is_carried_along(workspace, run, study, tmp_path):
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"leaky": True}))
    options = ["--run", run, "-w", workspace, "--output", tmp_path / "out"]
    text = call("predict", study.clips[0].clip_id, *options).stdout
    for mark in ("SYNTHETIC", "TRAINED ON SYNTHETIC CLIPS", "LEAKY"):
        assert f"  {mark}\n" in text
    assert "SYNTHETIC, in " in text.splitlines()[-1]
    with (tmp_path / "out" / "landmarks.csv").open(newline="") as file:
        marks = {row["marks"] for row in csv.DictReader(file)}
    assert marks == {"SYNTHETIC; TRAINED ON SYNTHETIC CLIPS; LEAKY"}


def test_what_cannot_be_judged_is_named(workspace, study, tmp_path):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(6)]
    with pytest.raises(NoFaceError, match="No face was found in any of 6 frames"):
        predict(workspace, write_video(tmp_path / "noise.avi", noise))
    with pytest.raises(MotionError, match="has 3 frames, and the model takes 4"):
        predict(workspace, write_video(tmp_path / "short.avi", noise[:3]))
    with pytest.raises(MotionError, match="has 1,002 frames; one expression has 1,000"):
        predict(workspace, write_video(tmp_path / "long.avi", noise * 167))
    with pytest.raises(ManifestError, match="no frame 7 for --offset"):
        predict(workspace, tmp_path / "noise.avi", "--offset", 7)
    with pytest.raises(ManifestError, match="offset 2 does not come after the onset 3"):
        predict(workspace, tmp_path / "noise.avi", "--onset", 3, "--offset", 2)
    with pytest.raises(ManifestError, match="holds no numbered frames"):
        predict(workspace, tmp_path)
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(ManifestError, match="neither a video file nor a folder"):
        predict(workspace, tmp_path / "note.txt")
    clip_id = study.clips[0].clip_id
    with pytest.raises(ManifestError, match=f"Did you mean '{clip_id}'"):
        predict(workspace, clip_id + "x")
    with pytest.raises(ConfigError, match="are for videos and folders"):
        predict(workspace, clip_id, "--onset", 1)
    with pytest.raises(ConfigError, match="choose --fold or --ensemble"):
        predict(workspace, clip_id, "--fold", "x", "--ensemble")
    with pytest.raises(LeakError, match="was trained on"):
        predict(workspace, clip_id, "--ensemble")
    with pytest.raises(ConfigError, match="Did you mean 'run'"):
        predict(workspace, clip_id, run="rum")


def test_weights_that_are_missing_or_of_another_training_are_refused(workspace, run, study):
    fold, other = study.folds
    paths = [fold_folder(run, one) for one in (fold, other)]
    shutil.copy(paths[1] / "checkpoint.safetensors", paths[0] / "checkpoint.safetensors")
    with pytest.raises(TrainingError, match="of another training: its fold is"):
        predict(workspace, fold.test[0], run=run)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"preset": "code"}))
    with pytest.raises(TrainingError, match="of another training"):
        predict(workspace, other.test[0], run=run)
    (paths[0] / "checkpoint.safetensors").unlink()
    with pytest.raises(TrainingError, match=f"The fold has no weights: {fold.name}"):
        predict(workspace, fold.test[0], run=run)
    with pytest.raises(TrainingError, match=f"1 of 2 folds have no weights: {fold.name}"):
        call("evaluate", run, "-w", workspace)


def test_predictions_that_the_weights_do_not_give_are_refused(workspace, run, study):
    path = fold_folder(run, study.folds[0]) / "predictions.csv"
    lines = path.read_text().splitlines()
    head, first = lines[0].split(","), lines[1].split(",")
    column = head.index(f"p_{study.classes[0]}")
    first[column] = repr(float(first[column]) + 0.1)
    path.write_text("\n".join([lines[0], ",".join(first), *lines[2:]]) + "\n")
    with pytest.raises(TrainingError, match=f"a probability of {first[0]} differs by 0.1"):
        call("evaluate", run, "-w", workspace)


def test_the_truth_is_that_of_the_aligned_frames(workspace, study):
    from mer_prep.dataset import phases

    entry = study.clips[0]
    shard = workspace / entry.shards["align"]
    root = Workspace(workspace).record(entry.corpus).root
    truth = read_truth(Path(root), entry.clip_id)
    frames, _ = read_clip(shard, entry.clip_id, ("frame_numbers",))
    samples = phases(len(frames["frame_numbers"]), 4)
    true = true_batch(shard, entry.clip_id, truth, samples=samples)
    aligned, _ = read_clip(shard, entry.clip_id, ("transform", "frame_numbers"))
    numbers = [int(number) for number in aligned["frame_numbers"]]
    step = len(numbers) // 4
    expected, inside = aligned_true_flow(
        truth.flow(numbers[0], numbers[step]),
        aligned["transform"][0],
        aligned["transform"][step],
        size=144,
    )
    # Interpolating the dense flow of the source costs a little.
    np.testing.assert_allclose(true.flow[0, 0].numpy()[:, inside], expected[:, inside], atol=2e-3)
    assert set(true.frames.unique().tolist()) == {0, 1}

    from mer_prep.models.output import ModelOutput
    from mer_prep.training.views import centre_view, reduce

    seen = reduce(centre_view(true, 128), 2)
    perfect = ModelOutput(torch.zeros(len(seen.labels), 3), seen.flow, seen.landmarks[:, 1:])
    scores = score_truth(Workspace(workspace), entry, perfect, seen, Window(8, 2), samples)
    assert scores["true_flow_error_px"] == scores["true_tvl1_error_px"] == 0
    assert scores["true_landmark_error_eye_centres"] == scores["true_target_error"] == 0
    assert scores["true_zero_error_px"] > 0
    perfect.flow = seen.flow + torch.tensor([3.0, -4.0])[:, None, None]
    moved = score_truth(Workspace(workspace), entry, perfect, seen, Window(8, 2), samples)
    assert moved["true_flow_error_px"] == pytest.approx(5, abs=1e-5)
    nowhere = Workspace(workspace / "nowhere")
    assert score_truth(nowhere, entry, perfect, seen, Window(8, 2), samples) == {}


def test_two_runs_are_compared_at_the_command_line(workspace, run):
    text = call("evaluate", run, "--compare", "run", "-w", workspace).stdout
    assert re.search(r"accuracy of \S+ less that of \S+: \+0\.0 points", text)
    assert "p = 1." in text
    facts = json.loads(call("evaluate", "run", "--compare", run, "-w", workspace, "--json").stdout)
    assert facts["runs"] == ["run", "copied"]
    assert facts["leaky"] == []
    assert facts["mcnemar"] == {"only_first": 0, "only_second": 0, "p_value": 1.0}
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"leaky": True}))
    text = call("evaluate", "run", "--compare", run, "-w", workspace).stdout
    assert "LEAKY: copied chose its weights on the test subjects" in text
    assert text.splitlines()[-1].endswith("compared, SYNTHETIC, LEAKY")
