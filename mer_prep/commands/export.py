"""The command export."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mer_prep.commands.common import (
    FiniteRange,
    corpora_argument,
    json_option,
    plural,
    print_json,
    workspace_option,
)
from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace


@click.command()
@click.argument("stage")
@corpora_argument
@click.option(
    "--to",
    "format_name",
    required=True,
    type=click.Choice(["png", "npy", "webdataset"]),
    help="Pictures, NumPy arrays, or tar shards.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder to write; a new one."
)
@click.option(
    "--scaling",
    type=click.Choice(["symmetric", "positive", "min-max"]),
    help="How PNG codes values that are not 8-bit: zero at 128 (the default), zero at 0, or each "
    "picture from its minimum to its maximum.",
)
@click.option(
    "--range",
    "largest",
    type=FiniteRange(0, min_open=True),
    help="Largest magnitude that PNG codes, e.g. 4 px, for all clips; by default each clip's own.",
)
@click.option(
    "--preset",
    "preset_name",
    help="Scaling and range by name, or from a .toml file: dynamic-image-uint8, ...",
)
@click.option("--labels", "labels_name", help="Only clips with a label of this map, with labels.")
@click.option("--composite", is_flag=True, help="Only the clips of the composite, with labels.")
@click.option(
    "--samples-per-shard",
    type=click.IntRange(1, 10**9),
    default=100,
    show_default=True,
    help="Clips of one WebDataset shard.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="STAGE.KEY=VALUE",
    help="Parameters of the results that are meant, as they were computed.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Replace an earlier export; never one beside other files.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@workspace_option
@json_option
def export(
    stage: str,
    corpora: tuple[str, ...],
    format_name: str,
    out: Path,
    scaling: str | None,
    largest: float | None,
    preset_name: str | None,
    labels_name: str | None,
    composite: bool,
    samples_per_shard: int,
    settings: tuple[str, ...],
    replace: bool,
    dry_run: bool,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Write stored results as files that need no mer-prep.

    STAGE is flow, align, tim ... Beside the files stands index.csv: clip, subject, label, key
    frames as annotated, and the onset and apex that were used. With --composite it also has the
    fold that tests a clip, and folds.json stands beside it. NumPy arrays and WebDataset shards
    hold the values as they are. PNG holds 8-bit frames as they are and scales all else; clip.json
    beside the pictures tells how to undo it, and to within what (value = offset + step * code;
    mer_prep.export.read_png does it).

    Licences of corpora forbid to pass on what is made from them; such folders are marked.
    """
    from mer_prep.config import parse_settings
    from mer_prep.export.exporter import check_content, restricted_text, write_export
    from mer_prep.export.selection import select_items
    from mer_prep.export.target import check_target
    from mer_prep.progress import Progress, duration
    from mer_prep.stages import all_stages
    from mer_prep.stages.base import build_stages
    from mer_prep.stages.plan import Recipe

    started = time.monotonic()
    options = _options(stage, format_name, scaling, largest, preset_name, samples_per_shard)
    recipe = Recipe(*build_stages(all_stages(), (stage,), parse_settings(settings)))
    sources = [workspace.record(name).root for name in workspace.corpora()]
    check_target(out, replace=replace, sources=sources)
    chosen = select_items(
        workspace, corpora, recipe, stage, labels=labels_name, composite=composite
    )
    check_content(chosen, options)
    if dry_run:
        _print_plan(chosen, options, out, as_json)
        return
    with Progress("export") as progress:
        facts = write_export(chosen, out, options, progress=progress)
    if as_json:
        print_json({**facts, "out": out})
    else:
        _print_notes(chosen, facts)
    if chosen.restricted:
        echo(f"note: {restricted_text(chosen).strip()}", err=True)
    mark = ", SYNTHETIC" if chosen.synthetic else ""
    echo(
        f"export: {plural(facts['clips'], 'clip')} of '{stage}', "
        f"{plural(facts['files'], 'file')}, {len(chosen.failed)} quarantined and left out, "
        f"{duration(time.monotonic() - started)}{mark}, in {out}",
        err=as_json,
    )
    if chosen.failed:
        raise click.exceptions.Exit(3)


def _options(
    stage: str,
    format_name: str,
    scaling: str | None,
    largest: float | None,
    preset_name: str | None,
    samples_per_shard: int,
) -> Any:
    """Return the export's options; a preset gives what is not given by itself."""
    from mer_prep.export.exporter import ExportOptions
    from mer_prep.export.selection import read_preset

    scaled = scaling is not None or largest is not None
    if format_name != "png" and (scaled or preset_name):
        raise ConfigError(
            f"Values are not scaled in the format '{format_name}'.",
            hint="leave out --scaling, --range and --preset, or use --to png",
        )
    if preset_name is None:
        return ExportOptions(
            format_name, scaling or "symmetric", largest, samples_per_shard=samples_per_shard
        )
    preset = read_preset(preset_name)
    if scaled:
        raise ConfigError(
            f"The preset '{preset.name}' sets scaling and range.",
            hint="give --preset, or --scaling and --range",
        )
    if preset.stage != stage:
        raise ConfigError(f"The preset '{preset.name}' is for '{preset.stage}', not '{stage}'.")
    return ExportOptions(format_name, preset.scaling, preset.range, preset=preset.name)


def _print_notes(chosen: Any, facts: dict[str, Any]) -> None:
    """Say what the files do not hold of the results."""
    if chosen.unlabelled:
        echo(f"  left out, no label: {plural(chosen.unlabelled, 'clip')}")
    scaling = facts.get("scaling", {})
    for name, error in scaling.get("largest_errors", {}).items():
        if error:
            echo(f"  8 bits: values met to within {error:.3g} ({name})")
    if scaling.get("clipped"):
        echo(f"  8 bits: {plural(scaling['clipped'], 'value')} beyond --range clipped")


def _print_plan(chosen: Any, options: Any, out: Path, as_json: bool) -> None:
    facts = {
        "stage": chosen.stage.name,
        "format": options.format,
        "clips": len(chosen.items),
        "quarantined": list(chosen.failed),
        "unlabelled": chosen.unlabelled,
        "restricted": chosen.restricted,
        "synthetic": chosen.synthetic,
        "out": out,
    }
    if as_json:
        print_json(facts)
        return
    datasets = ", ".join(field.name for field in chosen.stage.fields)
    mark = ", SYNTHETIC" if chosen.synthetic else ""
    echo(
        f"dry run: {plural(len(chosen.items), 'clip')} of '{chosen.stage.name}' ({datasets}) as "
        f"{options.format}, {len(chosen.failed)} quarantined and {chosen.unlabelled} unlabelled "
        f"left out{mark}, to {out}; nothing was done"
    )


COMMANDS = (export,)
