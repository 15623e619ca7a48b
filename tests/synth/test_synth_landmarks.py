from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mer_prep.errors import ConfigError
from mer_prep.synth.landmarks import (
    MIRROR,
    aligned_scale,
    eye_centres,
    interocular_distance,
    mirror_landmarks,
)
from mer_prep.synth.portraits import load_portrait, portrait_names


def test_mirror_order_pairs_the_landmarks():
    order = np.array(MIRROR)
    assert_array_equal(order[order], np.arange(68))
    assert {i for i in range(68) if order[i] == i} == {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}
    pairs = {0: 16, 17: 26, 31: 35, 36: 45, 37: 44, 41: 46, 40: 47, 48: 54, 59: 55, 60: 64, 67: 65}
    assert {a: MIRROR[a] for a in pairs} == pairs


@pytest.mark.parametrize("name", portrait_names())
def test_landmarks_lie_on_the_face(name):
    portrait = load_portrait(name)
    height, width = portrait.image.shape[:2]
    points = portrait.landmarks
    assert points.shape == (68, 2)
    assert (points > 0).all()
    assert (points < [width - 1, height - 1]).all()
    # Top to bottom: brows, eyes, nose tip, mouth, chin.
    order = [points[17:27], points[36:48], points[30:31], points[48:68], points[8:9]]
    heights = [part[:, 1].mean() for part in order]
    assert heights == sorted(heights)
    # Irises are darker than the skin of the cheek below them.
    grey = portrait.image.mean(axis=2)
    for eye in eye_centres(points):
        iris = grey[round(eye[1]) - 3 : round(eye[1]) + 4, round(eye[0]) - 3 : round(eye[0]) + 4]
        cheek_row = round((eye[1] + points[30, 1]) / 2)
        cheek = grey[cheek_row : cheek_row + 5, round(eye[0]) - 3 : round(eye[0]) + 4]
        assert iris.mean() < cheek.mean() - 30


@pytest.mark.parametrize("name", portrait_names())
def test_mirroring_twice_changes_nothing(name):
    portrait = load_portrait(name)
    width = portrait.image.shape[1]
    mirrored = mirror_landmarks(portrait.landmarks, width=width)
    assert mirrored[36, 0] < mirrored[45, 0]
    np.testing.assert_allclose(mirror_landmarks(mirrored, width=width), portrait.landmarks)
    assert interocular_distance(mirrored) == pytest.approx(interocular_distance(portrait.landmarks))


def test_aligned_scale_of_a_known_face():
    points = np.full((68, 2), 50.0)
    points[36:42], points[42:48] = [20.0, 30.0], [80.0, 30.0]
    points[[30, 48, 54]] = [[50.0, 60.0], [30.0, 80.0], [70.0, 80.0]]
    # The five points span 60 by 50 px; the box is 150 px wide.
    assert aligned_scale(points) == pytest.approx(144 / 150)


def test_unknown_portrait_suggests_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'mona_lisa'"):
        load_portrait("monalisa")
