"""The layout of SAMM Long Videos: recordings, and FACS codes of both kinds of expression."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip, write_bytes, write_litter
from mer_prep.synth.layouts.samm import samm_rows
from mer_prep.synth.workbooks import Table, write_workbook

_PROSE = (
    "Synthetic annotation in the layout of the SAMM Long Videos release",
    "Every row below the headings is one movement",
    "Frame numbers are those of the recordings at 200 frames per second",
    "Onset: first frame of the movement",
    "Apex: frame of the strongest movement, -1 if there is none",
    "Offset: last frame of the movement, 0 if it is not seen",
    "Duration: frames from onset to offset, both included",
    "Type: micro, macro or other",
    "The table starts on the next row",
)

#: Frames between the onsets of one recording's expressions.
_APART = 900


class SammLvLayout(Layout):
    """SAMM Long Videos: recordings with micro- and macro-expressions."""

    corpus = "samm_lv"
    folder = "SAMM_LV"
    fps = 200.0
    variants = ("long",)
    default_variant = "long"
    grey = True
    classed = True
    stream = 8
    emotions = (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "happiness", "anger", "contempt"),
        *("sadness", "happiness", "surprise", "fear"),
    )
    first_subject = 6
    absent_subjects = frozenset({8, 27, 29})

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the frames in px: those of the clips, to be made in time."""
        self._check(variant)
        return (960, 650)

    def whole_recording(self, variant: str) -> bool:
        """Return True."""
        self._check(variant)
        return True

    def tree(self, variant: str) -> str:
        """Return the folder of the recordings."""
        self._check(variant)
        return "SAMM_longvideos"

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``SAMM_longvideos/006_1``."""
        return f"{self.tree(variant)}/{_recording(clip)}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``006_1_0001.jpg``."""
        self._check(variant)
        return f"{_recording(clip)}_{number:04d}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the codes, with quirks below nine rows of prose, and SAMM's own with emotions."""
        rows = samm_lv_rows(clips, quirks=quirks)
        path = root / "SAMM_LongVideos_V3_Release.xlsx"
        written = [write_workbook(path, {"FACS_Movement_Only": rows})]
        micro = [clip for clip in clips if clip.expression_type == "micro"]
        if micro:
            sheet = samm_rows(micro, quirks=quirks)
            name = "SAMM_Micro_FACS_Codes_v2.xlsx"
            written.append(write_workbook(root / name, {"MICRO_ONLY": sheet}))
        return written

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write what file managers leave, and a recording in which nothing is annotated."""
        if quirks and clips:
            write_litter(root / self.clip_folder(clips[0], variant), number=clips[0].onset)
            name = f"{clips[0].subject:03d}_9"
            write_bytes(root / self.tree(variant) / name / f"{name}_0001.jpg", b"")

    def subject_name(self, subject: int) -> str:
        """Return ``006``."""
        return f"{subject:03d}"

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return ``006_1_2``: subject, inducement, index; four lie in one recording."""
        names = (
            f"{subject:03d}_{1 + k // 4 % 7}_{2 + k % 4 + 4 * (k // 28)}" for k in itertools.count()
        )
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers that keep the expressions of a recording apart."""
        return int(rng.integers(60, 140)) + _APART * (position % 4 + 4 * (position // 28))

    def expression_type(self, position: int) -> str:
        """Return macro for every fourth clip."""
        return "macro" if position % 4 == 3 else "micro"

    def annotate(self, clip: PlannedClip, emotion: str) -> PlannedClip:
        """Take emotion and objective class from macro-expressions, which have none."""
        if clip.expression_type == "micro":
            return clip
        return dataclasses.replace(clip, emotion="", objective_class=None)

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Take the apex from the first macro-expression."""
        first = clip.expression_type == "macro" and index == 0 and position < 4
        return dataclasses.replace(clip, apex=None) if first else clip


def _recording(clip: PlannedClip) -> str:
    return clip.clip.rsplit("_", 1)[0]


def samm_lv_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the FACS codes; with quirks nine rows of prose first, and a movement of no type."""
    rows: Table = [[line] for line in _PROSE] if quirks else []
    header = ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration"]
    rows.append([*header, "Type", "Action Units", "Notes"])
    for clip in clips:
        inducement = int(clip.clip.split("_")[1])
        kind = "Micro - 1/2" if clip.expression_type == "micro" else "Macro"
        apex = -1 if clip.apex is None else clip.apex
        frames: list[Any] = [clip.onset, apex, clip.offset, clip.offset - clip.onset + 1]
        rows.append([f"{clip.subject:03d}", clip.clip, inducement, *frames, kind])
        rows[-1] += [clip.action_units, None]
    if quirks and clips:
        rows.append([*rows[-1][:7], "Other", "45", "a blink"])
    return rows
