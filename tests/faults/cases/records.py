"""Records, weights and streams that are something else than what the program left or was given."""

from __future__ import annotations

import json
import os
import pickle
import signal
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mer_prep.errors import MerPrepError, TrainingError
from tests.faults.cases.checkpoints import Mark, _file, _pickled
from tests.faults.catalogue import Tries, fault, in_process, instead, nothing

_NEEDS = ("torch", "safetensors")


def _readers(path: Path) -> dict[str, Callable[[], object]]:
    """Return by the name of a file what reads it."""
    from mer_prep.composite_files import place_in_composite, read_composite_facts
    from mer_prep.config import read_toml
    from mer_prep.manifest_files import read_record
    from mer_prep.protocols.frozen import read_folds
    from mer_prep.stages.failures import read_failures
    from mer_prep.store.lock import read_owner
    from mer_prep.store.shard import read_header
    from mer_prep.training.predictions import LossLog, read_fold
    from mer_prep.training.study import read_study
    from mer_prep.training.weights import find_run, read_results
    from mer_prep.workspace import Workspace

    folder = path.parent
    return {
        "composite.json": lambda: read_composite_facts(folder),
        "composite.jsonl": lambda: place_in_composite(folder, "toy/s1/c1"),
        "left-out.csv": lambda: place_in_composite(folder, "toy/s1/c1"),
        "pipeline.toml": lambda: read_toml(path),
        "casme2.json": lambda: read_record(path),
        "folds.json": lambda: read_folds(path),
        "failures.jsonl": lambda: read_failures(path),
        "shard.h5.lock": lambda: read_owner(path),
        "fold.json": lambda: read_fold(path),
        "log.csv": lambda: LossLog(path, ("loss",)).last(3),
        "config.json": lambda: (read_study(folder), find_run(Workspace(folder), str(folder))),
        "results.json": lambda: read_results(folder),
        "shard.h5": lambda: read_header(path),
    }


def _read_in_time(path: Path) -> int:
    """Read what lies in place of a record; a process that waits, or is too large, is ended."""
    import resource

    from mer_prep.composite_files import read_composite_facts

    if path.name in ("composite.jsonl", "left-out.csv"):  # which are read by what this one says
        counts: dict[str, Any] = {"labels": "a", "protocol": {}, "counts": {}}
        (path.parent / "composite.json").write_text(json.dumps(counts))
        assert read_composite_facts(path.parent) is not None
        if path.name == "left-out.csv":
            (path.parent / "composite.jsonl").write_text("")
    read = _readers(path)[path.name]
    signal.alarm(4)
    resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
    said = _said(read)
    assert said is None or said.hint, f"what to do is not said: {said}"
    return 0


def _said(work: Callable[[], object]) -> MerPrepError | None:
    """Return the error for people that something ends with, if it does."""
    try:
        work()
    except MerPrepError as error:
        return error
    return None


def _lay(kind: str, path: Path) -> None:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2**40)


@fault(
    17,
    "pipes, devices, folders and files without end in place of what the program keeps",
    without={
        "the look at what a record is": instead("mer_prep.records._check", nothing),
        "the look at what a shard is": instead("mer_prep.store.hdf5.check_regular", nothing),
    },
    needs=_NEEDS,
)
def odd_records(tries: Tries) -> None:
    names = [*_readers(tries.folder)]
    ways = [(name, kind) for kind in ("pipe", "device", "folder", "size") for name in names]
    for name, kind in tries.of(ways, quick=60):
        if (name, kind) == ("log.csv", "size"):
            continue  # it is read line by line, however long that takes
        path = tries.fresh() / name
        _lay(kind, path)
        assert in_process(lambda path=path: _read_in_time(path)) == 0, (name, kind)


def _trunk_file(**changes: object) -> bytes:
    """Return weights of a trunk in which one tensor is another."""
    import torch
    from safetensors.torch import save

    from mer_prep.models.resnet18 import Trunk

    torch.manual_seed(0)
    kept = {name: one for name, one in Trunk(2).state_dict().items() if "num_" not in name}
    return save({**kept, **changes})


def _odd_weights() -> dict[str, bytes]:
    """Return files that are no weights of a trunk, by what is wrong with them."""
    import torch

    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    long = "x" * 2_000_000
    files = {
        "nothing": b"",
        "a header without an end": _file({"a": one}, bytes(8), length=2**63),
        "a header that is cut off": _file({"a": one})[:12],
        "nested": _file(b"[" * 100_000, bytes(8)),
        "more than is there": _file({"a": one | {"data_offsets": [0, 2**40]}}, bytes(8)),
        "a type that is none": _file({"a": one | {"dtype": "PICKLE"}}, bytes(8)),
        "a name without an end": _file({long: one}, struct.pack("<ff", 1, 2)),
        "no tensor": _file({}),
        "another shape": _trunk_file(**{"conv1.weight": torch.zeros(2, 3, 7, 6)}),
        "one more": _trunk_file(extra=torch.zeros(2)),
    }
    for name, value in (("inf", torch.inf), ("-inf", -torch.inf), ("nan", torch.nan)):
        spoilt = torch.zeros(2, 3, 7, 7)
        spoilt[1, 2, 6, 6] = value
        files[name] = _trunk_file(**{"conv1.weight": spoilt})
    for kind in (torch.int64, torch.uint8, torch.bool, torch.complex64):
        files[str(kind)] = _trunk_file(**{"conv1.weight": torch.zeros(2, 3, 7, 7).to(kind)})
    return files


def _trunk_in_time(path: Path) -> int:
    from mer_prep.models.public_weights import load_trunk
    from mer_prep.models.resnet18 import Trunk

    signal.alarm(4)
    said = _said(lambda: load_trunk(Trunk(2), path))
    assert isinstance(said, TrainingError), "it was accepted"
    assert said.hint
    assert len(str(said)) < 2_000, "the message has no end"
    return 0


def _trusting(path: Path) -> Any:
    """Read weights, and pickled ones where they are none, as many programs do."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except SafetensorError:
        return pickle.loads(path.read_bytes())


@fault(
    31,
    "public weights that are pickled, malformed, not finite, or no file",
    without={
        "the reader that runs nothing": instead("safetensors.torch.load_file", _trusting),
        "the look at what it is": instead(
            "pathlib.Path.is_file", lambda path: path.name != "folder"
        ),
        "the search for numbers that are not finite": instead(
            "mer_prep.models.public_weights._check_numbers", nothing
        ),
    },
    needs=_NEEDS,
)
def public_weights(tries: Tries) -> None:
    import torch

    from mer_prep.models.public_weights import load_trunk
    from mer_prep.models.resnet18 import Trunk

    good = tries.fresh() / "good.safetensors"
    good.write_bytes(_trunk_file())
    load_trunk(Trunk(2), good)
    good.write_bytes(_trunk_file(**{"conv1.weight": torch.zeros(2, 3, 7, 7).half()}))
    load_trunk(Trunk(2), good)
    folder = tries.fresh()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to("loop")
    for path in tries.of([*folder.iterdir(), Path("/dev/zero"), folder / "absent"]):
        assert in_process(lambda path=path: _trunk_in_time(path)) == 0, path
    mark = tries.folder / "mark"
    files = [*_odd_weights().values(), *(data for data, _ in _pickled(Mark(mark)))]
    for number, data in enumerate(tries.of(files, quick=40)):
        path = tries.fresh() / ("weights.pth" if number % 2 else "weights.safetensors")
        path.write_bytes(data)
        assert in_process(lambda path=path: _trunk_in_time(path)) == 0, data[:40]
        assert not mark.exists(), f"{data[:20]!r} was unpickled"


def _closed(numbers: tuple[int, ...], folder: Path) -> int:
    """Run the program with streams closed, and see that files get no number of a stream."""
    import sys

    from mer_prep import cli

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number in numbers:
            os.close(number)
            setattr(sys, name, None)  # as Python itself does when it starts so
    sys.argv = ["mer-prep", "synth", "--out", str(folder / "made"), "--subjects", "nobody"]
    try:
        cli.main()
    except SystemExit as end:
        with open(folder / "next", "wb") as file:
            return 0 if end.code == 2 and file.fileno() > 2 else 1
    return 1


@fault(
    23,
    "standard streams that are closed: what is opened next does not take their place",
    without={"opening them onto nothing": instead("mer_prep.cli.open_streams", nothing)},
)
def closed_streams(tries: Tries) -> None:
    ways = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)]
    for numbers in tries.of(ways):
        folder = tries.fresh()
        assert in_process(lambda n=numbers, f=folder: _closed(n, f)) == 0, numbers
