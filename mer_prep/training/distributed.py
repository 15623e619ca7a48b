"""Several processes that train one model together, as torchrun starts them."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from mer_prep.errors import ConfigError, TrainingError

#: How long the others wait while the first process prepares a corpus.
PATIENCE = timedelta(days=2)

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Which of how many processes this is.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    local_rank : int
        Its number on this machine, which is that of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0


def world_of_torchrun() -> World:
    """Return what torchrun says in the environment; one process without it.

    Raises
    ------
    ConfigError
        If what stands there are not the numbers of a process among others.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    said = {name: os.environ[name] for name in names if name in os.environ}
    if len(said) < len(names):
        return World()
    numbers = [
        int(text) if re.fullmatch(r"\d{1,6}", text, re.ASCII) else -1 for text in said.values()
    ]
    rank, size, local_rank = numbers
    if not (0 <= rank < size and 0 <= local_rank < size):
        raise ConfigError(
            "The environment says of this process "
            + ", ".join(f"{name}={text!r:.40}" for name, text in said.items())
            + ", which is no number of a process among others.",
            hint="start several with `torchrun --nproc-per-node N`, or one with "
            f"`unset {' '.join(names)}`",
        )
    return World(rank, size, local_rank)


@contextmanager
def joined(world: World, device: str) -> Iterator[None]:
    """Meet the other processes within the context: over NCCL on GPUs, over gloo on the CPU."""
    if world.size == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield
        # Nobody leaves while another is still listening.
        distributed.barrier()
    finally:
        # What wraps the model refers to itself; left to the end of the program, its threads would
        # still run when that end comes.
        gc.collect()
        distributed.destroy_process_group()


def device_of(world: World, device: str) -> str:
    """Return the device of a process; one GPU each if ``cuda`` was chosen.

    Raises
    ------
    ConfigError
        If one device is named for several processes, or there are fewer GPUs than processes.
    """
    if world.size == 1 or device == "cpu":
        return device
    if ":" in device:
        raise ConfigError(
            f"{world.size} processes cannot all train on {device}.", hint="take --device cuda"
        )
    if world.local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"There are more processes than the {torch.cuda.device_count()} GPUs of this machine.",
            hint="lower torchrun's --nproc-per-node",
        )
    return f"cuda:{world.local_rank}"


def from_first(world: World, value: T | None) -> T:
    """Return on every process the value that the first one gives."""
    box: list[T | None] = [value]
    if world.size > 1:
        distributed.broadcast_object_list(box, src=0)
    found = box[0]
    assert found is not None, "the first process gives a value"
    return found


def mean_over_all(values: dict[str, Tensor], size: int) -> dict[str, float]:
    """Return the mean over all processes of some numbers."""
    together = torch.stack([one.detach().float() for one in values.values()])
    if size > 1:
        distributed.all_reduce(together)
        together /= size
    return dict(zip(values, together.tolist(), strict=True))


def check_same_weights(world: World, model: nn.Module) -> None:
    """Raise `TrainingError` if the parameters differ between the processes in a single bit."""
    if world.size == 1:
        return
    own = torch.cat([one.detach().flatten().float() for one in model.parameters()])
    firsts = own.clone()
    distributed.broadcast(firsts, src=0)
    equal = torch.tensor([float(torch.equal(own, firsts))], device=own.device)
    distributed.all_reduce(equal)
    if int(equal) != world.size:
        raise TrainingError(
            "The processes have come to different weights.",
            why="the model would depend on which of them writes it",
            hint="all of them need the same version of PyTorch and the same kind of device",
        )
