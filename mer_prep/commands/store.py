"""Commands that look at the store: status, inspect, verify, gc."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mer_prep.commands.common import (
    json_option,
    plural,
    print_json,
    table,
    workspace_option,
)
from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace


@click.command()
@click.option("--failed", is_flag=True, help="List the clips that failed: clip, stage, message.")
@workspace_option
@json_option
def status(failed: bool, workspace: Workspace, as_json: bool) -> None:
    """Say what is imported, done, stale or failed."""
    from mer_prep.stages.survey import survey

    found = survey(workspace)
    if as_json:
        print_json(found.facts()["failures"] if failed else found.facts())
        return
    if failed:
        for one in found.failures:
            settings = f" ({one.settings})" if one.settings not in ("", "defaults") else ""
            message = one.message.replace("\n  ", " · ")
            line = f"{one.clip_id}  {one.stage or '-'}{settings}  {one.error}: {message}"
            echo(line)
        echo(f"status: {plural(found.clips_failed, 'clip')} failed, in {workspace.root}")
        return
    rows: list[tuple[Any, ...]] = [
        (one.name, one.clips, one.subjects, one.variant or "", "yes" if one.synthetic else "")
        for one in found.corpora
    ]
    echo(table(rows, ("corpus", "clips", "subjects", "variant", "synthetic")))
    rows = [
        (
            one.corpus,
            one.stage,
            one.settings,
            one.clips_done,
            one.clips_failed,
            one.shards,
            one.stale,
            one.missing,
            f"{one.bytes / 2**20:,.1f}",
        )
        for one in found.results
    ]
    if rows:
        echo()
        echo(
            table(
                rows,
                (
                    "corpus",
                    "stage",
                    "settings",
                    "clips",
                    "failed",
                    "shards",
                    "stale",
                    "missing",
                    "MiB",
                ),
            )
        )
    for note in found.notes:
        echo(f"  {note}")
    echo(
        f"status: {plural(sum(one.clips for one in found.corpora), 'clip')}, "
        f"{plural(sum(one.shards for one in found.results), 'current shard')}, "
        f"{sum(one.stale for one in found.results)} stale, "
        f"{found.clips_failed} clips failed, in {workspace.root}"
    )


@click.command()
@click.argument("target")
@click.option(
    "--show",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture (.png) of the clip: frames, landmarks, aligned faces, flow.",
)
@click.option(
    "--video",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a film (.mp4, .avi) of the clip: source, aligned and flow side by side.",
)
@workspace_option
@json_option
def inspect(
    target: str, show: Path | None, video: Path | None, workspace: Workspace, as_json: bool
) -> None:
    """Show what is in a shard or known of a clip.

    TARGET is a .h5 file, or a clip id such as casme2/sub01/EP02_01f.
    """
    path = Path(target)
    if show and show.suffix.lower() != ".png":
        raise ConfigError(f"--show writes PNG, and {show.name} is no .png.", hint="name it .png")
    if video and video.suffix.lower() not in (".mp4", ".avi"):
        raise ConfigError(
            f"--video writes MP4 or AVI, and {video.name} is neither.", hint="name it .mp4"
        )
    if target.endswith(".h5"):
        if show or video:
            raise ConfigError(
                "--show and --video draw a clip, and this is a shard.", hint="give a clip id"
            )
        _inspect_shard(path, as_json)
    elif path.is_file():
        raise _no_shard(path)
    else:
        _inspect_clip(workspace, target, show, video, as_json)


#: What the files are that lie in a workspace and are no shards.
_FILES = {
    "composite.jsonl": "the clips of the composite with their labels, one a line",
    "composite.json": "the counts, digests and protocol of the composite",
    "left-out.csv": "the clips that the composite leaves out, and why",
    "folds.json": "the folds of the composite, which `mer-prep train --folds-file` takes",
    "failures.jsonl": "the clips that failed, which `mer-prep status --failed` lists",
}


def _no_shard(path: Path) -> ConfigError:
    """Return the error that says what a file is that is no shard."""
    what = _FILES.get(path.name, "")
    if path.parent.name == "manifests" and path.suffix in (".jsonl", ".json"):
        what = f"the import of {path.stem}, which `mer-prep validate {path.stem}` checks"
    return ConfigError(
        f"{path.name} holds {what}; it is no shard." if what else f"{path.name} is no shard.",
        where=path,
        hint="give a shard (.h5) or the id of a clip",
    )


def _inspect_shard(path: Path, as_json: bool) -> None:
    from mer_prep.stages.survey import describe_shard

    facts = describe_shard(path)
    if as_json:
        print_json(facts)
        return
    echo(f"{path}")
    for name in (
        "stage",
        "stage_version",
        "corpus",
        "subject",
        "key",
        "created",
        "params",
        "libraries",
        "restricted",
        "synthetic",
    ):
        echo(f"  {name}: {facts[name]}")
    for clip_id, clip in facts["clips"].items():
        echo(f"  {clip_id}")
        for name, value in clip["attributes"].items():
            echo(f"    {name}: {value}")
        for name, dataset in clip["datasets"].items():
            channels = f", channels {dataset['channels']}" if dataset["channels"] else ""
            echo(
                f"    {name}: {dataset['dtype']} {dataset['shape']} ({dataset['axes']}), "
                f"{dataset['units']}{channels}"
            )
    for failure in facts["failures"]:
        line = f"  quarantined {failure['clip_id']}: {failure['error']}: {failure['message']}"
        echo(line)


def _inspect_clip(
    workspace: Workspace, clip_id: str, show: Path | None, video: Path | None, as_json: bool
) -> None:
    import dataclasses

    from mer_prep.composite_files import place_in_composite
    from mer_prep.stages.survey import results_of_clip

    clip = workspace.find_clip(clip_id)
    results = results_of_clip(workspace, clip)
    facts = dataclasses.asdict(clip)
    facts["frames"] = len(clip.frame_numbers)
    facts["frame_numbers"] = [clip.frame_numbers[0], clip.frame_numbers[-1]]
    place = place_in_composite(workspace.root, clip_id)
    if as_json:
        print_json({"clip": facts, "results": results, "composite": place})
    else:
        for name, value in facts.items():
            if value not in (None, (), ""):
                echo(f"  {name}: {value}")
        if place:
            echo(f"  composite ({place['labels']}): {_place(place)}")
        for result in results:
            state = "current" if result["current"] else "stale"
            echo(f"  {result['stage']} ({state}, {result['settings']}): {result['path']}")
        if not results:
            echo("  no results yet: `mer-prep flow` makes them")
    if show:
        from mer_prep.inspection import draw_clip

        draw_clip(clip, results, show)
        echo(f"picture: {show}", err=as_json)
    if video:
        from mer_prep.film import film_clip

        count = film_clip(clip, results, video)
        echo(f"film: {plural(count, 'frame')}, {video}", err=as_json)


def _place(place: dict[str, Any]) -> str:
    """Return what became of a clip in the composite."""
    if place["class"] is not None:
        return f"class {place['class']}, label {place['label']}"
    if place["left_out"] is not None:
        return f"left out, {place['left_out']}"
    return "not in it, and not left out by it: it was made of other clips"


@click.command()
@click.option(
    "--remove-damaged", is_flag=True, help="Remove damaged shards; the next run makes them again."
)
@workspace_option
@json_option
def verify(remove_damaged: bool, workspace: Workspace, as_json: bool) -> None:
    """Read every shard back and check it.

    Checksums, shapes and finiteness are checked. Exits with 1 if a shard is damaged.
    """
    from mer_prep.errors import ShardError
    from mer_prep.progress import Progress, duration
    from mer_prep.store import disk
    from mer_prep.store.cache import Cache
    from mer_prep.store.readback import check_shard
    from mer_prep.store.shard import NewerShardError

    started = time.monotonic()
    cache = Cache(workspace.cache)
    shards = cache.shards()
    damaged: list[dict[str, Any]] = []
    newer: list[dict[str, Any]] = []
    with Progress("verify", unit="shard") as progress:
        for done, path in enumerate(shards, start=1):
            try:
                check_shard(path)
            except NewerShardError as error:
                newer.append({"path": path, "error": str(error)})
            except ShardError as error:
                removed = remove_damaged and cache.holds(path)
                damaged.append({"path": path, "error": str(error), "removed": removed})
                if removed:
                    disk.remove(path)
            progress(done, len(shards))
    if as_json:
        print_json({"shards": len(shards), "damaged": damaged, "newer": newer})
    for one in [] if as_json else damaged:
        echo(f"damaged: {one['error']}")
    for one in [] if as_json else newer:
        echo(f"not checked: {one['error']}")
    echo(
        f"verify: {plural(len(shards), 'shard')}, {len(damaged)} damaged, "
        + (f"{len(newer)} of a newer mer-prep, " if newer else "")
        + f"{duration(time.monotonic() - started)}, in {workspace.cache}",
        err=as_json,
    )
    if damaged:
        gone = sum(one["removed"] for one in damaged)
        hint = f"{gone} removed" if gone else ""
        if not remove_damaged:
            hint = "`mer-prep verify --remove-damaged` removes them"
        if hint:
            echo(f"  {hint}; the next run makes them again, and nothing else", err=True)
        if remove_damaged and gone < len(damaged):
            echo(
                f"  {len(damaged) - gone} left, since a link in the cache leads to where it is "
                "stored: remove it there, or the link",
                err=True,
            )
    if damaged or newer:
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--yes", is_flag=True, help="Do it; without, it is only listed.")
@workspace_option
@json_option
def gc(yes: bool, workspace: Workspace, as_json: bool) -> None:
    """Remove what nothing needs any more.

    That is shards no manifest leads to, and leftovers of killed runs. A shard is needed as long
    as its own recipe, applied to the manifest and the frames of today, would give it again,
    whatever its parameters are. Nothing is removed without --yes.
    """
    from mer_prep.stages.survey import unneeded
    from mer_prep.store import disk

    found = unneeded(workspace)
    size = sum(one.bytes for one in found)
    if as_json:
        print_json([{"path": one.path, "reason": one.reason, "bytes": one.bytes} for one in found])
    for one in found:
        if not as_json:
            echo(f"  {'removed' if yes else 'would remove'} {one.path} ({one.reason})")
        if yes:
            disk.remove(one.path)
            for parent in (one.path.parent, one.path.parent.parent):
                if parent != workspace.cache and not any(parent.iterdir()):
                    parent.rmdir()
    done = "removed" if yes else "to remove" + (" (run again with --yes)" if found else "")
    echo(
        f"gc: {plural(len(found), 'file')} {done}, {size / 2**20:,.1f} MiB, in {workspace.cache}",
        err=as_json,
    )


COMMANDS = (status, inspect, verify, gc)
