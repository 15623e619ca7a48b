"""Checkpoints in safetensors: weights, optimiser and step, and nothing that can run code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mer_prep.config import parse_json_object
from mer_prep.errors import TrainingError
from mer_prep.store import disk, files

FORMAT = "mer-prep checkpoint 1"

#: Names that pickled weights go by.
PICKLED = frozenset({".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def save_checkpoint(
    path: Path,
    model: nn.Module,
    *,
    optimiser: torch.optim.Optimizer | None,
    step: int,
    facts: dict[str, Any],
) -> None:
    """Write a checkpoint; a killed process leaves the one before.

    Parameters
    ----------
    path : Path
        Where to.
    model : nn.Module
        Whose weights and buffers are kept.
    optimiser : Optimizer, optional
        Whose state is kept; without it training cannot be resumed, only used.
    step : int
        Steps taken.
    facts : dict
        What the checkpoint belongs to: model, preset, classes, normalisation; as JSON.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if optimiser is not None:
        for number, state in optimiser.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimiser.{number}.{name}"] = torch.as_tensor(value)
    tensors = {name: one.detach().cpu().contiguous() for name, one in tensors.items()}
    metadata = {"format": FORMAT, "step": str(step), "facts": json.dumps(facts, sort_keys=True)}
    disk.make_folder(path.parent)
    partial = path.with_name(path.name + ".partial")
    disk.library_writes(partial)
    save_file(tensors, partial, metadata=metadata)
    files.publish(partial, path)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], int, dict[str, Any]]:
    """Return the tensors, the step and the facts of a checkpoint.

    Raises
    ------
    TrainingError
        If the file is missing, damaged, or no checkpoint of mer-prep; pickled ones are refused,
        because reading them can run any code.
    """
    with _opened(path) as (file, step, facts):
        return {name: file.get_tensor(name) for name in file.keys()}, step, facts  # noqa: SIM118


def read_facts(path: Path) -> tuple[int, dict[str, Any]]:
    """Return the step and the facts of a checkpoint without reading its tensors.

    Raises
    ------
    TrainingError
        As `read_checkpoint`.
    """
    with _opened(path) as (_, step, facts):
        return step, facts


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int, dict[str, Any]]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise TrainingError(
                    "This is no checkpoint of mer-prep.",
                    where=path,
                    hint="take a checkpoint.safetensors of `mer-prep train`",
                )
            if not metadata["step"].isdecimal():
                raise ValueError(f"its step is {metadata['step']!r:.60}")
            yield file, int(metadata["step"]), parse_json_object(metadata["facts"])
    except FileNotFoundError:
        raise TrainingError(
            "There is no checkpoint.", where=path, hint="train it by `mer-prep train`"
        ) from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        _refuse_pickle(path)
        raise TrainingError(
            f"The checkpoint cannot be read: {error!s:.200}.",
            where=path,
            hint="delete the file, and the fold is trained again",
        ) from None


def load_model(path: Path, model: nn.Module, *, expected: dict[str, Any]) -> dict[str, Any]:
    """Load the weights of a checkpoint into a model and return its facts.

    Raises
    ------
    TrainingError
        If the checkpoint is not of what is expected, or its tensors do not fit.
    """
    tensors, _, facts = read_checkpoint(path)
    check_facts(path, facts, expected)
    weights = _part(tensors, "model.")
    _check_fit(path, weights, model)
    model.load_state_dict(weights)
    return facts


def resume(
    path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, *, expected: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Load weights and optimiser to go on training; return the steps taken and the facts.

    Raises
    ------
    TrainingError
        If the checkpoint is of another training.
    """
    tensors, step, facts = read_checkpoint(path)
    check_facts(path, facts, expected)
    weights = _part(tensors, "model.")
    _check_fit(path, weights, model)
    model.load_state_dict(weights)
    state = _optimiser_state(path, _part(tensors, "optimiser."), optimiser)
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
    return step, facts


def _optimiser_state(
    path: Path, tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[int, dict[str, Tensor]]:
    """Return the state of an optimiser by parameter, of the shapes of the parameters."""
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        known = number.isdecimal() and len(number) < 9 and int(number) < len(parameters)
        if not known or tensor.shape not in ((), parameters[int(number)].shape):
            raise TrainingError(
                f"The checkpoint does not fit the optimiser: {name:.80} {tuple(tensor.shape)}.",
                where=path,
                hint="delete the file, and the fold is trained again",
            )
        state.setdefault(int(number), {})[key] = tensor
    if any(one.keys() != next(iter(state.values())).keys() for one in state.values()):
        raise TrainingError(
            "The checkpoint lacks some of the optimiser's state.",
            where=path,
            hint="delete the file, and the fold is trained again",
        )
    return state


def check_facts(path: Path, facts: dict[str, Any], expected: dict[str, Any]) -> None:
    """Raise `TrainingError` if a fact is not as expected; only those that are expected count."""
    for name, value in expected.items():
        if facts.get(name) != value:
            raise TrainingError(
                f"The checkpoint is of another training: its {name} is {facts.get(name)!r:.80}, "
                f"not {value!r:.80}.",
                where=path,
                hint="choose another --run, or delete the run to train it again",
            )


def _refuse_pickle(path: Path) -> None:
    """Raise `TrainingError` if what is no safetensors file is a pickle, by content or name."""
    begin = b""
    if path.is_file():
        with path.open("rb") as file:
            begin = file.read(2)
    # A zip archive, as `torch.save` writes, or the first byte of every binary pickle.
    if begin == b"PK" or begin[:1] == b"\x80" or path.suffix in PICKLED:
        raise TrainingError(
            "The weights are pickled.",
            where=path,
            why="only safetensors files are read: reading pickled weights can run any code",
            hint="convert them where you trust them, by safetensors.torch.save_file; delete the "
            "file if it lies in a run, and the fold is trained again",
        )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)
    }


def _check_fit(path: Path, weights: dict[str, Tensor], model: nn.Module) -> None:
    wanted = {name: tuple(one.shape) for name, one in model.state_dict().items()}
    found = {name: tuple(one.shape) for name, one in weights.items()}
    if wanted == found:
        return
    differing = sorted(
        name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)
    )
    name = differing[0]
    raise TrainingError(
        f"The checkpoint does not fit the model: {len(differing)} tensors differ, the first is "
        f"{name} ({found.get(name)} instead of {wanted.get(name)}).",
        where=path,
        hint="use the model and preset it was trained with",
    )
