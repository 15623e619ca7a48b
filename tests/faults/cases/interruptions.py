"""Runs that are killed, lose a worker, or are interrupted."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mer_prep.manifest_files import read_manifest
from mer_prep.store import disk
from mer_prep.store.disk import Call, observed
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.faults.catalogue import Tries, fault, instead, nothing, program
from tests.faults.toy_program import Toy, clips_in_hand, toy, worker_ids

#: Moments at which a run is likeliest to lose something: name of the change, end of its path, and
#: how many such changes there are before.
MOMENTS = (
    ("link", ".lock", 1),  # one lock is held
    ("write", ".partial", 3),  # in the middle of a part
    ("replace", ".h5", 0),  # a part is written and not there yet
    ("write", "--sub00.h5.", 1),  # in the middle of a shard
    ("replace", "--sub00.h5", 0),  # a shard is written and not there yet
    ("remove", ".h5", 0),  # a shard is there, and its parts still are
    ("remove", ".lock", 0),  # a shard is there, and its lock still is
    ("remove", ".lock", 2),
)


@dataclass
class At:
    """An observer of the disk that does something in the middle of a chosen change.

    Parameters
    ----------
    act : callable
        What is done.
    moment : tuple or int
        One of `MOMENTS`, or the number of the change.
    half : bool
        Whether the first half of a write is done before.
    """

    act: Callable[[], None]
    moment: tuple[str, str, int] | int
    half: bool = False
    calls: int = 0
    seen: int = field(default=0)

    def __call__(self, call: Call) -> None:
        self.calls += 1
        if isinstance(self.moment, int):
            if self.calls != self.moment:
                return
        else:
            name, part, before = self.moment
            if call.name != name or part not in call.path.name:
                return
            self.seen += 1
            if self.seen != before + 1:
                return
        if self.half and call.file is not None and call.data is not None:
            io.FileIO.write(call.file, call.data[: len(call.data) // 2])
        self.act()


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    """Press Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_twice() -> None:
    """Press Ctrl-C twice."""
    interrupt()
    interrupt()


@dataclass(frozen=True)
class Uninterrupted:
    """What a run makes that nothing disturbs, to be compared with."""

    result: object

    def taken_up(self, one: Toy, kept: dict[str, bytes]) -> str:
        """See that a run ended early lost nothing and that the next completes it; its stderr."""
        assert one.result().items() <= self.result.items(), "something half made is visible"
        said = one.run("--wait", 0)
        assert kept.items() <= one.bytes().items(), "what was published has changed"
        assert one.result() == self.result, "another result than without the interruption"
        assert one.leftovers() == [], (one.leftovers(), said.err, said.out)
        return said.err


def uninterrupted(tries: Tries, **options: int) -> Uninterrupted:
    """Run without being disturbed."""
    whole = toy(tries.fresh(), **options)
    whole.run()
    return Uninterrupted(whole.result())


@fault(
    1,
    "a run killed at a chosen moment (kill -9)",
    without={
        "names of their own for unfinished files": instead(
            "mer_prep.store.files.partial_path", lambda target: target
        ),
        "telling dead runs from live ones": instead(
            "mer_prep.store.lock.is_dead", lambda owner: False
        ),
        "clearing away what killed writers left": instead(
            "mer_prep.store.files.discard_unfinished", nothing
        ),
        "taking up what is left beside published shards": instead(
            "mer_prep.stages.subjects.Subjects.tidy", nothing
        ),
    },
)
def killed_at_a_moment(tries: Tries) -> None:
    whole = uninterrupted(tries, subjects=2, clips=1)
    for moment in tries.of((*MOMENTS, *range(1, 120)), quick=len(MOMENTS)):
        one = toy(tries.fresh(), subjects=2, clips=1)
        with observed(At(die, moment, half=True)):
            if one.run("--wait", 0, code=None).code == 0:
                assert isinstance(moment, int), f"there is no such moment: {moment}"
                break
        locked = any(name.endswith(".lock") for name in one.leftovers())
        said = whole.taken_up(one, one.bytes())
        assert ("removed the lock of a run that no longer lives (process" in said) == locked, said


@fault(
    1,
    "a run killed at any time with two workers (kill -9)",
    without={
        "telling dead runs from live ones": instead(
            "mer_prep.store.lock.is_dead", lambda owner: False
        ),
    },
)
def killed_at_random(tries: Tries) -> None:
    whole = uninterrupted(tries, subjects=3, clips=2)
    for seed in tries.of(range(8), quick=1):
        one = toy(tries.fresh(), subjects=3, clips=2)
        with one.running(jobs=2) as run:
            assert run.wait_until(one.cache.locks)
            assert run.wait_until(one.cache.parts)
            time.sleep(random.Random(seed).uniform(0, 0.1) if seed else 0)
            workers = worker_ids(run.pid)
            run.signal(signal.SIGKILL)
            run.end()
            assert workers
            _end_workers(run.pid)
        whole.taken_up(one, one.bytes())


def _has_begun(one: Toy) -> bool:
    return bool(clips_in_hand(one) or one.cache.parts())


def _end_workers(parent: int) -> None:
    """Wait for workers to follow their parent; one that had not begun may never hear of its end."""
    deadline = time.monotonic() + 10
    while worker_ids(parent) and time.monotonic() < deadline:
        time.sleep(0.02)
    for worker in worker_ids(parent):
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    until(lambda: not worker_ids(parent))


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@fault(
    2,
    "a clip that kills its worker whenever it is tried",
    without={
        "knowing a worker's death": instead("mer_prep.stages.runner.worker_deaths", tuple),
        "trying alone what was in hand": instead(
            "mer_prep.stages.runner.Runner._after_death",
            lambda self, death: (self._handed.clear(), self._say("a worker process was killed")),
        ),
    },
)
def deadly_clip(tries: Tries) -> None:
    for _ in tries.of(["EP01_01"]):
        one = toy(tries.fresh(), subjects=2, clips=3)
        pipeline = one.folder / "toys.toml"
        pipeline.write_text(pipeline.read_text() + '[means]\nkill = "EP01_01"\n')
        said = one.run(jobs=2, code=3)
        assert "a worker process was killed (often: out of memory; try fewer --jobs)" in said.err
        lost = [f"toy/sub{subject:02d}/EP01_01" for subject in range(2)]
        assert all(clip in said.err for clip in lost)
        facts = json.loads(said.out)
        assert (facts["quarantined"], facts["done"], facts["not_done"]) == (lost, 4, 0)
        kept = one.bytes()
        assert len(kept) == 4
        assert one.leftovers() == []
        again = json.loads(one.run(jobs=2, code=3).out)
        assert (again["quarantined"], again["cached"], again["done"]) == (lost, 4, 0)
        assert kept.items() <= one.bytes().items()


@fault(
    2,
    "a worker killed from outside (kill -9)",
    without={
        "knowing a worker's death": instead("mer_prep.stages.runner.worker_deaths", tuple),
    },
)
def killed_worker(tries: Tries) -> None:
    for _ in tries.of(range(4), quick=1):
        one = toy(tries.fresh(), subjects=2, clips=2)
        pipeline = one.folder / "toys.toml"
        pipeline.write_text(pipeline.read_text() + "[means]\npause = 0.2\n")
        with one.running(jobs=2) as run:
            assert run.wait_until(partial(clips_in_hand, one)), run.err()
            held = clips_in_hand(one)
            os.kill(next(iter(held)), signal.SIGKILL)
            said = run.end()
        assert "a worker process was killed" in said.err
        assert any(clip in said.err for clip in held.values())
        # What only one of them had in hand is given up; what several had is tried again.
        given_up = json.loads(said.out)["quarantined"]
        assert said.code == (3 if given_up else 0)
        assert set(given_up) <= set(held.values())
        again = json.loads(one.run().out)
        assert (again["done"], again["cached"]) == (len(given_up), 4 - len(given_up))
        assert one.leftovers() == []


@fault(
    3,
    "Ctrl-C, once",
    without={
        "ending after the clips in hand": instead(
            "mer_prep.stages.runner.Runner._interruptible", lambda self: nullcontext()
        ),
    },
)
def interrupted_once(tries: Tries) -> None:
    whole = uninterrupted(tries, subjects=2, clips=1)
    for moment in tries.of((*MOMENTS, *range(1, 120)), quick=4):
        one = toy(tries.fresh(), subjects=2, clips=1)
        with observed(At(interrupt, moment)):
            said = one.run(code=None)
        if said.code == 0:
            assert isinstance(moment, int), f"there is no such moment: {moment}"
            break
        assert said.code == 130, said
        if "stopped at once" not in said.err:
            assert "stopping after the clips in hand; press Ctrl-C again" in said.err
            assert "the same command goes on where this one ended" in said.err
            assert json.loads(said.out)["quarantined"] == []
        else:
            # Before or after the work there is nothing to be finished.
            assert isinstance(moment, int), said
        assert [name for name in one.leftovers() if "/.parts/" not in name] == []
        whole.taken_up(one, one.bytes())


@fault(
    3,
    "Ctrl-C, twice",
    without={
        "names of their own for unfinished files": instead(
            "mer_prep.store.files.partial_path", lambda target: target
        ),
        "never raising within the HDF5 library": instead(
            "mer_prep.stages.runner.hold_back", lambda error, frame: False
        ),
    },
)
def interrupted_twice(tries: Tries) -> None:
    whole = uninterrupted(tries, subjects=2, clips=1)
    writes = [("write", "--sub00.h5.", before) for before in range(2, 8)]
    moments = [*MOMENTS, *writes] if tries.quick else [*MOMENTS, *range(1, 120)]
    for moment in tries.of(moments, quick=len(moments)):
        one = toy(tries.fresh(), subjects=2, clips=1)
        with observed(At(interrupt_twice, moment)):
            said = one.run(code=None)
        if said.code == 0:
            assert isinstance(moment, int), f"there is no such moment: {moment}"
            break
        assert said.code == 130, said
        assert "stopped at once; what was published is whole" in said.err, (moment, said)
        whole.taken_up(one, one.bytes())


@fault(
    3,
    "Ctrl-C at a terminal with two workers, once and twice",
    without={
        "ending after the clips in hand": instead(
            "mer_prep.stages.runner.Runner._interruptible", lambda self: nullcontext()
        ),
    },
)
def interrupted_workers(tries: Tries) -> None:
    whole = uninterrupted(tries, subjects=3, clips=2)
    for seed in tries.of(range(8), quick=1):
        one = toy(tries.fresh(), subjects=3, clips=2)
        with one.running(jobs=2) as run:
            assert run.wait_until(partial(_has_begun, one))
            time.sleep(random.Random(seed).uniform(0, 0.05) if seed else 0)
            run.signal(signal.SIGINT, group=True)
            if seed % 2:
                run.wait_until(lambda: "stopping after the clips in hand" in run.err())
                run.signal(signal.SIGINT, group=True)
            said = run.end(130)
        if not seed % 2:
            assert "stopping after the clips in hand" in said.err
            assert json.loads(said.out)["quarantined"] == []
        whole.taken_up(one, one.bytes())


def _write_in_place(path: Path, text: str) -> None:
    disk.write_text(path, text)


@fault(
    1,
    "an import killed at every change of the disk (kill -9)",
    without={
        "replacing a manifest as a whole": instead(
            "mer_prep.manifest_files.write_atomic", _write_in_place
        ),
        "clearing away what killed writers left": instead(
            "mer_prep.store.text.process_start", lambda pid: "alive"
        ),
    },
)
def killed_import(tries: Tries) -> None:
    source = tries.fresh()
    for number in range(6):
        for frame in (1, 2):
            name = f"s{number % 2}/clip{number}/img{frame}.png"
            write_frame(source / name, 40 + 20 * frame + number)
    words = ("import", "clips", source, "--name", "own", "-w")
    whole = tries.fresh()
    program(*words, whole, code=0)
    after = _manifests(whole)
    for number in tries.of(range(1, 16), quick=8):
        root = tries.fresh()
        with observed(At(die, number, half=True)):
            if program(*words, root).code == 0:
                assert number > 5
                break
        manifest = root / "manifests" / "own.jsonl"
        if manifest.exists():
            assert len(read_manifest(manifest)) == 6
        program(*words, root, code=0)
        assert _manifests(root) == after
        assert len(Workspace(root).clips("own")) == 6
        assert not [path for path in root.rglob("*") if path.suffix == ".partial"]


def _manifests(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "manifests").glob("*.jsonl")}
