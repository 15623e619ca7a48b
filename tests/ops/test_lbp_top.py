from __future__ import annotations

import math

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.ops.lbp_top import PLANES, lbp_top, local_binary_patterns, uniform_bins


def clip_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def value_at(clip: np.ndarray, t: float, y: float, x: float) -> float:
    """Return the grey value between pixels, from the 8 around it."""
    low = [math.floor(one) for one in (t, y, x)]
    total = 0.0
    for corner in np.ndindex(2, 2, 2):
        weight = 1.0
        index = []
        for place, first, step in zip((t, y, x), low, corner, strict=True):
            weight *= place - first if step else 1 - (place - first)
            index.append(first + step)
        if weight > 1e-12:
            total += weight * float(clip[tuple(index)])
    return total


def pattern_at(
    clip: np.ndarray, plane: str, where: tuple[int, int, int], radii: tuple[int, int, int], p: int
) -> int:
    """Return the pattern of one pixel, written from the definition."""
    t, y, x = where
    rx, ry, rt = radii
    code = 0
    for bit in range(p):
        cosine, sine = (round(f(2 * math.pi * bit / p), 12) for f in (math.cos, math.sin))
        neighbour = {
            "xy": (t, y + ry * sine, x + rx * cosine),
            "xt": (t + rt * sine, y, x + rx * cosine),
            "yt": (t + rt * sine, y + ry * cosine, x),
        }[plane]
        if value_at(clip, *neighbour) >= clip[where] - 1e-9:
            code += 2**bit
    return code


def test_patterns_of_one_pixel_are_those_computed_by_hand():
    clip = np.zeros((3, 3, 3), np.uint8)
    clip[1, 1] = (5, 5, 6)  # left as bright as the centre, right brighter
    clip[1, :, 1] = (9, 5, 4)  # above brighter, below darker
    clip[:, 1, 1] = (7, 5, 3)  # brighter before, darker after
    found = {
        plane: local_binary_patterns(clip, plane, radii=(1, 1, 1), neighbours=4).tolist()
        for plane in PLANES
    }
    # Bits: 1 along the first axis, 2 along the second, 4 and 8 against them.
    assert found == {"xy": [[[1 + 4 + 8]]], "xt": [[[1 + 4 + 8]]], "yt": [[[4 + 8]]]}


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(("radii", "neighbours"), [((1, 1, 2), 8), ((3, 2, 1), 6), ((2, 1, 3), 4)])
def test_patterns_are_those_of_a_loop_over_the_definition(plane, radii, neighbours):
    clip = clip_of(8, 9, 10)
    found = local_binary_patterns(clip, plane, radii=radii, neighbours=neighbours)
    rx, ry, rt = radii
    assert found.shape == (8 - 2 * rt, 9 - 2 * ry, 10 - 2 * rx)
    for t, y, x in np.ndindex(found.shape):
        where = (t + rt, y + ry, x + rx)
        assert found[t, y, x] == pattern_at(clip, plane, where, radii, neighbours)


def test_circles_are_those_of_scikit_image():
    feature = pytest.importorskip("skimage.feature")
    clip = clip_of(7, 40, 42, seed=1)
    for plane, axis in (("xy", 0), ("xt", 1), ("yt", 2)):
        slices = [np.take(clip, one, axis) for one in range(clip.shape[axis])]
        theirs = np.stack([feature.local_binary_pattern(one, 8, 2) for one in slices], axis)
        theirs = theirs[2:-2, 2:-2, 2:-2].astype(int)
        # Theirs go round the other way, from the same first neighbour.
        turned = sum(((theirs >> bit) & 1) << (-bit % 8) for bit in range(8))
        ours = local_binary_patterns(clip, plane, radii=(2, 2, 2), neighbours=8)
        np.testing.assert_array_equal(ours, turned)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
def test_an_even_clip_has_only_neighbours_as_bright(value):
    clip = np.full((9, 12, 12), value, np.uint8)
    for plane in PLANES:
        found = local_binary_patterns(clip, plane, radii=(3, 3, 4), neighbours=8)
        assert (found == 255).all()


def test_uniform_patterns_change_twice_at_most():
    bins = uniform_bins(4)
    # 0101 and 1010 change four times; the others keep their order.
    assert bins.tolist() == [0, 1, 2, 3, 4, 14, 5, 6, 7, 8, 14, 9, 10, 11, 12, 13]
    for neighbours in (2, 3, 8, 12):
        bins = uniform_bins(neighbours)
        uniform = []
        for pattern in range(2**neighbours):
            ring = [(pattern >> bit) & 1 for bit in range(neighbours)]
            if sum(ring[one] != ring[one - 1] for one in range(neighbours)) <= 2:
                uniform.append(pattern)
        assert len(uniform) == neighbours * (neighbours - 1) + 2
        assert [int(bins[one]) for one in uniform] == list(range(len(uniform)))
        others = set(range(2**neighbours)) - set(uniform)
        assert {int(bins[one]) for one in others} <= {len(uniform)}


@pytest.mark.parametrize("uniform", [True, False])
def test_histograms_are_the_shares_of_patterns_in_blocks(uniform):
    clip, radii = clip_of(5, 13, 15, seed=2), (1, 2, 1)
    found = lbp_top(clip, blocks=3, radii=radii, neighbours=4, uniform=uniform)
    assert found.dtype == np.float32
    assert found.shape == (3, 3, 3, 15 if uniform else 16)
    bins = uniform_bins(4) if uniform else np.arange(16)
    # 9 rows and 13 columns have all their neighbours: blocks of 3 rows, and of 5, 4 and 4 columns.
    rows, columns = [0, 3, 6, 9], [0, 5, 9, 13]
    for number, plane in enumerate(PLANES):
        patterns = bins[local_binary_patterns(clip, plane, radii=radii, neighbours=4)]
        for i, j in np.ndindex(3, 3):
            block = patterns[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            counts = [(block == one).sum() for one in range(found.shape[-1])]
            np.testing.assert_allclose(found[i, j, number], np.array(counts) / block.size)


def test_what_is_brighter_everywhere_has_the_same_texture():
    clip = clip_of(9, 20, 20, seed=3) // 2
    np.testing.assert_array_equal(lbp_top(clip, blocks=2), lbp_top(clip + 100, blocks=2))


def test_motion_is_seen_in_time_and_not_in_the_frames():
    ramp = np.broadcast_to(np.arange(30, dtype=np.uint8) * 4, (30, 30))
    still = np.stack([ramp] * 5)
    moving = np.stack([ramp + 2 * t for t in range(5)])  # it moves to the left by half a px
    options = {"blocks": 1, "radii": (1, 1, 1), "neighbours": 4, "uniform": False}
    one, other = lbp_top(still, **options)[0, 0], lbp_top(moving, **options)[0, 0]
    np.testing.assert_array_equal(one[0], other[0])
    # Before it was darker: in both planes of time that bit is gone.
    for plane in (1, 2):
        assert one[plane].argmax() & 8
        assert other[plane].argmax() == one[plane].argmax() - 8


@pytest.mark.parametrize(
    ("shape", "options", "error"),
    [
        ((8, 20, 20), {"radii": (1, 1, 4)}, "no pixel with all its neighbours"),
        ((9, 6, 20), {"blocks": 5}, "too few for 5 x 5 blocks"),
        ((20, 20), {}, "must be uint8"),
    ],
)
def test_clips_that_are_too_small_are_refused(shape, options, error):
    with pytest.raises(ValueError, match=error):
        lbp_top(np.zeros(shape, np.uint8), **options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"neighbours": 13}, "neighbours"),
        ({"blocks": 0}, "blocks"),
        ({"radii": (1, 0, 1)}, "radius in y"),
    ],
)
def test_parameters_out_of_range_are_refused(options, named):
    with pytest.raises(ConfigError, match=named):
        lbp_top(np.zeros((9, 20, 20), np.uint8), **options)
    with pytest.raises(ConfigError, match="plane"):
        local_binary_patterns(np.zeros((9, 9, 9), np.uint8), "ty", radii=(1, 1, 1), neighbours=4)
    with pytest.raises(ValueError, match="must be uint8"):
        local_binary_patterns(np.zeros((9, 9, 9)), "xy", radii=(1, 1, 1), neighbours=4)
