"""Methods solved in closed form in the training engine, on toy clips whose bars move."""

from __future__ import annotations

import dataclasses
import json
import sys

import h5py
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from mer_prep.dataset import Batch, ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, DependencyError, TrainingError  # noqa: E402
from mer_prep.store.shard import group_name  # noqa: E402
from mer_prep.training.cards import model_card  # noqa: E402
from mer_prep.training.checkpoints import read_checkpoint  # noqa: E402
from mer_prep.training.fit import Machine, View, fit  # noqa: E402
from mer_prep.training.loading import load_clip, open_clips  # noqa: E402
from mer_prep.training.methods import Stretch, architecture, method_of  # noqa: E402
from mer_prep.training.methods.svm import BiWoofSvmMethod  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.selection import Selection  # noqa: E402
from mer_prep.training.study import fold_folder, open_run, read_study, run_fold  # noqa: E402
from mer_prep.training.views import flip  # noqa: E402
from tests.bars import (  # noqa: E402
    CLASSES,
    CLIPS,
    FOLDS,
    SIDE,
    KilledError,
    aligned,
    entries,
    rows_of,
    shard_name,
    study,
    write_pairs,
)

SETTINGS = TrainingSettings(steps=1, batch=4)
SMALL = {
    "lbp-top-svm": {"side": 64, "blocks": 2, "frames": 6, "radius_t": 1, "neighbours": 4},
    "bi-woof-svm": {"side": 64, "blocks": 4},
}
NAMES = list(SMALL)


def method(name="bi-woof-svm", **changes):
    return method_of(name, architecture(name, "tiny", SMALL[name] | changes))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with what the stages would leave of the toy clips."""

    def stages_of(clip, number):
        rng = np.random.default_rng(int(clip.subject[-1]))
        flow = rng.normal(0, 0.05, (1, 2, SIDE, SIDE)).astype(np.float32)
        flow[0, 1, 20:50, 20:50] += (0, 1, -1)[clip.label]
        return {"flow": {"flow": flow}, "tim": {"frames": aligned(clip)["frames"][1:7]}}

    return write_pairs(tmp_path_factory.mktemp("solved"), stages_of)


def solved_study(made, **changes):
    values = {
        "model": made.name,
        "architecture": made.config,
        "training": SETTINGS,
        "start_landmarks": False,
        "clips": entries("align", *made.datasets()),
    }
    return study(**values | changes)


@pytest.mark.parametrize("name", NAMES)
def test_folds_are_solved_tested_and_right(workspace, tmp_path, name):
    made = method(name)
    one = solved_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    open_run(tmp_path, one)
    right = 0
    for fold in FOLDS:
        run_fold(tmp_path, one, fold, store, Machine())
        folder = fold_folder(tmp_path, fold)
        (log,) = rows_of(folder / "log.csv")
        assert list(log) == ["step", "hinge"]
        assert 0 <= float(log["hinge"]) < 1
        rows = rows_of(folder / "predictions.csv")
        assert all(row["flow_endpoint_error_px"] == "" for row in rows)
        right += sum(row["label"] == row["predicted"] for row in rows)
    assert right >= 8
    assert read_study(tmp_path).method.config == made.config


@pytest.mark.parametrize("name", NAMES)
def test_features_are_computed_once_and_not_once_a_fold(workspace, tmp_path, name, monkeypatch):
    made = method(name)
    one, calls = solved_study(made), []
    plain = type(made).describe

    def counted(self, arrays):
        calls.append(1)
        return plain(self, arrays)

    monkeypatch.setattr(type(made), "describe", counted)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    for fold in FOLDS:
        run_fold(tmp_path, one, fold, store, Machine())
    assert len(calls) == len(CLIPS)


@pytest.mark.parametrize("name", NAMES)
def test_clips_in_memory_and_in_shards_are_the_same(workspace, name):
    made = method(name)
    entries = solved_study(made).clips
    resident, streamed = (
        open_clips(kind, workspace, entries, made, "cpu") for kind in ("resident", "stream")
    )
    picked = resident.samples([one.clip_id for one in entries])
    assert picked == streamed.samples([one.clip_id for one in entries])
    one, other = resident.batch(picked), streamed.batch(picked)
    assert one.features.shape == (len(CLIPS), made.config.features)
    for first, second in zip(one.tensors(), other.tensors(), strict=True):
        if first is None:
            assert second is None
        else:
            torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    # What is not fed on flow has none.
    assert torch.isnan(one.flow).all() == (name == "lbp-top-svm")


def test_only_the_middle_of_the_frames_is_described(workspace):
    made = method()
    clip = CLIPS[0]
    entry = solved_study(made).clips[0]
    found = load_clip(workspace, entry, made).features
    with h5py.File(workspace / shard_name("flow", clip)) as file:
        flow = file[group_name(clip.clip_id)]["flow"][0]
    np.testing.assert_array_equal(found, made.config.describe(flow[:, 4:68, 4:68]))
    with pytest.raises(ConfigError, match="takes frames of 80 px, and the aligned ones have 72"):
        load_clip(workspace, entry, method(side=80))


def test_nothing_of_the_test_subject_is_in_the_weights(workspace, tmp_path):
    made = method()
    one, fold = solved_study(made), FOLDS[1]
    clips = [load_clip(workspace, entry, made) for entry in one.clips]
    other = [
        dataclasses.replace(clip, features=clip.features * 1000 + 5, label=0)
        if clip.clip_id in fold.test
        else clip
        for clip in clips
    ]
    weights = []
    for run, these in (("a", clips), ("b", other)):
        run_fold(tmp_path / run, one, fold, ClipStore(these), Machine())
        weights.append(
            read_checkpoint(fold_folder(tmp_path / run, fold) / "checkpoint.safetensors")[0]
        )
    assert set(weights[0]) == {
        "model.mean",
        "model.deviation",
        "model.machine.weight",
        "model.machine.bias",
    }
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
    trained = [clip.features for clip in clips if clip.clip_id in fold.train]
    np.testing.assert_allclose(weights[0]["model.mean"], np.mean(trained, axis=0), rtol=1e-5)


@pytest.mark.parametrize("moment", ["solved", "written"])
def test_a_killed_fold_goes_on_to_the_same_bits(workspace, tmp_path, moment, monkeypatch):
    made = method()
    one, fold = solved_study(made), FOLDS[0]
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    run_fold(tmp_path / "whole", one, fold, store, Machine())

    def stop(*_, **__):
        raise KilledError

    on_step = stop if moment == "solved" else lambda step, losses: None
    with monkeypatch.context() as patch:
        if moment == "written":  # the training is over, and its weights are not marked as final
            patch.setattr("mer_prep.training.study.save_checkpoint", stop)
        with pytest.raises(KilledError):
            run_fold(tmp_path / "killed", one, fold, store, Machine(), on_step=on_step)
    there = (fold_folder(tmp_path / "killed", fold) / "checkpoint.safetensors").is_file()
    assert there == (moment == "written")
    run_fold(tmp_path / "killed", one, fold, store, Machine())
    folders = [fold_folder(tmp_path / run, fold) for run in ("whole", "killed")]
    for name in ("predictions.csv", "log.csv"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    kept, again = (read_checkpoint(one / "checkpoint.safetensors") for one in folders)
    assert kept[1:] == again[1:]
    for name, tensor in kept[0].items():
        assert torch.equal(tensor, again[0][name])


class SolvedFirst(BiWoofSvmMethod):
    """A method that is solved and goes on by gradients."""

    def stretches(self, settings):
        return (Stretch("all", 1, solved=True), Stretch("all", settings.steps - 1))


@pytest.mark.parametrize("kill", [1, 2, 4])
def test_what_is_solved_can_be_trained_on(workspace, tmp_path, kill, monkeypatch):
    monkeypatch.setattr("mer_prep.training.loading.flip", lambda batch, flipped: batch)
    made = SolvedFirst(method().config)
    one = solved_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    train = FOLDS[0].train
    settings = TrainingSettings(steps=5, batch=4, learning_rate=1e-3)
    view = View(64, 1, made.statistics(store, train))
    machine = Machine(checkpoint_every=1)
    options = {"name": "fold", "seed": 1, "facts": {"fold": "fold"}}

    def stop(step, losses):
        if step == kill + 1:
            raise KilledError

    weights = []
    for name in ("whole", "killed"):
        path = tmp_path / f"{name}.safetensors"
        model = made.build(3)
        if name == "killed":
            with pytest.raises(KilledError):
                fit(
                    model, made, store, train, view, settings, machine,
                    checkpoint=path, on_step=stop, **options,
                )  # fmt: skip
            model = made.build(3)
        fit(model, made, store, train, view, settings, machine, checkpoint=path, **options)
        weights.append(model.state_dict())
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name])
    alone = made.build(3)
    alone.solve(
        store.batch(store.samples(train)).features,
        torch.tensor([store.clips[store.index[one]].label for one in train]),
        made.config,
    )
    # The steps after it have moved the weights, and not far.
    moved = (weights[0]["machine.weight"] - alone.machine.weight).abs().max()
    assert 0 < moved < 5e-3


def test_what_is_solved_takes_one_step():
    with pytest.raises(ValueError, match="takes 1 step, not 3"):
        Stretch("all", 3, solved=True)
    mol = method_of("mol", architecture("mol", "tiny"))
    with pytest.raises(NotImplementedError, match="mol is not solved in closed form"):
        mol.solve(torch.nn.Linear(1, 1), [], "all")


def test_subjects_held_out_judge_it_and_are_not_trained_on(workspace, tmp_path):
    made = method()
    one = solved_study(made, selection=Selection("inner"))
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    run_fold(tmp_path, one, FOLDS[0], store, Machine())
    facts = read_checkpoint(fold_folder(tmp_path, FOLDS[0]) / "checkpoint.safetensors")[2]
    (tried,) = facts["evaluations"]
    assert tried["step"] == 1
    assert tried["score"] == 1
    found = json.loads((fold_folder(tmp_path, FOLDS[0]) / "fold.json").read_text())
    assert (len(found["inner_subjects"]), found["training_clips"]) == (1, 3)


def test_a_loss_that_is_no_number_is_an_error(workspace, monkeypatch):
    made = method()
    one = solved_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    nothing = {"hinge": torch.tensor(torch.nan)}
    monkeypatch.setattr(type(made), "solve", lambda *_: nothing)
    view = View(64, 1, made.statistics(store, FOLDS[0].train))
    with pytest.raises(TrainingError, match="'hinge' of what was solved for fold x is not a fin"):
        fit(
            made.build(3), made, store, FOLDS[0].train, view, SETTINGS, Machine(),
            name="x", seed=1,
        )  # fmt: skip


def test_features_are_not_mirrored(workspace):
    made = method()
    store = open_clips("resident", workspace, solved_study(made).clips[:2], made, "cpu")
    batch = store.batch(store.samples([one.clip_id for one in CLIPS[:2]]))
    kept = flip(batch, torch.tensor([False, False]))
    assert isinstance(kept, Batch)
    assert torch.equal(kept.features, batch.features)
    with pytest.raises(ValueError, match="cannot be mirrored"):
        flip(batch, torch.tensor([False, True]))


def test_flow_of_other_pairs_is_refused():
    arrays = {
        "align": {"frames": np.zeros((8, 72, 72, 3), np.uint8), "landmarks": np.zeros((8, 68, 2))},
        "flow": {"flow": np.zeros((2, 2, 72, 72)), "pairs": np.array([[0, 1], [1, 2]])},
    }
    with pytest.raises(TrainingError, match="not that from an onset to an apex"):
        method().prepared(study().clips[0], arrays)


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_a_training_by_gradients_are_refused(name):
    made = method(name)
    preset = model_card(name).preset("paper").training
    assert made.settled(preset) is preset
    assert made.settled(dataclasses.replace(preset, batch=7)).batch == 7
    changes = {"steps": 2, "pre_steps": 3, "learning_rate": 1e-4, "clip_gradient": 1.0}
    for setting, value in changes.items():
        with pytest.raises(ConfigError, match="it has no --" + setting.replace("_", "-")):
            made.settled(dataclasses.replace(preset, **{setting: value}))


def test_without_scikit_learn_nothing_is_prepared_in_vain(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(DependencyError) as caught:
        method().settled(SETTINGS)
    assert "mer-prep[baselines]" in caught.value.hint


def test_a_class_that_nobody_trains_is_never_said(workspace, tmp_path):
    made = method()
    one = solved_study(made)
    clips = tuple(
        dataclasses.replace(entry, label=1 if entry.label == 2 else entry.label)
        for entry in one.clips
    )
    one = dataclasses.replace(one, clips=clips)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    run_fold(tmp_path, one, FOLDS[0], store, Machine())
    rows = rows_of(fold_folder(tmp_path, FOLDS[0]) / "predictions.csv")
    assert all(float(row[f"p_{CLASSES[2]}"]) == 0 for row in rows)
