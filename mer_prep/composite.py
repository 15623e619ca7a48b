"""The composite: clips of several corpora under one label map, with counts, digest and folds."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mer_prep.balance import balanced_draw
from mer_prep.composite_checks import (
    check_corpus,
    check_imports,
    idle_drops,
    unknown_corpora,
)
from mer_prep.errors import ConfigError, ManifestError
from mer_prep.expected_counts import Tally, compare_published
from mer_prep.label_map import LabelMap
from mer_prep.labels import read_label_map
from mer_prep.manifest import UNREADABLE, Clip, Finding, ImportRecord
from mer_prep.protocols import (
    Fold,
    FrozenFolds,
    Member,
    Protocol,
    check_protocol,
    make_folds,
    read_folds,
)
from mer_prep.workspace import Workspace

LOSO = Protocol("loso")


@dataclass(frozen=True)
class Sample:
    """A clip of the composite, its label, and the corpus that its own was imported as."""

    clip: Clip
    label: int
    population: str = ""

    @property
    def member(self) -> Member:
        """The sample as protocols see it."""
        clip = self.clip
        known = clip.source_digest if clip.source_digest != UNREADABLE else None
        return Member(
            clip.clip_id,
            clip.corpus,
            clip.subject_id,
            self.label,
            known or "",
            self.population,
            clip.onset,
            clip.offset,
        )


@dataclass(frozen=True)
class Draw:
    """How a composite was balanced.

    Parameters
    ----------
    seed : int
        Seed of the draw.
    per_class : int
        Clips of every class that were kept.
    pool : Tally
        What there was to draw from.
    """

    seed: int
    per_class: int
    pool: Tally


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
    draw : Draw, optional
        How the samples were drawn, where the map is balanced.
    annotations : mapping of str to str
        Version of the annotation by corpus, as far as it is known.
    """

    labels: LabelMap
    samples: tuple[Sample, ...]
    left_out: Mapping[str, str]
    protocol: Protocol
    folds: tuple[Fold, ...]
    findings: tuple[Finding, ...]
    synthetic: bool
    draw: Draw | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

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

    @cached_property
    def _frozen(self) -> FrozenFolds:
        return FrozenFolds(self.protocol, self.labels.name, self.digest(), self.folds)

    def frozen(self) -> FrozenFolds:
        """Return the folds with what they were made of."""
        return self._frozen


def compose(
    workspace: Workspace,
    corpora: Sequence[str],
    labels: str,
    *,
    protocol: Protocol = LOSO,
    folds_file: Path | None = None,
    seed: int | None = None,
) -> Composite:
    """Combine imported corpora under a label map.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpora : sequence of str
        Corpora to combine; all imported ones that the map knows if empty.
    labels : str
        Name or file of the label map.
    protocol, seed
        As for `build_composite`.
    folds_file : Path, optional
        Frozen folds to take, with their protocol.

    Raises
    ------
    ConfigError
        If both another protocol than the default and a file of folds are given.
    """
    frozen = None
    if folds_file is not None:
        if protocol != LOSO:
            raise ConfigError(
                "A file of folds has a protocol of its own.", hint="leave --protocol out"
            )
        frozen = read_folds(folds_file)
    label_map = read_label_map(labels)
    names = workspace.select(tuple(corpora))
    if not corpora:
        names = [name for name in names if name in label_map.corpora]
    unknown = tuple(unknown_corpora(label_map, workspace))
    if not names and unknown:
        raise ManifestError(unknown[0].message, hint="correct the name in the label map")
    made = build_composite(
        [clip for name in names for clip in workspace.clips(name)],
        label_map,
        {name: workspace.record(name) for name in names},
        protocol=protocol,
        frozen=frozen,
        seed=seed,
    )
    return dataclasses.replace(made, findings=(*made.findings, *unknown))


def build_composite(
    clips: Iterable[Clip],
    labels: LabelMap,
    records: Mapping[str, ImportRecord] | None = None,
    *,
    protocol: Protocol = LOSO,
    frozen: FrozenFolds | None = None,
    seed: int | None = None,
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
    frozen : FrozenFolds, optional
        Folds to take instead, with their protocol; they must be of these clips and labels.
    seed : int, optional
        Seed of the draw, for a map that is balanced; 0 if None.

    Raises
    ------
    ManifestError
        If the map does not know a corpus, wants another variant of it or one imported with other
        choices, a clip is given twice, or no clip gets a label.
    ConfigError
        If a seed is given and the map draws nothing, or the frozen folds are of other clips.
    LeakError
        If what is tested would be trained on.
    """
    if seed is not None and labels.balance is None:
        raise ConfigError(
            f"Label map '{labels.name}' keeps all clips: it draws none, and takes no seed.",
            hint="--fold-seed is the seed of k-fold; `mer-prep labels` lists the balanced maps",
        )
    protocol = protocol if frozen is None else frozen.protocol
    clips = _of_protocol(sorted(clips, key=lambda one: one.clip_id), protocol)
    given = {clip.corpus for clip in clips}
    records = {name: one for name, one in (records or {}).items() if name in given}
    check_imports(labels, records)
    samples, left_out, corpora = [], {}, set()
    ids: set[str] = set()
    for clip in clips:
        if clip.clip_id in ids:
            raise ManifestError(f"Clip {clip.clip_id} is given twice.", hint="give it once")
        ids.add(clip.clip_id)
        check_corpus(clip, labels)
        corpora.add(clip.corpus)
        label, reason = labels.label(clip)
        if label is None:
            left_out[clip.clip_id] = reason
        else:
            samples.append(Sample(clip, label, _population(clip.corpus, records)))
    if not samples:
        raise ManifestError(
            f"No clip gets a label by '{labels.name}'.",
            hint=f"the map is for {', '.join(labels.corpora)}; import them first",
        )
    pool, draw = samples, None
    if labels.balance is not None:
        samples, draw = _balanced(pool, labels, seed or 0)
        kept = {one.clip.clip_id for one in samples}
        reason = f"not drawn: balanced to {draw.per_class} clips a class"
        left_out |= {one.clip.clip_id: reason for one in pool if one.clip.clip_id not in kept}
    folds = _folds(samples, protocol, frozen)
    findings = (
        *_findings(labels, pool, draw, corpora, records),
        *idle_drops(labels, clips, corpora),
        *_mind(protocol, folds),
    )
    return Composite(
        labels=labels,
        samples=tuple(samples),
        left_out=left_out,
        protocol=protocol,
        folds=folds,
        findings=findings,
        synthetic=any(one.clip.synthetic for one in pool),
        draw=draw,
        annotations={
            corpus: records[corpus].annotation_version or "unknown"
            for corpus in sorted(corpora)
            if corpus in records
        },
    )


def _of_protocol(clips: Sequence[Clip], protocol: Protocol) -> Sequence[Clip]:
    """Return the clips of the corpora that a protocol trains on or tests, if it names them.

    Counts and digest are then of the clips that are scored or trained on, and of no others.
    """
    named = {*protocol.train, *protocol.test}
    if not named <= {clip.corpus for clip in clips}:
        return clips  # the protocol names the corpus that is missing, and those there are
    return [clip for clip in clips if clip.corpus in named] if named else clips


def _population(corpus: str, records: Mapping[str, ImportRecord]) -> str:
    """Return what a corpus was imported as; clips of one's own are of nobody else's corpus."""
    record = records.get(corpus)
    return corpus if record is None or record.source == "clips" else record.source


def _folds(
    samples: Sequence[Sample], protocol: Protocol, frozen: FrozenFolds | None
) -> tuple[Fold, ...]:
    members = [one.member for one in samples]
    if frozen is None:
        # One subject is a trial, whose counts are of use; only training needs folds.
        alone = protocol == LOSO and len({one.subject for one in members}) == 1
        return () if alone else tuple(make_folds(protocol, members))
    if frozen.clip_list != list_digest(samples):
        known = set[str]().union(*(side for one in frozen.folds for side in one.sides))
        here = {one.clip_id for one in members}
        raise ConfigError(
            f"The folds are of other clips or labels: label map '{frozen.labels}', "
            f"{len(known)} clips; here are {len(here)}, {len(known & here)} of them the same.",
            why="a score of other clips or labels is another score",
            hint="take the same corpora, label map and seed of the draw, or make new folds: "
            "mer-prep composite",
        )
    check_protocol(protocol, frozen.folds, members)
    return frozen.folds


def _balanced(pool: Sequence[Sample], labels: LabelMap, seed: int) -> tuple[list[Sample], Draw]:
    kept = balanced_draw(
        {one.clip.clip_id: one.label for one in pool}, labels.classes, seed=seed, name=labels.name
    )
    samples = [one for one in pool if one.clip.clip_id in kept]
    return samples, Draw(seed, len(samples) // len(labels.classes), _tally(pool, labels.classes))


def _mind(protocol: Protocol, folds: Sequence[Fold]) -> Iterable[Finding]:
    if not folds:
        message = "all clips are of one subject: there is nothing to split into training and test"
        yield Finding("warning", "one-subject", message)
    if protocol.card.subjects_may_recur:
        yield Finding("warning", "subjects-recur", f"{protocol.name}: {protocol.card.caveat}")


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


def _tally(samples: Sequence[Sample], classes: Sequence[str]) -> Tally:
    found = Counter(classes[sample.label] for sample in samples)
    return Tally(
        classes={name: found[name] for name in classes},
        subjects=len({sample.clip.subject_id for sample in samples}),
        sha256=list_digest(samples),
    )


def _findings(
    labels: LabelMap,
    pool: Sequence[Sample],
    draw: Draw | None,
    corpora: Iterable[str],
    records: Mapping[str, ImportRecord],
) -> Iterable[Finding]:
    synthetic = any(sample.clip.synthetic for sample in pool)
    if draw is not None:
        size = f"{draw.per_class} clips of each of {len(labels.classes)} classes"
        published = None if synthetic else labels.drawn_per_class()
        note = "" if published in (None, draw.per_class) else f" (published {published})"
        message = f"{size}{note} drawn from {draw.pool.clips} with seed {draw.seed}"
        yield Finding("info", "balanced", message)
    if synthetic:
        yield Finding(
            "info", "synthetic", "SYNTHETIC clips: not compared with the published counts"
        )
        return
    tallies = {
        corpus: _tally([one for one in pool if one.clip.corpus == corpus], labels.classes)
        for corpus in sorted(corpora)
    }
    yield from compare_published(labels, tallies, _tally(pool, labels.classes), records)
