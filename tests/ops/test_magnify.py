from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import mer_prep
from mer_prep.errors import ConfigError, MotionError
from mer_prep.ops.flow import optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.magnify import level_amplification, luminance, magnify, temporal_filter

METHODS = ("phase", "linear")


@pytest.fixture(scope="module")
def surface() -> np.ndarray:
    """Return a texture with room around it, in grey values, and its fine and wide waves."""
    noise = np.random.default_rng(0).normal(size=(208, 208))
    waves = cv2.GaussianBlur(noise, (0, 0), 2.0) + 2 * cv2.GaussianBlur(noise, (0, 0), 8.0)
    return waves / np.abs(waves).max() * 110 + 128


def shifted(surface: np.ndarray, u: float, v: float) -> np.ndarray:
    """Return the middle 144x144 px of a surface moved by (u, v) px, exactly."""
    y, x = (np.fft.fftfreq(side) for side in surface.shape)
    turn = np.exp(-2j * np.pi * (x[None] * u + y[:, None] * v))
    moved = np.fft.ifft2(np.fft.fft2(surface) * turn).real
    return np.clip(np.rint(moved[32:-32, 32:-32]), 0, 255).astype(np.uint8)


def median_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    flow = optical_flow(first, second, method="tvl1")
    return np.median(flow[:, 16:-16, 16:-16], axis=(1, 2))


@pytest.mark.parametrize("amplification", [1, 2, 4])
@pytest.mark.parametrize("motion", [0.2, 0.5])
def test_phase_magnifies_a_motion_as_it_says(
    surface: np.ndarray, motion: float, amplification: int
) -> None:
    clip = np.stack([shifted(surface, 0, 0), shifted(surface, motion, -motion / 2)])
    large = (1 + amplification) * motion
    made = magnify(clip, amplification=amplification)
    truth = shifted(surface, large, -large / 2)
    # Against the flow of the true picture, so that the flow's own bias does not count.
    found = median_flow(made[0], made[1]) / median_flow(clip[0], truth)
    np.testing.assert_allclose(found, 1, atol=0.1)
    error = made[1][8:-8, 8:-8].astype(float) - truth[8:-8, 8:-8]
    kept = clip[1][8:-8, 8:-8].astype(float) - truth[8:-8, 8:-8]
    # Half a grey level for the rounding of all four pictures.
    assert error.std() < 0.2 * kept.std() + 0.5


@pytest.mark.parametrize(("motion", "amplification"), [(0.1, 1), (0.1, 2), (0.2, 1), (0.2, 2)])
def test_linear_magnifies_a_motion_within_its_bound(
    surface: np.ndarray, motion: float, amplification: int
) -> None:
    clip = np.stack([shifted(surface, 0, 0), shifted(surface, motion, -motion / 2)])
    made = magnify(clip, method="linear", amplification=amplification)
    large = (1 + amplification) * motion
    found = median_flow(made[0], made[1]) / median_flow(
        clip[0], shifted(surface, large, -large / 2)
    )
    np.testing.assert_allclose(found, 1, atol=0.06)


def test_linear_moves_a_grating_as_the_first_order_says() -> None:
    # cos(kx - p) with p small: its change times a, added, has the phase atan of first order.
    x = np.arange(144.0)
    wavelength, motion, amplification = 24.0, 0.5, 2.0
    phase = 2 * np.pi * motion / wavelength
    rows = [128 + 100 * np.cos(2 * np.pi * x / wavelength - turn) for turn in (0.0, phase)]
    clip = np.stack([np.tile(np.rint(row), (144, 1)).astype(np.uint8) for row in rows])
    made = magnify(clip, method="linear", amplification=amplification)
    wave = np.exp(-2j * np.pi * x / wavelength)
    expected = np.angle(1 + (1 + amplification) * (np.exp(1j * phase) - 1))
    found = -np.angle((made[1, 72] - 128.0) @ wave)
    assert found == pytest.approx(expected, rel=0.03)
    assert found == pytest.approx((1 + amplification) * phase, rel=0.05)


def test_phase_goes_further_than_linear(surface: np.ndarray) -> None:
    clip = np.stack([shifted(surface, 0, 0), shifted(surface, 1, 0)])
    truth = shifted(surface, 5, 0)
    flows = {
        method: median_flow(clip[0], magnify(clip, method=method, amplification=4)[1])[0]
        for method in METHODS
    }
    expected = median_flow(clip[0], truth)[0]
    assert flows["phase"] > 0.85 * expected
    assert flows["linear"] < 0.7 * expected


def face(peak: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a face of 144x144 px whose mouth corners and a brow move, and its flow."""
    path = Path(mer_prep.__file__).parent / "synth" / "portraits" / "grace_hopper.jpg"
    portrait = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    portrait = cv2.GaussianBlur(portrait, (0, 0), 1.1)
    y, x = np.mgrid[:144, :144].astype(np.float32)

    def motion(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        total = np.zeros((2, 144, 144), np.float32)
        for centre_x, centre_y, u, v in (
            (50, 100, -0.8, -0.6),
            (94, 100, 0.8, -0.6),
            (52, 45, 0, -1),
        ):
            weight = peak * np.exp(-((x - centre_x) ** 2 + (y - centre_y) ** 2) / 200)
            total += np.stack([u * weight, v * weight])
        return total

    at = np.stack([x, y])
    for _ in range(30):
        at = np.stack([x, y]) - motion(*at)
    scale = 0.62 * portrait.shape[1] / 144
    picture = cv2.remap(
        portrait,
        at[0] * scale + 0.18 * portrait.shape[1],
        at[1] * scale + 0.08 * portrait.shape[0],
        cv2.INTER_CUBIC,
    )
    return picture, motion(x, y)


def test_phase_magnifies_an_expression() -> None:
    (onset, _), (apex, motion), (large, _) = face(0.0), face(0.5), face(1.0)
    made = magnify(np.stack([onset, apex]), amplification=1)
    moving = np.hypot(*motion) > 0.2

    def gain(second: np.ndarray) -> float:
        flow = optical_flow(to_grey(onset), to_grey(second))
        return float((flow * motion)[:, moving].sum() / (motion**2)[:, moving].sum())

    assert 0.75 < gain(made[1]) / gain(large) < 1.1
    assert gain(made[1]) > 1.4 * gain(apex)
    flow = optical_flow(to_grey(onset), to_grey(made[1]))
    still = np.hypot(*motion) < 0.01
    assert np.hypot(*flow)[still].mean() < 0.05


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("band", [None, (1.0, 10.0)])
def test_no_amplification_gives_the_clip(method: str, band: tuple[float, float] | None) -> None:
    clip = np.random.default_rng(3).integers(0, 256, (7, 33, 40, 3), np.uint8)
    made = magnify(clip, method=method, amplification=0, fps=30, band=band)
    np.testing.assert_array_equal(made, clip)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("band", [None, (1.0, 12.0)])
def test_the_reference_frame_and_the_colours_stay(
    surface: np.ndarray, method: str, band: tuple[float, float] | None
) -> None:
    greys = [shifted(surface, 0.2 * t, 0)[:64, :64] for t in range(6)]
    clip = np.stack([np.stack([grey // 2 + 60, grey // 3 + 60, grey // 4], -1) for grey in greys])
    made = magnify(clip, method=method, amplification=3, reference=2, fps=30, band=band)
    np.testing.assert_array_equal(made[2], clip[2])
    change = made.astype(int) - clip
    assert np.abs(change[5]).max() > 3
    inside = ((made > 0) & (made < 255)).all(axis=-1)
    np.testing.assert_array_equal(np.ptp(change[inside], axis=1), 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_clip_and_one_frame_stay(method: str) -> None:
    frame = np.random.default_rng(4).integers(0, 256, (20, 20, 3), np.uint8)
    still = np.repeat(frame[None], 11, axis=0)
    np.testing.assert_array_equal(magnify(still, method=method, amplification=20), still)
    np.testing.assert_array_equal(magnify(still[:1], method=method, amplification=20), still[:1])


@pytest.mark.parametrize("method", METHODS)
def test_a_band_magnifies_its_own_rhythm_only(surface: np.ndarray, method: str) -> None:
    # A slow drift along x and a fast tremble along y, both halves of cosines: exact in the filter.
    count, fps = 24, 48.0
    times = (np.arange(count) + 0.5) / count
    slow, fast = 0.2 * np.cos(np.pi * 2 * times), 0.2 * np.cos(np.pi * 12 * times)
    slow, fast = slow - slow[0], fast - fast[0]
    clip = np.stack([shifted(surface, u, v) for u, v in zip(slow, fast, strict=True)])
    made = magnify(clip, method=method, amplification=2, fps=fps, band=(8.0, 16.0))
    frame = int(np.abs(fast).argmax())
    flow = median_flow(made[0], made[frame])
    truth = median_flow(clip[0], shifted(surface, slow[frame], 3 * fast[frame]))
    assert flow[1] == pytest.approx(truth[1], rel=0.1)
    middle = count // 2
    drift = median_flow(made[0], made[middle])[0]
    plain = median_flow(clip[0], shifted(surface, slow[middle], 3 * fast[middle]))[0]
    assert drift == pytest.approx(plain, abs=0.08)


def test_the_filter_by_hand() -> None:
    np.testing.assert_array_equal(
        temporal_filter(3, reference=1), [(1, -1, 0), (0, 0, 0), (0, -1, 1)]
    )
    count, fps = 20, 40.0
    times = (np.arange(count) + 0.5) / count
    matrix = temporal_filter(count, fps=fps, band=(4.0, 6.0))
    inside, below = np.cos(np.pi * 5 * times), np.cos(np.pi * 3 * times)
    np.testing.assert_allclose(matrix @ inside, inside - inside[0], atol=1e-12)
    np.testing.assert_allclose(matrix @ below, 0, atol=1e-12)
    whole = temporal_filter(count, fps=fps, band=(0.0, fps))
    np.testing.assert_allclose(whole, temporal_filter(count), atol=1e-12)


def test_a_band_without_frequencies_is_refused() -> None:
    with pytest.raises(MotionError, match="holds no frequency of 5 frames") as caught:
        temporal_filter(5, fps=200, band=(0.5, 10))
    assert "20 Hz apart" in str(caught.value)
    with pytest.raises(MotionError, match="holds no frequency"):
        temporal_filter(30, fps=30, band=(16, 20))
    with pytest.raises(ValueError, match="frames per second"):
        temporal_filter(30, band=(1, 2))


def test_the_cutoff_spares_short_waves() -> None:
    np.testing.assert_array_equal(level_amplification(4, 3), [4, 4, 4])
    # (1 + 4) * (4, 8, 16, 32) / 20 - 1 = 0, 1, 3, 7
    np.testing.assert_allclose(level_amplification(4, 4, cutoff_wavelength=20), [0, 1, 3, 4])


def test_frames_are_read_a_few_at_a_time() -> None:
    class Lazy:
        def __len__(self) -> int:
            return 30

        def __getitem__(self, index: int) -> np.ndarray:
            assert isinstance(index, int)
            return np.full((16, 16), 100 + index, np.uint8)

    assert magnify(Lazy(), amplification=2).shape == (30, 16, 16)


def test_luminance_of_equal_channels_is_their_value() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_allclose(luminance(np.stack([grey] * 3, -1)), luminance(grey), atol=1e-4)


def test_mistakes() -> None:
    clip = np.zeros((2, 16, 16), np.uint8)
    with pytest.raises(ConfigError, match="Did you mean 'phase'"):
        magnify(clip, method="phas", amplification=1)
    with pytest.raises(ConfigError, match="amplification"):
        magnify(clip, amplification=-1)
    with pytest.raises(ValueError, match="uint8"):
        magnify(clip.astype(float), amplification=1)
