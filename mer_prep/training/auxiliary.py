"""Scores of the auxiliary tasks, optical flow and landmarks, on the clips that folds tested.

The flow of FRL-DGT is the inverse of its displacement, so that all flows point from the first
frame to the second.

References
----------
.. [1] Z. Shao et al., "MOL: Joint Estimation of Micro-Expression, Optical Flow, and Landmark via
   Transformer-Graph-Style Convolution", IEEE TPAMI, 2025. arXiv:2506.14511. Tables XIV and XV.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mer_prep.dataset import Batch
from mer_prep.metrics import endpoint_errors, failure_rate, landmark_errors
from mer_prep.models.frl_dgt.pictures import grey
from mer_prep.models.frl_dgt.warp import warp
from mer_prep.models.output import ModelOutput

#: Version of what stands under ``auxiliary`` in ``results.json``.
SCHEMA = 3

Part = TypeVar("Part")

_UNKNOWN = math.nan


@dataclass(frozen=True)
class ClipAuxiliary:
    """How the auxiliary tasks did on one tested clip; what is not known is not a number.

    Parameters
    ----------
    clip_id, corpus, fold : str
        Which clip, and the fold that tested it.
    frames : int
        Frames whose landmarks were scored.
    flow_endpoint_error_px : float
        End-point error of the predicted flow against that of TV-L1 (Table XIV of [1]_): mean over
        pixels and frame pairs, in px of the model's own frames.
    landmark_error_eye_centres : float
        Mean distance of predicted landmarks from those of the stage ``landmarks``, relative to the
        distance between the centres of the eyes (Table XV).
    landmark_failures : int
        Frames in which that error exceeds 0.1.
    reconstruction_error, identity_error : float
        Mean difference in grey levels, 0 to 255, of the second frame of a pair from the first seen
        through the displacement, and from the first as it is, which it must beat.
    zero_flow_error_px : float
        The end-point error of a flow that is zero everywhere: what a flow must beat.
    mean_face_error : float
        The landmark error of the mean landmarks of the training clips: what a detector must beat.
    true_flow_error_px, true_tvl1_error_px, true_zero_error_px : float
        End-point errors, inside the face, against the true motion of a synthetic clip: of the
        predicted flow, of TV-L1, and of a flow that is zero everywhere.
    true_landmark_error_eye_centres, true_target_error : float
        Landmark errors against the true landmarks of a synthetic clip: of the predicted ones, and
        of those of the stage ``landmarks``.
    """

    clip_id: str
    corpus: str
    fold: str
    frames: int = 0
    flow_endpoint_error_px: float = _UNKNOWN
    landmark_error_eye_centres: float = _UNKNOWN
    landmark_failures: int = 0
    reconstruction_error: float = _UNKNOWN
    identity_error: float = _UNKNOWN
    zero_flow_error_px: float = _UNKNOWN
    mean_face_error: float = _UNKNOWN
    true_flow_error_px: float = _UNKNOWN
    true_tvl1_error_px: float = _UNKNOWN
    true_zero_error_px: float = _UNKNOWN
    true_landmark_error_eye_centres: float = _UNKNOWN
    true_target_error: float = _UNKNOWN


@dataclass(frozen=True)
class Window:
    """Which part of the aligned frames a model sees, and how large.

    Parameters
    ----------
    offset : int
        First column and row.
    reduce : float
        Aligned px that become one of the model's.
    """

    offset: int
    reduce: float

    def seen(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 2) of the aligned frames in px of the model's frames."""
        return (points - self.offset + 0.5) / self.reduce - 0.5

    def aligned(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 2) of the model's frames in px of the aligned frames."""
        return (points + 0.5) * self.reduce - 0.5 + self.offset


#: Scores that are means over clips.
MEANS = tuple(
    one.name
    for one in dataclasses.fields(ClipAuxiliary)
    if one.name.endswith(("_px", "_error", "_eye_centres"))
)


def joined(outputs: Sequence[tuple[ModelOutput, Batch]]) -> tuple[ModelOutput, Batch]:
    """Return the outputs for all samples of one clip, and what is true, as one.

    Parameters
    ----------
    outputs : sequence of (ModelOutput, Batch)
        As `mer_prep.training.fit.predict` gives them for a clip.
    """
    import torch

    def all_of(parts: list[Any]) -> Any:
        if isinstance(parts[0], Mapping):
            return {name: all_of([one[name] for one in parts]) for name in parts[0]}
        return None if parts[0] is None else torch.cat(parts)

    found, given = zip(*outputs, strict=True)
    columns = zip(*(batch.tensors() for batch in given), strict=True)
    return (
        ModelOutput(*(all_of([getattr(one, name) for one in found]) for name in _OUTPUT)),
        Batch(*(all_of(list(one)) for one in columns)),
    )


_OUTPUT = tuple(one.name for one in dataclasses.fields(ModelOutput))


def score_targets(output: ModelOutput, batch: Batch, *, deviation: float) -> dict[str, Any]:
    """Return the scores of a clip against what the model was trained to give.

    Parameters
    ----------
    output : ModelOutput
        What the model gives for the J samples of a clip.
    batch : Batch
        The samples; flow and landmarks are the targets, those of TV-L1 and of ``landmarks``.
    deviation : float
        Grey levels that are 1 in the frames of the batch.

    Returns
    -------
    dict
        Fields of `ClipAuxiliary` by name; those of a task without a head are left out.
    """
    scores: dict[str, Any] = {}
    if output.flow is not None:
        target = flat(batch.flow)
        scores["flow_endpoint_error_px"] = float(endpoint_errors(flat(output.flow), target).mean())
        scores["zero_flow_error_px"] = float(endpoint_errors(np.zeros_like(target), target).mean())
    if output.landmarks is not None:
        errors = landmark_errors(flat(output.landmarks), flat(batch.landmarks[:, 1:]))
        scores["landmark_error_eye_centres"] = float(errors.mean())
        scores["landmark_failures"] = round(failure_rate(errors) * len(errors))
        scores["frames"] = len(errors)
    if output.displacement is not None:
        first, second = (grey(batch.frames[:, index]) for index in (0, 1))
        seen = warp(first, output.displacement[:, 0])
        scores["reconstruction_error"] = deviation * float((seen - second).abs().mean())
        scores["identity_error"] = deviation * float((first - second).abs().mean())
    return scores


def flat(samples: Any) -> np.ndarray:
    """Return (J, P, ...) of samples and pairs as an array (J P, ...)."""
    return samples.flatten(0, 1).numpy()


def auxiliary_of(row: Mapping[str, str]) -> ClipAuxiliary:
    """Return the scores that a line of ``predictions.csv`` holds."""

    def number(name: str) -> float:
        return float(row[name]) if row[name] else _UNKNOWN

    return ClipAuxiliary(
        clip_id=row["clip_id"],
        corpus=row["corpus"],
        fold=row["fold"],
        frames=int(row["frames"]),
        flow_endpoint_error_px=number("flow_endpoint_error_px"),
        landmark_error_eye_centres=number("landmark_error_eye_centres"),
        landmark_failures=int(row["landmark_failures"]),
    )


def pool_auxiliary(clips: Sequence[ClipAuxiliary]) -> dict[str, float]:
    """Return means over clips, and the failure rate over all their frames.

    What is known of no clip is left out. ``true_clips`` says how many clips had a truth.
    """
    pooled: dict[str, float] = {"clips": len(clips)}
    for name in MEANS:
        values = np.array([getattr(one, name) for one in clips], np.float64)
        known = values[np.isfinite(values)]
        if known.size:
            pooled[name] = float(known.mean())
    frames = sum(one.frames for one in clips)
    if frames:
        pooled["landmark_failure_rate"] = sum(one.landmark_failures for one in clips) / frames
    true = [one.true_flow_error_px for one in clips] + [
        one.true_landmark_error_eye_centres for one in clips
    ]
    if np.isfinite(true).any():
        halves = np.isfinite(true).reshape(2, -1)
        pooled["true_clips"] = int(halves.any(axis=0).sum())
    return pooled


def auxiliary_scores(clips: Sequence[ClipAuxiliary]) -> dict[str, Any]:
    """Return what stands under ``auxiliary`` in ``results.json``: pooled scores by part.

    Parts are ``all`` and, if there are several, the corpora. Every clip is tested once, by a
    model that was not trained on it.
    """
    parts = parts_of(clips, [one.corpus for one in clips])
    return {
        "schema": SCHEMA,
        "parts": {name: pool_auxiliary(part) for name, part in parts.items()},
    }


def parts_of(items: Sequence[Part], corpora: Sequence[str]) -> dict[str, list[Part]]:
    """Return the items as ``all`` and, if there are several corpora, by corpus.

    Parameters
    ----------
    items : sequence
        Whatever belongs to clips.
    corpora : sequence of str
        The corpus of every item.
    """
    names = sorted(set(corpora))
    found = {"all": list(items)}
    for name in names if len(names) > 1 else []:
        found[name] = [one for one, corpus in zip(items, corpora, strict=True) if corpus == name]
    return found
