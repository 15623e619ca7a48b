"""The list of quarantined clips, ``failures.jsonl``: a view of what the shards know."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mer_prep.config import parse_json_object
from mer_prep.errors import LockedError
from mer_prep.records import record_bytes
from mer_prep.stages.plan import Recipe, SubjectPlan, settings_key
from mer_prep.stages.summary import RunSummary
from mer_prep.store.lock import Lock
from mer_prep.store.text import write_atomic
from mer_prep.workspace import Workspace


def read_failures(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a failures file; none if there is no file.

    Torn lines are skipped, and such whose values are not texts.
    """
    try:
        stored = record_bytes(path)
    except OSError:
        return []
    entries = []
    # Messages may hold characters at which Python, but not JSON lines, would end a line.
    for line in stored.split(b"\n"):
        try:
            entry = parse_json_object(line)
        except ValueError:
            continue
        if all(value is None or isinstance(value, str) for value in entry.values()):
            entries.append(entry)
    return entries


def record_failures(
    workspace: Workspace,
    plans: Sequence[SubjectPlan],
    recipe: Recipe,
    summary: RunSummary,
) -> None:
    """Replace the entries of the clips, stages and settings of a run by what the run found.

    Entries of other clips, stages and settings stay: they still hold. Without failures, old or
    new, no file is made; a workspace that cannot be written is left alone.
    """
    settings = {stage: settings_key(recipe.facts(stage)) for stage in recipe.stages}
    touched = {clip.clip_id for plan in plans for clip in plan.clips}
    fresh = _fresh(plans, recipe, summary, settings)
    for _ in range(20):
        try:
            if not fresh and not workspace.failures.exists():
                return
            with Lock(workspace.failures):
                # Read under the lock: what another run has written meanwhile is kept.
                entries = read_failures(workspace.failures)
                kept = [one for one in entries if not _is_replaced(one, touched, settings)]
                lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in [*kept, *fresh]]
                write_atomic(workspace.failures, "".join(lines))
            return
        except LockedError:
            time.sleep(0.1)
        except OSError:
            return


def _is_replaced(entry: dict[str, Any], touched: set[str], settings: dict[str, str]) -> bool:
    """Return whether an entry is of what a run looked at; one without settings may be of any."""
    stage = entry.get("in_stage")
    if entry.get("clip_id") not in touched or stage not in settings:
        return False
    return entry.get("settings") in (None, settings[str(stage)])


def _fresh(
    plans: Sequence[SubjectPlan], recipe: Recipe, summary: RunSummary, settings: dict[str, str]
) -> list[dict[str, Any]]:
    fresh = [
        {**asdict(failure), "in_stage": stage, "settings": settings[stage]}
        for stage, failure in _by_stage(plans, summary)
    ]
    for crash in summary.crashes:
        first = next(iter(recipe.stages))
        fresh.append(
            {
                "clip_id": crash.clip_id,
                "stage": None,
                "in_stage": first,
                "settings": settings[first],
                "error": crash.crash.partition(":")[0],
                "message": crash.crash,
                "trace": crash.trace,
            }
        )
    return fresh


def _by_stage(plans: Sequence[SubjectPlan], summary: RunSummary) -> list[tuple[str, Any]]:
    """Return (stage whose shard lacks the clip, failure), without repeats."""
    failed = {failure.clip_id for failure in summary.failures}
    stage_of = {
        (clip_id, key): shard.stage
        for plan in plans
        for shard in plan.shards.values()
        for clip_id, key in shard.keys.items()
        if clip_id in failed
    }
    found = {}
    for failure in summary.failures:
        stage = stage_of.get((failure.clip_id, failure.clip_key))
        if stage is not None:
            found[failure.clip_id, stage] = failure
    return [(stage, failure) for (_, stage), failure in sorted(found.items())]
