from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from benchmarks.pairs import end_point, inside, known_pairs
from mer_prep import doctor
from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops import tvl1 as engines
from mer_prep.ops.flow import flow_engine, optical_flow
from mer_prep.ops.tvl1 import kernel_paths, kernel_version, resolve_engine, tvl1, tvl1_batch
from mer_prep.ops.tvl1_torch import cuda_here, torch_here

PAIRS = known_pairs()
SIZES = [(16, 16), (17, 33), (144, 144), (200, 96)]

needs_cpu = pytest.mark.skipif(kernel_version() is None, reason="the CPU engine was not built")


needs_torch = pytest.mark.skipif(not torch_here(), reason="PyTorch is not installed")
needs_cuda = pytest.mark.skipif(not cuda_here(), reason="there is no CUDA device")


def every_engine(function):
    cpu = pytest.param("cpu", marks=needs_cpu)
    torch = pytest.param("torch", marks=needs_torch)
    cuda = pytest.param("cuda", marks=needs_cuda)
    return pytest.mark.parametrize("engine", [cpu, torch, cuda, "opencv"])(function)


def texture(height: int, width: int, *, seed: int = 0, blur: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.rint(smooth * 255).astype(np.uint8)


def by_path(first: np.ndarray, second: np.ndarray, path: str, **changes) -> np.ndarray:
    names = engines._Settings.__dataclass_fields__
    settings = {name: tvl1.__kwdefaults__[name] for name in names} | changes
    return engines._by_cpu(first, second, engines._Settings(**settings), path=path)


@pytest.fixture(scope="module")
def flows() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the flow of every pair by the CPU engine and by OpenCV."""
    return {
        pair.name: (
            tvl1(pair.first, pair.second, engine="cpu"),
            tvl1(pair.first, pair.second, engine="opencv"),
        )
        for pair in PAIRS
    }


@needs_cpu
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
def test_the_cpu_engine_gives_what_opencv_gives(flows, pair):
    difference = end_point(*flows[pair.name])
    assert difference.mean() <= 0.02
    assert np.percentile(difference, 99) <= 0.1


@needs_cpu
def test_the_cpu_engine_is_as_near_to_the_truth_as_opencv(flows):
    errors = np.array(
        [[end_point(flow, pair.flow).mean() for flow in flows[pair.name]] for pair in PAIRS]
    )
    ours, reference = errors.mean(axis=0)
    assert ours <= 1.02 * reference
    assert (errors[:, 0] <= errors[:, 1] + 0.002).all()


@needs_cpu
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tau": 0.15},
        {"lambda_": 0.05},
        {"theta": 0.2},
        {"epsilon": 0.03},
        {"inner_iterations": 7},
        {"outer_iterations": 3},
        {"warps": 2},
        {"median": 3},
        {"median": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_one_warp_of_one_level_agrees_with_opencv_to_rounding(changes, size):
    first = texture(*size, seed=1)
    second = np.roll(texture(*size, seed=1), (0, 1), axis=(0, 1))
    settings = {"scales": 1, "warps": 1, **changes}
    ours = tvl1(first, second, engine="cpu", **settings)
    reference = tvl1(first, second, engine="opencv", **settings)
    assert np.abs(reference).max() > 0.01
    np.testing.assert_allclose(ours, reference, atol=2e-5 if settings["warps"] == 1 else 2e-3)


@needs_cpu
@pytest.mark.parametrize("step", [0.5, 0.8])
def test_the_pyramid_agrees_with_opencv(step):
    pair = PAIRS[4]
    settings = {"scales": 2, "warps": 1, "outer_iterations": 1, "scale_step": step}
    ours = tvl1(pair.first, pair.second, engine="cpu", **settings)
    reference = tvl1(pair.first, pair.second, engine="opencv", **settings)
    assert np.abs(ours - reference).mean() < 1e-5
    single = tvl1(pair.first, pair.second, engine="cpu", **settings | {"scales": 1})
    assert np.abs(ours - single).mean() > 0.01


@every_engine
@pytest.mark.parametrize("step", [(1, 0), (-1, 0), (0, 1), (0, -1)], ids=str)
def test_one_pixel_in_each_direction(engine, step):
    first = texture(72, 72)
    second = np.roll(first, step[::-1], axis=(0, 1))
    flow = inside(tvl1(first, second, engine=engine), 12)
    np.testing.assert_allclose(flow.mean(axis=(1, 2)), step, atol=0.02)
    assert np.abs(flow - np.reshape(step, (2, 1, 1))).max() < 0.06


@every_engine
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_from_16_px(engine, size):
    first, second = texture(*size, seed=3), texture(*size, seed=4)
    flow = tvl1(first, second, engine=engine)
    assert flow.shape == (2, *size)
    assert flow.dtype == np.float32
    assert flow.flags.c_contiguous
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() > 0


@every_engine
def test_identical_pictures_have_exactly_no_flow(engine):
    for size in SIZES:
        picture = texture(*size)
        assert (tvl1(picture, picture.copy(), engine=engine) == 0).all()


@every_engine
@pytest.mark.parametrize("levels", [(0, 255), (90, 91), (255, 0)])
def test_flat_pictures_have_no_gradient_to_follow(engine, levels):
    first, second = (np.full((33, 20), level, np.uint8) for level in levels)
    assert (tvl1(first, second, engine=engine) == 0).all()


@every_engine
def test_the_layout_in_memory_does_not_matter(engine):
    first, second = texture(40, 56, seed=5), texture(40, 56, seed=6)
    expected = tvl1(first, second, engine=engine)
    wide = np.zeros((40, 112), np.uint8)
    wide[:, ::2] = first
    fortran = np.asfortranarray(second)
    fortran.flags.writeable = False
    np.testing.assert_array_equal(tvl1(wide[:, ::2], fortran, engine=engine), expected)


@every_engine
def test_threads_and_batches_change_no_bit(engine):
    some = PAIRS[:4]
    first, second = (np.stack([getattr(p, end) for p in some]) for end in ("first", "second"))
    first, second = first[:, :80, :72], second[:, :80, :72]
    single = np.stack([tvl1(a, b, engine=engine) for a, b in zip(first, second, strict=True)])
    for threads in (1, 2, 3):
        batch = tvl1_batch(first, second, engine=engine, threads=threads)
        np.testing.assert_array_equal(batch, single)


def test_a_batch_passes_parameters_on_and_may_be_empty():
    first, second = texture(20, 24, seed=1)[None], texture(20, 24, seed=2)[None]
    assert (tvl1_batch(first, second, warps=1) == tvl1(first[0], second[0], warps=1)).all()
    assert tvl1_batch(first[:0], second[:0]).shape == (0, 2, 20, 24)


@needs_cpu
@pytest.mark.parametrize("path", kernel_paths())
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_path_gives_the_same_bits(path, size):
    first, second = texture(*size, seed=7), texture(*size, seed=8)
    np.testing.assert_array_equal(by_path(first, second, path), tvl1(first, second, engine="cpu"))


@needs_cpu
def test_the_baseline_runs_on_every_processor():
    assert kernel_paths()[-1] == "portable"
    with pytest.raises(ValueError, match="no path 'sse9'"):
        by_path(texture(16, 16), texture(16, 16), "sse9")


@needs_cpu
@pytest.mark.parametrize("path", kernel_paths())
@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 9), (33, 17), (50, 64)], ids=str)
def test_the_median_is_that_of_opencv_bit_by_bit(path, side, size):
    rng = np.random.default_rng(9)
    for image in (rng.normal(size=size), rng.integers(0, 3, size)):
        image = image.astype(np.float32)
        result = np.empty_like(image)
        engines._kernel().median(image, result, side, path)
        np.testing.assert_array_equal(result, cv2.medianBlur(image, side))


@needs_cpu
@pytest.mark.parametrize("path", kernel_paths())
@pytest.mark.parametrize("spread", [0.01, 0.8, 5.0, 1e3, 1e30])
def test_the_warp_is_that_of_opencv_with_zeros_outside(path, spread):
    rng = np.random.default_rng(10)
    image = texture(37, 45).astype(np.float32)
    flow = rng.normal(scale=spread, size=(2, 37, 45)).astype(np.float32)
    flow[:, :10] = rng.normal(scale=min(spread, 50), size=(2, 1, 1))  # moves as one
    result = np.empty_like(image)
    engines._kernel().warp(image, flow, result, path)
    y, x = np.mgrid[:37, :45].astype(np.float32)
    with np.errstate(over="ignore"):
        at = np.clip(x + flow[0], -100, 200), np.clip(y + flow[1], -100, 200)
    expected = cv2.remap(image, *at, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT)
    np.testing.assert_allclose(result, expected, atol=2e-3)


@every_engine
@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (np.full((20, 20), np.nan), np.zeros((20, 20), np.uint8), "'first'.*400 of its values"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.int64), "'second'.*int64"),
        (np.zeros((20, 20, 1), np.uint8), np.zeros((20, 20), np.uint8), "'first'.*shape"),
        (np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8), r"'second' has shape"),
        (np.zeros((15, 90), np.uint8), np.zeros((15, 90), np.uint8), "needs 16 px or more"),
        (np.zeros((90, 15), np.uint8), np.zeros((90, 15), np.uint8), "needs 16 px or more"),
    ],
)
def test_wrong_pictures_are_refused_by_name(engine, first, second, match):
    with pytest.raises(ValueError, match=match):
        tvl1(first, second, engine=engine)


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ((20, 20), (2, 20, 20), r"'first' must have shape \(N, H, W\)"),
        ((2, 20, 20), (2, 1, 20, 20), r"'second' must have shape \(N, H, W\)"),
        ((2, 20, 20), (3, 20, 20), "'first' has shape"),
    ],
)
def test_wrong_batches_are_refused_by_name(first, second, match):
    with pytest.raises(ValueError, match=match):
        tvl1_batch(np.zeros(first, np.uint8), np.zeros(second, np.uint8))


@every_engine
@pytest.mark.parametrize(
    "changes",
    [
        {"tau": 0},
        {"lambda_": -1},
        {"theta": float("nan")},
        {"epsilon": -0.1},
        {"scales": 0},
        {"warps": 0},
        {"inner_iterations": 0},
        {"outer_iterations": 0},
        {"scale_step": 1.0},
        {"gamma": -1},
        {"median": 7},
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused_by_name(engine, changes):
    picture = texture(16, 16)
    with pytest.raises(ConfigError, match=f"'{next(iter(changes))}'"):
        tvl1(picture, picture, engine=engine, **changes)


@needs_cpu
def test_only_opencv_estimates_illumination():
    with pytest.raises(ConfigError, match=r"'gamma' is 0\.1"):
        tvl1(texture(16, 16), texture(16, 16), engine="cpu", gamma=0.1)
    dark, bright = texture(32, 32) // 2, texture(32, 32) // 2 + 60
    flow = tvl1(dark, bright, engine="opencv", gamma=0.5)
    assert np.isfinite(flow).all()


def test_unknown_engines_and_threads_are_refused():
    with pytest.raises(ConfigError, match="Did you mean 'opencv'"):
        tvl1(texture(16, 16), texture(16, 16), engine="opencl")
    with pytest.raises(ConfigError, match="'threads' is out of range"):
        tvl1_batch(texture(16, 16)[None], texture(16, 16)[None], threads=0)


@every_engine
def test_optical_flow_passes_the_engine_on(engine):
    first, second = texture(24, 24, seed=1), texture(24, 24, seed=2)
    flow = optical_flow(first, second, engine=engine)
    np.testing.assert_array_equal(flow, tvl1(first, second, engine=engine))
    with pytest.raises(ConfigError, match="'farneback' has no engine 'cpu'"):
        flow_engine("farneback", "cpu")
    assert flow_engine("dis") == "opencv"


@pytest.fixture
def unbuilt(monkeypatch) -> Iterator[None]:
    """Make the extension impossible to import, as where no compiler was at hand."""
    monkeypatch.setitem(sys.modules, "mer_prep.ops._tvl1", None)
    caches = engines._kernel, engines._say_that_opencv_stands_in
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_without_the_extension_opencv_stands_in_and_it_is_said_once(unbuilt, caplog):
    assert kernel_version() is None
    assert kernel_paths() == []
    first, second = texture(24, 24, seed=1), texture(24, 24, seed=2)
    with caplog.at_level(logging.WARNING):
        flow = tvl1(first, second)
        tvl1(first, second)
    assert [record.message for record in caplog.records] == [
        "TV-L1 runs on OpenCV's engine, some 20 times slower: the CPU engine was not built here; "
        "see `mer-prep doctor`."
    ]
    np.testing.assert_array_equal(flow, tvl1(first, second, engine="opencv"))


def test_without_the_extension_the_cpu_engine_is_refused(unbuilt):
    with pytest.raises(DependencyError, match="was not built") as caught:
        tvl1(texture(16, 16), texture(16, 16), engine="cpu")
    assert "C compiler" in caught.value.hint


def test_doctor_shows_a_missing_engine_and_how_to_get_it(unbuilt):
    (row,) = doctor._cpu_engine()
    assert row.state == "missing"
    assert "python3-dev" in row.remedy


@needs_cpu
def test_doctor_shows_the_engine():
    (row,) = doctor._cpu_engine()
    assert row.state == "ok"
    assert row.detail == f"version {kernel_version()}, {kernel_paths()[0]}"


def test_auto_is_the_cpu_engine_where_it_was_built():
    built = importlib.util.find_spec("mer_prep.ops._tvl1") is not None
    assert resolve_engine() == ("cpu" if built else "opencv")
    assert resolve_engine("opencv") == "opencv"
