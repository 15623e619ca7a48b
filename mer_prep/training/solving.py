"""What is not trained step by step: weights that are solved for from all samples at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_prep.dataset import ClipSource
from mer_prep.errors import TrainingError
from mer_prep.training.loading import Draw, each_batch
from mer_prep.training.machine import Machine, memory_errors
from mer_prep.training.methods import Method, Stretch


def has_stepped(stretches: Sequence[Stretch], taken: int) -> bool:
    """Return whether the optimiser has a part in the first steps of a training."""
    for stretch in stretches:
        if taken > 0 and not stretch.solved:
            return True
        taken -= stretch.steps
    return False


def solve(
    model: nn.Module,
    method: Method,
    store: ClipSource,
    draw: Draw,
    stretch: Stretch,
    machine: Machine,
) -> dict[str, Tensor]:
    """Solve for the weights from all samples of a stretch; return the losses they leave.

    Parameters
    ----------
    model : nn.Module
        The model, on the machine's device.
    method : Method
        How it is solved.
    store : ClipSource
        The clips.
    draw : Draw
        The samples, how they become what the model takes, and how many are handed over at a time.
    stretch : Stretch
        What is solved.
    machine : Machine
        Where to.

    Raises
    ------
    TrainingError
        If a loss is no number, or memory is short.
    """
    given = each_batch(store, draw.samples, draw.view, draw.size, machine.device)
    with memory_errors(f"all {len(draw.samples)} samples at a time"):
        losses = method.solve(model, given, stretch.objective)
    bad = [name for name, one in losses.items() if not bool(torch.isfinite(one))]
    if bad:
        raise TrainingError(
            f"The loss '{bad[0]}' of what was solved for fold {draw.name} is not a finite number.",
            why="the features of a clip, or the weights, are none either",
            hint="see `mer-prep verify`, which looks for numbers that are not finite",
        )
    return losses
