"""The runner with real worker processes: killed, interrupted, on Dask, two at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner, RunSummary
from mer_prep.store.cache import Cache
from mer_prep.store.shard import check_shard, read_header
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
    assert {one.returncode for one in runs} <= {0, 4}, outputs
    assert any(one.returncode == 0 for one in runs), outputs
    for one, output in zip(runs, outputs, strict=True):
        if one.returncode == 4:
            assert "Another run is writing this shard" in output
    cache = Cache(workspace.cache)
    assert sorted(len(read_header(path).clips) for path in cache.shards("flow")) == [4, 4]
    for path in cache.shards():
        check_shard(path)
