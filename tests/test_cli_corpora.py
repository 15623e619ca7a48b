"""The commands that make and read corpora, one corpus like another."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.commands.corpora import _print_findings
from mer_prep.commands.synthesis import _SYNTHETIC
from mer_prep.errors import MerPrepError
from mer_prep.manifest import Finding
from mer_prep.sources.corpus import SOURCES
from mer_prep.synth.layouts import LAYOUTS, PlannedClip
from mer_prep.workspace import Workspace
from tests.command_line import call

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def call(*arguments: str) -> Result:
        result = CliRunner().invoke(cli, arguments)
        if isinstance(result.exception, MerPrepError):
            raise result.exception
        return result

    return call


def test_every_corpus_is_named_in_the_help_and_can_be_made(run: Run) -> None:
    assert set(_SYNTHETIC) == set(LAYOUTS)
    assert set(LAYOUTS) <= set(SOURCES)
    for command, names in (("import", SOURCES), ("synth", LAYOUTS)):
        words = set(re.findall(r"[\w^()]+", run(command, "--help").output))
        assert set(names) <= words


def test_choices_of_a_corpus_are_taken_and_recorded(run: Run, tmp_path: Path) -> None:
    run("synth", "casme_sq", "--out", str(tmp_path), "--subjects", "1", "--clips", "4")
    workspace = ("--workspace", str(tmp_path / "ws"))
    chosen = ("--expressions", "micro", "--label", "self-report", "--missing-offset", "mirror")
    result = run("import", "casme_sq", str(tmp_path / "CASME_SQ"), *chosen, *workspace)
    assert result.exit_code == 0
    assert "label: self-report" in result.output
    assert "3 clips of 1 subject: happiness 1, surprise 1, disgust 1" in result.output
    assert "1 macro-expressions are left out" in result.output
    record = Workspace(tmp_path / "ws").record("casme_sq")
    assert record.options == {
        "missing-offset": "mirror",
        "label": "self-report",
        "expressions": "micro",
    }
    with pytest.raises(MerPrepError, match="leaves no choice of 'label'"):
        run("import", "casme2", str(tmp_path), "--label", "estimated", *workspace)


def test_optional_errata_are_applied_by_name(run: Run, tmp_path: Path) -> None:
    clip = PlannedClip(216, "d", "disgust", "4", 8, 60, 20, 24, 30)
    root = tmp_path / "casme3"
    layout = LAYOUTS["casme3"]
    layout.write_annotations(root, [dataclasses.replace(clip, onset=3647)])
    for number in layout.numbers(clip, "part-a"):
        path = root / layout.frame_path(clip, number, "part-a")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    workspace = ("--workspace", str(tmp_path / "ws"))
    name = "casme3-216-d-onset"
    for options, applied in (
        ((), ()),
        (("--with-erratum", name), (f"{name}@1",)),
        (("--with-erratum", "all"), (f"{name}@1",)),
        (("--with-erratum", "all", "--without-erratum", name), ()),
        (("--no-errata", "--with-erratum", name), (f"{name}@1",)),
    ):
        run("import", "casme3", str(root), *options, *workspace)
        assert Workspace(tmp_path / "ws").record("casme3").errata == applied
    with pytest.raises(MerPrepError, match="Did you mean 'casme3-216-d-onset'"):
        run("import", "casme3", str(root), "--with-erratum", "casme3-216-d", *workspace)


def test_lengths_of_clips_in_the_wild(run: Run, tmp_path: Path) -> None:
    run("synth", "affwild2", "--out", str(tmp_path), "--subjects", "1", "--clips", "1")
    workspace = ("--workspace", str(tmp_path / "ws"))
    lengths = ("--min-frames", "3", "--max-frames", "9")
    result = run("import", "affwild2", str(tmp_path / "AffWild2"), *lengths, *workspace)
    assert result.exit_code == 0
    clips = Workspace(tmp_path / "ws").clips("affwild2")
    assert {clip.emotion for clip in clips} == {"neutral", "happiness"}
    assert {len(clip.frames) for clip in clips} <= set(range(3, 10))
    assert Workspace(tmp_path / "ws").record("affwild2").options == {
        "min-frames": "3",
        "max-frames": "9",
    }


def test_equal_findings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    short = [Finding("warning", "clip-short", "Too short.", f"casme2/sub01/{n}") for n in range(5)]
    other = Finding("error", "onset-missing", "No onset.", "casme2/sub01/x", "row 7")
    note = Finding("info", "note", "All is well.")
    _print_findings([*short, note, other])
    assert capsys.readouterr().out.splitlines() == [
        "  error [onset-missing] casme2/sub01/x · row 7: No onset.",
        "  warning [clip-short] casme2/sub01/0, casme2/sub01/1, casme2/sub01/2 and 2 more: "
        "Too short.",
        "  info [note] All is well.",
    ]
    _print_findings([*short, note, other], limit=1)
    assert "... and 6 more: mer-prep validate shows all" in capsys.readouterr().out


def test_every_step_says_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # The worker processes of the tests before stand in another folder.
    made = call("synth", "casme2", "--subjects", 2, "--clips", 1, "--out", "made").stderr
    assert made.splitlines()[-1] == "next: `mer-prep import casme2 made/CASME2`"
    read = call("import", "casme2", "made/CASME2").stderr
    assert "next: `mer-prep validate`, then `mer-prep flow`" in read
    elsewhere = call("import", "casme2", "made/CASME2", "-w", "other").stderr
    assert "next: `mer-prep validate -w other`, then `mer-prep flow -w other`" in elsewhere
    combined = call("composite", "--labels", "casme2-5").stderr
    assert "next: `mer-prep train --model mol --preset tiny`" in combined
    assert "next:" not in call("composite", "--labels", "casme2-5", "--json").stderr
