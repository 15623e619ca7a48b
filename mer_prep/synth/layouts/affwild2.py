"""The layout of Aff-Wild2: cropped frames by track, and a text file with a class per frame."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from mer_prep.synth.layouts.base import Layout, PlannedClip, write_bytes, write_litter

CLASSES = ("Neutral", "Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")

#: Frames between the onsets of one track's expressions.
_APART = 200


class AffWild2Layout(Layout):
    """Aff-Wild2: face crops in the wild, neutral before and after each expression."""

    corpus = "affwild2"
    folder = "AffWild2"
    fps = 30.0
    variants = ("cropped_aligned",)
    default_variant = "cropped_aligned"
    coded = False
    stream = 9
    emotions = (
        *("happiness", "surprise", "disgust", "sadness"),
        *("surprise", "anger", "happiness", "fear"),
        *("sadness", "happiness", "surprise", "disgust"),
    )

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real crops in px."""
        self._check(variant)
        return (112, 112)

    def whole_recording(self, variant: str) -> bool:
        """Return True: the neutral frames around an expression are there."""
        self._check(variant)
        return True

    def tree(self, variant: str) -> str:
        """Return the folder of the tracks."""
        return self._check(variant)

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``cropped_aligned/video1``."""
        return f"{self.tree(variant)}/{self.subject_name(clip.subject)}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``00001.jpg``."""
        self._check(variant)
        return f"{number:05d}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write a file of classes for every track: neutral around expressions, else -1."""
        folder = root / "EXPR_Recognition_Challenge/Train_Set"
        written = []
        for subject in dict.fromkeys(clip.subject for clip in clips):
            own = [clip for clip in clips if clip.subject == subject]
            classes = [-1] * max(clip.last for clip in own)
            for clip in own:
                label = CLASSES.index(clip.emotion.capitalize())
                for number in range(clip.first, clip.last + 1):
                    classes[number - 1] = label if clip.onset <= number <= clip.offset else 0
            lines = [",".join(CLASSES), *(str(label) for label in classes)]
            path = folder / f"{self.subject_name(subject)}.txt"
            write_bytes(path, ("\n".join(lines) + "\n").encode())
            written.append(path)
        return written

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write annotations of another kind, a track without any, and what file managers leave."""
        if not quirks or not clips:
            return
        write_litter(root / self.clip_folder(clips[0], variant), number=clips[0].onset)
        name = self.subject_name(clips[0].subject)
        other = root / "VA_Estimation_Challenge/Train_Set" / f"{name}.txt"
        write_bytes(other, b"valence,arousal\n0.1,-0.2\n")
        write_bytes(root / self.tree(variant) / "video0" / "00001.jpg", b"")

    def subject_name(self, subject: int) -> str:
        """Return ``video1``; every other one is the left of two people in a video."""
        return f"video{subject}" + ("" if subject % 2 else "_left")

    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return provisional names; `annotate` gives those that the importer gives."""
        names = (str(k) for k in itertools.count())
        return lambda label: next(names)

    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return numbers that keep the expressions of a track apart."""
        return int(rng.integers(10, 40)) + _APART * position

    def expression_type(self, position: int) -> str:
        """Return macro."""
        return "macro"

    def annotate(self, clip: PlannedClip, emotion: str) -> PlannedClip:
        """Name the clip by its frames, as the importer does."""
        return dataclasses.replace(clip, clip=f"{clip.onset:05d}-{clip.offset:05d}")
