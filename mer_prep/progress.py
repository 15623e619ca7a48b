"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from mer_prep.terminal import printable

#: Seconds between plain lines when the output is no terminal.
_INTERVAL = 20.0


class Progress:
    """A context manager that shows how far some work is and when it will be done.

    Parameters
    ----------
    what : str
        The work, e.g. ``flow``.
    unit : str
        What is counted, e.g. ``clip``.
    total : int, optional
        How many there are, if known at the start.
    """

    def __init__(self, what: str, *, unit: str = "clip", total: int | None = None) -> None:
        self._what = what
        self._unit = unit
        self._total = total
        self._done = 0
        self._started = self._shown = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=total, desc=what, unit=f" {unit}s", leave=False, smoothing=0.1, delay=0.5
            )

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        self._total = total
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._bar is None and now - self._shown >= _INTERVAL and done < total:
            self._shown = now
            left = (now - self._started) / max(done, 1) * (total - done)
            print(
                f"{self._what}: {done} of {total} {self._unit}s, about {duration(left)} left",
                file=sys.stderr,
                flush=True,
            )

    def say(self, text: str) -> None:
        """Print a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(printable(text), file=sys.stderr)
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def duration(seconds: float) -> str:
    """Return a time span for people: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
