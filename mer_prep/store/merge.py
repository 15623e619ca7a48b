"""Gathers the parts of a subject's clips into one shard, and publishes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py

from mer_prep import __version__
from mer_prep.config import canonical_json
from mer_prep.store import disk, files
from mer_prep.store.hdf5 import new_hdf5, open_hdf5
from mer_prep.store.readback import check_shard
from mer_prep.store.shard import SCHEMA, Failure, group_name


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
