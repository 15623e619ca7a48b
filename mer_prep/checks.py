"""Argument checks, in one place and one voice."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from mer_prep.errors import ConfigError, DependencyError


def suggest(name: str, allowed: Iterable[str], *, prefix: str = "") -> str:
    """Return `` Did you mean 'x'?`` for the nearest allowed name, or an empty string.

    Where none is near, the only one that begins with the name is it: ``megc`` for ``megc2019-3``.
    The suggestion is written with `prefix` before it, so that it can be typed as it stands.
    """
    names = list(allowed)
    near = difflib.get_close_matches(name, names, n=1)
    if not near and len(name) > 1:
        begun = [one for one in names if one.casefold().startswith(name.casefold())]
        near = begun if len(begun) == 1 else []
    return f" Did you mean '{prefix}{near[0]}'?" if near else ""


def check_option(parameter: str, value: str, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`.

    Raises
    ------
    ConfigError
        Names the parameter, the value, the allowed values and the nearest of them.
    """
    names = list(allowed)
    if value in names:
        return value
    listed = ", ".join(f"'{name}'" for name in names)
    raise ConfigError(
        f"Invalid value for '{parameter}': {value!r}.{suggest(str(value), names)}",
        hint=f"choose one of {listed}",
    )


def check_range(
    parameter: str,
    value: float,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
) -> float:
    """Return `value` if ``low <= value <= high`` (``low < value`` with `open_low`).

    Raises
    ------
    ConfigError
        Names the parameter, the value and the allowed range; not-a-number is out of any range.
    """
    above = low is None or (value > low if open_low else value >= low)
    below = high is None or value <= high
    if above and below and value == value:
        return value
    left = "-inf" if low is None else f"{low:g}"
    right = "inf" if high is None else f"{high:g}"
    raise ConfigError(
        f"Value of '{parameter}' is out of range: {value!r}.",
        hint=f"allowed: {'(' if open_low or low is None else '['}{left}, {right}"
        f"{')' if high is None else ']'}",
    )


def soft_import(module: str, *, purpose: str, install: str) -> Any:
    """Import an optional module, or say what it is for and how to get it.

    Parameters
    ----------
    module : str
        Dotted module name.
    purpose : str
        What needs it, as the end of "... is needed".
    install : str
        The pip requirement that brings it, e.g. ``mer-prep[dlib]``.

    Raises
    ------
    DependencyError
        If the module cannot be imported.
    """
    try:
        loaded: ModuleType = importlib.import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"The Python module '{module}' {purpose}, and it cannot be imported: {error}.",
            hint=f'pip install "{install}"; `mer-prep doctor` shows what works here',
        ) from error
    return loaded
