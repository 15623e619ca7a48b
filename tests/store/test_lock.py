from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mer_prep.errors import LockedError
from mer_prep.store.lock import Lock, current_owner, is_dead, process_start


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
