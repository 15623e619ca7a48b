from __future__ import annotations

import math

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.ops.bi_woof import WEIGHTS, bi_woof, orientation_bins
from mer_prep.ops.strain import strain_magnitude, strain_tensor


def flow_of(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32)


def test_orientations_go_round_from_the_left():
    angles = np.deg2rad(np.arange(-180, 180, 45) + 1.0)
    found = orientation_bins(np.cos(angles), np.sin(angles), bins=8)
    assert found.tolist() == list(range(8))
    # Straight to the left, from above or below, is one orientation.
    assert orientation_bins(np.array([-1.0, -1.0]), np.array([0.0, -0.0]), bins=8).tolist() == [
        0,
        0,
    ]
    # Up, right and down, as y points down.
    u, v = np.array([0.0, 1.0, 0.0]), np.array([-1.0, 0.0, 1.0])
    assert orientation_bins(u, v, bins=8).tolist() == [2, 4, 6]
    assert orientation_bins(np.zeros(1), np.zeros(1), bins=6).tolist() == [3]


def test_a_stretched_face_is_what_is_computed_by_hand():
    # u = 0.1 x and v = 0: all motion is to the right, and the strain is 0.1 everywhere.
    u = np.broadcast_to(0.1 * np.arange(4, dtype=np.float32), (4, 4))
    flow = np.stack([u, np.zeros_like(u)])
    found = bi_woof(flow, blocks=2, bins=4)
    assert found.shape == (2, 2, 4)
    expected = np.zeros((2, 2, 4))
    # Two rows of magnitudes 0 and 0.1, or 0.2 and 0.3, times the mean strain.
    expected[:, 0, 2], expected[:, 1, 2] = 0.2 * 0.1, 1.0 * 0.1
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize("local_weight", WEIGHTS)
@pytest.mark.parametrize("global_weight", WEIGHTS)
def test_histograms_are_those_of_a_loop_over_the_definition(local_weight, global_weight):
    flow = flow_of(11, 14)
    found = bi_woof(flow, blocks=3, bins=5, local_weight=local_weight, global_weight=global_weight)
    strain = strain_magnitude(strain_tensor(flow))
    rows, columns = [0, 4, 8, 11], [0, 5, 10, 14]
    for i, j in np.ndindex(3, 3):
        histogram, weights = [0.0] * 5, []
        for y in range(rows[i], rows[i + 1]):
            for x in range(columns[j], columns[j + 1]):
                u, v = (float(one) for one in flow[:, y, x])
                of = {"none": 1.0, "magnitude": math.hypot(u, v), "strain": float(strain[y, x])}
                angle = math.atan2(v, u)
                number = next(c for c in range(5) if angle < -math.pi + 2 * math.pi * (c + 1) / 5)
                histogram[number] += of[local_weight]
                weights.append(of[global_weight])
        expected = np.array(histogram) * sum(weights) / len(weights)
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-5)


def test_a_face_that_moves_as_a_whole_is_not_strained():
    flow = np.ones((2, 16, 16), np.float32)
    assert (bi_woof(flow) == 0).all()
    counted = bi_woof(flow, local_weight="none", global_weight="none")
    # Down to the right, 45 degrees, begins the sixth of eight bins; blocks have 2 x 2 px.
    assert (counted[..., 5] == 4).all()
    assert counted.sum() == 256


def test_twice_the_motion_counts_four_times():
    flow = flow_of(16, 16, seed=1)
    np.testing.assert_allclose(bi_woof(2 * flow), 4 * bi_woof(flow), rtol=1e-5)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="local_weight"):
        bi_woof(flow_of(9, 9), local_weight="size")
    with pytest.raises(ConfigError, match="global_weight"):
        bi_woof(flow_of(9, 9), global_weight="size")
    with pytest.raises(ConfigError, match="bins"):
        bi_woof(flow_of(9, 9), bins=1)
    with pytest.raises(ValueError, match="too few for 8 x 8 blocks"):
        bi_woof(flow_of(7, 9))
    with pytest.raises(ValueError, match="shape"):
        bi_woof(np.zeros((3, 9, 9)))
