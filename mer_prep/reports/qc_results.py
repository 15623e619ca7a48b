"""Which results of a corpus a quality-control page shows: one recipe, the same for every clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_prep.checks import check_option
from mer_prep.config import make_params
from mer_prep.errors import ConfigError, ManifestError, ShardError
from mer_prep.stages import all_stages
from mer_prep.stages.base import SourceParams, build_stages
from mer_prep.stages.plan import Recipe, SubjectPlan, make_plan, settings_key
from mer_prep.stages.survey import settings_text
from mer_prep.store.cache import Cache
from mer_prep.store.shard import ShardHeader, open_hdf5, read_header
from mer_prep.workspace import Workspace

#: What the page rests on, the best first: the recipe of one of them decides all others.
MAIN = ("flow", "align", "landmarks")

#: Shown where they were made from the same alignment or flow.
COMPANIONS = ("strain", "apex", "dynamic-image")

Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class StageShown:
    """A stage whose results a page shows.

    Parameters
    ----------
    name : str
        The stage.
    version : int
        Its version.
    settings : str
        Those of its parameters that differ from the defaults, or ``defaults``.
    params : mapping
        Its own parameters, all of them.
    """

    name: str
    version: int
    settings: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class CorpusResults:
    """The results of a corpus that a page shows.

    Parameters
    ----------
    stages : tuple of StageShown
        In the order they run; empty if nothing has been computed.
    plans : tuple of SubjectPlan
        What there is of them, by subject; only shards that are current.
    others : tuple of (str, str)
        Stage and settings of results that the page does not show.
    """

    stages: tuple[StageShown, ...]
    plans: tuple[SubjectPlan, ...]
    others: tuple[tuple[str, str], ...]


def find_results(
    workspace: Workspace, corpus: str, *, settings: Settings, subjects: Sequence[str] = ()
) -> CorpusResults:
    """Choose what to show of a corpus: the flow of most clips, and what it was made from.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpus : str
        An imported corpus.
    settings : mapping
        Parameters by stage and key that the results must have been made with.
    subjects : sequence of str
        Only these, as ``<corpus>/<subject>``; all if empty.

    Returns
    -------
    CorpusResults
        Of results that were made with several settings, those of most clips, and among equals
        those of the defaults, then the newest.

    Raises
    ------
    ConfigError
        If no results were made with the settings asked for.
    ManifestError
        If the corpus folder is gone: nothing can be said about results without the frames.
    """
    root = workspace.record(corpus).root
    if not Path(root).is_dir():
        raise ManifestError(
            f"The folder of corpus '{corpus}' is gone.",
            where=root,
            why="results are shown beside the frames that they were made from",
            hint=f"mount it, or `mer-prep import {corpus} NEWFOLDER` if it has moved",
        )
    groups = _groups(workspace, corpus)
    fitting = [group for group in groups if _has_settings(group[0].recipe, settings)]
    chosen: dict[str, Mapping[str, Any]] = {}
    main = next((name for name in MAIN if _of_stage(fitting, name)), None)
    if main is not None:
        chosen[main] = _best(workspace, corpus, _of_stage(fitting, main))[0].recipe
        for name in COMPANIONS:
            same = [
                group
                for group in _of_stage(fitting, name)
                if _agree(group[0].recipe, list(chosen.values()))
            ]
            if same:
                chosen[name] = _best(workspace, corpus, same)[0].recipe
    there = {stage for known in chosen.values() for stage in known["stages"]}
    if not settings.keys() <= there | ({"source"} if chosen else set()):
        raise ConfigError(
            f"Nothing of corpus '{corpus}' was computed with these settings.",
            hint="`mer-prep status` lists the settings that results were made with",
        )
    recipe = _recipe(chosen)
    texts = {
        name: settings_text(one)
        for known in chosen.values()
        for name, one in ((name, _part_of(known, name)) for name in known["stages"])
    }
    return CorpusResults(
        stages=tuple(
            StageShown(name, stage.version, texts[name], dataclasses.asdict(stage.params))
            for name, stage in recipe.stages.items()
        ),
        plans=tuple(
            make_plan(workspace, [corpus], recipe, subjects=subjects, explain=False, verify=False)
        ),
        others=_others(groups, chosen),
    )


def clip_facts(path: Path) -> dict[str, dict[str, Any]]:
    """Return the attributes of every clip of a shard, quarantined ones left out, by clip id.

    Raises
    ------
    ShardError
        If the shard is missing or damaged.
    """
    found = {}
    with open_hdf5(path) as file:
        try:
            for name in file:
                attrs = file[name].attrs
                if "error" not in attrs:
                    found[str(attrs["clip_id"])] = {
                        key: value.item() if hasattr(value, "item") else value
                        for key, value in attrs.items()
                    }
        except (KeyError, RuntimeError, OSError) as error:
            raise ShardError(f"The shard is damaged: {error}.", where=path) from None
    return found


def _groups(workspace: Workspace, corpus: str) -> list[list[ShardHeader]]:
    """Return the shards of a corpus, those of one stage and settings together."""
    groups: dict[tuple[str, str], list[ShardHeader]] = {}
    for header in _headers(Cache(workspace.cache)):
        if header.corpus == corpus and header.stage in all_stages():
            groups.setdefault((header.stage, settings_key(header.recipe)), []).append(header)
    return list(groups.values())


def _headers(cache: Cache) -> Iterator[ShardHeader]:
    for path in cache.shards():
        try:
            yield read_header(path)
        except ShardError:
            continue  # `status` and `verify` name it; here its clips count as not prepared


def _of_stage(groups: Sequence[list[ShardHeader]], name: str) -> list[list[ShardHeader]]:
    return [group for group in groups if group[0].stage == name]


def _has_settings(recipe: Mapping[str, Any], settings: Settings) -> bool:
    """Return whether a recipe has the parameters asked for, as far as it has their stages."""
    kinds = {name: kind.Params for name, kind in all_stages().items()} | {"source": SourceParams}
    own = {name: one["params"] for name, one in recipe["stages"].items()}
    own["source"] = recipe["source"]
    for stage, values in settings.items():
        check_option("stage", stage, kinds)
        # Only what was asked for is compared: other parameters may not go with the defaults.
        asked = make_params(kinds[stage], values, where=stage)
        if stage not in own:
            continue
        stored = make_params(kinds[stage], own[stage], where=stage)
        if any(getattr(asked, key) != getattr(stored, key) for key in values):
            return False
    return True


def _best(
    workspace: Workspace, corpus: str, groups: Sequence[list[ShardHeader]]
) -> list[ShardHeader]:
    if len(groups) == 1:
        return groups[0]

    def rank(group: list[ShardHeader]) -> tuple[int, bool, str]:
        recipe = group[0].recipe
        newest = max(header.created for header in group)
        return (
            _current_clips(workspace, corpus, group[0].stage, recipe),
            settings_text(recipe) == "defaults",
            newest,
        )

    return max(groups, key=rank)


def _current_clips(workspace: Workspace, corpus: str, stage: str, recipe: Mapping[str, Any]) -> int:
    try:
        built = _recipe({stage: recipe})
    except ConfigError:
        return -1  # made by another version of mer-prep
    plans = make_plan(workspace, [corpus], built, explain=False, verify=False)
    headers = [plan.shards[stage].header for plan in plans]
    return sum(len(header.clips) for header in headers if header is not None)


def _agree(recipe: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether recipes have the same parameters where they have the same stages."""
    return all(
        recipe["source"] == other["source"]
        and all(
            recipe["stages"][name]["params"] == one["params"]
            for name, one in other["stages"].items()
            if name in recipe["stages"]
        )
        for other in others
    )


def _recipe(chosen: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Return the recipe of stages that were chosen; it has no stages if there are none."""
    settings: dict[str, dict[str, Any]] = {}
    for recipe in chosen.values():
        settings |= {name: one["params"] for name, one in recipe["stages"].items()}
        settings["source"] = recipe["source"]
    order = tuple(name for name in all_stages() if name in chosen)
    source, stages = build_stages(all_stages(), order, settings)
    return Recipe(source, {name: stages[name] for name in all_stages() if name in stages})


def _part_of(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a recipe with one of its stages alone."""
    return {"source": recipe["source"], "stages": {name: recipe["stages"][name]}}


def _others(
    groups: Sequence[list[ShardHeader]], chosen: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[str, str], ...]:
    shown = {
        (name, settings_key({"source": recipe["source"], "stages": recipe["stages"]}))
        for name, recipe in chosen.items()
    }
    used = {name for recipe in chosen.values() for name in recipe["stages"]}
    return tuple(
        sorted(
            (group[0].stage, settings_text(group[0].recipe))
            for group in groups
            if (group[0].stage, settings_key(group[0].recipe)) not in shown
            and not (
                group[0].stage in used - chosen.keys()
                and _agree(group[0].recipe, list(chosen.values()))
            )
        )
    )
