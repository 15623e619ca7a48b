"""Plans: which shards a run needs, which of them exist, and why the others must be made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_prep.config import canonical_json, key_values
from mer_prep.errors import ShardAccessError, ShardError
from mer_prep.manifest import Clip
from mer_prep.sources.index import current_digests
from mer_prep.stages.base import SourceParams, Stage, library_versions
from mer_prep.store.cache import Cache
from mer_prep.store.key import digest, shard_key
from mer_prep.store.shard import Failure, Header, ShardHeader, read_header
from mer_prep.store.verified import Verified
from mer_prep.workspace import Workspace


@dataclass(frozen=True)
class Recipe:
    """Everything but the clips that decides a run's results.

    Parameters
    ----------
    source : SourceParams
        Which frames the stages see.
    stages : mapping of str to Stage
        The stages in the order they run.
    """

    source: SourceParams
    stages: Mapping[str, Stage]

    def facts(self, name: str) -> dict[str, Any]:
        """Return parameters, versions and libraries of a stage and of all it rests on."""
        return {
            "source": dataclasses.asdict(self.source),
            "stages": {one: self.stage_facts(one) for one in self.chain(name)},
        }

    def stage_facts(self, name: str) -> dict[str, Any]:
        """Return version, parameters, libraries and identity of one stage, as they are here."""
        stage = self.stages[name]
        return {
            "version": stage.version,
            "params": key_values(stage.params),
            "libraries": library_versions(stage.libraries),
            "identity": stage.identity(),
        }

    def chain(self, name: str) -> list[str]:
        """Return the stages that `name` rests on and itself, in the order they run."""
        needed = {name}
        for one in reversed(list(self.stages)):
            if one in needed:
                needed.update(self.stages[one].requires)
        return [one for one in self.stages if one in needed]


def settings_key(recipe: Mapping[str, Any]) -> str:
    """Return the parameters of a recipe, without versions, as one canonical text."""
    parts = {name: one["params"] for name, one in recipe["stages"].items()}
    return canonical_json({**parts, "source": recipe["source"]})


def clip_keys(clip: Clip, recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the key of every stage of a recipe for one clip.

    Parameters
    ----------
    clip : Clip
        The clip; its `source_digest` is that of the bytes as they are now.
    recipe : Recipe
        The stages.
    facts : mapping
        For every stage, `Recipe.facts` of it (computed once for all clips).
    """
    keys: dict[str, str] = {}
    for name, stage in recipe.stages.items():
        parts: dict[str, Any] = {
            "stage": name,
            "clip": clip.clip_id,
            **facts[name]["stages"][name],
            "requires": {required: keys[required] for required in stage.requires},
            "key_frames": {key: getattr(clip, key) for key in stage.key_frames},
        }
        if stage.reads_frames or not stage.requires:
            parts["source"] = {"digest": clip.source_digest, **facts[name]["source"]}
            if recipe.source.frames == "expression":
                parts["source"].update(onset=clip.onset, offset=clip.offset)
        keys[name] = digest(parts)
    return keys


@dataclass(frozen=True)
class ShardPlan:
    """One shard of a run.

    Parameters
    ----------
    stage, corpus, subject : str
        What it holds.
    clips : tuple of Clip
        The subject's clips, with their digests as of now.
    keys : mapping of str to str
        Clip keys by clip id.
    path : Path
        Where it is, or will be.
    header : ShardHeader, optional
        What is there already; None if it must be made.
    reason : str
        Why it must be made; empty if it exists.
    reusable : mapping of str to Path
        Files that already hold the result of a clip, by clip id.
    """

    stage: str
    corpus: str
    subject: str
    clips: tuple[Clip, ...]
    keys: Mapping[str, str]
    path: Path
    header: ShardHeader | None
    reason: str = ""
    reusable: Mapping[str, Path] = field(default_factory=dict)

    @property
    def cached(self) -> bool:
        """Whether the shard exists."""
        return self.header is not None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Clips quarantined in the existing shard."""
        return () if self.header is None else self.header.failures


@dataclass(frozen=True)
class SubjectPlan:
    """The shards of one subject, one for every stage of the recipe, in the order they run."""

    corpus: str
    subject: str
    clips: tuple[Clip, ...]
    shards: Mapping[str, ShardPlan]

    @property
    def missing(self) -> list[ShardPlan]:
        """The shards that must be made."""
        return [shard for shard in self.shards.values() if not shard.cached]


def make_plan(
    workspace: Workspace,
    corpora: Sequence[str],
    recipe: Recipe,
    *,
    force: bool = False,
    share: tuple[int, int] = (1, 1),
    subjects: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    explain: bool = True,
    verify: bool = True,
) -> list[SubjectPlan]:
    """Compare what a recipe needs with what the cache holds.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpora : sequence of str
        Imported corpora.
    recipe : Recipe
        The stages.
    force : bool
        Treat the recipe's shards as missing.
    share : tuple of int
        (i, n): only every n-th subject, beginning with the i-th (1-based), so that n machines
        share the work.
    subjects : sequence of str
        Only these, as ``<corpus>/<subject>``; all if empty.
    progress : callable, optional
        Called with (clips hashed, clips to hash) while source files are hashed.
    explain : bool
        Whether to find out why missing shards are missing.
    verify : bool
        Whether to read back the shards that are not as they were when that was last done.
    """
    cache = Cache(workspace.cache)
    facts = {name: recipe.facts(name) for name in recipe.stages}
    verified = Verified(workspace.cache) if verify else None
    plans: list[SubjectPlan] = []
    number = 0
    for corpus in corpora:
        clips = workspace.clips(corpus)
        by_subject: dict[str, list[Clip]] = {}
        for clip in clips:
            by_subject.setdefault(clip.subject, []).append(clip)
        wanted = []
        for subject in sorted(by_subject):
            number += 1
            if number % share[1] != share[0] % share[1]:
                continue
            if not subjects or f"{corpus}/{subject}" in subjects:
                wanted.append(subject)
        chosen = [clip for subject in wanted for clip in by_subject[subject]]
        digests = current_digests(
            chosen, workspace.cache / ".sources" / f"{corpus}.json", progress=progress
        )
        for subject in wanted:
            current = tuple(
                dataclasses.replace(clip, source_digest=digests[clip.clip_id])
                for clip in by_subject[subject]
            )
            plans.append(
                _plan_subject(
                    cache, corpus, subject, current, recipe, facts, force, explain, verified
                )
            )
    if verified is not None:
        verified.save()
    return plans


def _plan_subject(
    cache: Cache,
    corpus: str,
    subject: str,
    clips: tuple[Clip, ...],
    recipe: Recipe,
    facts: Mapping[str, Mapping[str, Any]],
    force: bool,
    explain: bool,
    verified: Verified | None,
) -> SubjectPlan:
    keys = {clip.clip_id: clip_keys(clip, recipe, facts) for clip in clips}
    shards = {}
    for stage in recipe.stages:
        stage_keys = {clip_id: of_clip[stage] for clip_id, of_clip in keys.items()}
        path = cache.shard(stage, shard_key(stage, stage_keys), corpus, subject)
        plan = ShardPlan(stage, corpus, subject, clips, stage_keys, path, header=None)
        header, broken = existing_shard(plan, None if force else verified)
        plan = dataclasses.replace(plan, header=header)
        if force:
            plan = dataclasses.replace(plan, header=None, reason="forced")
        elif header is None:
            others = cache.headers(stage, corpus, subject)
            plan = dataclasses.replace(
                plan,
                reason=broken or (_reason(plan, facts[stage], others) if explain else ""),
                reusable=_reusable(plan, cache, others),
            )
        shards[stage] = plan
    return SubjectPlan(corpus, subject, clips, shards)


def existing_shard(
    plan: ShardPlan, verified: Verified | None = None
) -> tuple[ShardHeader | None, str]:
    """Return the header of a planned shard if it is there, or why it cannot be used.

    With `verified` a shard that is not known to be whole is read back.

    Raises
    ------
    ShardAccessError
        If it is there and may not be opened.
    """
    if not plan.path.exists():
        return None, ""
    try:
        header = read_header(plan.path)
    except ShardAccessError:
        raise
    except ShardError as error:
        return None, f"the shard is damaged: {error.what}"
    named = (header.stage, header.corpus, header.subject)
    if named != (plan.stage, plan.corpus, plan.subject) or not all(
        header.holds(clip_id, key) for clip_id, key in plan.keys.items()
    ):
        return None, "the shard is not the one its name says"
    if verified is not None:
        try:
            verified.check(plan.path)
        except ShardAccessError:
            raise
        except ShardError as error:
            return None, f"the shard is damaged: {error.what}"
    return header, ""


def _reusable(plan: ShardPlan, cache: Cache, others: Sequence[ShardHeader]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for clip_id, key in plan.keys.items():
        part = cache.part(plan.stage, key)
        if part.exists():
            found[clip_id] = part
            continue
        for other in others:
            if other.clips.get(clip_id) == key:
                found[clip_id] = other.path
                break
    return found


def _reason(plan: ShardPlan, facts: Mapping[str, Any], others: Sequence[ShardHeader]) -> str:
    """Say what changed against the most similar shard of the same stage and subject."""
    if not others:
        return "not made yet"
    nearest = max(others, key=lambda other: _likeness(plan, facts, other))
    changes = _changes(nearest.recipe, facts)
    if changes:
        return "; ".join(changes)
    old, new = dict(nearest.clips), plan.keys
    old.update({failure.clip_id: failure.clip_key for failure in nearest.failures})
    added, gone = sorted(set(new) - set(old)), sorted(set(old) - set(new))
    changed = sorted(clip_id for clip_id in set(old) & set(new) if old[clip_id] != new[clip_id])
    for ids, text in (
        (changed, "frames or key frames changed"),
        (added, "not in the shard so far"),
        (gone, "no longer in the manifest"),
    ):
        if ids:
            more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
            changes.append(f"{text}: {ids[0]}{more}")
    return "; ".join(changes) or "not made yet"


def _likeness(plan: ShardPlan, facts: Mapping[str, Any], other: ShardHeader) -> tuple[int, int]:
    same = sum(other.clips.get(clip_id) == key for clip_id, key in plan.keys.items())
    return same, -len(_changes(other.recipe, facts))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two recipes, e.g. ``align.mode: onset -> median``."""
    before, after = _flat(old), _flat(new)
    changes = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            changes.append(f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}")
    return changes


def _flat(facts: Mapping[str, Any]) -> dict[str, str]:
    flat = {f"source.{key}": _text(value) for key, value in facts["source"].items()}
    for stage, of_stage in facts["stages"].items():
        flat[f"{stage} stage version"] = _text(of_stage["version"])
        for key, value in of_stage["params"].items():
            flat[f"{stage}.{key}"] = _text(value)
        for kind in ("libraries", "identity"):
            for key, value in of_stage[kind].items():
                flat[f"{key} ({stage})"] = _text(value)
    return flat


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else canonical_json(value)
    return text if len(text) <= 24 else text[:16] + "…"


def shard_header(plan: ShardPlan, recipe: Recipe) -> Header:
    """Return the root attributes for a shard that is about to be written."""
    facts = recipe.facts(plan.stage)
    own = facts["stages"][plan.stage]
    return Header(
        stage=plan.stage,
        stage_version=own["version"],
        params=own["params"],
        recipe=facts,
        requires=recipe.stages[plan.stage].requires,
        libraries={**own["libraries"], **own["identity"]},
        corpus=plan.corpus,
        subject=plan.subject,
        restricted=any(clip.restricted for clip in plan.clips),
        synthetic=any(clip.synthetic for clip in plan.clips),
        datasets=tuple(field.name for field in recipe.stages[plan.stage].fields),
    )
