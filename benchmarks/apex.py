"""How far spotted key frames are from the true ones: ``python -m benchmarks.apex``.

120 synthetic clips of as many subjects, made of two portraits: 60 frames from onset to offset at
200 frames per second, apex anywhere from frame 18 to 42, peak motion 0.5 to 1.5 px at 144x144, the
noise of a camera; half of them blink during the expression. All are prepared by the stages
landmarks and align at their defaults (stabilized). The first table gives the apex in clips that are
cut from onset to offset, the second onset, apex and offset in recordings with 20 neutral frames on
either side and no annotation at all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.apex_clips import EXPRESSION, FPS, PreparedClip, prepare
from mer_prep.ops.apex import KeyFrames, midpoint
from mer_prep.stages.apex import Apex, ApexParams, spot

#: Seed of the clips that are reported, and of those that the methods were tuned on.
SEED, TUNING_SEED = 2026, 7

CLIPS = 120

CONDITIONS = ("still", "motion", "flicker", "blink", "all")

#: Finds key frames in aligned frames (T, S, S) and their landmarks (T, 68, 2).
Method = Callable[[np.ndarray, np.ndarray], KeyFrames]


def _by_stage(params: ApexParams) -> Method:
    resolved = Apex(params).params

    def find(frames: np.ndarray, landmarks: np.ndarray) -> KeyFrames:
        return spot(frames, landmarks, resolved, fps=FPS)[1]

    return find


def _midpoint(frames: np.ndarray, landmarks: np.ndarray) -> KeyFrames:
    count = len(frames)
    return KeyFrames(0, midpoint(0, count), count - 1, 0.0)


METHODS: dict[str, Method] = {
    "midpoint": _midpoint,
    "flow (DIS)": _by_stage(ApexParams()),
    "flow (TV-L1)": _by_stage(ApexParams(flow="tvl1")),
    "flow (DIS), eyes not covered": _by_stage(ApexParams(eye_radius=0.0)),
    "frame-difference": _by_stage(ApexParams(method="frame-difference")),
    "divide-and-conquer": _by_stage(ApexParams(method="divide-and-conquer")),
}


def errors(clips: Sequence[PreparedClip], method: Method) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the errors of one method, and its time in seconds a frame.

    Returns
    -------
    cut : ndarray, shape (N,), int
        Found minus true apex in the clips from onset to offset, in frames.
    recorded : ndarray, shape (N, 3), int
        Found minus true onset, apex and offset in the recordings, in frames.
    seconds : float
        Time a frame.
    """
    cut, recorded, frames = [], [], 0
    started = time.perf_counter()
    for clip in clips:
        found = method(clip.expression, clip.expression_landmarks)
        cut.append(clip.onset + found.apex - clip.apex)
        found = method(clip.recording, clip.recording_landmarks)
        recorded.append(
            (found.onset - clip.onset, found.apex - clip.apex, found.offset - clip.offset)
        )
        frames += len(clip.expression) + len(clip.recording)
    return np.array(cut), np.array(recorded), (time.perf_counter() - started) / frames


def row(values: np.ndarray, conditions: np.ndarray) -> list[str]:
    """Return the mean (and largest) absolute error of every condition, and of all clips."""
    parts = [values[conditions == one] for one in CONDITIONS] + [values]
    return [
        f"{np.abs(part).mean():.2f} ({np.abs(part).max()})" if len(part) else "-" for part in parts
    ]


def print_table(title: str, rows: dict[str, list[str]], head: Sequence[str]) -> None:
    """Print a table in Markdown."""
    print(f"\n{title}\n")
    print(f"| method | {' | '.join(head)} |")
    print("|---|" + "---:|" * len(head))
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Prepare the clips, spot by every method, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS, help="number of clips")
    parser.add_argument("--seed", type=int, default=SEED, help=f"{TUNING_SEED}: the tuning set")
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path(tempfile.gettempdir()) / "mer-prep-apex",
        help="folder for prepared clips, 4 MB each",
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    clips = [
        prepare(index, seed=options.seed, folder=options.cache) for index in range(options.clips)
    ]
    conditions = np.array([clip.condition for clip in clips])
    found = {name: errors(clips, method) for name, method in METHODS.items()}
    counts = [f"{one} ({(conditions == one).sum()})" for one in CONDITIONS] + [f"({len(clips)})"]
    print_table(
        f"Apex, from onset to offset: mean (largest) error in frames of {EXPRESSION}",
        {
            name: [*row(cut, conditions), f"{1000 * seconds:.2f}"]
            for name, (cut, _, seconds) in found.items()
        },
        [*counts, "ms a frame"],
    )
    for column, what in enumerate(("Onset", "Apex", "Offset")):
        print_table(
            f"{what}, in unannotated recordings: mean (largest) error in frames",
            {
                name: row(recorded[:, column], conditions)
                for name, (_, recorded, _) in found.items()
                if name != "midpoint"
            },
            counts,
        )


if __name__ == "__main__":
    main()
