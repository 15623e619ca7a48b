from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, NoFaceError
from mer_prep.ops.similarity import apply_transform, face_transform, five_points, warp
from mer_prep.stages.align import Align, AlignParams
from mer_prep.stages.landmarks import Landmarks


def face_points(*, x: float = 150, y: float = 140, size: float = 30) -> np.ndarray:
    points = np.zeros((68, 2))
    points[36:42] = (-1, -1)
    points[42:48] = (1, -1)
    points[48:], points[48], points[54] = (0, 1), (-0.6, 1), (0.6, 1)
    return points * size + (x, y)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (300, 320, 3), dtype=np.uint8)


def inputs(landmarks: list[np.ndarray], detected: list[bool] | None = None) -> dict:
    known = [True] * len(landmarks) if detected is None else detected
    return {
        "landmarks": {
            "landmarks": np.array(landmarks, np.float32),
            "detected": np.array(known, bool),
        }
    }


ONSET = Align(AlignParams(mode="onset"))


def test_one_transform_from_the_onset(make_clip):
    images = [picture(seed) for seed in range(4)]
    points = [face_points(x=150 + 4 * t) for t in range(4)]
    clip, frames = make_clip(images, onset=102, offset=104)
    output = ONSET.run(clip, frames, inputs(points[1:]))
    expected = face_transform(points[1])
    assert {name: array.dtype.name for name, array in output.arrays.items()} == {
        field.name: field.dtype for field in Align.fields
    }
    np.testing.assert_allclose(output.arrays["transform"], [expected] * 3)
    np.testing.assert_array_equal(output.arrays["frames"][2], warp(images[3], expected))
    np.testing.assert_allclose(
        output.arrays["landmarks"][2], apply_transform(expected, points[3]), atol=1e-3
    )
    assert output.facts["jitter_px"] == 0.0
    assert output.facts["reference_frame"] == 102
    # The face moves 4 source px a frame, every point by as much.
    assert output.facts["landmark_jitter_px"] == pytest.approx(4 * expected[0, 0], rel=1e-5)


def test_the_onset_is_found_by_number_when_all_frames_are_seen(make_clip):
    points = [face_points(x=150 + 4 * t) for t in range(4)]
    clip, frames = make_clip([picture()] * 4, onset=103, offset=104, seen=(0, 4))
    output = ONSET.run(clip, frames, inputs(points))
    np.testing.assert_allclose(output.arrays["transform"], [face_transform(points[2])] * 4)
    assert output.facts["reference_frame"] == 103


def test_median_mode_ignores_outliers_and_frames_without_a_face(make_clip):
    points = [face_points(x=x) for x in (100, 150, 152, 154, 220)]
    clip, frames = make_clip([picture()] * 5)
    output = Align(AlignParams(mode="median")).run(
        clip, frames, inputs(points, [True, True, True, True, False])
    )
    # The median of 100, 150, 152 and 154 is 151; the last frame does not count.
    expected = face_transform(face_points(x=151))
    np.testing.assert_allclose(output.arrays["transform"], [expected] * 5, atol=1e-9)


def test_per_frame_mode_centres_every_frame(make_clip):
    points = [face_points(x=150 + 5 * (t % 2)) for t in range(4)]
    clip, frames = make_clip([picture()] * 4)
    output = Align(AlignParams(mode="per-frame")).run(clip, frames, inputs(points))
    np.testing.assert_allclose(
        output.arrays["landmarks"], [output.arrays["landmarks"][0]] * 4, atol=1e-3
    )
    scale = output.arrays["transform"][0, 0, 0]
    assert output.facts["jitter_px"] == pytest.approx(5 * scale)
    assert output.facts["landmark_jitter_px"] == pytest.approx(0, abs=1e-4)


def test_size_enlargement_and_border(make_clip):
    clip, frames = make_clip([picture()])
    params = AlignParams(size=64, enlarge=10.0, border=7)
    output = Align(params).run(clip, frames, inputs([face_points()]))
    assert output.arrays["frames"].shape == (1, 64, 64, 3)
    assert (output.arrays["frames"][0, 0] == 7).all()
    placed = five_points(output.arrays["landmarks"][0])
    assert placed[1, 0] - placed[0, 0] == pytest.approx(63 / 10, rel=1e-5)


def test_a_later_frame_stands_in_for_an_onset_without_a_face(make_clip):
    points = [face_points(x=150 + 4 * t) for t in range(4)]
    clip, frames = make_clip([picture()] * 4)
    found = inputs(points, [False, False, True, True])
    output = ONSET.run(clip, frames, found)
    np.testing.assert_allclose(output.arrays["transform"][0], face_transform(points[2]))
    said = "The onset frame 101 shows no face; the clip is aligned by frame 103."
    assert output.warnings == (said,)
    stabilized = Align().run(clip, frames, found)
    np.testing.assert_array_equal(stabilized.arrays["transform"][2], face_transform(points[2]))
    assert stabilized.warnings[0] == said


def test_no_face_near_the_onset(make_clip):
    clip, frames = make_clip([picture()] * 10)
    detected = [False] * 9 + [True]
    with pytest.raises(NoFaceError, match="onset frame 101 nor any of the next 8 frames") as caught:
        Align().run(clip, frames, inputs([face_points()] * 10, detected))
    assert caught.value.where == "test/s1/clip"
    median = Align(AlignParams(mode="median"))
    output = median.run(clip, frames, inputs([face_points()] * 10, detected))
    assert output.facts["reference_frame"] == 110


def test_impossible_faces_are_refused_by_clip(make_clip):
    clip, frames = make_clip([picture()])
    mirrored = face_points() * [-1, 1] + [300, 0]
    with pytest.raises(NoFaceError, match="mirrored face") as caught:
        Align().run(clip, frames, inputs([mirrored]))
    assert caught.value.where == "test/s1/clip"


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"mode": "onsett"}, "Did you mean 'onset'"),
        ({"mode": "stabilised"}, "Did you mean 'stabilized'"),
        ({"size": 4}, "'align.size' is out of range"),
        ({"enlarge": 0.5}, "'align.enlarge' is out of range"),
        ({"border": 256}, "'align.border' is out of range"),
    ],
)
def test_parameters_are_checked(values, match):
    with pytest.raises(ConfigError, match=match):
        AlignParams(**values)


def test_a_still_clip_stays_still_but_shakes_frame_by_frame(make_clip, noisy_portraits):
    pytest.importorskip("dlib")
    clip, frames = make_clip(noisy_portraits)
    found = {"landmarks": Landmarks().run(clip, frames, {}).arrays}
    steady = ONSET.run(clip, frames, found)
    followed = Align().run(clip, frames, found)
    shaky = Align(AlignParams(mode="per-frame")).run(clip, frames, found)
    assert steady.facts["jitter_px"] == 0.0
    assert 0 < followed.facts["jitter_px"] < 0.01
    assert shaky.facts["jitter_px"] > 0.03
    change = [
        np.abs(np.diff(output.arrays["frames"].astype(float), axis=0)).mean()
        for output in (steady, followed, shaky)
    ]
    assert change[1] == pytest.approx(change[0], rel=0.02)
    assert change[2] > 1.2 * change[0]
    assert frames.decoded == len(noisy_portraits)


def test_a_head_that_wanders_is_reported(make_clip):
    points = [face_points(x=150 + 20 * t) for t in range(3)]
    clip, frames = make_clip([picture()] * 3)
    output = ONSET.run(clip, frames, inputs(points))
    expected = 40 * output.arrays["transform"][0][0, 0]
    assert output.facts["head_motion_px"] == pytest.approx(expected, rel=1e-6)
    assert "one transform for the whole clip does not fit" in output.warnings[0]
    assert "align.mode=stabilized" in output.warnings[0]
    followed = Align(AlignParams(mode="per-frame")).run(clip, frames, inputs(points))
    assert followed.facts["head_motion_px"] == pytest.approx(0, abs=1e-5)
    assert followed.warnings == ()
