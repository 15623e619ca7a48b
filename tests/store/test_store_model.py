"""The store against a plain dictionary: any order of what may happen to it."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mer_prep.commands.store import gc, verify
from mer_prep.errors import LockedError, ShardError
from mer_prep.store import files
from mer_prep.store.cache import Cache
from mer_prep.store.lock import Lock, current_owner
from mer_prep.store.part import write_part
from mer_prep.store.shard import Failure, check_shard, merge, read_clip, read_header
from tests.shards import header, small_result

SUBJECTS = ("sub01", "sub02")
KEYS = tuple(hashlib.sha256(text).hexdigest() for text in (b"a", b"b", b"c"))
NAMES = ("EP01", "EP02", "EP03")

subjects = st.sampled_from(SUBJECTS)
keys = st.sampled_from(KEYS)
names = st.sets(st.sampled_from(NAMES), min_size=1)


class Store(RuleBasedStateMachine):
    """What is in the cache is what the dictionary says, and damage is never taken for it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.cache = Cache(self.folder / "cache")
        #: By path: clip ids with the seed of their values, and quarantined clip ids.
        self.published: dict[Path, tuple[dict[str, int], set[str]]] = {}
        self.bytes: dict[Path, bytes] = {}
        self.damaged: set[Path] = set()
        self.parts: dict[Path, tuple[str, int]] = {}
        self.partials: set[Path] = set()
        self.dead_locks: set[Path] = set()
        self.held: dict[Path, Lock] = {}

    def teardown(self) -> None:
        for lock in self.held.values():
            lock.release()
        shutil.rmtree(self.folder)

    def _target(self, subject: str, key: str) -> Path:
        return self.cache.shard("flow", key, "toy", subject)

    def _swept(self, target: Path) -> None:
        """Take note that a run has cleared away what was left of a shard."""
        self.dead_locks.discard(target)
        left = {path for path in self.partials if path.parent == target.parent}
        self.partials -= {path for path in left if path.name.startswith(f"{target.name}.")}

    def _part(self, clip_id: str, seed: int) -> Path:
        name = hashlib.sha256(f"{clip_id} {seed}".encode()).hexdigest()
        path = self.cache.part("flow", name)
        write_part(path, small_result(clip_id, seed), stage="flow", recipe=header().recipe)
        return path

    def _publish(self, target: Path, subject: str, key: str, clips: set[str], seed: int) -> None:
        ids = sorted(f"toy/{subject}/{name}" for name in clips)
        good, bad = (ids, []) if seed % 3 else (ids[:-1], ids[-1:])
        parts = {clip_id: self._part(clip_id, seed) for clip_id in good}
        failures = [Failure(one, "align", "NoFaceError", "No face.", "f" * 64) for one in bad]
        merge(target, replace(header(), subject=subject), key, parts, failures)
        for path in parts.values():
            path.unlink()
        self.published[target] = (dict.fromkeys(good, seed), set(bad))
        self.bytes[target] = target.read_bytes()
        self.damaged.discard(target)

    @rule(subject=subjects, key=keys, clips=names, seed=st.integers(0, 5))
    def publish(self, subject: str, key: str, clips: set[str], seed: int) -> None:
        """Publish under a key, some clips quarantined; again only what is damaged."""
        target = self._target(subject, key)
        if target in self.published and target not in self.damaged:
            return
        if target in self.held:
            with pytest.raises(LockedError, match="Another run is writing"):
                Lock(target).acquire()
            return
        with Lock(target):
            self._publish(target, subject, key, clips, seed)
        self._swept(target)

    @rule(subject=subjects, key=keys, seed=st.integers(0, 5))
    def fail_to_publish(self, subject: str, key: str, seed: int) -> None:
        """Values that are not finite are refused, and what is there stays."""
        target, clip_id = self._target(subject, key), f"toy/{subject}/EP01"
        if target in self.held:
            return
        result = small_result(clip_id, seed)
        bad = {**result.arrays, "flow": np.full((2, 2, 4, 4), np.nan, np.float32)}
        part = self.cache.part("flow", "bad")
        write_part(part, replace(result, arrays=bad), stage="flow", recipe=header().recipe)
        with pytest.raises(ShardError, match="not finite"), Lock(target):
            merge(target, replace(header(), subject=subject), key, {clip_id: part}, [])
        part.unlink()
        self._swept(target)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """Change a byte of a shard, or cut it off."""
        path = data.draw(st.sampled_from(sorted(self.published)))
        place = data.draw(st.integers(0, len(self.bytes[path]) - 1))
        changed = bytearray(self.bytes[path])
        if data.draw(st.booleans()):
            changed[place] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del changed[place:]
        path.write_bytes(changed)
        self.damaged.add(path)

    @rule(subject=subjects, key=keys)
    def lock(self, subject: str, key: str) -> None:
        """Another run takes a lock."""
        target = self._target(subject, key)
        if target not in self.held:
            self.held[target] = Lock(target)
            self.held[target].acquire()
            self.dead_locks.discard(target)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def unlock(self, data: st.DataObject) -> None:
        """It gives the lock back."""
        target = data.draw(st.sampled_from(sorted(self.held)))
        self.held.pop(target).release()

    @rule(subject=subjects, key=keys, clip=st.sampled_from(NAMES), seed=st.integers(0, 5))
    def killed(self, subject: str, key: str, clip: str, seed: int) -> None:
        """A run is killed: its lock, a part and a half-written shard stay."""
        target = self._target(subject, key)
        part = self._part(f"toy/{subject}/{clip}", seed)
        self.parts[part] = (f"toy/{subject}/{clip}", seed)
        if target in self.held:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = files.partial_path(target)
        partial.write_bytes(part.read_bytes()[: 3000 + seed])
        self.partials.add(partial)
        dead = replace(current_owner(), process_start="an earlier boot:1")
        lock = target.with_name(target.name + ".lock")
        lock.write_text(json.dumps(asdict(dead)), encoding="utf-8")
        self.dead_locks.add(target)

    @rule(yes=st.booleans())
    def collect(self, yes: bool) -> None:
        """`mer-prep gc`: no manifest leads to anything here, and only damaged shards stay."""
        done = CliRunner().invoke(
            gc,
            [*(["--yes"] if yes else []), "--workspace", str(self.folder)],
            catch_exceptions=False,
        )
        assert done.exit_code == 0, done.output
        if not yes:
            return
        self.published = {path: of for path, of in self.published.items() if path in self.damaged}
        self.parts.clear()
        self.dead_locks.clear()
        if not self.held:
            self.partials.clear()

    @rule(remove=st.booleans())
    def verify(self, remove: bool) -> None:
        """`mer-prep verify` finds the damaged shards, and removes these alone."""
        option = ["--remove-damaged"] if remove else []
        done = CliRunner().invoke(
            verify, [*option, "--workspace", str(self.folder)], catch_exceptions=False
        )
        assert done.exit_code == (1 if self.damaged else 0), done.output
        for path in self.published:
            assert (str(path) in done.output) == (path in self.damaged)
        if remove:
            for path in self.damaged:
                del self.published[path]
            self.damaged.clear()

    @invariant()
    def holds_what_was_published(self) -> None:
        """Every shard is there and gives its values, or is known for damaged."""
        assert set(self.cache.shards()) == set(self.published)
        for path, (clips, quarantined) in self.published.items():
            if path in self.damaged:
                with pytest.raises(ShardError):
                    check_shard(path)
                continue
            assert path.read_bytes() == self.bytes[path]
            found = read_header(path)
            assert set(found.clips) == set(clips)
            assert {failure.clip_id for failure in found.failures} == quarantined
            for clip_id, seed in clips.items():
                values = read_clip(path, clip_id, ["flow"])[0]["flow"]
                np.testing.assert_array_equal(values, small_result(clip_id, seed).arrays["flow"])

    @invariant()
    def knows_what_was_left(self) -> None:
        """Parts, unfinished files and locks are those that runs have left."""
        assert set(self.cache.parts()) == set(self.parts)
        for path, (clip_id, seed) in self.parts.items():
            values = read_clip(path, clip_id, ["flow"])[0]["flow"]
            np.testing.assert_array_equal(values, small_result(clip_id, seed).arrays["flow"])
        there = set(self.folder.glob("cache/**/*.partial"))
        assert there == self.partials
        assert self.cache.leftovers() == ([] if self.held else sorted(self.partials))
        locked = {path.with_name(path.name + ".lock") for path in {*self.held, *self.dead_locks}}
        assert set(self.cache.locks()) == locked


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=10,
    stateful_step_count=22,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking a failure would take minutes
    suppress_health_check=list(HealthCheck),
)
