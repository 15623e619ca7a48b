"""The files of a composite: clip list, counts, what was left out and why, and the folds."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mer_prep import __version__
from mer_prep.composite import Composite
from mer_prep.composite_report import composite_report
from mer_prep.config import parse_json, parse_json_object
from mer_prep.errors import ManifestError
from mer_prep.label_map import LabelMap
from mer_prep.protocols import write_folds
from mer_prep.records import record_bytes, record_text
from mer_prep.store import disk
from mer_prep.store.key import digest
from mer_prep.store.text import write_atomic

SCHEMA = 2

#: The list of the clips that have no label, beside ``composite.json``.
LEFT_OUT = "left-out.csv"


def write_composite(
    folder: Path,
    composite: Composite,
    *,
    shards: Mapping[str, Any] | None = None,
    pipeline: Mapping[str, Any] | None = None,
) -> Path:
    """Write a composite.

    ``composite.jsonl`` holds one labelled clip a line, ``composite.json`` counts and digests,
    ``left-out.csv`` every clip without a label and the reason, ``folds.json`` the folds.

    Parameters
    ----------
    folder : Path
        The workspace, or any other folder.
    composite : Composite
        The composite.
    shards : mapping, optional
        Shard keys by stage and subject, where a pipeline was run: the data passport.
    pipeline : mapping, optional
        Name of that pipeline (``name``) and the parameters of its stages (``stages``).

    Returns
    -------
    Path
        The ``.jsonl``.
    """
    disk.make_folder(folder)
    path = folder / "composite.jsonl"
    facts, lines = _facts(composite, shards, pipeline), _lines(composite)
    # By this a reader tells that all of it was written: the files appear one after the other.
    facts["lines_sha256"] = hashlib.sha256(lines.encode()).hexdigest()
    facts["report"] = composite_report(facts)
    write_folds(path.with_name("folds.json"), composite.frozen())
    write_atomic(path.with_name(LEFT_OUT), _left_out(composite.left_out))
    write_atomic(path.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    write_atomic(path, lines)
    return path


def _lines(composite: Composite) -> str:
    lines = []
    for sample in composite.samples:
        clip = sample.clip
        record = {
            "schema": SCHEMA,
            "clip_id": clip.clip_id,
            "corpus": clip.corpus,
            "subject": clip.subject_id,
            "label": sample.label,
            "class": composite.labels.classes[sample.label],
            "emotion": clip.emotion,
            "objective_class": clip.objective_class,
            "source_digest": clip.source_digest,
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    return "".join(lines)


def _left_out(left_out: Mapping[str, str]) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("clip_id", "reason"))
    table.writerows(sorted(left_out.items()))
    return text.getvalue()


def _facts(
    composite: Composite, shards: Mapping[str, Any] | None, pipeline: Mapping[str, Any] | None
) -> dict[str, Any]:
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
        "labels_sha256": label_map_digest(composite.labels),
        "classes": list(composite.labels.classes),
        "source": composite.labels.source,
        "counts": parts,
        "annotations": dict(composite.annotations),
        "draw": None if composite.draw is None else dataclasses.asdict(composite.draw),
        "left_out": dict(Counter(composite.left_out.values()).most_common()),
        "findings": [str(finding) for finding in composite.findings],
        "protocol": composite.protocol.facts(),
        "folds": len(composite.folds),
        "folds_sha256": composite.frozen().folds_sha256,
        "pipeline": None if pipeline is None else dict(pipeline),
        "shards": dict(shards or {}),
    }


def label_map_digest(labels: LabelMap) -> str:
    """Return a SHA-256 over the rules of a label map: what decides labels, not what explains it."""
    parts = {}
    for corpus, part in labels.corpora.items():
        rules = dataclasses.asdict(part)
        parts[corpus] = {key: rules[key] for key in rules if key not in ("note", "expected")}
    return digest({"classes": list(labels.classes), "balance": labels.balance, "corpora": parts})


def read_composite_facts(folder: Path) -> dict[str, Any] | None:
    """Return what ``composite.json`` of a folder says; None if there is none that can be read."""
    try:
        facts = parse_json_object(record_text(folder / "composite.json"))
    except (OSError, ValueError):
        return None
    return facts if _is_composite(facts) else None


def _is_composite(facts: Mapping[str, Any]) -> bool:
    """Return whether what is read of facts has the form in which they are written."""
    protocol, counts = facts.get("protocol"), facts.get("counts")
    if not isinstance(protocol, dict) or not isinstance(counts, dict):
        return False
    sides = [protocol.get(side, []) for side in ("train", "test")]
    return (
        isinstance(facts.get("labels"), str)
        and all(isinstance(side, list) for side in sides)
        and all(isinstance(corpus, str) for side in sides for corpus in side)
        and all(isinstance(part, dict) for part in counts.values())
    )


def check_lines(lines: bytes, facts: Mapping[str, Any], *, where: Path) -> None:
    """Raise `ManifestError` if the lines of a composite are not those that its facts are of.

    Parameters
    ----------
    lines : bytes
        What ``composite.jsonl`` holds.
    facts : mapping
        What ``composite.json`` says; an earlier version did not tell.
    where : Path
        The former, for the message.
    """
    stated = facts.get("lines_sha256")
    if stated is not None and stated != hashlib.sha256(lines).hexdigest():
        raise ManifestError(
            "The composite is not whole: its clips are not those that composite.json tells of.",
            where=where,
            why="writing it ended early, or it was edited; labels of two composites would mix",
            hint="run `mer-prep composite` again",
        )


def place_in_composite(folder: Path, clip_id: str) -> dict[str, Any] | None:
    """Return what became of a clip in the composite of a folder.

    Returns
    -------
    dict or None
        The label map (``labels``), and ``class`` and ``label``, or the reason why the clip was
        left out (``left_out``), each None where it does not apply; all three are None for a clip
        of a corpus that the composite does not hold. None if there is no composite.
    """
    facts = read_composite_facts(folder)
    if facts is None:
        return None
    place = {"labels": facts.get("labels"), "class": None, "label": None, "left_out": None}
    try:
        stored = record_bytes(folder / "composite.jsonl")
        check_lines(stored, facts, where=folder / "composite.jsonl")
        lines = stored.decode().split("\n")[:-1]
        left_out = csv.DictReader(io.StringIO(record_text(folder / LEFT_OUT), newline=""))
        reasons = {row["clip_id"]: row["reason"] for row in left_out}
        for record in map(parse_json, lines):
            if record["clip_id"] == clip_id:
                return {**place, "class": record["class"], "label": record["label"]}
    except (ManifestError, OSError, ValueError, KeyError, TypeError, csv.Error):
        return None  # torn, or of an earlier version: the composite command makes it anew
    return {**place, "left_out": reasons.get(clip_id)}


def replaced_text(before: Mapping[str, Any] | None, composite: Composite) -> str:
    """Return what an earlier composite was, if another takes its place; else an empty text.

    Parameters
    ----------
    before : mapping, optional
        What `read_composite_facts` gave before the new one was written.
    composite : Composite
        The new one.
    """
    if before is None:
        return ""
    protocol, labels = before.get("protocol") or {}, before.get("labels")
    whole = (before.get("counts") or {}).get("all", {})
    new = (composite.labels.name, composite.protocol.facts(), composite.digest())
    if (labels, protocol, whole.get("sha256")) == new:
        return ""
    return f"{labels}, {protocol_words(protocol)}, {whole.get('clips', '?')} clips"


def protocol_words(facts: Mapping[str, Any]) -> str:
    """Return a protocol and its parameters in words: ``k-fold, 5 folds, seed 0``."""
    words = [str(facts.get("name"))]
    for key, text in (("folds", "{} folds"), ("seed", "seed {}")):
        if key in facts:
            words.append(text.format(facts[key]))
    for key, text in (("train", "trained on {}"), ("test", "tested on {}")):
        if key in facts:
            words.append(text.format(" and ".join(facts[key])))
    return ", ".join(words)


def protocol_line(composite: Composite) -> str:
    """Return the protocol, its folds and their digest in one line; clips of one have no folds."""
    facts = composite.protocol.facts()
    sizes = [len(fold.test) for fold in composite.folds]
    count = len(sizes)
    if not sizes:
        return f"protocol {protocol_words(facts)}, no folds: all clips are of one subject"
    size = str(sizes[0]) if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    noun = "clip" if size == "1" else "clips"
    folds = "" if "folds" in facts else f", {count} fold{'' if count == 1 else 's'}"
    return (
        f"protocol {protocol_words(facts)}{folds}, folds {composite.frozen().folds_sha256[:8]}..., "
        f"tested {size} {noun} a fold"
    )
