"""The training loop, all of it in sight.

What a step sees is a function of the seed, the fold and the number of the step, and of nothing
else: there is no state of random generators to keep, and a resumed run goes on exactly as if it
had never stopped.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mer_prep.dataset import Batch, ClipStore, Statistics, centre_view, random_view, reduce
from mer_prep.errors import TrainingError
from mer_prep.models.mol import Mol, MolOutput
from mer_prep.training.checkpoints import resume, save_checkpoint
from mer_prep.training.losses import mol_losses
from mer_prep.training.recipes import TrainingSettings


@dataclass(frozen=True)
class Machine:
    """Where and how a training computes; nothing here is meant to change its result.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    mixed : bool
        Whether CUDA computes in bfloat16 where that is safe.
    compiled : bool
        Whether the model goes through `torch.compile`.
    deterministic : bool
        Whether only algorithms that give the same bits every time are allowed.
    checkpoint_every : int
        Steps between checkpoints; 0 for none before the end.
    """

    device: str = "cpu"
    mixed: bool = True
    compiled: bool = False
    deterministic: bool = False
    checkpoint_every: int = 100

    def place(self, model: Mol) -> Mol:
        """Return the model on the device; on CUDA its pictures have their channels last."""
        model = model.to(self.device)
        if self.device.startswith("cuda"):
            for parameter in model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        return model

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        if self.mixed and self.device.startswith("cuda"):
            return torch.autocast("cuda", dtype=torch.bfloat16)
        return nullcontext()


@dataclass(frozen=True)
class View:
    """How samples become what the model takes.

    Parameters
    ----------
    side : int
        Side of the crop in aligned px.
    reduce : int
        Px of it that become one.
    statistics : Statistics
        The normalisation.
    """

    side: int
    reduce: int
    statistics: Statistics

    def random(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return a random crop, mirrored half of the time, normalised."""
        return self._finished(random_view(batch, self.side, generator=generator))

    def centre(self, batch: Batch) -> Batch:
        """Return the centre crop, normalised."""
        return self._finished(centre_view(batch, self.side))

    def _finished(self, batch: Batch) -> Batch:
        batch = reduce(batch, self.reduce)
        batch.frames = self.statistics.normalise(batch.frames)
        return batch


def seed_of(*parts: object) -> int:
    """Return a seed that depends on all of `parts` and on nothing else."""
    return zlib.crc32("/".join(map(str, parts)).encode())


def make_optimiser(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Return the optimiser that settings name."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimiser]
    return kind(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def rate_at(step: int, settings: TrainingSettings) -> float:
    """Return the learning rate of a step."""
    if settings.schedule == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.learning_rate


def fit(
    model: Mol,
    store: ClipStore,
    samples: Sequence[tuple[int, int]],
    view: View,
    settings: TrainingSettings,
    machine: Machine,
    *,
    name: str,
    seed: int,
    checkpoint: Path | None = None,
    facts: dict[str, Any] | None = None,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> None:
    """Train a model.

    Parameters
    ----------
    model : Mol
        The model, on the machine's device.
    store : ClipStore
        The clips.
    samples : sequence of (int, int)
        Samples to train on, as `ClipStore.samples` gives them.
    view : View
        How samples become what the model takes.
    settings : TrainingSettings
        How it is trained.
    machine : Machine
        Where.
    name : str
        Name of the fold; part of the seed of every step.
    seed : int
        The seed.
    checkpoint : Path, optional
        Where to keep, and find, the state of an unfinished training.
    facts : dict, optional
        What the checkpoint belongs to.
    on_step : callable
        Called after every step with its number, from 1, and its losses by name.

    Raises
    ------
    TrainingError
        If the loss is no number, or memory is short.
    """
    facts = {} if facts is None else facts
    optimiser = make_optimiser(model, settings)
    begin = 0
    if checkpoint is not None and checkpoint.is_file():
        begin = resume(checkpoint, model, optimiser, expected=facts)
    weights = {"flow": settings.flow_weight, "landmarks": settings.landmark_weight}
    compute = torch.compile(model) if machine.compiled else model
    model.train()
    for step in range(begin, settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, settings)
        generator = torch.Generator().manual_seed(seed_of("samples", seed, name, step))
        torch.manual_seed(seed_of("dropout", seed, name, step))
        chosen = torch.randint(len(samples), (settings.batch,), generator=generator).tolist()
        batch = view.random(store.batch([samples[one] for one in chosen]), generator)
        batch = batch.to(torch.device(machine.device))
        with _memory_errors(settings.batch), machine.precision():
            losses = mol_losses(compute(batch.frames), batch)
            total = _weighted(losses, weights)
            optimiser.zero_grad(set_to_none=True)
            _check_finite(losses, step)
            total.backward()
        if settings.clip_gradient:
            nn.utils.clip_grad_norm_(model.parameters(), settings.clip_gradient)
        optimiser.step()
        on_step(step + 1, {key: float(value.detach()) for key, value in losses.items()})
        last = step + 1 == settings.steps
        due = machine.checkpoint_every and (step + 1) % machine.checkpoint_every == 0
        if checkpoint is not None and (last or due):
            save_checkpoint(checkpoint, model, optimiser=optimiser, step=step + 1, facts=facts)


def _weighted(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    return torch.stack([weights.get(name, 1.0) * one for name, one in losses.items()]).sum()


def _check_finite(losses: dict[str, Tensor], step: int) -> None:
    bad = [name for name, one in losses.items() if not bool(torch.isfinite(one))]
    if bad:
        raise TrainingError(
            f"The loss '{bad[0]}' is not a finite number in step {step + 1}.",
            why="the weights would be spoilt; nothing of this step was kept",
            hint="lower --learning-rate, or set --clip-gradient 1",
        )


class _memory_errors(AbstractContextManager[None]):  # noqa: N801
    """Turns PyTorch's out-of-memory error into one that says what to do."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if short or "can't allocate memory" in str(error):
            raise TrainingError(
                f"Memory is short for a batch of {self.batch} samples.",
                hint="lower --batch; checkpoints so far are kept",
            ) from None


@torch.no_grad()
def predict(
    model: Mol,
    store: ClipStore,
    clip_ids: Sequence[str],
    view: View,
    machine: Machine,
    *,
    batch: int = 32,
) -> dict[str, list[tuple[MolOutput, Batch]]]:
    """Return what a model gives for every sample of some clips, on centre crops.

    Parameters
    ----------
    model : Mol
        The model, on the machine's device.
    store : ClipStore
        The clips.
    clip_ids : sequence of str
        Which.
    view : View
        How samples become what the model takes; its normalisation must not come from them.
    machine : Machine
        Where to compute.
    batch : int
        Samples at a time.

    Returns
    -------
    dict of str to list of (MolOutput, Batch)
        One entry a sample, by clip id, on the CPU.
    """
    view.statistics.check_apart(clip_ids)
    model.eval()
    found: dict[str, list[tuple[MolOutput, Batch]]] = {}
    for clip_id in clip_ids:
        samples = store.samples([clip_id])
        outputs = found.setdefault(clip_id, [])
        for start in range(0, len(samples), batch):
            given = view.centre(store.batch(samples[start : start + batch]))
            given = given.to(torch.device(machine.device))
            with machine.precision():
                output = model(given.frames)
            outputs.append((_on_cpu(output), given.to(torch.device("cpu"))))
    return found


def _on_cpu(output: MolOutput) -> MolOutput:
    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.float().cpu()

    return MolOutput(output.logits.float().cpu(), moved(output.flow), moved(output.landmarks))
