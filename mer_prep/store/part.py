"""The part: one clip's result of one stage in a file of its own, until `merge` gathers it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep.config import canonical_json
from mer_prep.manifest import Clip
from mer_prep.store import disk, files
from mer_prep.store.blocks import Blocks
from mer_prep.store.hdf5 import new_hdf5
from mer_prep.store.shard import group_name

#: Datasets with fewer bytes a frame than this are stored as one chunk.
_SMALL = 4096


@dataclass(frozen=True)
class DatasetInfo:
    """How a dataset is described in the file."""

    units: str
    axes: str
    channels: str = ""
    note: str = ""


@dataclass(frozen=True)
class ClipResult:
    """One clip as it is stored: arrays by name, their descriptions, and facts."""

    clip: Clip
    clip_key: str
    frame_numbers: tuple[int, ...]
    arrays: Mapping[str, np.ndarray | Blocks]
    infos: Mapping[str, DatasetInfo]
    facts: Mapping[str, Any] = field(default_factory=dict)


class PartWriter:
    """Writes the datasets and facts of one clip; made by `part_writer`."""

    def __init__(self, path: Path, group: h5py.Group, check: Callable[[], None]) -> None:
        self._path = path
        self._group = group
        self._check = check

    def write(self, name: str, array: np.ndarray | Blocks, info: DatasetInfo) -> None:
        """Write a dataset; of `Blocks` only one block is in hand at a time.

        Raises
        ------
        ShardError
            If the disk is full or fails.
        """
        row = math.prod(array.shape[1:]) * array.dtype.itemsize
        by_frame = len(array.shape) > 1 and row >= _SMALL and array.shape[0] > 0
        dataset = self._group.create_dataset(
            name,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(1, *array.shape[1:]) if by_frame else array.shape,
            compression="gzip",
            compression_opts=4 if array.dtype == np.uint8 else 1,
            shuffle=True,
            fletcher32=True,
            track_times=False,
        )
        dataset.attrs["units"] = info.units
        dataset.attrs["axes"] = info.axes
        dataset.attrs["channels"] = info.channels
        if info.note:
            dataset.attrs["note"] = info.note
        if isinstance(array, np.ndarray):
            dataset[...] = array
        elif by_frame:
            start = 0
            for block in array:
                dataset[start : start + len(block)] = block
                start += len(block)
                self.check_disk(array.shape[0] * row)
        else:
            # One chunk is compressed as a whole.
            dataset[...] = array.whole()
        self.check_disk(array.shape[0] * row if array.shape else row)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write facts as attributes of the clip's group."""
        for name, value in facts.items():
            self._group.attrs[name] = value

    def check_disk(self, needed: int = 0) -> None:
        """Raise `ShardError` if anything written so far did not reach the disk."""
        with files.explained(self._path, needed):
            self._check()


@contextmanager
def part_writer(
    path: Path,
    clip: Clip,
    *,
    clip_key: str,
    frame_numbers: tuple[int, ...],
    stage: str,
    recipe: Mapping[str, Any],
) -> Iterator[PartWriter]:
    """Write one clip's result as a file of its own, which appears when all of it is written.

    Parameters
    ----------
    path : Path
        The part. Whatever ends the writing early leaves nothing there.
    clip : Clip
        The clip.
    clip_key : str
        Its key for the stage.
    frame_numbers : tuple of int
        Numbers of the frames seen.
    stage, recipe : str, mapping
        Noted in the part, so that it can be told later whether it is still of use.

    Raises
    ------
    ShardError
        If the disk is full or fails.
    """
    disk.make_folder(path.parent)
    partial = files.partial_path(path)
    try:
        with new_hdf5(partial, target=path) as (file, check):
            file.attrs["stage"] = stage
            file.attrs["recipe"] = canonical_json(recipe)
            group = file.create_group(group_name(clip.clip_id))
            group.attrs["clip_id"] = clip.clip_id
            group.attrs["clip_key"] = clip_key
            group.attrs["source_digest"] = clip.source_digest
            writer = PartWriter(path, group, check)
            numbers = np.asarray(frame_numbers, np.int64)
            writer.write("frame_numbers", numbers, DatasetInfo("frames", "frame"))
            yield writer
        with files.explained(path):
            disk.replace(partial, path)
    finally:
        files.discard(partial)


def write_part(path: Path, result: ClipResult, *, stage: str, recipe: Mapping[str, Any]) -> None:
    """Write a result that is there as a whole as a part; see `part_writer`."""
    with part_writer(
        path,
        result.clip,
        clip_key=result.clip_key,
        frame_numbers=result.frame_numbers,
        stage=stage,
        recipe=recipe,
    ) as part:
        part.note(result.facts)
        for name, array in result.arrays.items():
            part.write(name, array, result.infos[name])
