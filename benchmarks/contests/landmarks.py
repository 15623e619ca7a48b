"""Landmarks and alignment from files to aligned faces: the usual way against the stages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.clips import MEGAPIXELS, VGA, Film, make_scene, prepare, shoot
from benchmarks.contests import Options
from benchmarks.settings import landmark_settings
from benchmarks.stopwatch import PARTS, watching
from benchmarks.tables import Column, Table, standing_row
from benchmarks.timing import Way, race
from mer_prep.stages.landmarks import LandmarkParams

MODES = ("stabilized", "onset")

#: Frames of a clip, and those of them that the usual way is given: it treats every frame alike,
#: whereas the stages look for the face in the first one only, so they get the whole clip.
FRAMES = 64
PEER_FRAMES = {VGA: 8, MEGAPIXELS: 3}

#: Turns of the quick set.
TURNS = {VGA: 3, MEGAPIXELS: 2}


def run(options: Options) -> list[Table]:
    """Return frames per second, and where the time goes, at both sizes."""
    tables = []
    # `published` is what the peers do; that the stages do it as slowly is no news.
    settings = {
        name: params
        for name, params in landmark_settings().items()
        if params.precision != "published"
    }
    for size in (VGA, MEGAPIXELS):
        with tempfile.TemporaryDirectory() as folder:
            films = []
            for face in range(4 if options.full else 2):
                options.say(f"filming face {face + 1} at {size[0]}x{size[1]}")
                scene = make_scene(face, frames=FRAMES, size=size)
                films.append(shoot(Path(folder), f"face{face}", scene))
            options.say(f"landmarks and alignment at {size[0]}x{size[1]}")
            tables.append(_speed(films, settings, size, turns=5 if options.full else TURNS[size]))
            tables.append(_split(films[0], settings, size))
    return tables


def _speed(
    films: Sequence[Film],
    settings: dict[str, LandmarkParams],
    size: tuple[int, int],
    *,
    turns: int,
) -> Table:
    count = PEER_FRAMES[size]
    ways = [
        Way("detected in every frame", _peer(count)),
        Way("the same in the colour frame", _peer(count, grey=False)),
    ]
    for name, params in settings.items():
        modes = MODES if params == LandmarkParams() else MODES[:1]
        ways += [Way(f"{name}, {mode}", _ours(params, mode)) for mode in modes]
    rows = [
        standing_row(one, fps=1000 / one.ms, fps_worst=1000 / one.ms_worst)
        for one in race(ways, films, turns=turns)
    ]
    return Table(
        f"from JPEG files to aligned faces, {size[0]}x{size[1]}, one core",
        (
            Column("way", "way"),
            Column("fps", "frames/s", 1),
            Column("fps_worst", "worst", 1),
            Column("processor_ms", "CPU ms", 1),
            Column("ratio", "times faster", 1),
            Column("ratio_worst", "worst clip", 1),
            Column("processor_ratio", "by CPU time", 1),
        ),
        rows,
        f"{len(films)} clips of {FRAMES} frames. The first way decodes by cv2.imread, runs dlib's "
        "detector on the grey frame doubled in size, takes its 68 whole-pixel landmarks and warps "
        "the frame by them; scripts that hand dlib the colour frame wait longer. The others are "
        "the stages landmarks and align.",
    )


def _peer(count: int, *, grey: bool = True) -> Callable[[Film], int]:
    def work(film: Film) -> int:
        chosen = film.paths[:: len(film.paths) // count][:count]
        for path in chosen:
            peers.prepare_frame(path, grey=grey)
        return len(chosen)

    return work


def _ours(params: LandmarkParams, mode: str) -> Callable[[Film], int]:
    def work(film: Film) -> int:
        prepare(film.clip, film.frames(), params=params, mode=mode)
        return len(film.paths)

    return work


def _split(film: Film, settings: dict[str, LandmarkParams], size: tuple[int, int]) -> Table:
    """Return the CPU ms a frame of every part, of functions timed while the stages run."""
    parts = list(dict.fromkeys(point.part for point in PARTS))
    rows = []
    for name, params in settings.items():
        for mode in MODES[:1]:
            with watching() as watch:
                started = time.process_time()
                prepare(film.clip, film.frames(), params=params, mode=mode)
                total = time.process_time() - started
            row: dict[str, Any] = {"way": f"{name}, {mode}", "all": 1000 * total / FRAMES}
            for part in parts:
                row[part] = 1000 * watch.seconds[part] / FRAMES
            row["rest"] = row["all"] - sum(row[part] for part in parts)
            rows.append(row)
    return Table(
        f"where the time goes, {size[0]}x{size[1]}, CPU ms a frame",
        (
            Column("way", "way"),
            *(Column(part, part, 2) for part in parts),
            Column("rest", "the rest", 2),
            Column("all", "all", 2),
        ),
        rows,
        f"One run over {FRAMES} frames. 'detect' and 'check' are dlib's detector, in the first "
        "frame and now and then.",
    )
