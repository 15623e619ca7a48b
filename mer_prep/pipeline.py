"""Pipeline files: named, ordered stages with their parameters, like a methods section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep.checks import suggest
from mer_prep.config import read_toml
from mer_prep.errors import ConfigError
from mer_prep.resources import data_file, data_names

_WORDS = {"title", "description", "reference", "stages"}


@dataclass(frozen=True)
class Pipeline:
    """A pipeline file.

    Parameters
    ----------
    name : str
        Name of the file.
    title, description, reference : str
        What it is for, and whose it is.
    stages : tuple of str
        Stages in order.
    settings : mapping
        Parameters by stage and key.
    """

    name: str
    title: str
    description: str
    reference: str
    stages: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]


def pipeline_names() -> list[str]:
    """Return the names of the pipelines that come with the package."""
    return data_names("pipelines")


def read_pipeline(name: str) -> Pipeline:
    """Read a pipeline by name, or from a TOML file.

    Raises
    ------
    ConfigError
        If there is none of that name or the file lacks its title or stages.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        known = pipeline_names()
        if name not in known:
            raise ConfigError(
                f"There is no pipeline '{name}'.{suggest(name, known)}",
                hint=f"pipelines: {', '.join(known)}; or give the path of a .toml file",
            )
        path = data_file("pipelines", f"{name}.toml")
    data = read_toml(path)
    texts = ("title", "description", "reference")
    stages = data.get("stages")
    is_list = isinstance(stages, list) and all(isinstance(one, str) for one in stages)
    if (
        not is_list
        or not stages
        or "title" not in data
        or not all(isinstance(data.get(key, ""), str) for key in texts)
    ):
        raise ConfigError(
            "A pipeline file needs a title and a list of stages.",
            where=path,
            hint='for example: title = "..." and stages = ["landmarks", "align", "flow"]',
        )
    for key in ("description", "reference"):
        if not isinstance(data.get(key, ""), str):
            raise ConfigError(
                f"'{key}' of a pipeline file must be text, not {data[key]!r:.60}.",
                where=path,
                hint=f'write {key} = "..."',
            )
    settings = {key: value for key, value in data.items() if key not in _WORDS}
    for key, value in settings.items():
        if not isinstance(value, dict):
            raise ConfigError(
                f"Unknown key '{key:.60}' in a pipeline file.{suggest(key, _WORDS)}",
                where=path,
                hint="parameters stand in a table named as their stage, e.g. [align]",
            )
    return Pipeline(
        name=path.stem,
        title=data["title"],
        description=data.get("description", ""),
        reference=data.get("reference", ""),
        stages=tuple(stages),
        settings=settings,
    )
