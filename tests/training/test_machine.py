"""Devices, precision, determinism and compilation, as far as a CPU shows them."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, TrainingError  # noqa: E402
from mer_prep.models.mol import Mol  # noqa: E402
from mer_prep.training.fit import Machine  # noqa: E402
from mer_prep.training.machine import choose_precision, slots  # noqa: E402
from mer_prep.training.methods import mol as fitting  # noqa: E402
from mer_prep.training.study import fold_folder, run_fold  # noqa: E402
from tests.bars import CLIPS, FOLDS, SMALLEST, study  # noqa: E402


@pytest.fixture(scope="module")
def store() -> ClipStore:
    return ClipStore(CLIPS)


def result(run, made, store, machine) -> tuple[str, dict]:
    run_fold(run, made, FOLDS[0], store, machine)
    folder = fold_folder(run, FOLDS[0])
    facts = json.loads((folder / "fold.json").read_text())
    return (folder / "predictions.csv").read_text(), facts["computed"]


def test_precision_follows_the_device():
    assert choose_precision("auto", "cuda:1") == "bf16"
    assert choose_precision("auto", "cpu") == "float32"
    assert choose_precision("bf16", "cpu") == "bf16"
    with pytest.raises(ConfigError, match="Did you mean 'bf16'"):
        choose_precision("fp16", "cpu")
    with pytest.raises(ConfigError, match="'precision'"):
        Machine(precision="float16")


def test_folds_are_spread_over_devices_before_they_share_one():
    assert slots("cuda", 9, gpus=2, folds_per_gpu=2) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert slots("cuda:1", 9, gpus=0, folds_per_gpu=2) == ["cuda:1", "cuda:1"]
    assert slots("cpu", 3, gpus=0, folds_per_gpu=2) == ["cpu"] * 3


def test_bfloat16_is_another_computation_and_says_so(tmp_path, store):
    made = study(architecture=SMALLEST)
    text, computed = result(tmp_path / "a", made, store, Machine())
    assert computed["precision"] == "float32"
    other, computed = result(tmp_path / "b", made, store, Machine(precision="bf16"))
    assert computed == {
        "device": "cpu",
        "precision": "bf16",
        "compiled": False,
        "deterministic": True,
    }
    assert text != other


def test_a_compiled_model_trains_and_tests_alike(tmp_path, store, monkeypatch):
    compiled = []

    def compile_eagerly(model):
        # The compiler that generates code takes minutes; tracing is the same without it.
        compiled.append(model)
        return original(model, backend="eager")

    original = torch.compile
    made = study(architecture=SMALLEST)
    text, _ = result(tmp_path / "a", made, store, Machine())
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    other, computed = result(tmp_path / "b", made, store, Machine(compiled=True))
    assert [type(one) for one in compiled] == [Mol]
    assert computed["compiled"] is True
    assert text == other


def test_determinism_is_asked_for_within_a_training_only():
    assert not torch.are_deterministic_algorithms_enabled()
    with Machine(deterministic=True).settled():
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    assert not torch.are_deterministic_algorithms_enabled()
    with Machine(deterministic=False).settled():
        assert torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.benchmark


def test_short_memory_is_explained_and_other_errors_pass(tmp_path, store, monkeypatch):
    def short(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fitting, "mol_losses", short)
    with pytest.raises(TrainingError, match="short for a batch of 4 samples") as info:
        run_fold(tmp_path, study(architecture=SMALLEST), FOLDS[0], store, Machine())
    assert "--batch" in info.value.hint

    def wrong(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(fitting, "mol_losses", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_fold(tmp_path, study(architecture=SMALLEST), FOLDS[0], store, Machine())


def test_a_gradient_that_is_no_number_is_refused(tmp_path, store, monkeypatch):
    losses = fitting.mol_losses

    def with_root(output, batch):
        found = losses(output, batch)
        # The root of 0 is finite, its slope is not.
        found["expression"] = found["expression"] + (0 * output.logits).abs().sum().sqrt()
        return found

    monkeypatch.setattr(fitting, "mol_losses", with_root)
    with pytest.raises(TrainingError, match=r"The gradient is not a finite number in step 1"):
        run_fold(tmp_path, study(architecture=SMALLEST), FOLDS[0], store, Machine())
    assert not (fold_folder(tmp_path, FOLDS[0]) / "checkpoint.safetensors").exists()
