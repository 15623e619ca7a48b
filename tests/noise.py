"""Prepared clips of noise, and whether two batches are the same."""

from __future__ import annotations

import numpy as np
import torch

from mer_prep.dataset import Batch, PreparedClip, phases

SIDE = 12


def prepared(name: str, *, label: int = 0, count: int = 9, seed: int = 0) -> PreparedClip:
    """Return a clip of `count` frames, its flow and landmarks, all of them noise."""
    rng = np.random.default_rng(seed)
    samples = phases(count, 4)
    pairs = len(samples) * 3
    return PreparedClip(
        clip_id=name,
        corpus="test",
        subject=f"test/{name}",
        label=label,
        frames=rng.integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8),
        flow=rng.normal(size=(pairs, 2, SIDE, SIDE)).astype(np.float32),
        landmarks=rng.uniform(0, SIDE, (count, 68, 2)).astype(np.float32),
        samples=samples,
    )


CLIPS = [prepared("a", seed=1), prepared("b", label=2, count=13, seed=2)]


def same(first: Batch, second: Batch) -> None:
    """Assert that two batches hold the same."""
    for name in ("frames", "flow", "landmarks", "labels"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name))
