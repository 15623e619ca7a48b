"""The list of quarantined clips, ``failures.jsonl``: a view of what the shards know."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mer_prep.errors import LockedError
from mer_prep.manifest import write_atomic
from mer_prep.stages.plan import Recipe, SubjectPlan
from mer_prep.stages.runner import RunSummary
from mer_prep.store.lock import Lock
from mer_prep.workspace import Workspace


def read_failures(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a failures file; none if there is no file. Torn lines are skipped."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    entries = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries


def record_failures(
    workspace: Workspace,
    plans: Sequence[SubjectPlan],
    recipe: Recipe,
    summary: RunSummary,
) -> None:
    """Replace the entries of the clips and stages of a run by what the run found.

    Entries of other clips and stages stay. Without failures, old or new, no file is made; a
    workspace that cannot be written is left alone.
    """
    entries = read_failures(workspace.failures)
    touched = {
        (clip.clip_id, stage) for plan in plans for clip in plan.clips for stage in recipe.stages
    }
    kept = [one for one in entries if (one.get("clip_id"), one.get("in_stage")) not in touched]
    fresh = [{**asdict(failure), "in_stage": stage} for stage, failure in _by_stage(plans, summary)]
    for crash in summary.crashes:
        fresh.append(
            {
                "clip_id": crash.clip_id,
                "stage": None,
                "in_stage": next(iter(recipe.stages)),
                "error": crash.crash.partition(":")[0],
                "message": crash.crash,
                "trace": crash.trace,
            }
        )
    if not entries and not fresh:
        return
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in [*kept, *fresh])
    for _ in range(20):
        try:
            with Lock(workspace.failures):
                write_atomic(workspace.failures, text)
            return
        except LockedError:
            time.sleep(0.1)
        except OSError:
            return


def _by_stage(plans: Sequence[SubjectPlan], summary: RunSummary) -> list[tuple[str, Any]]:
    """Return (stage whose shard lacks the clip, failure), without repeats."""
    stage_of = {
        (clip_id, key): shard.stage
        for plan in plans
        for shard in plan.shards.values()
        for clip_id, key in shard.keys.items()
    }
    found = {}
    for failure in summary.failures:
        stage = stage_of.get((failure.clip_id, failure.clip_key))
        if stage is not None:
            found[failure.clip_id, stage] = failure
    return [(stage, failure) for (_, stage), failure in sorted(found.items())]
