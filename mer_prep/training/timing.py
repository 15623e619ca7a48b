"""How long a fold was trained, counted over all the times it was stopped and went on."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from mer_prep.config import parse_json_object
from mer_prep.records import record_text
from mer_prep.store import disk
from mer_prep.store.text import write_atomic

#: In the folder of a fold that is being trained: seconds by the step of a checkpoint.
TIMES = "seconds.json"


class Stopwatch:
    """The wall time of a training; it counts the steps that are in the weights, and no others.

    A training that goes on from a checkpoint goes on with the time of that checkpoint. What was
    computed after it and lost does not count. Where that time is not known, none is.

    Parameters
    ----------
    folder : Path
        Folder of the fold.
    steps : int
        Steps of the whole training.
    every : int
        Steps between checkpoints; 0 for none before the end.
    """

    def __init__(self, folder: Path, *, steps: int, every: int) -> None:
        self._path, self._steps, self._every = folder / TIMES, steps, every
        self._known = _read(self._path)
        self._started = time.monotonic()
        self._before: float | None = None
        self._running = False

    def after(self, step: int) -> None:
        """Take the time of a step that is done, from 1; the first call tells where it began."""
        if not self._running:
            self._running = True
            self._before = 0.0 if step == 1 else self._known.get(step - 1)
            self._known = {one: value for one, value in self._known.items() if one < step}
        due = bool(self._every) and step % self._every == 0
        if self._before is not None and (due or step == self._steps):
            self._known[step] = self._before + time.monotonic() - self._started
            write_atomic(self._path, json.dumps(self._known) + "\n")

    @property
    def seconds(self) -> float | None:
        """Seconds of all steps; None if part of them is not known."""
        return self._known.get(self._steps)

    def forget(self) -> None:
        """Remove what is only of use to a training that goes on."""
        if self._path.is_file():
            disk.remove(self._path)


def _read(path: Path) -> dict[int, float]:
    """Return seconds by step; nothing if they cannot be read, as no result rests on them."""
    try:
        found = parse_json_object(record_text(path))
        return {int(step): checked_seconds(seconds) for step, seconds in found.items()}
    except (OSError, ValueError, TypeError):
        return {}


def checked_seconds(value: object) -> float:
    """Return a number of seconds as a float.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{value!r:.60} is no number of seconds")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r:.60} is no number of seconds")
    return float(value)
