"""The layout of CASME II: raw episodes, selected expressions, registered crops."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip, write_bytes, write_litter
from mer_prep.synth.workbooks import Table, action_unit_cell, write_workbook

_NAMES = ("EP02_01f", "EP11_01", "EP11_01f", "EP12_03", "EP06_02_01", "EP08_1", "EP09f")


class Casme2Layout(Layout):
    """CASME II: raw episodes, selected expressions, registered crops."""

    corpus = "casme2"
    folder = "CASME2"
    fps = 200.0
    classed = True
    stream = 0
    emotions = (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "repression", "happiness", "disgust"),
        *("repression", "happiness", "surprise", "sadness"),
    )
    variants = ("raw", "selected", "cropped")
    default_variant = "selected"

    _TREES: ClassVar[dict[str, str]] = {
        "raw": "CASME2_RAW/CASME2-RAW",
        "selected": "CASME2_RAW_selected",
        "cropped": "Cropped",
    }

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""
        return (280, 340) if self._check(variant) == "cropped" else (640, 480)

    def whole_recording(self, variant: str) -> bool:
        """Return True for the raw variant."""
        return self._check(variant) == "raw"

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders."""
        return self._TREES[self._check(variant)]

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``<tree>/sub01/EP02_01f``."""
        return f"{self.tree(variant)}/sub{clip.subject:02d}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``img46.jpg``, or ``reg_img46.jpg`` for crops; numbers are not padded."""
        return f"{'reg_' if self._check(variant) == 'cropped' else ''}img{number}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the coding workbook and, with classes known, the objective classes."""
        sheets = {"Sheet1": casme2_rows(clips, quirks=quirks)}
        if quirks:
            sheets |= {"Sheet2": [], "Sheet3": []}
        written = [write_workbook(root / "CASME2-coding-20140508.xlsx", sheets)]
        classes = [
            [f"{clip.subject:02d}", clip.clip, clip.objective_class]
            for clip in clips
            if clip.objective_class is not None
        ]
        if classes:
            table: Table = [["Subject", "Filename", "Objective Class"], *classes]
            path = root / "CASME2-ObjectiveClasses.xlsx"
            written.append(write_workbook(path, {"Sheet1": table}))
        return written

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write a shortcut, thumbnails, Finder files and an empty folder that has no row."""
        if not quirks or not clips:
            return
        folder = root / self.clip_folder(clips[0], variant)
        write_litter(folder, number=clips[0].onset)
        write_bytes(folder.parent / "Desktop - Shortcut.lnk", b"L\x00\x00\x00")
        write_bytes(root / "note.txt", b"Frame numbers are those of the recordings.\n")
        (folder.parent / "EP00_00").mkdir(exist_ok=True)

    def subject_name(self, subject: int) -> str:
        """Return ``sub01``."""
        return f"sub{subject:02d}"

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return names among which the irregular ones come first."""
        rotation = index % len(_NAMES)
        names: Iterator[str] = itertools.chain(
            _NAMES[rotation:] + _NAMES[:rotation],
            (f"EP{13 + k // 9:02d}_{1 + k % 9:02d}" for k in itertools.count()),
        )
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers of which every other clip passes from two digits to three."""
        if position % 2 == 0:
            # Here names sort wrongly.
            return 100 - int(rng.integers(1, max(length // 2, 2)))
        return int(rng.integers(30, 160))

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Leave out the apex of the first clip whose emotion is no composite class."""
        if clip.emotion == "others" and all(one.apex is not None for one in before):
            return dataclasses.replace(clip, apex=None)
        return clip


def casme2_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the coding table of CASME II; with quirks it has blank columns and mixed cells."""
    header: list[Any] = ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame"]
    header += [None, "Action Units", "Estimated Emotion"]
    rows = [
        [
            f"{clip.subject:02d}",
            clip.clip,
            None,
            clip.onset,
            ("/" if quirks else None) if clip.apex is None else clip.apex,
            clip.offset,
            None,
            action_unit_cell(clip.action_units, quirks=quirks),
            clip.emotion,
        ]
        for clip in clips
    ]
    if not quirks:
        header, *rows = [[*row[:2], *row[3:6], *row[7:]] for row in [header, *rows]]
    return [header, *rows]
