"""Faces that are missing, several, split, or no faces at all; landmarks that make no sense."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import cv2
import numpy as np

from mer_prep.errors import MerPrepError, NoFaceError
from mer_prep.ops import tracking
from mer_prep.ops.faces import Face, FaceFinder, centre_of, choose_face, side_of
from mer_prep.ops.similarity import fit_similarity
from mer_prep.ops.tracking import track_face
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages.align import MODES, ONSET_SEARCH, Align, AlignParams
from mer_prep.stages.landmarks import LandmarkParams, Landmarks
from tests.faults.catalogue import Tries, fault, instead, nothing, refused
from tests.faults.scenes import (
    MIDDLE,
    SIZE,
    SquareFinder,
    clip_of,
    face_points,
    frames_of,
    picture,
    squares_for_faces,
)

_TRACKING = "mer_prep.ops.tracking."
_LANDMARKS = "mer_prep.stages.landmarks."


@fault(
    9,
    "frames without a face among others: kept, marked, said, and their landmarks in between",
    without={
        "the second look at what is followed": instead(_TRACKING + "THRESHOLD", -np.inf),
        "landmarks in between": instead(
            _LANDMARKS + "interpolate_missing", lambda values, known: values
        ),
        "a sentence about it": instead(_LANDMARKS + "_warnings", lambda track, numbers: []),
    },
)
def frames_without_a_face(tries: Tries) -> None:
    count = 6
    squares = [(70.0 + 2 * index, 60.0, 70.0) for index in range(count)]
    shown = [picture(square, seed=1) for square in squares]
    dim = [picture(square, seed=1, lift=40) for square in squares]
    patterns = [
        (recheck, pattern, others)
        for recheck in (1, 8)
        for others in ([picture(seed=2)] * count, dim)
        for pattern in itertools.product((True, False), repeat=count)
        if 0 < sum(pattern) < count
    ]
    with squares_for_faces():
        for recheck, pattern, others in tries.of(patterns, quick=16):
            images = [(shown if face else others)[index] for index, face in enumerate(pattern)]
            clip = clip_of(tries.fresh(), images)
            output = Landmarks(LandmarkParams(recheck=recheck)).run(clip, frames_of(clip), {})
            assert output.arrays["detected"].tolist() == list(pattern)
            seen = np.flatnonzero(pattern)
            expected = np.interp(np.arange(count), seen, 2.0 * seen)
            found = output.arrays["landmarks"]
            moved = (found - found[seen[0]]).mean(axis=1)[:, 0]
            np.testing.assert_allclose(moved, expected - expected[seen[0]], atol=1e-3)
            first = pattern.index(False) + 1
            words = (
                f"{count - len(seen)} of {count} frames show no face, the first is frame {first}"
            )
            assert any(words in sentence for sentence in output.warnings), output.warnings


def _placed(count: int, *, shift: float = 0.0) -> np.ndarray:
    points = np.repeat((70 * face_points() + (80, 60))[None], count, axis=0)
    points[:, :, 0] += shift * np.arange(count)[:, None]
    return points.astype(np.float32)


@fault(
    9,
    "no face in the onset frame: one of the next frames stands in, or the clip is put aside",
    without={
        "a bound on the frames that may stand in": instead(
            "mer_prep.stages.align.ONSET_SEARCH", 1000
        ),
        "a face in the frame the clip is aligned by": instead(
            "mer_prep.stages.align.Align._reference_frame", lambda *_: (0, ())
        ),
    },
)
def onset_without_a_face(tries: Tries) -> None:
    count = 14
    clip = clip_of(tries.fresh(), [picture(MIDDLE)] * count)
    frames = frames_of(clip)
    ways = [(mode, missing) for mode in ("onset", "median") for missing in range(count)]
    for mode, missing in tries.of(ways, quick=len(ways)):
        detected = np.arange(count) >= missing
        inputs = {"landmarks": {"landmarks": _placed(count), "detected": detected}}
        stage = Align(AlignParams(mode=mode, size=32))
        if mode == "onset" and missing > ONSET_SEARCH:
            with refused(NoFaceError, "Neither the onset frame 1 nor any", clip.clip_id):
                stage.run(clip, frames, inputs)
            continue
        output = stage.run(clip, frames, inputs)
        assert output.facts["reference_frame"] == missing + 1
        said = [one for one in output.warnings if f"aligned by frame {missing + 1}" in one]
        assert len(said) == int(mode == "onset" and missing > 0)


@contextmanager
def _any_score() -> Iterator[None]:
    sure = mock.patch.object(FaceFinder, "face_score", return_value=1.0)
    with mock.patch("mer_prep.ops.faces.THRESHOLD", -3.0), sure:
        yield


@fault(
    10,
    "clips of grass and other texture: no face, says the detector itself",
    without={"the least score of a face": _any_score},
    needs=("dlib", "face_recognition_models"),
)
def grass(tries: Tries) -> None:
    for seed, blur in tries.of(itertools.product(range(4), (1, 3, 6)), quick=3):
        noise = np.random.default_rng(seed).normal(size=(240, 200, 3)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), blur)
        image = np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)
        clip = clip_of(tries.fresh(), [image, image])
        with refused(NoFaceError, "any of 2 frames (200x240 px)", "HOG", "score of 0", "30 px"):
            Landmarks().run(clip, frames_of(clip), {})


@fault(
    10,
    "something that passes for a face, but is too small, too weak or of an impossible shape",
    without={
        "the least size of a face": instead("mer_prep.ops.faces.side_of", lambda box: 1e9),
        "the second look": instead(_TRACKING + "THRESHOLD", -np.inf),
        "the look at its shape": instead(_TRACKING + "check_face_shape", nothing),
    },
)
def false_faces(tries: Tries) -> None:
    image = picture()
    for least, side in tries.of(itertools.product((0.1, 0.2, 0.5), range(8, 100, 4)), quick=20):
        x, y = 80, 60
        box = np.array([x, y, x + side, y + side], np.float64) - side / 2
        found = [Face(box, 1.0)]
        finder = FaceFinder(min_face=least)
        with mock.patch.object(FaceFinder, "_detect_at", lambda *_, found=found: found):
            assert len(finder.detect(image)) == int(side >= least * 120)
    for points, score in tries.of(_impossible(), quick=6):
        finder = SquareFinder()
        finder.detect = lambda image: [Face(np.array([45.0, 25, 115, 95]), 3.0)]
        finder.predict = lambda image, box, points=points, **_: points
        finder.face_score = lambda image, box, score=score: score
        track = track_face(finder, [image] * 3)
        assert not track.detected.any()
        assert track.n_faces.tolist() == [1, 1, 1]


def _impossible() -> list[tuple[np.ndarray, float]]:
    """Return landmarks and the detector's score of things that are no faces."""
    face = _placed(1)[0].astype(np.float64)
    mirrored = face * (-1, 1) + (160, 0)
    return [
        (face, -0.5),
        (face, -np.inf),
        (mirrored, 3.0),
        ((face - 60) * (1, -1) + 60, 3.0),
        ((face - (80, 60)) * 0.1 + (80, 60), 3.0),
        (np.add(face, (90, 0)), 3.0),
        (np.subtract(face, (0, 90)), 3.0),
        (np.full((68, 2), np.nan), 3.0),
    ]


@fault(
    11,
    "two faces and more, alike, overlapping or split in two boxes, in any order",
    without={
        "the choice": instead(
            _TRACKING + "choose_face", lambda faces, size, previous=None: (*faces, None)[0]
        ),
        "the number of faces in the report": instead(_LANDMARKS + "_warnings", lambda *_: []),
    },
)
def several_faces(tries: Tries) -> None:
    rng = np.random.default_rng(0)
    for number in tries.of(range(300), quick=40):
        boxes = rng.integers(10, 90, (int(rng.integers(2, 6)), 2)).astype(float)
        sides = rng.choice([30, 40, 40.0], len(boxes))
        if number % 3 == 0:  # equally large, and equally far from the middle (79.5, 59.5)
            boxes, sides = np.array([[20, 40], [99, 40], [20, 39.0]]), np.full(3, 40.0)
        if number % 3 == 1:  # one face, two boxes
            boxes[1], sides[1] = boxes[0] + rng.integers(-3, 4, 2), sides[0]
        previous = rng.uniform(20, 100, 2) if number % 2 else None
        faces = [
            Face(np.array([x, y, x + side, y + side]), float(score))
            for (x, y), side, score in zip(boxes, sides, rng.normal(size=9), strict=False)
        ]
        chosen = {_chosen(order, previous) for order in itertools.permutations(faces)}
        assert len(chosen) == 1, f"{chosen} of {faces}"
    with squares_for_faces():
        for apart in tries.of((44, 50, 60), quick=3):
            squares = [(80 - apart / 2, 60, 40), (80 + apart / 2 + 10, 60, 40)]
            clip = clip_of(tries.fresh(), [picture(*squares, seed=3)] * 4)
            output = Landmarks().run(clip, frames_of(clip), {})
            assert output.arrays["n_faces"].tolist() == [2, -1, -1, -1]
            assert any("shows 2 faces" in sentence for sentence in output.warnings)
            middle = output.arrays["landmarks"].mean(axis=(0, 1))
            assert abs(middle[0] - squares[0][0]) < 2, "not the more central one"


def _chosen(faces: Sequence[Face], previous: np.ndarray | None) -> tuple[float, ...]:
    box = None if previous is None else np.concatenate([previous - 20, previous + 20])
    face = tracking.choose_face(faces, SIZE, previous=box)
    assert face is not None
    return tuple(face.box.tolist())


@fault(
    11,
    "a face that goes and comes back beside a larger one: the one that was there is followed",
    without={
        "continuity": instead(
            _TRACKING + "choose_face", lambda faces, size, previous=None: choose_face(faces, size)
        ),
    },
)
def the_same_face_again(tries: Tries) -> None:
    finder: Any = SquareFinder()
    for gap, larger in tries.of(itertools.product(range(1, 6), (42, 46, 50)), quick=6):
        own, other = (40.0, 60.0, 40.0), (110.0, 60.0, float(larger))
        images = [picture(own)] * 3 + [picture(seed=7)] * gap + [picture(own, other)] * 3
        track = track_face(finder, images)
        assert track.detected.tolist() == [True] * 3 + [False] * gap + [True] * 3
        for box in track.box[track.detected]:
            assert abs(float(centre_of(box)[0]) - own[0]) < 0.2 * side_of(box)


def _nonsense() -> dict[str, np.ndarray]:
    """Return landmarks (68, 2) that are no upright face in a picture of `SIZE`, by what is said."""
    middle = np.array([80.0, 60.0])
    face = 70 * face_points() + middle
    made: dict[str, np.ndarray] = {}
    for side in (0.0, 1e-9, 1.0, 8.0):
        made[f"px apart, less than 6 px ({side})"] = side * face_points() + middle
    for turn in (-1.0, 1.0):
        made[f"mirrored face ({turn})"] = (face - middle) * (-turn, turn) + middle
    for degrees in (91, 135, 180, 225, 269):
        angle = np.radians(degrees)
        turn_ = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        made[f"upside down ({degrees})"] = (face - middle) @ turn_ + middle
    for shift in ((100, 0), (-100, 0), (0, 90), (0, -90), (1e6, 1e6)):
        made[f"leaves the 160x120 px picture {shift}"] = face + shift
    for point, value in itertools.product((0, 30, 36, 45, 67), (np.nan, np.inf, -np.inf)):
        made[f"landmarks are not finite {point, value}"] = face.copy()
        made[f"landmarks are not finite {point, value}"][point, point % 2] = value
    for point, x in itertools.product((0, 8, 20, 60), (-200, 300, 1e30)):
        made[f"leaves the 160x120 px picture, point {point, x}"] = face.copy()
        made[f"leaves the 160x120 px picture, point {point, x}"][point] = (x, 60)
    return made


@fault(
    12,
    "landmarks outside of the picture, coincident, mirrored, turned over or not finite",
    without={
        "the look at their shape": instead("mer_prep.stages.align.check_face_shape", nothing),
    },
)
def landmarks_of_no_face(tries: Tries) -> None:
    clip = clip_of(tries.fresh(), [picture(MIDDLE)] * 3)
    frames = frames_of(clip)
    for said, mode in tries.of(itertools.product(_nonsense().items(), MODES), quick=60):
        words = said[0].partition(" (")[0].partition(", p")[0].rstrip("0123456789")
        points = np.repeat(said[1][None].astype(np.float32), 3, axis=0)
        inputs = {"landmarks": {"landmarks": points, "detected": np.ones(3, bool)}}
        with refused(NoFaceError, words, clip.clip_id):
            Align(AlignParams(mode=mode, size=32)).run(clip, frames, inputs)


@fault(
    12,
    "landmarks that make no sense in frames other than the one a clip is aligned by",
    without={
        "the look at what is stored": instead(
            "mer_prep.stages.worker.check_output", lambda stage, output: output.arrays
        ),
    },
)
def stray_landmarks(tries: Tries) -> None:
    from mer_prep.stages.worker import check_output

    clip = clip_of(tries.fresh(), [picture(MIDDLE)] * 4)
    frames: ClipFrames = frames_of(clip)
    for (name, stray), mode in tries.of(itertools.product(_nonsense().items(), MODES), quick=60):
        points = _placed(4)
        points[2] = stray
        inputs = {"landmarks": {"landmarks": points, "detected": np.ones(4, bool)}}
        stage = Align(AlignParams(mode=mode, size=32))
        try:
            with np.errstate(all="ignore"):
                arrays = check_output(stage, stage.run(clip, frames, inputs))
        except MerPrepError:
            continue
        assert mode != "per-frame", name
        assert all(np.isfinite(array).all() for array in arrays.values()), name
        np.testing.assert_array_equal(arrays["frames"][1], arrays["frames"][0])


@fault(
    12,
    "points that a similarity is fitted to are few, coincident, mirrored or not finite",
    without={
        "the refusals of the fit": instead(
            "mer_prep.ops.similarity.NoFaceError", lambda *_, **__: None
        ),
    },
)
def points_of_no_fit(tries: Tries) -> None:
    rng = np.random.default_rng(0)
    face = 70 * face_points()
    for seed in tries.of(range(200), quick=40):
        scale, (x, y) = float(rng.uniform(0.2, 5)), rng.normal(size=2)
        turn = scale * np.array([[x, -y], [y, x]]) / np.hypot(x, y)
        target = face @ turn.T + rng.uniform(-100, 100, 2)
        np.testing.assert_allclose(fit_similarity(face, target)[:, :2], turn, atol=1e-6)
        bad = target.copy()
        bad[seed % 68, seed % 2] = (np.nan, np.inf, -np.inf)[seed % 3]
        for source, other, words in (
            (face, target * (-1, 1), "mirror image"),
            (face, np.repeat(target[:1], 68, axis=0), "coincide"),
            (np.repeat(face[:1], 68, axis=0), target, "coincide"),
            (face, bad, "not finite"),
        ):
            with refused(NoFaceError, words):
                fit_similarity(source, other)
