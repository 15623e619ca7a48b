from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.pairs import end_point, known_pairs
from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops import tvl1 as engines
from mer_prep.ops import tvl1_torch
from mer_prep.ops.flow import flow_engine, optical_flow, optical_flows
from mer_prep.ops.tvl1 import check_engine, resolve_engine, tvl1, tvl1_batch
from mer_prep.ops.tvl1_torch import cuda_here, driver_here, level_sizes, torch_here
from mer_prep.stages.flow import Flow, FlowParams

needs_torch = pytest.mark.skipif(not torch_here(), reason="PyTorch is not installed")
needs_cuda = pytest.mark.skipif(not cuda_here(), reason="there is no CUDA device")

BATCHED = pytest.mark.parametrize(
    "engine",
    [pytest.param("torch", marks=needs_torch), pytest.param("cuda", marks=needs_cuda)],
)


@pytest.fixture(autouse=True)
def _one_thread():
    if not torch_here():
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pairs():
    # A still one, three local motions, the shift and the rotation.
    return [known_pairs(seed=1)[index] for index in (0, 1, 3, 5, 6, 7)]


@BATCHED
def test_it_gives_what_opencv_gives(pairs, engine):
    firsts, seconds = (
        np.stack([getattr(pair, end) for pair in pairs]) for end in ("first", "second")
    )
    flows = tvl1_batch(firsts, seconds, engine=engine)
    errors, reference_errors = [], []
    for pair, flow in zip(pairs, flows, strict=True):
        reference = tvl1(pair.first, pair.second, engine="opencv")
        difference = end_point(flow, reference)
        assert difference.mean() <= 0.02, pair.name
        assert np.percentile(difference, 99) <= 0.1, pair.name
        errors.append(end_point(flow, pair.flow).mean())
        reference_errors.append(end_point(reference, pair.flow).mean())
    assert np.mean(errors) <= 1.02 * np.mean(reference_errors)


@BATCHED
@pytest.mark.parametrize("changes", [{"median": 1}, {"median": 3, "warps": 2}, {"scales": 1}])
def test_its_parameters_mean_what_they_mean_to_opencv(pairs, engine, changes):
    first, second = (one[20:100, 10:110] for one in (pairs[2].first, pairs[2].second))
    difference = end_point(
        tvl1(first, second, engine=engine, **changes),
        tvl1(first, second, engine="opencv", **changes),
    )
    assert difference.mean() <= 0.02


@BATCHED
def test_a_pair_does_not_depend_on_its_batch(pairs, engine, monkeypatch):
    monkeypatch.setattr(tvl1_torch, "CPU_PAIRS", 4)
    firsts = np.stack([pair.first[:64, :56] for pair in pairs])
    seconds = np.stack([pair.second[:64, :56] for pair in pairs])
    together = tvl1_batch(firsts, seconds, engine=engine)
    for row in (0, 3, 5):
        alone = tvl1(firsts[row], seconds[row], engine=engine)
        np.testing.assert_array_equal(alone, together[row])


@needs_torch
def test_sizes_of_levels_round_as_the_cpu_engine_does():
    settings = engines._Settings(**engines.DEFAULTS)
    sizes = [(144, 144), (115, 115), (92, 92), (74, 74), (59, 59)]
    assert level_sizes(144, 144, settings) == sizes
    assert level_sizes(40, 16, settings) == [(40, 16)]


@BATCHED
def test_many_flows_at_once_are_those_one_by_one(engine):
    rng = np.random.default_rng(0)
    firsts = [rng.integers(0, 256, (20, 24), dtype=np.uint8) for _ in range(3)]
    seconds = [firsts[0], np.roll(firsts[1], 1, axis=1), firsts[0]]
    flows = optical_flows(firsts, seconds, engine=engine)
    assert flows.shape == (3, 2, 20, 24)
    assert (flows[0] == 0).all()
    for row in range(3):
        np.testing.assert_array_equal(
            flows[row], optical_flow(firsts[row], seconds[row], engine=engine)
        )


def test_methods_that_are_not_batched_are_stacked():
    rng = np.random.default_rng(0)
    firsts = [rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(2)]
    flows = optical_flows(firsts, firsts[::-1], method="farneback")
    np.testing.assert_array_equal(flows[1], optical_flow(firsts[1], firsts[0], method="farneback"))


@needs_torch
def test_nothing_but_8_bits_and_no_illumination_term():
    grey = np.zeros((2, 16, 16), np.uint8)
    with pytest.raises(ValueError, match=r"must be uint8 grey values, not float32 \(512 of its"):
        tvl1_batch(
            np.full((1, 16, 32), np.nan, np.float32), grey[:1, :, :].repeat(2, 2), engine="torch"
        )
    with pytest.raises(ValueError, match="TV-L1 needs 16 px or more"):
        tvl1_batch(grey[:, :15], grey[:, :15], engine="torch")
    with pytest.raises(ConfigError, match="The engine 'torch' knows no illumination term"):
        tvl1_batch(grey, grey, engine="torch", gamma=0.5)
    with pytest.raises(ConfigError, match="no engine 'cuda'"):
        flow_engine("dis", "cuda")


def test_engines_that_do_not_work_here_are_refused_by_name(monkeypatch):
    monkeypatch.setattr(engines, "torch_here", lambda: False)
    monkeypatch.setattr(engines, "cuda_here", lambda: False)
    for engine in ("torch", "cuda"):
        with pytest.raises(DependencyError, match=f"'{engine}' of TV-L1 needs PyTorch"):
            check_engine(engine)
    monkeypatch.setattr(engines, "torch_here", lambda: True)
    with pytest.raises(DependencyError, match="needs a CUDA device, and PyTorch sees none"):
        check_engine("cuda")


def test_auto_takes_cuda_first(monkeypatch):
    monkeypatch.setattr(engines, "cuda_here", lambda: True)
    assert resolve_engine("auto") == "cuda"
    assert Flow(FlowParams()).identity()["engine"] == "cuda"
    assert flow_engine("dis", "auto") == "opencv"


@needs_torch
def test_engines_never_share_a_key():
    identities = [Flow(FlowParams(engine=one)).identity() for one in ("opencv", "cpu", "torch")]
    assert len({tuple(sorted(one.items())) for one in identities}) == 3


#: Triton's interpreter must be chosen before it is imported, so it gets a process of its own.
INTERPRETED = """
import numpy as np, torch, cv2
from mer_prep.ops import tvl1, tvl1_torch, tvl1_triton
tvl1_triton.ITERATE_BLOCK = 512
rng = np.random.default_rng(0)
texture = cv2.GaussianBlur(rng.normal(size=(60, 60)), (0, 0), 2)
texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.float32)
firsts = torch.from_numpy(np.stack([texture[10:34, 10:50]] * 2 + [texture[5:29, 5:45]]))
seconds = torch.from_numpy(
    np.stack([texture[10:34, 9:49], texture[11:35, 10:50], texture[5:29, 5:45]])
)
fused, plain = tvl1_triton.FusedSteps(), tvl1_torch.TorchSteps()
assert isinstance(fused, tvl1_torch.TorchSteps)
active = torch.tensor([True, False, True])
plane = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(0))
plane[0, :3] = 0
for side in (3, 5):
    torch.testing.assert_close(
        fused.median(plane, side, active), plain.median(plane, side, active), atol=0, rtol=0
    )
settings = tvl1._Settings(**tvl1.DEFAULTS | {"scales": 2, "warps": 2, "outer_iterations": 2})
with torch.inference_mode():
    found = tvl1_torch._solve(firsts, seconds, settings, fused)
    expected = tvl1_torch._solve(firsts, seconds, settings, plain)
assert (found - expected).abs().mean() < 1e-3, (found - expected).abs().mean()
assert abs(float(found[0, 0].median()) - 1) < 0.05
assert abs(float(found[1, 1].median()) + 1) < 0.05
assert (found[2] == 0).all()
print("fused kernels agree")
"""


@needs_torch
@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_fused_kernels_in_the_interpreter():
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "fused kernels agree" in done.stdout, done.stderr[-2000:]


def test_without_a_driver_pytorch_is_not_imported() -> None:
    program = (
        "import sys; from mer_prep.ops import tvl1_torch; "
        "tvl1_torch.driver_here = lambda: False; "
        "assert not tvl1_torch.cuda_here(); print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["False"]


@needs_cuda
def test_a_cuda_device_has_a_driver() -> None:
    assert driver_here()
