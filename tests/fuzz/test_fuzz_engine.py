"""The engine tells a reader that fails: by an error, by silence, by hanging, dying or prying."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from mer_prep.errors import ConfigError
from tests.fuzz import __main__ as program
from tests.fuzz import engine
from tests.fuzz.engine import Reader, Tally, fuzz
from tests.fuzz.odd import CANARY

WHOLE = b"whole"


def reader(read: Callable[[bytes, Path], object], **changes: object) -> Reader:
    def checked(folder: Path) -> None:
        document = (folder / "document").read_bytes()
        if document != WHOLE:
            read(document, folder)

    return Reader(
        "toy",
        "document",
        lambda folder: (folder / "document").write_bytes(WHOLE),
        checked,
        lambda whole: st.binary(min_size=1, max_size=6),
        **{"examples": 20, **changes},  # type: ignore[arg-type]
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tally]:
    monkeypatch.setattr(engine.tempfile, "gettempdir", lambda: str(tmp_path))

    def run(read: Callable[[bytes, Path], object], **changes: object) -> Tally:
        folder = tmp_path / f"example{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return fuzz(reader(read, **changes), folder=folder)

    return run


def refuse(document: bytes, folder: Path) -> None:
    raise ConfigError("It is broken.", where=folder / "document", hint="mend it")


def test_a_good_reader_passes(run):
    found = run(refuse)
    assert (found.problem, found.refused, found.accepted) == ("", found.tried, 0)
    assert found.tried >= 20
    assert run(lambda document, folder: None).accepted >= 20


def test_another_error_is_found_and_made_small(run):
    def read(document: bytes, folder: Path) -> None:
        if max(document) > 7:
            raise KeyError("it")

    found = run(read)
    assert "KeyError" in found.problem
    assert Path(found.culprit).read_bytes() == b"\x08"


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (ConfigError("It is broken.", where="document"), "says not what to do"),
        (ConfigError("It is broken.", hint="mend it"), "names none of"),
        (ConfigError("a" * 9999, where="document", hint="mend it"), "characters long"),
        (ConfigError("\ud800", where="document", hint="mend it"), "UnicodeEncodeError"),
    ],
)
def test_an_error_that_helps_nobody_is_found(run, error, problem):
    def read(document: bytes, folder: Path) -> None:
        raise error

    assert problem in run(read).problem


def test_what_was_once_found_is_tried_first(run):
    seen = []

    def read(document: bytes, folder: Path) -> None:
        if document == b"known whole":
            raise KeyError(document)
        seen.append(document)

    found = run(read, known=(lambda whole: b"known " + whole,))
    assert "known whole" in found.problem
    assert found.tried == 1


def test_hanging_is_found(run, monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 0.1)
    found = run(lambda document, folder: time.sleep(9), examples=1)
    assert "took more than 0.1 s" in found.problem


def test_dying_is_found_and_made_small(run):
    def read(document: bytes, folder: Path) -> None:
        if len(document) > 2:
            os.abort()

    found = run(read)
    assert "the process died (signal 6)" in found.problem
    assert len(Path(found.culprit).read_bytes()) == 3


def test_asking_for_all_memory_is_found(run):
    found = run(lambda document, folder: bytearray(400 * 2**20), memory=2**27)
    assert "MemoryError" in found.problem


def test_opening_another_file_is_found(run):
    found = run(lambda document, folder: (folder / CANARY).read_text())
    assert "opened another file" in found.problem


def test_the_program_prints_a_table_and_replays(run, tmp_path, monkeypatch, capsys):
    def read(document: bytes, folder: Path) -> None:
        if document[0] > 7:
            raise KeyError("it")

    monkeypatch.setattr(program, "READERS", {"toy": reader(read)})
    assert program.main(["--minutes", "0", "--seed", "1"]) == 1
    said = capsys.readouterr().out
    assert "1 READERS DID NOT STAND IT" in said
    culprit = said.partition("--replay ")[2].split()[0]
    assert program.main(["toy", "--replay", culprit]) == 1
    assert "KeyError" in capsys.readouterr().out
    Path(culprit).write_bytes(b"\x01")
    assert program.main(["toy", "--replay", culprit]) == 0
    assert program.main(["none"]) == 2
    monkeypatch.setattr(program, "READERS", {"toy": reader(refuse)})
    assert program.main(["--minutes", "0", "toy"]) == 0
    assert "every reader stood it" in capsys.readouterr().out
