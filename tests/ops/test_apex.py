from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_prep.ops.apex import (
    KeyFrames,
    divide_and_conquer,
    find_key_frames,
    midpoint,
    peak_position,
)
from mer_prep.synth.motion import expression_course


@pytest.mark.parametrize(
    ("first", "stop", "expected"), [(0, 1, 0), (0, 2, 0), (0, 3, 1), (0, 4, 1), (5, 10, 7)]
)
def test_midpoint_by_hand(first, stop, expected):
    assert midpoint(first, stop) == expected


def course(count: int, onset: int, apex: int, offset: int) -> np.ndarray:
    return expression_course(np.arange(count), onset=onset, apex=apex, offset=offset)


@pytest.mark.parametrize("search", [find_key_frames, divide_and_conquer])
@pytest.mark.parametrize("apex", range(32, 72, 6))
def test_key_frames_of_a_clean_curve(search, apex):
    found = search(course(100, 20, apex, 80))
    assert abs(found.apex - apex) <= (1 if search is find_key_frames else 3)
    # A squared sine leaves the parabola a little later than it starts.
    assert abs(found.onset - 20) <= 2
    assert abs(found.offset - 80) <= 2
    assert found.confidence > 0.99


def test_the_feet_are_those_of_a_parabola_exactly():
    time = np.arange(90.0)
    rise, fall = np.maximum(time - 20, 0) ** 2, np.maximum(80 - time, 0) ** 2
    found = find_key_frames(np.minimum(rise, fall), smoothing=0)
    assert (found.onset, found.offset) == (20, 80)
    assert abs(found.apex - 50) <= 1


@pytest.mark.parametrize("apex", [24, 30, 50, 56])
def test_a_lopsided_peak_is_not_moved_to_its_flat_side(apex):
    curve = course(80, 10, apex, 70)
    smooth = np.convolve(np.pad(curve, 4, "edge"), np.full(9, 1 / 9), "valid")
    assert abs(peak_position(curve, int(smooth.argmax()), smooth) - apex) <= 1


def test_noise_moves_the_apex_by_a_frame_or_two():
    errors = []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 0.05, 60)
        errors.append(find_key_frames(course(60, 0, 22, 59) + noise).apex - 22)
    assert np.abs(errors).mean() < 1.5
    assert np.abs(errors).max() <= 4


@pytest.mark.parametrize("search", [find_key_frames, divide_and_conquer])
@pytest.mark.parametrize(
    ("count", "expected"), [(1, (0, 0, 0)), (2, (0, 0, 1)), (3, (0, 1, 2)), (60, (0, 29, 59))]
)
def test_a_constant_curve_has_the_midpoint_and_no_confidence(search, count, expected):
    assert search(np.full(count, 3.0)) == KeyFrames(*expected, 0.0)


def test_two_frames_are_too_few_to_have_a_peak():
    assert find_key_frames(np.array([0.0, 5.0])) == KeyFrames(0, 0, 1, 0.0)


@pytest.mark.parametrize(("count", "apex"), [(40, 39), (40, 0), (3, 2), (3, 0)])
def test_a_peak_at_an_end(count, apex):
    curve = 1.0 - np.abs(np.arange(count) - apex) / count
    found = find_key_frames(curve, smoothing=0.5)
    assert found.apex == apex
    assert found.onset <= found.apex <= found.offset
    assert apex in (found.onset, found.offset)


def test_divide_and_conquer_keeps_the_half_with_the_larger_sum_of_peaks():
    curve = np.zeros(64)
    curve[[4, 12, 20, 28]] = 0.6  # 2.4 in the first half
    curve[50] = 1.0
    assert divide_and_conquer(curve, smoothing=0).apex in (4, 12, 20, 28)
    assert find_key_frames(curve, smoothing=0).apex == 50


def test_divide_and_conquer_follows_the_halves_by_hand():
    curve = np.zeros(16)
    curve[[2, 5, 9, 14]] = 3, 1, 1, 2  # 4 > 3; then 3 > 1
    assert divide_and_conquer(curve, smoothing=0).apex == 2


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    st.sampled_from([0.0, 0.7, 3.0]),
    st.sampled_from([find_key_frames, divide_and_conquer]),
)
def test_any_curve_has_ordered_key_frames(values, smoothing, search):
    found = search(np.array(values), smoothing=smoothing)
    assert 0 <= found.onset <= found.apex <= found.offset < len(values)
    assert 0 <= found.confidence <= 1


def test_height_and_scale_do_not_matter():
    curve = course(60, 5, 20, 50) + np.random.default_rng(1).normal(0, 0.02, 60)
    first, second = find_key_frames(curve), find_key_frames(1000 * curve - 7)
    assert (first.onset, first.apex, first.offset) == (second.onset, second.apex, second.offset)
    assert first.confidence == pytest.approx(second.confidence)


def test_noise_lowers_the_confidence():
    rng = np.random.default_rng(2)
    clean, noisy = (course(60, 0, 25, 59) + rng.normal(0, s, 60) for s in (0.01, 0.1))
    alone = find_key_frames(rng.normal(size=60)).confidence
    assert find_key_frames(clean).confidence > 0.95 > find_key_frames(noisy).confidence > alone


@pytest.mark.parametrize(
    ("score", "match"),
    [
        (np.zeros(0), r"shape \(T,\)"),
        (np.zeros((3, 2)), r"shape \(T,\)"),
        (np.array([1.0, np.nan, np.inf]), "2 values are not finite"),
    ],
)
def test_what_is_no_curve_is_refused(score, match):
    with pytest.raises(ValueError, match=match):
        find_key_frames(score)


def test_a_curve_that_is_almost_without_noise_has_full_confidence():
    found = find_key_frames(np.array([0.0, 0.0, 0.0, 1.3e-191, 1.0]), smoothing=0.0)
    assert found.confidence == 1
