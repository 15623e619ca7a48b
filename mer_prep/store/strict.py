"""Reading HDF5 objects from a file that anybody may have made.

HDF5 can point out of the file, in circles, at code to be loaded and at more bytes than there is
memory. A shard does none of this, so everything is refused but hard links, groups, plain numbers
that are all in the file, and attributes that are single texts, numbers or truth values.
"""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np

from mer_prep.errors import ShardError
from mer_prep.store.attributes import foreign
from mer_prep.store.blocks import StoredArray

#: Most bytes of a chunk, which is read as a whole.
MOST_CHUNK_BYTES = 2**28

_NUMBERS = (h5py.h5t.INTEGER, h5py.h5t.FLOAT)
_EXTENTS = (h5py.h5s.SIMPLE, h5py.h5s.SCALAR)
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}


def check_hard_link(group: h5py.Group, name: str, path: Path) -> None:
    """Refuse a member that is not there, or is reached by anything but a hard link.

    Even asking h5py whether a name is there follows its link, into another file if need be.
    """
    links = group.id.links
    if not links.exists(name.encode()):
        raise ShardError(
            f"{group.name!r} of the file holds no {name!r}; it has {sorted(group)!s:.200}.",
            where=path,
            hint="delete the file and run again to compute it again",
        )
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise foreign(f"The shard holds a link to somewhere else ({name!r}).", path)


def clip_group(file: h5py.File, name: str, path: Path) -> h5py.Group:
    """Return a group of the file's root.

    Raises
    ------
    ShardError
        If it is a link to somewhere else, or no group.
    """
    check_hard_link(file, name, path)
    group = file[name]
    if not isinstance(group, h5py.Group):
        raise foreign(f"{name!r} is not the group of a clip.", path)
    return group


def stored_array(group: h5py.Group, name: str, path: Path) -> StoredArray:
    """Return a dataset of a clip's group, to be read as it is indexed.

    Raises
    ------
    ShardError
        If it is not there, or not an array of numbers all of which are in the file.
    """
    check_hard_link(group, name, path)
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or not _is_plain(dataset):
        raise foreign(f"Dataset {group.name}/{name} is not a plain array of numbers.", path)
    _check_filters(dataset, path)
    if not _is_complete(dataset):
        raise foreign(f"Dataset {dataset.name} {dataset.shape} is not all in the file.", path)
    return StoredArray(dataset, path)


def _is_plain(dataset: h5py.Dataset) -> bool:
    form = dataset.id.get_type().get_class()
    try:
        numbers = form in _NUMBERS or dataset.dtype == np.bool_
    except TypeError:  # no NumPy type is like it
        return False
    simple = dataset.id.get_space().get_simple_extent_type() in _EXTENTS
    return simple and numbers and not dataset.is_virtual and not dataset.external


def _check_filters(dataset: h5py.Dataset, path: Path) -> None:
    # A filter that is not built in would be looked for among plugins, which are code.
    made = dataset.id.get_create_plist()
    filters = [made.get_filter(number) for number in range(made.get_nfilters())]
    others = [number for number, *_ in filters if number not in _FILTERS]
    if others:
        raise foreign(f"Dataset {dataset.name} is packed by the HDF5 filter {others[0]}.", path)


def _is_complete(dataset: h5py.Dataset) -> bool:
    """Return whether every value is in the file, in chunks that can be read."""
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size() >= size)
    if math.prod(dataset.chunks) * dataset.dtype.itemsize > MOST_CHUNK_BYTES:
        return False
    chunks = (-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    return bool(dataset.id.get_num_chunks() == math.prod(chunks))
