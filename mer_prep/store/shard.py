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

Any HDF5 reader opens it: gzip, shuffle and Fletcher-32 checksums only, one frame a chunk. Behind
what HDF5 knows of lies the seal, see `mer_prep.store.seal`.
"""

from __future__ import annotations

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
from mer_prep.config import canonical_json
from mer_prep.errors import ShardError
from mer_prep.store import disk, files
from mer_prep.store.attributes import foreign, read_attribute, read_attributes
from mer_prep.store.blocks import StoredArray
from mer_prep.store.hdf5 import AGAIN, as_shard_error, new_hdf5, open_hdf5
from mer_prep.store.strict import clip_group, stored_array

#: 2 since every file is sealed; what 1 holds is the same.
SCHEMA = 2
_READ_SCHEMAS = (1, 2)


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
    libraries: Mapping[str, str]
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


def read_header(path: Path) -> ShardHeader:
    """Read what a shard says about itself.

    Raises
    ------
    ShardError
        If it is damaged, of another schema, or holds what a shard never holds (links, other
        types).
    """
    with open_hdf5(path) as file:
        return _header_of(file, path)


def _header_of(file: h5py.File, path: Path) -> ShardHeader:
    """Return what an open shard says about itself; see `read_header`."""
    with as_shard_error(path):
        attrs = read_attributes(file, path)
        _check_schema(attrs, path)
        clips: dict[str, str] = {}
        failures = []
        for name in file:
            group = clip_group(file, name, path)
            clip_id = str(read_attribute(group, "clip_id", path))
            if group_name(clip_id) != name:
                raise foreign(f"Group {name!r} says that it is clip {clip_id}.", path)
            if "error" in group.attrs:
                of_clip = read_attributes(group, path)
                failures.append(
                    Failure(
                        clip_id=clip_id,
                        stage=str(of_clip["failed_stage"]),
                        error=str(of_clip["error"]),
                        message=str(of_clip["message"]),
                        clip_key=str(of_clip["clip_key"]),
                    )
                )
            else:
                clips[clip_id] = str(read_attribute(group, "clip_key", path))
        return ShardHeader(
            path=path,
            stage=str(attrs["stage"]),
            stage_version=int(attrs["stage_version"]),
            key=str(attrs["key"]),
            corpus=str(attrs["corpus"]),
            subject=str(attrs["subject"]),
            params=_mapping(json.loads(attrs["params"])),
            recipe=parse_recipe(attrs["recipe"]),
            requires=tuple(_names(attrs["requires"])),
            libraries=_mapping(json.loads(attrs["libraries"])),
            created=str(attrs["created"]),
            restricted=bool(attrs["restricted"]),
            synthetic=bool(attrs["synthetic"]),
            datasets=frozenset(_names(attrs["datasets"])),
            clips=clips,
            failures=tuple(failures),
        )


class NewerShardError(ShardError):
    """A shard is of a newer mer-prep: it may be whole, and is neither used nor replaced."""


def _check_schema(attributes: Mapping[str, Any], path: Path) -> None:
    schema = int(attributes["schema"])
    if schema in _READ_SCHEMAS:
        return
    readable = " and ".join(str(one) for one in _READ_SCHEMAS)
    what = f"The shard has schema {schema}; this mer-prep, {__version__}, reads {readable}."
    if schema > SCHEMA:
        raise NewerShardError(
            what,
            where=path,
            why=f"it was made by mer-prep {attributes.get('mer_prep', 'of a later version')}",
            hint="update mer-prep, or choose another --workspace",
        )
    raise ShardError(what, where=path, hint=AGAIN)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{str(value)[:40]} where names and values belong")
    return value


def _names(text: str) -> list[str]:
    names = json.loads(text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{text[:40]} where a list of names belongs")
    return names


def parse_recipe(text: str) -> dict[str, Any]:
    """Return the recipe that a JSON text holds; else `ValueError`, `KeyError` or `TypeError`."""
    recipe = {"source": {}, "stages": {}, **_mapping(json.loads(text))}
    _mapping(recipe["source"])
    for stage in _mapping(recipe["stages"]).values():
        _mapping(_mapping(stage)["params"])
        _mapping(stage.get("libraries", {}))
        _mapping(stage.get("identity", {}))
    return recipe


def read_part_header(path: Path) -> tuple[str, str, str, Mapping[str, Any]]:
    """Return (stage, clip id, clip key, recipe) of a part.

    Raises
    ------
    ShardError
        If it is damaged.
    """
    with open_hdf5(path) as file, as_shard_error(path):
        (name,) = file
        attrs = read_attributes(clip_group(file, name, path), path)
        of_part = read_attributes(file, path)
        recipe = parse_recipe(of_part["recipe"])
        return str(of_part["stage"]), str(attrs["clip_id"]), str(attrs["clip_key"]), recipe


def clip_image(path: Path, clip_id: str) -> bytes:
    """Return one clip of a shard or part as the bytes of an HDF5 file of its own.

    Raises
    ------
    ShardError
        If the file is damaged or has no such clip.
    """
    with open_hdf5(path) as source, as_shard_error(path):
        group, _ = _clip(source, clip_id, path)
        for name in group:
            stored_array(group, name, path)
        with h5py.File(str(path), "w", driver="core", backing_store=False) as file:
            source.copy(group, file, group_name(clip_id))
            file.flush()
            return bytes(file.id.get_file_image())


def _clip(file: h5py.File, clip_id: str, path: Path) -> tuple[h5py.Group, dict[str, Any]]:
    """Return the group of a clip that has a result, and its attributes."""
    name = group_name(clip_id)
    if name not in file.keys():  # noqa: SIM118 - by its link, which is not followed
        raise ShardError(
            f"The shard has no clip {clip_id}.",
            where=path,
            hint="`mer-prep inspect SHARD` lists its clips",
        )
    group = clip_group(file, name, path)
    attributes = read_attributes(group, path)
    if "error" in attributes:
        raise ShardError(
            f"Clip {clip_id} was quarantined: {attributes['message']}",
            where=path,
            hint="`mer-prep status --failed` says more; leave the clip out, or mend it",
        )
    if attributes.get("clip_id", clip_id) != clip_id:
        raise foreign(f"The group of {clip_id} is that of another clip.", path)
    return group, attributes


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
        yield _opened_clip(file, path, clip_id, names)


def _opened_clip(
    file: h5py.File, path: Path, clip_id: str, names: Sequence[str] | None
) -> tuple[dict[str, StoredArray], dict[str, Any]]:
    """Return datasets and attributes of a clip of an open file; see `open_clip`."""
    with as_shard_error(path):
        group, attributes = _clip(file, clip_id, path)
        wanted = group if names is None else names
        return {name: stored_array(group, name, path) for name in wanted}, attributes


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
    with open_clip(path, clip_id, names) as (arrays, attributes), as_shard_error(path):
        return {name: array.whole() for name, array in arrays.items()}, attributes


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
    header = _header_of(file, path)
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
    arrays, _ = _opened_clip(file, path, clip_id, None)
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
