"""Run the benchmarks: ``python -m benchmarks [--only NAME] [--save FILE]``."""

from __future__ import annotations

import argparse
import functools
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.pairs import end_point, known_pairs
from mer_prep import __version__
from mer_prep.ops.flow import optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.similarity import face_transform, warp
from mer_prep.ops.tvl1 import kernel_paths, kernel_version, tvl1
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.frames import ClipFrames
from mer_prep.synth.corpus import write_corpus

REPEATS = 5

#: Methods of optical flow with their engines; the first is what the others are compared with.
FLOW_WAYS = (("tvl1", "opencv"), ("tvl1", "cpu"), ("dis", "opencv"), ("farneback", "opencv"))

#: Turns of the engines of TV-L1 on every pair; the first is not counted.
ENGINE_TURNS = 4


@dataclass(frozen=True)
class Contest:
    """Ways to do one thing; the first is what the others are compared with."""

    title: str
    unit: str
    ways: dict[str, Callable[[], object]]
    units_a_call: int = 1


def measure(contest: Contest) -> list[tuple[str, float, float]]:
    """Return (way, median ms a unit, median ratio to the first way), measured in turn."""
    times: dict[str, list[float]] = {name: [] for name in contest.ways}
    for way in contest.ways.values():
        way()
    for _ in range(REPEATS):
        for name, way in contest.ways.items():
            started = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - started) * 1000 / contest.units_a_call)
    base = next(iter(times.values()))
    return [
        (
            name,
            statistics.median(taken),
            statistics.median(b / t for b, t in zip(base, taken, strict=True)),
        )
        for name, taken in times.items()
    ]


def faces(count: int = 16) -> list[np.ndarray]:
    """Return the first frames of a synthetic CASME II clip, 640x480, as they are decoded."""
    with tempfile.TemporaryDirectory() as folder:
        made = write_corpus("casme2", Path(folder), subjects=1, clips=1, frames=count)
        (clip,) = import_corpus("casme2", made.root).clips
        return list(ClipFrames(clip, 0, len(clip.frame_numbers)))


def landmark_contest(images: Sequence[np.ndarray]) -> Contest:
    """Compare what scripts do, detecting in every frame, with detecting once and following."""
    import dlib

    from mer_prep.ops.faces import FaceFinder
    from mer_prep.ops.predictor import predictor_file
    from mer_prep.ops.tracking import track_face

    detector = dlib.get_frontal_face_detector()
    predictor = dlib.shape_predictor(str(predictor_file()))

    def script() -> None:
        for image in images:
            (box, *_) = detector(image, 1)
            points = [(p.x, p.y) for p in predictor(image, box).parts()]
            warp(image, face_transform(np.array(points, float)))

    def ours(samples: int) -> Callable[[], None]:
        finder = FaceFinder(samples=samples)

        def run() -> None:
            track = track_face(finder, images)
            transform = face_transform(track.landmarks[0])
            for image in images:
                warp(image, transform)

        return run

    return Contest(
        "landmarks and alignment, 640x480",
        "frame",
        {
            "detect upsampled in every frame": script,
            "detect once and follow, samples=1": ours(1),
            "detect once and follow, samples=5 (default)": ours(5),
            "detect once and follow, samples=9": ours(9),
        },
        units_a_call=len(images),
    )


def flow_contest(images: Sequence[np.ndarray]) -> Contest:
    """Compare the methods of optical flow on one aligned pair."""
    from mer_prep.ops.faces import FaceFinder
    from mer_prep.ops.tracking import track_face

    transform = face_transform(track_face(FaceFinder(), images[:1]).landmarks[0])
    first, second = (to_grey(warp(image, transform)) for image in (images[0], images[-1]))
    ways: dict[str, Callable[[], object]] = {
        f"{method}, {engine}": functools.partial(
            optical_flow, first, second, method=method, engine=engine
        )
        for method, engine in FLOW_WAYS
        if engine == "opencv" or kernel_version() is not None
    }
    return Contest("optical flow, one 144x144 pair", "pair", ways)


def engine_contest() -> list[str]:
    """Compare the engines of TV-L1 pair by pair: time, agreement, and error against the truth.

    The calls take turns, so that both engines meet the same load of the machine. The ratio of a
    pair is that of its median times.
    """
    pairs = known_pairs(seed=1)
    ratios, ours_ms, reference_ms, differences, errors = [], [], [], [], []
    for pair in pairs:
        taken: dict[str, list[float]] = {"opencv": [], "cpu": []}
        flows = {}
        for turn in range(ENGINE_TURNS):
            # The slow engine has one call a turn, the fast one several around it.
            for engine, calls in (("cpu", 3), ("opencv", 1), ("cpu", 3)):
                for _ in range(calls):
                    started = time.perf_counter()
                    flows[engine] = tvl1(pair.first, pair.second, engine=engine)
                    if turn:  # the first turn warms up
                        taken[engine].append((time.perf_counter() - started) * 1000)
        ours, reference = (statistics.median(taken[engine]) for engine in ("cpu", "opencv"))
        ours_ms.append(ours)
        reference_ms.append(reference)
        ratios.append(reference / ours)
        differences.append(end_point(flows["cpu"], flows["opencv"]))
        errors.append([end_point(flows[name], pair.flow).mean() for name in ("cpu", "opencv")])
    mean_error = np.mean(errors, axis=0)
    largest_mean = max(one.mean() for one in differences)
    largest_99 = max(np.percentile(one, 99) for one in differences)
    return [
        f"## TV-L1 at its defaults, {len(pairs)} pairs of 144x144, engine {kernel_paths()[0]}",
        "",
        "| | cpu | opencv |",
        "|---|---:|---:|",
        f"| ms a pair, median | {statistics.median(ours_ms):.1f} | "
        f"{statistics.median(reference_ms):.1f} |",
        f"| mean end-point error, px | {mean_error[0]:.4f} | {mean_error[1]:.4f} |",
        "",
        f"Times faster: median {statistics.median(ratios):.1f}, worst pair {min(ratios):.1f}. "
        f"Difference between the engines: mean {np.mean(differences):.4f} px, worst pair's mean "
        f"{largest_mean:.4f} px, worst pair's 99th percentile {largest_99:.3f} px.",
        "",
    ]


def main() -> None:
    """Print every contest as a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["landmarks", "flow", "engines"])
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    images = [] if options.only == "engines" else faces()
    contests = {"landmarks": landmark_contest, "flow": flow_contest}
    lines = [
        f"mer-prep {__version__}, OpenCV {cv2.__version__}, Python {platform.python_version()}, "
        f"{platform.machine()}, one thread; median of {REPEATS} interleaved calls",
        "",
    ]
    for name, make in contests.items():
        if options.only not in (None, name):
            continue
        contest = make(images)
        lines += [
            f"## {contest.title}",
            "",
            f"| way | ms a {contest.unit} | times faster |",
            "|---|---:|---:|",
        ]
        lines += [f"| {way} | {ms:.1f} | {ratio:.1f} |" for way, ms, ratio in measure(contest)]
        lines.append("")
    if options.only in (None, "engines"):
        if kernel_version() is None:
            lines += ["The CPU engine of TV-L1 was not built here; see `mer-prep doctor`.", ""]
        else:
            lines += engine_contest()
    text = "\n".join(lines)
    print(text)
    if options.save:
        options.save.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
