"""Shards that somebody made to be read out of, to fill the memory or to bring the reader down."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np

from mer_prep.errors import ShardError
from mer_prep.stages.survey import describe_shard
from mer_prep.store.shard import (
    check_clip,
    check_shard,
    clip_image,
    group_name,
    read_clip,
    read_header,
    read_part_header,
)
from tests.faults.catalogue import Tries, fault, in_process, instead, nothing
from tests.shards import CLIP, changing, small_shard

GROUP = group_name(CLIP)

#: What lies outside of the shard and must not be read.
SECRET = 0.123456789

#: Seconds and bytes of memory that a try may take; a refusal needs hardly any of either.
LONGEST = 20
MORE_MEMORY = 2**30

Change = Callable[[h5py.File, Path], None]


def _dataset(*arguments: object, **options: object) -> Change:
    """Return the change that adds a dataset to the clip."""

    def change(file: h5py.File, outside: Path) -> None:
        file[GROUP].create_dataset("odd", *arguments, **options)

    return change


def _link(make: Callable[[Path], object], name: str = f"{GROUP}/odd") -> Change:
    """Return the change that adds a link."""

    def change(file: h5py.File, outside: Path) -> None:
        file[name] = make(outside)

    return change


def _instead(name: str, make: Callable[[Path], object]) -> Change:
    """Return the change that puts a link in the place of something."""

    def change(file: h5py.File, outside: Path) -> None:
        del file[name]
        file[name] = make(outside)

    return change


def _attribute(where: str, value: object, name: str = "odd", dtype: object = None) -> Change:
    """Return the change that sets an attribute."""

    def change(file: h5py.File, outside: Path) -> None:
        if name in file[where].attrs:
            del file[where].attrs[name]
        file[where].attrs.create(name, value, dtype=dtype)

    return change


def _without(where: str, name: str) -> Change:
    """Return the change that takes an attribute away."""

    def change(file: h5py.File, outside: Path) -> None:
        del file[where].attrs[name]

    return change


def _outside_storage(file: h5py.File, outside: Path) -> None:
    raw = [(str(outside / "secret.bin"), 0, 8)]
    file[GROUP].create_dataset("odd", (1,), "f8", external=raw)


def _virtual(file: h5py.File, outside: Path) -> None:
    layout = h5py.VirtualLayout((1,), "f8")
    layout[:] = h5py.VirtualSource(str(outside / "secret.h5"), "x", (1,))
    file[GROUP].create_virtual_dataset("odd", layout)


def _reference(file: h5py.File, outside: Path) -> None:
    file[GROUP].create_dataset("odd", data=np.array([file.ref] * 3, h5py.ref_dtype))


def _region(file: h5py.File, outside: Path) -> None:
    region = file[GROUP]["flow"].regionref[0]
    file[GROUP].create_dataset("odd", data=np.array([region], h5py.regionref_dtype))


def _reference_attribute(file: h5py.File, outside: Path) -> None:
    file[GROUP].attrs.create("odd", file.ref, dtype=h5py.ref_dtype)


def _circle(file: h5py.File, outside: Path) -> None:
    file[GROUP]["odd"] = file["/"]


def _named_type(file: h5py.File, outside: Path) -> None:
    file[GROUP]["odd"] = np.dtype("f8")


def _type_for_clip(file: h5py.File, outside: Path) -> None:
    file["EP66"] = np.dtype("f8")


def _filter(number: int) -> Change:
    """Return the change that adds a dataset packed by a filter that is not there."""

    def change(file: h5py.File, outside: Path) -> None:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4,))
        made.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((4,))
        group = file[GROUP].id
        h5py.h5d.create(group, b"odd", h5py.h5t.NATIVE_DOUBLE, space, made)

    return change


def _half_there(file: h5py.File, outside: Path) -> None:
    file[GROUP].create_dataset("odd", (8, 4), "f8", chunks=(1, 4))[0] = 1


def _many_attributes(where: str) -> Change:
    """Return the change that sets thousands of attributes."""

    def change(file: h5py.File, outside: Path) -> None:
        for number in range(1500):
            file[where].attrs[f"odd{number}"] = number

    return change


def _group(name: str) -> Change:
    """Return the change that adds an empty group."""

    def change(file: h5py.File, outside: Path) -> None:
        file.create_group(name)

    return change


def _root_for_clip(file: h5py.File, outside: Path) -> None:
    file["EP66"] = file["/"]


def _dataset_for_clip(file: h5py.File, outside: Path) -> None:
    file["EP66"] = np.zeros(3)


def _many_dimensions(file: h5py.File, outside: Path) -> None:
    file[GROUP].create_dataset("odd", (1000,) * 6, "f8", chunks=(1,) * 6)


_POINT = np.dtype([("x", "f8"), ("y", "f8")])
_COLOUR = h5py.enum_dtype({"red": 0, "green": 1}, basetype="i4")
_MANY_NUMBERS = h5py.vlen_dtype(np.dtype("f8"))
_LATE = {"chunks": (2**10,)}

#: In a clip's group: whatever reads the clip refuses.
IN_CLIP: dict[str, Change] = {
    "texts of any length": _dataset(data=["a", "b"], dtype=h5py.string_dtype()),
    "texts of fixed length": _dataset(data=np.array([b"abc"])),
    "rows of any length": _dataset((3,), _MANY_NUMBERS),
    "compound": _dataset(data=np.zeros(3, _POINT)),
    "enumeration": _dataset(data=np.zeros(3, "i4"), dtype=_COLOUR),
    "opaque bytes": _dataset(data=np.zeros(3, "V8")),
    "complex": _dataset(data=np.zeros(3, "c8")),
    "arrays for values": _dataset((3,), np.dtype((np.float64, (2,)))),
    "nothing": _dataset(data=h5py.Empty("f8")),
    "references": _reference,
    "regions": _region,
    "a type": _named_type,
    "a group": _group(f"{GROUP}/odd"),
    "a circle of hard links": _circle,
    "a soft link": _link(lambda outside: h5py.SoftLink(f"/{GROUP}/flow")),
    "a soft link to itself": _link(lambda outside: h5py.SoftLink(f"/{GROUP}/odd")),
    "a soft link to nothing": _link(lambda outside: h5py.SoftLink("/nowhere")),
    "a link to another file": _link(lambda o: h5py.ExternalLink(str(o / "secret.h5"), "/x")),
    "flow in another file": _instead(
        f"{GROUP}/flow", lambda o: h5py.ExternalLink(str(o / "secret.h5"), "/x")
    ),
    "the clip in another file": _instead(
        GROUP, lambda o: h5py.ExternalLink(str(o / "secret.h5"), "/clip")
    ),
    "the clip by a soft link to itself": _instead(GROUP, lambda o: h5py.SoftLink(f"/{GROUP}")),
    "bytes of another file": _outside_storage,
    "virtual": _virtual,
    "more values than memory": _dataset((2**40,), "f8", **_LATE),
    "more values than memory, in one piece": _dataset((2**40,), "f8"),
    "more chunks than can be counted": _many_dimensions,
    "a chunk larger than memory": _dataset((2**29 - 1,), "f8", chunks=(2**29 - 1,)),
    "a chunk that is not there": _half_there,
    "filter 305": _filter(305),
    "filter 32013": _filter(32013),
    "filter lzf": _dataset(data=np.zeros(64), chunks=(64,), compression="lzf"),
    "filter scale-offset": _dataset(data=np.zeros(64, "i4"), chunks=(64,), scaleoffset=4),
    "attribute of texts": _attribute(GROUP, ["a", "b"], dtype=h5py.string_dtype()),
    "attribute of a compound": _attribute(GROUP, np.zeros((), _POINT)),
    "attribute of an enumeration": _attribute(GROUP, 1, dtype=_COLOUR),
    "attribute of opaque bytes": _attribute(GROUP, np.void(b"12345678")),
    "attribute that is a reference": _reference_attribute,
    "attribute of nothing": _attribute(GROUP, h5py.Empty("f8")),
    "an array for an attribute": _attribute(GROUP, np.zeros(5000)),
    "thousands of attributes": _many_attributes(GROUP),
    "another clip's name": _attribute(GROUP, "toy/sub01/EP77", "clip_id"),
}

#: In the root: whatever reads what the shard says of itself refuses.
IN_ROOT: dict[str, Change] = {
    "a clip in another file": _link(
        lambda o: h5py.ExternalLink(str(o / "secret.h5"), "/other"), "EP66"
    ),
    "a clip by a soft link": _link(lambda outside: h5py.SoftLink(f"/{GROUP}"), "EP66"),
    "clips by soft links in a circle": _link(lambda outside: h5py.SoftLink("/EP66"), "EP66"),
    "the root for a clip": _root_for_clip,
    "a dataset for a clip": _dataset_for_clip,
    "a type for a clip": _type_for_clip,
    "a clip without a name": _group("EP66"),
    "a name without slashes": _attribute(GROUP, "EP01_01", "clip_id"),
    "nested lists": _attribute("/", "[" * 30_000, "recipe"),
    "a list for a recipe": _attribute("/", "[1]", "recipe"),
    "a recipe with a list of stages": _attribute("/", '{"stages": ["flow"]}', "recipe"),
    "a recipe with odd stages": _attribute("/", '{"source": {}, "stages": {"a": 1}}', "recipe"),
    "a recipe without parameters": _attribute("/", '{"source": {}, "stages": {"a": {}}}', "recipe"),
    "a list for parameters": _attribute("/", "[1]", "params"),
    "no JSON for parameters": _attribute("/", "params", "params"),
    "a number for a list": _attribute("/", 3, "requires"),
    "numbers for names": _attribute("/", "[1, 2]", "datasets"),
    "a text for a version": _attribute("/", "three", "stage_version"),
    "a number of many digits": _attribute("/", "9" * 9999, "schema"),
    "an array for a schema": _attribute("/", np.arange(3), "schema"),
    "a compound for a key": _attribute("/", np.zeros((), _POINT), "key"),
    "thousands of attributes": _many_attributes("/"),
    **{
        f"no {name}": _without("/", name)
        for name in (
            "schema",
            "stage",
            "stage_version",
            "params",
            "recipe",
            "key",
            "requires",
            "corpus",
            "subject",
            "libraries",
            "restricted",
            "synthetic",
            "datasets",
            "created",
        )
    },
}

READERS: dict[str, Callable[[Path], object]] = {
    "read_header": read_header,
    "describe_shard": describe_shard,
    "check_shard": check_shard,
    "read_part_header": read_part_header,
    "read_clip": lambda path: read_clip(path, CLIP),
    "check_clip": lambda path: check_clip(path, CLIP),
    "clip_image": lambda path: clip_image(path, CLIP),
}

#: What must refuse a change in a clip's group, and in the root; the others may.
REFUSING = {
    "clip": {"describe_shard", "check_shard", "read_clip", "check_clip", "clip_image"},
    "root": {"read_header", "describe_shard", "check_shard"},
}


def is_stood(path: Path, refusing: set[str]) -> None:
    """See that those readers refuse a shard that must, and that none gives away the secret."""
    for name, read in READERS.items():
        try:
            given = repr(read(path))
        except ShardError as error:
            problem = "" if error.where == str(path) and error.hint else f"says little: {error}"
        else:
            problem = "accepted it" if name in refusing or str(SECRET) in given else ""
        assert not problem, f"{name} {problem}"


def write_secret(folder: Path) -> None:
    """Write files that the changes point to."""
    (folder / "secret.bin").write_bytes(np.float64(SECRET).tobytes())
    with h5py.File(folder / "secret.h5", "w") as file:
        file["x"] = [SECRET]
        file.create_group("clip")["flow"] = [SECRET]
        file["clip"].attrs.update(clip_id=CLIP, clip_key=str(SECRET))
        file.create_group("other").attrs.update(clip_id="toy/sub01/EP66", clip_key=str(SECRET))


def try_all(
    ways: list[tuple[str, Change, bool]], published: Path, outside: Path, refusing: set[str]
) -> int:
    """Make each change in turn and read what came of it; to be called in a forked process."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = used * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    whole = published.read_bytes()
    for name, change, sealed in ways:
        (outside / "way").write_text(name, encoding="utf-8")
        published.write_bytes(whole)
        with changing(published, sealed=sealed) as file:
            if not sealed:
                file.attrs["schema"] = 1
            change(file, outside)
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        is_stood(published, refusing)
    return 0


def _tried(tries: Tries, changes: dict[str, Change], refusing: set[str]) -> None:
    outside = tries.fresh()
    write_secret(outside)
    published = small_shard(tries.fresh())
    every = [(name, change, sealed) for name, change in changes.items() for sealed in (True, False)]
    ways = list(tries.of(every, quick=len(every)))
    code = in_process(lambda: try_all(ways, published, outside, refusing))
    assert code == 0, f"exit {code}: {(outside / 'way').read_text(encoding='utf-8')}"


def _any(*_: object) -> bool:
    return True


@fault(
    31,
    "types, links, storage, shapes, filters and attributes that no clip has",
    without={
        "the check of links": instead("mer_prep.store.strict.check_hard_link", nothing),
        "the check of types and storage": instead("mer_prep.store.strict._is_plain", _any),
        "the check of filters": instead("mer_prep.store.strict._check_filters", nothing),
        "the check that all of it is there": instead("mer_prep.store.strict._is_complete", _any),
        "the check of attributes": instead("mer_prep.store.attributes._is_scalar", _any),
        "the count of attributes": instead("mer_prep.store.attributes.MOST_ATTRIBUTES", 10**6),
    },
)
def hostile_clips(tries: Tries) -> None:
    _tried(tries, IN_CLIP, REFUSING["clip"])


@fault(
    31,
    "links, groups, attributes and JSON that no shard has",
    without={
        "the check of links": instead("mer_prep.store.strict.check_hard_link", nothing),
        "the check of attributes": instead("mer_prep.store.attributes._is_scalar", _any),
        "the count of attributes": instead("mer_prep.store.attributes.MOST_ATTRIBUTES", 10**6),
        "the form of a recipe": instead("mer_prep.store.shard._recipe", json.loads),
        "the form of a list": instead("mer_prep.store.shard._names", json.loads),
        "one error for all that goes wrong": instead(
            "mer_prep.store.shard.as_shard_error", lambda path: nullcontext()
        ),
    },
)
def hostile_headers(tries: Tries) -> None:
    _tried(tries, IN_ROOT, REFUSING["root"])
