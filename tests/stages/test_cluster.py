"""Runs on a Dask cluster: a scheduler and workers in processes of their own, on the loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest

from mer_prep.errors import DependencyError
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages.summary import RunSummary
from mer_prep.store.cache import Cache
from mer_prep.store.readback import check_shard
from mer_prep.workspace import Workspace
from tests.conftest import MakeClip, store_manifest
from tests.toys import TOYS, process_toy_clip

pytest.importorskip("distributed")
pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]

#: What a worker runs before it starts, to be kept from a folder as if it were not there.
KEPT_OUT = """
import os, sys
import h5py

def refuse(event, arguments):
    if event in ("open", "os.mkdir", "os.rename") and str(arguments[0]).startswith(FOLDER):
        raise FileNotFoundError(2, "no such file", str(arguments[0]))

sys.addaudithook(refuse)
def guarded(self, name, *args, original=h5py.File.__init__, **options):
    refuse("memory" if options.get("driver") == "core" else "open", (name,))
    original(self, name, *args, **options)

def blind(path, *args, original=os.stat, **options):
    refuse("open", (path,))
    return original(path, *args, **options)

h5py.File.__init__ = guarded
os.stat = blind
"""

#: What a worker with another h5py runs before it starts.
OTHER_H5PY = """
import importlib.metadata

def version(name, original=importlib.metadata.version):
    return "1.2.3" if name == "h5py" else original(name)

importlib.metadata.version = version
"""

StartWorker = Callable[..., subprocess.Popen[bytes]]


def start(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, arguments)],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=20)


@contextmanager
def running_scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    facts = folder / "scheduler.json"
    options = ("--host", "127.0.0.1", "--port", 0, "--no-dashboard", "--scheduler-file", facts)
    process = start(folder, "distributed.cli.dask_scheduler", *options)
    try:
        # It is there before anything stands in it.
        until(lambda: facts.exists() and facts.read_text(), process, folder)
        yield json.loads(facts.read_text())["address"], process
    finally:
        end(process)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a scheduler and return its address."""
    with running_scheduler(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


def until(condition: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


@pytest.fixture
def start_worker(scheduler: str, tmp_path: Path) -> Iterator[StartWorker]:
    """Return a function that starts a worker in a folder of its own and waits for it."""
    started: list[subprocess.Popen[bytes]] = []

    def make(preload: str = "", *, address: str = scheduler) -> subprocess.Popen[bytes]:
        folder = tmp_path / f"worker{len(started)}"
        folder.mkdir()
        options = ["--nthreads", 1, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        if preload:
            (folder / "preload.py").write_text(preload)
            options += ["--preload", folder / "preload.py"]
        process = start(folder, "distributed.cli.dask_worker", address, *options)
        started.append(process)
        log = folder / "log"
        until(lambda: "Starting established connection" in log.read_text(), process, folder)
        return process

    yield make
    for process in started:
        end(process)


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer_prep.stages.runner.process_clip", process_toy_clip)


@pytest.fixture
def many(workspace: Workspace, toy_clip: MakeClip) -> Workspace:
    """Return a workspace with 2 subjects of 5 clips."""
    store_manifest(
        workspace,
        [
            toy_clip(f"EP{k:02d}_01", subject=f"sub{s:02d}", shade=40 + 10 * k + s)
            for s in range(2)
            for k in range(5)
        ],
    )
    return workspace


@pytest.fixture
def local(many: Workspace, tmp_path: Path) -> Workspace:
    """Return a workspace of the same clips that was made on this machine."""
    other = Workspace(tmp_path / "local")
    store_manifest(other, many.clips("toy"))
    run(other)
    return other


def run(
    workspace: Workspace, scheduler: str | None = None, *wanted: str, **options: object
) -> RunSummary:
    recipe = Recipe(*build_stages(TOYS, wanted or ("change",), {"means": options.pop("means", {})}))
    if scheduler is not None:
        options |= {"engine": "dask", "scheduler": scheduler}
    plans = make_plan(workspace, ["toy"], recipe)
    return Runner(workspace, recipe, **options).run(plans)


def contents(path: Path) -> dict[str, object]:
    """Return everything in a shard but the moment it was made."""
    found: dict[str, object] = {}

    def note(name: str, node: h5py.Group | h5py.Dataset) -> None:
        found.update({f"{name}@{key}": str(value) for key, value in node.attrs.items()})
        if isinstance(node, h5py.Dataset):
            found[name] = (str(node.dtype), node.chunks, node[...].tobytes())

    with h5py.File(path) as file:
        note("", file)
        file.visititems(note)
    assert found.pop("@created")
    return found


def shards(workspace: Workspace) -> dict[str, dict[str, object]]:
    return {
        path.relative_to(workspace.cache).as_posix(): contents(path)
        for path in Cache(workspace.cache).shards()
    }


def assert_tidy(workspace: Workspace) -> None:
    cache = Cache(workspace.cache)
    assert (cache.parts(), cache.locks(), cache.leftovers()) == ([], [], [])
    for path in cache.shards():
        check_shard(path)


def test_two_workers_make_what_this_machine_makes(
    scheduler: str, start_worker: StartWorker, many: Workspace, local: Workspace
) -> None:
    start_worker()
    start_worker()
    said: list[str] = []
    summary = run(many, scheduler, say=said.append)
    assert (len(summary.computed), summary.published, said) == (10, 4, [])
    assert shards(many) == shards(local)
    assert_tidy(many)


@pytest.mark.parametrize("address", ["the option", "the environment"])
def test_a_killed_worker_costs_nothing(
    scheduler: str,
    start_worker: StartWorker,
    many: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    address: str,
) -> None:
    workers = [start_worker(), start_worker()]
    if address == "the environment":
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", scheduler)
    said: list[str] = []

    def kill_one(done: int, total: int) -> None:
        if done == 3:
            end(workers[0])

    recipe = Recipe(*build_stages(TOYS, ("change",), {"means": {"pause": 0.3}}))
    summary = Runner(
        many,
        recipe,
        engine="dask",
        scheduler=scheduler if address == "the option" else None,
        progress=kill_one,
        say=said.append,
    ).run(make_plan(many, ["toy"], recipe))
    assert workers[0].returncode == -signal.SIGKILL
    assert (len(summary.computed), summary.quarantined, summary.published) == (10, set(), 4)
    (line,) = said
    assert "is gone with toy/sub0" in line
    assert_tidy(many)


def test_a_clip_that_kills_its_worker_alone_is_given_up(
    scheduler: str, start_worker: StartWorker, many: Workspace
) -> None:
    store_manifest(many, many.clips("toy")[:5])
    for _ in range(3):
        start_worker()
    said: list[str] = []
    summary = run(many, scheduler, means={"kill": "EP03_01"}, say=said.append)
    assert summary.quarantined == {"toy/sub00/EP03_01"}
    assert summary.crashes[0].crash == "WorkerKilled: two workers died with it in hand"
    assert len(summary.computed) == 4
    gone = [line for line in said if "is gone with" in line]
    assert ["toy/sub00/EP03_01" in line for line in gone] == [True, True]
    assert "is gone with toy/sub00/EP03_01 in hand" in gone[1]
    assert_tidy(many)


def test_the_second_run_takes_up_what_a_cluster_without_workers_left(
    scheduler: str, start_worker: StartWorker, many: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mer_prep.stages.cluster._PATIENCE", 1.0)
    worker = start_worker()

    def kill(done: int, total: int) -> None:
        if done == 7:
            end(worker)

    with pytest.raises(DependencyError, match="has had no worker for 1 s"):
        run(many, scheduler, means={"pause": 0.05}, progress=kill)
    assert Cache(many.cache).locks() == []
    kept = 5 + len(Cache(many.cache).parts()) // 2
    assert kept in (7, 8)
    start_worker()
    summary = run(many, scheduler, means={"pause": 0.05})
    assert (summary.cached, len(summary.computed)) == (kept, 10 - kept)
    assert_tidy(many)


def test_a_worker_without_the_workspace_sends_its_results_back(
    scheduler: str, start_worker: StartWorker, many: Workspace, local: Workspace
) -> None:
    start_worker(KEPT_OUT.replace("FOLDER", repr(str(many.root))))
    said: list[str] = []
    run(many, scheduler, "means", say=said.append)
    (line,) = said
    assert "does not see the workspace; its results are sent back" in line
    summary = run(many, scheduler, say=said.append)  # its inputs are in the workspace
    assert (len(summary.computed), summary.published, summary.decoded) == (10, 2, 0)
    assert shards(many) == shards(local)
    assert_tidy(many)


def test_a_worker_without_the_frames_is_refused_by_name(
    scheduler: str, start_worker: StartWorker, many: Workspace
) -> None:
    source = many.clips("toy")[0].root
    start_worker(KEPT_OUT.replace("FOLDER", repr(source)))
    with pytest.raises(DependencyError, match="No worker of the Dask cluster") as caught:
        run(many, scheduler)
    assert f"does not see the source frames, or others: {source}/sub00/EP00_01" in str(caught.value)
    assert "tcp://127.0.0.1:" in str(caught.value)
    assert Cache(many.cache).locks() == []


def test_a_worker_with_another_library_is_refused_and_the_other_does_all(
    scheduler: str, start_worker: StartWorker, many: Workspace
) -> None:
    start_worker(OTHER_H5PY)
    start_worker()
    said: list[str] = []
    summary = run(many, scheduler, say=said.append)
    (line,) = said
    assert f"is not used: it has h5py 1.2.3 instead of {h5py.__version__}" in line
    assert len(summary.computed) == 10


def test_workers_may_join_during_a_run(
    scheduler: str, start_worker: StartWorker, many: Workspace
) -> None:
    start_worker()
    joined: list[subprocess.Popen[bytes]] = []

    def join(done: int, total: int) -> None:
        if done == 2:
            joined.append(start_worker(KEPT_OUT.replace("FOLDER", repr(str(many.root)))))

    said: list[str] = []
    summary = run(many, scheduler, means={"pause": 0.6}, progress=join, say=said.append)
    assert len(summary.computed) == 10
    assert ["its results are sent back" in line for line in said] == [True]
    assert_tidy(many)


def test_values_that_come_back_are_those_of_the_frames(
    scheduler: str, start_worker: StartWorker, many: Workspace
) -> None:
    start_worker(KEPT_OUT.replace("FOLDER", repr(str(many.root))))
    run(many, scheduler, "means", say=lambda text: None)
    (path,) = Cache(many.cache).shards("means", "toy--sub01")
    with h5py.File(path) as file:
        means = [float(file[f"EP{k:02d}_01/mean"][0]) for k in range(5)]
    np.testing.assert_allclose(np.diff(means), 10, atol=0.5)


def test_a_scheduler_that_dies_is_an_error_by_name_and_nothing_is_lost(
    start_worker: StartWorker, many: Workspace, tmp_path: Path
) -> None:
    with running_scheduler(tmp_path / "scheduler") as (address, process):
        start_worker(address=address)

        def kill(done: int, total: int) -> None:
            if done == 6:
                end(process)

        with pytest.raises(DependencyError, match="The Dask scheduler is gone") as caught:
            run(many, address, means={"pause": 0.1}, progress=kill)
    assert address in str(caught.value)
    assert Cache(many.cache).locks() == []
    assert run(many, means={"pause": 0.1}).cached in (6, 7, 8)
    assert_tidy(many)


def test_an_unreachable_scheduler_is_an_error_within_seconds(many: Workspace) -> None:
    started = time.monotonic()
    with pytest.raises(DependencyError, match="scheduler cannot be reached") as caught:
        run(many, "tcp://127.0.0.1:9")
    assert time.monotonic() - started < 15
    assert "tcp://127.0.0.1:9" in str(caught.value)
    assert "dask scheduler" in str(caught.value)
