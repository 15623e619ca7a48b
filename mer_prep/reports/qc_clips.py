"""What is known of every clip of a quality-control page, before anything is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_prep.errors import ShardError
from mer_prep.manifest import Clip, Finding
from mer_prep.reports.qc_results import CorpusResults, clip_facts
from mer_prep.stages.plan import ShardPlan, SubjectPlan
from mer_prep.stages.summary import LEFT_OUT
from mer_prep.store.shard import Failure

#: What a clip may be, the worst first.
STATES = {
    "failed": "failed",
    "warned": "with warnings",
    "left out": "left out by choice",
    "pending": "not prepared",
    "good": "without remark",
}


@dataclass(frozen=True)
class ClipRecord:
    """A clip and all that its shards and its import say of it.

    Parameters
    ----------
    clip : Clip
        The clip.
    number : int
        Its place on the page, from 0; makes its anchor.
    files : mapping of str to Path
        By stage, the shard or part that has its result.
    facts : mapping of str to mapping
        By stage, the attributes of its result.
    warnings : tuple of (str, str)
        Where a warning comes from (a stage, or ``import``), and its sentence.
    failure : Failure, optional
        Why it has no result, of the first stage that has none.
    pending : tuple of str
        Stages that are to be run, or run again, for this clip.
    """

    clip: Clip
    number: int
    files: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: tuple[tuple[str, str], ...] = ()
    failure: Failure | None = None
    pending: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """Anchor of its card."""
        return f"clip-{self.number}"

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.failure is not None:
            return "left out" if self.failure.error == LEFT_OUT else "failed"
        if self.warnings:
            return "warned"
        return "pending" if self.pending or not self.files else "good"

    @property
    def class_name(self) -> str:
        """Its emotion, or ``unlabelled``."""
        return self.clip.emotion or "unlabelled"

    def fact(self, stage: str, name: str) -> Any:
        """Return an attribute of a result; None if there is none."""
        return self.facts.get(stage, {}).get(name)


#: Figures of a clip by which cards can be sorted and corpora summed up: stage, attribute, what it
#: is, its unit.
FIGURES = {
    "jitter": ("align", "jitter_px", "Jitter of the alignment", "px"),
    "motion": ("align", "head_motion_px", "Head motion", "px"),
    "flow": ("flow", "mean_magnitude_px", "Mean flow", "px"),
    "lost": ("landmarks", "frames_without_face", "Frames without a face", "frames"),
    "detector": ("landmarks", "lowest_confidence", "Lowest detector score", ""),
    "confidence": ("apex", "confidence", "Confidence of the spotted apex", ""),
}


def figure(record: ClipRecord, name: str) -> float | None:
    """Return one of `FIGURES` of a clip; None if it is not known."""
    stage, attribute, _, _ = FIGURES[name]
    value = record.fact(stage, attribute)
    return None if value is None else float(value)


def clip_records(
    results: CorpusResults, findings: Sequence[Finding], *, clips: Sequence[str] = ()
) -> list[ClipRecord]:
    """Gather what is known of the clips of a corpus, subject by subject.

    Parameters
    ----------
    results : CorpusResults
        The results shown.
    findings : sequence of Finding
        What the import noticed.
    clips : sequence of str
        Ids of the only clips wanted; all if empty.
    """
    noticed: dict[str, list[tuple[str, str]]] = {}
    for one in findings:
        if one.clip_id is not None and one.level != "info":
            noticed.setdefault(one.clip_id, []).append(("import", one.message))
    records: list[ClipRecord] = []
    for plan in results.plans:
        for record in _of_subject(plan, noticed, set(clips), len(records)):
            records.append(record)
    return records


def _of_subject(
    plan: SubjectPlan,
    noticed: Mapping[str, list[tuple[str, str]]],
    wanted: set[str],
    number: int,
) -> Iterator[ClipRecord]:
    shards = {name: _Shard(shard) for name, shard in plan.shards.items()}
    for clip in plan.clips:
        if wanted and clip.clip_id not in wanted:
            continue
        known = {name: shard.facts.get(clip.clip_id) for name, shard in shards.items()}
        facts = {name: one for name, one in known.items() if one is not None}
        failures = [shard.failures.get(clip.clip_id) for shard in shards.values()]
        failure = next((one for one in failures if one is not None), None)
        warnings = list(noticed.get(clip.clip_id, ()))
        for name, shard in shards.items():
            warnings += [(name, text) for text in _warnings(facts.get(name, {}))]
            warnings += [(name, shard.damage)] if shard.damage else []
        yield ClipRecord(
            clip=clip,
            number=number,
            files={name: shards[name].files[clip.clip_id] for name in facts},
            facts=facts,
            warnings=tuple(warnings),
            failure=failure,
            pending=() if failure else tuple(name for name in shards if name not in facts),
        )
        number += 1


class _Shard:
    """What one shard, or the parts of a shard that is still to be made, says of its clips."""

    def __init__(self, plan: ShardPlan) -> None:
        self.facts: dict[str, dict[str, Any]] = {}
        self.files: dict[str, Path] = {}
        self.damage = ""
        self.failures = {one.clip_id: one for one in plan.failures}
        # Of a shard that must be made again, clips that have not changed are shown as they are.
        places = (
            plan.reusable if plan.header is None else dict.fromkeys(plan.header.clips, plan.path)
        )
        for path in set(places.values()):
            try:
                found = clip_facts(path)
            except ShardError as error:
                self.damage = f"{error.what} {path}"
                continue
            for clip_id in (one for one, place in places.items() if place == path):
                if clip_id in found:
                    self.facts[clip_id] = found[clip_id]
                    self.files[clip_id] = path


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    try:
        return [str(one) for one in json.loads(str(facts.get("warnings", "[]")))]
    except ValueError:
        return []


def made_before_warnings(records: Sequence[ClipRecord]) -> int:
    """Return of how many clips a result was made before results kept their warnings."""
    return sum(
        any("warnings" not in facts for facts in record.facts.values()) for record in records
    )
