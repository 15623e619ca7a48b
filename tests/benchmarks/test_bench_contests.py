from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from benchmarks.clips import make_scene, shoot, with_yaw
from benchmarks.contests import composite, engines, flow, landmarks, precision, video
from benchmarks.pairs import Pair
from benchmarks.settings import landmark_settings
from mer_prep.errors import DecodeError
from mer_prep.ops.similarity import compose, face_transform, invert
from mer_prep.stages.landmarks import LandmarkParams
from mer_prep.synth.clips import scene_truth
from mer_prep.videos import write_video

SMALL = (200, 160)


def true_alignment(truth):
    """Return the transforms that undo the true rigid motion exactly."""
    onset = face_transform(truth.landmarks[0])
    first = truth.head_motion[0]
    return np.stack([compose(onset, compose(first, invert(one))) for one in truth.head_motion])


@pytest.fixture(scope="module")
def scene():
    return make_scene(0, frames=8, step=6, size=SMALL, head_motion=2.0)


def test_every_landmark_setting_is_a_setting_and_the_default_comes_first():
    settings = landmark_settings()
    assert next(iter(settings.values())) == LandmarkParams()
    assert next(iter(settings)).endswith("(default)")
    assert len(set(settings.values())) == len(settings) >= 2


def test_the_residual_of_the_true_motion_is_zero(scene):
    truth = scene_truth(dataclasses.replace(scene, blinks=True))
    assert precision.head_residual(true_alignment(truth), truth) < 1e-6


def test_the_residual_is_the_shift_that_an_alignment_leaves(scene):
    truth = scene_truth(scene)
    transforms = true_alignment(truth)
    transforms[1:, :, 2] += (0.3, -0.4)
    assert precision.head_residual(transforms, truth) == pytest.approx(0.5)
    # Half of the frames: the root mean square is sqrt(1/7) of it for one of seven.
    transforms[2:, :, 2] -= (0.3, -0.4)
    assert precision.head_residual(transforms, truth) == pytest.approx(0.5 * 7**-0.5)


def test_a_turn_of_the_head_is_no_similarity(scene):
    truth = with_yaw(scene, degrees=0.5)
    rigid = precision.head_residual(true_alignment(truth), truth, yaw=True)
    best = precision.head_residual(precision.best_similarities(truth), truth, yaw=True)
    assert 0.02 < best < rigid
    still = with_yaw(scene, degrees=0.0)
    assert precision.head_residual(precision.best_similarities(still), still, yaw=True) < 1e-6


def test_the_range_of_a_head(scene):
    truth = scene_truth(scene)
    scale = np.hypot(*face_transform(truth.landmarks[0])[0, :2])
    motion = np.repeat(np.eye(2, 3)[None], 8, axis=0)
    motion[3, :, 2] = (3 / scale, -4 / scale)
    assert precision.head_range(dataclasses.replace(truth, head_motion=motion)) == pytest.approx(
        (5, 0)
    )
    turn = np.deg2rad(2)
    motion[3] = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]]
    found = precision.head_range(dataclasses.replace(truth, head_motion=motion))
    assert found[1] == pytest.approx(2)


def test_landmarks_of_a_turning_head_are_where_its_truth_says(scene):
    turned, straight = with_yaw(scene, degrees=0.5), scene_truth(scene)
    moved = turned.landmarks - straight.landmarks
    # Sideways only (but for the tilt of the head), nose first, back at the end.
    assert abs(moved[0]).max() < 1e-4
    assert abs(moved[-1]).max() < 1e-4
    middle = moved[len(moved) // 2]
    assert middle[30, 0] == pytest.approx(middle[:, 0].max())
    assert abs(middle[:, 1]).max() < 0.05 * middle[:, 0].max()


def test_spread_is_the_distance_from_the_mean():
    points = np.zeros((2, 68, 2))
    points[1] = (6, 8)
    assert precision.spread(points) == pytest.approx(5)


def test_a_film_is_read_back_as_it_was_made(tmp_path, scene):
    film = shoot(tmp_path, "face", scene)
    frames = list(film.frames())
    assert len(frames) == len(film.paths) == 8
    assert {frame.shape for frame in frames} == {(160, 200, 3)}
    assert film.clip.position(film.clip.apex) == 4


def test_agreement_of_flows():
    truth = np.zeros((2, 20, 20))
    pair = Pair("toy", np.zeros((20, 20)), np.zeros((20, 20)), truth)
    shifted = truth + np.array([0.3, 0.4])[:, None, None]
    twice = 2 * shifted
    found = engines.agreement([shifted, twice], [truth, truth], [pair, pair])
    assert found["difference"] == pytest.approx(0.75)
    assert found["difference_worst"] == pytest.approx(1.0)
    assert found["difference_99_worst"] == pytest.approx(1.0)
    assert (found["error"], found["error_worst"]) == pytest.approx((0.75, 1.0))


def test_flow_ways_begin_with_opencv_and_hold_every_method():
    names = list(flow.flow_ways())
    assert names[0] == "TV-L1, OpenCV"
    assert {"farneback, opencv", "dis, opencv"} <= set(names)
    assert [name for name in names if name.startswith("tvl1")] == [
        f"tvl1, {engine}" for engine in engines.working_engines()
    ]


def test_the_usual_way_is_given_frames_from_the_whole_clip(tmp_path, monkeypatch, scene):
    film = shoot(tmp_path, "face", scene)
    seen = []
    monkeypatch.setattr(
        "benchmarks.contests.landmarks.peers.prepare_frame", lambda path, grey: seen.append(path)
    )
    assert landmarks._peer(3)(film) == 3
    assert seen == [film.paths[0], film.paths[2], film.paths[4]]


@pytest.mark.parametrize(
    ("right", "expected"),
    [("111", 0), ("011", 1), ("0101", 3), ("110", None), ("000", None), ("1011", 2)],
)
def test_after_how_many_frames_a_cut_is_settled(right, expected):
    assert video.settled_after(mark == "1" for mark in right) == expected


def test_pictures_are_fitted_with_bars():
    image = np.full((50, 200, 3), 9, np.uint8)
    fitted = video.fit(image, (100, 100))
    assert fitted.shape == (100, 100, 3)
    rows = np.flatnonzero(fitted.any(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (37, 61)


def test_a_take_is_the_beginning_of_a_video(tmp_path):
    images = [np.full((16, 16, 3), 40 * number, np.uint8) for number in range(5)]
    write_video(tmp_path / "five.avi", images, fps=25)
    take = video.read_take(tmp_path / "five.avi", 3)
    assert [round(float(frame.mean()), -1) for frame in take.frames()] == [0, 40, 80]
    assert len(video.read_take(tmp_path / "five.avi", 100).frames()) == 5
    write_video(tmp_path / "one.avi", images[:1], fps=25)
    with pytest.raises(DecodeError, match="fewer than two frames"):
        video.read_take(tmp_path / "one.avi", 3)


def test_landmark_distance_is_in_outer_eye_distances():
    points = np.zeros((68, 2))
    points[45] = (50, 0)
    assert video.landmark_distance(points + np.array([3, 4]), points) == pytest.approx(0.1)


def test_motion_of_a_moving_and_of_a_still_picture():
    noise = np.random.default_rng(0).normal(128, 60, (144, 145)).clip(0, 255).astype(np.float32)
    smooth = np.repeat(_blurred(noise)[..., None], 3, axis=2)
    still, moved = smooth[:, 1:], smooth[:, :-1]
    mask = np.zeros((144, 144), bool)
    mask[60:80, 60:80] = True
    assert video.motion_rms([still, still], mask) == pytest.approx(0, abs=1e-3)
    assert video.motion_rms([still, moved], mask) == pytest.approx(1, abs=0.1)


def _blurred(image: np.ndarray) -> np.ndarray:
    blurred = cv2.GaussianBlur(image, (0, 0), 2)
    return np.clip(128 + 4 * (blurred - blurred.mean()), 0, 255).astype(np.uint8)


def test_time_is_projected_by_frames():
    stage_seconds = {"landmarks": 60.0, "align": 30.0, "flow": 10.0}
    summary = {"done": 5, "frames_decoded": 1015, "seconds": 60.0, "stage_seconds": stage_seconds}
    summary["processor_seconds"] = 90.0
    row = composite.projected_row("casme2", summary, jobs=2)
    # 145 clips of 70 frames are ten times as many frames.
    assert row["minutes"] == pytest.approx(10)
    assert row["processor_minutes"] == pytest.approx(7.5)
    assert [row[stage] for stage in composite.STAGES] == [0.6, 0.3, 0.1]
    other = composite.projected_row("smic", summary | {"seconds": 120.0}, jobs=2)
    both = composite.add_up([row, other], "both")
    assert both["clips"] == 145 + 164
    assert both["minutes"] == pytest.approx(10 + 20 * 164 / 145)
    assert both["landmarks"] == pytest.approx(0.6)
    whole = composite.at_one_size([row, other], "all")
    assert whole["clips"] == 442
    assert whole["subjects"] == 68
    assert whole["processor_minutes"] == pytest.approx(both["processor_minutes"] * 442 / 309)
    assert whole["minutes"] == pytest.approx(both["minutes"] * 442 / 309)


def test_shares_are_a_tenth_of_the_composite():
    shares = composite.SHARES.values()
    assert sum(one.clips for one in shares) == 442
    assert sum(one.some_subjects * one.some_clips for one in shares) == pytest.approx(44, abs=2)


@pytest.fixture
def cut_video(monkeypatch):
    """Return a function that gives the rows of face, nothing, face for what is found in them."""
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    black = [np.zeros((8, 8, 3), np.uint8)] * 12
    parts = [video.Part("a", black), video.Part("none", black, face=False), video.Part("b", black)]

    def rows(detected, *, away=0.0):
        found = {"landmarks": np.stack([points + away] * 36), "detected": np.array(detected)}
        monkeypatch.setattr(video, "find_landmarks", lambda clip, frames: found)
        monkeypatch.setattr(video, "_peer_landmarks", lambda image: points)
        return list(video.cut_rows(parts))

    return rows


def test_cuts_that_are_followed_at_once(cut_video):
    rows = cut_video([True] * 12 + [False] * 12 + [True] * 12)
    assert [row["cut"] for row in rows] == ["a to none", "none to b"]
    assert [(row["wrong"], row["delay"], row["noticed"]) for row in rows] == [(0, 0, True)] * 2


def test_late_and_missed_cuts(cut_video):
    to_none, to_face = cut_video([True] * 20 + [False] * 13 + [True] * 3)
    assert (to_none["wrong"], to_none["delay"], to_none["noticed"]) == (8, 8, True)
    assert (to_face["wrong"], to_face["delay"], to_face["noticed"]) == (9, 9, False)
    never, _ = cut_video([True] * 36)
    assert (never["wrong"], never["delay"], never["noticed"]) == (12, None, False)


def test_a_face_found_in_the_wrong_place_is_no_cut_noticed(cut_video):
    rows = cut_video([True] * 12 + [False] * 12 + [True] * 12, away=200.0)
    assert [row["noticed"] for row in rows] == [True, False]
