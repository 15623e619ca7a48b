"""Weights that would run code, are damaged, or do not belong to the model."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mer_prep.errors import TrainingError
from tests.faults.catalogue import Tries, damaged, fault, in_process, instead, nothing, refused

_NEEDS = ("torch", "safetensors")
_MODULE = "mer_prep.training.checkpoints"


class Mark:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        import os

        return os.mkdir, (str(self.folder),)


def _zip(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def _tar(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def _saved(mark: object, **options: Any) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({"model": mark}, file, **options)
    return file.getvalue()


def _pickled(mark: Mark) -> Iterator[tuple[bytes, bool]]:
    """Yield files that hold a pickle, and whether they are known for one by their content."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(mark, protocol=protocol)
        yield data, protocol >= 2
        for wrapped, known in ((_zip("archive/data.pkl", data), True), (_tar("pickle", data), 0)):
            yield wrapped, bool(known)
        yield gzip.compress(data), False
        # A safetensors header that promises metadata in the form of a pickle.
        yield struct.pack("<Q", len(data)) + data, False
    yield _saved(mark), True
    yield _saved(mark, _use_new_zipfile_serialization=False), True
    yield b"PK\x03\x04", True


def _readers(path: Path) -> list[Callable[[], object]]:
    """Return all ways in which the program reads weights that somebody may have put there."""
    import torch

    from mer_prep.training.checkpoints import load_model, read_checkpoint, read_facts, resume
    from mer_prep.training.initial import load_init, read_init

    model = torch.nn.Linear(2, 1)
    optimiser = torch.optim.Adam(model.parameters())
    return [
        lambda: read_checkpoint(path),
        lambda: read_facts(path),
        lambda: read_init(path),
        lambda: load_init(path, model, name="mol"),
        lambda: load_model(path, model, expected={}),
        lambda: resume(path, model, optimiser, expected={}),
    ]


class _Unpickling:
    """Reads any file as a pickle, as `torch.load` does where it is told to trust it."""

    def __init__(self, path: Path, **_: object) -> None:
        self.path = path

    def __enter__(self) -> object:
        return pickle.loads(Path(self.path).read_bytes())

    def __exit__(self, *_: object) -> None:
        pass


@fault(
    31,
    "weights that run code when they are unpickled",
    without={
        "the reader that runs nothing": instead(f"{_MODULE}.safe_open", _Unpickling),
        "the word that they are pickled": instead(f"{_MODULE}._refuse_pickle", nothing),
    },
    needs=_NEEDS,
)
def pickled_weights(tries: Tries) -> None:
    mark = tries.folder / "mark"
    pickle.loads(pickle.dumps(Mark(mark)))
    assert mark.is_dir(), "a pickle that is read leaves its mark"
    mark.rmdir()
    names = ("checkpoint.safetensors", "model.pth", "model.pt", "weights.ckpt", "data.pkl", "x")
    ways = [(name, *one) for name in names for one in _pickled(Mark(mark))]
    for name, data, known in tries.of(ways, quick=15):
        path = tries.fresh() / name
        path.write_bytes(data)
        words = ("pickled", "any code") if known or path.suffix in (".pth", ".pt") else ()
        for read in _readers(path):
            with refused(TrainingError, path.name, *words):
                read()
            assert not mark.exists(), f"{data[:20]!r} was unpickled"
        assert path.read_bytes() == data


def _weights() -> tuple[Any, dict[str, Any]]:
    import torch

    return torch.nn.Linear(2, 1), {"model": "mol", "preset": "tiny", "evaluations": []}


def _whole(folder: Path) -> bytes:
    """Return a checkpoint of a small model whose optimiser has taken a step."""
    import torch

    from mer_prep.training.checkpoints import save_checkpoint

    model, facts = _weights()
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    path = folder / "whole.safetensors"
    save_checkpoint(path, model, optimiser=optimiser, step=1, facts=facts)
    return path.read_bytes()


@fault(
    31,
    "a checkpoint that is cut off, or has a bit that changed",
    without={"its checksum": instead(f"{_MODULE}._check_digest", nothing)},
    needs=_NEEDS,
)
def damaged_weights(tries: Tries) -> None:
    from mer_prep.training.checkpoints import read_checkpoint

    whole, path = _whole(tries.folder), tries.fresh() / "checkpoint.safetensors"
    path.write_bytes(whole)
    assert read_checkpoint(path)[1] == 1
    for data in tries.of(damaged(whole), quick=400):
        path.write_bytes(data)
        with refused(TrainingError, "checkpoint.safetensors"):
            read_checkpoint(path)


def _file(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _malformed() -> dict[str, bytes]:
    """Return files that say they are safetensors, and are not quite."""
    about = {"format": "mer-prep checkpoint 1", "step": "1", "facts": "{}"}
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

    def head(**changes: object) -> dict[str, object]:
        return {"__metadata__": about, "model.a": one | changes}

    def said(**changes: object) -> dict[str, object]:
        return {"__metadata__": about | changes, "model.a": one}

    zero = bytes(8)
    files = {
        "nothing": b"",
        "no header": zero,
        "shorter than a length": b"\x01\x00",
        "no JSON": _file(b"{" * 50, zero),
        "no object": _file([1], zero),
        "no UTF-8": _file(b'{"\xff": 1}', zero),
        "NUL": _file(b"\x00" * 16, zero),
        "nested": _file(b"[" * 100_000, zero),
        "overlap": _file(head() | {"model.b": one}, zero),
        "a hole": _file(head() | {"model.b": one | {"data_offsets": [16, 24]}}, bytes(24)),
        "more than is there": _file(head(data_offsets=[0, 8_000], shape=[2_000]), zero),
        "another size": _file(head(shape=[3]), zero),
        "a size that overflows": _file(head(shape=[2**62, 8]), zero),
        "backwards": _file(head(data_offsets=[8, 0]), zero),
        "below zero": _file(head(data_offsets=[-8, 0]), zero),
        "a negative shape": _file(head(shape=[-2]), zero),
        "no such type": _file(head(dtype="PICKLE"), zero),
        "a shape of texts": _file(head(shape=["2"]), zero),
        "no offsets": _file({"__metadata__": about, "model.a": {"dtype": "F32"}}, zero),
        "left over": _file(head(), bytes(12)),
        "no metadata": _file({"model.a": one}, zero),
        "metadata of numbers": _file({"__metadata__": {"format": 1}, "model.a": one}, zero),
        "of another program": _file(said(format="pt"), zero),
        "of a later version": _file(said(format="mer-prep checkpoint 3"), zero),
        "the checksum left out": _file(said(format="mer-prep checkpoint 2"), zero),
        "another checksum": _file(said(format="mer-prep checkpoint 2", sha256="0" * 64), zero),
    }
    for length in (2**63, 2**64 - 1, 200_000_000, 10**12, len(zero) + 10_000):
        files[f"a header of {length:,} bytes"] = _file(head(), zero, length=length)
    for step in ("", "-1", "1.5", "nan", "one", "²", "9" * 5_000):
        files[f"step {step[:9]!r}"] = _file(said(step=step), zero)
    for facts in ("", "[]", "null", "1", "{", "[" * 50_000):
        files[f"facts {facts[:9]!r}"] = _file(said(facts=facts), zero)
    for missing in ("step", "facts"):
        left = {key: value for key, value in about.items() if key != missing}
        files[f"no {missing}"] = _file({"__metadata__": left, "model.a": one}, zero)
    for value in (float("nan"), float("inf"), -float("inf")):
        files[f"weights of {value}"] = _file(head(), struct.pack("<ff", 1, value))
    return files


@fault(
    31,
    "a safetensors file that is malformed",
    without={
        "the reading of its header": instead(f"{_MODULE}._described", lambda path, found: (1, {})),
        "the search for numbers that are not finite": instead(f"{_MODULE}._check_finite", nothing),
    },
    needs=_NEEDS,
)
def malformed_weights(tries: Tries) -> None:
    from mer_prep.training.checkpoints import read_checkpoint

    good = tries.fresh() / "good.safetensors"
    about = {"format": "mer-prep checkpoint 1", "step": "1", "facts": "{}"}
    one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    good.write_bytes(_file({"__metadata__": about, "model.a": one}, bytes(8)))
    assert read_checkpoint(good)[0]["model.a"].tolist() == [0, 0], "what is well formed is read"
    for _, data in tries.of(_malformed().items(), quick=100):
        path = tries.fresh() / "weights.safetensors"
        path.write_bytes(data)
        with refused(TrainingError, "weights.safetensors"):
            read_checkpoint(path)


@fault(
    31,
    "a pipe, a device or a folder in place of weights",
    without={"the look at what it is": instead(f"{_MODULE}._check_regular", nothing)},
    needs=_NEEDS,
)
def odd_files(tries: Tries) -> None:
    import os

    folder = tries.fresh()
    _readers(folder / "absent")  # what they import takes longer than a try may
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "loop").symlink_to("loop")
    places = [Path("/dev/zero"), Path("/dev/stdin"), *folder.iterdir(), folder / "absent"]
    for path in tries.of(places):
        # In a process of its own: what waits for a pipe is stopped.
        assert in_process(lambda path=path: _refused_in_time(path)) == 0, path


def _refused_in_time(path: Path) -> int:
    import signal

    signal.alarm(5)
    for read in _readers(path):
        with refused(TrainingError, str(path)):
            read()
    return 0


def _foreign() -> dict[str, tuple[dict[str, Any], str]]:
    """Return tensors that are not those of the model, and a word of the message."""
    import torch

    good = {"model.weight": torch.zeros(1, 2), "model.bias": torch.zeros(1)}
    state = {
        f"optimiser.{number}.{name}": torch.zeros(shape)
        for number, shape in enumerate([(1, 2), (1,)])
        for name in ("exp_avg", "exp_avg_sq")
    } | {f"optimiser.{number}.step": torch.zeros(()) for number in range(2)}
    fit, own = "does not fit the model", "does not hold the optimiser"
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "no tensor": ({}, fit),
        "one missing": ({"model.weight": good["model.weight"]} | state, fit),
        "one too many": (good | {"model.more": torch.zeros(1)} | state, fit),
        "no optimiser": (good, own),
        "a parameter too many": (good | state | {"optimiser.2.step": torch.zeros(())}, own),
        "no number": (good | state | {"optimiser.x.step": torch.zeros(())}, own),
        "no name": (good | state | {"optimiser.": torch.zeros(())}, own),
        "below zero": (good | state | {"optimiser.-1.step": torch.zeros(())}, own),
    }
    for shape in ((2, 1), (2,), (1, 3), (0,), (1, 2, 1), ()):
        wrong[f"shape {shape}"] = (good | {"model.weight": torch.zeros(shape)} | state, fit)
        moved = {"optimiser.0.exp_avg": torch.zeros(shape)}
        wrong[f"state of shape {shape}"] = (good | state | moved, own)
    for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool):
        weight = good["model.weight"].to(kind)
        wrong[f"type {kind}"] = (good | {"model.weight": weight} | state, fit)
    return wrong


@fault(
    31,
    "a checkpoint whose tensors are not those of the model or its optimiser",
    without={
        "the comparison with the model": instead(f"{_MODULE}._check_fit", nothing),
        "the type of a tensor": instead(f"{_MODULE}._form", lambda one: str(list(one.shape))),
        "the look at the optimiser's state": instead(
            f"{_MODULE}._optimiser_state", lambda path, tensors, optimiser: {}
        ),
    },
    needs=_NEEDS,
)
def foreign_tensors(tries: Tries) -> None:
    import torch
    from safetensors.torch import save_file

    from mer_prep.training.checkpoints import resume

    path = tries.fresh() / "checkpoint.safetensors"
    about = {"format": "mer-prep checkpoint 1", "step": "1", "facts": "{}"}
    for tensors, words in tries.of(_foreign().values(), quick=50):
        save_file(tensors, path, metadata=about)
        model, _ = _weights()
        before = [one.clone() for one in model.parameters()]
        with refused(TrainingError, words, str(path)):
            resume(path, model, torch.optim.Adam(model.parameters()), expected={})
        if "model" in words:
            same = zip(before, model.parameters(), strict=True)
            assert all(bool((old == new).all()) for old, new in same), "a part was loaded"
