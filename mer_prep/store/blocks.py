"""Arrays that are too long to be held: given block by block, and read back in stretches.

A clip may have any number of frames. What is computed for each of them is therefore never held as
a whole: a stage gives it as `Blocks`, and whoever needs it reads it from its file as a
`StoredArray`, a few frames at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep.errors import MerPrepError, ShardError
from mer_prep.store.attributes import read_attributes

#: Bytes of an array that are in hand at a time when it is read or checked block by block.
BLOCK_BYTES = 2 * 2**20


def block_rows(shape: tuple[int, ...], dtype: np.dtype | type, *, limit: int = BLOCK_BYTES) -> int:
    """Return how many rows make a block: as many as the limit holds, at least 1.

    Parameters
    ----------
    shape : tuple of int
        Shape of the whole array; rows run along the first axis.
    dtype : dtype
        Its type.
    limit : int
        Bytes of a block.
    """
    row = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    return max(1, limit // max(1, row))


class Blocks:
    """An array that is given block by block along its first axis, once and in order.

    Parameters
    ----------
    shape : tuple of int
        Shape of the whole array.
    dtype : dtype
        Its type.
    blocks : iterator of ndarray, shape (B, ...)
        Its rows in order, any number B of them at a time. What it raises comes through.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype | type | str, blocks: Iterator[np.ndarray]
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._blocks = blocks

    def __iter__(self) -> Iterator[np.ndarray]:
        given = 0
        for block in self._blocks:
            if block.shape[1:] != self.shape[1:] or block.dtype != self.dtype:
                raise MerPrepError(
                    f"A block is {block.dtype} {block.shape}, of an array {self.dtype} "
                    f"{self.shape}."
                )
            given += len(block)
            yield block
        if given != self.shape[0]:
            raise MerPrepError(f"{given} rows were given of an array {self.shape}.")

    def whole(self) -> np.ndarray:
        """Return the array as a whole, for arrays that are known to be short."""
        array = np.empty(self.shape, self.dtype)
        start = 0
        for block in self:
            array[start : start + len(block)] = block
            start += len(block)
        return array


class StoredArray:
    """An array in an open file; what is indexed is read, nothing else.

    It has the shape, type, length, indexing and iteration of an ndarray, and becomes one by
    `numpy.asarray` or `whole`. Checksums are verified as it is read.

    Parameters
    ----------
    dataset : h5py.Dataset
        The dataset; its file stays open as long as the array is used.
    path : Path
        The file, for messages.
    """

    def __init__(self, dataset: h5py.Dataset, path: Path) -> None:
        self._dataset = dataset
        self._path = path
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype = dataset.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def attributes(self) -> dict[str, Any]:
        """Return what the file says of the array: its ``units``, ``axes`` and ``channels``."""
        return read_attributes(self._dataset, self._path)

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._dataset[index]
        except (OSError, RuntimeError, MemoryError) as error:
            raise ShardError(
                f"Dataset {self._dataset.name} is damaged: {error}.",
                where=self._path,
                hint="delete the shard and run again to recompute it",
            ) from None

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks():
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole(), dtype)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the array in stretches of its first axis, of `BLOCK_BYTES` at most."""
        if self.ndim == 0:
            yield self.whole()
            return
        rows = block_rows(self.shape, self.dtype)
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def whole(self) -> np.ndarray:
        """Return the array as a whole."""
        array: np.ndarray = self[...]
        return array
