"""Readers of manifests, composites, folds, label maps, pipelines and settings."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

from mer_prep.composite import build_composite
from mer_prep.composite_files import (
    place_in_composite,
    read_composite_facts,
    replaced_text,
    write_composite,
)
from mer_prep.config import parse_settings
from mer_prep.errors import ConfigError
from mer_prep.export.selection import _composite_folds, _composite_labels, read_preset
from mer_prep.export.target import check_replaceable, foreign_files
from mer_prep.label_map import LabelMap
from mer_prep.labels import read_label_map
from mer_prep.manifest import (
    Clip,
    Finding,
    ImportRecord,
    Recording,
    clip_from_json,
    clip_to_json,
    read_manifest,
    read_record,
    write_manifest,
)
from mer_prep.pipeline import read_pipeline
from mer_prep.protocols import read_folds, write_folds
from mer_prep.resources import data_file, data_names
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.workspace import Workspace
from tests.fuzz.documents import broken_csv, broken_json, broken_lines, broken_text, broken_toml
from tests.fuzz.engine import Reader


def clips() -> list[Clip]:
    """Return the clips of two subjects."""
    return [
        Clip(
            clip_id=f"toy/{subject}/{name}",
            corpus="toy",
            subject=subject,
            clip=name,
            root="/nowhere",
            frame_numbers=(1, 2, 4),
            frames=tuple(f"{subject}/{name}/{number}.jpg" for number in (1, 2, 4)),
            fps=200.0,
            onset=1,
            apex=2,
            offset=4,
            apex_source="annotated",
            emotion=emotion,
            emotion_raw=emotion.title(),
            action_units=(4, 12),
            action_units_raw="4+L12",
            source_digest=f"{subject}{name}",
        )
        for subject in ("s1", "s2")
        for name, emotion in (("a", "happiness"), ("b", "disgust"))
    ]


def record() -> ImportRecord:
    """Return how they were imported."""
    return ImportRecord(
        corpus="toy",
        source="clips",
        root="/nowhere",
        variant="raw",
        annotations="/nowhere/codes.xlsx",
        annotation_version="B",
        errata=("one@1",),
        options={"label": "estimated"},
        findings=(Finding("warning", "apex-missing", "No apex.", "toy/s1/a", "row 3"),),
        recordings=(Recording("long", "s1", "s1/long", 1, 99, 99),),
    )


def _make_manifest(folder: Path) -> None:
    write_manifest(folder, clips(), record())


def _read_manifest(folder: Path) -> None:
    found = read_manifest(folder / "toy.jsonl")
    assert len({clip.clip_id for clip in found}) == len(found)
    for clip in found:
        assert clip_from_json(clip_to_json(clip), where="here") == clip
        assert clip.subject_id.startswith("toy/")
        clip_to_json(clip).encode()


def _read_record(folder: Path) -> None:
    found = read_record(folder / "toy.json")
    for finding in found.findings:
        str(finding)
    text = json.dumps({"schema": 1, **dataclasses.asdict(found)}, ensure_ascii=False).encode()
    path = folder / "again" / "toy.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    assert read_record(path) == found
    assert isinstance(found.root, str)
    assert found.variant is None or isinstance(found.variant, str)
    assert all(isinstance(value, str) for value in found.options.values())
    assert all(isinstance(one.first, int) for one in found.recordings)


def _labels() -> LabelMap:
    text = data_file("manifests", "labels", "megc2019-3.toml")
    whole = read_label_map(str(text))
    part = dataclasses.replace(whole.corpora["casme2"], drop=(), expected=())
    return dataclasses.replace(whole, corpora={"toy": part}, expected=None)


@functools.cache
def _composite() -> object:
    return build_composite(clips(), _labels(), {"toy": record()})


def _make_composite(folder: Path) -> None:
    write_composite(folder, _composite())  # type: ignore[arg-type]


def _read_composite(folder: Path) -> None:
    facts = read_composite_facts(folder)
    assert facts is None or isinstance(facts, dict)
    assert isinstance(replaced_text(facts, _composite()), str)  # type: ignore[arg-type]
    place = place_in_composite(folder, "toy/s1/a")
    assert place is None or place.keys() == {"labels", "class", "label", "left_out"}
    json.dumps(place)


def _read_composite_to_export(folder: Path) -> None:
    # What exports read of a composite is stricter than what only shows it.
    workspace = Workspace(folder)
    name, classes, wanted = _composite_labels(workspace, ["toy"])
    assert isinstance(name, str)
    assert all(0 <= label < len(classes) for label, _ in wanted.values() if label is not None)
    assert all(isinstance(clip_id, str) for clip_id in wanted)
    _composite_folds(workspace)


def _make_workspace(folder: Path) -> None:
    _make_composite(folder)
    write_manifest(folder / "manifests", clips(), record())


def _read_folds(folder: Path) -> None:
    frozen = read_folds(folder / "folds.json")
    for fold in frozen.folds:
        assert all(isinstance(clip, str) for clip in (*fold.train, *fold.test))
    # What was accepted is written as it was read.
    assert read_folds(write_folds(folder / "again.json", frozen)) == frozen


def _make_label_map(folder: Path) -> None:
    text = data_file("manifests", "labels", "megc2019-3.toml").read_text(encoding="utf-8")
    (folder / "map.toml").write_text(text, encoding="utf-8")


def _read_label_map(folder: Path) -> None:
    labels = read_label_map(str(folder / "map.toml"))
    assert len(set(labels.classes)) == len(labels.classes) > 0
    labels.total()
    labels.drawn_per_class()
    for corpus, part in labels.corpora.items():
        assert set(part.emotions.values()) <= set(labels.classes)
        label, reason = labels.label(dataclasses.replace(clips()[0], corpus=corpus))
        assert (label is None) == bool(reason)
        assert label is None or 0 <= label < len(labels.classes)


def _copied(name: str, target: str, folder: Path) -> None:
    source = data_file("pipelines", f"{name}.toml")
    (folder / target).write_bytes(source.read_bytes())


def _read_pipeline(folder: Path) -> None:
    pipeline = read_pipeline(str(folder / "own.toml"))
    assert all(isinstance(one, str) for one in (pipeline.title, pipeline.description))
    try:
        build_stages(all_stages(), pipeline.stages, pipeline.settings)
    except ConfigError as error:
        # Settings of the command line are joined to those of the file before this is known.
        raise ConfigError(error.what, where="own.toml", hint=error.hint) from error


def _make_preset(folder: Path) -> None:
    name = data_names("manifests", "exports")[0]
    text = data_file("manifests", "exports", f"{name}.toml").read_bytes()
    (folder / "own.toml").write_bytes(text)


def _read_preset(folder: Path) -> None:
    preset = read_preset(str(folder / "own.toml"))
    assert preset.range is None or preset.range > 0


def _make_settings(folder: Path) -> None:
    lines = (
        "align.mode=median",
        "flow.pairs=onset-apex",
        "source.frames=all",
        "flow.lag_divisor=8",
    )
    (folder / "settings").write_text("\n".join(lines) + "\n")


def _read_settings(folder: Path) -> None:
    text = (folder / "settings").read_bytes().decode("utf-8", "surrogateescape")
    build_stages(all_stages(), ("flow",), parse_settings(text.split("\n")[:-1]))


def _make_index(folder: Path) -> None:
    out = folder / "out"
    (out / "s1" / "a").mkdir(parents=True)
    (out / "index.csv").write_text("path,clip_id\ns1/a,toy/s1/a\n")
    (out / "s1" / "a" / "clip.json").write_text('{"pictures": {"x.png": {}}, "arrays": {}}')
    for name in ("s1/a/x.png", "export.json"):
        (out / name).write_text("{}")


def _read_index(folder: Path) -> None:
    found = foreign_files(folder / "out")
    assert "index.csv" not in found
    check_replaceable(folder / "out")


READERS = (
    Reader("manifest", "toy.jsonl", _make_manifest, _read_manifest, broken_lines, examples=50),
    Reader("import-record", "toy.json", _make_manifest, _read_record, broken_json, examples=50),
    Reader("composite-facts", "composite.json", _make_composite, _read_composite, broken_json),
    Reader("composite-clips", "composite.jsonl", _make_composite, _read_composite, broken_lines),
    Reader("composite-left-out", "left-out.csv", _make_composite, _read_composite, broken_csv),
    *(
        Reader(
            f"export-{name}",
            f"composite{suffix}",
            _make_workspace,
            _read_composite_to_export,
            broken,
            named=("composite.json", "composite.jsonl", "folds.json"),
        )
        for name, suffix, broken in (
            ("composite-facts", ".json", broken_json),
            ("composite-clips", ".jsonl", broken_lines),
        )
    ),
    Reader("folds", "folds.json", _make_composite, _read_folds, broken_json, examples=40),
    Reader("label-map", "map.toml", _make_label_map, _read_label_map, broken_toml, examples=40),
    Reader(
        "pipeline",
        "own.toml",
        functools.partial(_copied, "mol", "own.toml"),
        _read_pipeline,
        broken_toml,
        examples=30,
    ),
    Reader("export-preset", "own.toml", _make_preset, _read_preset, broken_toml),
    # Settings come from the command line: what is wrong names the setting itself.
    Reader("settings", "settings", _make_settings, _read_settings, broken_text, named=("",)),
    Reader("export-index", "out/index.csv", _make_index, _read_index, broken_csv, named=("out",)),
    Reader(
        "export-clip",
        "out/s1/a/clip.json",
        _make_index,
        _read_index,
        broken_json,
        named=("out",),
    ),
)
