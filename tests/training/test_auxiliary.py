from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import Batch  # noqa: E402
from mer_prep.models.output import ModelOutput  # noqa: E402
from mer_prep.training.auxiliary import (  # noqa: E402
    ClipAuxiliary,
    Window,
    auxiliary_of,
    auxiliary_scores,
    joined,
    score_targets,
)

#: Eyes 50 px apart, everything else in the origin.
POINTS = torch.zeros(68, 2)
POINTS[42:48, 0] = 50


def samples(count=2, pairs=3, side=4):
    batch = Batch(
        torch.zeros(count, pairs + 1, side, side),
        torch.zeros(count, pairs, 2, side, side),
        POINTS.expand(count, pairs + 1, 68, 2).clone(),
        torch.zeros(count, dtype=torch.int64),
    )
    output = ModelOutput(torch.zeros(count, 3), batch.flow.clone(), batch.landmarks[:, 1:].clone())
    return output, batch


def test_scores_by_hand():
    output, batch = samples()
    batch.flow[:, :, 0] = 3.0
    batch.flow[:, :, 1] = 4.0
    output.flow[:, :, 0] = 3.0
    # One frame of six is 10 px off, which is a fifth of the distance between the eyes.
    output.landmarks[0, 1, :, 1] += 10
    scores = score_targets(output, batch, deviation=1.0)
    assert scores == {
        "flow_endpoint_error_px": pytest.approx(4),
        "zero_flow_error_px": pytest.approx(5),
        "landmark_error_eye_centres": pytest.approx(0.2 / 6),
        "landmark_failures": 1,
        "frames": 6,
    }
    assert score_targets(ModelOutput(output.logits), batch, deviation=1.0) == {}


def test_batches_of_one_clip_are_joined():
    parts = [samples(count=2), samples(count=1)]
    parts[1][1].flow += 1
    output, batch = joined(parts)
    assert output.logits.shape == (3, 3)
    assert batch.flow.flatten(1).mean(dim=1).tolist() == [0, 0, 1]
    headless = [(ModelOutput(one.logits, None, None), given) for one, given in parts]
    assert joined(headless)[0].flow is None


def clip(corpus, **scores):
    return ClipAuxiliary(f"{corpus}/s/c", corpus, "fold", **scores)


def test_every_clip_counts_once_and_every_frame_in_the_failure_rate():
    found = auxiliary_scores(
        [
            clip(
                "a",
                frames=2,
                landmark_error_eye_centres=0.1,
                landmark_failures=2,
                mean_face_error=0.5,
            ),
            clip("a", frames=8, landmark_error_eye_centres=0.3, landmark_failures=0),
            clip("b", flow_endpoint_error_px=0.5, true_flow_error_px=0.25),
        ]
    )
    assert found["schema"] == 3
    assert found["parts"] == {
        "all": {
            "clips": 3,
            "flow_endpoint_error_px": 0.5,
            "landmark_error_eye_centres": pytest.approx(0.2),
            "mean_face_error": 0.5,
            "true_flow_error_px": 0.25,
            "landmark_failure_rate": pytest.approx(0.2),
            "true_clips": 1,
        },
        "a": {
            "clips": 2,
            "landmark_error_eye_centres": pytest.approx(0.2),
            "mean_face_error": 0.5,
            "landmark_failure_rate": pytest.approx(0.2),
        },
        "b": {
            "clips": 1,
            "flow_endpoint_error_px": 0.5,
            "true_flow_error_px": 0.25,
            "true_clips": 1,
        },
    }


def test_a_displacement_is_scored_by_what_it_rebuilds():
    ramp = torch.arange(20.0).expand(20, 20) / 255
    frames = torch.stack([ramp, ramp + 2 / 255])[None, :, None].expand(-1, -1, 3, -1, -1)
    batch = Batch(frames, torch.zeros(1, 1, 2, 20, 20), torch.zeros(1, 2, 68, 2), torch.zeros(1))
    shift = torch.tensor([2.0, 0.0])[:, None, None].expand(1, 1, 2, 20, 20)
    output = ModelOutput(torch.zeros(1, 3), flow=-shift, displacement=shift)
    scores = score_targets(output, batch, deviation=255.0)
    assert scores["identity_error"] == pytest.approx(2, abs=1e-4)
    # Only the last two columns look beyond the border: 2 and 1 grey levels in 20 columns.
    assert scores["reconstruction_error"] == pytest.approx(3 / 20, abs=1e-4)
    assert scores["flow_endpoint_error_px"] == pytest.approx(2)


def test_predictions_tell_what_they_hold():
    row = {
        "clip_id": "a/s/c",
        "corpus": "a",
        "fold": "a/s",
        "flow_endpoint_error_px": "",
        "landmark_error_eye_centres": "0.25",
        "landmark_failures": "3",
        "frames": "7",
    }
    found = auxiliary_of(row)
    assert (found.landmark_error_eye_centres, found.landmark_failures, found.frames) == (0.25, 3, 7)
    assert math.isnan(found.flow_endpoint_error_px)


def test_a_window_is_that_of_the_centre_crop():
    from mer_prep.training.views import centre_view, reduce

    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform(0, 20, (1, 3, 68, 2))).float()
    batch = Batch(torch.zeros(1, 3, 20, 20), torch.zeros(1, 2, 2, 20, 20), points, torch.zeros(1))
    seen = reduce(centre_view(batch, 12), 2).landmarks
    window = Window(offset=4, reduce=2)
    np.testing.assert_allclose(window.seen(points.numpy()), seen.numpy(), atol=1e-5)
    np.testing.assert_allclose(window.aligned(seen.numpy()), points.numpy(), atol=1e-5)
