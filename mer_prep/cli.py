"""The command line: one click group; the commands live in `mer_prep.commands`."""

from __future__ import annotations

import io
import os
import sys
import traceback

import click

from mer_prep import __version__
from mer_prep.commands import (
    composite,
    corpora,
    evaluation,
    export,
    leaderboard,
    models,
    pretraining,
    qc,
    report,
    spotting,
    stages,
    store,
    synthesis,
    tools,
    training,
)
from mer_prep.errors import MerPrepError
from mer_prep.terminal import echo


class _Group(click.Group):
    """A group that lists its commands in the order of work and suggests the nearest name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what no option or argument can mean; an empty text often is an unset variable."""
        for index, word in enumerate(args):
            name, has_value, value = word.partition("=")
            before = args[index - 1] if index else ""
            option = name if has_value else before
            where = f" of {option}" if option.startswith("-") else ""
            if not (value if has_value and name.startswith("--") else word):
                raise click.UsageError(f"The value{where} is empty; write one or leave it out", ctx)
            if "\0" in word:
                raise click.UsageError(f"The value{where} holds the character NUL", ctx)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from mer_prep.checks import suggest

            nearest = suggest(args[0], self.commands)
            raise click.UsageError(error.message + nearest, ctx) from None


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.version_option(__version__, prog_name="mer-prep")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Read, prepare and score micro-expression corpora.

    \b
    With a licensed corpus:             With none:
      mer-prep import casme2 FOLDER       mer-prep synth --out synthetic
      mer-prep validate                   mer-prep import casme2 synthetic/CASME2
      mer-prep flow                       mer-prep flow
      mer-prep composite                  mer-prep status

    Every stage brings what it rests on up to date first: `mer-prep flow` also finds landmarks and
    aligns faces. Results are HDF5 shards below the workspace; source folders are only ever read.
    """
    context.obj = {"debug": debug}


for module in (
    *(synthesis, corpora, stages, composite, export, store, tools, spotting),
    *(pretraining, training, models),
    *(leaderboard, evaluation, qc, report),
):
    for command in module.COMMANDS:
        cli.add_command(command)


def open_streams() -> None:
    """Open the standard streams that are closed, onto nothing.

    The next file that is opened would take the number of one, and what a library prints would be
    written into a shard.
    """
    names = ("stdin", "stdout", "stderr")
    for number, name in enumerate(names):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # which takes the lowest number that is free
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def print_anything() -> None:
    """Let names of any script be printed, in escapes where the terminal has no such letters."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the program; errors made for people are shown without a traceback."""
    open_streams()
    print_anything()
    try:
        # Outside of its standalone mode click returns the code of a command that called for one.
        code = cli.main(prog_name="mer-prep", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except (click.Abort, KeyboardInterrupt) as end:
        # click makes an Abort of Ctrl-C, and of a question that is not answered.
        asked = isinstance(end, click.Abort) and not isinstance(end.__cause__, KeyboardInterrupt)
        how = "stopped." if asked else "stopped at once; what was published is whole."
        echo(how, err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except MerPrepError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        from mer_prep.commands.failing import what_to_do

        where = f"\n  where: {error.filename}" if error.filename else ""
        hint = what_to_do(error, sys.argv[1:])
        echo(f"error: {error.strerror or error}.{where}\n  what to do: {hint}", err=True)
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        echo(
            f"error: unexpected {type(error).__name__}: {error}\n"
            "  what to do: run again as `mer-prep --debug ...` and report the traceback",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
