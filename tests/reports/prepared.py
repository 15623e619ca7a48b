"""A prepared corpus without a detector: shards as the stages write them, with invented arrays."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mer_prep.manifest import Clip
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, ShardPlan, make_plan, shard_header
from mer_prep.store.key import shard_key
from mer_prep.store.part import ClipResult, DatasetInfo, write_part
from mer_prep.store.shard import Failure, merge
from mer_prep.workspace import Workspace

#: Side of the invented aligned frames, px.
SIDE = 48

#: The invented flow of every pixel, px: to the right and up.
FLOW = (0.3, -0.4)


def face(width: float, height: float) -> np.ndarray:
    """Return 68 points in the order of the iBUG scheme, spread over a picture."""
    jaw = np.pi * np.linspace(0, 1, 17)
    parts = [np.column_stack([0.5 - 0.3 * np.cos(jaw), 0.5 + 0.35 * np.sin(jaw)])]
    for x, y, count in ((0.33, 0.35, 5), (0.67, 0.35, 5), (0.5, 0.5, 4), (0.5, 0.6, 5)):
        parts.append(np.column_stack([np.linspace(x - 0.08, x + 0.08, count), [y] * count]))
    for x, y, count in ((0.35, 0.42, 6), (0.65, 0.42, 6), (0.5, 0.72, 12), (0.5, 0.72, 8)):
        turn = 2 * np.pi * np.arange(count) / count
        parts.append(np.column_stack([x + 0.06 * np.cos(turn), y + 0.03 * np.sin(turn)]))
    return np.concatenate(parts) * (width, height)


def arrays_of(stage: str, clip: Clip) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return invented results of a stage and their facts."""
    first, stop = clip.expression_span()
    count = stop - first
    aligned = np.repeat(np.float32(face(SIDE, SIDE))[None], count, axis=0)
    if stage == "landmarks":
        return {
            "landmarks": np.repeat(np.float32(face(24, 16))[None], count, axis=0),
            "detected": np.arange(count) != 1,
        }, {"lost": 0, "frames_without_face": 1, "lowest_confidence": 1.25}
    if stage == "align":
        grey = np.arange(count, dtype=np.uint8)[:, None, None, None] * 10 + 90
        return {
            "frames": np.broadcast_to(grey, (count, SIDE, SIDE, 3)).copy(),
            "landmarks": aligned,
        }, {"jitter_px": 0.125, "head_motion_px": 1.5, "registration_failures": 2}
    pair = (clip.position(clip.onset) - first, clip.position(clip.apex or clip.offset) - first)
    if stage == "flow":
        flow = np.ones((1, 2, SIDE, SIDE), np.float32) * np.float32(FLOW)[None, :, None, None]
        numbers = [clip.frame_numbers[first + one] for one in pair]
        return {
            "flow": flow,
            "pairs": np.array([pair], np.int32),
            "pair_numbers": np.array([numbers]),
        }, {"mean_magnitude_px": 0.5}
    if stage == "strain":
        return {"strain": np.full((1, SIDE, SIDE), 0.02, np.float32)}, {}
    if stage == "apex":
        return {
            "score": np.linspace(0, 1, count, dtype=np.float32),
            "key_frame_numbers": np.array(clip.frame_numbers)[[first, first + 1, stop - 1]],
        }, {"confidence": 0.75, "spotted_apex": clip.frame_numbers[first + 1], "apex_error": -1}
    return {
        "dynamic_image": np.full((SIDE, SIDE, 3), -2.0, np.float32),
        "indices": np.arange(count, dtype=np.int32),
    }, {}


def prepare(
    workspace: Workspace,
    corpus: str,
    stages: Sequence[str],
    *,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    failures: Mapping[str, Failure] | None = None,
    warnings: Callable[[str, Clip], Sequence[str]] = lambda stage, clip: (),
    subjects: Sequence[str] = (),
) -> list[ShardPlan]:
    """Publish invented shards, as a run of the stages would, and return them."""
    recipe = Recipe(*build_stages(all_stages(), tuple(stages), settings or {}))
    published = []
    for plan in make_plan(workspace, [corpus], recipe, explain=False, subjects=subjects):
        for shard in plan.shards.values():
            failed = [
                dataclasses.replace(failures[clip.clip_id], clip_key=shard.keys[clip.clip_id])
                for clip in shard.clips
                if failures and clip.clip_id in failures
            ]
            parts = {}
            for clip in shard.clips:
                if clip.clip_id in {one.clip_id for one in failed}:
                    continue
                arrays, facts = arrays_of(shard.stage, clip)
                first, stop = clip.expression_span()
                path = workspace.root / "parts" / f"{shard.keys[clip.clip_id]}.h5"
                said = json.dumps(list(warnings(shard.stage, clip)))
                result = ClipResult(
                    clip=clip,
                    clip_key=shard.keys[clip.clip_id],
                    frame_numbers=clip.frame_numbers[first:stop],
                    arrays=arrays,
                    infos={name: DatasetInfo("px", "frame") for name in arrays},
                    facts={**facts, "warnings": said},
                )
                write_part(path, result, stage=shard.stage, recipe={})
                parts[clip.clip_id] = path
            header = dataclasses.replace(
                shard_header(shard, recipe),
                datasets=tuple(arrays_of(shard.stage, shard.clips[0])[0]),
            )
            merge(shard.path, header, shard_key(shard.stage, shard.keys), parts, failed)
            published.append(shard)
    return published
