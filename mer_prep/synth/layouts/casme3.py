"""The layouts of CAS(ME)^3: recordings of part A and the micro-expression clips cut from them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip, write_bytes, write_litter
from mer_prep.synth.workbooks import Table, write_workbook

#: Recordings of a subject in the order of its clips; the second holds two of them.
_LETTERS = "abbcdefghijklm"

#: Number of the first frame: those before it were lost in recording.
_FIRST = 8

_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII")

_SPELLINGS = {"sadness": "sad", "happiness": "happy"}


class Casme3Layout(Layout):
    """CAS(ME)^3, part A: whole recordings in colour and depth, or cut clips."""

    corpus = "casme3"
    folder = "CASME3"
    fps = 30.0
    variants = ("part-a", "part-a-clips")
    default_variant = "part-a"
    classed = True
    stream = 7
    emotions = (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "fear", "happiness", "anger"),
        *("sadness", "happiness", "surprise", "disgust"),
    )

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""
        self._check(variant)
        return (1280, 720)

    def whole_recording(self, variant: str) -> bool:
        """Return True for the recordings."""
        return self._check(variant) == "part-a"

    def tree(self, variant: str) -> str:
        """Return the folder of the subject or clip folders."""
        whole = self.whole_recording(variant)
        return "part_A_split/part_A" if whole else "Part_A_ME_clip/frame"

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``<tree>/spNO.1/a/color``, or ``<tree>/spNo.1_b_166``."""
        if self.whole_recording(variant):
            return f"{self.tree(variant)}/spNO.{clip.subject}/{clip.clip}/color"
        return f"{self.tree(variant)}/spNo.{clip.subject}_{clip.clip}_{clip.onset}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``8.jpg``; numbers are not padded."""
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
        """Write the workbook of the micro-expressions, and of macro-expressions if there are."""
        folder = root / "annotation/partA"
        name = "cas(me)3_part_A_{}_label_JpgIndex_v2{}.xlsx"
        micro = [clip for clip in clips if clip.expression_type == "micro"]
        macro = [clip for clip in clips if clip.expression_type == "macro"]
        sheets = {"label": casme3_rows(micro, quirks=quirks)}
        if quirks:
            sheets |= {"Sheet1": [], "Sheet3": []}
        written = [write_workbook(folder / name.format("ME", ""), sheets)]
        if macro:
            path = folder / name.format("MaE", "_emotion")
            written.append(write_workbook(path, {"Sheet1": casme3_macro_rows(macro)}))
        return written

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write depth pictures, a recording without expression, and what file managers leave."""
        if not quirks or not clips:
            return
        folder = root / self.clip_folder(clips[0], variant)
        write_litter(folder, number=clips[0].onset)
        if self.whole_recording(variant):
            write_bytes(folder.parent / "depth" / f"{clips[0].onset}.png", b"")
            write_bytes(folder.parent.parent / "z" / "color" / f"{_FIRST}.jpg", b"")
        else:
            write_bytes(folder.parent.parent / "depth" / folder.name / "1.png", b"")

    def subject_name(self, subject: int) -> str:
        """Return ``spNO.1``."""
        return f"spNO.{subject}"

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return letters of recordings, of which the second comes twice."""
        names = itertools.cycle(_LETTERS)
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return small numbers, and larger ones further on in a recording."""
        return int(rng.integers(_FIRST + 2, 60)) + 300 * (position == 2) + 600 * (position // 14)

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Let recordings begin with frame 8, and drop a frame of each subject's second clip."""
        clip = dataclasses.replace(clip, first=max(clip.first, _FIRST))
        assert clip.apex is not None
        early = clip.offset - clip.apex > clip.apex - clip.onset
        gap = clip.apex + 1 if early else clip.apex - 1
        if position != 1 or gap in (clip.onset, clip.offset):
            return clip
        return dataclasses.replace(clip, missing=(gap,))


def casme3_rows(clips: Sequence[PlannedClip], *, quirks: bool) -> Table:
    """Return the table of the micro-expressions of part A; with quirks some spellings differ."""
    rows: Table = [["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class"]]
    rows[0].append("emotion")
    for clip in clips:
        emotion = _SPELLINGS.get(clip.emotion, clip.emotion)
        if quirks and emotion == "others":
            emotion = "Others"
        letter = clip.clip.upper() if quirks and clip.clip == "j" else clip.clip
        number = clip.objective_class
        frames: list[Any] = [clip.onset, clip.apex, clip.offset]
        labels = [clip.action_units, None if number is None else _ROMAN[number - 1], emotion]
        rows.append([f"spNO.{clip.subject}", letter, *frames, *labels])
    return rows


def casme3_macro_rows(clips: Sequence[PlannedClip]) -> Table:
    """Return the table of the macro-expressions of part A, which has other headings."""
    rows: Table = [["sub", "seq", "onset", "apex", "offset", "emotion"]]
    for clip in clips:
        emotion = _SPELLINGS.get(clip.emotion, clip.emotion)
        frames: list[Any] = [clip.onset, clip.apex, clip.offset]
        rows.append([f"spNO.{clip.subject}", clip.clip, *frames, emotion])
    return rows
