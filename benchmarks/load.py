"""Load: a composite of full-size clips, and a manifest of 100,000 lines.

``python -m benchmarks.load`` prints how long every command took and the peak of memory of each of
its processes; ``--clips`` and ``--manifest`` choose one of the two parts.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.crowds import write_crowd, write_lines
from benchmarks.machine import CHECKOUT, commit, describe_machine
from benchmarks.processes import Usage, measure
from benchmarks.quick_program import PIPELINE
from benchmarks.report import ContestResult, Results, default_path, save
from benchmarks.tables import Column, Table, markdown
from mer_prep.errors import MerPrepError
from mer_prep.store.cache import Cache
from mer_prep.workspace import Workspace

MIB = 2**20

ABOUT = "whole corpora: time, and the peak of memory of every process"

COLUMNS = (
    Column("command", "command"),
    Column("seconds", "s", 1),
    Column("processor_seconds", "CPU s", 1),
    Column("parent_mib", "program MiB", 0),
    Column("workers_mib", "workers MiB"),
    Column("shards", "shards after"),
)

#: Corpus of the long manifest: one that label maps know.
_CORPUS = "casme2"


def measure_clips(
    folder: Path, *, subjects: int, each: int, frames: int, jobs: int, say: Callable[[str], None]
) -> Table:
    """Prepare and combine full-size clips, and return what the commands took.

    Parameters
    ----------
    folder : Path
        Where to work.
    subjects, each : int
        Subjects of the three corpora together, and clips of each.
    frames : int
        Frames of a clip, 640x480 px.
    jobs : int
        Worker processes.
    say : callable
        Called with a line on what is being done.
    """
    workspace = Workspace(folder / "workspace")
    clips = write_crowd(
        folder / "source", workspace, subjects=subjects, clips=each, frames=frames, say=say
    )
    run = ("run", "onset-apex", "--jobs", jobs)
    commands: tuple[tuple[object, ...], ...] = (
        run,
        run,
        ("composite", "--pipeline", "onset-apex"),
        ("status",),
    )
    return Table(
        f"{clips} clips of {subjects} subjects, {frames} frames of 640x480 px, --jobs {jobs}",
        COLUMNS,
        [_row("mer_prep.cli", command, workspace, say) for command in commands],
        "The second run finds everything done. Clips show few recordings, but the bytes of no two "
        "are the same, so that every clip is hashed, decoded and computed. Peaks are the kernel's "
        "(VmHWM); pages of shared libraries count for every process.",
    )


def measure_manifest(
    folder: Path, *, lines: int, each: int, frames: int, say: Callable[[str], None]
) -> Table:
    """Run every command that reads manifests over a long one, and return what each took.

    Parameters
    ----------
    folder : Path
        Where to work.
    lines, each : int
        Clips of the manifest, and clips of a subject.
    frames : int
        Frames of a clip, tiny ones.
    say : callable
        Called with a line on what is being done.
    """
    workspace = Workspace(folder / "workspace")
    say(f"a manifest of {lines} lines")
    subjects = write_lines(
        folder / "source", workspace, corpus=_CORPUS, lines=lines, each=each, frames=frames
    )
    pipeline = folder / "quick.toml"
    pipeline.write_text(PIPELINE, encoding="utf-8")
    run = ("run", pipeline, "--jobs", 1)
    clip = f"{_CORPUS}/s0001/c0000"
    commands: tuple[tuple[object, ...], ...] = (
        ("status",),
        ("validate", "--frames", "exist"),
        (*run, "--dry-run"),
        (*run, "--dry-run"),
        (*run, "--subject", f"{_CORPUS}/s0001"),
        ("status",),
        ("inspect", clip),
        ("export", "align", "--to", "npy", "--out", folder / "exported", "--dry-run"),
        ("composite", "--pipeline", pipeline),
        ("verify",),
        ("gc",),
    )
    return Table(
        f"a manifest of {lines:,} lines, {subjects} subjects, {frames} frames a clip",
        COLUMNS,
        [_row("benchmarks.quick_program", command, workspace, say) for command in commands],
        "Stages compute nothing here. The first dry run hashes every frame, the second finds all "
        "remembered. The export ends with the list of what is missing.",
    )


def _row(
    module: str, command: Sequence[object], workspace: Workspace, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run a command of the program and return its row."""
    words = [one.name if isinstance(one, Path) else str(one) for one in command]
    say(" ".join(words))
    accepted = (0, 1) if command[0] == "export" else (0,)
    used = measure(module, *command, "--workspace", workspace.root, accepted=accepted)
    return {"command": " ".join(words), "shards": len(Cache(workspace.cache).shards())} | facts(
        used
    )


def facts(used: Usage) -> dict[str, Any]:
    """Return what a program took as the cells of a row."""
    return {
        "seconds": used.seconds,
        "processor_seconds": used.processor_seconds,
        "parent_mib": used.parent / MIB,
        "workers_mib": ", ".join(f"{one / MIB:.0f}" for one in used.workers) or None,
    }


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--clips", action="store_true", help="only the full-size clips")
    parser.add_argument("--manifest", action="store_true", help="only the long manifest")
    parser.add_argument("--subjects", type=int, default=68, help="of the full-size clips")
    parser.add_argument("--each", type=int, default=6, help="full-size clips of a subject")
    parser.add_argument("--frames", type=int, default=70, help="of a full-size clip")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes for them")
    parser.add_argument("--lines", type=int, default=100_000, help="of the long manifest")
    parser.add_argument("--line-frames", type=int, default=8, help="frames of its clips")
    parser.add_argument("--line-clips", type=int, default=250, help="clips of its subjects")
    parser.add_argument(
        "--save",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE.json",
        help="write the results as JSON, and as Markdown beside it; without a file name, as "
        "benchmarks/results/load-<cpu>-<date>.json",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, print the tables, and save them if asked to."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.save and options.save != Path() and options.save.suffix != ".json":
        parser.error("--save takes a file name that ends in .json")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    started = time.perf_counter()
    machine, both = describe_machine(), options.clips == options.manifest

    def say(line: str) -> None:
        print(f"  {line} ...", file=sys.stderr, flush=True)

    tables = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            if both or options.clips:
                tables.append(
                    measure_clips(
                        Path(folder) / "clips",
                        subjects=options.subjects,
                        each=options.each,
                        frames=options.frames,
                        jobs=options.jobs,
                        say=say,
                    )
                )
                print(markdown(tables[-1]), flush=True)
            if both or options.manifest:
                tables.append(
                    measure_manifest(
                        Path(folder) / "manifest",
                        lines=options.lines,
                        each=options.line_clips,
                        frames=options.line_frames,
                        say=say,
                    )
                )
                print(markdown(tables[-1]), flush=True)
        except MerPrepError as error:
            sys.exit(f"error: {error}")
    if options.save:
        seconds = time.perf_counter() - started
        done = {"load": ContestResult(ABOUT, tables, seconds, "full", commit(CHECKOUT))}
        results = Results(machine, datetime.date.today(), done)
        usual = default_path(results)
        path = usual.with_name(f"load-{usual.name}") if options.save == Path() else options.save
        print("written:", *(os.path.relpath(one) for one in save(results, path)))


if __name__ == "__main__":
    main()
