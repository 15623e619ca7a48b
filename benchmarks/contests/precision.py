"""How exact alignment, landmarks and flow are, on synthetic clips whose truth is known."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import peers
from benchmarks.clips import Film, find_landmarks, make_scene, prepare, shoot, with_yaw
from benchmarks.contests import Options
from benchmarks.goals import JUDGED, Goal, judged_row, rms
from benchmarks.settings import landmark_settings
from benchmarks.tables import Column, Table
from mer_prep.errors import NoFaceError
from mer_prep.evaluation import evaluate_truth
from mer_prep.ops.flow import optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import (
    apply_transform,
    compose,
    face_transform,
    fit_similarity,
    five_points,
    invert,
    scale_of,
    transform_jitter,
    warp,
)
from mer_prep.synth.truth import ClipTruth

FRAMES, STEP = 30, 2

YAW = 0.5

JITTER = Goal(0.02, 0.005)
RESIDUAL = Goal(0.06, 0.03)
RESIDUAL_DISTURBED = Goal(0.07, 0.03)
RESIDUAL_YAW = Goal(0.12, 0.09)
LANDMARKS = Goal(1 / 3, 1 / 6)
FLOW_TO_PER_FRAME = Goal(0.20, 0.08)
FLOW_TO_RIGID = Goal(1.25, 1.10)
FLOW_TO_ZERO = Goal(0.65, 0.40)


@dataclass(frozen=True)
class Subjects:
    """The films of the contest, one of every kind for each face and take."""

    still: list[Film]
    moving: list[Film]
    disturbed: list[Film]
    turning: list[Film]


def run(options: Options) -> list[Table]:
    """Return the tables of alignment, landmarks and flow."""
    with tempfile.TemporaryDirectory() as folder:
        subjects = _shoot(Path(folder), options)
        options.say("the residuals of alignment")
        alignment = _alignment(subjects)
        options.say("the jitter of landmarks")
        landmarks = _landmarks(subjects.still)
        options.say("the errors of flow")
        flow = _flow(subjects.moving)
    return [alignment, landmarks, *flow]


def _shoot(folder: Path, options: Options) -> Subjects:
    found = Subjects([], [], [], [])
    for face in range(6 if options.full else 4):
        options.say(f"filming face {face + 1}")
        still = make_scene(face, frames=FRAMES, step=STEP, amplitude=0.0, head_motion=0.0)
        found.still.append(shoot(folder, f"still{face}", still))
        for take in range(2 if options.full else 1):
            moving = make_scene(face, frames=FRAMES, step=STEP, take=take)
            disturbed = dataclasses.replace(moving, blinks=True, flicker=0.01)
            name = f"{face}-{take}"
            found.moving.append(shoot(folder, f"moving{name}", moving))
            found.disturbed.append(shoot(folder, f"disturbed{name}", disturbed))
            turned = with_yaw(moving, degrees=YAW)
            found.turning.append(shoot(folder, f"turning{name}", moving, truth=turned))
    return found


def head_residual(transforms: np.ndarray, truth: ClipTruth, *, yaw: bool = False) -> float:
    """Return what an alignment leaves of the motion of the head, px RMS.

    Parameters
    ----------
    transforms : ndarray, shape (T, 2, 3)
        Source to aligned px of the frames of the truth, the first of which is the reference.
    truth : ClipTruth
        What moves.
    yaw : bool
        Whether the truth's second motion is a turn of the head, rather than a blink.

    Returns
    -------
    float
        Root mean square, over landmarks and frames but the first, of the distance between where
        a point of a face without expression is placed and where it was in the first frame.
    """
    points = head_points(truth, yaw=yaw)
    placed = np.stack([apply_transform(*pair) for pair in zip(transforms, points, strict=True)])
    return rms(np.hypot(*np.moveaxis(placed[1:] - placed[0], -1, 0)).ravel().tolist())


def head_points(truth: ClipTruth, *, yaw: bool = False) -> np.ndarray:
    """Return where the landmarks of a face without expression would be, (T, 68, 2), source px."""
    still = np.zeros(len(truth.numbers))
    head = dataclasses.replace(truth, expression_course=still)
    if not yaw:
        head = dataclasses.replace(head, blink_course=still)
    points = head.to_neutral(np.asarray(truth.landmarks[0], np.float64), int(truth.numbers[0]))
    return np.stack([head.from_neutral(points, int(number)) for number in truth.numbers])


def head_range(truth: ClipTruth) -> tuple[float, float]:
    """Return how far a head moves from its first place, in px at 144x144, and turns, in degrees."""
    onset = truth.landmarks[0]
    centre = five_points(onset).mean(axis=0)
    moved = np.stack([apply_transform(one, centre) for one in truth.head_motion])
    far = scale_of(face_transform(onset)) * np.hypot(*(moved - moved[0]).T).max()
    angles = np.rad2deg(np.arctan2(truth.head_motion[:, 1, 0], truth.head_motion[:, 0, 0]))
    return float(far), float(np.abs(angles - angles[0]).max())


def best_similarities(truth: ClipTruth) -> np.ndarray:
    """Return the transforms that leave least of a turning head's motion, (T, 2, 3)."""
    points = head_points(truth, yaw=True)
    onset = face_transform(points[0])
    return np.stack([compose(onset, fit_similarity(one, points[0])) for one in points])


def _alignment(subjects: Subjects) -> Table:
    """Return jitter and residuals of the default alignment."""
    jitters = [
        transform_jitter(_transforms(film), five_points(film.truth.landmarks[0]))
        for film in subjects.still
    ]
    kinds = (
        ("moving head and expression", subjects.moving, RESIDUAL),
        ("the same with a blink and 1 % flicker", subjects.disturbed, RESIDUAL_DISTURBED),
        (f"the first with {YAW} degree of yaw", subjects.turning, RESIDUAL_YAW),
    )
    rows = [judged_row("jitter, still head", jitters, pooled=rms(jitters), goal=JITTER)]
    for name, films, goal in kinds:
        values = [
            head_residual(_transforms(film), film.truth, yaw=films is subjects.turning)
            for film in films
        ]
        rows.append(judged_row(f"residual, {name}", values, pooled=rms(values), goal=goal))
    floor = [
        head_residual(best_similarities(one.truth), one.truth, yaw=True) for one in subjects.turning
    ]
    far, turned = np.max([head_range(film.truth) for film in subjects.moving], axis=0)
    rows.append(judged_row("what the best similarity leaves of it", floor, pooled=rms(floor)))
    return Table(
        "stabilized alignment, px RMS at 144x144",
        JUDGED,
        rows,
        f"{len(subjects.still)} still clips and {len(subjects.moving)} of every other kind, "
        f"640x480, {FRAMES} frames; heads move up to {far:.1f} px and {turned:.1f} degrees. "
        "Jitter is the change of the transform from frame to frame at "
        "the five points; the residual is how far points of the head are from where they were in "
        "the onset frame, whatever the face does.",
    )


def _transforms(film: Film) -> np.ndarray:
    return np.asarray(prepare(film.clip, film.frames(), mode="stabilized").aligned["transform"])


def spread(landmarks: np.ndarray) -> float:
    """Return the RMS distance of points (T, N, 2) from their own mean over time."""
    away = np.asarray(landmarks, np.float64) - landmarks.mean(axis=0)
    return float(np.sqrt((away**2).sum(axis=-1).mean()))


def peer_landmarks(film: Film) -> np.ndarray:
    """Return dlib's own landmarks of every frame, (T, 68, 2); a miss has those before it."""
    found: list[np.ndarray] = []
    for image in film.frames():
        points = peers.detect_landmarks(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        found.append(points if points is not None else found[-1])
    return np.stack(found)


def _landmarks(films: Sequence[Film]) -> Table:
    """Return the static jitter of every setting against dlib's integers."""
    base = [spread(peer_landmarks(film)) for film in films]
    rows: list[dict[str, Any]] = [
        {"figure": "dlib, detected in every frame", "px": rms(base), "px_worst": max(base)}
    ]
    for name, params in landmark_settings().items():
        own = [
            spread(np.asarray(find_landmarks(film.clip, film.frames(), params)["landmarks"]))
            for film in films
        ]
        ratios = [a / b for a, b in zip(own, base, strict=True)]
        row = judged_row(name, ratios, pooled=rms(own) / rms(base), goal=LANDMARKS)
        rows.append(row | {"px": rms(own), "px_worst": max(own)})
    return Table(
        "jitter of landmarks on a still face, as a part of dlib's",
        (
            JUDGED[0],
            Column("px", "source px", 2),
            Column("px_worst", "worst", 2),
            *JUDGED[1:],
        ),
        rows,
        f"RMS distance of the 68 landmarks from their mean over {FRAMES} frames that differ by "
        f"noise alone, {len(films)} faces.",
    )


def _flow(films: Sequence[Film]) -> list[Table]:
    """Return the errors of the expression's flow, by how the frames were aligned."""
    errors: dict[str, list[float]] = {}
    for film in films:
        for name, value in expression_errors(film).items():
            errors.setdefault(name, []).append(value)
    own = errors["stabilized"]
    goals = {
        "per-frame, dlib's landmarks": FLOW_TO_PER_FRAME,
        "true rigid motion": FLOW_TO_RIGID,
        "no flow": FLOW_TO_ZERO,
        "per-frame, sub-pixel landmarks": None,
        "onset": None,
    }
    ratios = [
        judged_row(
            f"stabilized / {name}",
            [a / b for a, b in zip(own, errors[name], strict=True)],
            pooled=float(np.mean(own) / np.mean(errors[name])),
            goal=goal,
        )
        for name, goal in goals.items()
    ]
    pooled = [judged_row(name, one, pooled=float(np.mean(one))) for name, one in errors.items()]
    return [
        Table(
            "error of the expression's flow from onset to apex, px at 144x144",
            JUDGED[:4],
            pooled,
            f"{len(films)} clips of a moving head; TV-L1, mean end-point error inside the face "
            "against the flow of the expression alone. 'No flow' is zero everywhere.",
        ),
        Table("ratios of these errors", JUDGED, ratios),
    ]


def expression_errors(film: Film) -> dict[str, float]:
    """Return the flow's error of one clip by alignment, and that of a flow of zero as 'no flow'."""
    frames = film.frames()
    ends = [0, len(film.paths) // 2]
    modes = {mode: prepare(film.clip, frames, mode=mode) for mode in ("stabilized", "per-frame")}
    onset = np.asarray(modes["stabilized"].aligned["transform"])[0]
    motion = film.truth.head_motion
    transforms: Mapping[str, np.ndarray] = {
        "stabilized": np.asarray(modes["stabilized"].aligned["transform"])[ends],
        "true rigid motion": np.stack(
            [compose(onset, compose(motion[0], invert(motion[end]))) for end in ends]
        ),
        "onset": np.stack([onset, onset]),
        "per-frame, sub-pixel landmarks": np.asarray(modes["per-frame"].aligned["transform"])[ends],
        "per-frame, dlib's landmarks": np.stack(
            [_peer_transform(film, frames[end]) for end in ends]
        ),
    }
    errors = {}
    for name, both in transforms.items():
        errors[name], zero = _expression_error(film, [frames[end] for end in ends], both, ends)
        if name == "stabilized":
            errors["no flow"] = zero
    return errors


def _peer_transform(film: Film, image: np.ndarray) -> np.ndarray:
    found = peers.detect_landmarks(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if found is None:
        raise NoFaceError("dlib's detector finds no face.", where=film.name)
    return face_transform(found)


def _expression_error(
    film: Film, images: Sequence[np.ndarray], transforms: np.ndarray, ends: Sequence[int]
) -> tuple[float, float]:
    """Return the mean error of the flow between two frames, and that of a flow of zero."""
    truth = film.truth
    grey = [to_grey(warp(*pair)) for pair in zip(images, transforms, strict=True)]
    numbers = [int(truth.numbers[end]) for end in ends]
    scores = evaluate_truth(
        film.clip.clip_id,
        landmarks=truth.landmarks[ends],
        transforms=transforms,
        flow=optical_flow(*grey)[None],
        pairs=np.array([[0, 1]]),
        true_landmarks=truth.landmarks[ends],
        true_flow=lambda first, second: truth.flow(numbers[first], numbers[second]),
        true_motion=truth.head_motion[ends],
    )
    return scores.expression_error_px, scores.zero_expression_error_px
