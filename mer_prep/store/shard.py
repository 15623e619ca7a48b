"""The shard: one HDF5 file of one stage and one subject, a group per clip.

Layout. Root attributes: ``schema``, ``stage``, ``stage_version``, ``params`` (JSON), ``recipe``
(JSON: parameters, versions and libraries of this stage and all before it), ``key``, ``requires``,
``corpus``, ``subject``, ``libraries``, ``created``, ``restricted``, ``synthetic``, ``datasets``
(JSON: the datasets of every clip), ``mer_prep``.
One group per clip, named as the clip, with attributes ``clip_id``, ``clip_key``,
``source_digest``, the key frames the stage depends on and its facts, the dataset
``frame_numbers`` and the stage's datasets; each dataset says ``units``, ``axes`` and
``channels``. A quarantined clip is a group without datasets, with attributes ``error``,
``message`` and ``failed_stage``.

Any HDF5 reader opens it: gzip, shuffle and Fletcher-32 checksums only, one frame a chunk.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mer_prep import __version__
from mer_prep.config import canonical_json, parse_json, parse_json_object
from mer_prep.errors import ShardAccessError, ShardError
from mer_prep.store import disk, files
from mer_prep.store.blocks import StoredArray
from mer_prep.store.hdf5 import new_hdf5

SCHEMA = 1

#: Said of every file that is not what a shard is.
_AGAIN = "delete the file and run again to recompute it"

#: Bytes that one stored byte may stand for; gzip gets to 1032 where all are zero.
_MOST_COMPRESSED = 1100


@dataclass(frozen=True)
class Failure:
    """Why a clip was quarantined."""

    clip_id: str
    stage: str
    error: str
    message: str
    clip_key: str = ""


@dataclass(frozen=True)
class ShardHeader:
    """What a shard says about itself: its root attributes and its clips.

    Parameters
    ----------
    clips : mapping of str to str
        Clip key by clip id, of clips with results.
    failures : tuple of Failure
        Quarantined clips.
    """

    path: Path
    stage: str
    stage_version: int
    key: str
    corpus: str
    subject: str
    params: Mapping[str, Any]
    recipe: Mapping[str, Any]
    requires: tuple[str, ...]
    created: str
    restricted: bool
    synthetic: bool
    datasets: frozenset[str]
    clips: Mapping[str, str]
    failures: tuple[Failure, ...]

    def holds(self, clip_id: str, clip_key: str) -> bool:
        """Return whether the shard has this very result or this very failure."""
        if self.clips.get(clip_id) == clip_key:
            return True
        return any(f.clip_id == clip_id and f.clip_key == clip_key for f in self.failures)


def group_name(clip_id: str) -> str:
    """Return the group of a clip: the part of its id after corpus and subject."""
    return clip_id.split("/", 2)[2].replace("/", "∕")


@dataclass(frozen=True)
class Header:
    """Root attributes of a shard to be written."""

    stage: str
    stage_version: int
    params: Mapping[str, Any]
    recipe: Mapping[str, Any]
    requires: Sequence[str]
    libraries: Mapping[str, str]
    corpus: str
    subject: str
    restricted: bool
    synthetic: bool
    datasets: Sequence[str]


def merge(
    target: Path,
    header: Header,
    key: str,
    parts: Mapping[str, Path],
    failures: Sequence[Failure],
) -> None:
    """Gather clips into one shard and publish it.

    Parameters
    ----------
    target : Path
        Where the shard appears. The caller holds its lock; what killed writers left unfinished of
        it is removed.
    header : Header
        Root attributes.
    key : str
        Key of the shard.
    parts : mapping of str to Path
        For every clip id the file that has its result: a part, or another shard.
    failures : sequence of Failure
        Quarantined clips.

    Raises
    ------
    ShardError
        If writing fails or what was written does not read back; nothing is published then.
    """
    disk.make_folder(target.parent)
    files.discard_unfinished(target)
    partial = files.partial_path(target)
    size = sum(path.stat().st_size for path in set(parts.values()))
    try:
        with files.explained(target, size):
            with new_hdf5(partial, target=target, needed=size) as (file, _):
                _write_header(file, header, key)
                for clip_id in sorted(parts):
                    name = group_name(clip_id)
                    with open_hdf5(parts[clip_id]) as source:
                        source.copy(source[name], file, name)
                for failure in sorted(failures, key=lambda f: f.clip_id):
                    group = file.create_group(group_name(failure.clip_id))
                    group.attrs["clip_id"] = failure.clip_id
                    group.attrs["clip_key"] = failure.clip_key
                    group.attrs["failed_stage"] = failure.stage
                    group.attrs["error"] = failure.error
                    group.attrs["message"] = failure.message
            check_shard(partial, clips=set(parts), key=key)
            files.publish(partial, target)
    finally:
        files.discard(partial)


def _write_header(file: h5py.File, header: Header, key: str) -> None:
    attrs = file.attrs
    attrs["schema"] = SCHEMA
    attrs["stage"] = header.stage
    attrs["stage_version"] = header.stage_version
    attrs["params"] = canonical_json(header.params)
    attrs["recipe"] = canonical_json(header.recipe)
    attrs["key"] = key
    attrs["requires"] = json.dumps(list(header.requires))
    attrs["libraries"] = canonical_json(header.libraries)
    attrs["corpus"] = header.corpus
    attrs["subject"] = header.subject
    attrs["restricted"] = header.restricted
    attrs["synthetic"] = header.synthetic
    attrs["datasets"] = json.dumps([*header.datasets, "frame_numbers"])
    attrs["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    attrs["mer_prep"] = __version__


def _open_to_read(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        # This process has it open already, with a lock: HDF5 then wants the same again.
        return h5py.File(path, "r")


@contextmanager
def reading(path: Path, what: str = "The shard") -> Iterator[None]:
    """Turn what the HDF5 library says of a damaged or foreign file into a `ShardError`."""
    try:
        yield
    except (
        *(KeyError, ValueError, TypeError, AttributeError, IndexError),
        *(RuntimeError, OSError, ArithmeticError, MemoryError),
    ) as error:
        raise ShardError(
            f"{what} is damaged, or no file of mer-prep: {error!s:.300}.", where=path, hint=_AGAIN
        ) from None


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a finished HDF5 file for reading.

    Finished files never change, so no lock is asked of the file system; network disks that
    refuse locks are no obstacle.

    Raises
    ------
    ShardAccessError
        If the operating system refuses it: by permissions, or by a lock that HDF5 insists on.
    ShardError
        If the file is missing or no whole HDF5 file.
    """
    try:
        file = _open_to_read(path)
    except OSError as error:
        if _is_refusal(error):
            raise ShardAccessError(
                f"The shard cannot be opened: {error}.",
                where=path,
                why="it is not damaged by that, and is not made again",
                hint="check its permissions; where locks are refused, as on network disks, "
                "`export HDF5_USE_FILE_LOCKING=FALSE`, or take a --workspace on a local disk",
            ) from None
        what = "is missing" if not path.exists() else f"cannot be opened: {error}"
        raise ShardError(
            f"The shard {what}.",
            where=path,
            hint="`mer-prep verify` lists damaged shards; delete it and run again to recompute",
        ) from None
    with file:
        yield file


#: Permissions (EPERM, EACCES); locks that are held (EAGAIN) or not to be had (ENOLCK, ENOTSUPP).
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EAGAIN, errno.ENOLCK, 524)


def _is_refusal(error: OSError) -> bool:
    """Return whether a file was refused, whatever is in it; HDF5 may name the cause in words."""
    return error.errno in _REFUSALS or any(
        f"errno = {number}," in str(error) for number in _REFUSALS
    )


def read_header(path: Path) -> ShardHeader:
    """Read what a shard says about itself.

    Raises
    ------
    ShardError
        If it is damaged, of another schema, or holds what a shard never holds (links, other
        types).
    """
    with open_hdf5(path) as file, reading(path):
        schema = int(file.attrs["schema"])
        if schema != SCHEMA:
            raise ShardError(
                f"The shard has schema {schema}; this mer-prep reads schema {SCHEMA}.",
                where=path,
                hint="update mer-prep" if schema > SCHEMA else "compute it again",
            )
        clips: dict[str, str] = {}
        failures = []
        for name in file:
            check_hard_link(file, name, path)
            attrs = file[name].attrs
            if group_name(str(attrs["clip_id"])) != name:
                raise ValueError(f"the group {name!r} is of another clip")
            if "error" in attrs:
                failures.append(
                    Failure(
                        clip_id=str(attrs["clip_id"]),
                        stage=str(attrs["failed_stage"]),
                        error=str(attrs["error"]),
                        message=str(attrs["message"]),
                        clip_key=str(attrs["clip_key"]),
                    )
                )
            else:
                clips[str(attrs["clip_id"])] = str(attrs["clip_key"])
        attrs = file.attrs
        return ShardHeader(
            path=path,
            stage=str(attrs["stage"]),
            stage_version=int(attrs["stage_version"]),
            key=str(attrs["key"]),
            corpus=str(attrs["corpus"]),
            subject=str(attrs["subject"]),
            params=parse_json_object(attrs["params"]),
            recipe=check_recipe(parse_json_object(attrs["recipe"])),
            requires=_texts(attrs["requires"]),
            created=str(attrs["created"]),
            restricted=bool(attrs["restricted"]),
            synthetic=bool(attrs["synthetic"]),
            datasets=frozenset(_texts(attrs["datasets"])),
            clips=clips,
            failures=tuple(failures),
        )


def read_part_header(path: Path) -> tuple[str, str, str, Mapping[str, Any]]:
    """Return (stage, clip id, clip key, recipe) of a part.

    Raises
    ------
    ShardError
        If it is damaged.
    """
    with open_hdf5(path) as file, reading(path, "The part"):
        (name,) = file
        check_hard_link(file, name, path)
        attrs = file[name].attrs
        recipe = check_recipe(parse_json_object(file.attrs["recipe"]))
        return str(file.attrs["stage"]), str(attrs["clip_id"]), str(attrs["clip_key"]), recipe


def clip_image(path: Path, clip_id: str) -> bytes:
    """Return one clip of a shard or part as the bytes of an HDF5 file of its own.

    Raises
    ------
    ShardError
        If the file is damaged or has no such clip.
    """
    name = group_name(clip_id)
    with open_hdf5(path) as source, reading(path):
        check_hard_link(source, name, path)
        with h5py.File(str(path), "w", driver="core", backing_store=False) as file:
            source.copy(source[name], file, name)
            file.flush()
            return bytes(file.id.get_file_image())


def check_recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe, whose stages all have parameters; else `KeyError` or `TypeError`."""
    if not isinstance(recipe["source"], dict) or not all(
        isinstance(one["params"], dict) for one in recipe["stages"].values()
    ):
        raise TypeError("the recipe has another form")
    return recipe


def _texts(text: str) -> tuple[str, ...]:
    values = parse_json(text)
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TypeError(f"{values!r:.60} is no list of texts")
    return tuple(values)


def check_hard_link(group: h5py.Group, name: str, path: Path) -> None:
    """Raise `ShardError` unless a group holds something of a name itself, before it is opened.

    Even asking h5py whether a name is there follows its link, into another file if need be.
    """
    links = group.id.links
    if not links.exists(name.encode()):
        raise ShardError(
            f"{group.name!r} of the file holds no {name!r}; it has {sorted(group)!s:.200}.",
            where=path,
            hint=_AGAIN,
        )
    if links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ShardError(
            f"The shard holds a link to somewhere else ({name!r}).",
            where=path,
            why="a shard never does; following it could read other files",
            hint="do not use this file",
        )


@contextmanager
def open_clip(
    path: Path, clip_id: str, names: Sequence[str] | None = None
) -> Iterator[tuple[dict[str, StoredArray], dict[str, Any]]]:
    """Open one clip of a shard or part, to read of its datasets what is needed.

    Parameters
    ----------
    path : Path
        The file; it stays open within the context.
    clip_id : str
        The clip.
    names : sequence of str, optional
        Datasets wanted; all if None.

    Yields
    ------
    arrays : dict of str to StoredArray
        Datasets by name.
    attributes : dict
        Attributes of the clip's group.

    Raises
    ------
    ShardError
        If the clip or a dataset is not there, was quarantined, or holds what a shard never holds;
        while it is read, if a checksum is wrong.
    """
    with open_hdf5(path) as file:
        with reading(path):
            if not file.id.links.exists(group_name(clip_id).encode()):
                raise ShardError(f"The shard has no clip {clip_id}.", where=path, hint=_AGAIN)
            check_hard_link(file, group_name(clip_id), path)
            group = file[group_name(clip_id)]
            attributes = {name: _plain(value) for name, value in group.attrs.items()}
            if "error" in attributes:
                raise ShardError(
                    f"Clip {clip_id} was quarantined: {attributes['message']}",
                    where=path,
                    hint="correct what is wrong with the clip, then run again",
                )
            wanted = group if names is None else names
            arrays = {name: _stored_array(group, name, path) for name in wanted}
        yield arrays, attributes


def read_clip(
    path: Path, clip_id: str, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read one clip of a shard or part as a whole; long clips are better read by `open_clip`.

    Parameters
    ----------
    path, clip_id, names
        As for `open_clip`.

    Returns
    -------
    arrays : dict of str to ndarray
        Datasets by name.
    attributes : dict
        Attributes of the clip's group.

    Raises
    ------
    ShardError
        If the clip is not there, was quarantined, or its checksum is wrong.
    """
    with open_clip(path, clip_id, names) as (arrays, attributes):
        return {name: array.whole() for name, array in arrays.items()}, attributes


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _stored_array(group: h5py.Group, name: str, path: Path) -> StoredArray:
    check_hard_link(group, name, path)
    dataset = group[name]
    if (
        not isinstance(dataset, h5py.Dataset)
        or dataset.dtype.kind not in "biuf"
        or dataset.is_virtual
        or dataset.external
    ):
        raise ShardError(
            f"Dataset {group.name}/{name} is not a plain array of numbers.",
            where=path,
            hint="do not use this file",
        )
    _check_stored(dataset, path)
    return StoredArray(dataset, path)


def _check_stored(dataset: h5py.Dataset, path: Path) -> None:
    """Raise `ShardError` if a dataset claims more than its bytes in the file can be."""
    stored = min(dataset.id.get_storage_size(), path.stat().st_size)
    claimed = dataset.size
    if dataset.chunks is not None:
        # A chunk is unpacked as a whole, even where the dataset ends within it.
        claimed = max(claimed, math.prod(dataset.chunks))
    if claimed * dataset.dtype.itemsize > _MOST_COMPRESSED * stored:
        raise ShardError(
            f"Dataset {dataset.name} claims to be {dataset.dtype} {dataset.shape}, of which "
            f"{stored:,} bytes are stored.",
            where=path,
            why="reading it would take any amount of memory or time",
            hint=_AGAIN,
        )


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
    header = read_header(path)
    if key is not None and header.key != key:
        raise ShardError(
            f"The shard states key {header.key[:16]}, not {key[:16]}.", where=path, hint=_AGAIN
        )
    if clips is not None and set(header.clips) != clips:
        differing = sorted(set(header.clips) ^ clips)
        raise ShardError(
            f"The shard's clips differ: {', '.join(differing[:5])}.", where=path, hint=_AGAIN
        )
    if path.parent.name != header.key[:16]:
        raise ShardError(
            f"The shard of key {header.key[:16]} lies in folder {path.parent.name}.",
            where=path,
            hint="delete the file and run again",
        )
    for clip_id in header.clips:
        check_clip(path, clip_id, datasets=header.datasets)


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
    with open_clip(path, clip_id) as (arrays, _):
        if datasets is not None and arrays.keys() != datasets:
            names = ", ".join(sorted(arrays.keys() ^ datasets))
            raise ShardError(f"The datasets of {clip_id} differ: {names}.", where=path, hint=_AGAIN)
        numbers = arrays.get("frame_numbers")
        frames = len(numbers) if numbers is not None and numbers.ndim == 1 else 0
        for name, array in arrays.items():
            bad = sum(np.count_nonzero(~np.isfinite(block)) for block in array.blocks())
            if bad:
                raise ShardError(
                    f"Dataset {name} of {clip_id} holds {bad} values that are not finite.",
                    where=path,
                    hint=_AGAIN,
                )
            if frames == 0 or math.prod(array.shape) == 0:
                raise ShardError(f"Dataset {name} of {clip_id} is empty.", where=path, hint=_AGAIN)
