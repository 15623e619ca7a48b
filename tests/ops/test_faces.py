from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

import mer_prep
from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops.faces import Face, FaceFinder, canonical_box, centre_of, choose_face
from mer_prep.ops.similarity import check_face_shape, five_points, point_jitter
from mer_prep.ops.tracking import detect_every_frame, track_face

PORTRAITS = Path(mer_prep.__file__).parent / "synth" / "portraits"


def portrait(name: str = "grace_hopper", *, scale: float = 1.0) -> np.ndarray:
    image = cv2.cvtColor(cv2.imread(str(PORTRAITS / f"{name}.jpg")), cv2.COLOR_BGR2RGB)
    return cv2.resize(image[:600], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def texture(shape: tuple[int, ...], *, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)


def noisy(image: np.ndarray, seed: int, *, sigma: float = 1.5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def square(x: float, y: float, side: float) -> Face:
    return Face(np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2]), 1.0)


def test_canonical_box_by_hand():
    # 68 points on a circle of radius 10 around (50, 40).
    angle = np.arange(68) / 68 * 2 * np.pi
    points = np.stack([50 + 10 * np.cos(angle), 40 + 10 * np.sin(angle)], axis=1)
    np.testing.assert_allclose(canonical_box(points), [36.8, 25.5, 63.8, 52.5], atol=1e-9)


def test_the_choice_does_not_depend_on_the_order():
    faces = [square(100, 240, 120), square(330, 250, 110), square(600, 100, 120)]
    chosen = [choose_face(order, (640, 480)) for order in itertools.permutations(faces)]
    assert all(face is faces[1] for face in chosen)


def test_of_equal_faces_the_leftmost_is_chosen():
    faces = [square(419.5, 239.5, 100), square(219.5, 239.5, 100)]
    assert choose_face(faces, (640, 480)) is faces[1]


def test_a_larger_face_is_preferred_and_then_the_one_followed():
    large, small = square(200, 240, 200), square(440, 240, 120)
    assert choose_face([small, large], (640, 480)) is large
    assert choose_face([small, large], (640, 480), previous=small.box) is small
    assert choose_face([], (640, 480)) is None


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"samples": 3}, "'samples': 3"), ({"min_face": 0.0}, "'min_face' is out of range")],
)
def test_settings_are_checked(settings, match):
    with pytest.raises(ConfigError, match=match):
        FaceFinder(**settings)


def test_a_finder_is_small_to_send():
    finder = FaceFinder()
    pytest.importorskip("dlib")
    finder.detect(np.zeros((120, 160, 3), np.uint8))
    assert len(pickle.dumps(finder)) < 1000


def test_a_broken_model_file_is_explained(tmp_path):
    pytest.importorskip("dlib")
    path = tmp_path / "model.dat"
    path.write_bytes(b"not a model")
    with pytest.raises(DependencyError, match="dlib cannot read the landmark model"):
        FaceFinder(predictor=path).predict(portrait(), np.array([100, 100, 300, 300]))


@pytest.mark.parametrize("name", ["grace_hopper", "mona_lisa"])
@pytest.mark.parametrize("scale", [0.6, 1.0, 2.2])
def test_a_portrait_is_found_at_any_scale(name, scale):
    pytest.importorskip("dlib")
    finder = FaceFinder()
    image = portrait(name, scale=scale)
    (face,) = finder.detect(image)
    landmarks = finder.settle(image, face.box)
    check_face_shape(landmarks, image.shape[1::-1])
    reference = finder.settle(portrait(name), finder.detect(portrait(name))[0].box)
    ratio = image.shape[1] / portrait(name).shape[1]
    distance = np.linalg.norm((landmarks + 0.5) / ratio - 0.5 - reference, axis=1)
    assert distance.mean() < 2.0
    assert finder.face_score(image, canonical_box(landmarks)) > 0.5


def test_landmarks_are_where_the_features_are():
    pytest.importorskip("dlib")
    finder = FaceFinder()
    landmarks = finder.settle(portrait(), finder.detect(portrait())[0].box)
    # Read off the picture by hand, to a few px.
    expected = [(222, 188), (306, 186), (268, 238), (228, 281), (306, 276)]
    assert np.abs(five_points(landmarks) - expected).max() < 8


def test_a_face_that_fills_its_picture_is_found():
    pytest.importorskip("dlib")
    finder = FaceFinder()
    landmarks = finder.settle(portrait(), finder.detect(portrait())[0].box)
    left, top = np.floor(landmarks.min(axis=0)).astype(int)
    right, bottom = np.ceil(landmarks.max(axis=0)).astype(int)
    crop = np.ascontiguousarray(portrait()[top:bottom, left:right])
    (face,) = finder.detect(crop)
    found = finder.settle(crop, face.box) + np.array([left, top])
    assert np.linalg.norm(found - landmarks, axis=1).mean() < 4


def test_faces_below_the_minimum_are_refused():
    pytest.importorskip("dlib")
    image = np.full((800, 1000, 3), 128, np.uint8)
    small = portrait(scale=0.5)
    image[200 : 200 + small.shape[0], 300 : 300 + small.shape[1]] = small
    # The face is about 100 px wide, an eighth of the picture.
    assert len(FaceFinder(min_face=0.09).detect(image)) == 1
    assert FaceFinder(min_face=0.2).detect(image) == []


def test_averaging_and_smoothing_calm_the_landmarks():
    dlib = pytest.importorskip("dlib")
    finder = FaceFinder(samples=5)
    frames = [noisy(portrait(), seed) for seed in range(12)]
    box = canonical_box(finder.settle(frames[0], finder.detect(frames[0])[0].box))
    from mer_prep.ops.predictor import predictor_file

    model = dlib.shape_predictor(str(predictor_file()))
    rectangle = dlib.rectangle(*(round(edge) for edge in box))
    plain = [[(p.x, p.y) for p in model(frame, rectangle).parts()] for frame in frames]
    steady = [finder.predict(frame, box) for frame in frames]
    assert point_jitter(np.array(steady)) < point_jitter(np.array(plain, float)) / 2


def test_following_through_known_shifts():
    pytest.importorskip("dlib")
    shifts = [(round(9 * np.sin(t / 3)), round(6 * np.cos(t / 4)) - 6) for t in range(20)]
    frames = [noisy(np.roll(portrait(), s[::-1], axis=(0, 1)), i) for i, s in enumerate(shifts)]
    track = track_face(FaceFinder(samples=9), frames)
    assert track.detected.all()
    assert (track.detections, track.lost) == (1, 0)
    assert track.n_faces.tolist() == [1] + [-1] * 19
    # Checked when it is found, then at every eighth frame and at the last one.
    bends = np.diff(track.confidence.astype(float), 2)
    assert (np.flatnonzero(np.abs(bends) > 1e-5) + 1).tolist() == [8, 16]
    assert track.confidence.min() > 0.9
    still = track.landmarks - np.array(shifts)[:, None]
    assert np.linalg.norm(still - still.mean(axis=0), axis=-1).mean() < 1.0
    assert track.landmarks.dtype == np.float32
    np.testing.assert_allclose(track.box[7], canonical_box(track.landmarks[7]), atol=1e-3)


def test_a_cut_away_and_back_is_found_where_it_is():
    pytest.importorskip("dlib")
    face = portrait(scale=0.5)
    other = texture(face.shape)
    frames = [face] * 11 + [other] * 7 + [face] * 4
    track = track_face(FaceFinder(samples=1), frames)
    expected = [True] * 11 + [False] * 7 + [True] * 4
    assert track.detected.tolist() == expected
    assert track.lost == 1
    assert np.isnan(track.landmarks[11:18]).all()
    assert np.isfinite(track.landmarks[track.detected]).all()
    assert track.n_faces[11:18].tolist() == [0] * 7
    assert track.confidence[11:18].tolist() == [-1] * 7
    assert track.confidence[track.detected].min() > 0
    np.testing.assert_allclose(track.landmarks[20], track.landmarks[5], atol=2)


def test_landmarks_as_published_are_those_of_dlib_itself():
    dlib = pytest.importorskip("dlib")
    from mer_prep.ops.predictor import predictor_file

    model = dlib.shape_predictor(str(predictor_file()))
    face, nothing = portrait(), texture((360, 307, 3))
    track = detect_every_frame(FaceFinder(samples=9), [face, nothing])
    (box,) = dlib.get_frontal_face_detector()(face, 1)
    expected = [(point.x, point.y) for point in model(face, box).parts()]
    np.testing.assert_array_equal(track.landmarks[0], expected)
    assert track.detected.tolist() == [True, False]
    assert (track.n_faces.tolist(), track.detections, track.lost) == ([1, 0], 2, 0)
    assert track.confidence[0] > 1
    assert track.confidence[1] == -1


def test_a_cut_to_a_face_elsewhere_is_followed_there():
    pytest.importorskip("dlib")
    face = portrait(scale=0.5)
    frames = []
    for left in [0] * 5 + [400] * 6:
        frames.append(np.full((320, 700, 3), 90, np.uint8))
        frames[-1][: face.shape[0], left : left + face.shape[1]] = face
    track = track_face(FaceFinder(samples=1), frames)
    assert track.detected.all()
    assert (track.lost, track.detections) == (1, 2)
    centres = track.landmarks.mean(axis=1)[:, 0]
    assert np.abs(centres[5:] - centres[0] - 400).max() < 3


def test_a_gap_shorter_than_the_recheck_is_noticed_where_it_is():
    pytest.importorskip("dlib")
    face = portrait(scale=0.5)
    frames = [face] * 3 + [texture(face.shape)] * 2 + [face] * 5
    track = track_face(FaceFinder(samples=1), frames, recheck=8)
    assert track.detected.tolist() == [True] * 3 + [False] * 2 + [True] * 5
    assert track.lost == 1


def test_a_cut_to_another_face_in_the_same_place_is_looked_at_anew():
    pytest.importorskip("dlib")
    first, second = portrait(scale=0.5), portrait("mona_lisa", scale=0.9)
    canvases = []
    for face, left, top in ((first, 150, 40), (second, 190, 60)):
        canvas = np.full((600, 640, 3), 128, np.uint8)
        part = face[: 600 - top, : 640 - left]
        canvas[top : top + part.shape[0], left : left + part.shape[1]] = part
        canvases.append(canvas)
    track = track_face(FaceFinder(samples=1), [canvases[0]] * 5 + [canvases[1]] * 3)
    assert track.n_faces.tolist() == [1, -1, -1, -1, -1, 1, -1, -1]
    alone = track_face(FaceFinder(samples=1), [canvases[1]])
    np.testing.assert_allclose(track.landmarks[5], alone.landmarks[0], atol=0.01)


def test_no_face_at_all():
    pytest.importorskip("dlib")
    track = track_face(FaceFinder(), [texture((240, 320, 3), seed=seed) for seed in range(2)])
    assert track.detected.tolist() == [False, False]
    assert track.n_faces.tolist() == [0, 0]


def test_of_two_faces_the_larger_is_followed_whatever_its_side():
    pytest.importorskip("dlib")
    large, small = portrait("mona_lisa", scale=0.9), portrait(scale=0.45)
    canvas = np.full((540, 960, 3), 128, np.uint8)
    canvas[: large.shape[0], 290 : 290 + large.shape[1]] = large
    canvas[100 : 100 + small.shape[0], 30 : 30 + small.shape[1]] = small
    finder = FaceFinder(samples=1, min_face=0.1)
    for image, centre in ((canvas, 610), (np.ascontiguousarray(canvas[:, ::-1]), 349)):
        track = track_face(finder, [image] * 2)
        assert track.n_faces.tolist() == [2, -1]
        assert abs(float(centre_of(track.box[1])[0]) - centre) < 20
