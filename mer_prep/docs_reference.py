"""Pages of ``docs/reference`` that are made from the code: stages, and the fields of files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from mer_prep.docs_pages import table
from mer_prep.docstrings import parameter_texts
from mer_prep.manifest import Clip
from mer_prep.pipeline import pipeline_names, read_pipeline
from mer_prep.stages import all_stages
from mer_prep.stages.base import describe, describe_source

_MADE = "<!-- Made from the code by `python -m mer_prep.docs_pages`; edit it there. -->"


def reference_pages() -> dict[str, str]:
    """Return the Markdown of the pages by file name."""
    return {"stages.md": stages_page(), "clip-fields.md": clip_fields_page()}


def stages_page() -> str:
    """Return the page of the stages: what each gives, its parameters, and the pipelines."""
    kinds = all_stages()
    about = (
        "A stage turns frames and the results of stages before it into arrays, kept in shards. "
        "`mer-prep NAME` brings it and all it rests on up to date; a parameter is changed by "
        "`--set STAGE.KEY=VALUE`. `mer-prep stages NAME` prints the same."
    )
    parts = ["# Stages and pipelines", _MADE, about, "## source", _parameters(describe_source())]
    for kind in kinds.values():
        parts += _stage(describe(kind), kind.__doc__ or "")
    parts += ["## Pipelines", _pipelines()]
    return "\n\n".join(parts) + "\n"


def _stage(facts: Mapping[str, Any], docstring: str) -> Iterable[str]:
    yield f"## {facts['name']}"
    needs = f", after {', '.join(f'`{one}`' for one in facts['requires'])}"
    yield _prose(docstring.strip().splitlines()[0])
    version = f"Version {facts['version']}{needs if facts['requires'] else ''}"
    yield f"{version}. With its defaults it gives:"
    rows = [
        (f"`{one['name']}`", one["dtype"], one["axes"], one["channels"], one["units"], one["note"])
        for one in facts["fields"]
    ]
    yield table(("dataset", "type", "axes", "channels", "units", "note"), rows)
    yield _parameters(facts)


def _parameters(facts: Mapping[str, Any]) -> str:
    rows = [
        (f"`{facts['name']}.{one['name']}`", f"`{one['default']}`", _prose(one["about"]))
        for one in facts["parameters"]
    ]
    return table(("parameter", "default", "meaning"), rows)


def _pipelines() -> str:
    rows = []
    for name in pipeline_names():
        read = read_pipeline(name)
        settings = ", ".join(
            f"`{stage}.{key}={value}`"
            for stage, values in read.settings.items()
            for key, value in values.items()
        )
        rows.append((f"`{name}`", read.title, ", ".join(read.stages), settings))
    note = "`mer-prep run NAME` runs the stages of a pipeline in one pass; PATH.toml runs your own."
    return f"{note}\n\n{table(('pipeline', 'title', 'stages', 'parameters'), rows)}"


def clip_fields_page() -> str:
    """Return the page of the fields of a clip's line in a manifest."""
    texts = parameter_texts(Clip)
    rows = [(f"`{one.name}`", _prose(texts[one.name])) for one in dataclasses.fields(Clip)]
    about = (
        "One line of `manifests/<corpus>.jsonl` is one clip, a JSON object. A field that is at its "
        "default may be left out; a field of another name is refused. `schema` is 1."
    )
    return f"# Fields of a clip\n\n{_MADE}\n\n{about}\n\n{table(('field', 'meaning'), rows)}\n"


def _prose(text: str) -> str:
    """Return a docstring's text as Markdown in a cell of a table."""
    return text.replace("``", "`").replace("|", "\\|")
