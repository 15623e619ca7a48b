"""What to do where the operating system refuses a file or a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

_CHECKS = {
    errno.ENOSPC: "free some space (`mer-prep gc` shows what nothing needs)",
    errno.EDQUOT: "free some space (`mer-prep gc` shows what nothing needs), or raise the quota",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`, or a quota)",
}


def what_to_do(error: OSError, arguments: Sequence[str]) -> str:
    """Return the hint for an error of the operating system.

    Parameters
    ----------
    error : OSError
        What was raised; it may name a file.
    arguments : sequence of str
        The command line. The option whose path holds the file, or is below it, is named; without
        one, a file in the workspace is of ``--workspace``.
    """
    check = _CHECKS.get(error.errno or 0, "check the disk and its permissions")
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return f"{check}, where results are kept (--workspace) and where files are written"
    path = Path(os.path.abspath(os.fsdecode(error.filename)))
    option = _option_of(path, arguments)
    return f"{check}, or choose another {option}" if option else f"{check}: {path}"


def _option_of(path: Path, arguments: Sequence[str]) -> str:
    """Return the option whose value has most in common with a path; empty if none has to do."""
    found: dict[int, str] = {}
    for option, value in _paths(arguments):
        if path == value or value in path.parents or _is_partial(path, value):
            found[len(value.parts)] = option
        elif path in value.parents and path != Path(path.anchor):
            found.setdefault(0, option)  # a folder that the option's file would lie in
    return found[max(found)] if found else ""


def _is_partial(path: Path, value: Path) -> bool:
    """Return whether a file is one that becomes another once it is whole."""
    return path.parent == value.parent and path.name.startswith(f"{value.name}.")


def _paths(arguments: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield (option, absolute path) of what was given, and of the workspace if it was not."""
    names = {"-w": "--workspace", "-o": "--out"}
    given = False
    for index, argument in enumerate(arguments):
        if not argument.startswith("-") or argument == "--":
            continue
        name, has_value, value = argument.partition("=")
        if not has_value:
            value = arguments[index + 1] if index + 1 < len(arguments) else ""
        if value:
            name = names.get(name, name)
            given |= name == "--workspace"
            yield name, Path(os.path.abspath(value))
    if not given:
        yield (
            "--workspace",
            Path(os.path.abspath(os.environ.get("MER_PREP_WORKSPACE", "workspace"))),
        )
