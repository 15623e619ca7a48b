"""A leaderboard of toy runs: two models with controls, and a LEAKY one."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mer_prep.dataset import ClipStore
from mer_prep.training.leaderboard import Entrant, leaderboard_facts
from mer_prep.training.machine import Machine
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.selection import LEAKY, Selection
from mer_prep.training.study import Study, fold_folder, open_run, run_fold
from tests.bars import CLIPS, SMALLEST, one_thread, study


def board_run(root: Path, name: str, hits: int, **changes: Any) -> tuple[Path, Study]:
    """Train a toy run and let it say what makes so many of its 9 clips right."""
    made = study(
        architecture=SMALLEST,
        training=TrainingSettings(steps=2, batch=4, learning_rate=1e-3),
        labels="megc2019-3",
        clip_lists={"test": "a" * 64, "all": "b" * 64},
        **changes,
    )
    run = root / "runs" / name
    open_run(run, made)
    with one_thread():
        for fold in made.folds:
            run_fold(run, made, fold, ClipStore(CLIPS), Machine())
    left = iter([True] * hits + [False] * 9)
    change_rows(run, made, lambda row: _say(row, next(left)))
    return run, made


def _say(row: dict[str, str], right: bool) -> None:
    row["predicted"] = row["label"] if right else str((int(row["label"]) + 1) % 3)


def change_rows(run: Path, made: Study, change: Callable[[dict[str, str]], None]) -> None:
    """Change the predictions that the folds of a run stored."""
    for fold in made.folds:
        path = fold_folder(run, fold) / "predictions.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        for row in rows:
            change(row)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def toy_board(root: Path) -> dict[str, Any]:
    """Return the facts of a leaderboard: 9, 6 and, LEAKY, 8 of 9 clips right."""
    shuffled = tuple(dataclasses.replace(one, label=(one.label + 1) % 3) for one in study().clips)
    control = board_run(root, "control", 3, shuffled=True, clips=shuffled)
    leaky = {"selection": Selection(LEAKY, 2), "preset": "code"}
    entrants = [
        Entrant(*board_run(root, "worse", 6)),
        Entrant(*board_run(root, "leaky-LEAKY", 8, **leaky)),
        Entrant(*board_run(root, "better", 9, preset="paper"), control=control),
    ]
    failed = {"frl-dgt:tiny": "Clips are <missing>."}
    return leaderboard_facts(entrants, against="worse", failed=failed)
