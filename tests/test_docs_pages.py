"""The committed pages are those that the label maps give, and their links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mer_prep.docs_leaderboard import leaderboard_pages
from mer_prep.docs_pages import FOLDS_EXAMPLE, label_pages, protocol_pages, write_pages
from mer_prep.docs_reference import reference_pages
from mer_prep.labels import label_map_names
from mer_prep.protocols import PROTOCOLS, Fold, FrozenFolds, Protocol, write_folds
from mer_prep.stages import all_stages
from mer_prep.training.cards import MODELS

DOCS = Path(__file__).parent.parent / "docs"


def test_the_committed_pages_are_up_to_date() -> None:
    for name, made in (("labels", label_pages()), ("protocols", protocol_pages())):
        committed = {path.name: path.read_text("utf-8") for path in DOCS.glob(f"{name}/*.md")}
        assert committed == made, "run `python -m mer_prep.docs_pages`"
    for name, text in reference_pages().items():
        assert (DOCS / "reference" / name).read_text("utf-8") == text
    for name, text in leaderboard_pages(DOCS / "models").items():
        assert (DOCS / "models" / name).read_text("utf-8") == text


def test_the_page_of_the_stages_has_every_parameter() -> None:
    page = reference_pages()["stages.md"]
    for kind in all_stages().values():
        for field in dataclasses.fields(kind.Params):
            assert f"| `{kind.name}.{field.name}` |" in page
    assert "| `flow` | float32 | pair channel y x | u v | px |" in page


def test_there_is_a_page_of_every_protocol() -> None:
    assert set(protocol_pages()) == {"README.md", *(f"{name}.md" for name in PROTOCOLS)}
    page = protocol_pages()["cross-corpus.md"]
    assert "mer-prep composite --protocol cross-corpus --train-on casme2 --test-on smic" in page


def test_there_is_a_page_of_every_map() -> None:
    assert set(label_pages()) == {"README.md", *(f"{name}.md" for name in label_map_names())}
    page = label_pages()["survey-4.md"]
    assert "| 3 | surprise | 112 | 112 |" in page
    assert "mer-prep import casme_sq FOLDER --label self-report" in page
    assert "| class | made of | version A | version B or B+1 |" in page


def test_there_is_a_page_of_every_model() -> None:
    contents = (DOCS / "README.md").read_text("utf-8")
    for name, card in MODELS.items():
        page = (DOCS / "models" / f"{name}.md").read_text("utf-8")
        assert f"\nmodels/{name}\n" in contents
        assert f"](models/{name}.md)" in contents
        assert f"--model {name}" in page
        assert f"mer-prep models {name}" in page
        assert "SYNTHETIC" in page
        found = re.findall(r"doi:\S+\w|arXiv:\S+\w", card.reference)
        assert found
        assert all(one in page for one in found), name


def test_a_page_of_a_map_that_is_no_more_is_removed(tmp_path: Path) -> None:
    old = tmp_path / "old.md"
    old.write_text("old")
    assert {path.name for path in write_pages(tmp_path, label_pages())} == set(label_pages())
    assert not old.exists()


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=str)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_the_folds_can_be_read_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folds = (Fold("a", ("1", "2"), ("3",)), Fold("b", ("1",), ("2",)))
    write_folds(tmp_path / "folds.json", FrozenFolds(Protocol("loso"), "x", "0", folds))
    monkeypatch.chdir(tmp_path)
    found: list[tuple[str, list[str], set[str]]] = []
    exec(FOLDS_EXAMPLE + "    found.append((fold['name'], train, test))\n", {"found": found})
    assert found == [("a", ["1", "2"], {"3"}), ("b", ["1"], {"2"})]
