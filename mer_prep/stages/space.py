"""How much room on the disk a run will take, told before it begins."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mer_prep.stages.base import Field
from mer_prep.stages.plan import Recipe, SubjectPlan

#: Lengths of axes that are the same in every clip; whatever else an axis is called has one entry.
_LENGTHS = {"point": 68, "coordinate": 2, "edge": 4, "row": 2, "column": 3, "key_frame": 3}

#: What a clip takes beside its arrays, in bytes: the structure of an HDF5 file and attributes.
_PER_CLIP = 12_000


def needed_bytes(plans: Sequence[SubjectPlan], recipe: Recipe) -> int:
    """Return about how many bytes the missing shards of a plan will take.

    What compression saves is not taken off: of aligned faces and flow it is little.

    Parameters
    ----------
    plans : sequence of SubjectPlan
        The plan of a run.
    recipe : Recipe
        The stages it was made from.
    """
    counts: Counter[tuple[str, int]] = Counter()
    for plan in plans:
        stages = [shard.stage for shard in plan.missing]
        if stages:
            for clip in plan.clips:
                first, end = recipe.source.span(clip)
                counts.update((stage, end - first) for stage in stages)
    return sum(
        clip_bytes(stage, frames, recipe) * clips for (stage, frames), clips in counts.items()
    )


def clip_bytes(stage: str, frames: int, recipe: Recipe) -> int:
    """Return about how many bytes a stage gives for a clip of which it sees so many frames."""
    lengths = _lengths(stage, frames, recipe)
    made = recipe.stages[stage]
    dtype = getattr(made.params, "dtype", None)
    return _PER_CLIP + sum(
        _field_bytes(field, lengths, dtype if field.name == stage else None)
        for field in made.fields
    )


def _field_bytes(field: Field, lengths: dict[str, int], dtype: str | None) -> int:
    channels = {"channel": len(field.channels.split()) or 1}
    counts = (channels.get(axis) or lengths.get(axis, 1) for axis in field.axes.split())
    return math.prod(counts) * np.dtype(dtype or field.dtype).itemsize


def _lengths(stage: str, frames: int, recipe: Recipe) -> dict[str, int]:
    """Return how long the axes of the results of a stage are."""
    lengths = _LENGTHS | {"frame": frames, "pair": 1}
    # From the first stage it rests on to itself: the last word on a size is its own.
    for name in recipe.chain(stage):
        params: Any = recipe.stages[name].params
        if hasattr(params, "size"):
            lengths |= {"y": params.size, "x": params.size}
        if hasattr(params, "length"):
            lengths["frame"] = params.length
        if hasattr(params, "pairs"):
            lengths["pair"] = _pairs(lengths["frame"], params)
    return lengths


def _pairs(frames: int, params: Any) -> int:
    """Return how many pairs of frames are compared; see `mer_prep.stages.pairs`."""
    if params.pairs == "onset-apex":
        return 1
    if params.pairs == "lagged":
        return frames // params.lag_divisor * (params.lag_divisor - 1)
    return max(frames - 1, 0)
