"""Real videos of talking faces: lost faces, cuts that are noticed, steadiness.

There is no truth here. Followed landmarks are checked against dlib's detector, which looks anew;
steadiness is the motion from frame to frame where expressions do not move the face.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import peers
from benchmarks.clips import Prepared, find_landmarks, prepare
from benchmarks.contests import Options
from benchmarks.goals import rms
from benchmarks.tables import Column, Table
from mer_prep.errors import DecodeError, NoFaceError
from mer_prep.manifest import Clip
from mer_prep.ops.flow import dis
from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import eye_distance
from mer_prep.sources.frames import ClipFrames, iterate_video
from mer_prep.stages.align import Align, AlignParams
from mer_prep.synth.corpus import encode_frame

#: Frames from one check of the landmarks to the next, and frames within which a cut must be seen.
EVERY = 8

#: Mean distance of landmarks from dlib's, in outer-eye distances, above which a face is lost.
LOST = 0.25

#: Frames of each part of a cut video, and their size.
PART = 24
CUT_SIZE = (640, 480)

#: Landmarks around the part of the face that expressions do not move: the bridge of the nose, from
#: the inner corners of the eyes to the base of its tip.
STEADY_POINTS = (27, 42, 33, 39)

#: The same with the nostrils' wings, which action units 9, 10, 38 and 39 and speech move.
WIDER_POINTS = (27, 42, 35, 31, 39)

PER_FRAME_DLIB = "per-frame, dlib"


def run(options: Options) -> list[Table]:
    """Return the tables of lost faces, of cuts and of steadiness."""
    frames = 480 if options.full else 144
    followed, steadiness = [], []
    for video in options.videos:
        options.say(f"{video.name}: following and steadiness")
        take = read_take(video, frames)
        prepared = prepare(take.clip, take.frames(), mode="stabilized")
        followed.append(_follow_row(take, prepared))
        steadiness.append(_steadiness_row(take, prepared))
    options.say("cuts")
    return [_follow_table(followed), _cut_table(options), _steadiness_table(steadiness)]


@dataclass(frozen=True)
class Take:
    """The beginning of a video."""

    name: str
    clip: Clip

    def frames(self) -> ClipFrames:
        """Return its frames, of which none is decoded yet."""
        return ClipFrames(self.clip, 0, len(self.clip.frame_numbers))


def read_take(video: Path, frames: int) -> Take:
    """Return the first frames of a video, as many as it has and at most `frames`."""
    count = sum(1 for _ in islice(iterate_video(video), frames))
    if count < 2:
        raise DecodeError("The video has fewer than two frames.", where=video)
    return Take(video.stem, make_clip(video.parent, video.stem, count, video=video.name))


def make_clip(root: Path, name: str, count: int, **source: Any) -> Clip:
    """Return the record of a clip of which nothing is annotated."""
    return Clip(
        clip_id=f"bench/{name}/{name}",
        corpus="bench",
        subject=name,
        clip=name,
        root=str(root.resolve()),
        frame_numbers=tuple(range(count)),
        **source,
    )


def landmark_distance(found: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean distance of 68 landmarks from others, in outer-eye distances of these."""
    distance = np.linalg.norm(np.asarray(found, np.float64) - reference, axis=-1).mean()
    return float(distance / eye_distance(reference))


def _peer_landmarks(image: np.ndarray) -> np.ndarray | None:
    return peers.detect_landmarks(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))


def _follow_row(take: Take, prepared: Prepared) -> dict[str, Any]:
    landmarks = np.asarray(prepared.landmarks["landmarks"])
    detected = np.asarray(prepared.landmarks["detected"])
    distances, unseen = [], 0
    for index, image in enumerate(take.frames()):
        if index % EVERY:
            continue
        reference = _peer_landmarks(image)
        if reference is None:
            unseen += 1
        else:
            away = landmark_distance(landmarks[index], reference)
            distances.append(away if detected[index] else math.inf)
    return {
        "video": take.name,
        "frames": len(landmarks),
        "checks": len(distances),
        "unseen": unseen,
        "lost": sum(one > LOST for one in distances),
        "without_face": int((~detected).sum()),
        "median": statistics.median(distances) if distances else math.nan,
        "worst": max(distances, default=math.nan),
    }


def _follow_table(rows: list[dict[str, Any]]) -> Table:
    total = {
        key: sum(row[key] for row in rows)
        for key in ("frames", "checks", "unseen", "lost", "without_face")
    }
    total |= {
        "video": "all",
        "median": statistics.median(row["median"] for row in rows),
        "worst": max(row["worst"] for row in rows),
    }
    return Table(
        f"followed faces against dlib's detector in every {EVERY}th frame",
        (
            Column("video", "video"),
            Column("frames", "frames"),
            Column("checks", "checks"),
            Column("lost", "lost"),
            Column("median", "median distance", 3),
            Column("worst", "worst", 3),
            Column("without_face", "frames without face"),
            Column("unseen", "not seen by dlib"),
        ),
        [*rows, total],
        "Mean distance of the 68 landmarks, in outer-eye distances; a face is lost if it is above "
        f"{LOST} or if none was found where dlib finds one.",
    )


# --- cuts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of a cut video: where it is from, its frames, and whether they show a face."""

    name: str
    images: Sequence[np.ndarray]
    face: bool = True


def _cut_table(options: Options) -> Table:
    parts = [Part(video.stem, _beginning(video)) for video in options.videos]
    empty = Part("no face", _no_face(options.no_face), face=False)
    rows = [
        row
        for first, second in zip(parts, [*parts[1:], parts[0]], strict=True)
        for row in cut_rows([first, empty, second, first])
    ]
    noticed = sum(row["noticed"] for row in rows)
    return Table(
        f"cuts: {noticed} of {len(rows)} noticed within {EVERY} frames",
        (
            Column("cut", "cut"),
            Column("wrong", "wrong frames"),
            Column("delay", "right after, frames"),
            Column("noticed", "noticed"),
        ),
        rows,
        f"Parts of {PART} frames joined. A frame is right if no face is found where there is "
        f"none, and if landmarks are within {LOST} outer-eye distances of dlib's where there is "
        f"one; a cut is noticed if all frames are right from at most {EVERY} after it on.",
    )


def _beginning(video: Path) -> list[np.ndarray]:
    return [fit(image, CUT_SIZE) for image in islice(iterate_video(video), PART)]


def _no_face(video: Path | None) -> list[np.ndarray]:
    """Return frames without a face: of the video given, or of drifting cloudy noise."""
    if video is not None:
        return _beginning(video)
    width, height = CUT_SIZE
    noise = np.random.default_rng(0).normal(size=(height, width, 3)).astype(np.float32)
    cloud = np.clip(128 + 400 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)
    return [np.roll(cloud, 2 * shift, axis=1) for shift in range(PART)]


def fit(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture scaled into (width, height), with black bars where it does not fill it."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    inner = (round(width * scale), round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    result = np.zeros((size[1], size[0], 3), np.uint8)
    result[top : top + inner[1], left : left + inner[0]] = cv2.resize(
        image, inner, interpolation=method
    )
    return result


def cut_rows(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Yield the row of every cut of the video that the parts are joined to."""
    images = [image for part in parts for image in part.images]
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(f"img{number:04d}.jpg" for number in range(len(images)))
        for file, image in zip(names, images, strict=True):
            (Path(folder) / file).write_bytes(encode_frame(image, ".jpg"))
        clip = make_clip(Path(folder), "cut", len(images), frames=names)
        found = find_landmarks(clip, ClipFrames(clip, 0, len(images)))
    start = len(parts[0].images)
    for before, part in pairwise(parts):
        span = slice(start, start + len(part.images))
        right = list(_right(part, found["landmarks"][span], found["detected"][span]))
        delay = settled_after(right)
        yield {
            "cut": f"{before.name} to {part.name}",
            "wrong": right.count(False),
            "delay": delay,
            "noticed": delay is not None and delay <= EVERY,
        }
        start = span.stop


def _right(part: Part, landmarks: np.ndarray, detected: np.ndarray) -> Iterator[bool]:
    """Yield for every frame of a part whether what was found in it is right."""
    for image, points, seen in zip(part.images, landmarks, detected, strict=True):
        reference = _peer_landmarks(image) if part.face else None
        if reference is not None:
            yield bool(seen) and landmark_distance(points, reference) <= LOST
        else:
            yield part.face or not seen


def settled_after(right: Iterable[bool]) -> int | None:
    """Return after how many frames all that follow are right; None if the last one is wrong."""
    marks = list(right)
    wrong = [index for index, one in enumerate(marks) if not one]
    if not wrong:
        return 0
    return None if wrong[-1] == len(marks) - 1 else wrong[-1] + 1


# --- steadiness -------------------------------------------------------------------------------


def _steadiness_row(take: Take, stabilized: Prepared) -> dict[str, Any]:
    """Return the RMS motion from frame to frame, px at 144x144, by mode."""
    frames = take.frames()
    onset_landmarks = np.asarray(stabilized.aligned["landmarks"])[0]
    mask, wider = steady_mask(onset_landmarks), steady_mask(onset_landmarks, WIDER_POINTS)
    row: dict[str, Any] = {"video": take.name}
    row["stabilized"] = motion_rms(np.asarray(stabilized.aligned["frames"]), mask)
    row["failures"] = stabilized.facts["registration_failures"]
    for mode in ("onset", "per-frame"):
        try:
            output = Align(AlignParams(mode=mode)).run(
                take.clip, frames, {"landmarks": stabilized.landmarks}
            )
        except NoFaceError:
            row[mode] = math.nan
        else:
            row[mode] = motion_rms(np.asarray(output.arrays["frames"]), mask)
    row[PER_FRAME_DLIB] = motion_rms(_by_dlib(frames), mask)
    for mode in ("onset", "per-frame", PER_FRAME_DLIB):
        row[f"{mode} ratio"] = row[mode] / row["stabilized"]
    row["wider ratio"] = motion_rms(_by_dlib(frames), wider) / motion_rms(
        np.asarray(stabilized.aligned["frames"]), wider
    )
    return row


def _by_dlib(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield every frame aligned by landmarks detected in it; a miss has those before it."""
    landmarks: np.ndarray | None = None
    for image in frames:
        found = _peer_landmarks(image)
        landmarks = landmarks if found is None else found
        if landmarks is not None:
            yield peers.align(image, landmarks)


def steady_mask(
    landmarks: np.ndarray, points: Sequence[int] = STEADY_POINTS, *, size: int = peers.SIZE
) -> np.ndarray:
    """Return the bridge of the nose in an aligned frame, (size, size) bool."""
    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(landmarks[list(points)].astype(np.float32))
    cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), 1)
    return mask.astype(bool)


def motion_rms(frames: Iterable[np.ndarray], mask: np.ndarray) -> float:
    """Return the RMS length of the DIS flow between neighbouring frames in a mask, px."""
    grey = [to_grey(frame) for frame in frames]
    return rms(
        [
            math.sqrt(float((dis(first, second)[:, mask] ** 2).sum(axis=0).mean()))
            for first, second in pairwise(grey)
        ]
    )


def _steadiness_table(rows: list[dict[str, Any]]) -> Table:
    modes = ("stabilized", "onset", "per-frame", PER_FRAME_DLIB)
    keys = [*modes, *(f"{mode} ratio" for mode in modes[1:]), "wider ratio"]
    summary = [
        {"video": name} | {key: choose([row[key] for row in rows]) for key in keys}
        for name, choose in (("median", statistics.median), ("smallest", min))
    ]
    return Table(
        "motion from frame to frame on the bridge of the nose, RMS px at 144x144",
        (
            Column("video", "video"),
            *(Column(mode, mode, 3) for mode in modes),
            *(Column(f"{mode} ratio", f"{mode} / stabilized", 1) for mode in modes[1:]),
            Column("wider ratio", "the last, nostrils included", 1),
            Column("failures", "not registered"),
        ),
        [*rows, *summary],
        "DIS flow. 'per-frame' has mer-prep's sub-pixel landmarks, 'per-frame, dlib' the "
        "whole-pixel ones of a detection in each frame. What a turn of the head out of the "
        "picture's plane moves remains in all of them.",
    )
