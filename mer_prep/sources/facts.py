"""What is known of a corpus: ``manifests/corpora/<corpus>.toml``, its versions and its errata."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mer_prep.checks import suggest
from mer_prep.config import read_toml
from mer_prep.errors import ConfigError
from mer_prep.manifest import Finding
from mer_prep.resources import data_file

#: Recorded where the annotation fits no known version.
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Version:
    """Published counts of one version of an annotation; None where none is published.

    Parameters
    ----------
    name : str
        Name of the version.
    clips, subjects : int, optional
        Number of clips and of subjects.
    folders : int, optional
        Number of clip folders, where a folder may hold several expressions.
    emotions, per_subject, objective_classes, expression_types : mapping of str to int
        Clips per normalised emotion, canonical subject, objective class, and micro or macro;
        empty if unknown.
    note : str
        What sets it apart.
    """

    name: str
    clips: int | None = None
    subjects: int | None = None
    folders: int | None = None
    emotions: Mapping[str, int] | None = None
    per_subject: Mapping[str, int] | None = None
    objective_classes: Mapping[str, int] | None = None
    expression_types: Mapping[str, int] | None = None
    note: str = ""


@dataclass(frozen=True)
class Tell:
    """A clip whose emotion (by version) tells versions apart on a part of the corpus."""

    subject: int
    clip: str
    emotions: Mapping[str, str]


@dataclass(frozen=True)
class Erratum:
    """A known mistake of an annotation.

    Parameters
    ----------
    name : str
        By this name it is switched on and off.
    version : int
        Raised whenever its effect changes.
    subject, clip : int, str, optional
        The clip it concerns; None if only its row is known.
    occurrence : int, optional
        Which of the clip's expressions, from 1, where a clip holds several; all of them if None.
    row, rows : int, optional
        Row of the expression, from 0, in an annotation of so many rows; any row if None.
    when : mapping of str to int
        Values the row must have for the erratum to apply; empty means always.
    optional : bool
        Whether it is applied only where it is asked for by name.
    set : mapping of str to int
        Corrected values of ``onset``, ``apex`` or ``offset``; empty if the clip is only flagged.
    reason, source : str
        What is wrong, and who says so.
    """

    name: str
    version: int
    reason: str
    source: str
    subject: int | None = None
    clip: str | None = None
    occurrence: int | None = None
    row: int | None = None
    rows: int | None = None
    optional: bool = False
    when: Mapping[str, int] = field(default_factory=dict)
    set: Mapping[str, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and version, ``name@1``, as it is recorded."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True)
class CorpusFacts:
    """Facts about a corpus.

    Parameters
    ----------
    name, title : str
        Name of the importer, and the corpus's own name.
    licence : str
        Terms in short and how to apply.
    reference, doi : str
        Publication.
    fps : mapping of str to float
        Frames per second by variant.
    emotions : tuple of str
        Normalised emotions that occur.
    versions : mapping of str to Version
        Known versions of the annotation.
    tells : tuple of Tell
        See `Tell`.
    errata : tuple of Erratum
        Known mistakes.
    names : mapping of str to mapping of str to str
        Names by which parts of the corpus refer to each other, by kind.
    """

    name: str
    title: str
    licence: str
    reference: str
    doi: str
    fps: Mapping[str, float]
    emotions: tuple[str, ...]
    versions: Mapping[str, Version]
    tells: tuple[Tell, ...]
    errata: tuple[Erratum, ...]
    names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@functools.cache
def corpus_facts(name: str) -> CorpusFacts:
    """Read the facts of a corpus."""
    facts: dict[str, Any] = read_toml(data_file("manifests", "corpora", f"{name}.toml"))
    versions = {key: Version(name=key, **entry) for key, entry in facts.pop("versions", {}).items()}
    errata = tuple(Erratum(**entry) for entry in facts.pop("errata", ()))
    return CorpusFacts(
        name=name,
        versions=versions,
        errata=errata,
        tells=tuple(Tell(**entry) for entry in facts.pop("tells", ())),
        emotions=tuple(facts.pop("emotions")),
        **facts,
    )


def chosen_errata(facts: CorpusFacts, errata: bool | Collection[str]) -> tuple[Erratum, ...]:
    """Return the errata to apply: all but the optional ones, none, or those named.

    Raises
    ------
    ConfigError
        For a name that is not an erratum of the corpus.
    """
    if isinstance(errata, bool):
        return tuple(one for one in facts.errata if errata and not one.optional)
    names = [erratum.name for erratum in facts.errata]
    for name in errata:
        if name not in names:
            raise ConfigError(
                f"{facts.title} has no erratum '{name}'.{suggest(name, names)}",
                hint=f"errata: {', '.join(names) or 'none'}",
            )
    return tuple(erratum for erratum in facts.errata if erratum.name in errata)


def recognise_version(
    facts: CorpusFacts, labels: Sequence[tuple[int, str, str]], *, types: Sequence[str] = ()
) -> tuple[str, list[Finding]]:
    """Recognise the version of an annotation by its content.

    The counts of a full annotation decide: of its emotions, else of its micro- and
    macro-expressions, else of its rows, whichever is published. In a part of an annotation the
    clips decide that the versions label differently.

    Parameters
    ----------
    facts : CorpusFacts
        The corpus.
    labels : sequence of (int, str, str)
        Subject, clip and normalised emotion of every row, before any erratum.
    types : sequence of str
        ``micro`` or ``macro`` for every row, where the annotation says so.

    Returns
    -------
    version : str
        Name of the version, or `UNKNOWN`.
    findings : list of Finding
        What speaks against the nearest version, or how the version was recognised.
    """
    emotions = Counter(emotion for _, _, emotion in labels)
    rows = len(labels)
    differences = {
        version.name: _differences(version, emotions, Counter(types), rows)
        for version in facts.versions.values()
    }
    for name, found in differences.items():
        if not found:
            return name, []
    fullest = max(version.clips or 0 for version in facts.versions.values())
    told = _versions_told(facts, labels) if rows < fullest - 1 else set()
    if len(told) == 1:
        (name,) = told
        total = facts.versions[name].clips
        message = f"Version {name}, told by clips that only it labels so ({rows} of {total})"
        return name, [Finding("info", "annotation-part", f"{message} rows).")]
    nearest = min(differences, key=lambda name: sum(abs(a - b) for _, a, b in differences[name]))
    listed = ", ".join(f"{what} {a} instead of {b}" for what, a, b in differences[nearest])
    message = (
        f"The annotation is no version known of {facts.title} ({rows} rows; against the "
        f"nearest, {nearest}: {listed}). Published counts cannot be checked."
    )
    return UNKNOWN, [Finding("warning", "annotation-version", message)]


def _differences(
    version: Version, emotions: Counter[str], types: Counter[str], rows: int
) -> list[tuple[str, int, int]]:
    """Return (what, found, published) wherever an annotation differs from a version."""
    if version.emotions:
        found, expected = emotions, Counter(version.emotions)
    elif version.expression_types:
        found, expected = types, Counter(version.expression_types)
    else:
        found, expected = Counter(rows=rows), Counter(rows=version.clips or 0)
    return [
        (key, found[key], expected[key])
        for key in sorted({*found, *expected})
        if found[key] != expected[key]
    ]


def _versions_told(facts: CorpusFacts, labels: Sequence[tuple[int, str, str]]) -> set[str]:
    found = {(subject, clip.casefold()): emotion for subject, clip, emotion in labels}
    told: set[str] | None = None
    for tell in facts.tells:
        emotion = found.get((tell.subject, tell.clip.casefold()))
        if emotion is None:
            continue
        fitting = {name for name, expected in tell.emotions.items() if expected == emotion}
        told = fitting if told is None else told & fitting
    # A clip that several versions label alike leaves the one without the extra row.
    if told == {"B", "B+1"}:
        return {"B"}
    return told or set()
