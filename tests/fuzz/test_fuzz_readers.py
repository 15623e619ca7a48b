"""Every reader stands broken documents; what once got the better of one is tried each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine import fuzz
from tests.fuzz.readers import READERS


@pytest.mark.parametrize("name", READERS)
def test_reader_stands_broken_documents(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    if not reader.can_run():
        pytest.skip(f"needs {', '.join(reader.needs)}")
    (tmp_path / "example").mkdir()
    found = fuzz(reader, folder=tmp_path / "example")
    again = f"python -m tests.fuzz {name} --replay {found.culprit}"
    assert not found.problem, f"{found.problem}\n\nagain: {again}"
    assert found.tried >= reader.examples // 2
