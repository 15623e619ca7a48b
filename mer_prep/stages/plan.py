"""Plans: which shards a run needs, which of them exist, and why the others must be made."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_prep.config import canonical_json, key_values
from mer_prep.errors import ShardAccessError, ShardError
from mer_prep.manifest import Clip
from mer_prep.sources.index import current_digests
from mer_prep.stages.base import SourceParams, Stage, library_versions
from mer_prep.store.cache import Cache, Listing
from mer_prep.store.key import digest, shard_key
from mer_prep.store.shard import Failure, Header, NewerShardError, ShardHeader, read_header
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
    verified = Verified(workspace.cache) if verify else None
    planner = Planner(
        Cache(workspace.cache), recipe, force=force, explain=explain, verified=verified
    )
    numbers = itertools.count(1)

    def is_wanted(corpus: str, subject: str) -> bool:
        if next(numbers) % share[1] != share[0] % share[1]:
            return False
        return not subjects or f"{corpus}/{subject}" in subjects

    plans: list[SubjectPlan] = []
    for corpus in corpora:
        current = current_clips(workspace, corpus, is_wanted=is_wanted, progress=progress)
        plans += [planner.plan(corpus, subject, clips) for subject, clips in current.items()]
    if verified is not None:
        verified.save()
    return plans


def current_clips(
    workspace: Workspace,
    corpus: str,
    *,
    is_wanted: Callable[[str, str], bool] = lambda corpus, subject: True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[Clip, ...]]:
    """Return the clips of a corpus by subject, with the digests of their frames as of now.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpus : str
        An imported corpus.
    is_wanted : callable
        Called with the corpus and each of its subjects, sorted; says whether to look at it.
    progress : callable, optional
        As for `make_plan`.
    """
    by_subject: dict[str, list[Clip]] = {}
    ids = []
    for clip in workspace.clips(corpus):
        by_subject.setdefault(clip.subject, []).append(clip)
        ids.append(clip.clip_id)
    wanted = [subject for subject in sorted(by_subject) if is_wanted(corpus, subject)]
    digests = current_digests(
        [clip for subject in wanted for clip in by_subject[subject]],
        workspace.cache / ".sources" / f"{corpus}.json",
        others=ids,
        progress=progress,
    )
    return {
        subject: tuple(
            dataclasses.replace(clip, source_digest=digests[clip.clip_id])
            for clip in by_subject[subject]
        )
        for subject in wanted
    }


class Planner:
    """Plans subjects by one recipe; what they share is worked out once.

    Parameters
    ----------
    cache : Cache
        The cache.
    recipe : Recipe
        The stages.
    force, explain
        As for `make_plan`.
    verified : Verified, optional
        Where given, shards that are not known to be whole are read back.
    headers : mapping of Path to ShardHeader
        Shards whose header has been read already; others are looked for.
    listing : Listing, optional
        The shards of the cache, where somebody else has gone through it.
    """

    def __init__(
        self,
        cache: Cache,
        recipe: Recipe,
        *,
        force: bool = False,
        explain: bool = False,
        verified: Verified | None = None,
        headers: Mapping[Path, ShardHeader] | None = None,
        listing: Listing | None = None,
    ) -> None:
        self._cache = cache
        self._recipe = recipe
        self._facts = {name: recipe.facts(name) for name in recipe.stages}
        self._force = force
        self._explain = explain
        self._verified = verified
        self._headers = headers or {}
        self._listing = listing or Listing(cache)

    def plan(self, corpus: str, subject: str, clips: tuple[Clip, ...]) -> SubjectPlan:
        """Return the plan of a subject, whose clips have the digests of their frames as of now."""
        keys = {clip.clip_id: clip_keys(clip, self._recipe, self._facts) for clip in clips}
        shards = {}
        for stage in self._recipe.stages:
            stage_keys = {clip_id: of_clip[stage] for clip_id, of_clip in keys.items()}
            path = self._cache.shard(stage, shard_key(stage, stage_keys), corpus, subject)
            plan = ShardPlan(stage, corpus, subject, clips, stage_keys, path, header=None)
            shards[stage] = self._looked_up(plan)
        return SubjectPlan(corpus, subject, clips, shards)

    def _looked_up(self, plan: ShardPlan) -> ShardPlan:
        """Return the plan of a shard with what is there of it."""
        if self._force:
            return dataclasses.replace(plan, reason="forced")
        header, broken = existing_shard(plan, self._verified, self._headers.get(plan.path))
        if header is not None:
            return dataclasses.replace(plan, header=header)
        others = self._cache.headers(plan.stage, plan.corpus, plan.subject, listing=self._listing)
        reason = broken
        if self._explain and not reason:
            reason = _reason(plan, self._facts[plan.stage], others)
        return dataclasses.replace(
            plan, reason=reason, reusable=_reusable(plan, self._cache, others)
        )


def existing_shard(
    plan: ShardPlan, verified: Verified | None = None, header: ShardHeader | None = None
) -> tuple[ShardHeader | None, str]:
    """Return the header of a planned shard if it is there, or why it cannot be used.

    With `verified` a shard that is not known to be whole is read back. A header that has been read
    already is not read again.

    Raises
    ------
    ShardAccessError
        If it is there and may not be opened.
    NewerShardError
        If it is of a newer mer-prep: it is not to be replaced.
    """
    if header is None and not plan.path.exists():
        return None, ""
    try:
        header = header or read_header(plan.path)
    except (NewerShardError, ShardAccessError):
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
        flat[f"{stage} stage version"] = _text(of_stage.get("version", "unknown"))
        for key, value in of_stage["params"].items():
            flat[f"{stage}.{key}"] = _text(value)
        for kind in ("libraries", "identity"):
            for key, value in of_stage.get(kind, {}).items():
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
