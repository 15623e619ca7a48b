"""Reads shards and parts back: checksums, shapes and finiteness of all that they hold."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from mer_prep.errors import ShardError
from mer_prep.store.blocks import StoredArray
from mer_prep.store.damage import AGAIN, as_shard_error, foreign
from mer_prep.store.hdf5 import open_hdf5
from mer_prep.store.shard import header_of, opened_clip


def check_shard(path: Path, *, clips: set[str] | None = None, key: str | None = None) -> None:
    """Read a whole shard back: header, clip list, checksums, shapes and finiteness.

    Parameters
    ----------
    path : Path
        The shard.
    clips : set of str, optional
        Clip ids it must have results for.
    key : str, optional
        Key it must state.

    Raises
    ------
    ShardError
        At the first thing that is wrong.
    """
    with open_hdf5(path) as file:
        _check_shard(file, path, clips, key)


def _check_shard(file: h5py.File, path: Path, clips: set[str] | None, key: str | None) -> None:
    header = header_of(file, path)
    if key is not None and header.key != key:
        raise ShardError(
            f"The shard states key {header.key[:16]}, not {key[:16]}.", where=path, hint=AGAIN
        )
    if clips is not None and set(header.clips) != clips:
        differing = sorted(set(header.clips) ^ clips)
        raise ShardError(
            f"The shard's clips differ: {', '.join(differing[:5])}.", where=path, hint=AGAIN
        )
    if path.parent.name != header.key[:16]:
        raise ShardError(
            f"The shard of key {header.key[:16]} lies in folder {path.parent.name}.",
            where=path,
            hint=AGAIN,
        )
    for clip_id in header.clips:
        _check_clip(file, path, clip_id, header.datasets)


def check_clip(path: Path, clip_id: str, *, datasets: frozenset[str] | None = None) -> None:
    """Read one clip of a shard or part back, block by block: checksums, shapes and finiteness.

    Parameters
    ----------
    path : Path
        The file.
    clip_id : str
        The clip.
    datasets : frozenset of str, optional
        Datasets it must have.

    Raises
    ------
    ShardError
        At the first thing that is wrong.
    """
    with open_hdf5(path) as file:
        _check_clip(file, path, clip_id, datasets)


def _check_clip(file: h5py.File, path: Path, clip_id: str, datasets: frozenset[str] | None) -> None:
    arrays, _ = opened_clip(file, path, clip_id, None)
    with as_shard_error(path):
        if datasets is not None and arrays.keys() != datasets:
            names = ", ".join(sorted(arrays.keys() ^ datasets))
            raise ShardError(f"The datasets of {clip_id} differ: {names}.", where=path, hint=AGAIN)
        if "frame_numbers" not in arrays:
            raise foreign(f"Clip {clip_id} does not say which frames it is of.", path)
        frames = len(arrays["frame_numbers"])
        for name, array in arrays.items():
            _check_described(array, f"{name} of {clip_id}", path)
            bad = sum(np.count_nonzero(~np.isfinite(block)) for block in array.blocks())
            if bad:
                raise ShardError(
                    f"Dataset {name} of {clip_id} holds {bad} values that are not finite.",
                    where=path,
                    hint=AGAIN,
                )
            if frames == 0 or math.prod(array.shape) == 0:
                raise ShardError(f"Dataset {name} of {clip_id} is empty.", where=path, hint=AGAIN)


def _check_described(array: StoredArray, name: str, path: Path) -> None:
    # What its numbers mean is never guessed.
    if not {"units", "axes"} <= array.attributes().keys():
        raise foreign(f"Dataset {name} has no units or axes.", path)
