"""Processes that read shards ahead, started in every way."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

from tests.faults.catalogue import Tries, fault, in_process, instead

_NEEDS = ("torch", "safetensors")

#: Seconds after which processes that wait for each other are given up.
_PATIENCE = 60


class Stuck(dict[str, Any]):
    """Cannot be handed to another process, as an open file cannot."""

    def __reduce__(self) -> Any:
        raise TypeError("an open file cannot be pickled")


def _readers(workspace: Path, method: str, workers: int, ways: tuple[bool, bool, bool]) -> int:
    """Compare what processes read with what is read here; 0 if every byte is the same."""
    import pickle

    import h5py
    import torch
    from torch.utils.data import DataLoader

    from mer_prep.training import loading
    from mer_prep.training.loading import Draw, View, open_clips

    torch.set_num_threads(1)
    bars = _bars()
    persistent, pickled, opened = ways
    study = bars.study(architecture=bars.SMALL)
    source = open_clips("stream", workspace, study.clips, study.method, "cpu")
    view = View(64, 1, source.statistics(bars.FOLDS[0].train), 0.1)
    draw = Draw(source.samples(bars.FOLDS[0].train), view, 2, "fold", 1)
    expected = [draw.batch(source, step) for step in range(4)]
    steps = loading._Steps(source, draw)
    if pickled:
        steps = pickle.loads(pickle.dumps(steps))
    handle = h5py.File(next(workspace.glob("flow--*"))) if opened else None
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=range(4),
        num_workers=workers,
        multiprocessing_context=method if workers else None,
        persistent_workers=persistent and workers > 0,
    )
    for _ in range(2):
        found = list(loader)
        assert len(found) == 4
        for one, other in zip(found, expected, strict=True):
            for given, wanted in zip(one.tensors(), other.tensors(), strict=True):
                assert (given is None) == (wanted is None)
                assert given is None or torch.equal(given, wanted)
    if handle is not None:
        handle.close()
    return 0


def _bars() -> Any:
    from tests import bars

    return bars


def _in_time(workspace: Path, method: str, workers: int, ways: tuple[bool, bool, bool]) -> int:
    signal.alarm(_PATIENCE)
    return _readers(workspace, method, workers, ways)


def _with_a_file(self: Any) -> dict[str, Any]:
    return Stuck(self.__dict__)


def _unlocked(path: Path) -> Any:
    import h5py

    return h5py.File(path, "r", locking=False)


_BYTES = {
    "the seeds of the steps": instead(
        "mer_prep.training.loading.seed_of", lambda *_: int.from_bytes(os.urandom(4), "big")
    ),
}


@fault(
    33,
    "readers that are forked, with files open, reused, or with a copied dataset",
    without=_BYTES
    | {
        "files that this process has open": instead(
            "mer_prep.store.hdf5._open_unsealed", lambda path: _unlocked(path)
        ),
        "a dataset that holds no open file": instead(
            "mer_prep.training.loading._Steps.__getstate__", _with_a_file
        ),
    },
    needs=_NEEDS,
)
def forked_readers(tries: Tries) -> None:
    workspace = _bars().write_shards(tries.folder / "shards")
    ways = list(itertools.product((False, True), repeat=3))
    every = [("fork", workers, way) for workers in (0, 1, 2) for way in ways]
    for method, workers, way in tries.of(every[::-1], quick=4):
        assert in_process(lambda one=(method, workers, way): _in_time(workspace, *one)) == 0, (
            method,
            workers,
            way,
        )


@fault(
    33,
    "readers that are started anew, not forked",
    without=_BYTES,
    needs=_NEEDS,
)
def started_readers(tries: Tries) -> None:
    workspace = _bars().write_shards(tries.folder / "shards")
    every = [
        # Quick, for a sample of one; what is started anew imports PyTorch first.
        ("fork", 2, (True, True, False)),
        ("spawn", 1, (False, False, False)),
        ("spawn", 2, (True, True, True)),
        ("forkserver", 2, (True, False, True)),
        ("forkserver", 1, (False, True, False)),
    ]
    for method, workers, way in tries.of(every, quick=1):
        assert in_process(lambda one=(method, workers, way): _in_time(workspace, *one)) == 0, (
            method,
            workers,
            way,
        )
