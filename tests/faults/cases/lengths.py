"""Clips that are very short, and clips that are very long."""

from __future__ import annotations

import dataclasses
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from mer_prep.errors import MotionError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames, read_bytes
from mer_prep.stages.apex import Apex
from mer_prep.stages.base import Stage
from mer_prep.stages.difference import Difference, DifferenceParams
from mer_prep.stages.dynamic_image import DynamicImage
from mer_prep.stages.flow import Flow, FlowParams
from mer_prep.stages.magnify import Magnify
from mer_prep.stages.motion_image import MotionImage
from mer_prep.stages.pairs import ChosenPairs, consecutive_pairs
from mer_prep.stages.strain import Strain
from mer_prep.stages.tim import Tim
from mer_prep.store.blocks import Blocks
from tests.faults.catalogue import Tries, fault, instead, program, refused
from tests.faults.scenes import (
    MIDDLE,
    clip_of,
    face_points,
    frames_of,
    picture,
    squares_for_faces,
    write_frames,
)


def _short(count: int, folder: Path) -> tuple[Clip, ClipFrames, dict[str, dict[str, np.ndarray]]]:
    """Return a clip of a few frames, as the stages after ``align`` are given it."""
    facts: dict[str, Any] = {"onset": 1, "offset": count}
    clip = clip_of(folder, [picture(MIDDLE)] * count, **facts)
    small = [cv2.resize(picture(MIDDLE, seed=seed), (48, 48)) for seed in range(count)]
    points = np.repeat((24 + 30 * face_points())[None].astype(np.float32), count, axis=0)
    aligned = {"frames": np.stack(small), "landmarks": points}
    return clip, frames_of(clip), {"align": aligned}


@fault(
    16,
    "clips of one to nine frames: every stage does what can be done, or says how many it needs",
    without={
        "two frames for a pair": instead(
            "mer_prep.stages.flow.choose_pairs",
            lambda clip, *_, **__: ChosenPairs(
                np.zeros((1, 2), np.int32), np.ones((1, 2), np.int64), {}, []
            ),
        ),
        "eight frames for a lagged sample": instead(
            "mer_prep.stages.pairs.lagged_pairs",
            lambda count, divisor: np.zeros((0, 2), np.int32),
        ),
    },
)
def short_clips(tries: Tries) -> None:
    stages: list[tuple[Stage, int, str]] = [
        (Flow(FlowParams(method="dis")), 2, "Flow needs 2 frames"),
        (Flow(FlowParams(method="dis", pairs="lagged")), 8, "needs 8 frames"),
        (Flow(FlowParams(method="dis", pairs="consecutive")), 2, "Flow needs 2 frames"),
        (Difference(), 2, "Difference needs 2 frames"),
        (Difference(DifferenceParams(pairs="onset-to-all")), 2, "Difference needs 2 frames"),
        (DynamicImage(), 2, "Dynamic-image needs 2 frames"),
        (Tim(), 2, "Temporal interpolation needs 2 frames"),
        (Apex(), 1, ""),
        (Magnify(), 1, ""),
    ]
    for count in tries.of(range(1, 10), quick=5):
        clip, frames, inputs = _short(count, tries.fresh())
        for stage, least, words in stages:
            if count >= least:
                output = stage.run(clip, frames, inputs)
                for array in output.arrays.values():
                    assert array.size
                    assert np.isfinite(array).all()
                continue
            needed = words if least == 2 else "needs 2 frames" if count < 2 else words
            with refused(MotionError, needed, f"clip has {count}", clip.clip_id):
                stage.run(clip, frames, inputs)


@fault(
    16,
    "short clips in a corpus: counted and named, not dropped",
    without={
        "eight frames for a lagged sample": instead(
            "mer_prep.stages.pairs.lagged_pairs",
            lambda count, divisor: consecutive_pairs(count),
        ),
        "errors of the data told from others": instead("mer_prep.stages.worker.DATA_ERRORS", ()),
    },
)
def short_clips_of_a_corpus(tries: Tries) -> None:
    folder, workspace = tries.fresh(), tries.fresh()
    for count in tries.of((5, 7, 8, 9)):
        write_frames(folder / "ann" / f"of{count}", [picture(MIDDLE, seed=count)] * count)
    program("import", "clips", folder, "--workspace", workspace, code=0)
    lagged = ("--set", "flow.pairs=lagged", "--set", "flow.method=dis")
    small = ("--set", "align.size=48", "--set", "align.mode=onset")
    with squares_for_faces():
        said = program("flow", *lagged, *small, "--workspace", workspace, "--jobs", 1, code=3)
    text = (workspace / "failures.jsonl").read_text()
    for count in (5, 7):
        assert f"needs 8 frames, and the clip has {count}" in text, text
    assert "of8" not in text
    assert "of9" not in text
    assert "2 done, 0 cached, 2 failed" in said.out, said


@fault(
    16,
    "a clip of 20,000 frames: no more of it is held than of a short one",
    without={"only short clips are kept": instead("mer_prep.sources.frames.KEPT_FRAMES", 10**9)},
)
def long_clips(tries: Tries) -> None:
    for count in tries.of((1_000,) if tries.quick else (1_000, 20_000)):
        clip = clip_of(tries.fresh(), [picture(MIDDLE, size=(64, 48))])
        first = Path(clip.root, clip.frames[0])
        names = [f"ann/film/img{number}.png" for number in range(1, count + 1)]
        for name in names[1:]:
            os.link(first, Path(clip.root, name))
        numbers = tuple(range(1, count + 1))
        long = dataclasses.replace(clip, frames=tuple(names), frame_numbers=numbers)
        assert read_bytes(long, names[-1]) == first.read_bytes()
        frames = ClipFrames(long, 0, count)
        tracemalloc.start()
        try:
            seen = sum(image.shape == (48, 64, 3) for image in frames)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert seen == count
        assert peak < 2 * 2**20, f"{peak:,} bytes were held"


class _Endless:
    """Stands in for an array in its file: rows are made when they are asked for."""

    def __init__(self, count: int, *shape: int, dtype: str) -> None:
        self.shape = (count, *shape)
        self.dtype = np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> np.ndarray:
        return np.full(self.shape[1:], index % 7, self.dtype)


def _all_at_once(shape: tuple[int, ...], dtype: Any, blocks: Iterator[np.ndarray]) -> Blocks:
    return Blocks(shape, dtype, iter(list(blocks)))


def _no_flow(firsts: list[np.ndarray], seconds: list[np.ndarray], **_: object) -> np.ndarray:
    return np.zeros((len(firsts), 2, *firsts[0].shape), np.float32)


_STREAMED = ("difference", "flow", "strain", "motion_image")


@fault(
    16,
    "results of a long clip: given in blocks, and no more of them held than of a short one",
    without={
        f"blocks of the stage {name}": instead(f"mer_prep.stages.{name}.Blocks", _all_at_once)
        for name in _STREAMED
    },
)
def long_results(tries: Tries) -> None:
    side = 32
    clip = clip_of(tries.fresh(), [picture(MIDDLE)])
    stages: tuple[tuple[Stage, int], ...] = (
        (Difference(DifferenceParams(pairs="consecutive")), 1500),
        (Flow(FlowParams(method="dis", pairs="consecutive")), 1500),
        (Strain(), 300),
        (MotionImage(), 300),
    )
    for stage, count in tries.of(stages):
        numbers = tuple(range(1, count + 1))
        long = dataclasses.replace(clip, frames=clip.frames * count, frame_numbers=numbers)
        frames = ClipFrames(long, 0, count)
        given: Any = {
            "align": {"frames": _Endless(count, side, side, 3, dtype="uint8")},
            "flow": {"flow": _Endless(count, 2, side, side, dtype="float32")},
        }
        with mock.patch("mer_prep.stages.flow.optical_flows", _no_flow):
            tracemalloc.start()
            try:
                stream = stage.stream(long, frames, given)
                ((name, blocks),) = stream.blocks.items()
                rows = sum(len(block) for block in blocks)
                stream.finish()
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert rows >= count - 1
        whole = np.prod(blocks.shape) * blocks.dtype.itemsize
        assert peak < whole / 4, f"{stage.name}.{name}: {peak:,} bytes were held of {whole:,}"
