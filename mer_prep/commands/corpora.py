"""Commands that read corpora: import, validate."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import click

from mer_prep.commands.common import (
    corpora_argument,
    jobs_option,
    json_option,
    plural,
    print_json,
    require_folder,
    say_next,
    table,
    workspace_option,
)
from mer_prep.errors import ConfigError
from mer_prep.manifest import Clip, Finding
from mer_prep.progress import Progress, duration
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace


@click.command("import")
@click.argument("corpus")
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--annotations",
    type=click.Path(path_type=Path),
    help="Annotation workbook, CSV for clips, or folder of text files for affwild2; found by "
    "itself where it lies in ROOT, but for clips.",
)
@click.option("--variant", help="Form of the corpus if several are there: raw, selected, HS ...")
@click.option(
    "--errata/--no-errata",
    default=True,
    show_default=True,
    help="Apply the named corrections of manifests/corpora/CORPUS.toml.",
)
@click.option(
    "--without-erratum",
    "without",
    multiple=True,
    metavar="NAME",
    help="Leave out one correction. May be given again.",
)
@click.option(
    "--with-erratum",
    "with_",
    multiple=True,
    metavar="NAME",
    help="Apply a correction that is optional, as all of casme3 are, or all of them: NAME is "
    "'all'. May be given again.",
)
@click.option("--name", help="Name in the workspace.  [default: CORPUS]")
@click.option(
    "--replace", is_flag=True, help="Let clips of another folder replace those of this name."
)
@click.option(
    "--missing-offset",
    type=click.Choice(["apex", "mirror", "drop"]),
    help="casme_sq: what stands in for an offset that nobody annotated: the apex, as many frames "
    "after it as the onset is before it, or nothing (the clip is left out).  [default: apex]",
)
@click.option(
    "--label",
    type=click.Choice(["estimated", "self-report"]),
    help="casme_sq: which column gives the emotion.  [default: estimated]",
)
@click.option(
    "--expressions",
    type=click.Choice(["all", "micro", "macro"]),
    help="casme_sq, casme3, samm_lv: which expressions are read.  [default: all]",
)
@click.option(
    "--min-frames",
    type=click.IntRange(2, 10**6),
    help="affwild2: shortest stretch of one expression that becomes a clip.  [default: 16]",
)
@click.option(
    "--max-frames",
    type=click.IntRange(3, 10**6),
    help="affwild2: longest clip; longer stretches are split into equal parts.  [default: 64]",
)
@click.option(
    "--unrestricted",
    is_flag=True,
    help="The material is free: do not mark what is made from it as restricted.",
)
@workspace_option
@jobs_option
@json_option
def import_(
    corpus: str,
    root: Path,
    annotations: Path | None,
    variant: str | None,
    errata: bool,
    without: tuple[str, ...],
    with_: tuple[str, ...],
    name: str | None,
    replace: bool,
    missing_offset: str | None,
    label: str | None,
    expressions: str | None,
    min_frames: int | None,
    max_frames: int | None,
    unrestricted: bool,
    workspace: Workspace,
    jobs: int,
    as_json: bool,
) -> None:
    """Read a corpus folder as it is distributed.

    CORPUS is casme, casme2, samm, smic, casme_sq (CAS(ME)^2), casme3 (CAS(ME)^3), mmew, 4dme,
    samm_lv (SAMM Long Videos), affwild2 or clips. `clips` is any folder of frame folders or video
    files, with or without subject folders above them; onset, apex, offset, subject and label come
    from an optional CSV (--annotations). The frames stay where they are; the manifest and what
    was noticed go to the workspace.
    """
    from mer_prep.manifest_files import write_manifest
    from mer_prep.sources.corpus import import_corpus

    require_folder(root, "corpus folder")
    corpus = corpus.casefold()
    chosen = {
        "missing-offset": missing_offset,
        "label": label,
        "expressions": expressions,
        "min-frames": min_frames,
        "max-frames": max_frames,
    }
    before = _replaced(workspace, corpus, root, name, replace)
    started = time.monotonic()
    with Progress(f"import {corpus}") as progress:
        imported = import_corpus(
            corpus,
            root,
            annotations=annotations,
            variant=variant,
            errata=_errata(corpus, errata, without, with_),
            name=name,
            restricted=not unrestricted,
            options={option: str(value) for option, value in chosen.items() if value is not None},
            progress=progress,
            jobs=jobs,
        )
    path = write_manifest(workspace.manifests, imported.clips, imported.record)
    record = imported.record
    if before and not as_json:
        echo(f"{record.corpus}: replaces what was read from {before}")
    if as_json:
        print_json({**dataclasses.asdict(record), "clips": len(imported.clips)})
    else:
        echo(f"{record.corpus}: read from {record.root}")
        for label, value in (
            ("variant", record.variant),
            ("annotations", record.annotations),
            ("annotation version", record.annotation_version),
            ("errata applied", ", ".join(record.errata) or None),
            *record.options.items(),
        ):
            if value:
                echo(f"  {label}: {value}")
        _print_counts(imported.clips)
        _print_findings(list(record.findings), limit=12)
    errors = sum(finding.level == "error" for finding in record.findings)
    synthetic = ", SYNTHETIC" if record.synthetic else ""
    if not as_json:
        say_next(workspace, "mer-prep validate", "mer-prep flow")
    echo(
        f"import: {plural(len(imported.clips), 'clip')}, {plural(errors, 'error')}, "
        f"{duration(time.monotonic() - started)}{synthetic}, in {path}",
        err=as_json,
    )
    if errors:
        raise click.exceptions.Exit(3)


def _replaced(
    workspace: Workspace, corpus: str, root: Path, name: str | None, replace: bool
) -> str | None:
    """Return the folder that an earlier import of the same name read, if it is another.

    Raises
    ------
    ConfigError
        If unrelated clips would replace it, or take the name of a known corpus.
    """
    from mer_prep.sources.corpus import SOURCES

    chosen = name or corpus
    if corpus == "clips" and chosen in set(SOURCES) - {"clips"}:
        raise ConfigError(
            f"Clips of your own cannot be named '{chosen}'.",
            why="they would be counted and scored as that corpus",
            hint="choose another --name",
        )
    if chosen not in workspace.corpora():
        return None
    before = workspace.record(chosen).root
    if Path(before) == root.absolute():
        return None
    if corpus == "clips" and not replace:
        raise ConfigError(
            f"The workspace has clips named '{chosen}' already, read from another folder.",
            where=before,
            hint="give these another --name, or add --replace",
        )
    return before


def _errata(
    corpus: str, errata: bool, without: tuple[str, ...], with_: tuple[str, ...]
) -> bool | list[str]:
    """Turn the options into what the importer takes: all, none, or the names to apply."""
    if not (without or with_):
        return errata
    from mer_prep.checks import suggest
    from mer_prep.sources.corpus import erratum_names

    names = erratum_names(corpus)
    for name in (*without, *with_):
        if name not in names and not (name == "all" and name in with_):
            raise ConfigError(
                f"{corpus} has no erratum '{name}'.{suggest(name, names)}",
                hint=f"errata: {', '.join(names) or 'none'}",
            )
    applied = set(erratum_names(corpus, optional=False) if errata else ())
    applied |= set(names if "all" in with_ else with_)
    return [name for name in names if name in applied - set(without)]


def _print_counts(clips: list[Clip]) -> None:
    from mer_prep.manifest import emotion_counts

    subjects = len({clip.subject for clip in clips})
    emotions = ", ".join(f"{name} {count}" for name, count in emotion_counts(clips).items())
    macro = sum(clip.expression_type == "macro" for clip in clips)
    types = f" ({len(clips) - macro} micro, {macro} macro)" if macro else ""
    echo(f"  {plural(len(clips), 'clip')}{types} of {plural(subjects, 'subject')}: {emotions}")


def _print_findings(findings: list[Finding], *, limit: int | None = None) -> None:
    order = {"error": 0, "warning": 1, "info": 2}
    grouped = _grouped(sorted(findings, key=lambda finding: order[finding.level]))
    for group in grouped[:limit]:
        first = group[0]
        color = {"error": "red", "warning": "yellow"}.get(first.level)
        lead = f"  {click.style(first.level, fg=color)}"
        echo(f" [{first.code}] {_places(group)}{first.message}", lead=lead)
    if limit is not None and len(grouped) > limit:
        rest = sum(map(len, grouped[limit:]))
        echo(f"  ... and {rest} more: mer-prep validate shows all")


#: Places of equal findings that are named.
_NAMED = 3


def _grouped(findings: list[Finding]) -> list[list[Finding]]:
    """Return findings that differ by their place alone together, in the order of the first."""
    groups: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        groups.setdefault((one.level, one.code, one.message), []).append(one)
    return list(groups.values())


def _places(group: list[Finding]) -> str:
    """Return where equal findings are: three places, and how many more there are."""
    texts = [" · ".join(filter(None, (one.clip_id, one.where))) for one in group]
    more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
    named = ", ".join(texts[:_NAMED])
    return f"{named}{more}: " if named else ""


@click.command()
@corpora_argument
@click.option(
    "--frames",
    type=click.Choice(["exist", "headers", "whole"]),
    default="headers",
    show_default=True,
    help="Look whether frames exist, at their headers (odd sizes), or at every byte (damage).",
)
@workspace_option
@json_option
def validate(corpora: tuple[str, ...], frames: str, workspace: Workspace, as_json: bool) -> None:
    """Check imported corpora and their published counts.

    All findings are printed at once, equal ones of several clips in one line; --json prints every
    one. Exits with 1 if there is an error; warnings do not change
    the exit code.
    """
    from mer_prep.sources.validation import expected_findings, validate_clips

    started = time.monotonic()
    all_findings: dict[str, list[Finding]] = {}
    clips_seen = 0
    for corpus in workspace.select(corpora):
        clips, record = workspace.clips(corpus), workspace.record(corpus)
        with Progress(f"validate {corpus}") as progress:
            findings = [
                *record.findings,
                *expected_findings(clips, record),
                *validate_clips(clips, frames=frames, progress=progress),
            ]
        unique = list(dict.fromkeys(findings))
        all_findings[corpus] = unique
        clips_seen += len(clips)
        if not as_json:
            echo(f"{corpus}:")
            _print_counts(clips)
            _print_findings(unique)
    levels = [finding.level for findings in all_findings.values() for finding in findings]
    if as_json:
        print_json(
            {
                name: [dataclasses.asdict(finding) for finding in findings]
                for name, findings in all_findings.items()
            }
        )
    else:
        rows = [
            (
                name,
                *(
                    sum(finding.level == level for finding in findings)
                    for level in ("error", "warning", "info")
                ),
            )
            for name, findings in all_findings.items()
        ]
        echo(table(rows, ("corpus", "errors", "warnings", "notes")))
    echo(
        f"validate: {plural(clips_seen, 'clip')}, {plural(levels.count('error'), 'error')}, "
        f"{plural(levels.count('warning'), 'warning')}, {duration(time.monotonic() - started)}",
        err=as_json,
    )
    if "error" in levels:
        raise click.exceptions.Exit(1)


COMMANDS = (import_, validate)
