"""Checkpoints in safetensors: weights, optimiser and step, and nothing that can run code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mer_prep.errors import TrainingError
from mer_prep.store import disk, files

FORMAT = "mer-prep checkpoint 2"

#: The form before: it has no checksum.
UNCHECKED = "mer-prep checkpoint 1"

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
    metadata["sha256"] = _digest(tensors, metadata)
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
        If the file is missing, damaged, or no checkpoint of mer-prep; if a number in it is not
        finite. Pickled ones are refused, because reading them can run any code.
    """
    with _opened(path) as (file, step, facts):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_digest(path, tensors, file.metadata())
    _check_finite(path, tensors)
    return tensors, step, facts


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
    _check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file, *_described(path, file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError) as error:
        _refuse_pickle(path)
        raise TrainingError(
            f"The checkpoint cannot be read: {error!s:.200}.",
            where=path,
            hint="delete the file, and the fold is trained again",
        ) from None


def _check_regular(path: Path) -> None:
    """Raise `TrainingError` unless it is a file; a pipe would be waited for, without an end."""
    if not path.is_file():
        there = path.exists() or path.is_symlink()
        raise TrainingError(
            "This is no regular file." if there else "There is no checkpoint.",
            where=path,
            hint="name a .safetensors file, of a fold of a run or of `mer-prep pretrain`",
        )


def _described(path: Path, metadata: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Return the step and the facts that stand in the header of a checkpoint."""
    if metadata.get("format") not in (FORMAT, UNCHECKED):
        raise TrainingError(
            "This is no checkpoint of mer-prep.",
            where=path,
            hint="take the weights of `mer-prep train` or `mer-prep pretrain`; others do not say "
            "whom they were trained on",
        )
    try:
        step, facts = metadata["step"], json.loads(metadata["facts"])
        if not (step.isascii() and step.isdigit() and isinstance(facts, dict)):
            raise ValueError(f"step {step:.20}, facts {metadata['facts']:.20}")
        return int(step), facts
    except (KeyError, ValueError, RecursionError) as error:
        raise TrainingError(
            f"The header of the checkpoint is damaged: {error}.",
            where=path,
            hint="delete the file, and the fold is trained again",
        ) from None


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return a SHA-256 over step, facts and tensors."""
    found = hashlib.sha256(f"{metadata['step']} {metadata['facts']}".encode())
    for name in sorted(tensors):
        found.update(f"{name} {_form(tensors[name])} ".encode())
        found.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _check_digest(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    if metadata["format"] != UNCHECKED and _digest(tensors, metadata) != metadata.get("sha256"):
        raise TrainingError(
            "The checkpoint is damaged: its checksum differs.",
            where=path,
            why="a single bit can spoil all that is computed with it",
            hint="delete the file, and the fold is trained again; weights from elsewhere are to "
            "be copied again",
        )


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, one in tensors.items():
        if one.is_floating_point() and not bool(torch.isfinite(one).all()):
            raise TrainingError(
                f"The checkpoint holds numbers that are not finite, the first in {name}.",
                where=path,
                why="every answer of such a model is meaningless",
                hint="delete the file, and the fold is trained again; other weights cannot be used",
            )


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
    path: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer | None,
    *,
    expected: dict[str, Any],
) -> tuple[int, dict[str, Any]]:
    """Load weights and optimiser to go on training; return the steps taken and the facts.

    Without an optimiser the weights alone are loaded: until it has taken a step, it has no state.

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
    if optimiser is None:
        return step, facts
    optimiser.load_state_dict(
        {
            "state": _optimiser_state(path, _part(tensors, "optimiser."), optimiser),
            "param_groups": optimiser.state_dict()["param_groups"],
        }
    )
    return step, facts


def _optimiser_state(
    path: Path, tensors: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict[int, dict[str, Tensor]]:
    """Return the optimiser's state by the number of the parameter; refuse one that does not fit."""
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        known = re.fullmatch("[0-9]{1,8}", number) and int(number) < len(parameters)
        shape = parameters[int(number)].shape if known and key != "step" else torch.Size()
        if not known or tensor.shape != shape:
            state.clear()
            break
        state.setdefault(int(number), {})[key] = tensor
    # Plain gradient descent remembers nothing.
    remembers = any(group.get("momentum", 1) for group in optimiser.param_groups)
    if not state and (tensors or remembers):
        raise TrainingError(
            "The checkpoint does not hold the optimiser that training went on with.",
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
    wanted = {name: _form(one) for name, one in model.state_dict().items()}
    found = {name: _form(one) for name, one in weights.items()}
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


def _form(tensor: Tensor) -> str:
    """Return type and shape of a tensor, such as ``float32 [8, 3]``."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
