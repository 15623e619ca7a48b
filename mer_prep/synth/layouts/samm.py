"""The layout of SAMM: grey clip frames, and FACS codes below rows of prose."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip
from mer_prep.synth.workbooks import Table, write_workbook

_SAMM_PROSE = (
    "Synthetic annotation in the layout of the SAMM micro-movement release",
    "Every row below the headings is one micro-movement",
    "Frame numbers are those of the recordings at 200 frames per second",
    "Onset: first frame of the movement",
    "Apex: frame of the strongest movement",
    "Offset: last frame of the movement",
    "Duration: frames from onset to offset, both included",
    "Action units: L left, R right, A to E strength",
    "Estimated emotion: not part of the coding itself",
    "Objective classes: 1 to 7, from the action units alone",
    "Subjects are numbered with three digits",
    "Notes: remarks of the coder",
    "The table starts on the next row",
)


class SammLayout(Layout):
    """SAMM: grey clip frames with numbers of four or five digits."""

    corpus = "samm"
    folder = "SAMM"
    fps = 200.0
    classed = True
    stream = 1
    emotions = (
        *("happiness", "anger", "surprise", "contempt"),
        *("surprise", "disgust", "happiness", "others"),
        *("anger", "surprise", "happiness", "fear"),
    )
    first_subject = 6
    absent_subjects = frozenset({8, 27, 29})
    variants = ("official",)
    default_variant = "official"
    grey = True

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""
        self._check(variant)
        return (960, 650)

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders."""
        self._check(variant)
        return "SAMM"

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``SAMM/006/006_1_2``."""
        return f"{self.tree(variant)}/{clip.subject:03d}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``006_05562.jpg``; odd subjects have four digits, as some real clips do."""
        self._check(variant)
        width = 4 if clip.subject % 2 else 5
        return f"{clip.subject:03d}_{number:0{width}d}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the FACS codes; with quirks 13 rows of prose first, and a copy among the frames."""
        name = "SAMM_Micro_FACS_Codes_v2.xlsx"
        written = [write_workbook(root / name, {"MICRO_ONLY": samm_rows(clips, quirks=quirks)})]
        if quirks:
            copy = root / self.tree(self.default_variant) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(written[0], copy)
            written.append(copy)
        return written

    def subject_name(self, subject: int) -> str:
        """Return ``006``."""
        return f"{subject:03d}"

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return ``006_1_2``: subject, inducement, index."""
        names = (f"{subject:03d}_{1 + k // 2}_{2 + k % 2}" for k in itertools.count())
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers of four and five digits."""
        # Even subjects are written with five digits, whether a number needs them or not.
        wide = index % 2 == 0 and position % 2 == 1
        return int(rng.integers(10_000, 14_000) if wide else rng.integers(1000, 9800))


def samm_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the FACS codes of SAMM; with quirks 13 rows of prose come first."""
    header = ["Subject", "Filename", "Inducement Code", "Onset Frame", "Apex Frame"]
    header += ["Offset Frame", "Duration", "Micro", "Action Units", "Estimated Emotion"]
    header += ["Objective Classes", "Notes"]
    if quirks:
        header = [f"{name} " if index % 3 == 2 else name for index, name in enumerate(header)]
    rows: list[list[Any]] = [[line] for line in _SAMM_PROSE] if quirks else []
    rows.append(header)
    for clip in clips:
        emotion = "Other" if clip.emotion == "others" else clip.emotion.capitalize()
        inducement = clip.clip.split("_")[1] if "_" in clip.clip else "1"
        row: list[Any] = [f"{clip.subject:03d}", clip.clip, int(inducement)]
        row += [clip.onset, clip.apex, clip.offset, clip.offset - clip.onset + 1]
        row += ["Micro - 1/2", clip.action_units, emotion, clip.objective_class, None]
        rows.append(row)
    return rows
