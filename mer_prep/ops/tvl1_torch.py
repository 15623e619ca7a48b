"""TV-L1 of many pairs at once, in PyTorch, on the CPU or a GPU.

The algorithm is that of the CPU engine (see `mer_prep.ops.tvl1.tvl1`), with a pair axis in front.
Every pair stops by itself, so its flow does not depend on which others it is computed with. The
three steps that take the time are functions of their own; on CUDA, kernels of
`mer_prep.ops.tvl1_triton` take their place.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib.util
import logging
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

#: Raised with every change of the output.
VERSION = 1

#: Smallest height and width of a pyramid level, px.
SMALLEST = 16

#: Squared gradients at or below this are flat: the smallest step of single precision at 1.
FLAT = 1.1920929e-07

#: Zeros around a picture that is sampled; positions are limited so that no tap falls beyond.
MARGIN = 6

#: Planes of a picture's size that one pair needs at a time, with room for temporary ones.
PLANES_TORCH, PLANES_FUSED = 160, 48

#: Part of the free memory of a GPU that one process takes.
MEMORY_SHARE = 0.4

#: Pairs at a time on a CPU; more only take more memory.
CPU_PAIRS = 16

#: Iterations between two looks at which pairs have stopped, on a GPU, where a look waits for it.
LOOK_EVERY = 5


@functools.cache
def torch_here() -> bool:
    """Return whether PyTorch is installed; it is not imported."""
    return importlib.util.find_spec("torch") is not None


@functools.cache
def cuda_here() -> bool:
    """Return whether PyTorch is installed and sees a CUDA device."""
    if not torch_here() or not driver_here():
        return False
    import torch

    return bool(torch.cuda.is_available())


def driver_here() -> bool:
    """Return whether the library of NVIDIA's driver, without which there is no CUDA, loads.

    Asked first, for importing PyTorch takes a second in every worker process.
    """
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


@functools.cache
def fused_here() -> bool:
    """Return whether Triton is installed, so that kernels can be fused; say so if it is not."""
    if importlib.util.find_spec("triton") is not None:
        return True
    logger.warning(
        "TV-L1 on CUDA runs without fused kernels, several times slower: Triton is not installed "
        "(pip install triton)."
    )
    return False


@dataclass
class Fields:
    """Everything an iteration reads and writes, each of shape (N, H, W), float32.

    Parameters
    ----------
    u, v : Tensor
        Flow, px.
    ux, uy, vx, vy : Tensor
        Dual variables times theta / tau.
    gx, gy : Tensor
        Gradient of the warped second pictures.
    residual : Tensor
        What is constant in the brightness residual.
    inverse : Tensor
        -1 / squared norm of the gradient; 0 where it is flat.
    """

    u: Tensor
    v: Tensor
    ux: Tensor
    uy: Tensor
    vx: Tensor
    vy: Tensor
    gx: Tensor
    gy: Tensor
    residual: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class Rates:
    """Constants of an iteration.

    Parameters
    ----------
    bound : float
        lambda theta, the largest step along the gradient, as a multiple of it.
    tau : float
        Time step of the dual update.
    slack : float
        theta / tau.
    """

    bound: float
    tau: float
    slack: float


def solve(first: np.ndarray, second: np.ndarray, settings: Any, *, device: str) -> np.ndarray:
    """Return the flow of many pairs.

    Parameters
    ----------
    first, second : ndarray, shape (N, H, W), uint8
        Grey pictures.
    settings : object
        The parameters of `mer_prep.ops.tvl1.tvl1` as attributes.
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    ndarray, shape (N, 2, H, W), float32
        Channels u and v in px.
    """
    import torch

    steps = _steps(device)
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    count = _pairs_at_a_time(first.shape[1:], device, fused=not isinstance(steps, TorchSteps))
    # Sums in reduced precision would be faster, and wrong in the third digit.
    with torch.inference_mode():
        for start in range(0, len(first), count):
            part = slice(start, start + count)
            pair = [_to_device(one[part], device) for one in (first, second)]
            flow[part] = _solve(pair[0], pair[1], settings, steps).cpu().numpy()
    return flow


def _to_device(pictures: np.ndarray, device: str) -> Tensor:
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(pictures))
    if device.startswith("cuda"):
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(torch.float32)


def _pairs_at_a_time(shape: tuple[int, ...], device: str, *, fused: bool) -> int:
    import torch

    if not device.startswith("cuda"):
        return CPU_PAIRS
    free, _ = torch.cuda.mem_get_info(device)
    planes = PLANES_FUSED if fused else PLANES_TORCH
    return max(1, min(8192, int(MEMORY_SHARE * free) // (planes * 4 * math.prod(shape))))


class TorchSteps:
    """The three steps that take the time, in plain PyTorch."""

    def linearise(self, first: Tensor, second: Tensor, fields: Fields) -> None:
        """Warp the second pictures and their gradients by the flow; fill what rests on that.

        Parameters
        ----------
        first : Tensor, shape (N, H, W)
            First pictures.
        second : Tensor, shape (N, 3, H, W)
            Second pictures and their derivatives along x and y.
        fields : Fields
            Its gradient, residual and inverse are replaced.
        """
        import torch

        warped, gx, gy = sample(second, fields.u, fields.v).unbind(dim=1)
        norm = gx * gx + gy * gy
        steep = norm > FLAT
        fields.gx.copy_(gx)
        fields.gy.copy_(gy)
        fields.residual.copy_(warped - first - (gx * fields.u + gy * fields.v))
        fields.inverse.copy_(torch.where(steep, -1 / torch.where(steep, norm, 1.0), 0.0))

    def median(self, plane: Tensor, side: int, active: Tensor) -> Tensor:
        """Return planes (N, H, W), those of active pairs (N,) median-filtered."""
        import torch
        from torch.nn import functional

        index = active.nonzero().flatten()
        count, height, width = len(index), *plane.shape[1:]
        around = functional.pad(plane[index][:, None], [side // 2] * 4, mode="replicate")
        windows = functional.unfold(around, side).median(dim=1).values
        filtered = plane.clone()
        filtered[index] = windows.reshape(count, height, width)
        return torch.where(active[:, None, None], filtered, plane)

    def iterate(
        self, fields: Fields, active: Tensor, *, enough: float, rounds: int, rates: Rates
    ) -> Tensor:
        """Run up to `rounds` iterations on active pairs, each until its updates are small.

        Parameters
        ----------
        fields : Fields
            Updated in place.
        active : Tensor, shape (N,), bool
            Which pairs.
        enough : float
            A pair stops when the sum of its squared updates is at or below this, px^2.
        rounds : int
            Most iterations.
        rates : Rates
            Constants.

        Returns
        -------
        Tensor, shape (N,), bool
            Which of the active pairs have not stopped by themselves.
        """
        import torch

        index = active.nonzero().flatten()
        part = Fields(*(getattr(fields, one.name)[index] for one in dataclasses.fields(Fields)))
        running = torch.ones(len(index), dtype=torch.bool, device=active.device)
        look = LOOK_EVERY if active.device.type == "cuda" else 1
        for turn in range(rounds):
            if turn % look == 0 and not bool(running.any()):
                break
            error = _iterate(part, running, rates)
            running = running & (error > enough)
        for name in ("u", "v", "ux", "uy", "vx", "vy"):
            getattr(fields, name)[index] = getattr(part, name)
        left = torch.zeros_like(active)
        left[index] = running
        return left


def _iterate(part: Fields, running: Tensor, rates: Rates) -> Tensor:
    """Run one iteration on the running pairs; return the sums of squared updates, (N,)."""
    import torch

    rho = part.residual + (part.gx * part.u + part.gy * part.v)
    step = (rho * part.inverse).clamp(-rates.bound, rates.bound)
    change_u = step * part.gx + rates.tau * _divergence(part.ux, part.uy)
    change_v = step * part.gy + rates.tau * _divergence(part.vx, part.vy)
    moving = running[:, None, None]
    part.u = torch.where(moving, part.u + change_u, part.u)
    part.v = torch.where(moving, part.v + change_v, part.v)
    for along, p_x, p_y in (("u", "ux", "uy"), ("v", "vx", "vy")):
        dx, dy = _differences(getattr(part, along))
        ratio = rates.slack / (rates.slack + torch.sqrt(dx * dx + dy * dy))
        for name, difference in ((p_x, dx), (p_y, dy)):
            before = getattr(part, name)
            setattr(part, name, torch.where(moving, (before + difference) * ratio, before))
    return (change_u * change_u + change_v * change_v).sum(dim=(1, 2))


def _divergence(along_x: Tensor, along_y: Tensor) -> Tensor:
    """Return the backward differences, with zeros before the first row and column."""
    divergence = along_x + along_y
    divergence[:, :, 1:] -= along_x[:, :, :-1]
    divergence[:, 1:] -= along_y[:, :-1]
    return divergence


def _differences(plane: Tensor) -> tuple[Tensor, Tensor]:
    """Return the forward differences along x and y; zero across the last column and row."""
    import torch

    dx, dy = torch.zeros_like(plane), torch.zeros_like(plane)
    dx[:, :, :-1] = plane[:, :, 1:] - plane[:, :, :-1]
    dy[:, :-1] = plane[:, 1:] - plane[:, :-1]
    return dx, dy


def cubic_weights(fraction: Tensor) -> list[Tensor]:
    """Return the weights of the taps at -1, 0, 1, 2: cubic convolution with a = -0.75.

    References
    ----------
    R. G. Keys, "Cubic convolution interpolation for digital image processing", IEEE TASSP 29(6),
    1981. doi:10.1109/TASSP.1981.1163711
    """
    rest = 1 - fraction
    return [
        -0.75 * fraction * rest * rest,
        (1.25 * fraction - 2.25) * (fraction * fraction) + 1,
        (1.25 * rest - 2.25) * (rest * rest) + 1,
        -0.75 * rest * fraction * fraction,
    ]


def sample(pictures: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return pictures where a flow points to: bicubic, and zero outside.

    Parameters
    ----------
    pictures : Tensor, shape (N, C, H, W)
        What is sampled.
    u, v : Tensor, shape (N, H, W)
        The flow, px.

    Returns
    -------
    Tensor, shape (N, C, H, W)
    """
    import torch
    from torch.nn import functional

    count, channels, height, width = pictures.shape
    x = torch.arange(width, device=u.device) + u
    y = torch.arange(height, device=u.device)[:, None] + v
    x, y = x.clamp(-4, width + 3), y.clamp(-4, height + 3)
    left, top = x.floor(), y.floor()
    weights_x, weights_y = cubic_weights(x - left), cubic_weights(y - top)
    padded = functional.pad(pictures, [MARGIN] * 4).flatten(2)
    stride = width + 2 * MARGIN
    begin = (top.long() + MARGIN - 1) * stride + left.long() + MARGIN - 1
    total = torch.zeros_like(pictures)
    for row, weight_y in enumerate(weights_y):
        across = torch.zeros_like(pictures)
        for column, weight_x in enumerate(weights_x):
            index = (begin + row * stride + column).flatten(1)[:, None].expand(-1, channels, -1)
            taps = padded.gather(2, index).reshape(count, channels, height, width)
            across = across + taps * weight_x[:, None]
        total = total + across * weight_y[:, None]
    return total


def gradient(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return central differences along x and y; half the one-sided ones at the borders."""
    from torch.nn import functional

    around = functional.pad(pictures[:, None], [1] * 4, mode="replicate")[:, 0]
    gx = 0.5 * (around[:, 1:-1, 2:] - around[:, 1:-1, :-2])
    gy = 0.5 * (around[:, 2:, 1:-1] - around[:, :-2, 1:-1])
    return gx, gy


def resize(planes: Tensor, size: tuple[int, int], steps: tuple[float, float]) -> Tensor:
    """Return planes (N, H, W) at another (height, width), linearly.

    A pixel of the result is `steps` (along y, along x) pixels of the source wide; centres lie at
    halves, and beyond the outermost ones the border value holds.
    """
    for axis, (length, step) in enumerate(zip(size, steps, strict=True), start=1):
        index, weight = _neighbours(length, step, planes.shape[axis], planes)
        weight = weight[:, None] if axis == 1 else weight
        low, high = planes.index_select(axis, index), planes.index_select(axis, index + 1)
        planes = low * (1 - weight) + high * weight
    return planes


def _neighbours(length: int, step: float, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    position = (torch.arange(length, dtype=torch.float64) + 0.5) * step - 0.5
    first = position.floor().clamp(0, size - 2)
    weight = (position - first).clamp(0, 1).to(torch.float32)
    return first.long().to(like.device), weight.to(like.device)


def level_sizes(height: int, width: int, settings: Any) -> list[tuple[int, int]]:
    """Return (height, width) of the pyramid's levels, the finest first."""
    sizes = [(height, width)]
    while len(sizes) < settings.scales:
        # Halves go to the even neighbour, as in C's lrint.
        height, width = (round(one * settings.scale_step) for one in (height, width))
        if min(height, width) < SMALLEST:
            break
        sizes.append((height, width))
    return sizes


def _steps(device: str) -> TorchSteps:
    if device.startswith("cuda") and fused_here():
        from mer_prep.ops.tvl1_triton import FusedSteps

        return FusedSteps()
    return TorchSteps()


def _solve(first: Tensor, second: Tensor, settings: Any, steps: TorchSteps) -> Tensor:
    """Return the flow (N, 2, H, W) of pictures (N, H, W), float32 from 0 to 255."""
    import torch

    sizes = level_sizes(first.shape[1], first.shape[2], settings)
    step = 1 / settings.scale_step
    pyramid = [(first, second)]
    for size in sizes[1:]:
        first, second = (resize(one, size, (step, step)) for one in pyramid[-1])
        pyramid.append((first, second))
    flow = [torch.zeros((len(first), *sizes[-1]), device=first.device) for _ in range(2)]
    for depth in reversed(range(len(sizes))):
        flow = _solve_level(*pyramid[depth], flow, settings, steps)
        if depth > 0:
            old, new = sizes[depth], sizes[depth - 1]
            ratios = (old[0] / new[0], old[1] / new[1])
            flow = [resize(one, new, ratios) * step for one in flow]
    return torch.stack(flow, dim=1)


def _solve_level(
    first: Tensor, second: Tensor, flow: list[Tensor], settings: Any, steps: TorchSteps
) -> list[Tensor]:
    """Return the flow of one level of the pyramid, from the flow it begins with."""
    import torch

    rates = Rates(settings.lambda_ * settings.theta, settings.tau, settings.theta / settings.tau)
    enough = settings.epsilon**2 * first.shape[1] * first.shape[2]
    planes = [torch.zeros_like(first) for _ in range(8)]
    fields = Fields(flow[0].contiguous(), flow[1].contiguous(), *planes)
    seen = torch.stack([second, *gradient(second)], dim=1)
    for _ in range(settings.warps):
        steps.linearise(first, seen, fields)
        active = torch.ones(len(first), dtype=torch.bool, device=first.device)
        for _ in range(settings.outer_iterations):
            if settings.median > 1:
                fields.u = steps.median(fields.u, settings.median, active)
                fields.v = steps.median(fields.v, settings.median, active)
            active = steps.iterate(
                fields, active, enough=enough, rounds=settings.inner_iterations, rates=rates
            )
            if not bool(active.any()):
                break
    return [fields.u, fields.v]
