from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import pytest

from mer_prep.stages.scratch import scratch_folder
from mer_prep.store.lock import current_owner


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by(folder: Path, **changes: object) -> Path:
    (folder / "scratch").mkdir(parents=True)
    (folder / "scratch" / "1234").write_text("toy/sub01/EP01_01")
    owner = dataclasses.replace(current_owner(), **changes)
    (folder / "owner.json").write_text(json.dumps(dataclasses.asdict(owner)))
    return folder


def test_a_scratch_folder_is_empty_and_goes_with_the_run(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert list(folder.iterdir()) == []
        (folder / "note").write_text("x")
    assert list(temporary.iterdir()) == []


def test_folders_of_killed_runs_are_removed_and_no_others(temporary: Path) -> None:
    killed = left_by(temporary / "mer-prep-killed", process_start="an earlier boot:1")
    live = left_by(temporary / "mer-prep-live")
    elsewhere = left_by(temporary / "mer-prep-far", host="elsewhere", process_start="x")
    foreign = temporary / "mer-prep-notes"
    foreign.mkdir()
    target = left_by(temporary / "kept", process_start="an earlier boot:1")
    (temporary / "mer-prep-link").symlink_to(target)
    with scratch_folder():
        pass
    assert not killed.exists()
    assert all(one.exists() for one in (live, elsewhere, foreign, target))
