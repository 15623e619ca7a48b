"""What a model gives, whichever it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
    parts : mapping of str to Tensor, shape (B, n), optional
        Scores of the parts of a model that are fused, each as if it were alone.
    """

    logits: Tensor
    flow: Tensor | None = None
    landmarks: Tensor | None = None
    displacement: Tensor | None = None
    attention: Tensor | None = None
    parts: Mapping[str, Tensor] | None = None

    def on_cpu(self) -> ModelOutput:
        """Return everything as float32 on the CPU."""
        return ModelOutput(
            **{one.name: _on_cpu(getattr(self, one.name)) for one in dataclasses.fields(self)}
        )


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _on_cpu(one) for name, one in value.items()}
    return value if value is None else value.float().cpu()
