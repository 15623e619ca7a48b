"""Values that are not finite, and frames in which nothing is to be seen or nothing moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np

from mer_prep.errors import MotionError, NoFaceError
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages import all_stages, worker
from mer_prep.stages.align import MODES, Align, AlignParams
from mer_prep.stages.apex import METHODS, Apex, ApexParams
from mer_prep.stages.base import Field, Stage, StageOutput
from mer_prep.stages.difference import Difference
from mer_prep.stages.dynamic_image import DynamicImage, DynamicImageParams
from mer_prep.stages.flow import Flow, FlowParams
from mer_prep.stages.landmarks import Landmarks
from mer_prep.stages.magnify import Magnify, MagnifyParams
from mer_prep.stages.motion_image import MotionImage
from mer_prep.stages.strain import Strain, StrainParams
from mer_prep.stages.tim import Tim
from mer_prep.store.blocks import Blocks
from tests.faults.catalogue import Tries, fault, instead, nothing, program, refused
from tests.faults.scenes import (
    MIDDLE,
    clip_of,
    face_points,
    frames_of,
    picture,
    squares_for_faces,
    write_frames,
)

_BAD = (np.nan, np.inf, -np.inf)
_SIDE = 64

Inputs = dict[str, dict[str, np.ndarray]]


def _zeros(field: Field) -> np.ndarray:
    """Return an array that a field may hold, of two to four along every axis."""
    sides = [2 + place % 3 for place, _ in enumerate(field.axes.split())]
    return np.zeros(sides, field.dtype)


@fault(
    13,
    "a value that is not finite in any dataset or fact of any stage",
    without={
        "the look at what is stored": instead("mer_prep.stages.worker._check_finite", nothing),
        "the look at facts": instead("mer_prep.stages.worker._check_facts", nothing),
    },
)
def results_not_finite(tries: Tries) -> None:
    rng = np.random.default_rng(0)
    fields = [
        (kind(), field)
        for kind in all_stages().values()
        for field in kind().fields
        if np.dtype(field.dtype).kind == "f"
    ]
    for (stage, field), bad in tries.of(itertools.product(fields, _BAD), quick=60):
        arrays = {one.name: _zeros(one) for one in stage.fields}
        array = arrays[field.name]
        places = sorted(rng.choice(array.size, 2, replace=False))
        array.flat[places] = bad
        first = tuple(int(one) for one in np.unravel_index(places[0], array.shape))
        words = (f"{stage.name}.{field.name} holds 2 values", f"the first at {first}")
        with refused(MotionError, *words):
            worker.check_output(stage, StageOutput(arrays))
        rows = iter(np.split(array, len(array)))
        with refused(MotionError, f"{stage.name}.{field.name}", f"the first at {first}"):
            list(worker.check_blocks(stage, field, Blocks(array.shape, array.dtype, rows)))
    for kind, bad in tries.of(itertools.product((float, np.float64, np.float32), _BAD)):
        stage = Flow()
        arrays = {one.name: _zeros(one) for one in stage.fields}
        with refused(MotionError, "flow: mean_magnitude_px is"):
            worker.check_output(stage, StageOutput(arrays, {"mean_magnitude_px": kind(bad)}))


def _prepared(folder: Path, images: Sequence[np.ndarray]) -> tuple[Clip, ClipFrames, Inputs]:
    """Return a clip and what the stages after ``align`` are given, at `_SIDE` px."""
    clip = clip_of(folder, images, onset=1, apex=2, offset=len(images))
    points = np.repeat((_SIDE / 2 + 50 * face_points())[None], len(images), axis=0)
    small = np.stack([image[28 : 28 + _SIDE, 48 : 48 + _SIDE] for image in images])
    aligned = {"frames": small, "landmarks": points.astype(np.float32)}
    return clip, frames_of(clip), {"align": aligned}


def _spoilt(bad: float) -> Callable[..., np.ndarray]:
    """Return a method of flow that gives one bad value in the last flow of a block."""

    def flows(firsts: Any, seconds: Any, **_: object) -> np.ndarray:
        count = 1 if isinstance(firsts, np.ndarray) else len(firsts)
        made = np.zeros((count, 2, _SIDE, _SIDE), np.float32)
        made[-1, 1, 20, 9] = bad
        return made[0] if isinstance(firsts, np.ndarray) else made

    return flows


@fault(
    13,
    "a method of flow gives values that are not finite, or too large for half precision",
    without={
        "the look at the flow": instead("mer_prep.stages.flow.check_finite", nothing),
        "the look at the flow that spots the apex": instead(
            "mer_prep.ops.expression_score._check_flows", nothing
        ),
    },
)
def flow_not_finite(tries: Tries) -> None:
    clip, frames, inputs = _prepared(tries.fresh(), [picture(seed=one) for one in range(9)])
    ways = [*itertools.product(_BAD, ("float32", "float16")), (1e5, "float16")]
    pairs = {"onset-apex": 0, "lagged": 6, "consecutive": 7, "onset-to-all": 7}
    for (bad, dtype), (name, row) in tries.of(itertools.product(ways, pairs.items()), quick=28):
        stage = Flow(FlowParams(method="dis", pairs=name, dtype=dtype))
        with (
            mock.patch("mer_prep.stages.flow.optical_flows", _spoilt(bad)),
            refused(MotionError, "1 values", f"v of pair {row} ", "x = 9, y = 20", clip.clip_id),
        ):
            stage.run(clip, frames, inputs)
    for bad in tries.of(_BAD, quick=3):
        with (
            mock.patch("mer_prep.ops.expression_score.optical_flow", _spoilt(bad)),
            refused(MotionError, "flow to 8 of 9 frames is not finite; the first is frame 1"),
        ):
            Apex().run(clip, frames, inputs)


def _hiding(image: np.ndarray) -> np.ndarray:
    """Stretch channels as if all were finite."""
    return np.nan_to_num((image - image.min()) / max(1e-9, float(np.nanmax(image))))


@fault(
    13,
    "values that are not finite in what a stage is given: in its result, too, and refused there",
    without={
        "the look at what is stored": instead("mer_prep.stages.worker._check_finite", nothing),
        "channels that are no numbers": instead("mer_prep.ops.motion_image.stretched", _hiding),
    },
)
def flow_not_finite_before(tries: Tries) -> None:
    clip, frames, inputs = _prepared(tries.fresh(), [picture(seed=one) for one in range(4)])
    stages: list[Stage] = [
        Strain(),
        Strain(StrainParams(components="tensor")),
        MotionImage(),
        DynamicImage(DynamicImageParams(input="flow")),
    ]
    places = [(channel, y, x) for channel in (0, 1) for y in (0, 31, 63) for x in (0, 31, 63)]
    for bad, place in tries.of(itertools.product(_BAD, places), quick=18):
        flow = np.random.default_rng(0).normal(size=(3, 2, _SIDE, _SIDE)).astype(np.float32)
        flow[(1, *place)] = bad
        pairs = np.array([(0, 1), (0, 2), (0, 3)], np.int32)
        given = {**inputs, "flow": {"flow": flow, "pairs": pairs}}
        for stage in stages:
            with np.errstate(all="ignore"):
                output = stage.run(clip, frames, given)
            with refused(MotionError, f"{stage.name}.", "not finite"):
                worker.check_output(stage, output)


@fault(
    13,
    "a clip whose flow is not finite among others: put aside and named, and nothing of it stored",
    without={
        "the look at the flow": instead("mer_prep.stages.flow.check_finite", nothing),
        "errors of the data told from others": instead("mer_prep.stages.worker.DATA_ERRORS", ()),
    },
)
def clips_not_finite(tries: Tries) -> None:
    folder, workspace = tries.fresh(), tries.fresh()
    names = ("one", "two", "six")
    for number, name in enumerate(names):
        images = [picture(MIDDLE, seed=3, lift=160 + number)] * (2 + number)
        write_frames(folder / "ann" / name, images)
    program("import", "clips", folder, "--workspace", workspace, code=0)
    for bad in tries.of(_BAD, quick=1):

        def flows(firsts: Sequence[Any], *_: object, bad: float = bad, **__: object) -> np.ndarray:
            flow = np.zeros((len(firsts), 2, *firsts[0].shape), np.float32)
            if len(firsts) == 2:  # of the clip `two`, which has three frames
                flow[1, 0, 3, 4] = bad
            return flow

        options = ("--set", "flow.pairs=consecutive", "--set", "align.mode=onset", "--force")
        where = ("--workspace", workspace, "--jobs", 1)
        with squares_for_faces(), mock.patch("mer_prep.stages.flow.optical_flows", flows):
            said = program("strain", *options, *where, code=3)
        assert "MotionError: 1 values of the flow" in said.err, said
        assert "2 done" in said.out, said
        assert "1 failed" in said.out, said
        kept: dict[str, set[str]] = {"flow": set(), "strain": set()}
        for path in (workspace / "cache").rglob("*.h5"):
            with h5py.File(path) as file:
                found = kept.get(str(file.attrs["stage"]), set())
                file.visititems(partial(_look, found, str(file.attrs["stage"])))
        assert kept == {"flow": {"one", "six"}, "strain": {"one", "six"}}, kept


def _look(clips: set[str], stage: str, name: str, item: Any) -> None:
    """Note the clip of a dataset named as its stage, and see that it is finite."""
    if isinstance(item, h5py.Dataset) and name.endswith(f"/{stage}"):
        assert np.isfinite(item[()]).all()
        clips.add(str(item.parent.attrs["clip_id"]).rpartition("/")[2])


def _still() -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield clips in which nothing moves."""
    for value in (0, 1, 127, 254, 255):
        yield f"flat {value}", [np.full((120, 160, 3), value, np.uint8)] * 9
    for seed in range(3):
        yield f"texture {seed}", [picture(MIDDLE, seed=seed)] * 9


def _stages_after_align() -> Iterator[Stage]:
    for method, engine in (("tvl1", "auto"), ("tvl1", "opencv"), ("farneback", "auto")):
        yield Flow(FlowParams(method=method, engine=engine))
    for pairs in ("lagged", "consecutive", "onset-to-all"):
        yield Flow(FlowParams(method="dis", pairs=pairs))
    for remove in ("translation", "similarity"):
        yield Flow(FlowParams(method="dis", remove_global=remove, mask="eyes"))
    yield Difference()
    for method, input_ in itertools.product(("approximate", "exact"), ("rgb", "grey")):
        yield DynamicImage(DynamicImageParams(method=method, input=input_))
    for method in METHODS:
        yield Apex(ApexParams(method=method))


#: What must be zero where nothing moves.
_ZERO = ("flow", "difference", "dynamic_image", "score", "strain", "motion_image", "confidence")


def _check_still(stage: Stage, output: StageOutput) -> None:
    arrays: Mapping[str, np.ndarray] = worker.check_output(stage, output)
    for name in set(arrays) & set(_ZERO):
        assert not np.abs(arrays[name]).max() > 1e-6, f"{stage.name} {stage.params}"


def _never_still(image: np.ndarray) -> np.ndarray:
    low = image.min(axis=(1, 2), keepdims=True)
    with np.errstate(all="ignore"):
        return (image - low) / (image.max(axis=(1, 2), keepdims=True) - low)


@fault(
    14,
    "frames that are flat or all the same: zeros, not noise and no numbers, and it is said",
    without={
        "a constant channel is zero": instead("mer_prep.ops.motion_image.stretched", _never_still),
        "a sentence about it": instead("mer_prep.stages.apex._warnings", lambda *_: ()),
        "the look for motion": instead("mer_prep.stages.magnify._why_still", lambda frames: ""),
    },
)
def nothing_moves(tries: Tries) -> None:
    for _, images in tries.of(_still(), quick=3):
        clip, frames, inputs = _prepared(tries.fresh(), images)
        for stage in _stages_after_align():
            output = stage.run(clip, frames, inputs)
            _check_still(stage, output)
            assert any(
                words in sentence
                for words in ("no motion", "no difference", "no change", "Nothing moves")
                for sentence in output.warnings
            ), f"{stage.name} {stage.params} says {output.warnings}"
        given = {**inputs, "flow": dict(Flow().run(clip, frames, inputs).arrays)}
        for stage in (Strain(), Strain(StrainParams(components="tensor")), MotionImage()):
            _check_still(stage, stage.run(clip, frames, given))
        for method in ("phase", "linear"):
            output = Magnify(MagnifyParams(method=method)).run(clip, frames, inputs)
            np.testing.assert_array_equal(output.arrays["frames"], inputs["align"]["frames"])
            assert "there is no motion to magnify" in output.warnings[0]
        output = Tim().run(clip, frames, inputs)
        assert (output.arrays["frames"] == inputs["align"]["frames"][0]).all()


@fault(
    14,
    "flat frames where a face is looked for, and between frames with one",
    without={
        "a refusal where no face is": instead(
            "mer_prep.stages.landmarks.Landmarks._no_face",
            lambda *_: MotionError("something else"),
        ),
        "the failure of a registration": instead(
            "mer_prep.stages.align.failure_warnings", lambda failures, numbers: ()
        ),
    },
)
def flat_frames(tries: Tries) -> None:
    for value, mode in tries.of(itertools.product((0, 64, 127), MODES), quick=6):
        flat = np.full((120, 160, 3), value, np.uint8)
        clip = clip_of(tries.fresh(), [flat] * 3)
        with squares_for_faces(), refused(NoFaceError, "any of 3 frames", clip.clip_id):
            Landmarks().run(clip, frames_of(clip), {})
        face = picture(MIDDLE)
        clip = clip_of(tries.fresh(), [face, flat, face])
        with squares_for_faces():
            found = Landmarks().run(clip, frames_of(clip), {})
        stage = Align(AlignParams(mode=mode, size=32))
        output = stage.run(clip, frames_of(clip), {"landmarks": dict(found.arrays)})
        arrays = worker.check_output(stage, output)
        np.testing.assert_array_equal(arrays["frames"][2], arrays["frames"][0])
        said = any("could not be followed in 1 of 3 frames" in one for one in output.warnings)
        assert said == (mode == "stabilized")
