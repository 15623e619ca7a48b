"""Stages: they connect the mathematics of `ops` to frames and shards."""

from __future__ import annotations

from mer_prep.stages.base import Stage


def all_stages() -> dict[str, type[Stage]]:
    """Return the stages by name, in the order in which they can run."""
    from mer_prep.stages.align import Align
    from mer_prep.stages.apex import Apex
    from mer_prep.stages.difference import Difference
    from mer_prep.stages.dynamic_image import DynamicImage
    from mer_prep.stages.flow import Flow
    from mer_prep.stages.landmarks import Landmarks
    from mer_prep.stages.magnify import Magnify
    from mer_prep.stages.motion_image import MotionImage
    from mer_prep.stages.strain import Strain
    from mer_prep.stages.tim import Tim

    kinds: tuple[type[Stage], ...] = (
        Landmarks,
        Align,
        Apex,
        Flow,
        Strain,
        MotionImage,
        Difference,
        DynamicImage,
        Tim,
        Magnify,
    )
    return {stage.name: stage for stage in kinds}
