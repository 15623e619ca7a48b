"""The commands that make and read corpora, one corpus like another."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.commands.corpora import _SYNTHETIC
from mer_prep.errors import MerPrepError
from mer_prep.sources.corpus import SOURCES
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.workspace import Workspace

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
