"""Subjects in progress: their locks, what is left to do for their clips, and publication."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import LockedError, ShardError
from mer_prep.stages.plan import Recipe, ShardPlan, SubjectPlan, existing_shard, shard_header
from mer_prep.stages.worker import ClipWork
from mer_prep.store import files
from mer_prep.store.cache import Cache
from mer_prep.store.key import shard_key
from mer_prep.store.lock import Lock
from mer_prep.store.shard import Failure, check_clip, check_shard, merge
from mer_prep.store.verified import Verified


@dataclass
class Subject:
    """A subject in progress.

    Parameters
    ----------
    plan : SubjectPlan
        Its plan.
    missing : list of ShardPlan
        The shards to be made.
    locks : ExitStack
        Gives the locks back when it is closed.
    held : list of Lock
        The locks.
    found_failures : list of Failure
        Quarantined clips of shards that another run has made since the plan.
    awaited : set of str
        Clips whose reports are still to come.
    files : dict
        By stage and clip id, the file that holds the result.
    failures : dict
        By stage and clip id, why the clip is quarantined.
    """

    plan: SubjectPlan
    missing: list[ShardPlan]
    locks: ExitStack
    held: list[Lock]
    found_failures: list[Failure]
    awaited: set[str]
    files: dict[str, dict[str, Path]]
    failures: dict[str, dict[str, Failure]]


class Subjects:
    """Begins and publishes the subjects of a run.

    Parameters
    ----------
    cache : Cache
        Where the shards lie.
    recipe : Recipe
        The stages.
    verified : Verified
        The shards that were read back.
    say : callable
        Called with sentences for the user.
    """

    def __init__(
        self, cache: Cache, recipe: Recipe, verified: Verified, say: Callable[[str], None]
    ) -> None:
        self._cache = cache
        self._recipe = recipe
        self._facts = {name: recipe.facts(name) for name in recipe.stages}
        self._verified = verified
        self._say = say

    def tidy(self, plan: SubjectPlan) -> None:
        """Clear away what a run that ended early left behind of shards that it had published."""
        for shard in plan.shards.values():
            lock = Lock(shard.path, self._say)
            if not (shard.cached and (lock.path.exists() or self._has_parts(shard))):
                continue
            try:
                with lock:
                    files.discard_unfinished(shard.path)
                    for key in shard.keys.values():
                        files.discard_all_of(self._cache.part(shard.stage, key))
            except (LockedError, OSError):
                continue  # another run is at it, or nothing can be written here

    def _has_parts(self, shard: ShardPlan) -> bool:
        return any(self._cache.part(shard.stage, key).exists() for key in shard.keys.values())

    def begin(self, plan: SubjectPlan) -> Subject:
        """Take the locks of a subject's missing shards, then look again what is missing.

        Raises
        ------
        LockedError
            If another run is writing one of them; none is held then.
        """
        missing, held = [], []
        found_failures: list[Failure] = []
        headers = {name: shard.header for name, shard in plan.shards.items()}
        with ExitStack() as stack:
            for shard in self._to_make(plan):
                held.append(stack.enter_context(Lock(shard.path, self._say)))
                header, _ = existing_shard(shard, self._verified)
                if shard.cached or shard.reason == "forced" or header is None:
                    missing.append(shard)
                    headers[shard.stage] = None
                else:  # another run has made it meanwhile
                    headers[shard.stage] = header
                    found_failures += header.failures
            locks = stack.pop_all()
        return Subject(
            plan=plan,
            missing=missing,
            locks=locks,
            held=held,
            found_failures=found_failures,
            awaited={clip.clip_id for clip in plan.clips},
            files={
                name: self._intact(shard.reusable)
                if headers[name] is None
                else {clip.clip_id: shard.path for clip in plan.clips}
                for name, shard in plan.shards.items()
            },
            failures={
                name: {failure.clip_id: failure for failure in header.failures} if header else {}
                for name, header in headers.items()
            },
        )

    def _to_make(self, plan: SubjectPlan) -> list[ShardPlan]:
        """Return the missing shards, and those that these need and that turn out damaged."""
        found: list[ShardPlan] = []
        needed: set[str] = set()
        for shard in reversed(list(plan.shards.values())):
            if shard.cached and not (shard.stage in needed and self._is_damaged(shard.path)):
                continue
            found.append(shard)
            needed.update(self._recipe.stages[shard.stage].requires)
        return found[::-1]

    def _is_damaged(self, path: Path) -> bool:
        try:
            check_shard(path)
        except ShardError as error:
            self._say(f"made again, since it is damaged: {path} ({error.what})")
            return True
        return False

    def _intact(self, reusable: Mapping[str, Path]) -> dict[str, Path]:
        """Return those of the reusable results that can be read."""
        intact = {}
        for clip_id, path in reusable.items():
            try:
                check_clip(path, clip_id)
            except ShardError as error:
                self._say(f"not reused, since it is damaged: {path} ({error.what})")
            else:
                intact[clip_id] = path
        return intact

    def works(self, subject: Subject, *, marker: Path) -> Iterator[ClipWork]:
        """Yield the work of the clips that have something missing.

        Parameters
        ----------
        subject : Subject
            The subject.
        marker : Path
            Folder where a worker notes which clip it has in hand.
        """
        plan = subject.plan
        for clip in plan.clips:
            clip_id = clip.clip_id
            targets = {
                shard.stage: self._cache.part(shard.stage, shard.keys[clip_id])
                for shard in subject.missing
                if clip_id not in subject.files[shard.stage]
            }
            if not targets:
                continue
            yield ClipWork(
                clip=clip,
                source=self._recipe.source,
                stages={name: stage.params for name, stage in self._recipe.stages.items()},
                recipes=self._facts,
                keys={name: shard.keys[clip_id] for name, shard in plan.shards.items()},
                targets=targets,
                available={
                    name: paths[clip_id]
                    for name, paths in subject.files.items()
                    if clip_id in paths and clip_id not in subject.failures[name]
                },
                failed={
                    name: failures[clip_id]
                    for name, failures in subject.failures.items()
                    if clip_id in failures
                },
                marker=marker,
                parent=os.getpid(),
            )

    def _publish_one(
        self,
        shard: ShardPlan,
        target: Path,
        key: str,
        paths: Mapping[str, Path],
        failures: Sequence[Failure],
    ) -> int:
        """Publish a shard and return 1, or 0 if it is there already."""
        with ExitStack() as stack:
            if target != shard.path:
                # Clips to be tried again are left out: this is another shard than the one planned,
                # with a lock of its own, and an earlier run may have published it.
                stack.enter_context(Lock(target, self._say))
                if shard.reason != "forced" and _is_whole(target, key, paths):
                    return 0
            merge(target, shard_header(shard, self._recipe), key, paths, failures)
        self._verified.note(target)
        return 1

    def publish(self, subject: Subject) -> int:
        """Gather a subject's parts into its shards, leaving out clips to be tried again.

        Its locks are given back, whatever happens.

        Returns
        -------
        int
            Shards published.
        """
        published = 0
        try:
            for shard in subject.missing:
                paths = {
                    clip_id: path
                    for clip_id, path in subject.files[shard.stage].items()
                    if clip_id in shard.keys and clip_id not in subject.failures[shard.stage]
                }
                failures = list(subject.failures[shard.stage].values())
                settled = {*paths, *(failure.clip_id for failure in failures)}
                if not settled:
                    continue
                keys = {clip_id: key for clip_id, key in shard.keys.items() if clip_id in settled}
                key = shard_key(shard.stage, keys)
                target = self._cache.shard(shard.stage, key, shard.corpus, shard.subject)
                try:
                    published += self._publish_one(shard, target, key, paths, failures)
                except LockedError:
                    continue  # another run is making this very shard
                for path in paths.values():
                    if path.parent.name == ".parts":
                        files.discard_all_of(path)
        finally:
            subject.locks.close()
        return published


def _is_whole(target: Path, key: str, clips: Mapping[str, Path]) -> bool:
    try:
        check_shard(target, clips=set(clips), key=key)
    except ShardError:
        return False
    return True
