"""The contests, one module each; a module has `run`, which returns its tables."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.tables import Table


@dataclass(frozen=True)
class Options:
    """What a contest is run with.

    Parameters
    ----------
    full : bool
        More faces and more turns, for figures to publish.
    videos : tuple of Path
        Videos of faces.
    no_face : Path, optional
        Video without a face, to cut to.
    jobs : int
        Processes of the projected run.
    say : callable
        Called with a line on what is being done.
    """

    full: bool = False
    videos: tuple[Path, ...] = ()
    no_face: Path | None = None
    jobs: int = 2
    say: Callable[[str], None] = field(default=lambda line: None)


@dataclass(frozen=True)
class Contest:
    """A contest: what it is about, and whether the quick set holds it."""

    about: str
    quick: bool

    def run(self, name: str, options: Options) -> Sequence[Table]:
        """Run the contest of that name."""
        module = importlib.import_module(f"{__name__}.{name}")
        tables: Sequence[Table] = module.run(options)
        return tables


CONTESTS = {
    "engines": Contest("engines of TV-L1 against OpenCV's", quick=True),
    "flow": Contest("methods of optical flow", quick=True),
    "landmarks": Contest("landmarks and alignment, decoding included", quick=True),
    "precision": Contest("how exact alignment, landmarks and flow are", quick=True),
    "video": Contest("real videos: lost faces, cuts, steadiness (needs --videos)", quick=False),
    "composite": Contest("projected time of the whole composite", quick=False),
}
