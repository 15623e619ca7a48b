from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mer_prep.errors import LockedError
from mer_prep.store import disk
from mer_prep.store.lock import Lock, Watch, current_owner, is_dead, process_start, read_owner


def write(path: Path, **changes: object) -> Path:
    lock = path.with_name(path.name + ".lock")
    owner = dataclasses.replace(current_owner(), **changes)
    lock.write_text(json.dumps(dataclasses.asdict(owner)))
    return lock


def test_a_lock_excludes_and_is_given_back(tmp_path: Path) -> None:
    target = tmp_path / "shard.h5"
    with Lock(target), pytest.raises(LockedError, match="Another run is writing") as caught:
        Lock(target).acquire()
    assert f"process {os.getpid()}" in str(caught.value)
    assert caught.value.exit_code == 4
    with Lock(target):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_removed_and_reported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    write(tmp_path / "shard.h5", pid=int(done.stdout), process_start="before")
    said: list[str] = []
    with Lock(tmp_path / "shard.h5", said.append):
        assert json.loads((tmp_path / "shard.h5.lock").read_text())["pid"] == os.getpid()
    assert "no longer lives" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_id_does_not_keep_a_lock(tmp_path: Path) -> None:
    write(tmp_path / "shard.h5", process_start="an earlier boot:12345")
    with Lock(tmp_path / "shard.h5"):
        pass


def test_a_lock_of_another_host_is_believed(tmp_path: Path) -> None:
    write(tmp_path / "shard.h5", host="elsewhere", pid=1, process_start="x")
    with pytest.raises(LockedError, match="on elsewhere"):
        Lock(tmp_path / "shard.h5").acquire()


def test_an_unreadable_lock_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "shard.h5.lock").write_text("")
    with pytest.raises(LockedError, match="empty or unreadable"):
        Lock(tmp_path / "shard.h5").acquire()


def test_a_live_process_is_not_dead() -> None:
    assert not is_dead(current_owner())
    assert process_start(os.getpid()) == current_owner().process_start


def test_a_finished_child_is_dead_even_before_it_is_waited_for() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None
    child.stdout.close()
    child.wait()


def test_a_watch_sees_live_processes_of_this_host_but_not_itself(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lock = write(tmp_path / "a.h5", pid=other.pid, process_start=process_start(other.pid))
        own = write(tmp_path / "b.h5")
        dead = write(tmp_path / "c.h5", process_start="an earlier boot:1")
        alive = Watch().alive([lock, own, dead, tmp_path / "gone.lock"])
        other.communicate(b"\n")
    assert [one.pid for one in alive] == [other.pid]
    assert Watch().alive([lock]) == set()


def test_a_run_on_another_host_lives_as_long_as_it_touches_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("mer_prep.store.lock.time.monotonic", lambda: now[0])
    lock = write(tmp_path / "a.h5", host="elsewhere", process_start="x")
    watch = Watch(silence=60)
    seen = []
    for moment, touched in ((0, False), (50, True), (105, False), (111, False), (112, True)):
        now[0] = moment
        if touched:
            os.utime(lock, ns=(moment, moment))  # by a clock that is decades behind
        seen.append(bool(watch.alive([lock])))
    assert seen == [True, True, True, False, True]


def test_touching_a_lock_changes_its_time_only(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "shard.h5")
    lock.touch()
    assert not lock.path.exists()
    with lock:
        before = lock.path.read_text()
        os.utime(lock.path, ns=(1, 1))
        lock.touch()
        assert lock.path.stat().st_mtime_ns > 1
        assert lock.path.read_text() == before


def test_a_full_disk_leaves_no_lock_without_an_owner(tmp_path: Path) -> None:
    def refuse(call: disk.Call) -> None:
        if call.name == "write":
            raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "shard.h5"
    with disk.observed(refuse), pytest.raises(OSError, match="No space"):
        Lock(target).acquire()
    assert list(tmp_path.iterdir()) == []
    with Lock(target):
        assert read_owner(tmp_path / "shard.h5.lock").pid == os.getpid()
