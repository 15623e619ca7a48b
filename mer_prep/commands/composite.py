"""Commands around labels: composite, labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_prep.commands.common import (
    SEED,
    corpora_argument,
    json_option,
    plural,
    print_json,
    protocol_options,
    say_next,
    table,
    workspace_option,
)
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

if TYPE_CHECKING:
    from mer_prep.label_map import CorpusLabels, LabelMap
    from mer_prep.protocols import Protocol


@click.command()
@corpora_argument
@click.option(
    "--labels",
    "labels_name",
    default="megc2019-3",
    show_default=True,
    help="Label map: a name of `mer-prep labels`, or a .toml file.",
)
@click.option(
    "--pipeline", "pipeline_name", help="Also note the shards of this pipeline, as a data passport."
)
@click.option(
    "--seed",
    type=SEED,
    help="Seed of the draw, for a label map that balances its classes; 0 by default.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write into; the workspace by default, which holds one composite.",
)
@click.option("--report", is_flag=True, help="Also print the paragraph that a paper needs.")
@protocol_options
@workspace_option
@json_option
def composite(
    corpora: tuple[str, ...],
    labels_name: str,
    pipeline_name: str | None,
    seed: int | None,
    out: Path | None,
    report: bool,
    protocol: Protocol,
    workspace: Workspace,
    as_json: bool,
) -> None:
    """Combine corpora under one label map, and split them into folds.

    Writes the clip list, counts and digest, and the protocol's folds, frozen in folds.json with a
    digest of their own; `mer-prep train --folds-file` takes them up. left-out.csv holds every clip
    that has no label, and why. With a protocol that names corpora, the others are left alone.

    Counts and the SHA-256 digest
    of the clip list are compared with the published ones; a difference is reported with its likely
    cause. Some label maps draw as many clips of every class as the smallest has: --seed decides
    which, and the same seed gives the same clips everywhere.
    """
    import json

    from mer_prep.composite import compose
    from mer_prep.composite_files import (
        LEFT_OUT,
        protocol_line,
        read_composite_facts,
        replaced_text,
        write_composite,
    )
    from mer_prep.progress import duration

    started = time.monotonic()
    made = compose(workspace, corpora, labels_name, protocol=protocol, seed=seed)
    labels = made.labels
    shards = pipeline = None
    if pipeline_name:
        shards, pipeline = _passport(workspace, made.corpora, pipeline_name)
    folder = out or workspace.root
    replaced = replaced_text(read_composite_facts(folder), made)
    path = write_composite(folder, made, shards=shards, pipeline=pipeline)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    if as_json:
        print_json(facts)
    else:
        mark = " (SYNTHETIC)" if made.synthetic else ""
        echo(f"{labels.title}{mark}")
        rows = [
            (
                corpus or "all",
                *made.counts(corpus).values(),
                len(made.part(corpus)),
                made.subjects(corpus),
                made.digest(corpus)[:16],
            )
            for corpus in (*made.corpora, None)
        ]
        echo(table(rows, ("corpus", *labels.classes, "clips", "subjects", "digest")))
        for finding in made.findings:
            echo(f"  {finding}")
        reasons = sorted(set(made.left_out.values()))
        for reason in reasons:
            ids = sorted(one for one, why in made.left_out.items() if why == reason)
            more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
            echo(f"  left out, {reason}: {', '.join(ids[:3])}{more}")
        if reasons:
            echo(f"  all that are left out, and why: {path.with_name(LEFT_OUT)}")
        echo(f"  {protocol_line(made)}")
        if report:
            echo(f"\n{facts['report']}\n")
    if replaced:
        echo(
            f"note: the earlier composite there was replaced: {replaced} (--out DIR keeps both)",
            err=True,
        )
    synthetic = ", SYNTHETIC" if made.synthetic else ""
    if not as_json and not out:
        say_next(workspace, "mer-prep train --model mol --preset tiny")
    echo(
        f"composite: {plural(len(made.samples), 'clip')}, {plural(len(made.folds), 'fold')}, "
        f"{len(made.left_out)} left out, {duration(time.monotonic() - started)}{synthetic}, "
        f"in {path}",
        err=as_json,
    )


def _passport(
    workspace: Workspace, names: list[str], pipeline_name: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the shards of a pipeline by stage and subject, and its name and parameters.

    Of a shard, key and file are given, or null if it is missing.
    """
    from mer_prep.pipeline import read_pipeline
    from mer_prep.stages import all_stages
    from mer_prep.stages.base import build_stages
    from mer_prep.stages.plan import Recipe, make_plan

    pipeline = read_pipeline(pipeline_name)
    recipe = Recipe(*build_stages(all_stages(), pipeline.stages, pipeline.settings))
    plans = make_plan(workspace, names, recipe, explain=False)
    passport: dict[str, dict[str, Any]] = {stage: {} for stage in recipe.stages}
    for plan in plans:
        for stage, shard in plan.shards.items():
            subject = f"{plan.corpus}/{plan.subject}"
            passport[stage][subject] = (
                {
                    "key": shard.header.key,
                    "file": shard.path.relative_to(workspace.root).as_posix(),
                }
                if shard.header
                else None
            )
    missing = sum(value is None for stage in passport.values() for value in stage.values())
    if missing:
        echo(
            f"  note: {plural(missing, 'shard')} of '{pipeline.name}' not made yet; "
            f"run `mer-prep run {pipeline_name}` first to have them in the passport",
            err=True,
        )
    stages = {name: recipe.stage_facts(name) for name in recipe.stages}
    return passport, {"name": pipeline.name, "stages": stages}


@click.command()
@click.argument("name", required=False)
@json_option
def labels(name: str | None, as_json: bool) -> None:
    """List the label maps, or show one.

    Shown are classes, emotions, clips left out, published counts and the source.
    """
    import dataclasses

    from mer_prep.labels import label_map_names, read_label_map

    if name is None:
        maps = [read_label_map(one) for one in label_map_names()]
        if as_json:
            print_json([dataclasses.asdict(one) for one in maps])
            return
        rows = [
            (one.name, len(one.classes), _size(one), ", ".join(one.corpora), one.title)
            for one in maps
        ]
        echo(table(rows, ("label map", "classes", "clips", "corpora", "title")))
        return
    label_map = read_label_map(name)
    if as_json:
        print_json(dataclasses.asdict(label_map))
    else:
        _show(label_map)


def _size(label_map: LabelMap) -> str:
    """Return the number of clips, and for a balanced map how many of them are drawn."""
    total, drawn = label_map.total(), label_map.drawn_per_class()
    if total is None:
        return ""
    clips = f"{total.clips:,}"
    return clips if drawn is None else f"{drawn * len(label_map.classes):,} of {clips}"


def _show(label_map: LabelMap) -> None:
    echo(f"{label_map.name}: {label_map.title}")
    echo(f"  classes: {', '.join(f'{i} {one}' for i, one in enumerate(label_map.classes))}")
    echo(f"  source: {'; '.join(filter(None, (label_map.source, label_map.reference)))}")
    if size := _size(label_map):
        echo(f"  clips: {size}")
    if label_map.balance:
        drawn = label_map.drawn_per_class()
        count = "as many clips of every class as the smallest has"
        echo(f"  balanced: {count}{f', {drawn}' if drawn else ''}; composite --seed N")
    if label_map.paper:
        echo(f"  paper: {label_map.paper.clips} clips: {label_map.paper.why}")
    if label_map.note:
        echo(f"  note: {label_map.note}")
    for corpus, part in label_map.corpora.items():
        _show_corpus(corpus, part, label_map.classes)


def _show_corpus(corpus: str, part: CorpusLabels, classes: tuple[str, ...]) -> None:
    wanted = [part.variant, *(f"--{name} {value}" for name, value in part.options.items())]
    asked = ", ".join(filter(None, wanted))
    echo(f"  {corpus}{f' ({asked})' if asked else ''}:")
    for one in classes:
        counts = [str(expected.classes[one]) for expected in part.expected]
        count = f" ({counts[0]} clips)" if counts else ""
        if sources := part.sources(one):
            echo(f"    {one}{count}: {', '.join(sources)}")
    for expected in part.expected:
        version = f"version {' or '.join(expected.versions)}: " if expected.versions else ""
        subjects = (
            "" if expected.subjects is None else f" of {plural(expected.subjects, 'subject')}"
        )
        listed = ", ".join(f"{one} {count}" for one, count in expected.classes.items() if count)
        detail = f": {listed}" if len(part.expected) > 1 else ""
        echo(f"    {version}{plural(expected.clips, 'clip')}{subjects}{detail}")
    if part.note:
        echo(f"    note: {part.note}")
    for drop in part.drop:
        echo(f"    left out: {drop}: {drop.reason}")


@click.command()
@click.argument("name", required=False)
@json_option
def protocols(name: str | None, as_json: bool) -> None:
    """List the evaluation protocols, or show one: folds, scores, source and what to mind."""
    from mer_prep.protocols import PROTOCOLS, protocol_card

    cards = PROTOCOLS if name is None else {name: protocol_card(name)}
    if as_json:
        facts = [
            {
                "name": key,
                "title": card.title,
                "about": card.about,
                "scores": card.scores,
                "counts": card.counts,
                "source": card.source,
                "caveat": card.caveat,
                "subjects_may_recur": card.subjects_may_recur,
            }
            for key, card in cards.items()
        ]
        print_json(facts if name is None else facts[0])
    elif name is None:
        echo(table([(key, card.title) for key, card in cards.items()], ("protocol", "title")))
    else:
        card = cards[name]
        echo(f"{name}: {card.title}\n  {card.about}")
        for word, text in (
            ("scores", card.scores),
            ("folds", card.counts),
            ("mind", card.caveat),
            ("source", card.source),
        ):
            echo(f"  {word}: {text}")


COMMANDS = (composite, labels, protocols)
