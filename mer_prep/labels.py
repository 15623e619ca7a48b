"""Label maps: from the emotions of a corpus to the classes of an evaluation, as data.

A map is a file ``manifests/labels/<name>.toml``: its classes in order (the label is the index),
for every corpus the class of each emotion, clips left out by name with the reason, and the counts
and the digest that the result must have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep.checks import suggest
from mer_prep.config import read_toml
from mer_prep.errors import ConfigError
from mer_prep.manifest import Clip
from mer_prep.resources import data_file, data_names


@dataclass(frozen=True)
class Drop:
    """A clip left out by name; with `emotion`, only where it is annotated so."""

    subject: str
    clip: str
    reason: str
    emotion: str | None = None


@dataclass(frozen=True)
class Expected:
    """What a label map must give: clips by class, number of subjects, digest of the list."""

    classes: Mapping[str, int]
    subjects: int
    sha256: str | None = None

    @property
    def clips(self) -> int:
        """Number of clips over all classes."""
        return sum(self.classes.values())


@dataclass(frozen=True)
class CorpusLabels:
    """The part of a label map that concerns one corpus.

    Parameters
    ----------
    emotions : mapping of str to str
        Class by normalised emotion; emotions that are not named are left out.
    drop : tuple of Drop
        Clips left out by name.
    variant : str, optional
        Form of the corpus that the map is for.
    expected : Expected, optional
        What the whole corpus must give.
    """

    emotions: Mapping[str, str]
    drop: tuple[Drop, ...] = ()
    variant: str | None = None
    expected: Expected | None = None


@dataclass(frozen=True)
class LabelMap:
    """A label map.

    Parameters
    ----------
    name : str
        Name of its file.
    title, source, reference, note : str
        What it is and where it comes from.
    classes : tuple of str
        Class names; a label is an index into them.
    corpora : mapping of str to CorpusLabels
        By corpus.
    expected : Expected, optional
        What all corpora together must give.
    """

    name: str
    title: str
    source: str
    reference: str
    note: str
    classes: tuple[str, ...]
    corpora: Mapping[str, CorpusLabels]
    expected: Expected | None = None

    def label(self, clip: Clip) -> tuple[int | None, str]:
        """Return (label, ""), or (None, why the clip is left out)."""
        part = self.corpora[clip.corpus]
        for drop in part.drop:
            named = (drop.subject, drop.clip) == (clip.subject, clip.clip)
            if named and drop.emotion in (None, clip.emotion):
                return None, drop.reason
        if clip.emotion is None or clip.emotion not in part.emotions:
            return None, f"emotion '{clip.emotion or 'unlabelled'}' has no class"
        return self.classes.index(part.emotions[clip.emotion]), ""


def label_map_names() -> list[str]:
    """Return the names of the label maps."""
    return data_names("manifests", "labels")


def read_label_map(name: str) -> LabelMap:
    """Read a label map by name, or from a TOML file of the same form.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file does not have the form.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        known = label_map_names()
        if name not in known:
            raise ConfigError(
                f"There is no label map '{name}'.{suggest(name, known)}",
                hint=f"label maps: {', '.join(known)}; or give the path of a .toml file",
            )
        path = data_file("manifests", "labels", f"{name}.toml")
    try:
        return _label_map(path.stem, read_toml(path))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"The label map lacks or misspells {error}.", where=path) from None


def _label_map(name: str, data: Mapping[str, Any]) -> LabelMap:
    classes = tuple(data["classes"])
    corpora = {corpus: _corpus_labels(part, classes) for corpus, part in data["corpora"].items()}
    return LabelMap(
        name=name,
        title=data["title"],
        source=data["source"],
        reference=data.get("reference", ""),
        note=data.get("note", ""),
        classes=classes,
        corpora=corpora,
        expected=_expected(data.get("expected"), classes),
    )


def _corpus_labels(part: Mapping[str, Any], classes: tuple[str, ...]) -> CorpusLabels:
    emotions = dict(part["emotions"])
    for emotion, name in emotions.items():
        if name not in classes:
            raise ValueError(f"class '{name}' of emotion '{emotion}'")
    return CorpusLabels(
        emotions=emotions,
        drop=tuple(Drop(**entry) for entry in part.get("drop", ())),
        variant=part.get("variant"),
        expected=_expected(part.get("expected"), classes),
    )


def _expected(part: Mapping[str, Any] | None, classes: tuple[str, ...]) -> Expected | None:
    if part is None:
        return None
    if set(part["classes"]) != set(classes):
        raise ValueError(f"the expected classes {sorted(part['classes'])}")
    return Expected(dict(part["classes"]), part["subjects"], part.get("sha256"))
