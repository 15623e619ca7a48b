"""The layout of the grey micro-expression clips of 4DME."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip
from mer_prep.synth.workbooks import Table, write_workbook

_LABELS = ("positive", "negative", "surprise", "repression", "others")


class FourDmeLayout(Layout):
    """4DME: grey clips whose labels may name several emotions."""

    corpus = "4dme"
    folder = "4DME"
    fps = 60.0
    variants = ("raw", "cropped")
    default_variant = "raw"
    grey = True
    stream = 6
    emotions = (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "repression", "happiness", "fear"),
        *("sadness", "happiness", "surprise", "anger"),
    )

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the frames in px; crops vary, one size stands for all."""
        return (280, 340) if self._check(variant) == "cropped" else (640, 480)

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders."""
        return {"raw": "gray_micro", "cropped": "gray_micro_crop"}[self._check(variant)]

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``gray_micro/S13/S13_1st_001_01_1``."""
        return f"{self.tree(variant)}/S{clip.subject:02d}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``46.jpg``."""
        self._check(variant)
        return f"{number}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the labels, whose file name holds a blank."""
        path = root / "4DME_Labelling_Micro_release v1.xlsx"
        return [write_workbook(path, {"Sheet1": four_dme_rows(clips, quirks=quirks)})]

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write thumbnails, and a folder without a row."""
        super().write_extras(root, clips, variant, quirks=quirks)
        if quirks and clips:
            subject = f"S{clips[0].subject:02d}"
            folder = root / self.tree(variant) / subject / f"{subject}_1st_999_01_1"
            folder.mkdir(parents=True, exist_ok=True)

    def subject_name(self, subject: int) -> str:
        """Return ``S13``."""
        return f"S{subject:02d}"

    def label(self, emotion: str) -> str:
        """Return positive, negative, surprise, repression or others."""
        if emotion in _LABELS:
            return emotion
        return "positive" if emotion == "happiness" else "negative"

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return ``S13_1st_001_01_1``."""
        names = (f"S{subject:02d}_1st_{1 + k:03d}_01_1" for k in itertools.count())
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers of two and three digits."""
        return int(rng.integers(60, 400))

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Give the first subject's second clip a second emotion."""
        if (index, position) != (0, 1):
            return clip
        further = "negative" if clip.emotion == "positive" else "positive"
        return dataclasses.replace(clip, further_emotions=(further,))


def four_dme_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the labels of 4DME, with a column for every emotion after the text.

    With quirks the first clip has an action unit marked ``(k)``: there from the first frame on.
    """
    rows: Table = [["sub_ID", "fold_name", "Onset", "Apex", "Offset", "AUs", "Emotion"]]
    rows[0] += [*(label.capitalize() for label in _LABELS), "Total", "eye blink"]
    for index, clip in enumerate(clips):
        emotions = (clip.emotion, *clip.further_emotions)
        still = "AU43(k)+" if quirks and index == 0 else ""
        row: list[Any] = [clip.subject, clip.clip, clip.onset, clip.apex, clip.offset]
        row += [still + clip.action_units, "+".join(one.capitalize() for one in emotions)]
        rows.append([*row, *(int(one in emotions) for one in _LABELS), len(emotions), 0])
    return rows
