from __future__ import annotations

import cv2
import numpy as np
import pytest

from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops import tvl1 as tvl1_module
from mer_prep.ops.flow import METHODS, farneback, optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.tvl1 import opencv_distributions, tvl1


def texture(size: int = 72, *, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.rint(smooth * 255).astype(np.uint8)


def middle(flow: np.ndarray, border: int = 12) -> np.ndarray:
    return flow[:, border:-border, border:-border]


@pytest.mark.parametrize("method", ["tvl1", "dis"])
@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_shift_of_one_pixel(method, shift):
    first = texture()
    second = np.roll(first, shift[::-1], axis=(0, 1))
    flow = middle(optical_flow(first, second, method=method))
    np.testing.assert_allclose(flow.mean(axis=(1, 2)), shift, atol=0.05)


def test_tvl1_finds_a_shift_everywhere_away_from_the_borders():
    first = texture()
    flow = middle(tvl1(first, np.roll(first, 1, axis=1)))
    assert np.abs(flow[0] - 1).max() < 0.05
    assert np.abs(flow[1]).max() < 0.05


def test_farneback_does_not_swap_u_and_v():
    first = texture()
    flow = middle(farneback(first, np.roll(first, 2, axis=0)))
    assert abs(np.median(flow[0])) < 0.1
    assert np.median(flow[1]) == pytest.approx(2, abs=0.2)


def test_tvl1_measures_half_a_pixel():
    first = texture()
    matrix = np.array([[1, 0, 0.5], [0, 1, -0.25]])
    second = cv2.warpAffine(first, matrix, first.shape[::-1], flags=cv2.INTER_CUBIC)
    flow = middle(tvl1(first, second))
    np.testing.assert_allclose(flow.mean(axis=(1, 2)), (0.5, -0.25), atol=0.03)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("image", [texture(), np.full((72, 72), 90, np.uint8)])
def test_identical_pictures_have_exactly_no_flow(method, image):
    flow = optical_flow(image, image.copy(), method=method)
    assert flow.shape == (2, 72, 72)
    assert flow.dtype == np.float32
    assert (flow == 0).all()


def test_tvl1_itself_gives_zero_for_identical_pictures():
    assert (tvl1(texture(), texture()) == 0).all()


def test_flat_pictures_of_different_grey_have_finite_flow():
    flow = tvl1(np.full((40, 40), 90, np.uint8), np.full((40, 40), 120, np.uint8))
    assert np.isfinite(flow).all()


def test_parameters_reach_opencv():
    first, second = texture(), np.roll(texture(), 1, axis=1)
    assert np.abs(tvl1(first, second, lambda_=0.01) - tvl1(first, second)).max() > 0.01


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (np.full((9, 9), np.nan), np.zeros((9, 9), np.uint8), r"'first'.*float64 \(81 of its"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.float32), "'second'.*float32$"),
        (np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8), r"'first'.*\(9, 9, 3\)"),
        (np.zeros((9, 9), np.uint8), np.zeros((9, 8), np.uint8), r"\(9, 9\), 'second'.*\(9, 8\)"),
        (np.zeros((0, 9), np.uint8), np.zeros((0, 9), np.uint8), r"'first'.*\(0, 9\)"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_wrong_pictures_are_named(method, first, second, match):
    with pytest.raises(ValueError, match=match):
        METHODS[method](first, second)


def test_unknown_methods_get_a_suggestion():
    with pytest.raises(ConfigError, match="Did you mean 'tvl1'"):
        optical_flow(texture(), texture(), method="tv-l1")


def test_an_opencv_without_tvl1_is_explained(monkeypatch):
    monkeypatch.delattr(cv2, "optflow")
    monkeypatch.setattr(
        tvl1_module, "opencv_distributions", lambda: ["opencv-contrib-python 4.1", "opencv-x 4.0"]
    )
    with pytest.raises(DependencyError, match=r"Installed: opencv-contrib-python 4.1, opencv-x"):
        tvl1(texture(), texture(), engine="opencv")


def test_the_installed_opencv_is_found():
    assert any(name.startswith("opencv-") for name in opencv_distributions())


def test_grey_values_are_luminance():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]]], np.uint8)
    np.testing.assert_array_equal(to_grey(image), [[76, 150, 29, 77]])
    np.testing.assert_array_equal(to_grey(image[..., 0]), image[..., 0])


@pytest.mark.parametrize("image", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4)), np.zeros(4)])
def test_grey_refuses_other_arrays(image):
    with pytest.raises(ValueError, match="a picture must"):
        to_grey(image)
