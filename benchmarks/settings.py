"""The settings of the stages that a contest compares, taken from the stages themselves."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from mer_prep.stages.base import Stage, describe
from mer_prep.stages.landmarks import LandmarkParams, Landmarks


def landmark_settings() -> dict[str, LandmarkParams]:
    """Return the landmark settings by name: the default, then every other choice offered.

    A setting is a parameter that is documented with its choices, such as ``{1, 5, 9}``.
    """
    settings: dict[str, LandmarkParams] = {}
    for name, value in _choices(Landmarks):
        params = LandmarkParams(**{name: value})
        if params not in settings.values():
            default = " (default)" if params == LandmarkParams() else ""
            settings[f"{name}={value}{default}"] = params
    settings = settings or {"default": LandmarkParams()}
    return dict(sorted(settings.items(), key=lambda item: item[1] != LandmarkParams()))


def _choices(kind: type[Stage]) -> Iterator[tuple[str, Any]]:
    for parameter in describe(kind)["parameters"]:
        found = re.match(r"\{(.+?)\}", parameter["about"])
        if found:
            for value in ast.literal_eval(f"[{found.group(1)}]"):
                yield parameter["name"], value
