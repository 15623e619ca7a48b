"""Readers of shards, parts, indexes, lists of failures and locks."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.config import canonical_json
from mer_prep.errors import ShardError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import stat_signature
from mer_prep.sources.index import current_digests
from mer_prep.stages.failures import read_failures, record_failures
from mer_prep.stages.plan import Recipe
from mer_prep.stages.summary import RunSummary
from mer_prep.stages.survey import describe_shard, survey, unneeded
from mer_prep.store.lock import Lock, Owner, Watch, current_owner
from mer_prep.store.merge import Header, merge
from mer_prep.store.part import ClipResult, DatasetInfo, write_part
from mer_prep.store.readback import check_clip, check_shard
from mer_prep.store.shard import Failure, clip_image, read_clip, read_header, read_part_header
from mer_prep.store.verified import Verified
from mer_prep.workspace import Workspace
from tests.fuzz.binaries import broken_hdf5
from tests.fuzz.documents import broken_json, broken_lines
from tests.fuzz.engine import Reader
from tests.fuzz.readers.records import clips

_KEY = "0123456789abcdef" * 4
_RECIPE = {"source": {"frames": "all"}, "stages": {"flow": {"params": {}}}}
_SHARD = f"cache/flow/{_KEY[:16]}/toy--s1.h5"


def _make_part(folder: Path) -> None:
    clip = clips()[0]
    flow = np.arange(2 * 2 * 24 * 24, dtype=np.float32).reshape(2, 2, 24, 24)
    result = ClipResult(
        clip=clip,
        clip_key="c" * 64,
        frame_numbers=clip.frame_numbers,
        arrays={"flow": flow, "pairs": np.array([[0, 1], [0, 2]])},
        infos={
            "flow": DatasetInfo("px", "pair channel y x", "u v", "a note"),
            "pairs": DatasetInfo("", "pair index"),
        },
        facts={"method": "tvl1", "mean": 0.5},
    )
    write_part(folder / "part.h5", result, stage="flow", recipe=_RECIPE)


def _make_shard(folder: Path) -> None:
    _make_part(folder)
    header = Header(
        stage="flow",
        stage_version=3,
        params={"method": "tvl1"},
        recipe=_RECIPE,
        requires=("align",),
        libraries={"numpy": "2"},
        corpus="toy",
        subject="s1",
        restricted=True,
        synthetic=False,
        datasets=("flow", "pairs"),
    )
    failure = Failure("toy/s1/b", "align", "NoFaceError", "There is no face.", "f" * 64)
    merge(folder / _SHARD, header, _KEY, {"toy/s1/a": folder / "part.h5"}, [failure])


def _read_shard(folder: Path) -> None:
    path = folder / _SHARD
    survey(Workspace(folder))
    unneeded(Workspace(folder))
    header = read_header(path)
    describe_shard(path)
    assert isinstance(header.recipe, dict)
    assert isinstance(header.params, dict)
    assert all(isinstance(name, str) for name in (*header.requires, *header.datasets))
    hash(header.requires)
    canonical_json(header.recipe)
    check_shard(path)
    for clip_id in header.clips:
        arrays, attributes = read_clip(path, clip_id)
        assert all(np.isfinite(array).all() for array in arrays.values())
        assert clip_image(path, clip_id)
        assert attributes


def _read_part(folder: Path) -> None:
    path = folder / "part.h5"
    stage, clip_id, _, recipe = read_part_header(path)
    assert isinstance(stage, str)
    assert isinstance(recipe, dict)
    check_clip(path, clip_id)
    assert clip_image(path, clip_id)


def _make_verified(folder: Path) -> None:
    _make_shard(folder)
    record = Verified(folder / "cache")
    record.check(folder / _SHARD)
    record.save()


def _read_verified(folder: Path) -> None:
    whole = folder / _SHARD
    record = Verified(folder / "cache")
    record.check(whole)
    torn = whole.with_name("toy--s2.h5")
    torn.write_bytes(whole.read_bytes()[:-100])
    # Whatever the index says of others, a shard that it does not know is read.
    with contextlib.suppress(ShardError):
        record.check(torn)
        raise AssertionError("a torn shard passed")
    record.note(whole)
    record.save()
    assert Verified(folder / "cache")._known.get(_SHARD.removeprefix("cache/"))


def _sourced(folder: Path) -> Clip:
    clip = clips()[0]
    return dataclasses.replace(clip, root=str(folder / "source"))


def _make_index(folder: Path) -> None:
    clip = _sourced(folder)
    before = time.time() - 60
    for relative in clip.frames:
        path = Path(clip.root, relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a frame")
        os.utime(path, (before, before))
    entries = {clip.clip_id: [stat_signature(clip), "0" * 64], "toy/s1/gone": ["1", "2"]}
    (folder / "sources.json").write_text(json.dumps(entries))


def _read_index(folder: Path) -> None:
    clip = _sourced(folder)
    found = current_digests([clip], folder / "sources.json")
    assert found.keys() == {clip.clip_id}
    assert isinstance(found[clip.clip_id], str)
    assert found[clip.clip_id]


def _make_failures(folder: Path) -> None:
    lines = [
        {
            **dataclasses.asdict(Failure(f"toy/s1/{name}", "align", "NoFaceError", "None.", "f")),
            "in_stage": "flow",
            "settings": "{}",
        }
        for name in ("a", "b")
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "failures.jsonl").write_text(text)


def _read_failures(folder: Path) -> None:
    workspace = Workspace(folder)
    survey(workspace)
    for entry in read_failures(workspace.failures):
        assert isinstance(entry, dict)
    record_failures(workspace, [], Recipe(None, {}), RunSummary())  # type: ignore[arg-type]
    assert isinstance(read_failures(workspace.failures), list)


def _make_lock(folder: Path) -> None:
    here = dataclasses.asdict(current_owner())
    (folder / "shard.h5.lock").write_text(json.dumps(here | {"host": "elsewhere"}))
    # So that a reader that passes is one that waits for a run elsewhere.
    (folder / "dead.json").write_text(json.dumps(here | {"process_start": "long ago"}))


def _read_lock(folder: Path) -> None:
    alive = Watch().alive([folder / "shard.h5.lock"])
    assert all(isinstance(owner, Owner) for owner in alive)
    document = (folder / "shard.h5.lock").read_bytes()
    with contextlib.suppress(FileNotFoundError):
        lock = Lock(folder / "shard.h5")
        try:
            with lock:
                pass
        finally:
            (folder / "shard.h5.lock").write_bytes(document)


def _make_dead_lock(folder: Path) -> None:
    _make_lock(folder)
    (folder / "shard.h5.lock").write_bytes((folder / "dead.json").read_bytes())


READERS: tuple[Any, ...] = (
    Reader("shard", _SHARD, _make_shard, _read_shard, broken_hdf5, examples=50),
    Reader("part", "part.h5", _make_part, _read_part, broken_hdf5),
    Reader("verified", "cache/.verified.json", _make_verified, _read_verified, broken_json),
    Reader("source-index", "sources.json", _make_index, _read_index, broken_json),
    Reader("failures", "failures.jsonl", _make_failures, _read_failures, broken_lines),
    Reader("lock", "shard.h5.lock", _make_dead_lock, _read_lock, broken_json, examples=40),
)
