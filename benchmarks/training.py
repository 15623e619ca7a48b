"""What a training step costs, and which part of the model: ``python -m benchmarks.training``.

A step of the whole model (losses, backward pass and optimiser included) takes turns with the flow
head alone and with the channel correspondence alone, on inputs of the same number and shape. The
flow head has nine tenths of the arithmetic; what the rest adds is what a better program could save.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mer_prep.dataset import Batch
from mer_prep.models.f5c import F5C
from mer_prep.models.mol import LANDMARKS, Mol, preset
from mer_prep.training.fit import make_optimiser
from mer_prep.training.losses import mol_losses
from mer_prep.training.recipes import model_card

#: Classes of the recogniser.
CLASSES = 3


def measure_step(
    *, name: str = "paper", batch: int = 8, turns: int = 3, threads: int = 1, device: str = "cpu"
) -> dict[str, Any]:
    """Time training steps and their parts, in turn.

    Parameters
    ----------
    name : str
        Preset of MOL.
    batch : int
        Clips a step.
    turns : int
        Timed turns; one more goes before them.
    threads : int
        Threads of PyTorch on the CPU.
    device : str
        Where to compute.

    Returns
    -------
    dict
        Median seconds of a step, of the flow head and of the channel correspondence; the ratios
        to the step, and the largest memory of the process in GiB.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = preset(name)
    model = Mol(config, CLASSES).to(device)
    settings = model_card("mol").preset(name).training
    optimiser = make_optimiser(model, settings)
    frames = torch.rand(batch, config.frames, config.side, config.side, device=device)
    given = Batch(
        frames,
        torch.randn(batch, config.frames - 1, 2, config.side, config.side, device=device),
        config.side * torch.rand(batch, config.frames, LANDMARKS, 2, device=device),
        torch.arange(batch, device=device) % CLASSES,
    )
    size, pairs = config.side // 8, batch * (config.frames - 1)
    features = [
        torch.rand(pairs, config.channels, size, size, device=device, requires_grad=True)
        for _ in range(2)
    ]
    every = torch.rand(batch * config.frames, config.channels, size, size, device=device)
    every.requires_grad_(True)
    blocks = [module for module in model.modules() if isinstance(module, F5C)]

    def whole() -> None:
        losses = mol_losses(model(frames), given)
        total = (
            losses["expression"]
            + settings.flow_weight * losses["flow"]
            + settings.landmark_weight * losses["landmarks"]
        )
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        optimiser.step()

    def flow_head() -> None:
        assert model.flow is not None
        _back(model.flow(frames, features))

    def correspondence() -> None:
        for block in blocks:
            assert block.ccc is not None
            _back(block.ccc(every))

    parts = {"step": whole, "flow_head": flow_head, "correspondence": correspondence}
    seconds = _in_turn(parts, turns, device)
    medians = {part: statistics.median(taken) for part, taken in seconds.items()}
    return {
        "preset": name,
        "batch": batch,
        "device": device,
        "threads": threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seconds": {part: [round(one, 4) for one in taken] for part, taken in seconds.items()},
        "step_s": medians["step"],
        "flow_head_s": medians["flow_head"],
        "step_over_flow_head": statistics.median(
            a / b for a, b in zip(seconds["step"], seconds["flow_head"], strict=True)
        ),
        "correspondence_share": medians["correspondence"] / medians["step"],
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _back(output: Tensor) -> None:
    output.square().mean().backward()


def _in_turn(
    parts: dict[str, Callable[[], None]], turns: int, device: str
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {part: [] for part in parts}
    for turn in range(turns + 1):
        for part, work in parts.items():
            started = time.perf_counter()
            work()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn:
                seconds[part].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="paper", help="preset of MOL")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    print(json.dumps(measure_step(**vars(parser.parse_args())), indent=1))


if __name__ == "__main__":
    main()
