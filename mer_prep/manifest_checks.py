"""What the texts of a manifest and of its import record may hold, told before any is used."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import types
import typing
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, TypeVar

from mer_prep.errors import ManifestError

#: Control characters, of which a newline would break the lines of logs and lists.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

#: A path without a root, drive, protocol or control character; ``..`` is looked for apart.
_PLAIN_PATH = re.compile(r"[^/:.\x00-\x1f\x7f-\x9f][^:\x00-\x1f\x7f-\x9f]*")

Facts = TypeVar("Facts")

IMPORT_AGAIN = "import the corpus again; manifests are not meant to be edited by hand"


def strict_json(text: str, *, where: str, what: str) -> dict[str, Any]:
    """Return a JSON object that no two readers understand differently.

    Parameters
    ----------
    text : str
        The JSON.
    where, what : str
        Place and kind of text for messages: "A manifest line".

    Raises
    ------
    ManifestError
        If it is no JSON, no object, has a key twice, a number that is none, half a character, or
        nests too deeply.
    """
    try:
        found = json.loads(text, object_pairs_hook=_no_duplicate_keys, parse_constant=_no_constant)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{what} is not valid JSON: {error}.", where=where, hint=IMPORT_AGAIN
        ) from None
    if not isinstance(found, dict):
        raise ManifestError(f"{what} is not a JSON object.", where=where, hint=IMPORT_AGAIN)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = [key for key, count in counts.items() if count > 1]
        raise ValueError(f"key {twice[0]!r:.60} stands twice")
    return record


def check_schema(facts: dict[str, Any], schema: int, *, where: str) -> None:
    """Take the schema version out of a JSON object, and refuse any but the known one."""
    found = facts.pop("schema", None)
    if found != schema or isinstance(found, bool):
        raise ManifestError(
            f"The manifest has schema {found!r:.40}; this mer-prep reads schema {schema}.",
            where=where,
            hint="import the corpus again with this version, or update mer-prep",
        )


def is_plain(text: str) -> bool:
    """Return whether a text has no control characters."""
    return _CONTROL.search(text) is None


def is_name(text: str) -> bool:
    """Return whether a text can be a part of a clip id: NFC-normalised, and no path."""
    return (
        text not in ("", ".", "..")
        and "/" not in text
        and is_plain(text)
        and unicodedata.is_normalized("NFC", text)
    )


@functools.lru_cache(maxsize=16)  # the clips of a corpus share a few of them
def is_root(text: str) -> bool:
    """Return whether a text is an absolute path without ``..``."""
    path = PurePosixPath(text)
    return path.is_absolute() and ".." not in path.parts and is_plain(text)


def check_relative(path: str, *, where: str) -> str:
    """Return `path` if it is a plain relative POSIX path that stays below its root.

    Raises
    ------
    ManifestError
        For absolute paths, ``..``, backslash drives, control characters and URLs.
    """
    if ".." not in path and _PLAIN_PATH.fullmatch(path):
        return path  # nearly all paths, of which a manifest may have millions
    parts = path.split("/")
    drive = path[1:2] == ":"
    if (
        path.startswith("/")
        or ".." in parts
        or all(part in ("", ".") for part in parts)
        or drive
        or "://" in path
        or not is_plain(path)
    ):
        raise ManifestError(
            f"A source path is not a plain relative path: {path!r:.120}.",
            where=where,
            why="only files below the corpus folder are ever read",
            hint="import the corpus again",
        )
    return path


def check_types(facts: Mapping[str, Any], hints: Mapping[str, Any], *, where: str) -> None:
    """Check the values of a JSON object against type hints: str, int, bool, float and ``| None``.

    Raises
    ------
    ManifestError
        Naming the first field whose value is of another type. Fields with other hints pass.
    """
    for name, value in facts.items():
        kinds = _plain_types(hints[name])
        if kinds and type(value) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ManifestError(
                f"Field '{name}' must be {expected}, not {value!r:.80}.",
                where=where,
                hint=IMPORT_AGAIN,
            )


def _plain_types(hint: Any) -> tuple[type, ...]:
    """Return the plain types of a hint, or none if it is made of others."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return parts if set(parts) <= {str, int, bool, float, type(None)} else ()


def filled(
    kind: type[Facts],
    facts: dict[str, Any],
    *,
    lists: Mapping[str, type] | None = None,
    where: str,
) -> Facts:
    """Return an instance of a dataclass with the values of a JSON object in its fields.

    Parameters
    ----------
    kind : type
        A dataclass.
    facts : dict
        Values by field.
    lists : mapping of str to type, optional
        Fields that are lists, and what is in them: texts, or objects that fill a dataclass.
        Any other field that is made of others must be an object of texts.
    where : str
        Named in errors.

    Raises
    ------
    ManifestError
        If fields are unknown, missing or mistyped.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(facts) - set(fields))
    missing = sorted(name for name in set(fields) - set(facts) if _is_required(fields[name]))
    if unknown or missing:
        raise ManifestError(
            f"The import record's fields do not fit: unknown {unknown}, missing {missing}.",
            where=where,
            hint=IMPORT_AGAIN,
        )
    hints = typing.get_type_hints(kind)
    check_types(facts, hints, where=where)
    found = dict(facts)
    for name, value in facts.items():
        if lists and name in lists:
            one = lists[name]
            entries = _all_of(name, value, list, str if one is str else dict, where)
            found[name] = tuple(
                entry if one is str else filled(one, entry, where=where) for entry in entries
            )
        elif not _plain_types(hints[name]):
            _all_of(name, value, dict, str, where)
    return kind(**found)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _all_of(name: str, value: Any, outer: type, inner: type, where: str) -> Any:
    """Return a list or an object if all values in it are of one type."""
    values = value.values() if isinstance(value, dict) else value
    if not isinstance(value, outer) or not all(isinstance(one, inner) for one in values):
        raise ManifestError(
            f"Field '{name}' must be a {outer.__name__} of {inner.__name__}, not {value!r:.80}.",
            where=where,
            hint=IMPORT_AGAIN,
        )
    return value
