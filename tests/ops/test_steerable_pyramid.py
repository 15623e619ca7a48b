from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.ops.steerable_pyramid import steerable_pyramid


@pytest.mark.parametrize("shape", [(64, 64), (35, 51), (176, 176), (9, 40)])
@pytest.mark.parametrize("directions", [2, 5, 8])
def test_a_picture_is_put_together_again(shape: tuple[int, int], directions: int) -> None:
    picture = np.random.default_rng(1).uniform(0, 255, shape)
    pyramid = steerable_pyramid(shape, directions=directions)
    np.testing.assert_allclose(pyramid.reconstruct(picture), picture, atol=1e-9)
    single = pyramid.reconstruct(picture.astype(np.float32))
    np.testing.assert_allclose(single, picture, atol=255e-6)


def test_energy_is_kept() -> None:
    picture = np.random.default_rng(2).normal(size=(48, 48))
    pyramid = steerable_pyramid((48, 48))
    # Half of a complex band's energy is that of its real part.
    energy = sum(float((np.abs(band) ** 2).mean()) / 2 for band in pyramid.split(picture))
    spectrum = pyramid.spectrum(picture)
    energy += float((np.abs(spectrum) ** 2 * pyramid.residual).sum())
    assert energy == pytest.approx(float((picture**2).mean()), rel=1e-9)


def test_a_shift_turns_the_phase_by_its_part_of_the_wavelength() -> None:
    x = np.arange(64)
    pyramid = steerable_pyramid((64, 64), directions=4)
    wavelength, shift = 8.0, 0.3
    waves = [np.tile(np.cos(2 * np.pi * (x - by) / wavelength), (64, 1)) for by in (0.0, shift)]
    (band,) = [one for one in pyramid.bands if (one.scale, one.direction) == (1, 0)]
    still, moved = (pyramid.analyse(pyramid.spectrum(wave), band) for wave in waves)
    assert still.shape == (32, 32)
    np.testing.assert_allclose(np.abs(still), np.abs(still).mean(), rtol=1e-9)
    turn = np.angle(moved * still.conj())
    np.testing.assert_allclose(turn, -2 * np.pi * shift / wavelength, atol=1e-9)


def test_directions_part_what_runs_across_from_what_runs_along() -> None:
    y = np.arange(64)[:, None]
    picture = np.tile(np.cos(2 * np.pi * y / 8), (1, 64))
    pyramid = steerable_pyramid((64, 64), directions=4)
    spectrum = pyramid.spectrum(picture)
    strength = {
        (band.scale, band.direction): float(np.abs(pyramid.analyse(spectrum, band)).mean())
        for band in pyramid.bands
    }
    assert max(strength, key=lambda key: strength[key]) == (1, 2)
    assert strength[1, 0] < 1e-9


def test_what_is_out_of_range() -> None:
    with pytest.raises(ConfigError, match="height and width"):
        steerable_pyramid((7, 100))
    with pytest.raises(ConfigError, match="directions"):
        steerable_pyramid((64, 64), directions=1)
