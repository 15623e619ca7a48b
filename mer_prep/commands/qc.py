"""The command qc: pages of prepared corpora."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import click

from mer_prep.commands.common import (
    corpora_argument,
    jobs_option,
    json_option,
    plural,
    print_json,
    workspace_option,
)
from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace


@click.command()
@corpora_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the pages.  [default: reports/ of the workspace]",
)
@click.option(
    "--no-faces",
    is_flag=True,
    help="Show no frames and no dynamic images: landmarks, flow, strain and curves alone.",
)
@click.option(
    "--subject",
    "subjects",
    multiple=True,
    metavar="CORPUS/SUBJECT",
    help="Only this subject, e.g. casme2/sub01. May be given again.",
)
@click.option(
    "--clip",
    "clips",
    multiple=True,
    metavar="CLIP",
    help="Only this clip, e.g. casme2/sub01/EP02_01f. May be given again.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="STAGE.KEY=VALUE",
    help="Parameters of the results that are meant, as they were computed.",
)
@workspace_option
@jobs_option
@json_option
def qc(
    corpora: tuple[str, ...],
    out: Path | None,
    no_faces: bool,
    subjects: tuple[str, ...],
    clips: tuple[str, ...],
    settings: tuple[str, ...],
    workspace: Workspace,
    jobs: int,
    as_json: bool,
) -> None:
    """Write a page per corpus to look at every clip.

    One HTML file, reports/qc-CORPUS.html, that opens in any browser without a server or a network:
    counts, failures and warnings, and for every clip its key frames, landmarks, aligned faces,
    flow, strain and apex curve, to filter and to sort. It shows what has been computed:
    `mer-prep flow` comes first; `mer-prep apex` and `mer-prep dynamic-image` add their panels.

    A page of a licensed corpus carries its faces and must stay where the corpus may be; --no-faces
    leaves them out. Needs the extra `report`.
    """
    from mer_prep.config import parse_settings
    from mer_prep.progress import Progress, duration
    from mer_prep.reports.markup import check_templates
    from mer_prep.reports.qc import Selection, write_qc

    check_templates()
    started = time.monotonic()
    names = _of_selection(workspace.select(corpora), corpora, (*subjects, *clips))
    summaries = []
    for corpus in names:
        with Progress(f"qc {corpus}") as progress:
            summary = write_qc(
                workspace,
                corpus,
                out or workspace.reports,
                faces=not no_faces,
                selection=Selection(subjects, clips),
                settings=parse_settings(settings),
                jobs=jobs,
                progress=progress,
            )
        summaries.append(summary)
        if not as_json:
            _print_page(summary)
    if as_json:
        print_json([dataclasses.asdict(summary) for summary in summaries])
    total = sum(summary.clips for summary in summaries)
    undrawn = sum(len(summary.problems) for summary in summaries)
    echo(
        f"qc: {plural(len(summaries), 'page')}, {plural(total, 'clip')}, {undrawn} not drawn in "
        f"full, {duration(time.monotonic() - started)}, in {out or workspace.reports}",
        err=as_json,
    )
    if undrawn:
        raise click.exceptions.Exit(3)


def _of_selection(
    names: list[str], asked: tuple[str, ...], selection: tuple[str, ...]
) -> list[str]:
    """Return the corpora that subjects and clips were chosen from, or all if none were."""
    if not selection:
        return names
    chosen = list(dict.fromkeys(one.partition("/")[0] for one in selection))
    for corpus in chosen:
        if corpus not in names:
            from mer_prep.checks import suggest

            where = f"the corpora named ({', '.join(names)})" if asked else "the workspace"
            raise ConfigError(
                f"'{corpus}' is not among {where}.{suggest(corpus, names)}",
                hint="write --subject CORPUS/SUBJECT and --clip CORPUS/SUBJECT/CLIP",
            )
    return chosen


def _print_page(summary: Any) -> None:
    states = summary.states
    each = summary.bytes / max(summary.clips, 1) / 1024
    echo(
        f"{summary.corpus}: {plural(summary.clips, 'clip')} of "
        f"{plural(summary.subjects, 'subject')}, {states.get('failed', 0)} failed, "
        f"{states.get('warned', 0)} with warnings, {states.get('pending', 0)} not prepared; "
        f"{summary.bytes / 2**20:,.1f} MiB ({each:.0f} KiB a clip), {summary.path}"
    )
    for problem in summary.problems[:10]:
        echo(f"  not drawn: {problem}")
    if len(summary.problems) > 10:
        echo(f"  ... and {len(summary.problems) - 10} more (--json lists all)")


COMMANDS = (qc,)
