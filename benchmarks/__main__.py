"""Run the benchmarks: ``python -m benchmarks --help``."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.contests import CONTESTS, Options
from benchmarks.machine import CHECKOUT, commit, describe_machine
from benchmarks.report import ContestResult, Results, default_path, save
from benchmarks.tables import markdown
from mer_prep.errors import MerPrepError


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    listed = "\n".join(f"  {name:<10} {contest.about}" for name, contest in CONTESTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures mer-prep against the usual way, side by side, on one core.",
        epilog=f"contests:\n{listed}\n\nWithout --only: all but the last two.",
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(CONTESTS), metavar="NAME", help="run these contests"
    )
    parser.add_argument("--full", action="store_true", help="more faces and more turns")
    parser.add_argument(
        "--videos", nargs="+", type=Path, default=[], metavar="FILE", help="videos of faces"
    )
    parser.add_argument(
        "--no-face", type=Path, metavar="FILE", help="video without a face, to cut to"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="processes of 'composite' (default: 2)"
    )
    parser.add_argument(
        "--save",
        nargs="?",
        type=Path,
        const=Path(),
        metavar="FILE.json",
        help="write the results as JSON, and as Markdown beside it; without a file name, as "
        "benchmarks/results/<cpu>-<date>.json; other contests in the file are kept if they are "
        "of the same machine, versions and day",
    )
    return parser


def chosen_contests(options: argparse.Namespace) -> list[str]:
    """Return the names of the contests to run; videos given without `--only` add theirs."""
    if options.only:
        return list(dict.fromkeys(options.only))
    return [
        name
        for name, contest in CONTESTS.items()
        if contest.quick or (name == "video" and options.videos)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the contests asked for, print their tables, and save them if asked to."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    names = chosen_contests(options)
    if "video" in names and not options.videos:
        parser.error("the contest 'video' needs --videos FILE...")
    for path in (*options.videos, *([options.no_face] if options.no_face else [])):
        if not path.is_file():
            parser.error(f"there is no file {path}")
    if options.save and options.save != Path() and options.save.suffix != ".json":
        parser.error("--save takes a file name that ends in .json")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cv2.setNumThreads(1)
    try:
        results = _run(names, options)
    except MerPrepError as error:
        sys.exit(f"error: {error}")
    if options.save:
        path = default_path(results) if options.save == Path() else options.save
        print("written:", *(os.path.relpath(one) for one in save(results, path)))


def _run(names: Sequence[str], options: argparse.Namespace) -> Results:
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, one thread; mer-prep {machine['mer_prep']}")
    state = commit(CHECKOUT)
    done = {}
    for name in names:
        contest = CONTESTS[name]
        print(f"\n## {name}: {contest.about}\n", flush=True)
        started = time.perf_counter()
        tables = contest.run(
            name,
            Options(
                full=options.full,
                videos=tuple(options.videos),
                no_face=options.no_face,
                jobs=options.jobs,
                say=lambda line: print(f"  {line} ...", file=sys.stderr, flush=True),
            ),
        )
        size = "full" if options.full else "quick"
        seconds = time.perf_counter() - started
        done[name] = ContestResult(contest.about, tables, seconds, size, state)
        for table in tables:
            print(markdown(table), flush=True)
    return Results(machine, datetime.date.today(), done)


if __name__ == "__main__":
    main()
