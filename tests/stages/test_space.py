"""The room a run takes, told before it begins, against the shards it then makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages.space import clip_bytes, needed_bytes
from mer_prep.store.cache import Cache
from mer_prep.workspace import Workspace
from tests.conftest import store_manifest
from tests.stages.conftest import MakeClip


def recipe(stage: str, **settings: Mapping[str, Any]) -> Recipe:
    return Recipe(*build_stages(all_stages(), (stage,), settings))


FLOW = 144 * 144 * 2 * 4
FACE = 144 * 144 * 3


@pytest.mark.parametrize(
    ("made", "stage", "expected"),
    [
        (recipe("align"), "align", 40 * (FACE + 68 * 2 * 4 + 6 * 8)),
        (recipe("align", align={"size": 72}), "align", 40 * (FACE // 4 + 68 * 2 * 4 + 6 * 8)),
        (recipe("flow"), "flow", FLOW),
        (recipe("flow", flow={"dtype": "float16"}), "flow", FLOW // 2),
        (recipe("flow", flow={"pairs": "consecutive"}), "flow", 39 * FLOW),
        (recipe("flow", flow={"pairs": "onset-to-all"}), "flow", 39 * FLOW),
        (recipe("flow", flow={"pairs": "lagged"}), "flow", 5 * 7 * FLOW),
        (recipe("strain", flow={"pairs": "lagged"}), "strain", 5 * 7 * FLOW // 2),
        (recipe("motion-image"), "motion-image", 28 * 28 * 3 * 4),
        (recipe("tim", tim={"length": 7}), "tim", 7 * (FACE + 68 * 2 * 4 + 8)),
        (recipe("difference"), "difference", FACE * 2),
    ],
)
def test_what_a_clip_of_40_frames_takes(made: Recipe, stage: str, expected: int) -> None:
    structure = clip_bytes(stage, 40, made) - expected
    assert 0 < structure < 20_000


def test_the_estimate_is_near_the_sizes_of_the_shards(
    make_clip: MakeClip, noisy_portraits: list[np.ndarray], workspace: Workspace
) -> None:
    clip, _ = make_clip(noisy_portraits)
    store_manifest(workspace, [clip], "test")
    made = recipe("strain", flow={"pairs": "consecutive"})
    plans = make_plan(workspace, ["test"], made)
    estimate = needed_bytes(plans, made)
    Runner(workspace, made).run(plans)
    written = sum(path.stat().st_size for path in Cache(workspace.cache).shards())
    assert written == pytest.approx(estimate, rel=0.2)
    assert needed_bytes(make_plan(workspace, ["test"], made), made) == 0
