"""Clips of any length: what a run holds of them does not grow."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from mer_prep.errors import DecodeError, MotionError
from mer_prep.manifest import Clip
from mer_prep.ops import stabilization
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import Align
from mer_prep.stages.base import (
    Arrays,
    Field,
    Inputs,
    Stage,
    StageOutput,
    StageStream,
    build_stages,
)
from mer_prep.stages.failures import read_failures, record_failures
from mer_prep.stages.flow import Flow, FlowParams, picture_blocks
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages.summary import RunSummary
from mer_prep.store.blocks import Blocks, StoredArray
from mer_prep.store.cache import Cache
from mer_prep.store.shard import read_clip
from mer_prep.workspace import Workspace
from tests.stages.conftest import MakeClip
from tests.stages.test_align_stabilized import inputs as face_inputs
from tests.stages.test_align_stabilized import scene, shot
from tests.stages.test_flow import TINY, aligned

ROOT = Path(__file__).parents[2]

#: What 20 times as many frames may add to the peak, in MiB: landmarks, transforms and indices of
#: every frame, and what the allocator rounds up. Held as a whole the arrays alone are 90 MiB.
ALLOWANCE = 16


def peak(frames: int) -> float:
    """Return the peak memory, in MiB, of a fresh process that prepares one clip."""
    options = ["--mode", "onset", "--size", "64", "--width", "240"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", "--frames", str(frames), *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout)
    assert facts["published"] == 3
    return float(facts["peak_mib"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_twenty_times_the_frames_take_no_more_memory() -> None:
    assert peak(2000) <= peak(100) + ALLOWANCE


@dataclass(frozen=True)
class RampsParams:
    bad: str = ""


class Ramps(Stage):
    """Gives a picture for every frame, one block a frame; some of its clips fail on the way."""

    name = "ramps"
    version = 1
    reads_frames = True
    fields = (
        Field("ramp", "float32", "frame y x", "px"),
        Field("last", "int64", "frame", "frames"),
    )
    Params: ClassVar[type] = RampsParams
    side: ClassVar[int] = 40

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        taken = 0

        def ramps() -> Iterator[np.ndarray]:
            nonlocal taken
            bad = self.params.bad if clip.clip == "EP01_02" else ""
            for index, _ in enumerate(frames):
                block = np.full((1, self.side, self.side), index, np.float32)
                if index == 3 and bad == "decode":
                    raise DecodeError("The frame is cut off.", where="img11.png")
                if index == 3 and bad == "bug":
                    raise OSError(28, "No space left on device")
                if index == 3 and bad == "nan":
                    block[0, 5, 7:9] = np.nan
                if index == 3 and bad == "short":
                    return
                if index == 3 and bad == "type":
                    block = block.astype(np.float64)
                taken += 1
                yield block

        def finish() -> StageOutput:
            return StageOutput({"last": np.array([taken])}, facts={"taken": taken})

        shape = (len(frames), self.side, self.side)
        return StageStream({"ramp": Blocks(shape, np.float32, ramps())}, finish)


class Sums(Stage):
    """Reads the ramps from their part, without asking for the whole."""

    name = "sums"
    version = 1
    requires = ("ramps",)
    fields = (Field("sum", "float64", "frame", "px"),)
    Params: ClassVar[type] = RampsParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return self.stream(clip, frames, inputs).whole()

    def stream(self, clip: Clip, frames: ClipFrames, inputs: Inputs) -> StageStream:
        ramp = inputs["ramps"]["ramp"]
        assert isinstance(ramp, StoredArray)
        sums = [float(ramp[index].sum()) for index in range(len(ramp))]
        return StageStream({}, lambda: StageOutput({"sum": np.array(sums)}))


class WholeSums(Sums):
    """The same by a stage that knows nothing of streams."""

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        ramp = inputs["ramps"]["ramp"]
        assert isinstance(ramp, np.ndarray)
        return StageOutput({"sum": ramp.sum(axis=(1, 2), dtype=np.float64)})

    stream = Stage.stream


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Stage]]:
    found: dict[str, type[Stage]] = {"ramps": Ramps, "sums": Sums}
    monkeypatch.setattr("mer_prep.stages.worker.all_stages", lambda: found)
    monkeypatch.setattr("mer_prep.stages.worker._built", {})
    return found


def run(
    workspace: Workspace, kinds: dict[str, type[Stage]], **settings: dict[str, object]
) -> RunSummary:
    recipe = Recipe(*build_stages(kinds, ("sums",), settings))
    plans = make_plan(workspace, ["toy"], recipe)
    summary = Runner(workspace, recipe).run(plans)
    record_failures(workspace, plans, recipe, summary)
    return summary


@pytest.mark.parametrize("reader", [Sums, WholeSums])
@pytest.mark.parametrize("side", [40, 10])  # chunks of a frame, and one chunk for all
def test_blocks_are_stored_and_read_by_the_next_stage(
    imported: Workspace,
    kinds: dict[str, type[Stage]],
    monkeypatch: pytest.MonkeyPatch,
    reader: type[Stage],
    side: int,
) -> None:
    monkeypatch.setattr(Ramps, "side", side)
    kinds["sums"] = reader
    assert run(imported, kinds).published == 4
    (ramps,) = Cache(imported.cache).shards("ramps", "toy--sub02")
    (sums,) = Cache(imported.cache).shards("sums", "toy--sub02")
    arrays, facts = read_clip(ramps, "toy/sub02/EP01_01")
    expected = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(
        arrays["ramp"], np.broadcast_to(expected[:, None, None], (5, side, side))
    )
    assert (facts["taken"], arrays["last"].tolist()) == (5, [5])
    found, _ = read_clip(sums, "toy/sub02/EP01_01")
    np.testing.assert_array_equal(found["sum"], side * side * expected)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ("decode", "DecodeError", "The frame is cut off."),
        ("nan", "MotionError", r"ramps.ramp holds 2 values .* the first at \(3, 5, 7\)"),
    ],
)
def test_a_clip_that_fails_on_the_way_is_quarantined_and_leaves_nothing(
    imported: Workspace, kinds: dict[str, type[Stage]], bad: str, error: str, message: str
) -> None:
    summary = run(imported, kinds, ramps={"bad": bad})
    assert summary.quarantined == {"toy/sub01/EP01_02"}
    assert len(summary.computed) == 3
    entry = read_failures(imported.failures)[0]
    assert entry["error"] == error
    assert re.search(message, entry["message"])
    assert [path for path in imported.cache.rglob("*") if path.suffix == ".partial"] == []
    assert Cache(imported.cache).parts() == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("short", "3 rows were given of an array (5, 40, 40)"),
        ("type", "A block is float64"),
        ("bug", "OSError: [Errno 28] No space left on device"),
    ],
)
def test_a_bug_in_a_stream_is_not_taken_for_a_bad_clip_or_a_full_disk(
    imported: Workspace, kinds: dict[str, type[Stage]], bad: str, message: str
) -> None:
    summary = run(imported, kinds, ramps={"bad": bad})
    assert [crash.clip_id for crash in summary.crashes] == ["toy/sub01/EP01_02"]
    assert message in summary.crashes[0].crash
    assert len(summary.computed) == 3
    assert list(imported.cache.rglob("*.partial")) == []


def test_cut_outs_that_wait_on_the_disk_change_nothing(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, frames, _, truth = shot(make_clip, scene(onset=108, apex=109), seen=(0, 12))
    expected = Align().run(clip, frames, face_inputs(truth))
    written = []

    class Disk(stabilization._Waiting):
        def take(self):  # type: ignore[no-untyped-def]
            written.append(self._file._rolled)
            return super().take()

    monkeypatch.setattr(stabilization, "WAITING_MEMORY", 200_000)
    monkeypatch.setattr(stabilization, "_Waiting", Disk)
    found = Align().run(clip, frames, face_inputs(truth))
    assert written == [True] * 7
    assert found.facts == expected.facts
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_frames_are_aligned_one_by_one(make_clip: MakeClip) -> None:
    clip, frames, _, truth = shot(make_clip, scene(onset=106, apex=109), seen=(0, 12))
    stream = Align().stream(clip, frames, face_inputs(truth))
    blocks = list(stream.blocks["frames"])
    assert [block.shape for block in blocks] == [(1, 144, 144, 3)] * 12
    whole = Align().run(clip, frames, face_inputs(truth))
    np.testing.assert_array_equal(np.concatenate(blocks), whole.arrays["frames"])
    assert stream.finish().facts == whole.facts


@pytest.mark.parametrize("pairs", ["consecutive", "lagged", "onset-to-all"])
def test_flow_does_not_depend_on_the_blocks(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, pairs: str
) -> None:
    clip, frames = make_clip([TINY] * 9)
    stage = Flow(FlowParams(method="dis", pairs=pairs))
    given = aligned([0, 1, 3, 2, 2, 0, 1, 1, 4])
    expected = stage.run(clip, frames, given)
    monkeypatch.setattr("mer_prep.stages.flow.BLOCK_PAIRS", 3)
    stream = stage.stream(clip, frames, given)
    blocks = list(stream.blocks["flow"])
    sizes = [len(block) for block in blocks]
    assert sizes[:-1] == [3] * (len(sizes) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), expected.arrays["flow"])
    assert stream.finish().facts["mean_magnitude_px"] == pytest.approx(
        expected.facts["mean_magnitude_px"], rel=1e-6
    )


def test_the_bytes_of_a_block_are_bounded(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mer_prep.stages.flow.BLOCK_BYTES", 2 * 2 * 64 * 64 * 4)
    clip, frames = make_clip([TINY] * 6)
    stage = Flow(FlowParams(method="dis", pairs="consecutive"))
    blocks = stage.stream(clip, frames, aligned([0, 1, 2, 3, 4, 5])).blocks["flow"]
    assert [len(block) for block in blocks] == [2, 2, 1]


def test_flow_that_is_not_finite_is_named_in_a_later_block(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(firsts: list[np.ndarray], seconds: list[np.ndarray], **options: str) -> np.ndarray:
        flows = np.zeros((len(firsts), 2, *firsts[0].shape), np.float32)
        for flow in flows:
            calls.append(1)
            flow[0, 2, 9] = np.nan if len(calls) == 5 else 0
        return flows

    monkeypatch.setattr("mer_prep.stages.flow.optical_flows", broken)
    monkeypatch.setattr("mer_prep.stages.flow.BLOCK_PAIRS", 2)
    clip, frames = make_clip([TINY] * 7)
    message = (
        r"1 values of the flow of pairs 4 to 5 .* u of pair 4 \(frames 4 and 5\) at x = 9, y = 2"
    )
    with pytest.raises(MotionError, match=message):
        Flow(FlowParams(pairs="consecutive")).run(clip, frames, aligned([0] * 7))
    assert len(calls) == 6


def test_each_frame_of_a_walk_is_read_once() -> None:
    reads: list[int] = []

    class Counting:
        def __getitem__(self, index: int) -> np.ndarray:
            reads.append(index)
            return np.full((4, 4, 3), index, np.uint8)

    pairs = np.array([(t, t + 1) for t in range(10)], np.int32)
    blocks = list(picture_blocks(Counting(), pairs, rows=4))  # type: ignore[arg-type]
    assert reads == list(range(11))
    assert [start for start, _, _ in blocks] == [0, 4, 8]
    for start, firsts, seconds in blocks:
        for row, (first, second) in enumerate(zip(firsts, seconds, strict=True), start):
            assert (first[0, 0], second[0, 0]) == (row, row + 1)
