"""Finds the data of the package: ``pipelines/`` and ``manifests/``, installed or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_folder(name: str) -> Path:
    """Return the folder ``pipelines`` or ``manifests``.

    In a wheel both lie inside the package; in a checkout (editable install) beside it.
    """
    for parent in (_PACKAGE, _PACKAGE.parent):
        folder = parent / name
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"the package's data folder '{name}' is missing; reinstall mer-prep")


def data_file(folder: str, *names: str) -> Path:
    """Return the path of one data file, e.g. ``data_file("manifests", "corpora", "samm.toml")``."""
    return data_folder(folder).joinpath(*names)


def data_names(folder: str, *names: str) -> list[str]:
    """Return the sorted stems of the TOML files in a data folder."""
    return sorted(path.stem for path in data_folder(folder).joinpath(*names).glob("*.toml"))
