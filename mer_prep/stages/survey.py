"""Surveys of the cache: what is current, what is stale, what nothing needs any more.

A shard is current if its own recipe, applied to the manifest, the frames and the libraries of
today, leads to it again. Whatever its parameters are, it is then somebody's result.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mer_prep.config import canonical_json
from mer_prep.errors import ConfigError, ShardError
from mer_prep.manifest import UNREADABLE, Clip, subject_counts
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.stages.failures import read_failures
from mer_prep.stages.plan import (
    Planner,
    Recipe,
    ShardPlan,
    SubjectPlan,
    current_clips,
    settings_key,
)
from mer_prep.stages.summary import LEFT_OUT
from mer_prep.store.blocks import StoredArray
from mer_prep.store.cache import Cache, Listing
from mer_prep.store.shard import ShardHeader, open_clip, read_clip, read_header, read_part_header
from mer_prep.workspace import Workspace


@dataclass(frozen=True)
class CorpusState:
    """An imported corpus."""

    name: str
    clips: int
    subjects: int
    variant: str | None
    synthetic: bool


@dataclass(frozen=True)
class ResultState:
    """The shards of one corpus, stage and recipe.

    Parameters
    ----------
    settings : str
        Parameters that differ from the defaults, or ``defaults``.
    clips_done, clips_failed : int
        Clips with a result and quarantined clips, in current shards.
    shards, stale, missing : int
        Shards that are current, that are superseded, and subjects without a current one.
    bytes : int
        Size of all of them.
    """

    corpus: str
    stage: str
    settings: str
    clips_done: int
    clips_failed: int
    shards: int
    stale: int
    missing: int
    bytes: int


@dataclass(frozen=True)
class FailedClip:
    """A clip without a result: the stage that failed, with which settings, and why.

    The stage is empty for a clip that met an unexpected error; the next run tries it again.
    """

    clip_id: str
    stage: str
    settings: str
    error: str
    message: str


@dataclass(frozen=True)
class Survey:
    """What a workspace holds."""

    corpora: tuple[CorpusState, ...]
    results: tuple[ResultState, ...]
    clips_failed: int
    notes: tuple[str, ...]
    failures: tuple[FailedClip, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return it as plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Unneeded:
    """A file that nothing needs, and why."""

    path: Path
    reason: str
    bytes: int


class _Expectations:
    """What recipes lead to today, worked out once per corpus and recipe.

    Manifests, source files and the headers of shards are looked at once for all recipes.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    subject : str, optional
        The only subject that is asked about.
    """

    def __init__(self, workspace: Workspace, *, subject: str | None = None) -> None:
        self.headers: dict[Path, ShardHeader] = {}
        self._workspace = workspace
        self._subject = subject
        self._cache = Cache(workspace.cache)
        self._listing = Listing(self._cache)
        self._clips: dict[str, dict[str, tuple[Clip, ...]]] = {}
        self._known: dict[tuple[str, str, str], dict[str, ShardPlan] | None] = {}
        self._by_clip: dict[tuple[str, str, str], dict[str, ShardPlan]] = {}

    @cached_property
    def corpora(self) -> frozenset[str]:
        return frozenset(self._workspace.corpora())

    def plans(
        self, corpus: str, stage: str, recipe: Mapping[str, Any]
    ) -> dict[str, ShardPlan] | None:
        """Return the plan of every subject, or None if the recipe is of another mer-prep."""
        name = (corpus, stage, settings_key(recipe))
        if name not in self._known:
            self._known[name] = self._make(corpus, stage, recipe)
        return self._known[name]

    def plan_of(self, clip_id: str, stage: str, recipe: Mapping[str, Any]) -> ShardPlan | None:
        """Return the plan of the shard that a clip goes into."""
        corpus = clip_id.split("/", 1)[0]
        name = (corpus, stage, settings_key(recipe))
        if name not in self._by_clip:
            plans = self.plans(corpus, stage, recipe) or {}
            self._by_clip[name] = {one: plan for plan in plans.values() for one in plan.keys}
        return self._by_clip[name].get(clip_id)

    def clips(self, corpus: str) -> dict[str, tuple[Clip, ...]]:
        """Return the clips of a corpus by subject, with the digests of their frames as of now."""
        if corpus not in self._clips:
            self._clips[corpus] = current_clips(
                self._workspace,
                corpus,
                is_wanted=lambda _, subject: self._subject in (None, subject),
            )
        return self._clips[corpus]

    def _make(
        self, corpus: str, stage: str, recipe: Mapping[str, Any]
    ) -> dict[str, ShardPlan] | None:
        if corpus not in self.corpora:
            return None
        settings = {name: one["params"] for name, one in recipe["stages"].items()}
        settings["source"] = recipe["source"]
        try:
            built = Recipe(*build_stages(all_stages(), (stage,), settings))
        except ConfigError:
            return None
        planner = Planner(self._cache, built, headers=self.headers, listing=self._listing)
        return {
            subject: planner.plan(corpus, subject, clips).shards[stage]
            for subject, clips in self.clips(corpus).items()
        }


def settings_text(recipe: Mapping[str, Any]) -> str:
    """Return the parameters that differ from today's defaults, for people."""
    kinds = all_stages()
    texts = []
    for name, one in recipe["stages"].items():
        # Of a stage, not of its parameters alone: a stage resolves what "auto" means here.
        defaults = dataclasses.asdict(kinds[name]().params) if name in kinds else {}
        texts += [
            f"{name}.{key}={value}"
            for key, value in one["params"].items()
            if key not in defaults or defaults[key] != value
        ]
    if recipe["source"].get("frames") != "expression":
        texts.append(f"source.frames={recipe['source'].get('frames')}")
    return " ".join(texts) or "defaults"


def survey(workspace: Workspace) -> Survey:
    """Look at every corpus and shard of a workspace."""
    cache = Cache(workspace.cache)
    headers, notes = [], []
    for path in cache.shards():
        try:
            headers.append(read_header(path))
        except ShardError as error:
            notes.append(f"unreadable: {path} ({error.what}); `mer-prep verify` says more")
    expected = _Expectations(workspace)
    expected.headers.update((header.path, header) for header in headers)
    judged = {header.corpus for header in headers}
    corpora = []
    for name in workspace.corpora():
        record = workspace.record(name)
        # Without a shard there is nothing to compare the frames with.
        counts = (
            {subject: len(clips) for subject, clips in expected.clips(name).items()}
            if name in judged
            else subject_counts(workspace.clips(name))
        )
        corpora.append(
            CorpusState(name, sum(counts.values()), len(counts), record.variant, record.synthetic)
        )
    groups: dict[tuple[str, str, str], list[ShardHeader]] = {}
    for header in headers:
        name_ = (header.corpus, header.stage, settings_key(header.recipe))
        groups.setdefault(name_, []).append(header)
    order = list(all_stages())

    def place(stage: str) -> int:
        return order.index(stage) if stage in order else len(order)  # of another mer-prep

    results = [
        _group_state(group, expected)
        for _, group in sorted(
            groups.items(), key=lambda item: (item[0][0], place(item[0][1]), item[0][2])
        )
    ]
    parts = cache.parts()
    if parts:
        notes.append(
            f"{len(parts)} clip results wait for their subject; the next run takes them up"
        )
    if cache.dead_locks():
        notes.append(f"{len(cache.dead_locks())} locks of killed runs; the next run removes them")
    for state in corpora:
        if not Path(workspace.record(state.name).root).is_dir():
            notes.append(f"the folder of {state.name} is out of reach; its shards are not judged")
    current = [one for group in groups.values() for one in _current(group, expected)[0]]
    notes += _left_out_notes(current)
    failures = _failures(current, workspace)
    failed = len({failure.clip_id for failure in failures})
    return Survey(tuple(corpora), tuple(results), failed, tuple(notes), failures)


def _current(
    group: list[ShardHeader], expected: _Expectations
) -> tuple[list[ShardHeader], set[Path]]:
    """Return the current shards of one recipe, and where there are or would be such."""
    first = group[0]
    plans = expected.plans(first.corpus, first.stage, first.recipe) or {}
    paths = {plan.path for plan in plans.values()}
    return [header for header in group if header.path in paths], paths


def _failures(current: list[ShardHeader], workspace: Workspace) -> tuple[FailedClip, ...]:
    """Return what failed, once for the stage it failed in, and the clips that met a crash."""
    found = {}
    for header in current:
        for one in header.failures:
            if one.error == LEFT_OUT:
                continue
            # Later stages inherit the failure: their settings matter only where nothing else
            # tells of it.
            if header.stage == one.stage or (one.clip_id, one.stage) not in found:
                found[one.clip_id, one.stage] = FailedClip(
                    one.clip_id, one.stage, settings_text(header.recipe), one.error, one.message
                )
    crashed = [
        FailedClip(str(one["clip_id"]), "", "", str(one.get("error")), str(one.get("message")))
        for one in read_failures(workspace.failures)
        if one.get("stage") is None and "clip_id" in one
    ]
    return (*(found[key] for key in sorted(found)), *crashed)


def _left_out_notes(current: list[ShardHeader]) -> list[str]:
    """Say how many clips lack a result by choice, since a key frame of theirs is not annotated."""
    counts = Counter(
        (header.corpus, header.stage, settings_text(header.recipe))
        for header in current
        for one in header.failures
        if one.error == LEFT_OUT
    )
    return [
        f"{corpus}: {stage} ({settings}) leaves out {count} clip{'' if count == 1 else 's'} by "
        "choice: a key frame is not annotated"
        for (corpus, stage, settings), count in sorted(counts.items())
    ]


def _group_state(group: list[ShardHeader], expected: _Expectations) -> ResultState:
    first = group[0]
    current, paths = _current(group, expected)
    present = {header.path for header in current}
    return ResultState(
        corpus=first.corpus,
        stage=first.stage,
        settings=settings_text(first.recipe),
        clips_done=sum(len(header.clips) for header in current),
        clips_failed=sum(one.error != LEFT_OUT for header in current for one in header.failures),
        shards=len(current),
        stale=len(group) - len(current),
        missing=len(paths - present),
        bytes=sum(header.path.stat().st_size for header in group),
    )


def unneeded(workspace: Workspace) -> list[Unneeded]:
    """Return the files of the cache that no manifest leads to, and leftovers of killed runs.

    What a link in the cache leads to elsewhere is not among them.
    """
    cache = Cache(workspace.cache)
    expected = _Expectations(workspace)
    found = []
    for path in cache.shards():
        try:
            expected.headers[path] = read_header(path)
        except ShardError:
            continue  # damaged: `verify` names it, the next run replaces it
    for path, header in expected.headers.items():
        reason = _shard_unneeded(header, expected)
        if reason:
            found.append(Unneeded(path, reason, path.stat().st_size))
    for path in cache.parts():
        reason = _part_unneeded(path, expected)
        if reason:
            found.append(Unneeded(path, reason, path.stat().st_size))
    for path in cache.leftovers():
        found.append(Unneeded(path, "unfinished file of a killed run", path.stat().st_size))
    for path in cache.dead_locks():
        found.append(Unneeded(path, "lock of a killed run", path.stat().st_size))
    return [one for one in found if cache.holds(one.path)]


def _shard_unneeded(header: ShardHeader, expected: _Expectations) -> str:
    if header.corpus not in expected.corpora:
        return "its corpus is not imported"
    plans = expected.plans(header.corpus, header.stage, header.recipe)
    if plans is None:
        return ""  # made by another version of mer-prep, which may still need it
    plan = plans.get(header.subject)
    if plan is None:
        return "its subject is no longer in the manifest"
    if plan.path == header.path:
        return ""
    if any(clip.source_digest == UNREADABLE for clip in plan.clips):
        return ""  # the sources are out of reach, so nothing can be said about their results
    if not plan.cached and any(
        header.clips.get(clip_id) == key for clip_id, key in plan.keys.items()
    ):
        return ""  # the next run takes clips from it
    return "superseded: frames, key frames, clips, libraries or stage version have changed"


def _part_unneeded(path: Path, expected: _Expectations) -> str:
    try:
        stage, clip_id, clip_key, recipe = read_part_header(path)
    except ShardError:
        return "damaged part"
    plan = expected.plan_of(clip_id, stage, recipe)
    if plan is not None and plan.keys[clip_id] == clip_key and not plan.cached:
        return ""
    return "part of a run that nothing leads to any more"


def results_of_clip(workspace: Workspace, clip: Clip) -> list[dict[str, Any]]:
    """Return the shards that hold a clip: stage, settings, path, and whether they are current."""
    cache = Cache(workspace.cache)
    expected = _Expectations(workspace, subject=clip.subject)
    found = []
    for stage in all_stages():
        for header in cache.headers(stage, clip.corpus, clip.subject):
            if clip.clip_id not in header.clips:
                continue
            plans = expected.plans(clip.corpus, stage, header.recipe) or {}
            plan = plans.get(clip.subject)
            found.append(
                {
                    "stage": stage,
                    "settings": settings_text(header.recipe),
                    "settings_key": settings_key(header.recipe),
                    "current": plan is not None and plan.path == header.path,
                    "path": header.path,
                }
            )
    return found


def apex_errors(plans: Sequence[SubjectPlan]) -> dict[str, dict[str, int]]:
    """Return the errors of the apices that a run has found or that were there.

    Parameters
    ----------
    plans : sequence of SubjectPlan
        The plan of the run; shards that are not there give nothing.

    Returns
    -------
    dict of str to dict of str to int
        ``apex_error`` in frames by corpus and clip id, of clips with an annotated apex; see
        `mer_prep.stages.apex.annotation_errors`.
    """
    errors: dict[str, dict[str, int]] = {}
    for plan in plans:
        shard = plan.shards["apex"]
        if not shard.path.is_file():
            continue
        header = read_header(shard.path)
        for clip_id in header.clips:
            error = read_clip(shard.path, clip_id, [])[1].get("apex_error")
            if error is not None:
                errors.setdefault(plan.corpus, {})[clip_id] = int(error)
    return errors


def describe_shard(path: Path) -> dict[str, Any]:
    """Return everything a shard says: root attributes, and datasets and facts of every clip."""
    header = read_header(path)
    clips: dict[str, Any] = {}
    for clip_id in header.clips:
        with open_clip(path, clip_id) as (arrays, attributes):
            clips[clip_id] = {
                "attributes": attributes,
                "datasets": {name: _describe(array) for name, array in arrays.items()},
            }
    return {
        "stage": header.stage,
        "stage_version": header.stage_version,
        "corpus": header.corpus,
        "subject": header.subject,
        "key": header.key,
        "created": header.created,
        "params": canonical_json(header.params),
        "recipe": header.recipe,
        "libraries": canonical_json(header.libraries),
        "restricted": header.restricted,
        "synthetic": header.synthetic,
        "clips": clips,
        "failures": [dataclasses.asdict(failure) for failure in header.failures],
    }


def _describe(array: StoredArray) -> dict[str, Any]:
    about = array.attributes()
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        **{name: str(about.get(name, "")) for name in ("axes", "units", "channels")},
    }
