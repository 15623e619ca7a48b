"""Toy studies: clips in which a bright bar stays, moves down or moves up."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from mer_prep.dataset import ClipSource, PreparedClip, phases
from mer_prep.models.mol import PRESETS
from mer_prep.protocols import Fold
from mer_prep.store.shard import group_name
from mer_prep.training.fit import Machine
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.study import ClipEntry, Study, fold_folder, open_run, run_fold

SIDE = 72
CLASSES = ("still", "down", "up")

#: Frames of the one pair of `write_pairs`.
ONSET, APEX = 1, 5

#: Arrays by stage and dataset.
Stages = Mapping[str, Mapping[str, np.ndarray]]

#: Of MOL's smallest preset; without flow it has no batch normalisation and is quick.
SMALL = dataclasses.replace(PRESETS["tiny"], channels=8)
SMALLEST = dataclasses.replace(SMALL, flow=False, hidden=16)


def prepared(name: str, subject: str, label: int) -> PreparedClip:
    """Return a clip in which a bright bar stays, moves down or moves up."""
    rng = np.random.default_rng(len(name) + label)
    frames = rng.normal(120, 3, (8, SIDE, SIDE))
    for index in range(8):
        row = 30 + (0, 1, -1)[label] * index
        frames[index, row : row + 6, 20:50] += 60
    samples = phases(8, 4)
    return PreparedClip(
        clip_id=name,
        corpus="test",
        subject=subject,
        label=label,
        frames=np.clip(frames, 0, 255).astype(np.uint8),
        flow=np.full((len(samples) * 3, 2, SIDE, SIDE), 0.5, np.float32),
        landmarks=np.tile(rng.uniform(10, 60, (68, 2)).astype(np.float32), (8, 1, 1)),
        samples=samples,
    )


CLIPS = [prepared(f"test/s{s}/c{c}", f"test/s{s}", c) for s in range(3) for c in range(3)]
FOLDS = tuple(
    Fold(
        f"test/s{s}",
        tuple(one.clip_id for one in CLIPS if one.subject != f"test/s{s}"),
        tuple(one.clip_id for one in CLIPS if one.subject == f"test/s{s}"),
    )
    for s in range(3)
)


def study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "model": "mol",
        "preset": "tiny",
        "architecture": SMALL,
        "training": TrainingSettings(steps=6, batch=4, learning_rate=1e-3, landmark_weight=1.0),
        "reduce": 1,
        "start_landmarks": True,
        "labels": "made-up",
        "protocol": "loso",
        "classes": CLASSES,
        "seed": 1,
        "shuffled": False,
        "synthetic": True,
        "clips": entries("align", "flow"),
        "folds": FOLDS,
    }
    return Study(**values | changes)


def entries(*stages: str) -> tuple[ClipEntry, ...]:
    """Return the clips as a study has them, with the shards of some stages."""
    return tuple(
        ClipEntry(
            one.clip_id,
            one.corpus,
            one.subject,
            one.label,
            {stage: shard_name(stage, one) for stage in stages},
            f"{number:04d}".ljust(64, "0"),
        )
        for number, one in enumerate(CLIPS)
    )


def shard_name(stage: str, clip: PreparedClip) -> str:
    return f"{stage}--{clip.subject.replace('/', '--')}.h5"


def write_shards(workspace: Path) -> Path:
    """Write what the stages align and flow would leave of the clips."""
    workspace.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        pairs = np.stack([clip.samples[:, :-1], clip.samples[:, 1:]], axis=-1).reshape(-1, 2)
        numbers = {"frame_numbers": np.arange(8)}
        stages = {
            "align": aligned(clip) | numbers,
            "flow": {"flow": clip.flow, "pairs": pairs, **numbers},
        }
        _write_stages(workspace, clip, stages)
    return workspace


def write_pairs(workspace: Path, stages_of: Callable[[PreparedClip, int], Stages]) -> Path:
    """Write what the stages would leave of the clips for methods of one pair, onset and apex.

    `stages_of` is called with every clip and its number; it returns the arrays of flow, which is
    given its pair, and of whatever else the method reads.
    """
    for number, clip in enumerate(CLIPS):
        stages = {"align": aligned(clip), **stages_of(clip, number)}
        stages["flow"] = {**stages["flow"], "pairs": np.array([[ONSET, APEX]], np.int32)}
        _write_stages(workspace, clip, stages)
    return workspace


def aligned(clip: PreparedClip) -> dict[str, np.ndarray]:
    """Return what the stage align would leave of a clip."""
    colour = np.repeat(clip.frames[..., None], 3, axis=-1)
    return {"frames": colour, "landmarks": clip.landmarks}


def _write_stages(workspace: Path, clip: PreparedClip, stages: Stages) -> None:
    for stage, arrays in stages.items():
        with h5py.File(workspace / shard_name(stage, clip), "a") as file:
            group = file.create_group(group_name(clip.clip_id))
            for name, array in arrays.items():
                group[name] = array


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class KilledError(Exception):
    """Stands for a process that is killed."""


def whole_and_killed(
    folder: Path, one: Study, store: ClipSource, *, kill: int, checkpoint_every: int = 1
) -> list[list[bytes]]:
    """Train the first fold in one go, and killed in a step and then to its end.

    Returns predictions and log of the first, then those of the second.
    """
    machine = Machine(checkpoint_every=checkpoint_every)

    def stop(step: int, losses: object) -> None:
        if step == kill:
            raise KilledError

    found = []
    for name in ("whole", "killed"):
        run = folder / name
        open_run(run, one)
        if name == "killed":
            with pytest.raises(KilledError):
                run_fold(run, one, FOLDS[0], store, machine, on_step=stop)
        run_fold(run, one, FOLDS[0], store, machine)
        left = fold_folder(run, FOLDS[0])
        found.append([(left / file).read_bytes() for file in ("predictions.csv", "log.csv")])
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that results do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
