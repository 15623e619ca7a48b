"""Shards with known values, and shards that somebody else has changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep.manifest import Clip
from mer_prep.store.part import ClipResult, DatasetInfo, write_part
from mer_prep.store.seal import open_sealed, seal
from mer_prep.store.shard import Failure, Header, merge


def strip_seal(path: Path) -> None:
    """Leave a file as HDF5 knows it."""
    sealed = open_sealed(path)
    assert sealed is not None
    with sealed:
        size = sealed.seek(0, os.SEEK_END)
    os.truncate(path, size)


@contextmanager
def changing(path: Path, *, sealed: bool = True) -> Iterator[h5py.File]:
    """Open a sealed file to change it as somebody might who knows of the seal, or does not."""
    strip_seal(path)
    with h5py.File(path, "a") as file:
        yield file
    if sealed:
        with open(path, "rb+", buffering=0) as raw:
            seal(raw)


KEY = "0123456789abcdef" * 4
CLIP = "toy/sub01/EP01_01"
FAILED = "toy/sub01/EP09_09"
RECIPE: dict[str, Any] = {
    "source": {"frames": "all"},
    "stages": {"flow": {"version": 3, "params": {}, "libraries": {}, "identity": {}}},
}


def header() -> Header:
    """Return root attributes of a shard of stage ``flow``."""
    return Header(
        stage="flow",
        stage_version=3,
        params={"method": "tvl1"},
        recipe=RECIPE,
        requires=("align",),
        libraries={"numpy": "2"},
        corpus="toy",
        subject="sub01",
        restricted=True,
        synthetic=False,
        datasets=("flow", "pairs"),
    )


def small_result(clip_id: str, seed: int, *, side: int = 4) -> ClipResult:
    """Return a result of stage ``flow`` for a clip, its values drawn with a seed."""
    corpus, subject, name = clip_id.split("/")
    clip = Clip(
        clip_id=clip_id,
        corpus=corpus,
        subject=subject,
        clip=name,
        root="/nowhere",
        frame_numbers=(8, 9, 10),
        frames=("8.png", "9.png", "10.png"),
        source_digest="d" * 64,
    )
    flow = np.random.default_rng(seed).normal(size=(2, 2, side, side))
    return ClipResult(
        clip=clip,
        clip_key="c" * 64,
        frame_numbers=clip.frame_numbers,
        arrays={
            "flow": flow.astype(np.float32),
            "pairs": np.array([[0, 1], [0, 2]], np.int64),
        },
        infos={
            "flow": DatasetInfo("px", "pair channel y x", "u v", "a note"),
            "pairs": DatasetInfo("frames", "pair frame"),
        },
        facts={"method": "tvl1", "mean": 0.5, "apex": 9, "still": False},
    )


def small_shard(folder: Path) -> Path:
    """Publish a shard of one clip with a result and one quarantined; return its path."""
    part = folder / "part.h5"
    write_part(part, small_result(CLIP, 0, side=24), stage="flow", recipe=RECIPE)
    target = folder / "cache" / "flow" / KEY[:16] / "toy--sub01.h5"
    failure = Failure(FAILED, "align", "NoFaceError", "There is no face.", "f" * 64)
    merge(target, header(), KEY, {CLIP: part}, [failure])
    part.unlink()
    return target
