"""Stages: they connect the mathematics of `ops` to frames and shards."""

from __future__ import annotations

from mer_prep.stages.base import Stage


def all_stages() -> dict[str, type[Stage]]:
    """Return the stages by name, in the order in which they can run."""
    from mer_prep.stages.align import Align
    from mer_prep.stages.apex import Apex
    from mer_prep.stages.flow import Flow
    from mer_prep.stages.landmarks import Landmarks

    return {stage.name: stage for stage in (Landmarks, Align, Apex, Flow)}
