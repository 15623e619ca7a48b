"""The layouts of SMIC and SMIC-E."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip, write_bytes, write_litter
from mer_prep.synth.workbooks import Table, write_workbook

_LABELS = {"ne": "negative", "po": "positive", "sur": "surprise"}
_CODES = {label: code for code, label in _LABELS.items()}


class SmicLayout(Layout):
    """SMIC (cut to the expression) and SMIC-E (long clips with a workbook), three cameras."""

    corpus = "smic"
    folder = "SMIC"
    fps = 100.0
    stream = 2
    # Only its three classes are annotated; what is shown as negative varies.
    emotions = (
        *("disgust", "happiness", "surprise", "sadness"),
        *("surprise", "anger", "happiness", "repression"),
        *("happiness", "fear", "surprise", "disgust"),
    )
    absent_subjects = frozenset({7, 10, 16, 17})
    coded = False
    variants = (
        *("HS", "VIS", "NIR"),
        *("HS-cropped", "VIS-cropped", "NIR-cropped"),
        *("SMIC-E-HS", "SMIC-E-VIS", "SMIC-E-NIR"),
    )
    default_variant = "HS"

    def camera(self, variant: str) -> str:
        """Return HS, VIS or NIR."""
        return self._check(variant).removeprefix("SMIC-E-").removesuffix("-cropped")

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px; crops vary, one size stands for all."""
        return (140, 170) if self._check(variant).endswith("-cropped") else (640, 480)

    def suffix(self, variant: str) -> str:
        """Return ``.jpg`` for SMIC-E, else ``.bmp``."""
        return ".jpg" if self.whole_recording(variant) else ".bmp"

    def frame_rate(self, variant: str) -> float:
        """Return 100 for the high-speed camera, else 25 frames per second."""
        return 100.0 if self.camera(variant) == "HS" else 25.0

    def whole_recording(self, variant: str) -> bool:
        """Return True for SMIC-E."""
        return self._check(variant).startswith("SMIC-E-")

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders."""
        camera = self.camera(variant)
        if self.whole_recording(variant):
            return f"SMIC-E_raw image/{camera}_long/SMIC-{camera}-E/{camera}"
        return f"SMIC_all_{'cropped' if variant.endswith('-cropped') else 'raw'}/{camera}"

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``<tree>/s1/micro/negative/s1_ne_01``, or ``<tree>/s01/s1_ne_01`` for SMIC-E."""
        if self.whole_recording(variant):
            return f"{self.tree(variant)}/s{clip.subject:02d}/{clip.clip}"
        label = _LABELS.get(clip.clip.split("_")[1], clip.emotion)
        return f"{self.tree(variant)}/s{clip.subject}/micro/{label}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``image061250.bmp``: at least six digits, more where the number has more."""
        prefix = "reg_" if self._check(variant).endswith("-cropped") else ""
        return f"{prefix}image{number:06d}{self.suffix(variant)}"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the workbook of SMIC-E; the other variants have none and give an empty list."""
        variant = variant or self.default_variant
        if not self.whole_recording(variant):
            return []
        camera = self.camera(variant)
        rows = smic_e_rows(clips, camera, quirks=quirks)
        path = root / "SMIC-E_raw image" / f"SMIC-{camera}-E_annotation.xlsx"
        return [write_workbook(path, {"Sheet1": rows})]

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write thumbnails and a ``non_micro`` folder that holds a clip without expression."""
        if not quirks or not clips:
            return
        clip = clips[0]
        folder = root / self.clip_folder(clip, variant)
        write_litter(folder, number=clip.onset)
        subject = root / self.tree(variant) / f"s{clip.subject}"
        if not self.whole_recording(variant):
            name = self.frame_name(clip, clip.onset, variant)
            write_bytes(subject / "non_micro" / f"s{clip.subject}_non_micro_01" / name, b"")

    def subject_name(self, subject: int) -> str:
        """Return ``s01``."""
        return f"s{subject:02d}"

    def label(self, emotion: str) -> str:
        """Return negative, positive or surprise."""
        return {"happiness": "positive", "surprise": "surprise"}.get(emotion, "negative")

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return ``s1_ne_01``: subject, class, index within the class."""
        taken: dict[str, int] = {}

        def name(label: str) -> str:
            code = _CODES[label]
            taken[code] = taken.get(code, 0) + 1
            return f"s{subject}_{code}_{taken[code]:02d}"

        return name

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers of five digits, padded to six; six; and eight, as one subject has."""
        return int(rng.integers(10_000, 90_000)) + (0, 480_000, 17_500_000)[index % 3]

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Leave out a frame of the first subject's second clip; never a key frame."""
        apex = clip.apex
        if index != 0 or position != 1 or apex is None:
            return clip
        gap = apex + 1 if clip.offset - apex > apex - clip.onset else apex - 1
        return (
            clip if gap in (clip.onset, clip.offset) else dataclasses.replace(clip, missing=(gap,))
        )


def smic_e_rows(clips: Sequence[PlannedClip], camera: str, *, quirks: bool) -> Table:
    """Return the SMIC-E table; clips that share a name are expressions of one long clip."""
    end = " NIR" if camera == "NIR" else ""
    expressions = [f"{name}{n}F{end}" for n in ("", "2", "3") for name in ("Onset", "Offset")]
    extent = ["FirstF", "LastF"]
    totals = ["TotalMF1", "TotalMF2", "TotalMF3", "TotalVL", "Emotion"]
    # The VIS workbook has its columns in another order.
    vis = camera == "VIS"
    header: list[Any] = ["Subject", "Filename", None]
    header += [*extent, *expressions, None] if vis else [*expressions, None, *extent]
    rows: Table = [header + totals]
    grouped: dict[tuple[int, str], list[PlannedClip]] = {}
    for clip in clips:
        grouped.setdefault((clip.subject, clip.clip), []).append(clip)
    for row, ((subject, name), group) in enumerate(grouped.items()):
        spans: list[int | None] = [number for clip in group for number in (clip.onset, clip.offset)]
        lengths: list[int | None] = [clip.offset - clip.onset + 1 for clip in group]
        first: Any = "missing" if quirks and row == 0 else group[0].first
        ends = [first, group[0].last]
        emotion = group[0].emotion
        if quirks and row == len(grouped) - 1:
            emotion = "positive" if emotion == "negative" else "negative"
        spans += [None] * (6 - len(spans))
        lengths += [None] * (3 - len(lengths))
        cells: list[Any] = [subject, name, None]
        cells += [*ends, *spans, None] if vis else [*spans, None, *ends]
        rows.append([*cells, *lengths, group[0].last - group[0].first + 1, emotion])
    if quirks:
        rows += [[], ["Numbers are those of the frame files."], ["A clip may hold three."]]
    return rows
