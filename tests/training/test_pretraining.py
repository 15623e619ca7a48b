"""Pre-training on macro-expressions, in one process and in two, and what comes after it."""

from __future__ import annotations

import csv
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.training.checkpoints import read_checkpoint  # noqa: E402
from mer_prep.training.distributed import World, device_of, world_of_torchrun  # noqa: E402
from mer_prep.training.fit import Machine  # noqa: E402
from mer_prep.training.pretrain import pretrain, without_test, write_pretrained  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.study import open_run  # noqa: E402
from tests.bars import CLASSES, SMALLEST, study, write_shards  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]

#: Without dropout, whose numbers differ by process.
STEADY = dataclasses.replace(SMALLEST, dropout=0.0)
MADE = without_test(
    study(
        architecture=STEADY,
        training=TrainingSettings(steps=5, batch=4, learning_rate=1e-3, landmark_weight=1.0),
    )
)

#: What every process of torchrun does: its part of the training, and its own weights to a file.
PROGRAM = """
import sys
from pathlib import Path

import torch

from mer_prep.training import pretrain as pretraining
from mer_prep.training.distributed import joined, world_of_torchrun
from mer_prep.training.fit import Machine
from mer_prep.training.study import read_study

torch.set_num_threads(1)
workspace, run = map(Path, sys.argv[1:])
world = world_of_torchrun()

def keep(world, model):
    torch.save(torch.nn.utils.parameters_to_vector(model.parameters()), run / f"{world.rank}.out")
    check(world, model)

check, pretraining.check_same_weights = pretraining.check_same_weights, keep
with joined(world, "cpu"):
    pretraining.pretrain(
        workspace, run, read_study(run), Machine(), loader="resident", world=world
    )
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def single(workspace) -> Path:
    """Return the run of a pre-training in one process."""
    run = workspace / "runs" / "single"
    open_run(run, MADE)
    pretrain(workspace, run, MADE, Machine(), loader="resident")
    return run


def losses_of(run: Path) -> list[list[float]]:
    with (run / "log.csv").open(newline="") as file:
        return [[float(value) for value in row.values()] for row in csv.DictReader(file)]


def test_all_clips_are_trained_on_and_named_in_the_weights(workspace, single):
    assert MADE.folds[0].test == ()
    assert len(MADE.folds[0].train) == len(MADE.clips)
    _, step, facts = read_checkpoint(single / "pretrained.safetensors")
    assert step == 5
    assert facts["lineage"]["corpora"] == ["test"]
    assert facts["lineage"]["subjects"] == ["test/s0", "test/s1", "test/s2"]
    assert len(facts["lineage"]["sources"]) == len(MADE.clips)
    results = write_pretrained(single, MADE)
    assert results["clips"] == 9
    assert results["classes"] == dict.fromkeys(CLASSES, 3)
    rows = losses_of(single)
    assert results["losses"]["expression"] == pytest.approx(sum(one[1] for one in rows) / 5)
    assert not (single / "checkpoint.safetensors").exists()
    # A second time nothing is trained.
    before = (single / "log.csv").stat().st_mtime_ns
    pretrain(workspace, single, MADE, Machine(), loader="resident")
    assert (single / "log.csv").stat().st_mtime_ns == before


def test_a_stopped_pretraining_goes_on_to_the_same_bits(workspace, single):
    run = workspace / "runs" / "stopped"
    open_run(run, MADE)

    class StoppedError(Exception):
        pass

    def stop(step, losses):
        if step == 4:
            raise StoppedError

    machine = Machine(checkpoint_every=2)
    with pytest.raises(StoppedError):
        pretrain(workspace, run, MADE, machine, loader="stream", on_step=stop)
    pretrain(workspace, run, MADE, machine, loader="stream")
    assert (run / "log.csv").read_text() == (single / "log.csv").read_text()
    tensors = [read_checkpoint(one / "pretrained.safetensors")[0] for one in (run, single)]
    assert all(torch.equal(one, tensors[1][name]) for name, one in tensors[0].items())


@pytest.mark.slow
def test_two_processes_come_to_one_model(workspace, single):
    run = workspace / "runs" / "double"
    open_run(run, MADE)
    program = workspace / "part.py"
    program.write_text(PROGRAM)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, str(program), str(workspace), str(run)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(run / f"{rank}.out") for rank in range(2))
    assert torch.equal(first, second)
    tensors = [read_checkpoint(one / "pretrained.safetensors")[0] for one in (run, single)]
    for name, one in tensors[0].items():
        torch.testing.assert_close(one, tensors[1][name], rtol=1e-3, atol=1e-5)
    for one, other in zip(losses_of(run), losses_of(single), strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize(
    "said", [("x", "2", "0"), ("2", "2", "0"), ("-1", "2", "0"), ("0", "2", ""), ("0", "0", "0")]
)
def test_an_environment_that_torchrun_did_not_make_is_refused(said, monkeypatch):
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), said, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"RANK='{said[0]}'.*no number of a process") as error:
        world_of_torchrun()
    assert "unset RANK WORLD_SIZE LOCAL_RANK" in error.value.hint


def test_processes_and_what_they_need(workspace, monkeypatch):
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert world_of_torchrun() == World(3, 4, 1)
    monkeypatch.delenv("RANK")
    assert world_of_torchrun() == World()
    assert device_of(World(), "cuda:1") == "cuda:1"
    with pytest.raises(ConfigError, match="4 processes cannot all train on cuda:1"):
        device_of(World(0, 4, 0), "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_of(World(1, 2, 1), "cuda") == "cuda:1"
    with pytest.raises(ConfigError, match="more processes than the 2 GPUs"):
        device_of(World(2, 3, 2), "cuda")
    with pytest.raises(ConfigError, match="batch of 4 cannot be dealt evenly to 3"):
        pretrain(workspace, workspace / "no", MADE, Machine(), loader="resident", world=World(0, 3))
