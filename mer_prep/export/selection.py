"""Which stored results are exported, and under which labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep.checks import check_option, suggest
from mer_prep.composite import build_composite
from mer_prep.composite_files import check_lines, read_composite_facts
from mer_prep.config import parse_json, parse_json_object, read_toml
from mer_prep.errors import ConfigError, ManifestError, ShardError
from mer_prep.export.coding import SCALINGS
from mer_prep.labels import read_label_map
from mer_prep.manifest import Clip
from mer_prep.protocols import read_folds
from mer_prep.records import record_bytes, record_text
from mer_prep.resources import data_file, data_names
from mer_prep.stages.base import Field, Stage
from mer_prep.stages.pairs import PAIR_FIELDS
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.workspace import Workspace

_PAIR_NAMES = frozenset(field.name for field in PAIR_FIELDS)


@dataclass(frozen=True)
class Item:
    """A clip to export: where its result is, and its label if there are labels.

    Parameters
    ----------
    clip : Clip
        The clip.
    shard : Path
        The shard with its result.
    label : int, optional
        Its class.
    class_name : str
        Name of the class.
    fold : str
        The fold of the composite that tests it; empty if none does.
    pairs_shard : Path, optional
        The shard that says which frames were compared, where the result's own does not.
    """

    clip: Clip
    shard: Path
    label: int | None = None
    class_name: str = ""
    fold: str = ""
    pairs_shard: Path | None = None


@dataclass(frozen=True)
class Selection:
    """What an export is made of.

    Parameters
    ----------
    stage : Stage
        The stage whose results are exported.
    recipe : mapping
        Its parameters, versions and libraries, and those of all it rests on.
    items : tuple of Item
        Clips with a result, by clip id.
    failed : tuple of str
        Clip ids that were quarantined and so are left out.
    unlabelled : int
        Clips left out since they have no label.
    labels : str
        Name of the label map; empty if there is none.
    classes : tuple of str
        Its classes.
    keys : mapping of str to str
        Key of the shard by ``<corpus>/<subject>``.
    folds : Path, optional
        The composite's file of folds, where its clips are exported.
    pair_fields : tuple of Field
        The datasets that tell which frames the rows of the result compare, where another stage
        has them.
    """

    stage: Stage
    recipe: dict[str, Any]
    items: tuple[Item, ...]
    failed: tuple[str, ...]
    unlabelled: int
    labels: str
    classes: tuple[str, ...]
    keys: dict[str, str]
    folds: Path | None = None
    pair_fields: tuple[Field, ...] = ()

    @property
    def restricted(self) -> bool:
        """Whether any clip is of a licensed corpus."""
        return any(item.clip.restricted for item in self.items)

    @property
    def synthetic(self) -> bool:
        """Whether any clip is synthetic."""
        return any(item.clip.synthetic for item in self.items)


@dataclass(frozen=True)
class Preset:
    """A named way to make pictures: for which stage, and with which scaling and range."""

    name: str
    title: str
    reference: str
    stage: str
    scaling: str
    range: float | None = None


def preset_names() -> list[str]:
    """Return the names of the presets."""
    return data_names("manifests", "exports")


def read_preset(name: str) -> Preset:
    """Read a preset by name, or from a TOML file of the same form.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file does not have the form.
    """
    if name.endswith(".toml"):
        path = Path(name)
    else:
        known = preset_names()
        if name not in known:
            raise ConfigError(
                f"There is no preset '{name}'.{suggest(name, known)}",
                hint=f"presets: {', '.join(known)}; or give the path of a .toml file",
            )
        path = data_file("manifests", "exports", f"{name}.toml")
    data = {"title": "", "reference": "", **read_toml(path)}
    _check_preset(path, data)
    return Preset(name=path.stem, **data)


#: What the keys of a preset must be; those that it needs come first.
_PRESET_KEYS = {
    "stage": "text",
    "scaling": "text",
    "title": "text",
    "reference": "text",
    "range": "a number above 0",
}


def _check_preset(path: Path, data: Mapping[str, Any]) -> None:
    """Raise `ConfigError` if a key of a preset is unknown, missing or mistyped."""
    hint = 'it needs stage = "flow" and scaling = "symmetric", and may have a range'
    for key in data:
        if key not in _PRESET_KEYS:
            message = f"A preset has no key '{key}'.{suggest(key, _PRESET_KEYS)}"
            raise ConfigError(message, where=path, hint=hint)
    for key in ("stage", "scaling"):
        if key not in data:
            raise ConfigError(f"The preset lacks the key '{key}'.", where=path, hint=hint)
    for key, value in data.items():
        fits = isinstance(value, str)
        if key == "range":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            fits = number and 0 < value < math.inf
        if not fits:
            message = f"'{key}' of the preset must be {_PRESET_KEYS[key]}, not {value!r:.60}."
            raise ConfigError(message, where=path, hint=hint)
    try:
        check_option("scaling", data["scaling"], SCALINGS)
    except ConfigError as error:
        raise ConfigError(error.what, where=path, hint=error.hint) from None


def select_items(
    workspace: Workspace,
    corpora: Sequence[str],
    recipe: Recipe,
    stage: str,
    *,
    labels: str | None = None,
    composite: bool = False,
) -> Selection:
    """Find the current results of a stage.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpora : sequence of str
        Imported corpora; with labels or the composite and none named, those they know.
    recipe : Recipe
        The stage's recipe; its parameters say which results are meant.
    stage : str
        Name of the stage.
    labels : str, optional
        Label map by name or file: only clips with a label, with their labels.
    composite : bool
        Only the clips of the workspace's composite, with their labels.

    Raises
    ------
    ShardError
        If results are missing.
    ManifestError
        If there is no clip, or the composite does not fit the manifests.
    ConfigError
        If both labels and the composite are asked for.
    """
    if labels and composite:
        raise ConfigError(
            "The composite has its own labels.", hint="give --labels or --composite, not both"
        )
    names = workspace.select(tuple(corpora))
    wanted: dict[str, tuple[int | None, str]]
    classes: tuple[str, ...] = ()
    map_name, unlabelled = "", 0
    folds: dict[str, str] = {}
    if labels:
        label_map = read_label_map(labels)
        if not corpora:
            names = [name for name in names if name in label_map.corpora]
        made = build_composite(
            [clip for name in names for clip in workspace.clips(name)],
            label_map,
            {name: workspace.record(name) for name in names},
        )
        map_name, classes, unlabelled = label_map.name, label_map.classes, len(made.left_out)
        wanted = {one.clip.clip_id: (one.label, classes[one.label]) for one in made.samples}
    elif composite:
        map_name, classes, wanted = _composite_labels(workspace, names)
        folds = _composite_folds(workspace)
        names = [name for name in names if any(one.startswith(f"{name}/") for one in wanted)]
    else:
        wanted = {clip.clip_id: (None, "") for name in names for clip in workspace.clips(name)}
    items, failed, keys, missing = [], [], {}, []
    paired = _pair_stage(recipe, stage)
    for plan in make_plan(workspace, names, recipe, explain=False):
        clips = [clip for clip in plan.clips if clip.clip_id in wanted]
        shard = plan.shards[stage]
        if not clips:
            continue
        if shard.header is None:
            missing.append(f"{plan.corpus}/{plan.subject}")
            continue
        keys[f"{plan.corpus}/{plan.subject}"] = shard.header.key
        before = plan.shards[paired] if paired else None
        for clip in clips:
            if clip.clip_id in shard.header.clips:
                held = before and before.header and clip.clip_id in before.header.clips
                items.append(
                    Item(
                        clip,
                        shard.path,
                        *wanted[clip.clip_id],
                        fold=folds.get(clip.clip_id, ""),
                        pairs_shard=before.path if before and held else None,
                    )
                )
            else:
                failed.append(clip.clip_id)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ShardError(
            f"There is no current result of '{stage}' for {missing[0]}{more}.",
            where=workspace.cache,
            why="an export with clips missing would look whole",
            hint=f"run `mer-prep {stage}` first, with the same --set and for the same corpora",
        )
    if not items:
        raise ManifestError(f"There is no clip with a result of '{stage}' to export.")
    return Selection(
        stage=recipe.stages[stage],
        recipe=recipe.facts(stage),
        items=tuple(sorted(items, key=lambda item: item.clip.clip_id)),
        failed=tuple(sorted(failed)),
        unlabelled=unlabelled,
        labels=map_name,
        classes=classes,
        keys=keys,
        folds=workspace.root / "folds.json" if composite else None,
        pair_fields=_pair_fields(recipe.stages[paired]) if paired else (),
    )


def _pair_fields(stage: Stage) -> tuple[Field, ...]:
    return tuple(field for field in stage.fields if field.name in _PAIR_NAMES)


def _pair_stage(recipe: Recipe, stage: str) -> str:
    """Return the stage that chose the pairs of frames that a stage's rows stand for.

    Empty if the stage tells them itself, or its rows are of no pairs.
    """
    fields = recipe.stages[stage].fields
    if _pair_fields(recipe.stages[stage]) or not any(
        field.axes.split()[:1] == ["pair"] for field in fields
    ):
        return ""
    below = [name for name in recipe.chain(stage) if _pair_fields(recipe.stages[name])]
    return below[-1] if below else ""


def _composite_folds(workspace: Workspace) -> dict[str, str]:
    """Return the fold that tests a clip of the composite, by clip id."""
    path = workspace.root / "folds.json"
    frozen = read_folds(path)
    facts = read_composite_facts(workspace.root) or {}
    if frozen.clip_list != facts.get("counts", {}).get("all", {}).get("sha256"):
        raise ManifestError(
            "The folds are not those of the composite: they are of other clips or labels.",
            where=path,
            hint="run `mer-prep composite` again",
        )
    return {clip: fold.name for fold in frozen.folds for clip in fold.test}


def _composite_labels(
    workspace: Workspace, names: Sequence[str]
) -> tuple[str, tuple[str, ...], dict[str, tuple[int | None, str]]]:
    """Return (label map, classes, labels by clip id) of the composite's clips of some corpora."""
    path = workspace.root / "composite.jsonl"
    try:
        facts = parse_json_object(record_text(path.with_suffix(".json")))
        text = record_bytes(path)
        check_lines(text, facts, where=path)
        lines = [parse_json(line) for line in text.decode().split("\n")[:-1]]
        stored = {
            one["clip_id"]: (str(one["source_digest"]), one["emotion"], one["objective_class"])
            for one in lines
        }
        wanted: dict[str, tuple[int | None, str]] = {
            one["clip_id"]: (int(one["label"]), str(one["class"]))
            for one in lines
            if one["corpus"] in names
        }
        name, classes = str(facts["labels"]), tuple(facts["classes"])
    except FileNotFoundError:
        raise ManifestError(
            "The workspace has no composite.", where=path, hint="run `mer-prep composite` first"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ManifestError(
            f"The composite cannot be read: {error!s:.200}.",
            where=path,
            hint="run `mer-prep composite` again",
        ) from None
    found = {
        clip.clip_id: (clip.source_digest, clip.emotion, clip.objective_class)
        for one in names
        for clip in workspace.clips(one)
    }
    changed = sorted(one for one in wanted if found.get(one) != stored[one])
    if changed:
        raise ManifestError(
            f"The composite does not fit the manifests: {changed[0]} has changed or gone.",
            where=path,
            why="its label may be another now",
            hint="run `mer-prep composite` again",
        )
    return name, classes, wanted
