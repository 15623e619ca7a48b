"""Label maps of one's own, and those in the documentation."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mer_prep.composite import build_composite, compose
from mer_prep.errors import ConfigError, ManifestError
from mer_prep.labels import _CORPUS_KEYS, read_label_map
from mer_prep.workspace import Workspace
from tests.conftest import MakeClip, store_manifest

DOCS = Path(__file__).parent.parent / "docs"


def test_the_example_of_the_how_to_works(toy_clip: MakeClip, tmp_path: Path) -> None:
    (example,) = re.findall(
        r"```toml\n(.*?)```", (DOCS / "how-to" / "composite.md").read_text("utf-8"), re.DOTALL
    )
    path = tmp_path / "mine.toml"
    path.write_text(example)
    clips = [
        toy_clip("a", corpus="mine", emotion="happiness"),
        toy_clip("b", corpus="mine", emotion="sadness", subject="sub02", shade=60),
        toy_clip("c", corpus="mine", emotion="others", subject="sub02"),
    ]
    made = build_composite(clips, read_label_map(str(path)))
    assert made.counts() == {"negative": 1, "positive": 1}
    assert made.left_out == {"mine/sub02/c": "emotion 'others' has no class"}
    assert len(made.folds) == 2
    assert made.findings == ()


def test_the_examples_of_the_documentation_work(tmp_path: Path) -> None:
    page = DOCS / "label-map-files.md"
    first, second = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(first + second)
    labels = read_label_map(str(path))
    assert labels.balance == "minimum"
    assert str(labels.corpora["casme2"].drop[0]) == "sub04/EP12_01f"
    assert [one.versions for one in labels.corpora["casme2"].expected] == [("A",), ("B+1",)]
    known = set(re.findall(r"^\| `(\w+)`", page.read_text("utf-8"), re.MULTILINE))
    assert known >= set(_CORPUS_KEYS)


HEAD = 'title = "x"\nsource = "y"\nclasses = ["good", "bad"]\n'
PART = '[corpora.m.emotions]\njoy = "good"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('title = "x"\nclasses = ["a"]\n[corpora.m.emotions]\njoy = "a"', "'source' is missing"),
        (HEAD, "'corpora' is missing"),
        (HEAD + "[corpora]", "names one or more corpora"),
        (
            HEAD + '[corpora.m.emotions]\njoy = "god"',
            "no class 'god'.* 'joy'.* Did you mean 'good'",
        ),
        (HEAD + PART + "rage = 3", "'rage' in emotions of .* must be text, not 3"),
        ('titel = "x"\n' + HEAD + PART, "Unknown key 'titel' .* Did you mean 'title'"),
        ('balance = "minimal"\n' + HEAD + PART, "'minimal'. Did you mean 'minimum'"),
        (HEAD + '[corpora.m]\nvariants = "HS"', "Unknown key 'variants' .* Did you mean 'variant'"),
        (HEAD + "[corpora.m]", "to emotions or to objective classes"),
        (
            HEAD + '[corpora.m.objective_classes]\n8 = "bad"',
            "'8' .* no objective class from 1 to 7",
        ),
        (
            HEAD + PART + '[corpora.m.objective_classes]\n1 = "bad"',
            "to emotions or to objective classes",
        ),
        (HEAD + PART + '[[corpora.m.drop]]\nclip = "x"', "'subject' is missing"),
        (
            HEAD + PART + '[[corpora.m.drop]]\nsubject = "x"\nreason = "y"\nemotions = "z"',
            "Did you mean 'emotion'",
        ),
        (HEAD + PART + "[corpora.m.expected]\nsubjects = 1", "'classes' is missing"),
        (HEAD + PART + "[corpora.m.expected.classes]\ngood = true", "a whole number, not True"),
        (HEAD + PART + "[corpora.m.expected.classes]\nugly = 1", "Unknown key 'ugly'"),
        (
            HEAD + PART + "[[corpora.m.expected]]\nclasses = {}",
            "annotation versions of their own",
        ),
        (
            HEAD + PART + '[expected]\nclasses = {}\nversions = ["A"]',
            "names no annotation versions",
        ),
        ('title = "x"\nsource = "y"\nclasses = ["a", "a"]\n' + PART, "each named once"),
        ("expected = 3\n" + HEAD + PART, r"\[expected\] must be a table"),
    ],
)
def test_what_is_wrong_in_a_label_map_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_label_map(str(path))
    assert caught.value.where == str(path)


def test_classes_that_are_not_counted_are_expected_to_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + PART + "[corpora.m.expected.classes]\ngood = 4")
    labels = read_label_map(str(path))
    (expected,) = labels.corpora["m"].expected
    assert expected.classes == {"good": 4, "bad": 0}
    assert (expected.subjects, labels.total()) == (None, dataclasses.replace(expected))


def test_a_clip_left_out_that_is_not_there_is_said(toy_clip: MakeClip, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    drops = "".join(
        f'[[corpora.m.drop]]\nsubject = "{subject}"\nclip = "{name}"\nreason = "r"\n'
        for subject, name in (("sub01", "a"), ("1", "a"), ("sub01", "a@7"))
    )
    path.write_text(HEAD + PART + drops)
    clips = [
        toy_clip("a", corpus="m", emotion="joy"),
        toy_clip("b", corpus="m", emotion="joy", subject="sub02", shade=60),
        toy_clip("c", corpus="m", emotion="joy", subject="sub03", shade=90),
    ]
    made = build_composite(clips, read_label_map(str(path)))
    assert set(made.left_out) == {"m/sub01/a"}
    said = [one.message for one in made.findings if one.code == "drop-idle"]
    assert len(said) == 2
    assert "'1/a'" in said[0]
    assert "'sub01/a@7'" in said[1]


def test_a_corpus_of_a_map_that_nobody_knows_is_said(toy_clip: MakeClip, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "ws")
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + PART + PART.replace("corpora.m", "corpora.casme22"))
    clips = [
        toy_clip("a", corpus="m", emotion="joy"),
        toy_clip("b", corpus="m", emotion="joy", subject="sub02", shade=60),
    ]
    store_manifest(workspace, clips, "m")
    made = compose(workspace, (), str(path))
    (said,) = [one for one in made.findings if one.code == "corpus-unknown"]
    assert "names corpus 'casme22', which no importer reads" in said.message
    assert said.message.endswith("Did you mean 'casme2'?")
    path.write_text(HEAD + PART + PART.replace("corpora.m", "corpora.casme2"))
    assert "corpus-unknown" not in {one.code for one in compose(workspace, (), str(path)).findings}
    path.write_text(HEAD + PART.replace("corpora.m", "corpora.mm"))
    with pytest.raises(ManifestError, match="names corpus 'mm', which no importer reads"):
        compose(workspace, (), str(path))


def test_a_map_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes('title = "Größe"'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_label_map(str(path))
