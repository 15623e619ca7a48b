"""Ctrl-C goes to every process of a terminal; only the run itself is to answer it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Start processes and threads that Ctrl-C does not reach.

    SIGINT is held back in the calling thread for the time of the ``with`` block, which what is
    started in it inherits for good; one that arrives meanwhile is delivered at its end.
    """
    _start_trackers()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_trackers() -> None:
    """Start the helpers of multiprocessing, whose start would let SIGINT through again."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as loky_tracker

    resource_tracker.ensure_running()
    loky_tracker.ensure_running()
