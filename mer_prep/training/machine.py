"""Where and how a training computes: devices, precision, determinism, processes side by side."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from mer_prep.checks import check_option
from mer_prep.errors import ConfigError, DependencyError, TrainingError

PRECISIONS = ("float32", "bf16")
LOADERS = ("auto", "resident", "stream")

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Machine:
    """Where and how a training computes. Only `precision` is meant to change its numbers.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``.
    precision : {'float32', 'bf16'}
        ``bf16`` computes in bfloat16 where PyTorch holds that safe; weights stay float32.
    compiled : bool
        Whether the model goes through `torch.compile`.
    deterministic : bool
        Whether algorithms that give the same bits every time are preferred. An operation that has
        none goes on as it is, and PyTorch warns.
    checkpoint_every : int
        Steps between checkpoints; 0 for none before the end.
    workers : int
        Processes that read shards ahead when clips are streamed; 0 to read in this one.
    rank, world : int
        Which of how many processes train the same model together, each on its part of every
        batch.
    """

    device: str = "cpu"
    precision: str = "float32"
    compiled: bool = False
    deterministic: bool = True
    checkpoint_every: int = 100
    workers: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        check_option("precision", self.precision, PRECISIONS)

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.startswith("cuda")

    def place(self, model: ModuleT) -> ModuleT:
        """Return the model on the device; on CUDA its pictures have their channels last."""
        with memory_errors(f"the model on {self.device}"):
            model = model.to(self.device)
        if self.cuda:
            for parameter in model.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.to(memory_format=torch.channels_last)
        return model

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of a forward pass."""
        if self.precision == "bf16":
            return torch.autocast("cuda" if self.cuda else "cpu", dtype=torch.bfloat16)
        return nullcontext()

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """Prefer deterministic algorithms within the context, or let cuDNN try what is fastest."""
        memory: Any = torch.utils.deterministic
        before = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            memory.fill_uninitialized_memory,
        )
        if self.deterministic and self.cuda:
            # Read by cuBLAS when it starts; without it its products may differ in the last bits.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        # Nothing here reads memory before it is written, and filling it takes time.
        memory.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = not self.deterministic
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.benchmark = before[2]
            memory.fill_uninitialized_memory = before[3]

    def facts(self) -> dict[str, Any]:
        """Return what a result should say of how it was computed."""
        return {
            "device": torch.cuda.get_device_name(self.device) if self.cuda else "cpu",
            "precision": self.precision,
            "compiled": self.compiled,
            "deterministic": self.deterministic,
        }


@contextlib.contextmanager
def memory_errors(what: str) -> Iterator[None]:
    """Turn an error of too little memory into one that says what to do.

    Parameters
    ----------
    what : str
        What memory is short for, as the end of the sentence.

    Raises
    ------
    TrainingError
        If memory is short within the context.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not short and "can't allocate memory" not in str(error):
            raise
        raise TrainingError(
            f"Memory is short for {what}.",
            hint="lower --folds-per-gpu (on the CPU --jobs), take --loader stream, or lower "
            "--batch, which makes another run; checkpoints so far are kept",
        ) from None


def choose_device(name: str) -> str:
    """Return the device that a name stands for.

    Parameters
    ----------
    name : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    ConfigError
        For another name.
    DependencyError
        If CUDA is asked for and PyTorch sees no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"Unknown device '{name}'.", hint="choose auto, cpu, cuda or cuda:0")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DependencyError(
            f"PyTorch sees no device '{name}'.", hint="check the driver, or use --device cpu"
        )
    return name


def choose_precision(name: str, device: str) -> str:
    """Return ``float32`` or ``bf16``; ``auto`` is bf16 on CUDA and float32 on the CPU.

    Raises
    ------
    ConfigError
        For another name.
    """
    check_option("precision", name, ("auto", *PRECISIONS))
    if name != "auto":
        return name
    return "bf16" if device.startswith("cuda") else "float32"


def slots(device: str, jobs: int, *, gpus: int, folds_per_gpu: int) -> list[str]:
    """Return the device of every process that trains folds.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``; ``cuda`` stands for all GPUs.
    jobs : int
        Processes on the CPU.
    gpus : int
        GPUs that PyTorch sees.
    folds_per_gpu : int
        Folds that one GPU trains at a time.

    Returns
    -------
    list of str
        The first slots lie on different GPUs, so that few folds are spread over all.
    """
    if device == "cpu":
        return ["cpu"] * max(1, jobs)
    devices = [f"cuda:{number}" for number in range(gpus)] if device == "cuda" else [device]
    return devices * folds_per_gpu


def free_memory(device: str) -> int:
    """Return the bytes that are free on a device.

    For the CPU that is what the kernel says is available, or what a limit of the container leaves
    if that is less.
    """
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError, StopIteration):
        with open("/proc/meminfo", encoding="ascii") as file:
            line = next(one for one in file if one.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        # Version 2 of control groups; "max", which is no number, means no limit.
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = int(file.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            free = min(free, limit - int(file.read()))
    return max(free, 0)


def fits(needed: int, device: str, *, copies: int) -> bool:
    """Return whether clips stay in memory: if all copies take at most half of what is free.

    Parameters
    ----------
    needed : int
        Bytes of the clips.
    device : str
        Where they would stay.
    copies : int
        Processes that keep them there, each for itself.
    """
    return needed * copies <= free_memory(device) // 2
