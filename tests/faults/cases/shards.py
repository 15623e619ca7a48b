"""Published shards that are damaged on the disk, or of another schema."""

from __future__ import annotations

import itertools
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mer_prep.errors import ShardError
from mer_prep.store.cache import Cache
from mer_prep.store.readback import check_shard
from mer_prep.store.shard import NewerShardError, group_name, open_clip, read_clip, read_header
from mer_prep.workspace import Workspace
from tests.faults.cases import keys
from tests.faults.catalogue import (
    Tries,
    damaged,
    fault,
    in_process,
    instead,
    nothing,
    program,
    refused,
)
from tests.shards import CLIP, changing, small_shard, strip_seal

#: Whether HDF5 keeps checksums of the values; without them is without a protection.
CHECKED = True

#: Seconds and bytes of memory that a try may take.
LONGEST = 10.0
MOST_MEMORY = 4 * 2**30

_BATCH = 400


def everything(path: Path) -> tuple[Any, ...]:
    """Return all that the store says of a shard and its clip, once it is found whole."""
    header = read_header(path)
    check_shard(path)
    arrays, attributes = read_clip(path, CLIP)
    seen = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}
    facts = {name: value for name, value in vars(header).items() if name != "path"}
    return facts, seen, attributes


def clip_alone(path: Path) -> tuple[Any, ...]:
    """Return what training reads of a clip, which is not the whole file."""
    with open_clip(path, CLIP, ["flow"]) as (arrays, attributes):
        return arrays["flow"].shape, arrays["flow"].whole().tobytes(), attributes


def stands(path: Path, read: Callable[[Path], object], whole: object) -> None:
    """See that a damaged shard gives what was published, or one error that says what to do."""
    try:
        found = read(path)
    except ShardError as error:
        problem = "" if error.where == str(path) and error.hint else f"says little: {error}"
    else:
        problem = "" if found == whole else "other values"
    assert not problem, problem


def in_batches(tries: Iterator[bytes], path: Path, attempt: Callable[[], None]) -> None:
    """Try each content of a file in forked processes, where HDF5 may crash, hang or fill memory."""
    note = path.with_name("tried")

    def work() -> int:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        for number, data in enumerate(batch):
            note.write_text(str(number), encoding="utf-8")
            path.write_bytes(data)
            signal.setitimer(signal.ITIMER_REAL, LONGEST)
            attempt()
        return 0

    start = 0
    while batch := list(itertools.islice(tries, _BATCH)):
        code = in_process(work)
        assert code == 0, f"exit {code} at try {start + int(note.read_text(encoding='utf-8'))}"
        start += len(batch)


@fault(
    26,
    "a bit flipped, or the end missing, anywhere in a published shard",
    without={
        "the checksums of the blocks": instead("mer_prep.store.seal.checksum", lambda data: 0),
        "the seal itself": instead("mer_prep.store.hdf5.open_sealed", nothing),
    },
)
def damaged_shards(tries: Tries) -> None:
    path = small_shard(tries.fresh())
    whole, alone = everything(path), clip_alone(path)
    changes = tries.of(damaged(path.read_bytes()), quick=100)

    def attempt() -> None:
        stands(path, clip_alone, alone)
        stands(path, everything, whole)

    in_batches(changes, path, attempt)


@fault(
    26,
    "changed bytes among the values of a shard from before shards were sealed",
    without={"the checksums of HDF5": instead("tests.faults.cases.shards.CHECKED", False)},
)
def damaged_values(tries: Tries) -> None:
    path = small_shard(tries.fresh())
    with changing(path, sealed=False) as file:
        file.attrs["schema"] = 1
        group = file[group_name(CLIP)]
        flow = group["flow"][...]
        if not CHECKED:
            about = dict(group["flow"].attrs)
            del group["flow"]
            group.create_dataset("flow", data=flow, chunks=(1, *flow.shape[1:]), shuffle=True)
            group["flow"].attrs.update(about)
        chunks = [group["flow"].id.get_chunk_info(number) for number in range(len(flow))]
    whole = everything(path)
    data = path.read_bytes()
    places = [at for one in chunks for at in range(one.byte_offset, one.byte_offset + one.size)]

    def damages() -> Iterator[bytes]:
        for place in tries.of(places, quick=50):
            changed = bytearray(data)
            changed[place] ^= 1 << place % 8
            yield bytes(changed)

    def attempt() -> None:
        with refused(ShardError, "flow is damaged", path.name):
            check_shard(path)
        stands(path, everything, whole)

    in_batches(damages(), path, attempt)


@fault(
    26,
    "damaged shards in a workspace: verify lists them all, a run makes them again",
    without={
        "reading all back when asked": instead("mer_prep.store.readback.check_shard", nothing),
    },
)
def damaged_workspace(tries: Tries) -> None:
    clips = keys.corpus(tries.fresh())
    workspace = Workspace(tries.fresh())
    keys.store(workspace, clips)
    keys.run(workspace, keys.recipe())
    whole = keys.contents(workspace)
    shards = Cache(workspace.cache).shards()
    some = [
        shards[number : number + count] for count in (1, 2, 6) for number in range(6 - count + 1)
    ]
    for chosen in tries.of(some, quick=2):
        kept = {path: path.read_bytes() for path in shards}
        for number, path in enumerate(chosen):
            changed = bytearray(kept[path])
            changed[-40 - number] ^= 4
            path.write_bytes(changed if number % 2 == 0 else changed[:-1000])
        said = program("verify", "--workspace", workspace.root, code=1)
        assert all(str(path) in said.out for path in chosen), said
        assert f"6 shards, {len(chosen)} damaged" in said.out, said
        assert keys.missing(workspace) == set(chosen)
        keys.run(workspace, keys.recipe())
        assert keys.contents(workspace) == whole
        for path in set(shards) - set(chosen):
            assert path.read_bytes() == kept[path], f"{path} was written again"
        program("verify", "--workspace", workspace.root, code=0)


@fault(
    17,
    "a link in a cache that leads to another cache: nothing there is removed",
    without={
        "telling what the cache itself holds": instead(
            "mer_prep.store.cache.Cache.holds", lambda *_: True
        ),
    },
)
def linked_caches(tries: Tries) -> None:
    theirs = Workspace(tries.fresh())
    keys.store(theirs, keys.corpus(tries.fresh()))
    keys.run(theirs, keys.recipe())
    shards = Cache(theirs.cache).shards()
    stage = shards[0].parent.parent
    links = {
        "a stage": (Path(stage.name), stage),
        "a key": (Path(stage.name, shards[0].parent.name), shards[0].parent),
    }
    for name, is_damaged in tries.of(itertools.product(links, (False, True))):
        ours = Workspace(tries.fresh())
        link, target = links[name]
        (ours.cache / link).parent.mkdir(parents=True)
        (ours.cache / link).symlink_to(target, target_is_directory=True)
        whole = shards[0].read_bytes()
        if is_damaged:
            shards[0].write_bytes(whole[:-9])
        before = {path: path.read_bytes() for path in shards}
        at = ("--workspace", ours.root)
        said = program("verify", "--remove-damaged", *at, code=1 if is_damaged else 0)
        assert ("1 left, since a link in the cache leads" in said.err) == is_damaged, said.err
        program("gc", "--yes", *at, code=0)
        assert {path: path.read_bytes() for path in shards if path.exists()} == before
        shards[0].write_bytes(whole)


# Other schemas.


def _stated(schema: int, *, sealed: bool) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with changing(path, sealed=sealed) as file:
            file.attrs["schema"] = schema

    return change


def _undescribed(name: str, attribute: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with changing(path) as file:
            del file[group_name(CLIP)][name].attrs[attribute]

    return change


@fault(
    32,
    "shards of another schema, or that do not say what their numbers mean",
    without={
        "the check of the schema": instead("mer_prep.store.shard._check_schema", nothing),
        "the demand of a seal": instead("mer_prep.store.hdf5.SEALED_SCHEMAS", ()),
        "the demand of units and axes": instead(
            "mer_prep.store.readback._check_described", nothing
        ),
    },
)
def other_schemas(tries: Tries) -> None:
    newer = {
        f"schema {schema}; this mer-prep": _stated(schema, sealed=sealed)
        for schema in (3, 4, 99, 2**40)
        for sealed in (True, False)
    }
    older = {f"schema {schema}; this mer-prep": _stated(schema, sealed=True) for schema in (0, -1)}
    others = {
        "checksums at the end of the shard are gone": strip_seal,
        "flow of toy/sub01/EP01_01 has no units or axes": _undescribed("flow", "units"),
        "pairs of toy/sub01/EP01_01 has no units or axes": _undescribed("pairs", "axes"),
        "frame_numbers of toy/sub01/EP01_01 has no units": _undescribed("frame_numbers", "units"),
    }
    for words, change in tries.of({**newer, **older, **others}.items(), quick=99):
        path = small_shard(tries.fresh())
        change(path)
        kind = NewerShardError if words in newer else ShardError
        with refused(kind, words, "update mer-prep" if words in newer else "run again"):
            check_shard(path)


@fault(
    32,
    "a shard from before shards were sealed gives what it always gave",
    without={"reading schema 1": instead("mer_prep.store.shard._READ_SCHEMAS", (2,))},
)
def earlier_schema(tries: Tries) -> None:
    for sealed in tries.of([False, True]):
        new, old = small_shard(tries.fresh()), small_shard(tries.fresh())
        _stated(1, sealed=sealed)(old)
        facts, *values = everything(old)
        assert values == list(everything(new)[1:])
        assert facts.keys() == everything(new)[0].keys()


@fault(
    32,
    "a workspace that a newer mer-prep has worked in: nothing of it is replaced or removed",
    without={
        "telling newer from damaged": instead("mer_prep.store.shard.NewerShardError", ShardError),
    },
)
def newer_workspace(tries: Tries) -> None:
    workspace = Workspace(tries.fresh())
    clips = keys.corpus(tries.fresh())
    keys.store(workspace, clips)
    keys.run(workspace, keys.recipe())
    for path in tries.of(Cache(workspace.cache).shards(), quick=1):
        whole = path.read_bytes()
        _stated(7, sealed=True)(path)
        newer = path.read_bytes()
        with refused(ShardError, "schema 7", "update mer-prep"):
            keys.run(workspace, keys.recipe())
        program("verify", "--remove-damaged", "--workspace", workspace.root, code=1)
        program("status", "--workspace", workspace.root, code=0)
        program("gc", "--yes", "--workspace", workspace.root, code=0)
        assert path.read_bytes() == newer
        path.write_bytes(whole)
