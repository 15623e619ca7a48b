"""The layout of CAS(ME)^2: long recordings with micro- and macro-expressions, and crops."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.sources.facts import corpus_facts
from mer_prep.synth.layouts.base import Layout, PlannedClip
from mer_prep.synth.workbooks import Table, action_unit_cell, write_workbook


class CasmeSqLayout(Layout):
    """CAS(ME)^2: folders by recording or by expression, and a workbook without headings."""

    corpus = "casme_sq"
    folder = "CASME_SQ"
    fps = 30.0
    variants = ("raw", "selected", "cropped")
    default_variant = "raw"
    stream = 4
    emotions = (
        *("happiness", "surprise", "disgust", "others"),
        *("surprise", "fear", "happiness", "anger"),
        *("sadness", "happiness", "surprise", "disgust"),
    )

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px; crops vary, one size stands for all."""
        return (280, 340) if self._check(variant) == "cropped" else (640, 480)

    def whole_recording(self, variant: str) -> bool:
        """Return True for the raw variant."""
        return self._check(variant) == "raw"

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders."""
        trees = {"raw": "rawpic", "selected": "selectedpic", "cropped": "cropped"}
        return trees[self._check(variant)]

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``rawpic/s15/15_0101disgustingteeth``, or ``cropped/1/disgust1_1``."""
        if self._check(variant) == "cropped":
            return f"cropped/{_participants()[clip.subject]}/{clip.clip}"
        video = corpus_facts(self.corpus).names["stimuli"][clip.clip.rsplit("_", 1)[0]]
        return f"{self.tree(variant)}/s{clip.subject}/{clip.subject}_{video}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``img001.jpg``; numbers are padded to three digits, not so in crops."""
        return f"img{number}.jpg" if self._check(variant) == "cropped" else f"img{number:03d}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the codes and the two sheets of naming rules, none with headings."""
        participants = _participants()
        names = corpus_facts(self.corpus).names["stimuli"]
        rule1: Table = [[number, f"s{number}", one] for number, one in participants.items()]
        rule2: Table = [[video[:4], stimulus] for stimulus, video in names.items()]
        codes = "CASFEcode_final" if quirks else "CASMEcode_final"
        sheets = {codes: casme_sq_rows(clips), "naming rule1": rule1, "naming rule2": rule2}
        return [write_workbook(root / "CAS(ME)^2code_final.xlsx", sheets)]

    def subject_name(self, subject: int) -> str:
        """Return ``s15``."""
        return f"s{subject}"

    def subject_numbers(self) -> Iterator[int]:
        """Yield the numbers of the recordings' folders, 15 to 40 with gaps."""
        return iter(_participants())

    def label(self, emotion: str) -> str:
        """Return negative, positive, surprise or others."""
        names = {"happiness": "positive", "surprise": "surprise", "others": "others"}
        return names.get(emotion, "negative")

    def annotate(self, clip: PlannedClip, emotion: str) -> PlannedClip:
        """Add what the subject reports."""
        report = "helpless" if emotion == "others" else emotion
        return dataclasses.replace(clip, self_report=report)

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return ``disgust1_1``: stimulus and index; the stimulus does not tell the emotion."""
        stimuli = list(corpus_facts(self.corpus).names["stimuli"])
        names = (f"{name}_{k}" for k in itertools.count(1) for name in stimuli)
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers of which some pass from three digits to four."""
        # A stimulus comes again after nine clips: the same recording, further on.
        later = 2000 * (position // 9)
        if position % 9 == 1:
            return 1000 - int(rng.integers(1, max(length // 2, 2))) + later
        return int(rng.integers(30, 900)) + later

    def expression_type(self, position: int) -> str:
        """Return macro for every fourth clip."""
        return "macro" if position % 4 == 3 else "micro"


def _participants() -> dict[int, int]:
    """Return the participant of every recording's subject number, 15 to 1."""
    names = corpus_facts("casme_sq").names["participants"]
    return {int(folder.removeprefix("s")): int(one) for one, folder in names.items()}


def casme_sq_rows(clips: Sequence[PlannedClip]) -> Table:
    """Return the nine columns of the codes, without headings."""
    participants = _participants()
    rows: Table = []
    for clip in clips:
        frames: list[Any] = [clip.onset, clip.apex or 0, clip.offset]
        labels = [clip.emotion, f"{clip.expression_type}-expression", clip.self_report]
        units = action_unit_cell(clip.action_units, quirks=True)
        rows.append([participants[clip.subject], clip.clip, *frames, units, *labels])
    return rows
