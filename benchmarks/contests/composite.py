"""The time of the whole MEGC2019 composite, projected from a tenth of it, by the command line."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contests import Options
from benchmarks.machine import CHECKOUT
from benchmarks.tables import Column, Table
from mer_prep.errors import MerPrepError
from mer_prep.synth.layouts import LAYOUTS

#: What is run: landmarks, alignment, and the flow that the MOL recogniser is trained on.
PIPELINE = "mol"
STAGES = ("landmarks", "align", "flow")

#: Frames from onset to offset of a clip of the composite, on average.
FRAMES = 70

AIM_MINUTES = 30.0


@dataclass(frozen=True)
class Share:
    """A corpus of the composite: its clips and subjects there, and those of the tenth."""

    clips: int
    subjects: int
    some_subjects: int
    some_clips: int


SHARES = {
    "casme2": Share(145, 24, 3, 5),
    "samm": Share(133, 28, 3, 4),
    "smic": Share(164, 16, 2, 8),
}


def run(options: Options) -> list[Table]:
    """Return the projected time by corpus, and by stage."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for corpus in SHARES:
            options.say(f"{corpus}: writing and preparing a tenth")
            summary = _prepare(corpus, Path(folder), options.jobs)
            rows.append(projected_row(corpus, summary, jobs=options.jobs))
    return [_table(rows, options.jobs)]


def projected_row(corpus: str, summary: dict[str, Any], *, jobs: int) -> dict[str, Any]:
    """Return what the summary of a run over a part of a corpus means for all of it.

    Parameters
    ----------
    corpus : str
        Corpus of the composite.
    summary : dict
        What ``mer-prep run --json`` printed: ``done``, ``frames_decoded``, ``seconds``, and
        ``stage_seconds`` by stage; and ``processor_seconds`` of all its processes.
    jobs : int
        Processes of the run.
    """
    share = SHARES[corpus]
    scale = share.clips * FRAMES / summary["frames_decoded"]
    seconds = summary["stage_seconds"]
    return {
        "corpus": corpus,
        "clips": share.clips,
        "subjects": share.subjects,
        "measured_clips": summary["done"],
        "measured_frames": summary["frames_decoded"],
        "measured_seconds": summary["seconds"],
        "minutes": scale * summary["seconds"] / 60,
        "processor_minutes": scale * summary["processor_seconds"] / 60 / jobs,
    } | {stage: seconds[stage] / sum(seconds.values()) for stage in STAGES}


def add_up(rows: list[dict[str, Any]], corpus: str) -> dict[str, Any]:
    """Return the row of several corpora: sums, and the parts of the stages by minutes."""
    summed = (
        *("clips", "subjects", "measured_clips", "measured_frames", "measured_seconds"),
        *("minutes", "processor_minutes"),
    )
    minutes = sum(row["minutes"] for row in rows)
    return (
        {"corpus": corpus}
        | {key: sum(row[key] for row in rows) for key in summed}
        | {stage: sum(row["minutes"] * row[stage] for row in rows) / minutes for stage in STAGES}
    )


def at_one_size(rows: list[dict[str, Any]], corpus: str) -> dict[str, Any]:
    """Return the row of all clips of the composite if they had the frames of these corpora."""
    clips = sum(share.clips for share in SHARES.values())
    some = add_up(rows, corpus)
    return some | {
        "clips": clips,
        "subjects": sum(share.subjects for share in SHARES.values()),
        "minutes": some["minutes"] * clips / some["clips"],
        "processor_minutes": some["processor_minutes"] * clips / some["clips"],
    }


def _table(rows: list[dict[str, Any]], jobs: int) -> Table:
    whole = add_up(rows, "the composite")
    vga = at_one_size([row for row in rows if row["corpus"] != "samm"], "all of it at 640x480")
    fast = vga["minutes"] <= AIM_MINUTES
    return Table(
        f"projected minutes with --jobs {jobs}, {FRAMES} frames a clip",
        (
            Column("corpus", "corpus"),
            Column("clips", "clips"),
            Column("subjects", "subjects"),
            Column("measured_clips", "measured clips"),
            Column("measured_frames", "frames"),
            Column("measured_seconds", "seconds", 1),
            Column("minutes", "projected minutes", 1),
            Column("processor_minutes", "by CPU time", 1),
            *(Column(stage, f"part of {stage}", 2) for stage in STAGES),
        ),
        [*rows, whole, vga],
        f"`mer-prep run {PIPELINE}` over synthetic corpora, projected by frames; start-up is "
        "scaled with the rest. SAMM's frames have 2040x1088 px, the others 640x480. The aim of "
        f"{AIM_MINUTES:.0f} minutes at 640x480 is {'reached' if fast else 'missed'}. Decoding "
        "counts for landmarks, writing shards for every stage. 'By CPU time' is the processor time "
        "of all processes shared by the jobs: what the run would take if nothing else ran.",
    )


def _prepare(corpus: str, folder: Path, jobs: int) -> dict[str, Any]:
    """Write, import and prepare a part of a corpus; return the summary of the run."""
    share = SHARES[corpus]
    size = ["--subjects", str(share.some_subjects), "--clips", str(share.some_clips)]
    workspace = ["--workspace", str(folder / "workspace")]
    many = ["--jobs", str(jobs)]
    _mer_prep("synth", corpus, *size, "--out", str(folder), *many)
    _mer_prep("import", corpus, str(folder / LAYOUTS[corpus].folder), *workspace, *many)
    before = _children_seconds()
    printed = _mer_prep("run", PIPELINE, corpus, "--json", *workspace, *many)
    summary: dict[str, Any] = json.loads(printed)
    return summary | {"processor_seconds": _children_seconds() - before}


def _children_seconds() -> float:
    """Return the processor time of all processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _mer_prep(*arguments: str) -> str:
    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "mer_prep.cli", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise MerPrepError(f"mer-prep {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stdout
