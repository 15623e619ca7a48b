"""Several runs on one cache, process ids that are used again, and clocks that jump."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from mer_prep.errors import LockedError
from mer_prep.store.disk import observed
from mer_prep.store.lock import Lock, Owner, Watch, current_owner, is_dead, read_owner
from tests.faults.catalogue import Tries, fault, forked, instead, nothing, refused, run_program
from tests.faults.toy_program import Toy, toy, toys


def _write_lock(target: Path, **changes: object) -> Path:
    """Leave the lock of a made-up owner beside a file."""
    owner = dataclasses.replace(current_owner(), **changes)
    path = target.with_name(f"{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    return path


def _sleeper() -> int:
    """Start a process that does nothing for a while."""
    return forked(lambda: time.sleep(60) or 0)


def _end(process: int) -> None:
    os.kill(process, 9)
    os.waitpid(process, 0)


@fault(
    24,
    "two runs that want the same shard",
    without={"locks": instead("mer_prep.store.lock.Lock.acquire", nothing)},
)
def held_by_another(tries: Tries) -> None:
    whole = toy(tries.fresh())
    whole.run()
    other = _sleeper()
    try:
        for shard in tries.of(whole.cache.shards(), quick=2):
            one = toy(tries.fresh())
            held = one.root / shard.relative_to(whole.root)
            start = _process_start(other)
            lock = _write_lock(
                held, pid=other, process_start=start, command="mer-prep x", since="noon"
            )
            before = lock.read_bytes()
            said = one.run("--wait", 0, code=4)
            host = current_owner().host
            assert f"process {other} on {host}, since noon: mer-prep x" in said.err
            assert "what to do: wait for it" in said.err
            assert lock.read_bytes() == before
            # The other subject is done all the same, and the rest once the lock is given back.
            facts = json.loads(said.out)
            assert (facts["done"], facts["not_done"]) == (2, 2)
            with one.running() as run:
                assert run.wait_until(lambda: f"another run: process {other}" in run.err())
                lock.unlink()
                assert json.loads(run.end(0).out)["done"] == 2
            assert one.result() == whole.result()
            assert one.leftovers() == []
    finally:
        _end(other)


def _process_start(pid: int) -> str:
    from mer_prep.store.lock import process_start

    start = process_start(pid)
    assert start is not None
    return start


class _Steps:
    """The program in a forked process that stops before every change of the disk.

    It also stops where it looks whether other runs live, which is how it waits.
    """

    def __init__(self, one: Toy, options: tuple[object, ...], folder: Path) -> None:
        folder.mkdir()
        self.out, self.err = folder / "out", folder / "err"
        self._asks, asking = os.pipe()
        answering, self._answers = os.pipe()

        def step(*_: object) -> None:
            os.write(asking, b".")
            os.read(answering, 1)

        alive = Watch.alive

        def look(watch: Watch, locks: object) -> set[Owner]:
            step()
            return alive(watch, locks)

        def work() -> int:
            with (
                observed(lambda call: step(call)),
                mock.patch.object(Watch, "alive", look),
                mock.patch("mer_prep.stages.runner._LOOK", 0.0),
            ):
                return run_program([str(word) for word in one.words(*options)], self.out, self.err)

        with toys(one.folder / "tmp"):
            self.pid = forked(work)
        os.close(asking)
        os.close(answering)
        self.steps = 0

    def ready(self) -> bool:
        """Wait for its next stop and return True, or False if it has ended."""
        return os.read(self._asks, 1) == b"."

    def go(self) -> None:
        """Let it make one change."""
        self.steps += 1
        os.write(self._answers, b".")

    def end(self) -> int:
        """Return its exit code."""
        os.close(self._asks)
        os.close(self._answers)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _interleave(runs: list[_Steps], seed: int) -> None:
    """Let runs make their changes in an order that only the seed decides."""
    rng = random.Random(seed)
    switch = rng.choice((0.02, 0.1, 0.5))
    waiting = [run for run in runs if run.ready()]
    current = rng.choice(waiting)
    while waiting:
        if current not in waiting or rng.random() < switch:
            current = rng.choice(waiting)
        current.go()
        assert current.steps < 5000, "it waits for ever"
        if not current.ready():
            waiting.remove(current)


@fault(
    24,
    "two runs whose changes of the disk are interleaved",
    without={
        "locks": instead("mer_prep.store.lock.Lock.acquire", nothing),
        "looking again once the lock is held": instead(
            "mer_prep.stages.subjects.existing_shard", lambda *_: (None, "")
        ),
    },
)
def interleaved(tries: Tries) -> None:
    whole = toy(tries.fresh(), clips=1)
    whole.run()
    for seed in tries.of(range(40), quick=5):
        one = toy(tries.fresh(), clips=1)
        if seed % 2:  # both find the locks of a run that no longer lives
            for shard in whole.cache.shards():
                _write_lock(one.root / shard.relative_to(whole.root), process_start="gone:1")
        runs = [_Steps(one, (), one.folder / name) for name in ("first", "second")]
        _interleave(runs, seed)
        codes = [run.end() for run in runs]
        assert codes == [0, 0], [run.err.read_text() for run in runs]
        done = sum(json.loads(run.out.read_text())["done"] for run in runs)
        assert done == 2, f"seed {seed}: {done} clips were computed, not 2"
        assert one.result() == whole.result()
        assert one.leftovers() == []


@fault(
    24,
    "two runs at once with other settings, and on other subjects",
    without={
        "settings in the keys": instead("mer_prep.stages.plan.key_values", lambda params: {}),
    },
)
def side_by_side(tries: Tries) -> None:
    choices = [("--set", "means.gain=2"), ("--set", "change.power=2"), ("--shard", "1/2")]
    others = [("--set", "means.gain=3"), (), ("--shard", "2/2")]
    seeds = range(6)
    for seed, number in tries.of(itertools.product(seeds, range(3)), quick=3):
        alone = toy(tries.fresh(), clips=1)
        for options in (choices[number], others[number]):
            alone.run(*options)
        one = toy(tries.fresh(), clips=1)
        options = (choices[number], others[number])
        runs = [_Steps(one, words, one.folder / f"{k}") for k, words in enumerate(options)]
        _interleave(runs, seed)
        assert [run.end() for run in runs] == [0, 0], [run.err.read_text() for run in runs]
        assert one.result() == alone.result()
        assert len(one.cache.shards()) == (4 if number == 2 else 6 if number == 1 else 8)
        assert one.leftovers() == []


@fault(
    30,
    "a lock whose process id was given to another process",
    without={
        "the start of the process": instead(
            "mer_prep.store.lock.is_dead",
            lambda owner: not Path(f"/proc/{owner.pid}").exists(),
        ),
    },
)
def process_id_used_again(tries: Tries) -> None:
    pids = {1, os.getpid(), os.getppid()}
    earlier = ["another boot:1", f"{_process_start(os.getpid()).split(':')[0]}:1", "unknown"]
    for pid, start in tries.of(itertools.product(sorted(pids), earlier), quick=9):
        target = tries.fresh() / "shard.h5"
        _write_lock(target, pid=pid, process_start=start, command="flow")
        said: list[str] = []
        with Lock(target, said.append):
            mine = read_owner(target.with_name("shard.h5.lock"))
            assert mine is not None
            assert (mine.pid, mine.process_start) == (os.getpid(), _process_start(os.getpid()))
        assert len(said) == 1
        assert f"no longer lives (process {pid} on {current_owner().host}" in said[0]
        assert list(target.parent.iterdir()) == []
    # What cannot be known from here is believed: another host, another container.
    for changes in tries.of([{"host": "elsewhere"}, {"namespace": "pid:[1]"}], quick=2):
        target = tries.fresh() / "shard.h5"
        lock = _write_lock(target, process_start="x", **changes)
        with refused(LockedError, "Another run is writing"):
            Lock(target).acquire()
        assert lock.exists()


@contextmanager
def _clock(offsets: Iterator[float]) -> Iterator[None]:
    """Let the clock of the wall jump at every look at it."""
    real, real_ns = time.time, time.time_ns
    with (
        mock.patch("time.time", side_effect=lambda: real() + next(offsets)),
        mock.patch("time.time_ns", side_effect=lambda: real_ns() + int(next(offsets) * 1e9)),
    ):
        yield


_CLOCKS: Mapping[str, Callable[[], Iterator[float]]] = {
    "an hour behind": lambda: itertools.repeat(-3600.0),
    "a day ahead": lambda: itertools.repeat(86400.0),
    "jumping": lambda: itertools.cycle((0.0, -3600.0, 7200.0)),
    "running backwards": lambda: itertools.count(0.0, -60.0),
    "of 1970": lambda: itertools.repeat(-time.time() + 10),
}


@fault(
    29,
    "clocks that jump, and files of the future",
    without={
        "judging a lock by its process, not by its age": instead(
            "mer_prep.store.lock.is_dead",
            lambda owner: is_dead(owner) or owner.since < "2000",
        ),
        "looking at more of a file than its time": instead(
            "mer_prep.sources.index.stat_signature",
            lambda clip: str([os.stat(Path(clip.root, one)).st_mtime for one in clip.frames]),
        ),
    },
)
def jumping_clocks(tries: Tries) -> None:
    whole = toy(tries.fresh(), clips=1)
    whole.run()
    for name, shift in tries.of(itertools.product(_CLOCKS, (10**6, -(10**6))), quick=4):
        one = toy(tries.fresh(), clips=1)
        now = time.time()
        frames = sorted((one.folder / "source").rglob("*.png"))
        for path in frames:
            os.utime(path, (now + shift, now + shift))
        with _clock(_CLOCKS[name]()):
            one.run()
            assert one.result() == whole.result()
            kept = one.bytes()
            cached = json.loads(one.run().out)
            assert (cached["done"], cached["cached"]) == (0, 2)
            assert one.bytes() == kept
            # A frame whose bytes change is seen, whatever time the file claims to have.
            time.sleep(0.01)
            frames[0].write_bytes(frames[-1].read_bytes())
            os.utime(frames[0], (now + shift, now + shift))
            changed = json.loads(one.run().out)
            assert (changed["done"], changed["cached"]) == (1, 1)
            _believes_live_owners(one, tries)


def _believes_live_owners(one: Toy, tries: Tries) -> None:
    """See that a live process keeps its lock whatever time is written in it."""
    for since in ("1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"):
        target = tries.fresh() / "shard.h5"
        lock = _write_lock(target, since=since)
        for moment in (1, 2**32):
            os.utime(lock, (moment, moment))
            with refused(LockedError, since):
                Lock(target).acquire()
