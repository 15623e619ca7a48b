from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mer_prep.synth.motion import (
    HeadMotion,
    blink_course,
    draw_head_motion,
    expression_course,
    flicker_course,
)

NUMBERS = np.arange(40, 121)


def test_expression_is_zero_at_the_ends_and_one_at_the_apex_only():
    course = expression_course(NUMBERS, onset=50, apex=72, offset=110)
    assert course[10] == 0.0
    assert course[70] == 0.0
    assert_array_equal(course[:10], 0.0)
    assert_array_equal(course[71:], 0.0)
    assert_array_equal(np.flatnonzero(course == 1.0), [32])
    assert (np.diff(course[10:33]) > 0).all()
    assert (np.diff(course[32:71]) < 0).all()
    assert np.abs(np.diff(course, n=2)).max() < 0.02


def test_halfway_up_is_half_strength():
    assert expression_course(np.array([60]), onset=50, apex=70, offset=90) == pytest.approx(0.5)


def test_blink_is_deepest_at_its_centre():
    course = blink_course(NUMBERS, centre=80.0, length=34.0)
    assert course[40] == 1.0
    assert_allclose(course[[23, 57]], 0.0, atol=1e-12)
    assert_array_equal(course > 1e-9, np.abs(NUMBERS - 80) < 17)


def test_head_is_still_at_the_onset_and_rigid_always():
    motion = draw_head_motion(np.random.default_rng(3), frames=60, scale=1.0, px=2.0)
    centre = np.array([320.0, 240.0])
    matrices = motion.matrices(NUMBERS, onset=50, centre=centre)
    assert_allclose(matrices[10], [[1, 0, 0], [0, 1, 0]], atol=1e-12)
    turns = matrices[:, :, :2]
    assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.tile(np.eye(2), (81, 1, 1)), atol=1e-12)
    assert_allclose(np.linalg.det(turns), 1.0)
    degrees = np.rad2deg(np.arcsin(turns[:, 1, 0]))
    assert 0.1 < np.abs(degrees).max() < 1.0
    moved = np.hypot(*(turns @ centre + matrices[:, :, 2] - centre).T)
    assert 0.5 < moved.max() < 6.0
    assert np.diff(moved).max() < 0.5


def test_head_turns_about_its_centre():
    motion = HeadMotion((0.0, 0.0, 0.01), (60.0,) * 3, (0.0,) * 3)
    centre = np.array([100.0, 50.0])
    matrices = motion.matrices(NUMBERS, onset=50, centre=centre)
    assert_allclose(matrices[:, :, :2] @ centre + matrices[:, :, 2], np.tile(centre, (81, 1)))


def test_no_motion_is_the_identity():
    motion = draw_head_motion(np.random.default_rng(3), frames=60, scale=0.0, px=2.0)
    matrices = motion.matrices(NUMBERS, onset=50, centre=np.array([9.0, 9.0]))
    assert_array_equal(matrices, np.tile([[1.0, 0, 0], [0, 1, 0]], (81, 1, 1)))


def test_flicker_stays_within_its_amplitude():
    gains = flicker_course(400, flicker=0.03, rng=np.random.default_rng(0))
    assert np.abs(gains - 1).max() <= 0.03
    assert np.abs(gains - 1).max() > 0.02
    assert abs(gains.mean() - 1) < 0.003
    assert_array_equal(flicker_course(9, flicker=0.0, rng=np.random.default_rng(0)), 1.0)
