"""What a model gives, whichever it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class ModelOutput:
    """What a model gives for B samples of t frames, P = t - 1 pairs of neighbours.

    Parameters
    ----------
    logits : Tensor, shape (B, n)
        Scores of the classes, before the softmax.
    flow : Tensor, shape (B, P, 2, S, S), optional
        Flow (u, v) in px: pixel x of the first frame of a pair moves to x + u in the second.
    landmarks : Tensor, shape (B, P, 68, 2), optional
        Landmarks (x, y) in px of all frames but the first.
    displacement : Tensor, shape (B, P, 2, S, S), optional
        What rebuilds the second frame of a pair from the first: its pixel p was at p + D(p), px.
    attention : Tensor, shape (B, K), optional
        How much each of K regions counts for the answer; sums to 1.
    """

    logits: Tensor
    flow: Tensor | None = None
    landmarks: Tensor | None = None
    displacement: Tensor | None = None
    attention: Tensor | None = None

    def on_cpu(self) -> ModelOutput:
        """Return everything as float32 on the CPU."""
        found: dict[str, Any] = {
            one.name: getattr(self, one.name) for one in dataclasses.fields(self)
        }
        moved: dict[str, Any] = {
            name: one if one is None else one.float().cpu() for name, one in found.items()
        }
        return ModelOutput(**moved)
