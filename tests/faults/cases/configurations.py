"""Parameters and configuration files that are wrong in one place."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mer_prep.config import make_params, parse_settings
from mer_prep.errors import ConfigError
from mer_prep.export.selection import read_preset
from mer_prep.labels import read_label_map
from mer_prep.pipeline import read_pipeline
from mer_prep.resources import data_folder
from mer_prep.stages import all_stages
from mer_prep.stages.base import SourceParams
from tests.faults.catalogue import Tries, fault, instead, refused


def _kinds() -> Iterator[tuple[str, type, Callable[[dict[str, Any]], object]]]:
    """Yield name, parameters and maker of every stage, and of every model that is installed."""
    for name, kind in ({"source": SourceParams} | _params()).items():
        yield name, kind, lambda values, k=kind, n=name: make_params(k, values, where=n)
    try:
        from mer_prep.training.methods import METHODS, architecture
    except ImportError:
        return
    for name, method in METHODS.items():
        yield name, method.Config, lambda values, n=name: architecture(n, "tiny", values)


def _params() -> dict[str, type]:
    return {name: kind.Params for name, kind in all_stages().items()}


#: Parameters that name a file, which may be called anything.
_PATHS = {("meta-mmfnet", "weights")}


def _wrong(hint: Any) -> list[str]:
    """Return values, as texts of ``--set``, that no parameter of a type can have."""
    if isinstance(hint, types.UnionType):
        return ["1", "true", "[]", "{}", "NaN", '"\\u0000"'] if str in typing.get_args(hint) else []
    common = ["[]", "{}", "[1]", '{"a": 1}', '"\\u0000"', "a\nb", "nonsense", "9" * 5000]
    if hint is bool:
        return [*common, "1", "0", "yes", "True", "null", "NaN"]
    if hint is int:
        return [*common, "1.5", "nan", "NaN", "Infinity", "-1000000", "true", "null", "9" * 30]
    if hint is float:
        return [*common, "nan", "NaN", "Infinity", "-Infinity", "1e999", "-1e9", "true", "null"]
    return [*common, "1", "0.5", "true", "null", "NaN", "-1"]


@fault(
    40,
    "wrong values of every parameter of every stage and model, as --set gives them",
    without={
        "the types of parameters": instead(
            "mer_prep.config._coerce", lambda value, hint, name: value
        ),
        "the ranges": instead("mer_prep.stages.align.check_range", lambda *_, **__: None),
    },
)
def wrong_parameters(tries: Tries) -> None:
    ways = [
        (name, make, field.name, value)
        for name, kind, make in _kinds()
        for field in dataclasses.fields(kind)
        for value in _wrong(typing.get_type_hints(kind)[field.name])
        if (name, field.name) not in _PATHS
    ]
    for name, make, key, value in tries.of(ways, quick=len(ways)):
        values = parse_settings([f"{name}.{key}={value}"])[name]
        with refused(ConfigError, key):
            make(values)


@fault(
    40,
    "parameters that there are not",
    without={"the nearest name": instead("mer_prep.config.suggest", lambda *_: "")},
)
def unknown_parameters(tries: Tries) -> None:
    for name, kind, make in _kinds():
        for field in tries.of(dataclasses.fields(kind), quick=100):
            for wrong in (f"{field.name}x", field.name[1:] + field.name[0], ""):
                words = ["Did you mean"] if wrong == f"{field.name}x" else []
                if wrong and wrong not in {one.name for one in dataclasses.fields(kind)}:
                    with refused(ConfigError, f"{name}.{wrong}", "parameters of", *words):
                        make({wrong: 1})


def _files() -> Iterator[tuple[Path, Callable[[str], object]]]:
    """Yield the configuration files that come along, and what reads those of a user."""
    for path in sorted(data_folder("pipelines").glob("*.toml")):
        yield path, _whole_pipeline
    for path in sorted((data_folder("manifests") / "labels").glob("*.toml")):
        yield path, read_label_map
    for path in sorted((data_folder("manifests") / "exports").glob("*.toml")):
        yield path, read_preset


def _whole_pipeline(name: str) -> object:
    from mer_prep.stages.base import build_stages

    read = read_pipeline(name)
    return build_stages(all_stages(), read.stages, read.settings)


def _spoilt(text: str) -> Iterator[str]:
    """Yield a TOML file with one key of its first level or of a table spoilt."""
    prose = text.split('"""')[1::2]
    for line in text.splitlines():
        if any(line in one for one in prose):
            continue
        key, equals, _ = line.partition(" = ")
        if equals and key.replace("_", "").replace("-", "").isalpha():
            yield text.replace(f"\n{line}\n", f"\n{key}_wrong = 1\n{line}\n", 1)
            # Nothing is a moment in time.
            yield text.replace(f"\n{line}\n", f"\n{key} = 1979-05-27\n", 1)
            yield text.replace(f"\n{line}\n", f"\n{line}\n{line}\n", 1)
    yield from (text + "\x00", text + "\n[", text + "\n= 1", text + '\nx = "', "[[title]]\n" + text)


@fault(
    40,
    "pipelines, label maps and presets of exports with a key that is wrong",
    without={
        "the keys of a label map": instead("mer_prep.labels._check_keys", lambda *_: None),
        "the keys of a pipeline": instead("mer_prep.config._coerce", lambda value, *_: value),
        "the keys of a preset": instead("mer_prep.export.selection._check_preset", lambda *_: None),
    },
)
def wrong_files(tries: Tries) -> None:
    path = tries.fresh() / "mine.toml"
    ways = []
    for source, read in _files():
        text = source.read_text(encoding="utf-8")
        path.write_text("\n" + text, encoding="utf-8")
        read(str(path))
        ways += [(one, read) for one in _spoilt("\n" + text) if one != "\n" + text]
    for text, read in tries.of(ways, quick=400):
        path.write_text(text, encoding="utf-8")
        with refused(ConfigError):
            read(str(path))
    for read in (_whole_pipeline, read_label_map, read_preset):
        for wrong in (path.parent / "absent.toml", Path("/proc/self/mem.toml")):
            with refused(ConfigError, str(wrong)):
                read(str(wrong))
        folder = tries.fresh() / "folder.toml"
        folder.mkdir()
        with refused(ConfigError, str(folder)):
            read(str(folder))
