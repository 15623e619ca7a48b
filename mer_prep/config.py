"""Parameters: frozen dataclasses, ``--set stage.key=value`` and pipeline files."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mer_prep.checks import suggest
from mer_prep.errors import ConfigError
from mer_prep.records import record_text


def make_params(kind: type, values: Mapping[str, Any], *, where: str) -> Any:
    """Build a parameter dataclass from plain values, strictly.

    Parameters
    ----------
    kind : type
        A frozen dataclass whose fields are str, int, float, bool, or one of them or None.
    values : mapping
        Values by field name; unknown names are errors.
    where : str
        Name of the stage, used in messages as ``where.key``.

    Raises
    ------
    ConfigError
        For an unknown key (with the nearest one), a wrong type, or what the dataclass's own
        ``__post_init__`` refuses.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise ConfigError(
                f"Unknown parameter '{where}.{name:.60}'."
                f"{suggest(name, fields, prefix=f'{where}.')}",
                hint=f"parameters of '{where}': {', '.join(fields) or 'none'}",
            )
        checked[name] = _coerce(value, hints[name], f"{where}.{name}")
    return kind(**checked)


def check_plain(kind: type, values: Mapping[str, Any], *, where: str) -> None:
    """Check those values of a dataclass that are plain: text, numbers, true or false, or None.

    Parameters
    ----------
    kind : type
        A dataclass; its fields of other types are not looked at.
    values : mapping
        Values by field name.
    where : str
        Name used in messages as ``where.key``.

    Raises
    ------
    ConfigError
        For a wrong type.
    """
    for name, hint in typing.get_type_hints(kind).items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if name in values and set(options) <= {str, int, float, bool, type(None)}:
            _coerce(values[name], hint, f"{where}.{name}")


def _coerce(value: Any, hint: Any, name: str) -> Any:
    if isinstance(hint, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        if value is None:
            return None
        hint = options[0]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            value = float(value)
    good = isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool)
    if isinstance(value, float) and not math.isfinite(value):
        good = False
    if isinstance(value, str) and "\0" in value:
        good = False
    if not good:
        raise ConfigError(
            f"Parameter '{name}' must be {_WORDS.get(hint, hint.__name__)}, not {_shown(value)}.",
            hint=f"write {_EXAMPLES.get(hint, 'another')}, or leave '{name}' out for its default",
        )
    return value


def _shown(value: Any) -> str:
    # A number of thousands of digits has no decimal text in Python.
    return "a huge number" if isinstance(value, int) and abs(value) > 10**80 else f"{value!r:.80}"


_WORDS = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
_EXAMPLES = {str: "a name", int: "a number such as 3", float: "a number such as 0.5"}
_EXAMPLES |= {bool: "true"}


def parse_settings(settings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Turn ``stage.key=value`` texts into a nested dictionary.

    Values are read as JSON where they are JSON (numbers, true, false, null), else as text.

    Raises
    ------
    ConfigError
        If a text is not of that form.
    """
    result: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        stage, dot, key = name.partition(".")
        if not equals or not dot or not stage or not key:
            raise ConfigError(
                f"'{setting:.80}' is not of the form stage.key=value.",
                hint="for example --set align.mode=onset",
            )
        try:
            value = parse_json(text)
        except ValueError:
            value = text
        result.setdefault(stage.strip(), {})[key.strip()] = value
    return result


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """Return the value of a JSON text, whose every fault is a `ValueError`.

    Parameters
    ----------
    text : str or bytes
        The text; bytes are UTF-8.
    **hooks
        Passed on to `json.loads`.

    Raises
    ------
    ValueError
        If it is not JSON, is nested too deeply to be read, or holds half of a surrogate pair,
        which no file could hold in turn.
    """
    try:
        value = json.loads(text, **hooks)
        marks = (b"\\u", b"\xed") if isinstance(text, bytes) else ("\\u",)
        if any(mark in text for mark in marks):  # type: ignore[operator]
            json.dumps(value, ensure_ascii=False, default=repr).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """Return the object of a JSON text; errors as of `parse_json`, and if it is no object."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"it is {type(value).__name__}, not an object")
    return value


def json_text(value: Any) -> str:
    """Return a value of a JSON object that must be a text; `TypeError` if it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.60} is no text")
    return value


def json_texts(value: Any) -> tuple[str, ...]:
    """Return a value of a JSON object that must be a list of texts; `TypeError` if it is none."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"{value!r:.60} is no list of texts")
    return tuple(value)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, naming it in errors."""
    try:
        return tomllib.loads(record_text(path))
    except FileNotFoundError:
        raise ConfigError(
            f"There is no file {path}.", hint="check the path; it is taken from the current folder"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            "The file is not valid TOML: it is not UTF-8.", where=path, hint="save it as UTF-8"
        ) from None
    except (ValueError, RecursionError) as error:
        # Numbers of thousands of digits are a ValueError of their own.
        told = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ConfigError(
            f"The file is not valid TOML: {told}.",
            where=path,
            hint='correct the line; texts stand in quotes, e.g. mode = "onset"',
        ) from None
    except OSError as error:
        raise ConfigError(
            f"The file cannot be read: {error.strerror}.", where=path, hint="check the path"
        ) from None


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, dataclasses as objects."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def merge_settings(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return nested settings where those of `second` win."""
    merged = {stage: dict(values) for stage, values in first.items()}
    for stage, values in second.items():
        merged.setdefault(stage, {}).update(values)
    return merged


def key_values(params: Any) -> dict[str, Any]:
    """Return the fields of a dataclass of parameters as they enter a key.

    A field marked ``metadata={"key": False}`` never does: it says where something lies, not
    what it is, and its content is told elsewhere. One marked ``metadata={"key": "unless default"}``
    came later, with a default that changes nothing, and enters only at another value, so that
    what was made before it keeps its key.
    """
    values = {}
    for one in dataclasses.fields(params):
        value, kind = getattr(params, one.name), one.metadata.get("key", True)
        if kind is True or (kind == "unless default" and value != one.default):
            values[one.name] = value
    return values
