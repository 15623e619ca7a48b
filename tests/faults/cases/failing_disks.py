"""Disks that fail: whatever the program keeps, at any change it makes of the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from mer_prep.store import disk
from tests.faults.catalogue import Tries, fault
from tests.faults.faulty import EIO, ENOSPC, KILLED, POWER
from tests.faults.operations import OPERATIONS
from tests.faults.sweep import Sweep

_FAULTS = {
    KILLED: (1, "killed at any change of the disk"),
    POWER: (1, "power cut at any change of the disk"),
    ENOSPC: (4, "disk full from any change on"),
    EIO: (4, "any change of the disk refused"),
}
#: How many of the calls a quick run fails.
_QUICK = {"shard": 5, "stages": 4, "import": 99, "composite": 10, "training": 3}


def _copied(source: Path, target: Path) -> None:
    """Give a file or folder another name as a careless program would: by writing it anew."""
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        for path in sorted(source.rglob("*")):
            if path.is_file():
                disk.make_folder((target / path.relative_to(source)).parent)
                disk.write_bytes(target / path.relative_to(source), path.read_bytes())
        disk.remove_tree(source)
    else:
        disk.write_bytes(target, source.read_bytes())
        disk.remove(source)


def _without_names() -> AbstractContextManager[object]:
    return mock.patch.object(disk, "replace", _copied)


@contextmanager
def _in_place(out: Path) -> Iterator[Path]:
    """Give the folder of an export itself to be written, emptied."""
    if out.exists():
        disk.remove_tree(out)
    disk.make_folder(out)
    yield out


def _without_a_folder_beside() -> AbstractContextManager[object]:
    return mock.patch("mer_prep.export.exporter.appearing", _in_place)


@contextmanager
def _without_force() -> Iterator[None]:
    whole = disk.write_bytes

    def unforced(path: Path, data: bytes, *, mode: str = "wb", sync: bool = False) -> None:
        whole(path, data, mode=mode)

    with (
        mock.patch.object(disk, "write_bytes", unforced),
        mock.patch.object(disk, "sync", return_value=None),
    ):
        yield


def _sweep(name: str, kind: str, tries: Tries) -> None:
    sources, work = tries.fresh(), tries.fresh()
    sweep = Sweep(OPERATIONS[name](sources), work)
    fired = 0
    for number in tries.of(range(1, sweep.calls + 1), quick=_QUICK.get(name, 3)):
        fired += sweep.run(kind, [number]).tried
    assert fired, "no fault came"


def _enter(name: str, kind: str) -> None:
    number, title = _FAULTS[kind]
    swept: Callable[[Tries], None] = partial(_sweep, name, kind)
    if kind == POWER:
        protection = {"forcing files to the disk": _without_force}
    elif name.startswith("export"):
        protection = {"a folder that is written beside": _without_a_folder_beside}
    else:
        protection = {"files that appear whole": _without_names}
    fault(
        number,
        f"{title}: {name}",
        name=f"{kind.replace(' ', '-')}-{name.replace(' ', '-')}",
        without=protection,
        needs=("torch", "safetensors") if name == "training" else (),
        seldom=True,
    )(swept)


for _name in OPERATIONS:
    for _kind in _FAULTS:
        _enter(_name, _kind)
