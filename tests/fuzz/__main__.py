"""Try the readers on broken documents: ``python -m tests.fuzz [--minutes M] [NAME ...]``."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.engine import Reader, Tally, fuzz, replay
from tests.fuzz.readers import READERS

#: Documents of a session, at the end of which the clock is looked at.
SESSION = 200


def main(words: Sequence[str]) -> int:
    """Try the named readers, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="readers; all if none is named")
    parser.add_argument("--minutes", type=float, default=10, help="in all  [default: 10]")
    parser.add_argument("--seed", type=int, help="of the first session  [default: any]")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try one document again")
    given = parser.parse_args(words)
    unknown = sorted(set(given.names) - set(READERS))
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(READERS)}", file=sys.stderr)
        return 2
    chosen = [READERS[name] for name in given.names or READERS]
    if given.replay:
        if len(chosen) != 1:
            parser.error("--replay needs the NAME of one reader")
        return _replay(chosen[0], given.replay)
    return _sweep(chosen, given.minutes * 60, given.seed)


def _replay(reader: Reader, path: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        found = replay(reader, path.read_bytes(), _fresh(Path(folder)))
    print(found.problem or f"{reader.name}: {'refused' if found.refused else 'taken'} as it should")
    return 1 if found.problem else 0


def _sweep(readers: Sequence[Reader], seconds: float, first: int | None) -> int:
    print(f"{'reader':<22} {'tried':>7} {'refused':>8} {'accepted':>9} {'worst seconds':>14}")
    failed = 0
    for reader in readers:
        if not reader.can_run():
            print(f"{reader.name:<22} needs {', '.join(reader.needs)}")
            continue
        found, number = _try(reader, seconds / len(readers), first)
        counts = f"{found.tried:>7} {found.refused:>8} {found.accepted:>9} {found.worst:>14.3f}"
        print(f"{reader.name:<22} {counts}", flush=True)
        if found.problem:
            failed += 1
            again = f"python -m tests.fuzz {reader.name}"
            print(f"    FAILED, seed {number}: {found.problem}")
            print(f"    again: {again} --replay {found.culprit}")
    print("every reader stood it" if not failed else f"{failed} READERS DID NOT STAND IT")
    return 1 if failed else 0


def _try(reader: Reader, seconds: float, first: int | None) -> tuple[Tally, int]:
    """Return what came of sessions of so many seconds, and the seed of the last."""
    number = random.randrange(2**32) if first is None else first
    total, until = Tally(), time.monotonic() + seconds
    while True:
        with tempfile.TemporaryDirectory() as folder:
            total.add(fuzz(reader, examples=SESSION, number=number, folder=_fresh(Path(folder))))
        if total.problem or time.monotonic() > until:
            return total, number
        number += 1


def _fresh(folder: Path) -> Path:
    (folder / "example").mkdir()
    return folder / "example"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
