"""Who has the cases tried in processes of their own, and keeps what they say apart."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import cv2
from joblib.externals.loky import get_reusable_executor, reusable_executor

from tests.faults.catalogue import try_case

#: Bytes of what was written to standard error that are shown of a case that fails.
_LAST_WORDS = 4000

#: Cases that a process tries before a fresh one takes over.
_CASES_EACH = 8


class Attendant(threading.local):
    """Has cases tried in a process of its thread's own, which is replaced now and then.

    A case may leave a process in a bad way, or even end it: then it is that case that failed.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._left = 0

    def __call__(self, name: str) -> tuple[int, float, str]:
        """Try a case; return how often, in how many seconds, and what was wrong."""
        started = time.monotonic()
        if self._pool is None or self._left == 0:
            self._replace()
        assert self._pool is not None
        self._left -= 1
        try:
            return self._pool.submit(_try_quietly, name).result()
        except BrokenProcessPool:
            self._left = 0
            return 0, time.monotonic() - started, "NOT STOOD: the process that tried it was killed"

    def _replace(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_prepare)
        self._left = _CASES_EACH


def _prepare() -> None:
    """Keep OpenCV to one thread: what cases fork would wait for ever for others."""
    cv2.setNumThreads(1)


def _end_workers() -> None:
    """End the idle workers that a case has left, for which the end of the process would wait."""
    if reusable_executor._executor is not None:
        get_reusable_executor().shutdown(wait=True, kill_workers=True)


def _try_quietly(name: str) -> tuple[int, float, str]:
    """Try a case; what libraries say of hostile files is shown only if the case fails.

    A library writes to the file that standard error is, and not to Python's object for it.
    """
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            tried, seconds, problem = try_case(name)
        finally:
            _end_workers()
            os.dup2(kept, 2)
            os.close(kept)
        if problem:
            said.seek(0, os.SEEK_END)
            said.seek(max(0, said.tell() - _LAST_WORDS))
            problem += "\n" + said.read().decode(errors="replace")
    return tried, seconds, problem
