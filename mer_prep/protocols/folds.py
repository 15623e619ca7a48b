"""Folds: which clips train and which are tested, and the file that freezes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep.errors import ConfigError
from mer_prep.manifest import write_atomic
from mer_prep.store.key import digest

SCHEMA = 1

#: In the file of folds: all clips of the file that the fold does not test.
OTHERS = "others"


@dataclass(frozen=True)
class Member:
    """A labelled clip, as far as protocols need it.

    Parameters
    ----------
    clip_id : str
        ``<corpus>/<subject>/<clip>``.
    corpus : str
        Its corpus.
    subject : str
        Its subject, named across corpora (``casme2/sub01``).
    label : int
        Its class.
    source_digest : str
        SHA-256 of its frames' bytes; empty if unknown.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    source_digest: str = ""


@dataclass(frozen=True)
class Fold:
    """One fold: who is tested, and which clips are on which side.

    Parameters
    ----------
    name : str
        Name of the fold; for leave-one-subject-out the subject, ``<corpus>/<subject>``.
    train, test : tuple of str
        Clip ids, sorted.
    """

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def folds_digest(folds: Sequence[Fold]) -> str:
    """Return a SHA-256 over the folds: their names and the clips on both sides."""
    return digest({fold.name: [list(fold.train), list(fold.test)] for fold in folds})


def write_folds(path: Path, protocol: Mapping[str, Any], folds: Sequence[Fold]) -> Path:
    """Write folds to a JSON file with their digest.

    Parameters
    ----------
    path : Path
        The file.
    protocol : mapping
        The protocol's name and parameters.
    folds : sequence of Fold
        The folds.

    Returns
    -------
    Path
        The file.
    """
    clips = sorted({clip for fold in folds for clip in (*fold.train, *fold.test)})
    facts = {
        "schema": SCHEMA,
        "protocol": dict(protocol),
        "sha256": folds_digest(folds),
        "clips": clips,
        "folds": [
            {
                "name": fold.name,
                "test": list(fold.test),
                "train": OTHERS if fold.train == _others(clips, fold.test) else list(fold.train),
            }
            for fold in folds
        ],
    }
    write_atomic(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return path


def read_folds(path: Path) -> tuple[dict[str, Any], list[Fold]]:
    """Return the protocol and the folds of a file that `write_folds` wrote.

    Raises
    ------
    ConfigError
        If there is no such file, it has another form, or the folds are not those of its digest.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["schema"] != SCHEMA:
            raise ConfigError(
                f"The folds are written in form {facts['schema']}, this version reads {SCHEMA}.",
                where=path,
                hint="write them anew: mer-prep composite --protocol NAME",
            )
        clips = facts["clips"]
        folds = [
            Fold(
                one["name"],
                _others(clips, one["test"]) if one["train"] == OTHERS else tuple(one["train"]),
                tuple(one["test"]),
            )
            for one in facts["folds"]
        ]
        protocol, stated = dict(facts["protocol"]), facts["sha256"]
    except FileNotFoundError:
        raise ConfigError(
            "There is no file of folds.",
            where=path,
            hint="mer-prep composite writes folds.json into the workspace",
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "This is no file of folds.", where=path, why=f"{type(error).__name__}: {error}"
        ) from None
    if folds_digest(folds) != stated:
        raise ConfigError(
            "The folds are not those that were frozen: their digest differs.",
            where=path,
            why="the file was changed after it was written",
            hint="take the original file, or write folds anew: mer-prep composite --protocol NAME",
        )
    return protocol, folds


def _others(clips: Sequence[str], test: Sequence[str]) -> tuple[str, ...]:
    tested = set(test)
    return tuple(clip for clip in clips if clip not in tested)
