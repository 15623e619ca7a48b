"""Prepared clips against the truth of synthetic ones: landmarks, alignment, flow, key frames.

Only synthetic clips have a truth: where every landmark is, and how every source pixel moves.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mer_prep.metrics import landmark_errors
from mer_prep.ops.apex import midpoint
from mer_prep.ops.similarity import (
    apply_transform,
    compose,
    five_points,
    invert,
    transform_jitter,
)
from mer_prep.store.blocks import StoredArray

#: Length of an expression, in frames, to which errors of key frames are scaled.
FRAMES_COMPARED = 60

#: Returns the true flow (2, H, W) in source px from one frame to another, by index.
TrueFlow = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, slots=True)
class TruthScores:
    """How far one prepared clip, or the flow of several, is from the truth.

    Parameters
    ----------
    clip_id : str
        The clip.
    landmark_error_outer_corners : float
        Mean distance of the 68 landmarks from the true ones, divided by the true distance of the
        outer eye corners (points 36 and 45); unitless.
    landmark_error_px : float
        The same distance in aligned px, not divided.
    endpoint_error_px : float
        Mean distance, inside the face, of the flow's end point from the true one; aligned px.
    zero_endpoint_error_px : float
        The same error of a flow that is zero everywhere, which is the mean true magnitude. A flow
        is worth something only where its error is below this.
    expression_error_px : float
        Mean end-point error, inside the face, against the flow of the expression alone: that
        between frames aligned without any error. Other than `endpoint_error_px`, which asks what
        the flow method gets wrong, this one counts what the alignment leaves or adds. Not a
        number if the true head motion was not given; so are the next two.
    zero_expression_error_px : float
        The same error of a flow that is zero everywhere: the mean magnitude of the expression.
    alignment_error_px : float
        Root mean square distance, at the true landmarks, between where the second frame of a
        pair is placed and where it would be placed if head motion were followed exactly.
    peak_magnitude_px : float
        99th percentile of the true magnitude inside the face; aligned px.
    jitter_px : float
        Root mean square change of the transform from frame to frame at the true five points of
        the first frame; aligned px.
    frames, pairs : int
        Numbers of frames and of frame pairs that were compared.
    apex_error, onset_error, offset_error : float
        Distance of the spotted key frames from the true ones, in frames of an expression that is
        60 frames long (see `key_frame_errors`). Not a number if none were spotted.
    midpoint_error : float
        The same distance of the midpoint of onset and offset from the true apex.
    """

    clip_id: str
    landmark_error_outer_corners: float
    landmark_error_px: float
    endpoint_error_px: float
    zero_endpoint_error_px: float
    expression_error_px: float
    zero_expression_error_px: float
    alignment_error_px: float
    peak_magnitude_px: float
    jitter_px: float
    frames: int
    pairs: int
    apex_error: float = math.nan
    midpoint_error: float = math.nan
    onset_error: float = math.nan
    offset_error: float = math.nan


@dataclass(frozen=True, slots=True)
class Pooled:
    """Mean, median and worst value of one score over clips, and the clip with the worst."""

    mean: float
    median: float
    worst: float
    worst_clip: str


def evaluate_truth(
    clip_id: str,
    *,
    landmarks: np.ndarray,
    transforms: np.ndarray,
    flow: np.ndarray | StoredArray,
    pairs: np.ndarray,
    true_landmarks: np.ndarray,
    true_flow: TrueFlow,
    true_motion: np.ndarray | None = None,
) -> TruthScores:
    """Score one prepared clip.

    Parameters
    ----------
    clip_id : str
        The clip.
    landmarks : ndarray, shape (T, 68, 2)
        Landmarks found, in aligned px.
    transforms : ndarray, shape (T, 2, 3)
        Source to aligned px.
    flow : ndarray or StoredArray, shape (P, 2, S, S)
        Flow found, (u, v) in aligned px.
    pairs : ndarray, shape (P, 2), int
        Zero-based indices of the two frames of every flow.
    true_landmarks : ndarray, shape (T, 68, 2)
        True landmarks in source px.
    true_flow : callable
        ``true_flow(a, b)`` returns the true flow from frame a to frame b, shape (2, H, W) in
        source px at every pixel of frame a.
    true_motion : ndarray, shape (T, 2, 3), optional
        True head motion: source px of a face at rest to source px of every frame.

    Returns
    -------
    TruthScores

    Raises
    ------
    ValueError
        If shapes do not fit.
    """
    if landmarks.shape != true_landmarks.shape or len(transforms) != len(landmarks):
        raise ValueError(
            f"{clip_id}: landmarks {landmarks.shape}, true landmarks {true_landmarks.shape} and "
            f"transforms {transforms.shape} do not fit"
        )
    if len(flow) != len(pairs):
        raise ValueError(f"{clip_id}: {len(flow)} flows for {len(pairs)} pairs")
    aligned = np.stack(
        [apply_transform(*pair) for pair in zip(transforms, true_landmarks, strict=True)]
    )
    relative = landmark_errors(landmarks, aligned, normaliser="outer-corners")
    absolute = np.linalg.norm(np.asarray(landmarks, np.float64) - aligned, axis=-1)
    endpoint, expression = _PairErrors(), _PairErrors()
    placement = []
    for found, (a, b) in zip(flow, np.asarray(pairs), strict=True):
        moved = true_flow(int(a), int(b))
        mask = face_mask(true_landmarks[a], transforms[a], size=found.shape[-1])
        endpoint.add(found, moved, transforms[a], transforms[b], mask)
        if true_motion is not None:
            ideal = compose(transforms[a], compose(true_motion[a], invert(true_motion[b])))
            expression.add(found, moved, transforms[a], ideal, mask)
            points = true_landmarks[b]
            missed = apply_transform(transforms[b], points) - apply_transform(ideal, points)
            placement.append((missed**2).sum(axis=1).mean())
    return TruthScores(
        clip_id=clip_id,
        landmark_error_outer_corners=float(relative.mean()),
        landmark_error_px=float(absolute.mean()),
        endpoint_error_px=_mean(endpoint.errors),
        zero_endpoint_error_px=_mean(endpoint.magnitudes),
        expression_error_px=_mean(expression.errors),
        zero_expression_error_px=_mean(expression.magnitudes),
        alignment_error_px=float(np.sqrt(_mean(placement))),
        peak_magnitude_px=max(endpoint.peaks, default=float("nan")),
        jitter_px=transform_jitter(transforms, five_points(true_landmarks[0])),
        frames=len(landmarks),
        pairs=len(endpoint.errors),
    )


class _PairErrors:
    """Means over the face of every pair: of the error, and of the true magnitude."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.magnitudes: list[float] = []
        self.peaks: list[float] = []

    def add(
        self,
        found: np.ndarray,
        true_flow: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        mask: np.ndarray,
    ) -> None:
        truth, inside = aligned_true_flow(true_flow, first, second, size=found.shape[-1])
        inside &= mask
        if not inside.any():
            return
        magnitude = np.hypot(*truth)[inside]
        self.errors.append(float(np.hypot(*(found.astype(np.float64) - truth))[inside].mean()))
        self.magnitudes.append(float(magnitude.mean()))
        self.peaks.append(float(np.percentile(magnitude, 99)))


def key_frame_errors(spotted: Mapping[str, int], true: Mapping[str, int]) -> dict[str, float]:
    """Return how far spotted key frames, and the midpoint, are from the true ones.

    Parameters
    ----------
    spotted, true : mapping of str to int
        Frame numbers by ``onset``, ``apex`` and ``offset``.

    Returns
    -------
    dict of str to float
        ``onset_error``, ``apex_error``, ``offset_error`` and ``midpoint_error``, as in
        `TruthScores`: ``60 |found - true| / (offset - onset + 1)``, so that clips of different
        frame rates and lengths compare.
    """
    length = true["offset"] - true["onset"] + 1
    middle = midpoint(true["onset"], true["offset"] + 1)
    errors = {f"{name}_error": abs(spotted[name] - true[name]) for name in spotted}
    errors["midpoint_error"] = abs(middle - true["apex"])
    return {name: FRAMES_COMPARED * error / length for name, error in errors.items()}


def _mean(values: Sequence[float]) -> float:
    """Return the mean of values; not a number if there are none."""
    return float(np.mean(values)) if values else float("nan")


def aligned_true_flow(
    flow: np.ndarray, first: np.ndarray, second: np.ndarray, *, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow between two aligned frames that a true source flow implies.

    Parameters
    ----------
    flow : ndarray, shape (2, H, W)
        True flow f in source px at the pixels of the first source frame.
    first, second : ndarray, shape (2, 3)
        Transforms A and B of the two frames, source to aligned px.
    size : int
        Side S of the aligned frames.

    Returns
    -------
    aligned : ndarray, shape (2, S, S), float64
        ``B(p + f(p)) - x`` with ``p = A^-1 x`` for every aligned pixel x. Whatever the two
        transforms differ by is part of it: it is what a perfect flow method would measure.
    inside : ndarray, shape (S, S), bool
        Whether p lies within the source frame.
    """
    y, x = np.mgrid[:size, :size].astype(np.float64)
    grid = np.stack([x, y], axis=-1)
    source = apply_transform(invert(first), grid)
    height, width = flow.shape[1:]
    last = np.array([width - 1, height - 1])
    inside = np.all((source >= 0) & (source <= last), axis=-1)
    map_x, map_y = (source[..., axis].astype(np.float32) for axis in (0, 1))
    moved = [
        cv2.remap(
            np.ascontiguousarray(channel, np.float32),
            map_x,
            map_y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for channel in flow
    ]
    target = apply_transform(second, source + np.stack(moved, axis=-1))
    return np.moveaxis(target - grid, -1, 0), inside


def face_mask(landmarks: np.ndarray, transform: np.ndarray, *, size: int) -> np.ndarray:
    """Return where the convex hull of the landmarks lies in the aligned frame.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in source px.
    transform : ndarray, shape (2, 3)
        Source to aligned px.
    size : int
        Side S of the aligned frame.

    Returns
    -------
    ndarray, shape (S, S), bool
    """
    hull = cv2.convexHull(apply_transform(transform, landmarks).astype(np.float32))
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), 1)
    return mask.astype(bool)


def pool_truth(scores: Sequence[TruthScores]) -> dict[str, Pooled]:
    """Return mean, median and worst of every score over clips; every clip counts once.

    Parameters
    ----------
    scores : sequence of TruthScores
        One for every clip; scores that are not a number (a clip without pairs) are left out.

    Returns
    -------
    dict of str to Pooled
        By the name of the score. For all scores the worst is the largest.

    Raises
    ------
    ValueError
        If there are no clips.
    """
    if not scores:
        raise ValueError("there are no scores to pool")
    pooled = {}
    for field in dataclasses.fields(TruthScores):
        if field.name in ("clip_id", "frames", "pairs"):
            continue
        values = np.array([getattr(score, field.name) for score in scores], np.float64)
        known = np.flatnonzero(np.isfinite(values))
        if not known.size:
            continue
        worst = int(known[values[known].argmax()])
        pooled[field.name] = Pooled(
            mean=float(values[known].mean()),
            median=float(np.median(values[known])),
            worst=float(values[worst]),
            worst_clip=scores[worst].clip_id,
        )
    return pooled
