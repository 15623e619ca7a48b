from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from mer_prep.config import make_params
from mer_prep.errors import ConfigError, DependencyError, NoFaceError
from mer_prep.ops.faces import FaceFinder
from mer_prep.ops.predictor import VARIABLE
from mer_prep.ops.tracking import track_face
from mer_prep.stages.landmarks import LandmarkParams, Landmarks, interpolate_missing


def check_fields(stage, output):
    assert set(output.arrays) == {field.name for field in stage.fields}
    for field in stage.fields:
        assert output.arrays[field.name].dtype == np.dtype(field.dtype), field.name


def test_a_clip_gets_its_landmarks(make_clip, portrait):
    pytest.importorskip("dlib")
    clip, frames = make_clip([portrait, np.roll(portrait, 3, axis=1), portrait])
    stage = Landmarks()
    stage.check()
    output = stage.run(clip, frames, {})
    check_fields(stage, output)
    assert output.arrays["landmarks"].shape == (3, 68, 2)
    assert output.arrays["box"].shape == (3, 4)
    assert output.arrays["detected"].tolist() == [True] * 3
    assert output.arrays["n_faces"].tolist() == [1, -1, -1]
    shift = (output.arrays["landmarks"][1] - output.arrays["landmarks"][0]).mean(axis=0)
    np.testing.assert_allclose(shift, (3, 0), atol=0.7)
    assert output.facts["detections"] == 1
    assert output.facts["lost"] == 0
    assert output.facts["frames_without_face"] == 0
    assert output.facts["lowest_confidence"] == output.arrays["confidence"].min() > 1
    assert output.warnings == ()
    assert frames.decoded == 3


def test_precision_names_what_is_averaged(make_clip, portrait):
    pytest.importorskip("dlib")
    clip, frames = make_clip([portrait, portrait])
    found = {
        name: Landmarks(LandmarkParams(precision=name)).run(clip, frames, {}).arrays
        for name in ("fast", "precise", "published")
    }
    assert found["published"]["n_faces"].tolist() == [1, 1]
    whole = found["published"]["landmarks"]
    np.testing.assert_array_equal(whole, np.rint(whole))
    for name, samples in (("fast", 1), ("precise", 9)):
        track = track_face(FaceFinder(samples=samples), [portrait, portrait])
        np.testing.assert_array_equal(found[name]["landmarks"], track.landmarks)
    assert np.abs(found["fast"]["landmarks"] - found["precise"]["landmarks"]).max() > 0.1


def test_frames_without_a_face_are_interpolated_and_said(make_clip, portrait, no_face):
    pytest.importorskip("dlib")
    moved = np.roll(portrait, 6, axis=1)
    clip, frames = make_clip([no_face, portrait, no_face, moved, no_face])
    output = Landmarks().run(clip, frames, {})
    landmarks = output.arrays["landmarks"]
    assert output.arrays["detected"].tolist() == [False, True, False, True, False]
    assert np.isfinite(landmarks).all()
    np.testing.assert_array_equal(landmarks[0], landmarks[1])
    np.testing.assert_allclose(landmarks[2], (landmarks[1] + landmarks[3]) / 2, rtol=1e-6)
    np.testing.assert_array_equal(landmarks[4], landmarks[3])
    assert "3 of 5 frames show no face, the first is frame 101" in output.warnings[0]
    assert output.facts["frames_without_face"] == 3


def test_a_clip_without_faces_is_refused(make_clip, no_face):
    pytest.importorskip("dlib")
    clip, frames = make_clip([no_face, no_face])
    with pytest.raises(NoFaceError) as caught:
        Landmarks().run(clip, frames, {})
    text = str(caught.value)
    for part in ("2 frames (307x360 px)", "test/s1/clip", "HOG", "score of 0", "46 px"):
        assert part in text


def test_interpolation_by_hand():
    values = np.array([[9, 9], [1, 10], [9, 9], [9, 9], [4, 40], [9, 9]], np.float32)
    known = np.array([False, True, False, False, True, False])
    filled = interpolate_missing(values, known)
    expected = [[1, 10], [1, 10], [2, 20], [3, 30], [4, 40], [4, 40]]
    np.testing.assert_allclose(filled, expected, rtol=1e-6)
    assert filled.dtype == np.float32


def test_known_values_stay_as_they_are():
    values = np.random.default_rng(0).normal(size=(5, 68, 2)).astype(np.float32)
    np.testing.assert_array_equal(interpolate_missing(values, np.ones(5, bool)), values)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"precision": "slow"}, "'landmarks.precision': 'slow'"),
        ({"min_face": 2.0}, "'landmarks.min_face' is out of range"),
        ({"recheck": 0}, "'landmarks.recheck' is out of range"),
        ({"precison": "fast"}, "Did you mean 'landmarks.precision'"),
    ],
)
def test_parameters_are_checked(values, match):
    with pytest.raises(ConfigError, match=match):
        make_params(LandmarkParams, values, where="landmarks")


def test_the_path_of_the_model_is_marked_as_no_part_of_the_key():
    marked = {
        field.name
        for field in dataclasses.fields(LandmarkParams)
        if not field.metadata.get("key", 1)
    }
    assert marked == {"predictor"}


def test_identity_follows_the_content_of_the_model(tmp_path):
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    one.write_bytes(b"a")
    same.write_bytes(b"a")
    other.write_bytes(b"b")
    digests = [
        Landmarks(LandmarkParams(predictor=str(path))).identity()["predictor"]
        for path in (one, same, other)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_identity_without_dlib_and_model(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dlib", None)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone.dat"))
    stage = Landmarks()
    assert stage.identity() == {"dlib": "missing", "predictor": "missing"}
    with pytest.raises(DependencyError, match=r"'dlib' is needed to find faces"):
        stage.check()
