"""Finds and reads label maps, strictly: what is unknown, missing or mistyped is named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mer_prep.checks import suggest
from mer_prep.config import read_toml
from mer_prep.errors import ConfigError
from mer_prep.label_map import (
    BALANCES,
    EXPRESSION_CHOICES,
    CorpusLabels,
    Drop,
    Expected,
    LabelMap,
    Paper,
)
from mer_prep.resources import data_file, data_names

_MAP_KEYS = (
    *("title", "source", "reference", "note", "classes", "corpora"),
    *("expected", "balance", "paper"),
)
_CORPUS_KEYS = (
    *("emotions", "objective_classes", "drop", "variant", "expression_type", "options"),
    *("note", "expected"),
)
_EXPECTED_KEYS = ("classes", "subjects", "sha256", "versions")

_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "a table"}


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
        return read_label_file(Path(name))
    known = label_map_names()
    if name not in known:
        raise ConfigError(
            f"There is no label map '{name}'.{suggest(name, known)}",
            hint=f"label maps: {', '.join(known)}; or give the path of a .toml file",
        )
    return read_label_file(data_file("manifests", "labels", f"{name}.toml"))


def read_label_file(path: Path) -> LabelMap:
    """Read a label map from a TOML file.

    Raises
    ------
    ConfigError
        If the file is missing, is not TOML, or has not the form of a label map: an unknown key
        (with the nearest one), a missing or mistyped one, a class that is not among the classes.
    """
    data = read_toml(path)
    try:
        return _label_map(path.stem, data)
    except ConfigError as error:
        example = data_file("manifests", "labels", "megc2019-3.toml")
        hint = error.hint or f"a map that may serve as a pattern: {example}"
        raise ConfigError(error.what[:1000], where=path, why=error.why, hint=hint) from None


def _label_map(name: str, data: Mapping[str, Any]) -> LabelMap:
    place = "the label map"
    _check_keys(data, _MAP_KEYS, place)
    classes = _texts(data, "classes", place)
    if not classes or len(set(classes)) < len(classes):
        raise ConfigError("A label map has one or more classes, each named once.")
    corpora = _get(data, "corpora", dict, place)
    if not corpora:
        raise ConfigError("A label map names one or more corpora.")
    total = data.get("expected")
    paper = _get(data, "paper", dict, place, None)
    return LabelMap(
        name=name,
        title=_get(data, "title", str, place),
        source=_get(data, "source", str, place),
        reference=_get(data, "reference", str, place, ""),
        note=_get(data, "note", str, place, ""),
        classes=classes,
        corpora={corpus: _corpus(corpora, corpus, classes) for corpus in corpora},
        expected=None if total is None else _total(total, classes),
        balance=_one_of(data, "balance", BALANCES, place, None),
        paper=None if paper is None else _paper(paper),
    )


def _corpus(corpora: Mapping[str, Any], corpus: str, classes: tuple[str, ...]) -> CorpusLabels:
    place = f"[corpora.{corpus}]"
    part = _get(corpora, corpus, dict, "[corpora]")
    _check_keys(part, _CORPUS_KEYS, place)
    emotions = _classes_by(part, "emotions", classes, place)
    objective = _classes_by(part, "objective_classes", classes, place)
    if bool(emotions) == bool(objective):
        raise ConfigError(
            f"{place} gives classes to emotions or to objective classes, to one of them.",
            hint=f"write [corpora.{corpus}.emotions] or [corpora.{corpus}.objective_classes]",
        )
    wrong = [key for key in objective if key not in {str(number) for number in range(1, 8)}]
    if wrong:
        raise ConfigError(f"'{wrong[0]}' in {place} is no objective class from 1 to 7.")
    options = _get(part, "options", dict, place, {})
    drops = _tables(part, "drop", place)
    return CorpusLabels(
        emotions=emotions,
        objective_classes={int(number): name for number, name in objective.items()},
        drop=tuple(_drop(entry, f"[[corpora.{corpus}.drop]]") for entry in drops),
        variant=_get(part, "variant", str, place, None),
        expression_type=_one_of(part, "expression_type", EXPRESSION_CHOICES, place, "micro"),
        options={key: _get(options, key, str, f"options of {place}") for key in options},
        note=_get(part, "note", str, place, ""),
        expected=_expected_by_version(part, classes, place),
    )


def _classes_by(
    part: Mapping[str, Any], key: str, classes: tuple[str, ...], place: str
) -> dict[str, str]:
    table = _get(part, key, dict, place, {})
    for source in table:
        name = _get(table, source, str, f"{key} of {place}")
        if name not in classes:
            raise ConfigError(
                f"There is no class '{name}', which {place} gives to '{source}'."
                f"{suggest(name, classes)}",
                hint=f"classes: {', '.join(classes)}",
            )
    return table


def _drop(entry: Mapping[str, Any], place: str) -> Drop:
    _check_keys(entry, ("subject", "clip", "emotion", "reason"), place)
    return Drop(
        subject=_get(entry, "subject", str, place),
        reason=_get(entry, "reason", str, place),
        clip=_get(entry, "clip", str, place, None),
        emotion=_get(entry, "emotion", str, place, None),
    )


def _expected_by_version(
    part: Mapping[str, Any], classes: tuple[str, ...], place: str
) -> tuple[Expected, ...]:
    """Return what is expected: of one table for all versions, or of several that name theirs."""
    if isinstance(part.get("expected"), dict):
        return (_expected(part["expected"], classes, f"expected of {place}"),)
    found = tuple(
        _expected(entry, classes, f"expected of {place}")
        for entry in _tables(part, "expected", place)
    )
    versions = [version for one in found for version in one.versions]
    if any(not one.versions for one in found) or len(set(versions)) < len(versions):
        raise ConfigError(
            f"Several 'expected' of {place} each need annotation versions of their own.",
            hint='for example versions = ["A"]',
        )
    return found


def _expected(part: Any, classes: tuple[str, ...], place: str) -> Expected:
    if not isinstance(part, dict):
        raise ConfigError(f"{place} must be a table, not {part!r:.60}.")
    _check_keys(part, _EXPECTED_KEYS, place)
    counts = _get(part, "classes", dict, place)
    _check_keys(counts, classes, f"classes of {place}")
    return Expected(
        classes={name: _get(counts, name, int, f"classes of {place}", 0) for name in classes},
        subjects=_get(part, "subjects", int, place, None),
        sha256=_get(part, "sha256", str, place, None),
        versions=_texts(part, "versions", place, ()),
    )


def _total(part: Any, classes: tuple[str, ...]) -> Expected:
    total = _expected(part, classes, "[expected]")
    if total.versions:
        raise ConfigError(
            "[expected] is of all corpora together and names no annotation versions.",
            hint="give the versions to the expected counts of a corpus",
        )
    return total


def _paper(part: Mapping[str, Any]) -> Paper:
    _check_keys(part, ("clips", "why"), "[paper]")
    return Paper(_get(part, "clips", int, "[paper]"), _get(part, "why", str, "[paper]"))


def _check_keys(table: Mapping[str, Any], allowed: Collection[str], place: str) -> None:
    for key in table:
        if key not in allowed:
            raise ConfigError(
                f"Unknown key '{key}' in {place}.{suggest(key, allowed)}",
                hint=f"known: {', '.join(allowed)}",
            )


#: Stands for "no default": the key is required.
_REQUIRED = object()


def _get(
    table: Mapping[str, Any], key: str, kind: type, place: str, default: Any = _REQUIRED
) -> Any:
    """Return a value of a kind, or the default if the key is absent."""
    if key not in table:
        if default is _REQUIRED:
            raise ConfigError(f"'{key}' is missing in {place}.")
        return default
    value = table[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigError(f"'{key}' in {place} must be {_KINDS[kind]}, not {value!r:.60}.")
    return value


def _one_of(
    table: Mapping[str, Any], key: str, allowed: Collection[str], place: str, default: str | None
) -> Any:
    value = _get(table, key, str, place, default)
    if value is not None and value not in allowed:
        listed = ", ".join(f"'{one}'" for one in allowed)
        raise ConfigError(
            f"Invalid value for '{key}' in {place}: {value!r}.{suggest(value, allowed)}",
            hint=f"allowed: {listed}",
        )
    return value


def _texts(
    table: Mapping[str, Any], key: str, place: str, default: Any = _REQUIRED
) -> tuple[str, ...]:
    values = _get(table, key, list, place, default)
    if any(not isinstance(value, str) for value in values):
        raise ConfigError(f"'{key}' in {place} must be a list of texts, not {values!r:.60}.")
    return tuple(values)


def _tables(table: Mapping[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    values = _get(table, key, list, place, [])
    if any(not isinstance(value, dict) for value in values):
        raise ConfigError(f"'{key}' in {place} must be a list of tables, not {values!r:.60}.")
    return values
