"""The runner with real worker processes: killed, interrupted, on Dask, two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib.externals.loky import get_reusable_executor

from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages.summary import RunSummary
from mer_prep.store.cache import Cache
from mer_prep.store.readback import check_shard
from mer_prep.store.shard import read_header
from mer_prep.synth.corpus import write_corpus
from mer_prep.workspace import Workspace
from tests.conftest import MakeClip, store_manifest
from tests.toys import TOYS, process_toy_clip


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer_prep.stages.runner.process_clip", process_toy_clip)


@pytest.fixture
def many(workspace: Workspace, toy_clip: MakeClip) -> Workspace:
    """Return a workspace with 3 subjects of 6 clips."""
    store_manifest(
        workspace,
        [
            toy_clip(f"EP{k:02d}_01", subject=f"sub{s:02d}", shade=40 + 10 * k + s)
            for s in range(3)
            for k in range(6)
        ],
    )
    return workspace


def run(workspace: Workspace, said: list[str] | None = None, **options: object) -> RunSummary:
    settings = {"means": options.pop("means", {})}
    recipe = Recipe(*build_stages(TOYS, ("change",), settings))
    say = [].append if said is None else said.append
    runner = Runner(workspace, recipe, jobs=2, say=say, **options)
    return runner.run(make_plan(workspace, ["toy"], recipe))


def test_two_processes_do_all_the_work(many: Workspace) -> None:
    summary = run(many)
    assert (len(summary.computed), summary.published, summary.quarantined) == (18, 6, set())
    for path in Cache(many.cache).shards():
        check_shard(path)


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_clip_only(many: Workspace) -> None:
    said: list[str] = []
    summary = run(many, said, means={"kill": "EP03_01"})
    lost = {f"toy/sub{s:02d}/EP03_01" for s in range(3)}
    assert summary.quarantined == lost
    assert len(summary.computed) == 15
    assert "a worker process was killed" in said[0]
    held = set()
    for path in Cache(many.cache).shards("change"):
        held |= set(read_header(path).clips)
    assert len(held) == 15
    assert not held & lost
    assert Cache(many.cache).locks() == []


@pytest.mark.slow
def test_dask_gives_the_same_shards(many: Workspace, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    other = Workspace(tmp_path / "other")
    store_manifest(other, many.clips("toy"))
    run(many)
    summary = run(other, engine="dask")
    assert len(summary.computed) == 18
    names = [
        {path.relative_to(one.cache) for path in Cache(one.cache).shards()} for one in (many, other)
    ]
    assert names[0] == names[1]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("dlib")
    out = tmp_path_factory.mktemp("corpus")
    return write_corpus("casme2", out, subjects=2, clips=4, frames=12).root


def program(*arguments: object, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mer_prep.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def import_into(workspace: Workspace, corpus: Path) -> None:
    process = program("import", "casme2", corpus, "-w", workspace.root)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output


def wait_for_parts(cache: Cache, process: subprocess.Popen[str]) -> None:
    """Wait until the first clip is done, while others are still in hand."""
    while not cache.parts() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_run_that_ends_early_is_taken_up(corpus: Path, tmp_path: Path, how: str) -> None:
    workspace = Workspace(tmp_path / "ws")
    cache = Cache(workspace.cache)
    import_into(workspace, corpus)
    first = program("flow", "--jobs", 2, "-w", workspace.root)
    wait_for_parts(cache, first)
    if how == "interrupted":
        os.killpg(first.pid, signal.SIGINT)
        output, _ = first.communicate(timeout=60)
        assert first.returncode == 130, output
        assert "stopping after the clips in hand" in output
        assert cache.locks() == []
    else:
        os.killpg(first.pid, signal.SIGKILL)
        first.communicate(timeout=60)
        assert cache.locks() != []
    for path in cache.shards():
        check_shard(path)
    left = len(cache.parts()) + sum(len(read_header(path).clips) for path in cache.shards())
    assert left > 0
    second = program("flow", "--jobs", 2, "-w", workspace.root)
    output, _ = second.communicate(timeout=120)
    assert second.returncode == 0, output
    if how == "killed":
        assert "removed the lock of a run that no longer lives" in output
    done = [set(read_header(path).clips) for path in cache.shards("flow")]
    assert sorted(len(clips) for clips in done) == [4, 4]
    assert (cache.parts(), cache.locks()) == ([], [])


@pytest.mark.slow
def test_two_runs_at_once_share_the_work(corpus: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    import_into(workspace, corpus)
    runs = [program("flow", "--jobs", 1, "-w", workspace.root) for _ in range(2)]
    outputs = [one.communicate(timeout=120)[0] for one in runs]
    assert [one.returncode for one in runs] == [0, 0], outputs
    cache = Cache(workspace.cache)
    assert sorted(len(read_header(path).clips) for path in cache.shards("flow")) == [4, 4]
    for path in cache.shards():
        check_shard(path)


def hold_locks(workspace: Workspace, seconds: float, *, publish: bool) -> subprocess.Popen[str]:
    """Start a process that holds the locks of the toy shards for a while, as a run does."""
    code = f"""
import sys, time
from contextlib import ExitStack
from pathlib import Path
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages import worker
from mer_prep.store.lock import Lock
from mer_prep.workspace import Workspace
from tests.toys import TOYS, Change

workspace = Workspace(Path({str(workspace.root)!r}))
recipe = Recipe(*build_stages(TOYS, ("change",), {{}}))
plans = make_plan(workspace, ["toy"], recipe)
worker.all_stages = lambda: TOYS
run = Change.run

def slow(self, *arguments):
    print("busy", flush=True)
    time.sleep({seconds})
    return run(self, *arguments)

if {publish}:
    Change.run = slow
    Runner(workspace, recipe).run(plans)
else:
    with ExitStack() as stack:
        for plan in plans:
            for shard in plan.shards.values():
                stack.enter_context(Lock(shard.path))
        print("busy", flush=True)
        time.sleep({seconds})
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    return process


@pytest.fixture
def one_clip(workspace: Workspace, toy_clip: MakeClip) -> Workspace:
    store_manifest(workspace, [toy_clip()])
    return workspace


@pytest.mark.slow
@pytest.mark.parametrize("publish", [True, False])
def test_what_another_run_is_writing_is_waited_for(one_clip: Workspace, publish: bool) -> None:
    said: list[str] = []
    with hold_locks(one_clip, 2.0, publish=publish) as other:
        summary = run(one_clip, said)
    assert other.returncode == 0
    assert [line for line in said if line.startswith("waiting")] == said[:1]
    assert f"waiting up to 600 s for another run: process {other.pid} on" in said[0]
    # What it published is taken as cached; what it left undone is done here.
    found = (summary.cached, len(summary.computed), summary.locked)
    assert found == ((1, 0, []) if publish else (0, 1, []))


@pytest.mark.slow
def test_patience_has_an_end(one_clip: Workspace) -> None:
    with hold_locks(one_clip, 20.0, publish=False) as other:
        started = time.monotonic()
        summary = run(one_clip, patience=1.0)
        other.kill()
    assert 1 <= time.monotonic() - started < 15
    assert len(summary.locked) == 1
    assert summary.computed == set()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loky", "dask"])
def test_ctrl_c_does_not_reach_the_workers(many: Workspace, engine: str) -> None:
    if engine == "dask":
        pytest.importorskip("distributed")
    # Processes that joblib kept from an earlier test of this process are none of this run's.
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    held: dict[int, bool] = {}

    def look(done: int, total: int) -> None:
        held.update({pid: holds_back_sigint(pid) for pid in computing_children()})

    run(many, engine=engine, progress=look)
    assert len(held) >= 2
    assert all(held.values())


def computing_children() -> list[int]:
    """Return the ids of the worker processes below this one, not of multiprocessing's helpers."""
    parents: dict[int, int] = {}
    commands: dict[int, bytes] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            commands[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat[1])
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    leaves = below - {parents.get(pid) for pid in below} - {os.getpid()}
    return [
        pid
        for pid in leaves
        if b"python" in commands[pid] and b"resource_tracker" not in commands[pid]
    ]


def holds_back_sigint(pid: int) -> bool:
    """Return whether SIGINT has been blocked in a process, as it was when that started."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(mask, 16) >> (signal.SIGINT - 1) & 1)
