"""The composite: clips of several corpora under one label map, with counts, digest and folds."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep import __version__
from mer_prep.errors import ManifestError
from mer_prep.labels import Expected, LabelMap
from mer_prep.manifest import UNREADABLE, Clip, Finding, ImportRecord, write_atomic
from mer_prep.protocols import Fold, Member, Protocol, folds_digest, make_folds, write_folds

SCHEMA = 2

LOSO = Protocol("loso")


@dataclass(frozen=True)
class Sample:
    """A clip of the composite and its label."""

    clip: Clip
    label: int

    @property
    def member(self) -> Member:
        """The sample as protocols see it."""
        clip = self.clip
        known = clip.source_digest if clip.source_digest != UNREADABLE else None
        return Member(clip.clip_id, clip.corpus, clip.subject_id, self.label, known or "")


@dataclass(frozen=True)
class Composite:
    """Clips of several corpora under one label map.

    Parameters
    ----------
    labels : LabelMap
        The map.
    samples : tuple of Sample
        Labelled clips, by clip id.
    left_out : mapping of str to str
        Why a clip has no label, by clip id.
    protocol : Protocol
        The protocol.
    folds : tuple of Fold
        Its folds.
    findings : tuple of Finding
        Comparison with the published counts and digests.
    synthetic : bool
        True if any clip is synthetic.
    """

    labels: LabelMap
    samples: tuple[Sample, ...]
    left_out: Mapping[str, str]
    protocol: Protocol
    folds: tuple[Fold, ...]
    findings: tuple[Finding, ...]
    synthetic: bool

    @property
    def corpora(self) -> list[str]:
        """Names of the corpora, sorted."""
        return sorted({sample.clip.corpus for sample in self.samples})

    def part(self, corpus: str | None = None) -> list[Sample]:
        """Return the samples of one corpus, or all."""
        return [one for one in self.samples if corpus in (None, one.clip.corpus)]

    def counts(self, corpus: str | None = None) -> dict[str, int]:
        """Return the number of clips by class, in the map's order."""
        found = Counter(self.labels.classes[sample.label] for sample in self.part(corpus))
        return {name: found[name] for name in self.labels.classes}

    def subjects(self, corpus: str | None = None) -> int:
        """Return the number of subjects."""
        return len({sample.clip.subject_id for sample in self.part(corpus)})

    def digest(self, corpus: str | None = None) -> str:
        """Return the digest of the clip list (see `list_digest`)."""
        return list_digest(self.part(corpus))


def build_composite(
    clips: Iterable[Clip],
    labels: LabelMap,
    records: Mapping[str, ImportRecord] | None = None,
    *,
    protocol: Protocol = LOSO,
) -> Composite:
    """Apply a label map to clips.

    Parameters
    ----------
    clips : iterable of Clip
        Clips of any corpora that the map knows.
    labels : LabelMap
        The map.
    records : mapping of str to ImportRecord, optional
        How the corpora were imported; names likely causes when counts differ.
    protocol : Protocol
        The protocol that makes the folds.

    Raises
    ------
    ManifestError
        If the map does not know a corpus, wants another variant of it, or no clip gets a label.
    """
    samples, left_out = [], {}
    for clip in sorted(clips, key=lambda one: one.clip_id):
        _check_corpus(clip, labels)
        label, reason = labels.label(clip)
        if label is None:
            left_out[clip.clip_id] = reason
        else:
            samples.append(Sample(clip, label))
    if not samples:
        raise ManifestError(
            f"No clip gets a label by '{labels.name}'.",
            hint=f"the map is for {', '.join(labels.corpora)}; import them first",
        )
    composite = Composite(
        labels=labels,
        samples=tuple(samples),
        left_out=left_out,
        protocol=protocol,
        folds=tuple(make_folds(protocol, [one.member for one in samples])),
        findings=(),
        synthetic=any(one.clip.synthetic for one in samples),
    )
    findings = (*_compare(composite, records or {}), *_mind(protocol))
    return dataclasses.replace(composite, findings=findings)


def _mind(protocol: Protocol) -> Iterable[Finding]:
    if protocol.card.subjects_may_recur:
        yield Finding("warning", "subjects-recur", f"{protocol.name}: {protocol.card.caveat}")


def _check_corpus(clip: Clip, labels: LabelMap) -> None:
    part = labels.corpora.get(clip.corpus)
    if part is None:
        raise ManifestError(
            f"Label map '{labels.name}' does not know corpus '{clip.corpus}'.",
            hint=f"it is for {', '.join(labels.corpora)}; name the corpora to combine, or give a "
            "label map of your own (--labels FILE.toml; the README shows one)",
        )
    variant = clip.variant or ""
    if part.variant is not None and part.variant.casefold() not in re.split(
        r"[-_ /]", variant.casefold()
    ):
        raise ManifestError(
            f"Label map '{labels.name}' is for the {part.variant} form of {clip.corpus}; "
            f"'{variant}' is imported.",
            where=clip.clip_id,
            hint=f"mer-prep import {clip.corpus} FOLDER --variant {part.variant}",
        )


def list_line(sample: Sample) -> str:
    """Return a sample's line in the canonical list: ``corpus,subject number,clip,label``."""
    clip = sample.clip
    digits = re.findall(r"\d+", clip.subject)
    subject = str(int(digits[-1])) if digits else clip.subject
    return f"{clip.corpus},{subject},{clip.clip},{sample.label}"


def list_digest(samples: Sequence[Sample]) -> str:
    """Return the SHA-256 of a clip list: its canonical lines, sorted bytewise, each ended by LF.

    Two laboratories compare it to know that they score the same clips under the same labels,
    without exchanging the list.
    """
    lines = sorted((list_line(sample) + "\n").encode() for sample in samples)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def _compare(composite: Composite, records: Mapping[str, ImportRecord]) -> Iterable[Finding]:
    if composite.synthetic:
        yield Finding(
            "info", "synthetic", "SYNTHETIC clips: not compared with the published counts"
        )
        return
    labels = composite.labels
    for corpus in composite.corpora:
        yield from _compare_part(
            composite, corpus, labels.corpora[corpus].expected, records.get(corpus)
        )
    absent = sorted(set(labels.corpora) - set(composite.corpora))
    if absent:
        yield Finding(
            "warning",
            "corpus-absent",
            f"'{labels.name}' also holds {', '.join(absent)}, not imported: this is a part of it",
        )
    else:
        yield from _compare_part(composite, None, labels.expected, None)


def _compare_part(
    composite: Composite,
    corpus: str | None,
    expected: Expected | None,
    record: ImportRecord | None,
) -> Iterable[Finding]:
    if expected is None:
        return
    name = corpus or "all corpora"
    counts = composite.counts(corpus)
    subjects = composite.subjects(corpus)
    if counts != dict(expected.classes) or subjects != expected.subjects:
        listed = ", ".join(
            f"{one} {counts[one]} (published {expected.classes[one]})" for one in counts
        )
        yield Finding(
            "warning",
            "count-differs",
            f"{name}: {listed}; subjects {subjects} (published {expected.subjects}). "
            + _likely_cause(composite, corpus, expected, record),
        )
    elif expected.sha256 is not None:
        same = composite.digest(corpus) == expected.sha256
        yield Finding(
            "info" if same else "warning",
            "digest-equal" if same else "digest-differs",
            f"{name}: the counts are the published ones and the clip list is "
            + ("exactly the published one" if same else "not: compare clip names and labels"),
        )


def _likely_cause(
    composite: Composite, corpus: str | None, expected: Expected, record: ImportRecord | None
) -> str:
    if record is None:
        return "See the corpora above."
    short = expected.clips - len(composite.part(corpus))
    missing = sum(finding.code in {"folder-missing", "folder-empty"} for finding in record.findings)
    if short > 0 and missing:
        return f"Likely cause: {missing} annotated clips have no frames (see `mer-prep validate`)."
    if record.annotation_version:
        return f"Likely cause: the annotations are of version {record.annotation_version}."
    return "Likely cause: clips are missing from the folder (see `mer-prep validate`)."


def write_composite(
    folder: Path, composite: Composite, *, shards: Mapping[str, Any] | None = None
) -> Path:
    """Write ``composite.jsonl`` (one labelled clip a line), ``composite.json`` and ``folds.json``.

    Parameters
    ----------
    folder : Path
        The workspace.
    composite : Composite
        The composite.
    shards : mapping, optional
        Shard keys by stage and subject, where a pipeline was run: the data passport.

    Returns
    -------
    Path
        The ``.jsonl``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = composite.labels.classes
    lines = []
    for sample in composite.samples:
        clip = sample.clip
        record = {
            "schema": SCHEMA,
            "clip_id": clip.clip_id,
            "corpus": clip.corpus,
            "subject": clip.subject_id,
            "label": sample.label,
            "class": classes[sample.label],
            "emotion": clip.emotion,
            "source_digest": clip.source_digest,
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    path = folder / "composite.jsonl"
    write_folds(path.with_name("folds.json"), composite.protocol.facts(), composite.folds)
    write_atomic(path.with_suffix(".json"), json.dumps(_facts(composite, shards), indent=1) + "\n")
    write_atomic(path, "".join(lines))
    return path


def _facts(composite: Composite, shards: Mapping[str, Any] | None) -> dict[str, Any]:
    parts = {
        corpus or "all": {
            "clips": len(composite.part(corpus)),
            "subjects": composite.subjects(corpus),
            "classes": composite.counts(corpus),
            "sha256": composite.digest(corpus),
        }
        for corpus in (*composite.corpora, None)
    }
    return {
        "schema": SCHEMA,
        "mer_prep": __version__,
        "synthetic": composite.synthetic,
        "labels": composite.labels.name,
        "classes": list(composite.labels.classes),
        "source": composite.labels.source,
        "counts": parts,
        "left_out": dict(Counter(composite.left_out.values()).most_common()),
        "findings": [str(finding) for finding in composite.findings],
        "protocol": composite.protocol.facts(),
        "folds": len(composite.folds),
        "folds_sha256": folds_digest(composite.folds),
        "shards": dict(shards or {}),
    }
