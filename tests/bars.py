"""Toy studies: clips in which a bright bar stays, moves down or moves up."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from mer_prep.dataset import PreparedClip, phases
from mer_prep.models.mol import PRESETS
from mer_prep.protocols import Fold
from mer_prep.store.shard import group_name
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.study import ClipEntry, Study

SIDE = 72
CLASSES = ("still", "down", "up")

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
        "clips": tuple(
            ClipEntry(
                one.clip_id,
                one.corpus,
                one.subject,
                one.label,
                {stage: shard_name(stage, one) for stage in ("align", "flow")},
                f"{number:04d}".ljust(64, "0"),
            )
            for number, one in enumerate(CLIPS)
        ),
        "folds": FOLDS,
    }
    return Study(**values | changes)


def shard_name(stage: str, clip: PreparedClip) -> str:
    return f"{stage}--{clip.subject.replace('/', '--')}.h5"


def write_shards(workspace: Path) -> Path:
    """Write what the stages align and flow would leave of the clips."""
    workspace.mkdir(parents=True, exist_ok=True)
    for clip in CLIPS:
        pairs = np.stack([clip.samples[:, :-1], clip.samples[:, 1:]], axis=-1).reshape(-1, 2)
        colour = np.repeat(clip.frames[..., None], 3, axis=-1)
        stages = {
            "align": {"frames": colour, "landmarks": clip.landmarks},
            "flow": {"flow": clip.flow, "pairs": pairs},
        }
        for stage, arrays in stages.items():
            with h5py.File(workspace / shard_name(stage, clip), "a") as file:
                group = file.create_group(group_name(clip.clip_id))
                for name, array in (*arrays.items(), ("frame_numbers", np.arange(8))):
                    group[name] = array
    return workspace


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, so that results do not depend on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
