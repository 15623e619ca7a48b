"""The layouts of MMEW: micro-expression clips by emotion or by subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip, write_bytes
from mer_prep.synth.workbooks import Table, action_unit_cell, write_workbook

#: Second part of the clip names by emotion; only 1 and 7 are known, the others are invented.
_CODES = ("happiness", "surprise", "disgust", "sadness", "fear", "others", "anger")


class MmewLayout(Layout):
    """MMEW: small crops numbered from 1, sorted by emotion or by subject."""

    corpus = "mmew"
    folder = "MMEW"
    fps = 90.0
    variants = ("emotion-first", "subject-first")
    default_variant = "emotion-first"
    stream = 5
    emotions = (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "anger", "happiness", "fear"),
        *("sadness", "happiness", "surprise", "disgust"),
    )

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""
        self._check(variant)
        return (231, 231)

    def whole_recording(self, variant: str) -> bool:
        """Return True: numbers begin with 1, before the onset."""
        self._check(variant)
        return True

    def tree(self, variant: str) -> str:
        """Return the folder of the emotion or subject folders."""
        self._check(variant)
        return "MMEW_Final/Micro_Expression"

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``<tree>/anger/S13-07-001`` or ``<tree>/S13/anger/S13-07-001``.

        The seventh class lies in a folder ``repression``, as in some copies.
        """
        emotion = "repression" if clip.emotion == "others" else clip.emotion
        first = "" if self._check(variant) == "emotion-first" else f"S{clip.subject:02d}/"
        return f"{self.tree(variant)}/{first}{emotion}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``1.jpg``."""
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
        """Write the workbook of the micro-expressions."""
        rows: Table = [["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame"]]
        rows[0] += ["Action Units", "Estimated Emotion", "remarks"]
        for clip in clips:
            frames: list[Any] = [clip.onset, clip.apex, clip.offset]
            units = action_unit_cell(clip.action_units, quirks=quirks)
            rows.append([clip.subject, clip.clip, *frames, units, clip.emotion, None])
        return [write_workbook(root / "MMEW_Final/MMEW_Micro_Exp.xlsx", {"Sheet1": rows})]

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write thumbnails, and the pictures of macro-expressions, which are no clips."""
        super().write_extras(root, clips, variant, quirks=quirks)
        if quirks and clips:
            subject = f"S{clips[0].subject:02d}"
            folder = root / "MMEW_Final/Macro_Expression" / subject / "anger"
            write_bytes(folder / f"{subject}-07-001.jpg", b"")

    def subject_name(self, subject: int) -> str:
        """Return ``S13``."""
        return f"S{subject:02d}"

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return ``S13-07-001``: subject, emotion, index within the emotion."""
        taken: dict[str, int] = {}

        def name(label: str) -> str:
            taken[label] = taken.get(label, 0) + 1
            return f"S{subject:02d}-{_CODES.index(label) + 1:02d}-{taken[label]:03d}"

        return name

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return 2 or 3: clips begin with frame 1, just before the onset."""
        return int(rng.integers(2, 4))
