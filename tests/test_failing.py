"""What is advised where the operating system refuses a file or a folder."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mer_prep import cli
from mer_prep.commands.failing import what_to_do


def hint(path: str | None, *arguments: str) -> str:
    return what_to_do(OSError(errno.EACCES, "Permission denied", path), arguments)


@pytest.mark.parametrize(
    ("path", "arguments", "option"),
    [
        ("/data/out/composite.json", ("composite", "--out", "/data/out"), "--out"),
        ("/data/out/composite.json", ("composite", "--out=/data/out"), "--out"),
        ("/data/truth.csv.0123.partial", ("spotting-truth", "-o", "/data/truth.csv"), "--out"),
        ("/data", ("evaluate-spotting", "p.csv", "--log", "/data/new/x.log"), "--log"),
        ("workspace/cache/x.h5", ("flow",), "--workspace"),
        ("ws/cache/x.h5", ("flow", "-w", "ws"), "--workspace"),
        ("ws/out/x.npy", ("export", "--out", "ws/out", "--workspace", "ws"), "--out"),
        (
            "ws/cache/x.h5",
            ("export", "--out", "ws/out", "--workspace", "ws"),
            "--workspace",
        ),
    ],
)
def test_the_option_whose_path_is_refused_is_named(
    path: str, arguments: tuple[str, ...], option: str
) -> None:
    assert hint(path, *arguments) == (
        f"check the disk and its permissions, or choose another {option}"
    )


def test_a_path_of_no_option_is_named_itself() -> None:
    said = "check the disk and its permissions: /corpora/a.png"
    assert hint("/corpora/a.png", "import", "clips", "/corpora", "--name", "a") == said


def test_an_error_without_a_path_names_no_option_alone() -> None:
    assert "where results are kept (--workspace) and where files are written" in hint(None, "flow")


def test_the_environment_names_the_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_PREP_WORKSPACE", "/scratch/ws")
    assert hint("/scratch/ws/cache", "flow").endswith("choose another --workspace")
    assert hint("/elsewhere/cache", "flow").endswith("permissions: /elsewhere/cache")


def test_the_program_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    truth = tmp_path / "truth.csv"
    truth.write_text("video,onset,offset,type\na/1,1,9,micro\n")
    log = tmp_path / "file" / "x.log"
    words = ["evaluate-spotting", str(truth), "--truth", str(truth), "--log", str(log)]
    monkeypatch.setattr("sys.argv", ["mer-prep", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert "choose another --log" in said
    assert "--workspace" not in said
