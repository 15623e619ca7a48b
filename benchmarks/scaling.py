"""One worker process against two, of a whole run: ``python -m benchmarks.scaling``.

The runs take turns, so that all meet the same load of the machine. Beside the wall times stand
the processor time of each run and how much of the machine's cores other programs left idle: on
a busy machine two workers cannot be twice as fast, and the figure says by how much.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mer_prep.synth.corpus import write_corpus


@dataclass(frozen=True)
class Turn:
    """One run, timed.

    Parameters
    ----------
    jobs : int
        Worker processes.
    seconds : float
        Wall time, from the start of the program to its end.
    cpu_seconds : float
        Processor time of the program and its workers.
    free_cores : float
        Cores that were idle or used by this run, on average.
    """

    jobs: int
    seconds: float
    cpu_seconds: float
    free_cores: float


def measure_scaling(
    *,
    subjects: int = 4,
    clips: int = 6,
    turns: int = 3,
    pipeline: str = "mol",
    scratch: Path | None = None,
) -> dict[str, Any]:
    """Time ``mer-prep run`` with one worker process and with two, in turn.

    Parameters
    ----------
    subjects, clips : int
        Size of the synthetic CASME II corpus: subjects, and clips of each.
    turns : int
        Pairs of runs.
    pipeline : str
        The pipeline that is run.
    scratch : Path, optional
        Where to work; a temporary folder by default.

    Returns
    -------
    dict
        ``speedup``: median over the turns of the time of one worker over that of two.
        ``cpu_ratio``: median processor time of two over that of one; what is above 1 is work
        done twice or slowed down by sharing the machine. ``ideal``: the median over the turns of
        the speed-up that the free cores and the processor times of the runs allowed. ``turns``:
        all runs.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        made = write_corpus("casme2", Path(folder), subjects=subjects, clips=clips)
        workspace = Path(folder) / "workspace"
        _program("import", "casme2", made.root, "-w", workspace)
        results = []
        for turn in range(turns):
            for jobs in (1, 2) if turn % 2 == 0 else (2, 1):
                shutil.rmtree(workspace / "cache", ignore_errors=True)
                command = ("run", pipeline, "--jobs", jobs, "-w", workspace)
                results.append(_timed(jobs, *command))
    ones = [one for one in results if one.jobs == 1]
    twos = [one for one in results if one.jobs == 2]
    pairs = list(zip(ones, twos, strict=True))
    return {
        "clips": subjects * clips,
        "pipeline": pipeline,
        "cores": len(os.sched_getaffinity(0)),
        "speedup": statistics.median(a.seconds / b.seconds for a, b in pairs),
        "cpu_ratio": statistics.median(b.cpu_seconds / a.cpu_seconds for a, b in pairs),
        "ideal": statistics.median(_ideal(a, b) for a, b in pairs),
        "turns": [asdict(one) for one in results],
    }


def _ideal(one: Turn, two: Turn) -> float:
    """Return the speed-up if two workers had used all that was free, and one its core."""
    return (one.cpu_seconds / min(1.0, one.free_cores)) / (
        two.cpu_seconds / min(2.0, two.free_cores)
    )


def _timed(jobs: int, *arguments: object) -> Turn:
    _, idle = _cores()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    _program(*arguments)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    idle_seconds = _cores()[1] - idle
    return Turn(jobs, seconds, cpu, (idle_seconds + cpu) / seconds)


def _cores() -> tuple[float, float]:
    """Return busy and idle processor seconds of the whole machine since it was started."""
    first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    ticks = [int(text) / os.sysconf("SC_CLK_TCK") for text in first.split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, idle


def _program(*arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mer_prep.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)


def main() -> None:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--pipeline", default="mol")
    options = parser.parse_args()
    print(json.dumps(measure_scaling(**vars(options)), indent=1))


if __name__ == "__main__":
    main()
