"""Fused kernels of TV-L1 for CUDA, in Triton.

One program iterates one pair: it runs all its iterations and stops by itself, so that neither the
host nor other pairs are waited for. Threads of a program read what others of it wrote; a barrier
stands between, because Triton puts none between stores to and loads from global memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from mer_prep.ops.tvl1_torch import FLAT, Fields, Rates, TorchSteps

if TYPE_CHECKING:
    from torch import Tensor

#: Pixels a program works on at a time, and its warps: iterating, sampling, filtering.
ITERATE_BLOCK, ITERATE_WARPS = 2048, 16
SAMPLE_BLOCK = 256
MEDIAN_BLOCK = 128


@triton.jit
def _iterate_kernel(
    u, v, ux, uy, vx, vy, gx, gy, residual, inverse, active, left,
    height, width, enough, bound, tau, slack, rounds,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Iterate one pair until its updates are small; see `TorchSteps.iterate`."""
    pair = tl.program_id(0)
    size = height * width
    base = pair.to(tl.int64) * size
    squared = enough + 1.0
    turn = 0
    if tl.load(active + pair) == 0:
        turn = rounds
        squared = 0.0 * enough
    while (turn < rounds) & (squared > enough):
        total = tl.zeros((BLOCK,), dtype=tl.float32)
        for start in range(0, size, BLOCK):
            at = start + tl.arange(0, BLOCK)
            inside = at < size
            later = inside & (at % width > 0)
            lower = inside & (at >= width)
            place = base + at
            now_u = tl.load(u + place, mask=inside, other=0.0)
            now_v = tl.load(v + place, mask=inside, other=0.0)
            slope_x = tl.load(gx + place, mask=inside, other=0.0)
            slope_y = tl.load(gy + place, mask=inside, other=0.0)
            rho = tl.load(residual + place, mask=inside, other=0.0)
            rho += slope_x * now_u + slope_y * now_v
            step = rho * tl.load(inverse + place, mask=inside, other=0.0)
            step = tl.minimum(tl.maximum(step, -bound), bound)
            spread_u = tl.load(ux + place, mask=inside, other=0.0)
            spread_u -= tl.load(ux + place - 1, mask=later, other=0.0)
            spread_u += tl.load(uy + place, mask=inside, other=0.0)
            spread_u -= tl.load(uy + place - width, mask=lower, other=0.0)
            spread_v = tl.load(vx + place, mask=inside, other=0.0)
            spread_v -= tl.load(vx + place - 1, mask=later, other=0.0)
            spread_v += tl.load(vy + place, mask=inside, other=0.0)
            spread_v -= tl.load(vy + place - width, mask=lower, other=0.0)
            change_u = step * slope_x + tau * spread_u
            change_v = step * slope_y + tau * spread_v
            tl.store(u + place, now_u + change_u, mask=inside)
            tl.store(v + place, now_v + change_v, mask=inside)
            total += tl.where(inside, change_u * change_u + change_v * change_v, 0.0)
        tl.debug_barrier()
        for start in range(0, size, BLOCK):
            at = start + tl.arange(0, BLOCK)
            inside = at < size
            sooner = inside & (at % width < width - 1)
            upper = at < size - width
            place = base + at
            now_u = tl.load(u + place, mask=inside, other=0.0)
            now_v = tl.load(v + place, mask=inside, other=0.0)
            dux = tl.where(sooner, tl.load(u + place + 1, mask=sooner, other=0.0) - now_u, 0.0)
            duy = tl.where(upper, tl.load(u + place + width, mask=upper, other=0.0) - now_u, 0.0)
            dvx = tl.where(sooner, tl.load(v + place + 1, mask=sooner, other=0.0) - now_v, 0.0)
            dvy = tl.where(upper, tl.load(v + place + width, mask=upper, other=0.0) - now_v, 0.0)
            ratio_u = slack / (slack + tl.sqrt(dux * dux + duy * duy))
            ratio_v = slack / (slack + tl.sqrt(dvx * dvx + dvy * dvy))
            old_ux = tl.load(ux + place, mask=inside, other=0.0)
            old_uy = tl.load(uy + place, mask=inside, other=0.0)
            old_vx = tl.load(vx + place, mask=inside, other=0.0)
            old_vy = tl.load(vy + place, mask=inside, other=0.0)
            tl.store(ux + place, (old_ux + dux) * ratio_u, mask=inside)
            tl.store(uy + place, (old_uy + duy) * ratio_u, mask=inside)
            tl.store(vx + place, (old_vx + dvx) * ratio_v, mask=inside)
            tl.store(vy + place, (old_vy + dvy) * ratio_v, mask=inside)
        tl.debug_barrier()
        squared = tl.sum(total, axis=0)
        turn += 1
    tl.store(left + pair, (squared > enough).to(tl.int8))


@triton.jit
def _cubic(fraction, tap: tl.constexpr):
    """Weight of the tap at `tap` - 1 of cubic convolution with a = -0.75."""
    rest = 1.0 - fraction
    if tap == 0:
        weight = -0.75 * fraction * rest * rest
    elif tap == 1:
        weight = (1.25 * fraction - 2.25) * (fraction * fraction) + 1.0
    elif tap == 2:
        weight = (1.25 * rest - 2.25) * (rest * rest) + 1.0
    else:
        weight = -0.75 * rest * fraction * fraction
    return weight


@triton.jit
def _linearise_kernel(
    first, second, u, v, gx, gy, residual, inverse, height, width, flat,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Warp the second picture and its gradient; see `TorchSteps.linearise`."""
    pair = tl.program_id(0).to(tl.int64)
    size = height * width
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    place = pair * size + at
    flow_u = tl.load(u + place, mask=inside, other=0.0)
    flow_v = tl.load(v + place, mask=inside, other=0.0)
    x = (at % width).to(tl.float32) + flow_u
    y = (at // width).to(tl.float32) + flow_v
    # Beyond these limits every tap is outside, where the picture is zero.
    x = tl.minimum(tl.maximum(x, -4.0), width + 3.0)
    y = tl.minimum(tl.maximum(y, -4.0), height + 3.0)
    left = tl.floor(x)
    top = tl.floor(y)
    fraction_x = x - left
    fraction_y = y - top
    column = left.to(tl.int32) - 1
    row = top.to(tl.int32) - 1
    picture = second + 3 * pair * size
    warped = tl.zeros((BLOCK,), dtype=tl.float32)
    slope_x = tl.zeros((BLOCK,), dtype=tl.float32)
    slope_y = tl.zeros((BLOCK,), dtype=tl.float32)
    for down in tl.static_range(4):
        across = tl.zeros((BLOCK,), dtype=tl.float32)
        across_x = tl.zeros((BLOCK,), dtype=tl.float32)
        across_y = tl.zeros((BLOCK,), dtype=tl.float32)
        for right in tl.static_range(4):
            weight = _cubic(fraction_x, right)
            here_x = column + right
            here_y = row + down
            known = inside & (here_x >= 0) & (here_x < width) & (here_y >= 0) & (here_y < height)
            tap = picture + here_y * width + here_x
            across += weight * tl.load(tap, mask=known, other=0.0)
            across_x += weight * tl.load(tap + size, mask=known, other=0.0)
            across_y += weight * tl.load(tap + 2 * size, mask=known, other=0.0)
        weight = _cubic(fraction_y, down)
        warped += weight * across
        slope_x += weight * across_x
        slope_y += weight * across_y
    norm = slope_x * slope_x + slope_y * slope_y
    steep = norm > flat
    constant = warped - tl.load(first + place, mask=inside, other=0.0)
    constant -= slope_x * flow_u + slope_y * flow_v
    tl.store(gx + place, slope_x, mask=inside)
    tl.store(gy + place, slope_y, mask=inside)
    tl.store(residual + place, constant, mask=inside)
    tl.store(inverse + place, tl.where(steep, -1.0 / tl.where(steep, norm, 1.0), 0.0), mask=inside)


@triton.jit
def _median_kernel(
    plane, result, active, height, width,
    SIDE: tl.constexpr, TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Median-filter the planes of active pairs, borders repeated.

    Bits of the median are found from the highest down, in whole numbers that are ordered like
    the floating-point numbers they stand for: a bit stays if no more than half of the window
    lies below the number that it gives.
    """
    pair = tl.program_id(0).to(tl.int64)
    size = height * width
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    base = pair * size
    if tl.load(active + pair) == 0:
        tl.store(result + base + at, tl.load(plane + base + at, mask=inside), mask=inside)
    else:
        tap = tl.arange(0, TAPS)
        counted = tap < SIDE * SIDE
        x = (at % width)[:, None] + (tap % SIDE - SIDE // 2)[None, :]
        y = (at // width)[:, None] + (tap // SIDE - SIDE // 2)[None, :]
        x = tl.minimum(tl.maximum(x, 0), width - 1)
        y = tl.minimum(tl.maximum(y, 0), height - 1)
        read = inside[:, None] & counted[None, :]
        values = tl.load(plane + base + y * width + x, mask=read, other=0.0)
        bits = values.to(tl.int32, bitcast=True)
        # As unsigned numbers in 64 bits, negative values below positive ones.
        order = tl.where(bits < 0, -(bits.to(tl.int64) + 2147483648), bits.to(tl.int64))
        order += 2147483648
        order = tl.where(counted[None, :], order, 4294967296)
        found = tl.zeros((BLOCK,), dtype=tl.int64)
        bit = tl.full((), 2147483648, dtype=tl.int64)
        for _ in range(32):
            trial = found + bit
            below = tl.sum((order < trial[:, None]).to(tl.int32), axis=1)
            found = tl.where(below <= SIDE * SIDE // 2, trial, found)
            bit = bit // 2
        signed = found - 2147483648
        bits = tl.where(signed < 0, -signed - 2147483648, signed).to(tl.int32)
        tl.store(result + base + at, bits.to(tl.float32, bitcast=True), mask=inside)


class FusedSteps(TorchSteps):
    """The steps of `TorchSteps` as one kernel each."""

    def linearise(self, first: Tensor, second: Tensor, fields: Fields) -> None:
        """See `TorchSteps.linearise`."""
        count, height, width = first.shape
        grid = (count, triton.cdiv(height * width, SAMPLE_BLOCK))
        _linearise_kernel[grid](
            first, second.contiguous(), fields.u, fields.v, fields.gx, fields.gy,
            fields.residual, fields.inverse, height, width, FLAT, BLOCK=SAMPLE_BLOCK,
        )  # fmt: skip

    def median(self, plane: Tensor, side: int, active: Tensor) -> Tensor:
        """See `TorchSteps.median`."""
        count, height, width = plane.shape
        result = torch.empty_like(plane)
        grid = (count, triton.cdiv(height * width, MEDIAN_BLOCK))
        _median_kernel[grid](
            plane, result, active.to(torch.int8), height, width,
            SIDE=side, TAPS=triton.next_power_of_2(side * side), BLOCK=MEDIAN_BLOCK,
        )  # fmt: skip
        return result

    def iterate(
        self, fields: Fields, active: Tensor, *, enough: float, rounds: int, rates: Rates
    ) -> Tensor:
        """See `TorchSteps.iterate`."""
        count, height, width = fields.u.shape
        left = torch.empty(count, dtype=torch.int8, device=active.device)
        _iterate_kernel[(count,)](
            fields.u, fields.v, fields.ux, fields.uy, fields.vx, fields.vy,
            fields.gx, fields.gy, fields.residual, fields.inverse,
            active.to(torch.int8), left, height, width,
            float(enough), rates.bound, rates.tau, rates.slack, rounds,
            BLOCK=ITERATE_BLOCK, num_warps=ITERATE_WARPS,
        )  # fmt: skip
        return left.bool()
