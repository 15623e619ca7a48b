"""Label maps: from the annotation of a corpus to the classes of an evaluation, as data.

A map is a file ``manifests/labels/<name>.toml``: its classes in order (the label is the index),
for every corpus the class of each emotion or objective class, clips left out by name with the
reason, and the counts and the digest that the result must have. `mer_prep.labels` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mer_prep.manifest import EXPRESSION_TYPES, Clip


@dataclass(frozen=True)
class Drop:
    """A clip left out by name; a whole subject without `clip`.

    Parameters
    ----------
    subject : str
        Canonical subject within the corpus.
    reason : str
        Why it is left out.
    clip : str, optional
        Name of the clip; all clips of the subject if None.
    emotion : str, optional
        Left out only where it is annotated so.
    """

    subject: str
    reason: str
    clip: str | None = None
    emotion: str | None = None

    def concerns(self, clip: Clip) -> bool:
        """Return whether a clip of the corpus is left out by this rule."""
        return (
            clip.subject == self.subject
            and self.clip in (None, clip.clip)
            and self.emotion in (None, clip.emotion)
        )

    def __str__(self) -> str:
        name = self.subject if self.clip is None else f"{self.subject}/{self.clip}"
        return name + (f" if '{self.emotion}'" if self.emotion else "")


@dataclass(frozen=True)
class ClassCounts:
    """How many clips each class has.

    Parameters
    ----------
    classes : mapping of str to int
        Clips by class, every class named.
    """

    classes: Mapping[str, int]

    @property
    def clips(self) -> int:
        """Number of clips over all classes."""
        return sum(self.classes.values())


@dataclass(frozen=True)
class Expected(ClassCounts):
    """What a label map must give, before any balancing; classes as in `ClassCounts`.

    Parameters
    ----------
    subjects : int, optional
        Number of subjects; None where it is not published.
    sha256 : str, optional
        Digest of the clip list, see `mer_prep.composite.list_digest`.
    versions : tuple of str
        Versions of the corpus's annotation for which this holds; empty means all.
    """

    subjects: int | None = None
    sha256: str | None = None
    versions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Paper:
    """Clips that the paper scored, where its own rule gives another number, and why."""

    clips: int
    why: str


#: Kinds of expression that a map may ask for.
EXPRESSION_CHOICES = (*EXPRESSION_TYPES, "all")

#: How a map may be balanced.
BALANCES = ("minimum",)


@dataclass(frozen=True)
class CorpusLabels:
    """The part of a label map that concerns one corpus.

    Parameters
    ----------
    emotions : mapping of str to str
        Class by normalised emotion; emotions that are not named are left out.
    objective_classes : mapping of int to str
        Class by objective class, in place of `emotions`; objective classes that are not named are
        left out.
    drop : tuple of Drop
        Clips left out by name.
    variant : str, optional
        Form of the corpus that the map is for.
    expression_type : {'micro', 'macro', 'all'}
        Kind of expression that the map is for.
    options : mapping of str to str
        Choices with which the corpus must have been imported, such as the column of the emotion.
    note : str
        What is to be minded of this corpus.
    expected : tuple of Expected
        What the whole corpus must give, one entry for every set of annotation versions; the first
        is that of the source.
    """

    emotions: Mapping[str, str] = field(default_factory=dict)
    objective_classes: Mapping[int, str] = field(default_factory=dict)
    drop: tuple[Drop, ...] = ()
    variant: str | None = None
    expression_type: str = "micro"
    options: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    expected: tuple[Expected, ...] = ()

    def class_of(self, clip: Clip) -> tuple[str | None, str]:
        """Return (class, ""), or (None, why the clip is left out)."""
        if self.expression_type not in ("all", clip.expression_type):
            return None, f"a {clip.expression_type}-expression"
        for drop in self.drop:
            if drop.concerns(clip):
                return None, drop.reason
        if self.objective_classes:
            if clip.objective_class is None:
                return None, "no objective class is annotated"
            name = self.objective_classes.get(clip.objective_class)
            return name, "" if name else f"objective class {clip.objective_class} has no class"
        name = self.emotions.get(clip.emotion or "")
        return name, "" if name else f"emotion '{clip.emotion or 'unlabelled'}' has no class"

    def sources(self, name: str) -> list[str]:
        """Return what a class is made of: emotions, or objective classes."""
        if self.objective_classes:
            return [
                f"objective class {ROMAN[one - 1]}"
                for one, to in self.objective_classes.items()
                if to == name
            ]
        return [emotion for emotion, to in self.emotions.items() if to == name]


#: Objective classes 1 to 7 as they are published.
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII")


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
        What all corpora together must give in the source.
    balance : {'minimum'}, optional
        ``minimum`` draws as many clips of every class as the smallest has; None keeps all.
    paper : Paper, optional
        What the paper scored, where that differs.
    """

    name: str
    title: str
    source: str
    reference: str
    note: str
    classes: tuple[str, ...]
    corpora: Mapping[str, CorpusLabels]
    expected: Expected | None = None
    balance: str | None = None
    paper: Paper | None = None

    def label(self, clip: Clip) -> tuple[int | None, str]:
        """Return (label, ""), or (None, why the clip is left out)."""
        name, reason = self.corpora[clip.corpus].class_of(clip)
        return (None if name is None else self.classes.index(name)), reason

    def total(self) -> Expected | None:
        """Return what all corpora together must give; their sum where it is not stated.

        None if it is not known of a corpus.
        """
        parts = [part.expected[0] for part in self.corpora.values() if part.expected]
        if self.expected is not None or len(parts) < len(self.corpora):
            return self.expected
        subjects = [part.subjects for part in parts if part.subjects is not None]
        return Expected(
            {name: sum(part.classes[name] for part in parts) for name in self.classes},
            sum(subjects) if len(subjects) == len(parts) else None,
        )

    def drawn_per_class(self) -> int | None:
        """Return the clips of every class once balanced; None if unknown or not balanced."""
        total = self.total()
        if self.balance is None or total is None:
            return None
        return min(total.classes.values())
