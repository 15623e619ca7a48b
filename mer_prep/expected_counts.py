"""Compares what a label map gave with what it must give, and names the likely cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mer_prep.label_map import ClassCounts, CorpusLabels, Expected, LabelMap
from mer_prep.manifest import Finding, ImportRecord


@dataclass(frozen=True)
class Tally(ClassCounts):
    """What a label map gave of one corpus, or of all; classes as in `ClassCounts`.

    Parameters
    ----------
    subjects : int
        Number of subjects.
    sha256 : str
        Digest of the clip list.
    """

    subjects: int
    sha256: str

    def agrees(self, expected: Expected) -> bool:
        """Return whether the counts are those that are expected."""
        same = dict(self.classes) == dict(expected.classes)
        return same and expected.subjects in (None, self.subjects)


def compare_published(
    labels: LabelMap,
    tallies: Mapping[str, Tally],
    total: Tally,
    records: Mapping[str, ImportRecord],
) -> Iterator[Finding]:
    """Compare counts and digests with the published ones.

    Parameters
    ----------
    labels : LabelMap
        The map.
    tallies : mapping of str to Tally
        What it gave of every corpus that was imported, before any balancing.
    total : Tally
        What it gave of all of them.
    records : mapping of str to ImportRecord
        How the corpora were imported, as far as that is known.

    Yields
    ------
    Finding
        A warning for every corpus whose counts or digest differ, with the likely cause; else a
        line that says what agrees.
    """
    for corpus, tally in tallies.items():
        yield from _compare_corpus(corpus, tally, labels.corpora[corpus], records.get(corpus))
    absent = sorted(set(labels.corpora) - set(tallies))
    if absent:
        yield Finding(
            "warning",
            "corpus-absent",
            f"'{labels.name}' also holds {', '.join(absent)}, not among the corpora here: this is "
            "a part of it",
        )
    elif labels.expected is not None:
        yield from _compare("all corpora", total, labels.expected, _cause_above(labels, records))
    if labels.paper is not None:
        message = f"The paper scored {labels.paper.clips} clips: {labels.paper.why}"
        yield Finding("info", "paper-differs", message)


def _compare_corpus(
    corpus: str, tally: Tally, part: CorpusLabels, record: ImportRecord | None
) -> Iterator[Finding]:
    if not part.expected:
        return
    version = record.annotation_version if record else None
    expected = _fitting(part.expected, tally, version)
    cause = _likely_cause(tally, part, expected, record)
    yield from _compare(corpus, tally, expected, cause, version)


def _fitting(options: Sequence[Expected], tally: Tally, version: str | None) -> Expected:
    """Return what is expected of an annotation version; the nearest where it is not known."""
    for one in options:
        if not one.versions or version in one.versions:
            return one

    def distance(one: Expected) -> int:
        return sum(abs(tally.classes[name] - one.classes[name]) for name in one.classes)

    return min(options, key=distance)


def _compare(
    name: str, tally: Tally, expected: Expected, cause: str, version: str | None = None
) -> Iterator[Finding]:
    names = [version] if version in expected.versions else expected.versions
    known = f" for annotation version {_listed(names)}" if names else ""
    if not tally.agrees(expected):
        found = dict(tally.classes) | {"subjects": tally.subjects}
        published = dict(expected.classes) | {"subjects": expected.subjects}
        differ = ", ".join(
            f"{one} {found[one]} (published {count})"
            for one, count in published.items()
            if count not in (None, found[one])
        )
        yield Finding("warning", "count-differs", f"{name}{known}: {differ}. {cause}")
    elif expected.sha256 is None:
        message = f"{name}: the counts are the published ones{known}"
        yield Finding("info", "counts-agree", message)
    else:
        same = tally.sha256 == expected.sha256
        yield Finding(
            "info" if same else "warning",
            "digest-equal" if same else "digest-differs",
            f"{name}: the counts are the published ones{known} and the clip list is "
            + ("exactly the published one" if same else "not: compare clip names and labels"),
        )


def _listed(versions: Sequence[str]) -> str:
    return " or ".join(versions)


def _likely_cause(
    tally: Tally, part: CorpusLabels, expected: Expected, record: ImportRecord | None
) -> str:
    if record is None:
        return "Likely cause: another version of the annotation, or clips that are missing."
    codes = [finding.code for finding in record.findings]
    chosen = record.options.get("expressions", "all")
    others = [one for one in part.expected if one is not expected and tally.agrees(one)]
    missing = sum(code in {"folder-missing", "folder-empty"} for code in codes)
    version = record.annotation_version
    if part.objective_classes and "objective-classes-missing" in codes:
        cause = "no workbook of objective classes was found at the import; put it beside the "
        cause += "coding workbook and import again"
    elif "all" not in (chosen, part.expression_type) and chosen != part.expression_type:
        cause = f"only {chosen}-expressions were imported (--expressions)"
    elif others:
        cause = f"these are the counts of annotation version {_listed(others[0].versions)}, where "
        cause += f"{version} was imported"
    elif tally.clips < expected.clips and missing:
        cause = f"{missing} annotated clips have no frames (see `mer-prep validate`)"
    elif expected.versions and version not in expected.versions:
        known = _listed([one for entry in part.expected for one in entry.versions])
        cause = f"the annotations are of version {version or 'unknown'}, and counts are published "
        cause += f"for {known}"
    elif tally.clips < expected.clips:
        cause = f"{tally.clips} of {expected.clips} clips are there (see `mer-prep validate`)"
    elif version and not expected.versions:
        cause = f"the annotations are of version {version}, or differ from it (see "
        cause += "`mer-prep validate`)"
    else:
        cause = "the annotations differ from those counted (see `mer-prep validate`)"
    return f"Likely cause: {cause}."


def _cause_above(labels: LabelMap, records: Mapping[str, ImportRecord]) -> str:
    """Return why the total differs: annotation versions the source did not use, or the parts."""
    others = [
        f"{corpus} is annotated in version {record.annotation_version}, the published list is of "
        f"version {_listed(labels.corpora[corpus].expected[0].versions)}"
        for corpus, record in records.items()
        if corpus in labels.corpora
        and any(
            record.annotation_version in one.versions for one in labels.corpora[corpus].expected[1:]
        )
    ]
    return f"Likely cause: {'; '.join(others)}." if others else "See the corpora above."
