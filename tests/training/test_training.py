from __future__ import annotations

import csv
import dataclasses
import json
import math
import tracemalloc

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import Batch, ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, TrainingError  # noqa: E402
from mer_prep.models.mol import PRESETS, Mol  # noqa: E402
from mer_prep.models.output import ModelOutput  # noqa: E402
from mer_prep.reports.run_scores import mean_losses  # noqa: E402
from mer_prep.training.cards import MODELS, model_card  # noqa: E402
from mer_prep.training.checkpoints import read_checkpoint, save_checkpoint  # noqa: E402
from mer_prep.training.fit import Machine, rate_at  # noqa: E402
from mer_prep.training.losses import landmark_loss, mol_losses, ocular_distance  # noqa: E402
from mer_prep.training.methods import METHODS  # noqa: E402
from mer_prep.training.predictions import LossLog  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.study import (  # noqa: E402
    finished,
    fold_folder,
    open_run,
    read_study,
    run_fold,
    trained_model,
)
from tests.bars import CLIPS, FOLDS, KilledError, study  # noqa: E402


@pytest.fixture(scope="module")
def store() -> ClipStore:
    return ClipStore(CLIPS)


def predictions(run, fold):
    with (fold_folder(run, fold) / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_fold_is_trained_tested_and_logged(tmp_path, store):
    made, fold = study(), FOLDS[0]
    open_run(tmp_path, made)
    assert not finished(tmp_path, fold)
    run_fold(tmp_path, made, fold, store, Machine())
    assert finished(tmp_path, fold)
    rows = predictions(tmp_path, fold)
    assert [row["clip_id"] for row in rows] == list(fold.test)
    for row in rows:
        assert sum(float(row[f"p_{name}"]) for name in made.classes) == pytest.approx(1)
        assert float(row["flow_endpoint_error_px"]) > 0
        assert int(row["frames"]) == 6
    log = (fold_folder(tmp_path, fold) / "log.csv").read_text().splitlines()
    assert log[0] == "step,expression,flow,landmarks"
    assert [line.split(",")[0] for line in log[1:]] == list("123456")
    model, statistics = trained_model(tmp_path, made, fold)
    assert statistics.clips == frozenset(fold.train)
    assert isinstance(model, Mol)


@pytest.mark.slow
def test_it_learns_what_moves(tmp_path, store):
    training = TrainingSettings(
        optimiser="adamw", steps=60, batch=8, learning_rate=5e-3, landmark_weight=1.0
    )
    made = study(training=training)
    right = 0
    for fold in FOLDS:
        run_fold(tmp_path, made, fold, store, Machine(checkpoint_every=0))
        right += sum(row["label"] == row["predicted"] for row in predictions(tmp_path, fold))
    assert right >= 8


def test_studies_made_before_some_settings_stay_the_same():
    made = study()
    assert made.digest() == ("7a262510acd33d5ae88f473a024cffd17445c7c6ae9ae2bfbd7de4b4166eea53")
    other = dataclasses.replace(made, training=dataclasses.replace(made.training, brightness=0.1))
    assert other.digest() != made.digest()


def test_a_killed_fold_goes_on_to_the_same_bits(tmp_path, store):
    made, fold, machine = study(), FOLDS[1], Machine(checkpoint_every=2)
    run_fold(tmp_path / "whole", made, fold, store, machine)

    def kill(step, losses):
        if step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        run_fold(tmp_path / "killed", made, fold, store, machine, on_step=kill)
    checkpoint = fold_folder(tmp_path / "killed", fold) / "checkpoint.safetensors"
    assert read_checkpoint(checkpoint)[1] == 4
    run_fold(tmp_path / "killed", made, fold, store, machine)
    files = [fold_folder(tmp_path / one, fold) / "predictions.csv" for one in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_line_of_the_log_that_was_cut_off_is_written_anew(tmp_path):
    path = tmp_path / "log.csv"
    whole = LossLog(path, ["expression"])
    for step in range(1, 11):
        whole.add(step, {"expression": step / 8})
    path.write_text(path.read_text() + "1")  # of step 11, when the process was killed
    LossLog(path, ["expression"]).add(11, {"expression": 1.5})
    steps = [line.split(",")[0] for line in path.read_text().splitlines()]
    assert steps == ["step", *map(str, range(1, 12))]


def test_a_log_is_read_line_by_line_however_long_it_is(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss\n1,0.5\n2,0.25\n")
    with path.open("r+b") as file:
        file.truncate(256 * 2**20)  # one line of zeros, which takes no room on the disk
        file.seek(0, 2)
        file.write(b"\n3,0.125\n" + b"4,1\n" * 1000)
    tracemalloc.start()
    try:
        assert LossLog.of(path).last(1001) == {"loss": (0.125 + 1000) / 1001}
        assert mean_losses([path])["loss"] == ([1, 2, 3, 4], [0.5, 0.25, 0.125, 1])
        LossLog(path, ["loss"]).add(4, {"loss": 2.0})
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert path.read_text() == "step,loss\n1,0.5\n2,0.25\n3,0.125\n4,2\n"


def test_a_seed_decides_everything(tmp_path, store):
    fold, machine = FOLDS[2], Machine(checkpoint_every=0)
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_fold(tmp_path / name, study(seed=seed), fold, store, machine)
        texts.append((fold_folder(tmp_path / name, fold) / "predictions.csv").read_text())
    assert texts[0] == texts[1] != texts[2]


def test_a_run_holds_one_study(tmp_path):
    open_run(tmp_path, study())
    assert read_study(tmp_path) == study()
    open_run(tmp_path, study())
    with pytest.raises(ConfigError, match="another study: seed differ"):
        open_run(tmp_path, study(seed=2))
    with pytest.raises(ConfigError, match="There is no run here"):
        read_study(tmp_path / "nothing")
    facts = json.loads((tmp_path / "config.json").read_text())
    assert facts["training"]["steps"] == 6
    assert facts["folds"][0]["test"] == list(FOLDS[0].test)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_spoilt(tmp_path):
    broken = ClipStore(
        [dataclasses.replace(one, flow=np.full_like(one.flow, np.inf)) for one in CLIPS]
    )
    with pytest.raises(TrainingError, match="'flow' is not a finite number in step 1") as info:
        run_fold(tmp_path, study(), FOLDS[0], broken, Machine())
    assert not (fold_folder(tmp_path, FOLDS[0]) / "checkpoint.safetensors").exists()
    assert "of fold test/s0" in info.value.what
    named = info.value.where.split(": ")[1].split(", ")
    assert set(named) <= set(FOLDS[0].train)


def test_checkpoints_that_do_not_belong_here_are_refused(tmp_path, store):
    made, fold = study(), FOLDS[0]
    folder = fold_folder(tmp_path, fold)
    folder.mkdir(parents=True)
    path = folder / "checkpoint.safetensors"
    torch.save(Mol(made.architecture, 3).state_dict(), path)
    with pytest.raises(TrainingError, match="pickled weights can run any code"):
        run_fold(tmp_path, made, fold, store, Machine())
    other = Mol(PRESETS["tiny"], 3)
    facts = {"model": "mol", "preset": "paper", "fold": fold.name}
    save_checkpoint(path, other, optimiser=None, step=1, facts=facts)
    with pytest.raises(TrainingError, match="its preset is 'paper', not 'tiny'"):
        run_fold(tmp_path, made, fold, store, Machine())
    facts |= {"preset": "tiny", "study": study(seed=5).digest()}
    save_checkpoint(path, other, optimiser=None, step=1, facts=facts)
    with pytest.raises(TrainingError, match="of another training: its study is"):
        trained_model(tmp_path, made, fold)
    facts["study"] = made.digest()
    save_checkpoint(path, other, optimiser=None, step=1, facts=facts)
    with pytest.raises(TrainingError, match=r"does not fit the model: \d+ tensors differ"):
        trained_model(tmp_path, made, fold)
    with pytest.raises(TrainingError, match="There is no checkpoint"):
        trained_model(tmp_path, made, FOLDS[1])


def test_frames_too_small_for_the_crop_are_refused(tmp_path, store):
    with pytest.raises(ConfigError, match="crops of 128 px, and the frames have 72"):
        run_fold(tmp_path, study(reduce=2), FOLDS[0], store, Machine())


def test_losses_by_hand():
    true = torch.zeros(1, 3, 68, 2)
    true[:, :, 36:42, 0], true[:, :, 42:48, 0] = 10, 60
    assert ocular_distance(true).flatten().tolist() == [50] * 3
    found = true[:, 1:] + torch.tensor([3.0, -4.0])
    assert float(landmark_loss(found, true[:, 1:])) == pytest.approx(7 / 50)
    batch = Batch(torch.zeros(1, 3, 4, 4), torch.zeros(1, 2, 2, 4, 4), true, torch.tensor([1]))
    output = ModelOutput(torch.zeros(1, 3), torch.full((1, 2, 2, 4, 4), 2.0), found)
    losses = {name: float(one) for name, one in mol_losses(output, batch).items()}
    assert losses == pytest.approx({"expression": math.log(3), "flow": 4, "landmarks": 7 / 50})
    assert list(mol_losses(ModelOutput(output.logits, None, None), batch)) == ["expression"]


def test_the_rate_follows_its_schedule():
    settings = TrainingSettings(schedule="cosine", steps=100, learning_rate=2.0)
    assert [rate_at(step, settings) for step in (0, 50)] == pytest.approx([2, 1])
    assert rate_at(99, dataclasses.replace(settings, schedule="constant")) == 2


def test_model_cards_name_presets_and_published_figures():
    card = model_card("mol")
    assert set(card.presets) == set(PRESETS)
    assert card.presets["code"].training.flow_weight == pytest.approx(1.43, abs=0.005)
    assert card.presets["code"].training.landmark_weight == pytest.approx(0.7)
    composite = [one for one in card.published if one.labels == "megc2019-3"]
    assert composite[0].scores == {"uf1": 0.8779, "uar": 0.8542}
    with pytest.raises(ConfigError, match="Did you mean 'mol'"):
        model_card("mal")
    with pytest.raises(ConfigError, match="'preset'"):
        card.preset("large")
    assert list(MODELS) == list(METHODS)
    assert {"mol", "frl-dgt", "selfme"} <= set(MODELS)
