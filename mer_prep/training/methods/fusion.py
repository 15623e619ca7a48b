"""The weight alpha of the macro encoder of Meta-MMFNet, and on whom it is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mer_prep.errors import TrainingError
from mer_prep.models.meta_mmfnet import fuse
from mer_prep.training.predictions import parts_of_row

#: Weights that are tried, as in the published code.
CANDIDATES = tuple(round(0.1 * one, 1) for one in range(1, 11))

#: Seed by which the published code chooses the subject.
LEGACY_SEED = 0


def choose_alpha(scores: Mapping[str, Tensor], labels: Tensor) -> float:
    """Return the weight by which most clips are recognised.

    Parameters
    ----------
    scores : mapping of str to Tensor, shape (N, n)
        Scores of the clips by the name of the encoder.
    labels : Tensor, shape (N,), int64
        Their classes.

    Returns
    -------
    float
        One of `CANDIDATES`; of several as good, that of the least mean cross-entropy, and then the
        smallest.
    """

    def rank(alpha: float) -> tuple[float, float, float]:
        fused = fuse(scores, alpha).double()
        right = float((fused.argmax(dim=1) == labels).double().mean())
        return -right, float(functional.cross_entropy(fused, labels)), alpha

    return min(CANDIDATES, key=rank)


def legacy_rows(
    rows: Sequence[dict[str, str]], classes: Sequence[str]
) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """Return predictions fused as the published code does: by an alpha chosen on a tested subject.

    Parameters
    ----------
    rows : sequence of dict
        Lines of ``predictions.csv`` of all folds.
    classes : sequence of str
        Names of the classes.

    Returns
    -------
    rows : list of dict
        The lines of all other subjects, with the fused predictions.
    facts : dict
        The subject, the alpha, and how many clips are left out for it.

    Raises
    ------
    TrainingError
        If all clips are of one subject.
    """
    subjects = sorted({row["subject"] for row in rows})
    if len(subjects) < 2:
        raise TrainingError(
            "All clips are of one subject: with the legacy alpha nobody is left to be scored.",
            hint="take more subjects, or meta-mmfnet.alpha=nested",
        )
    chosen = subjects[int(np.random.default_rng(LEGACY_SEED).integers(len(subjects)))]
    on = [row for row in rows if row["subject"] == chosen]
    alpha = choose_alpha(_scores(on), torch.tensor([int(row["label"]) for row in on]))
    others = [row for row in rows if row["subject"] != chosen]
    chances = torch.softmax(fuse(_scores(others), alpha), dim=1)
    kept = [
        row
        | {"predicted": str(int(one.argmax()))}
        | {f"p_{name}": repr(float(p)) for name, p in zip(classes, one, strict=True)}
        for row, one in zip(others, chances, strict=True)
    ]
    return kept, {"subject": chosen, "alpha": alpha, "clips_left_out": len(on)}


def _scores(rows: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    """Return the scores of the encoders, float64, from lines of ``predictions.csv``."""
    found = [parts_of_row(row) for row in rows]
    return {
        name: torch.tensor([one[name] for one in found], dtype=torch.float64) for name in found[0]
    }
