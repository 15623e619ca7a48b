from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mer_prep.errors import ConfigError
from mer_prep.synth.clips import Scene, render_frames, scene_truth
from mer_prep.synth.identity import draw_identity, make_subject
from mer_prep.synth.landmarks import aligned_scale

SIZE = (300, 280)

#: Of the frame, the part that no pixel of another frame enters from outside.
INNER = (slice(12, -12), slice(12, -12))


def identity(index=0, seed=0):
    return draw_identity(index, rng=np.random.default_rng([seed, index]))


def scene(**changes):
    values = {
        "identity": identity(),
        "size": SIZE,
        "grey": False,
        "numbers": tuple(range(96, 112)),
        "onset": 98,
        "apex": 103,
        "offset": 109,
        "fps": 200.0,
        "emotion": "happiness",
        "action_units": "6+12",
        "amplitude": 1.5,
        "noise": 0.0,
        "seed": (4, 2),
    }
    return Scene(**{**values, **changes})


def residual(first, second, flow):
    """RMS of second(x + flow) - first(x)."""
    height, width = first.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    warped = cv2.remap(
        second.astype(np.float32),
        np.float32(x + flow[0]),
        np.float32(y + flow[1]),
        cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return float(np.sqrt(np.mean((warped - first)[INNER] ** 2)))


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(("number_from", "number_to"), [(98, 103), (105, 100)])
def test_flow_carries_one_frame_onto_another(index, number_from, number_to):
    setting = scene(identity=identity(index), emotion="disgust", action_units="4+9+10")
    truth = scene_truth(setting)
    frames = dict(zip(setting.numbers, render_frames(setting, truth), strict=True))
    first, second = frames[number_from], frames[number_to]
    flow = truth.flow(number_from, number_to)
    assert flow.dtype == np.float32
    assert flow.shape == (2, *SIZE[::-1])
    factors = np.array([0.9, 1.0, 1.1])
    errors = np.array([residual(first, second, f * flow) ** 2 for f in factors])
    assert np.sqrt(errors[1]) < 1.0
    assert np.sqrt(errors[1]) < 0.2 * residual(first, second, 0 * flow)
    # The residual is least where the flow is neither too long nor too short.
    curvature, slope, _ = np.polyfit(factors, errors, 2)
    assert -slope / (2 * curvature) == pytest.approx(1.0, abs=0.005)


def test_landmarks_move_with_the_flow():
    truth = scene_truth(scene(blinks=True))
    for number in (96, 103, 107):
        moved = truth.move(truth.landmarks[2].astype(float), 98, number)
        assert_allclose(moved, truth.landmarks[truth.position(number)], atol=1e-4)
    # At whole pixels the dense flow is the same motion.
    flow = truth.flow(98, 103)
    for x, y in np.rint(truth.landmarks[2]).astype(int):
        expected = truth.move(np.array([x, y], float), 98, 103) - [x, y]
        assert_allclose(flow[:, y, x], expected, atol=1e-5)


def test_flow_there_and_back_is_nothing():
    truth = scene_truth(scene(blinks=True))
    points = np.add(truth.landmarks[0], [3.3, -1.7], dtype=float)
    assert_allclose(truth.move(truth.move(points, 100, 106), 106, 100), points, atol=1e-4)


@pytest.mark.parametrize("amplitude", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("index", [0, 1])
def test_amplitude_is_that_of_the_aligned_face(amplitude, index):
    truth = scene_truth(scene(amplitude=amplitude, identity=identity(index), head_motion=0.0))
    scale = aligned_scale(truth.landmarks[2].astype(float))
    assert scale == pytest.approx(truth.facts["aligned_scale"], rel=1e-5)
    flow = truth.flow(98, 103)
    assert np.hypot(*flow).max() * scale == pytest.approx(amplitude, rel=0.01)


def test_motion_is_largest_at_the_apex():
    setting = scene(head_motion=0.0)
    truth = scene_truth(setting)
    strength = [float(np.hypot(*truth.flow(98, number)).mean()) for number in setting.numbers]
    assert setting.numbers[int(np.argmax(strength))] == 103
    assert strength[truth.position(98)] == 0.0
    assert strength[truth.position(109)] == 0.0
    frames = list(render_frames(setting, truth))
    onset = frames[truth.position(98)].astype(float)
    changes = [float(np.abs(frame - onset).mean()) for frame in frames]
    assert setting.numbers[int(np.argmax(changes))] == 103
    assert_array_equal(frames[truth.position(109)], frames[truth.position(98)])


def test_nothing_moves_without_motion():
    setting = scene(head_motion=0.0, amplitude=0.0)
    frames = list(render_frames(setting))
    for frame in frames[1:]:
        assert_array_equal(frame, frames[0])
    assert not scene_truth(setting).flow(98, 103).any()


def test_neutral_frame_shows_the_neutral_landmarks():
    setting = scene()
    subject = make_subject(setting.identity, size=SIZE, grey=False)
    truth = scene_truth(setting)
    assert_allclose(truth.landmarks[truth.position(98)], subject.landmarks, atol=1e-4)


def test_head_motion_moves_the_whole_frame():
    truth = scene_truth(scene(amplitude=0.0, head_motion=2.0))
    flow = truth.flow(98, 103)
    matrix = truth.head_motion[truth.position(103)]
    corner = matrix @ [0.0, 0.0, 1.0]
    assert_allclose(flow[:, 0, 0], corner, atol=1e-5)
    assert np.hypot(*corner) > 0.3


def test_noise_has_its_sigma_and_is_new_in_each_frame():
    quiet = scene(head_motion=0.0, amplitude=0.0)
    clean = next(iter(render_frames(quiet)))
    noisy = list(render_frames(dataclasses.replace(quiet, noise=2.0)))
    inside = (clean > 20) & (clean < 235)
    grains = [(frame.astype(float) - clean)[inside] for frame in noisy[:2]]
    for grain in grains:
        assert grain.std() == pytest.approx(np.sqrt(4 + 1 / 12), rel=0.03)
        assert abs(grain.mean()) < 0.05
    assert abs(np.corrcoef(*grains)[0, 1]) < 0.02


def test_a_frame_does_not_depend_on_its_neighbours():
    whole = scene(noise=1.5)
    part = dataclasses.replace(whole, numbers=(98, 103, 109))
    frames = dict(zip(whole.numbers, render_frames(whole), strict=True))
    for number, frame in zip(part.numbers, render_frames(part), strict=True):
        assert_array_equal(frame, frames[number])


def test_grey_cameras_give_one_channel():
    grey = next(iter(render_frames(scene(grey=True))))
    colour = next(iter(render_frames(scene())))
    assert grey.shape == SIZE[::-1]
    luminance = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY).astype(float)
    unsaturated = colour.max(axis=2) < 250
    assert np.abs(grey - luminance)[unsaturated].mean() < 0.6


def test_flicker_changes_the_light_and_nothing_else():
    steady = list(render_frames(scene()))
    flickering = list(render_frames(scene(flicker=0.05)))
    gains = []
    for a, b in zip(steady, flickering, strict=True):
        inside = (a > 40) & (a < 220)
        gains.append(float((b[inside] / a[inside]).mean()))
        assert np.abs(b[inside] - gains[-1] * a[inside]).max() < 1.5
    assert 0.95 < min(gains) < 0.985
    assert 1.015 < max(gains) < 1.05


def test_blinks_close_the_eyes_once():
    truth = scene_truth(scene(blinks=True, amplitude=0.0, head_motion=0.0))
    heights = truth.landmarks[:, 41, 1] - truth.landmarks[:, 37, 1]
    assert heights.min() < 0.75 * heights.max()
    assert truth.blink_course.max() > 0.9


def test_subjects_differ_clearly():
    faces = [make_subject(identity(i), size=SIZE, grey=True) for i in range(6)]
    shapes = []
    for face in faces:
        points = face.landmarks - face.landmarks.mean(axis=0)
        shapes.append(points / np.linalg.norm(points))
    for i, a in enumerate(shapes):
        for b in shapes[i + 1 :]:
            # Procrustes distance after the best rotation; repeated measurements differ by 0.01.
            overlap = np.linalg.svd(a.T @ b, compute_uv=False).sum()
            assert np.sqrt(max(2 - 2 * overlap, 0)) > 0.04


def test_faces_fill_the_frame_as_in_the_corpora():
    for index in range(6):
        wide = make_subject(identity(index), size=(640, 480), grey=True).landmarks
        assert 195 < np.ptp(wide[:17, 0]) < 265
        crop = make_subject(identity(index), size=(280, 340), grey=True).landmarks
        assert 180 < np.ptp(crop[:17, 0]) < 225
        for points, (width, height) in ((wide, (640, 480)), (crop, (280, 340))):
            assert (points > 8).all()
            assert (points < [width - 8, height - 8]).all()


def test_edges_are_never_black():
    setting = scene(head_motion=4.0)
    mean = np.mean(list(render_frames(setting)), axis=(0, 3))
    for edge in (mean[0], mean[-1], mean[:, 0], mean[:, -1]):
        assert edge.mean() > 10


def test_key_frames_must_ascend():
    with pytest.raises(ConfigError, match="ascend"):
        scene(apex=98)
