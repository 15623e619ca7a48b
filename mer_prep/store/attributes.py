"""Attributes of HDF5 objects: single texts, numbers and truth values, whoever made the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep.errors import ShardError

#: Most attributes of an object, and most bytes of one whose length its type states.
MOST_ATTRIBUTES = 1000
MOST_ATTRIBUTE_BYTES = 2**24

_SCALARS = (h5py.h5t.STRING, h5py.h5t.INTEGER, h5py.h5t.FLOAT)


def foreign(what: str, path: Path) -> ShardError:
    """Return the error for something that a shard never holds."""
    return ShardError(
        what,
        where=path,
        why="no shard of mer-prep does; the file was made or changed by something else",
        hint="do not use this file; delete it and run again to compute it anew",
    )


def read_attributes(holder: h5py.Group | h5py.Dataset, path: Path) -> dict[str, Any]:
    """Return the attributes of an object: texts, numbers and truth values.

    Raises
    ------
    ShardError
        If there are very many, or one is of another type, an array, or very long.
    """
    if len(holder.attrs) > MOST_ATTRIBUTES:
        raise foreign(f"{holder.name} has {len(holder.attrs)} attributes.", path)
    return {name: read_attribute(holder, name, path) for name in holder.attrs}


def read_attribute(holder: h5py.Group | h5py.Dataset, name: str, path: Path) -> Any:
    """Return one attribute of an object, as `read_attributes` does.

    Raises
    ------
    KeyError
        If it is not there.
    ShardError
        If it is no single text, number or truth value, or very long.
    """
    attribute = holder.attrs.get_id(name)
    if not _is_scalar(attribute):
        raise foreign(
            f"Attribute {name!r} of {holder.name} is no single text, number or truth value.", path
        )
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    plain = value.item()
    return plain.decode("utf-8", "surrogateescape") if isinstance(plain, bytes) else plain


def _is_scalar(attribute: h5py.h5a.AttrID) -> bool:
    return (
        attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
        and attribute.get_storage_size() <= MOST_ATTRIBUTE_BYTES
        and (attribute.get_type().get_class() in _SCALARS or attribute.dtype == np.bool_)
    )
