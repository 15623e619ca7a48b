"""What a training step costs, and which part of the model: ``python -m benchmarks.training``.

A step of the whole model (losses, backward pass and optimiser included) takes turns with parts of
it on inputs of the same number and shape: of MOL the flow head, which has nine tenths of the
arithmetic, and the channel correspondence; of FRL-DGT the displacement with its reconstruction
alone, and the step with tokens fused after attention instead of before.
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
from mer_prep.models.mol import LANDMARKS, Mol
from mer_prep.training.cards import model_card
from mer_prep.training.fit import make_optimiser
from mer_prep.training.losses import mol_losses
from mer_prep.training.methods import architecture, method_of
from mer_prep.training.methods.frl_dgt import RECONSTRUCTION

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
    config = architecture("mol", name)
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
        **_conditions(batch, device, threads, seconds),
        "step_s": medians["step"],
        "flow_head_s": medians["flow_head"],
        "step_over_flow_head": statistics.median(
            a / b for a, b in zip(seconds["step"], seconds["flow_head"], strict=True)
        ),
        "correspondence_share": medians["correspondence"] / medians["step"],
    }


def measure_pairs(
    *, name: str = "paper", batch: int = 8, turns: int = 3, threads: int = 1, device: str = "cpu"
) -> dict[str, Any]:
    """Time training steps of FRL-DGT and their parts, in turn; parameters as `measure_step`.

    Returns
    -------
    dict
        Median seconds of a step, of the displacement's alone, and of a step with fusion after
        attention; the ratios, and the largest memory of the process in GiB.
    """
    torch.set_num_threads(threads)
    card = model_card("frl-dgt").preset(name)
    side = architecture("frl-dgt", name).side
    batch_of = Batch(
        torch.rand(batch, 2, 3, side, side, device=device),
        torch.full((batch, 1, 2, side, side), torch.nan, device=device),
        side * torch.rand(batch, 2, LANDMARKS, 2, device=device),
        torch.arange(batch, device=device) % CLASSES,
    )

    def step(objective: str, **changes: str) -> Callable[[], None]:
        torch.manual_seed(0)
        method = method_of("frl-dgt", architecture("frl-dgt", name, changes))
        model = method.build(CLASSES).to(device)
        optimiser = make_optimiser(model, card.training, rates=method.rates(card.training))
        weights = method.weights(card.training)

        def work() -> None:
            losses = method.losses(model, batch_of, objective)
            optimiser.zero_grad(set_to_none=True)
            torch.stack([weights[one] * loss for one, loss in losses.items()]).sum().backward()
            optimiser.step()

        return work

    parts = {
        "step": step("all"),
        "displacement": step(RECONSTRUCTION),
        "fused_after": step("all", fusion="after"),
    }
    seconds = _in_turn(parts, turns, device)
    medians = {part: statistics.median(taken) for part, taken in seconds.items()}
    return {
        "model": "frl-dgt",
        "preset": name,
        **_conditions(batch, device, threads, seconds),
        "step_s": medians["step"],
        "displacement_share": medians["displacement"] / medians["step"],
        "after_over_before": statistics.median(
            a / b for a, b in zip(seconds["fused_after"], seconds["step"], strict=True)
        ),
    }


def _conditions(
    batch: int, device: str, threads: int, seconds: dict[str, list[float]]
) -> dict[str, Any]:
    """Return what was measured on what, and the largest memory of the process so far in GiB."""
    return {
        "batch": batch,
        "device": device,
        "threads": threads,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seconds": {part: [round(one, 4) for one in taken] for part, taken in seconds.items()},
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
    parser.add_argument("--model", choices=["mol", "frl-dgt"], default="mol")
    parser.add_argument("--name", default="paper", help="preset of the model")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = vars(parser.parse_args())
    measure = {"mol": measure_step, "frl-dgt": measure_pairs}[given.pop("model")]
    print(json.dumps(measure(**given), indent=1))


if __name__ == "__main__":
    main()
