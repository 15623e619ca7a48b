"""Options and words that several commands share."""

from __future__ import annotations

import functools
import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

Command = Callable[..., Any]


class _WorkspaceType(click.ParamType):
    name = "directory"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Workspace:
        if isinstance(value, Workspace):
            return value
        path = Path(value)
        workspace = Workspace(path)
        for folder in (path, workspace.manifests, workspace.cache, workspace.reports):
            if folder.exists() and not folder.is_dir():
                self.fail(f"{folder} is a file, not a folder", param, ctx)
        return workspace


#: Seeds of every kind.
SEED = click.IntRange(0, 2**63 - 1)


class FiniteRange(click.FloatRange):
    """A number within a range; what is no number, or not finite, is out of any."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number, or refuse it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class _RunNameType(click.ParamType):
    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if text in (".", "..") or any(one in "/\\" or not one.isprintable() for one in text):
            self.fail(f"{text!r} is no name of a folder: it has no /, as run-2", param, ctx)
        if len(os.fsencode(text)) > 200:
            self.fail(f"{text[:20]!r}... is longer than 200 bytes", param, ctx)
        return text


def run_name_option(command: Command) -> Command:
    """Add ``--run`` of what is trained; the command gets `run_name`."""
    return click.option(
        "--run",
        "run_name",
        type=_RunNameType(),
        help="Name of the run's folder; made from the rest by default.",
    )(command)


def workspace_option(command: Command) -> Command:
    """Add ``--workspace``; the command gets a `Workspace`."""
    return click.option(
        "--workspace",
        "-w",
        type=_WorkspaceType(),
        default="workspace",
        envvar="MER_PREP_WORKSPACE",
        show_default=True,
        show_envvar=True,
        help="Folder that holds all that is made.",
    )(command)


def json_option(command: Command) -> Command:
    """Add ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")(command)


def corpora_argument(command: Command) -> Command:
    """Add the argument ``[CORPUS]...``."""
    return click.argument("corpora", nargs=-1, metavar="[CORPUS]...")(command)


class _ShareType(click.ParamType):
    name = "i/n"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, _, last = str(value).partition("/")
        if first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last):
            return int(first), int(last)
        raise click.BadParameter(f"'{value}' is not of the form i/n with 1 <= i <= n", ctx, param)


def share_option(text: str) -> Callable[[Any], Any]:
    """Return the option ``--shard i/n``; the command gets `share`, the two numbers."""
    return click.option(
        "--shard", "share", type=_ShareType(), default="1/1", show_default=True, help=text
    )


def jobs_option(command: Command) -> Command:
    """Add ``--jobs``; 0 means one per core."""

    @functools.wraps(command)
    def wrapped(*args: Any, jobs: int, **options: Any) -> Any:
        return command(*args, jobs=jobs or usable_cores(), **options)

    return click.option(
        "--jobs",
        "-j",
        type=click.IntRange(0, 4096),
        default=0,
        show_default="one per core",
        help="Worker processes.",
    )(wrapped)


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def protocol_options(command: Command) -> Command:
    """Add the options of a protocol; the command gets a `Protocol` as ``protocol``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        protocol: str,
        folds: int | None,
        fold_seed: int | None,
        train_on: tuple[str, ...],
        test_on: tuple[str, ...],
        **options: Any,
    ) -> Any:
        from mer_prep.protocols import Protocol

        chosen = Protocol(protocol, folds, fold_seed, train_on, test_on)
        return command(*args, protocol=chosen, **options)

    for option in (
        click.option(
            "--test-on", multiple=True, metavar="CORPUS", help="Corpus that cross-corpus tests."
        ),
        click.option(
            "--train-on",
            multiple=True,
            metavar="CORPUS",
            help="Corpus that cross-corpus trains on. May be given again.",
        ),
        click.option("--fold-seed", type=SEED, help="Seed of k-fold; 0 by default."),
        click.option(
            "--folds",
            type=click.IntRange(2, 10_000),
            help="Number of folds of k-fold; 5 by default.",
        ),
        click.option(
            "--protocol", default="loso", show_default=True, help="See `mer-prep protocols`."
        ),
    ):
        wrapped = option(wrapped)
    return wrapped


def with_options(command: Command, options: Sequence[Command]) -> Command:
    """Return a command with options that its help lists in this order."""
    for option in reversed(options):
        command = option(command)
    return command


def run_options(command: Command) -> Command:
    """Add the options of all commands that run stages."""
    command = workspace_option(json_option(command))
    command = with_options(
        command,
        [
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="STAGE.KEY=VALUE",
                help="Change a parameter, e.g. align.mode=median. May be given again.",
            ),
            click.option(
                "--engine",
                type=click.Choice(["loky", "dask", "ray"]),
                default="loky",
                show_default=True,
                help="Processes of this machine, a Dask cluster, or Ray on this machine.",
            ),
            click.option(
                "--scheduler",
                metavar="ADDRESS",
                help="Dask scheduler, e.g. tcp://host:8786, with --engine dask. By default that "
                "of $DASK_SCHEDULER_ADDRESS; without either, workers are started here.",
            ),
            click.option(
                "--wait",
                "patience",
                type=click.IntRange(0, 10**7),
                default=600,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait for shards that another run is writing.",
            ),
            share_option("Only the i-th of n shares of the subjects, to spread over machines."),
            click.option(
                "--subject",
                "subjects",
                multiple=True,
                metavar="CORPUS/SUBJECT",
                help="Only this subject, e.g. casme2/sub01. May be given again.",
            ),
            click.option(
                "--on-error",
                type=click.Choice(["quarantine", "raise"]),
                default="quarantine",
                show_default=True,
                help="Set a bad clip aside and go on, or stop at the first.",
            ),
            click.option("--dry-run", is_flag=True, help="Only say what would be made, and why."),
            click.option("--force", is_flag=True, help="Make everything again."),
        ],
    )
    return jobs_option(command)


def print_json(facts: Any) -> None:
    """Print facts as JSON."""
    echo(_escaped(json.dumps(facts, indent=1, ensure_ascii=False, default=str)))


def _escaped(text: str) -> str:
    """Return JSON with its own escapes for the control characters it may hold as they are."""
    return re.sub(r"[\x7f-\x9f]", lambda one: f"\\u{ord(one[0]):04x}", text)


def plural(count: int, noun: str) -> str:
    """Return ``1 clip``, ``2 clips``; a noun in -y or -us is left to the caller."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def say_next(workspace: Workspace | None, *commands: str) -> None:
    """Say on stderr what a newcomer would do next.

    Parameters
    ----------
    workspace : Workspace, optional
        Where; named in the commands unless it is the usual one.
    *commands : str
        Command lines, in order.
    """
    usual = workspace is None or workspace.root == Path("workspace")
    place = "" if usual or workspace is None else f" -w {workspace.root}"
    echo(f"next: {', then '.join(f'`{one}{place}`' for one in commands)}", err=True)


def table(rows: list[tuple[Any, ...]], head: tuple[str, ...]) -> str:
    """Return a plain table: numbers to the right, texts to the left."""
    cells = [head, *[tuple(str(cell) for cell in row) for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = [
        all(isinstance(row[column], int | float) for row in rows) and bool(rows)
        for column in range(len(head))
    ]
    lines = []
    for row in cells:
        texts = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(texts).rstrip())
    return "\n".join(lines)


def require_folder(path: Path, what: str) -> Path:
    """Return `path` if it is a folder.

    Raises
    ------
    ConfigError
        Naming what was expected there.
    """
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise ConfigError(f"The {what} {path} {state}.", hint="give the path of a folder")
    return path
