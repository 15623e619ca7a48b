"""Label maps of one's own, and the one in the README."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mer_prep.composite import build_composite
from mer_prep.errors import ConfigError
from mer_prep.labels import label_map_names, read_label_map
from tests.conftest import MakeClip

README = Path(__file__).parent.parent / "README.md"


def test_the_example_of_the_readme_works(toy_clip: MakeClip, tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(example)
    clips = [
        toy_clip("a", corpus="mine", emotion="happiness"),
        toy_clip("b", corpus="mine", emotion="sadness", subject="sub02"),
        toy_clip("c", corpus="mine", emotion="others", subject="sub02"),
    ]
    made = build_composite(clips, read_label_map(str(path)))
    assert made.counts() == {"negative": 1, "positive": 1}
    assert made.left_out == {"mine/sub02/c": "emotion 'others' has no class"}
    assert len(made.folds) == 2
    assert made.findings == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('title = "x"\nclasses = ["a"]\n[corpora.m.emotions]\njoy = "a"', "source"),
        (
            'title = "x"\nsource = "y"\nclasses = ["a"]\n[corpora.m.emotions]\njoy = "b"',
            "class 'b'",
        ),
    ],
)
def test_what_a_label_map_lacks_is_named(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(change)
    with pytest.raises(ConfigError, match=message):
        read_label_map(str(path))


#: Their clips are cut at the import to lengths of one's choice, so nobody published how many.
UNCOUNTED = {"affwild2-7"}


def test_every_label_map_that_is_shipped_states_its_source_and_counts() -> None:
    for name in label_map_names():
        labels = read_label_map(name)
        assert labels.source
        if name in UNCOUNTED:
            continue
        assert labels.expected is not None
        parts = [part.expected for part in labels.corpora.values()]
        assert all(part is not None for part in parts)
        for one in labels.classes:
            total = sum(dataclasses.asdict(part)["classes"][one] for part in parts if part)
            assert total == labels.expected.classes[one]
