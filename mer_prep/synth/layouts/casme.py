"""The layout of CASME: raw episodes of two sections, selected expressions, registered crops."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip
from mer_prep.synth.workbooks import Table, action_unit_cell, write_workbook

#: The first name is taken twice: a folder of CASME may hold several expressions.
_NAMES = ("EP01_5", "EP01_5", "EP12_2_10", "EP11", "EP03_2", "EP09_13")

#: The first subject whose frame numbers are padded to three digits.
_PADDED_FROM = 7


class CasmeLayout(Layout):
    """CASME: frames named after their clip, some ``img``, and two expressions in some folders.

    All subjects are written at 640x480, the size of section B; section A has 1280x720.
    """

    corpus = "casme"
    folder = "CASME"
    fps = 60.0
    variants = ("raw", "selected", "cropped")
    default_variant = "selected"
    stream = 3
    emotions = (
        *("happiness", "surprise", "anger", "disgust"),
        *("surprise", "repression", "happiness", "fear"),
        *("contempt", "happiness", "surprise", "sadness"),
    )
    first_subject = 6

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px; crops vary, one size stands for all."""
        return (280, 340) if self._check(variant) == "cropped" else (640, 480)

    def whole_recording(self, variant: str) -> bool:
        """Return True for the raw variant."""
        return self._check(variant) == "raw"

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders; of the raw variant that of the sections."""
        trees = {"raw": "RAW", "selected": "CASME_raw_selected", "cropped": "Cropped"}
        return trees[self._check(variant)]

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``<tree>/sub07/EP01_6``; raw clips lie in a section above that."""
        section = "A" if clip.subject <= 7 else "B"
        inner = f"CASME_{section}/Section {section}/" if self._check(variant) == "raw" else ""
        return f"{self.tree(variant)}/{inner}sub{clip.subject:02d}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``EP01_5-81.jpg``, padded from subject 7 on; ``img81.jpg`` for odd clip names."""
        crop = "reg_" if self._check(variant) == "cropped" else ""
        if "_" not in clip.clip and not crop:
            return f"img{number}.jpg"
        width = 3 if clip.subject >= _PADDED_FROM else 0
        return f"{crop}{clip.clip}-{number:0{width}d}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the coding workbook; with quirks it has two blank columns."""
        return [write_workbook(root / "casme.xlsx", {"Sheet1": casme_rows(clips, quirks=quirks)})]

    def subject_name(self, subject: int) -> str:
        """Return ``sub01``."""
        return f"sub{subject:02d}"

    def label(self, emotion: str) -> str:
        """Return the annotated emotion; tense is shown as anger."""
        return "tense" if emotion == "anger" else emotion

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return names among which the irregular ones come first."""
        more = (f"EP{13 + k // 9:02d}_{1 + k % 9}" for k in itertools.count())
        names: Iterator[str] = itertools.chain(_NAMES, more)
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers of two and of three digits, apart where two clips share a folder."""
        return int(rng.integers(60, 100)) + 300 * (position % 3)

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Give the first subject's third clip a second apex."""
        if (index, position) != (0, 2) or clip.apex is None:
            return clip
        return dataclasses.replace(clip, second_apex=clip.apex + 1)


def casme_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the coding table of CASME; with quirks it has two blank columns and mixed cells."""
    rows: Table = [["Subject", "Filename", None, "OnsetF", "ApexF1", "ApexF2", "OffsetF"]]
    rows[0] += [None, "AU", "Emotion"]
    for clip in clips:
        frames: list[Any] = [clip.onset, clip.apex, clip.second_apex, clip.offset]
        units = action_unit_cell(clip.action_units, quirks=quirks)
        rows.append([clip.subject, clip.clip, None, *frames, None, units, clip.emotion])
    return rows if quirks else [[*row[:2], *row[3:7], *row[8:]] for row in rows]
