"""A sample of the sweep that `make faults` does in full: every few calls, each kind of fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.faulty import KINDS
from tests.faults.operations import OPERATIONS
from tests.faults.sweep import Sweep

#: Every how many calls a fault is tried; the kinds of faults begin at different ones.
STRIDES = {
    "shard": 17,
    "stages": 53,
    "import": 1,
    "composite": 2,
    "export npy": 11,
    "export webdataset": 7,
    "training": 19,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_is_lost_on_a_failing_disk(name: str, tmp_path: Path) -> None:
    if name == "training":
        pytest.importorskip("torch")
    sources, work = tmp_path / "sources", tmp_path / "work"
    sources.mkdir()
    work.mkdir()
    sweep = Sweep(OPERATIONS[name](sources), work)
    stride = STRIDES[name]
    for place, kind in enumerate(KINDS):
        first = 1 + place * stride // len(KINDS)
        assert sweep.run(kind, range(first, sweep.calls + 1, stride)).tried
