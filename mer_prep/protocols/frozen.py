"""The file that freezes folds: protocol, clips and labels, and a digest over all of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mer_prep.config import json_text, json_texts, parse_json_object
from mer_prep.errors import ConfigError, MerPrepError
from mer_prep.protocols.folds import Fold, folds_digest
from mer_prep.protocols.protocol import Protocol
from mer_prep.records import record_text
from mer_prep.store.key import digest
from mer_prep.store.text import write_atomic

SCHEMA = 2

#: In the file of folds: all clips of the file that the fold does not test.
OTHERS = "others"


@dataclass(frozen=True)
class FrozenFolds:
    """Folds and what they were made of.

    Parameters
    ----------
    protocol : Protocol
        The protocol that made them.
    labels : str
        Name of the label map.
    clip_list : str
        Digest of the clips and their labels (see `mer_prep.composite.list_digest`).
    folds : tuple of Fold
        The folds.
    """

    protocol: Protocol
    labels: str
    clip_list: str
    folds: tuple[Fold, ...]

    @cached_property
    def folds_sha256(self) -> str:
        """The digest of the folds alone; see `folds_digest`."""
        return folds_digest(self.folds)

    def digest(self) -> str:
        """Return a SHA-256 over all of it."""
        return digest(
            {
                "protocol": self.protocol.facts(),
                "labels": self.labels,
                "clip_list": self.clip_list,
                "folds": self.folds_sha256,
            }
        )


def write_folds(path: Path, frozen: FrozenFolds) -> Path:
    """Write folds to a JSON file with their digest, and return its path."""
    clips = sorted(set[str]().union(*(side for one in frozen.folds for side in one.sides)))
    facts = {
        "schema": SCHEMA,
        "protocol": frozen.protocol.facts(),
        "labels": frozen.labels,
        "clip_list": frozen.clip_list,
        "sha256": frozen.digest(),
        "clips": clips,
        "folds": [
            {
                "name": fold.name,
                "test": list(fold.test),
                "train": OTHERS if fold.train == _others(clips, fold.test) else list(fold.train),
            }
            for fold in frozen.folds
        ],
    }
    write_atomic(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return path


def read_folds(path: Path) -> FrozenFolds:
    """Return the folds of a file that `write_folds` wrote.

    Raises
    ------
    ConfigError
        If there is no such file, it has another form, or it was changed since.
    """
    try:
        facts = parse_json_object(record_text(path))
        if facts["schema"] != SCHEMA:
            raise ConfigError(
                f"The folds are written in form {facts['schema']!r:.60}, this version reads "
                f"{SCHEMA}.",
                where=path,
                hint="write them anew: mer-prep composite --protocol NAME",
            )
        frozen = FrozenFolds(
            protocol=_protocol(facts["protocol"]),
            labels=json_text(facts["labels"]),
            clip_list=json_text(facts["clip_list"]),
            folds=tuple(_fold(one, json_texts(facts["clips"])) for one in facts["folds"]),
        )
        stated = facts["sha256"]
    except FileNotFoundError:
        raise ConfigError(
            "There is no file of folds.",
            where=path,
            hint="mer-prep composite writes folds.json into the workspace",
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ConfigError(
            "This is no file of folds.",
            where=path,
            why=f"{type(error).__name__}: {error!s:.200}",
            hint="take the original file, or write folds anew: mer-prep composite --protocol NAME",
        ) from None
    if frozen.digest() != stated:
        raise ConfigError(
            "The folds are not those that were frozen: their digest differs.",
            where=path,
            why="the file was changed after it was written",
            hint="take the original file, or write folds anew: mer-prep composite --protocol NAME",
        )
    return frozen


def _protocol(facts: Mapping[str, Any]) -> Protocol:
    values = dict(facts)
    for side in ("train", "test"):
        if side in values:
            values[side] = json_texts(values[side])
    try:
        return Protocol(**values)
    except MerPrepError as error:
        raise ValueError(error.what) from None


def _fold(facts: Mapping[str, Any], clips: Sequence[str]) -> Fold:
    test = json_texts(facts["test"])
    train = _others(clips, test) if facts["train"] == OTHERS else json_texts(facts["train"])
    return Fold(json_text(facts["name"]), train, test)


def _others(clips: Sequence[str], test: Sequence[str]) -> tuple[str, ...]:
    tested = set(test)
    return tuple(clip for clip in clips if clip not in tested)
