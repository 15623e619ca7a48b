"""The truth of synthetic clips as a model sees it: true flow and landmarks of its own frames."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from mer_prep.dataset import Batch
from mer_prep.evaluation import face_mask
from mer_prep.metrics import landmark_errors
from mer_prep.models.output import ModelOutput
from mer_prep.ops.similarity import apply_transform, invert
from mer_prep.store.shard import read_clip
from mer_prep.synth.truth import ClipTruth, read_truth, truth_path
from mer_prep.training.auxiliary import Window, flat
from mer_prep.training.study import ClipEntry
from mer_prep.training.views import centre_view, reduce
from mer_prep.workspace import Workspace


def score_truth(
    workspace: Workspace,
    entry: ClipEntry,
    output: ModelOutput,
    batch: Batch,
    window: Window,
    samples: np.ndarray,
) -> dict[str, float]:
    """Return how the prediction for a synthetic clip, and its targets, compare with the truth.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    entry : ClipEntry
        The clip.
    output : ModelOutput
        What the model gives for the J samples of the clip.
    batch : Batch
        The samples as the model takes them.
    window : Window
        Which part of the aligned frames they are.
    samples : ndarray, shape (J, t), int
        Which frames of the clip they have.

    Returns
    -------
    dict of str to float
        Fields of `mer_prep.training.auxiliary.ClipAuxiliary` by name; empty if the clip has no
        truth, or the model gives neither flow nor landmarks.
    """
    if (output.flow, output.landmarks) == (None, None):
        return {}
    if entry.corpus not in workspace.corpora():
        return {}
    truth_file = truth_path(Path(workspace.record(entry.corpus).root))
    if not truth_file.is_file():
        return {}
    true = true_batch(
        workspace.root / entry.shards["align"],
        entry.clip_id,
        read_truth(truth_file, entry.clip_id.partition("/")[2]),
        samples=samples,
    )
    factor = int(window.reduce)
    true = reduce(centre_view(true, batch.frames.shape[-1] * factor), factor)
    if len(samples) != len(batch.frames):
        raise ValueError(f"{len(samples)} samples, and {len(batch.frames)} outputs")
    scores: dict[str, float] = {}
    if output.flow is not None:
        # Whole pixels only: one that is partly outside the face is none of it.
        inside = flat(true.frames[:, :-1]) == 1
        flow, target = flat(true.flow), flat(batch.flow)
        for name, found in (
            ("true_flow_error_px", flat(output.flow)),
            ("true_tvl1_error_px", target),
            ("true_zero_error_px", np.zeros_like(target)),
        ):
            scores[name] = _error_inside(found, flow, inside)
    if output.landmarks is not None:
        points = flat(true.landmarks[:, 1:])
        for name, found in (
            ("true_landmark_error_eye_centres", flat(output.landmarks)),
            ("true_target_error", flat(batch.landmarks[:, 1:])),
        ):
            scores[name] = float(landmark_errors(found, points).mean())
    return scores


def _error_inside(found: np.ndarray, true: np.ndarray, inside: np.ndarray) -> float:
    """Return the mean over pairs of the mean end-point error of the pixels inside, px."""
    errors = np.hypot(*np.moveaxis(found.astype(np.float64) - true, 1, 0))
    return float(np.mean([error[mask].mean() for error, mask in zip(errors, inside, strict=True)]))


def true_batch(align_shard: Path, clip_id: str, truth: ClipTruth, *, samples: np.ndarray) -> Batch:
    """Return the truth of all samples of a clip, in px of the aligned frames.

    Parameters
    ----------
    align_shard : Path
        Shard that says how the clip was aligned.
    clip_id : str
        The clip.
    truth : ClipTruth
        Its truth.
    samples : ndarray, shape (J, t), int
        Frames of every sample.

    Returns
    -------
    Batch
        J samples. In place of grey values, `frames` is 1 inside the face, which is the convex hull
        of the true landmarks, and 0 outside. `flow` is how the aligned pixels really move, head
        motion that the alignment left included; it is exact at every pixel.
    """
    aligned, _ = read_clip(align_shard, clip_id, ("frames", "transform", "frame_numbers"))
    transforms, size = aligned["transform"], aligned["frames"].shape[1]
    numbers = [int(number) for number in aligned["frame_numbers"]]
    source_points = truth.landmarks[[truth.position(number) for number in numbers]]
    y, x = np.mgrid[:size, :size].astype(np.float64)
    grid = np.stack([x, y], axis=-1)

    def motion(first: int, second: int) -> np.ndarray:
        source = apply_transform(invert(transforms[first]), grid)
        moved = truth.move(source, numbers[first], numbers[second])
        return np.moveaxis(apply_transform(transforms[second], moved) - grid, -1, 0)

    flow = [[motion(*pair) for pair in pairwise(one)] for one in samples]
    masks = [face_mask(*one, size=size) for one in zip(source_points, transforms, strict=True)]
    points = [apply_transform(*one) for one in zip(transforms, source_points, strict=True)]
    return Batch(
        frames=torch.from_numpy(np.stack(masks)[samples]).float(),
        flow=torch.from_numpy(np.array(flow)).float(),
        landmarks=torch.from_numpy(np.stack(points)[samples]).float(),
        labels=torch.zeros(len(samples), dtype=torch.int64),
    )
