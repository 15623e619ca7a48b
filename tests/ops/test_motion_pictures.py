"""Differences, and small pictures of motion."""

from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.ops.difference import signed_difference
from mer_prep.ops.motion_image import CHANNELS, motion_image, stretched
from mer_prep.ops.strain import strain_magnitude, strain_tensor


def test_differences_are_signed_and_exact():
    values = np.arange(256, dtype=np.uint8)
    first, second = (one.astype(np.uint8) for one in np.meshgrid(values, values))
    found = signed_difference(first, second)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, second.astype(int) - first.astype(int))
    assert (found.min(), found.max()) == (-255, 255)


def test_pictures_to_subtract_are_checked():
    with pytest.raises(ValueError, match="uint8, not float32"):
        signed_difference(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"shape \(2, 2\), 'second' has shape \(2, 3\)"):
        signed_difference(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))


def waves(size: int = 112) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size
    return np.stack([np.sin(5 * x + y), 0.3 * np.cos(4 * y)]).astype(np.float32)


def cells(image: np.ndarray, size: int = 28) -> np.ndarray:
    """Return the means of equal cells."""
    side = len(image) // size
    return image.reshape(size, side, size, side).mean(axis=(1, 3))


def test_channels_are_u_v_and_strain_averaged_over_areas():
    flow = waves()
    found = motion_image(flow, normalise="none")
    assert CHANNELS == ("u", "v", "strain")
    assert (found.shape, found.dtype) == ((3, 28, 28), np.float32)
    strain = strain_magnitude(strain_tensor(flow))
    for channel, whole in zip(found, (*flow, strain), strict=True):
        np.testing.assert_allclose(channel, cells(whole), atol=1e-6)


def test_min_max_goes_from_zero_to_one_in_every_channel():
    flow = waves()
    found, plain = motion_image(flow), motion_image(flow, normalise="none")
    for channel, values in zip(found, plain, strict=True):
        np.testing.assert_allclose(
            channel, (values - values.min()) / (values.max() - values.min()), atol=1e-6
        )
        assert (channel.min(), channel.max()) == (0, 1)


def test_constant_channels_are_zero():
    flow = np.zeros((2, 56, 56), np.float32)
    assert not motion_image(flow).any()
    flow[0] = 2.5  # a shift: no strain either
    assert not motion_image(flow).any()
    flow[1] = np.linspace(0, 1, 56)
    found = motion_image(flow)
    assert not found[0].any()
    assert found[1].max() == 1


@pytest.mark.parametrize("value", [2.5, 0.1, 1 / 3, -1e-3])
@pytest.mark.parametrize(("side", "size"), [(144, 28), (137, 14), (100, 40), (24, 28)])
def test_constant_channels_are_zero_at_any_ratio_of_sizes(value, side, size):
    assert not motion_image(np.full((2, side, side), value, np.float32), size=size).any()


def test_rounding_is_not_stretched_to_motion():
    noise = np.random.default_rng(0).normal(0, 1e-8, (1, 6, 6))
    assert not stretched((5.0 + noise).astype(np.float32)).any()
    assert stretched(noise.astype(np.float32)).max() == 1


def test_stretching_tiny_and_huge_ranges_stays_finite():
    image = np.stack([np.full((2, 2), 7.0), [[0, 1e-30], [0, 0]], [[-1e30, 1e30], [0, 0]]])
    found = stretched(image.astype(np.float32))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found[1:].max(axis=(1, 2)), 1)


def test_a_picture_may_also_grow():
    flow = np.broadcast_to(np.linspace(0, 1, 8, dtype=np.float32), (2, 8, 8)).copy()
    found = motion_image(flow, size=16, normalise="none")
    assert found.shape == (3, 16, 16)
    assert (np.diff(found[0, 0]) >= 0).all()


@pytest.mark.parametrize("options", [{"size": 0}, {"normalise": "max"}])
def test_options_are_checked(options):
    with pytest.raises(ConfigError):
        motion_image(waves(), **options)
