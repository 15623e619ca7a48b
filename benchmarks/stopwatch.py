"""Where the processor time of a call goes: functions of the package timed while something runs."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class WatchPoint:
    """A function that is timed: the part its time counts for, its module and its name there."""

    part: str
    module: str
    name: str

    def find(self) -> tuple[Any, str]:
        """Return the object that holds the function, and the attribute's name."""
        owner: Any = importlib.import_module(self.module)
        *path, last = self.name.split(".")
        for name in path:
            owner = getattr(owner, name)
        getattr(owner, last)
        return owner, last


#: The parts of landmarks and alignment.
PARTS = (
    WatchPoint("decode", "mer_prep.sources.frames", "decode_image"),
    WatchPoint("detect", "mer_prep.ops.faces", "FaceFinder.detect"),
    WatchPoint("check", "mer_prep.ops.faces", "FaceFinder.face_score"),
    WatchPoint("landmarks", "mer_prep.ops.faces", "FaceFinder.predict"),
    WatchPoint("registration", "mer_prep.ops.stabilization", "HeadFollower.see"),
    WatchPoint("warp", "mer_prep.stages.align", "warp"),
)


@dataclass
class Stopwatch:
    """Processor seconds by part; a function's time is without that of watched ones it calls."""

    seconds: dict[str, float] = field(default_factory=dict)
    _inner: list[float] = field(default_factory=lambda: [0.0])

    def timed(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function that does the same and counts its own time for a part."""

        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                taken = time.process_time() - started
                own = taken - self._inner.pop()
                self.seconds[part] = self.seconds.get(part, 0.0) + own
                self._inner[-1] += taken

        return run


@contextmanager
def watching(points: Sequence[WatchPoint] = PARTS) -> Iterator[Stopwatch]:
    """Time functions wherever they are called within the block."""
    watch = Stopwatch(dict.fromkeys((point.part for point in points), 0.0))
    with ExitStack() as stack:
        for point in points:
            owner, name = point.find()
            stack.enter_context(
                mock.patch.object(owner, name, watch.timed(getattr(owner, name), point.part))
            )
        yield watch
