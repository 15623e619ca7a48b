"""Public weights of networks whose layers have the names of torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mer_prep.errors import TrainingError

#: Tensors of the classifier, which no trunk has a place for.
CLASSIFIER = ("fc.weight", "fc.bias")

#: What counts the batches of a batch normalisation; old files lack it, and nothing here reads it.
_COUNTER = "num_batches_tracked"


def load_trunk(trunk: nn.Module, path: Path) -> None:
    """Give a trunk the weights of a file, such as those of ImageNet.

    Parameters
    ----------
    trunk : Module
        Where they go; a `mer_prep.models.resnet18.Trunk`.
    path : Path
        A safetensors file with the names of torchvision; a classifier in it is left out.

    Raises
    ------
    TrainingError
        If the file cannot be read, is not of this trunk, or holds numbers that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")  # a pipe would be waited for
        found: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError(
            f"The weights cannot be read: {error}.",
            where=path,
            why="only safetensors files are read: reading pickled weights can run any code",
            hint="convert them where you trust them, by safetensors.torch.save_file",
        ) from None
    wanted = {name: one for name, one in trunk.state_dict().items() if not name.endswith(_COUNTER)}
    given = {
        name: one
        for name, one in found.items()
        if name not in CLASSIFIER and not name.endswith(_COUNTER)
    }
    unlike = sorted(
        name
        for name in wanted.keys() | given.keys()
        if name not in wanted or name not in given or wanted[name].shape != given[name].shape
    )
    if unlike:
        raise TrainingError(
            f"The weights are not of this ResNet-18: {len(unlike)} tensors differ, the first is "
            f"{unlike[0]:.80}.",
            where=path,
            hint="take the weights of a ResNet-18 of the same width, named as torchvision does",
        )
    _check_numbers(given, path)
    trunk.load_state_dict(given, strict=False)


def _check_numbers(given: Mapping[str, Tensor], path: Path) -> None:
    """Raise `TrainingError` unless all tensors are of finite numbers with a fraction."""
    for name, one in given.items():
        if not (one.is_floating_point() and bool(torch.isfinite(one.float()).all())):
            raise TrainingError(
                f"The weights are no finite numbers: {name:.80} is not, of type {one.dtype}.",
                where=path,
                why="a trunk that starts with them gives none either",
                hint="take the file again from where it was published, in float32",
            )
