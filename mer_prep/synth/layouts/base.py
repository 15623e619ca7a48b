"""What a layout is: folders, frame names, annotation workbooks, and the clips it is filled with."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from mer_prep.checks import check_option


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A clip to be written.

    Parameters
    ----------
    subject : int
        Number of the subject within the corpus.
    clip : str
        Name as the corpus spells it: ``EP02_01f``, ``006_1_2``, ``s1_ne_01``.
    emotion : str
        Normalised emotion; for SMIC negative, positive or surprise.
    action_units : str
        Annotation text, e.g. ``6+12`` or ``L14``; empty for SMIC.
    first, last : int
        Frame numbers of the whole recording, neutral frames included.
    onset, apex, offset : int
        Key frames; `apex` is None where the annotator gave none.
    objective_class : int, optional
        1 to 7.
    missing : tuple of int
        Frame numbers that have no file.
    expression_type : {'micro', 'macro'}
        Kind of expression.
    self_report : str, optional
        Emotion the subject reported, where the corpus has a column for it.
    further_emotions : tuple of str
        Emotions named after the first, where the corpus gives several.
    second_apex : int, optional
        Second apex, where the corpus has a column for it.
    """

    subject: int
    clip: str
    emotion: str
    action_units: str
    first: int
    last: int
    onset: int
    apex: int | None
    offset: int
    objective_class: int | None = None
    missing: tuple[int, ...] = ()
    expression_type: str = "micro"
    self_report: str | None = None
    further_emotions: tuple[str, ...] = ()
    second_apex: int | None = None


class Layout(ABC):
    """Layout of one corpus: what it looks like on disk, and what its synthetic twin holds.

    Attributes
    ----------
    corpus : str
        Name of the importer that reads it.
    folder : str
        Corpus folder of the synthetic twin.
    fps : float
        Frames per second of the default variant.
    variants : tuple of str
        Forms the corpus is distributed in.
    default_variant : str
        The form written where none is asked for.
    grey : bool
        Whether the recordings are grey.
    stream : int
        Sets the draws of the corpus apart from those of the others; never changed, as the clips
        would change with it.
    emotions : tuple of str
        Emotions shown, in the order in which clips take them, subject after subject: keys of
        `action_units.EMOTIONS`. Any three in a row hold most of the classes negative, positive
        and surprise; any subject of four clips holds all of them.
    first_subject : int
        Number of the first subject.
    absent_subjects : frozenset of int
        Numbers that no subject has.
    coded : bool
        Whether apex and action units are annotated.
    classed : bool
        Whether objective classes are annotated.
    """

    corpus: ClassVar[str]
    folder: ClassVar[str]
    fps: ClassVar[float]
    variants: ClassVar[tuple[str, ...]]
    default_variant: ClassVar[str]
    grey: ClassVar[bool] = False
    stream: ClassVar[int]
    emotions: ClassVar[tuple[str, ...]]
    first_subject: ClassVar[int] = 1
    absent_subjects: ClassVar[frozenset[int]] = frozenset()
    coded: ClassVar[bool] = True
    classed: ClassVar[bool] = False

    @abstractmethod
    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""

    def suffix(self, variant: str) -> str:
        """Return the file suffix of the frames, ``.jpg`` or ``.bmp``."""
        self._check(variant)
        return ".jpg"

    def frame_rate(self, variant: str) -> float:
        """Return the frames per second of a variant."""
        self._check(variant)
        return self.fps

    def whole_recording(self, variant: str) -> bool:
        """Return whether the frames before onset and after offset are on disk too."""
        self._check(variant)
        return False

    def numbers(self, clip: PlannedClip, variant: str) -> tuple[int, ...]:
        """Return the ascending frame numbers that have a file."""
        whole = self.whole_recording(variant)
        first, last = (clip.first, clip.last) if whole else (clip.onset, clip.offset)
        missing = frozenset(clip.missing)
        return tuple(number for number in range(first, last + 1) if number not in missing)

    @abstractmethod
    def tree(self, variant: str) -> str:
        """Return the relative folder that holds the subject folders of a variant."""

    @abstractmethod
    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return the relative folder of a clip's frames."""

    @abstractmethod
    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return the file name of a frame."""

    def frame_path(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return the relative POSIX path of a frame."""
        return f"{self.clip_folder(clip, variant)}/{self.frame_name(clip, number, variant)}"

    @abstractmethod
    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the annotation workbooks and return their paths.

        Parameters
        ----------
        root : Path
            Corpus folder.
        clips : sequence of PlannedClip
            Clips in the order of the rows.
        quirks : bool
            Write the irregular form of the release instead of a plain table.
        variant : str, optional
            Only for SMIC: the variants ``SMIC-E-*`` have a workbook, the others have none.
        """

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write what lies beside the frames and must be passed over, if `quirks`."""
        if quirks and clips:
            write_litter(root / self.clip_folder(clips[0], variant), number=clips[0].onset)

    @abstractmethod
    def subject_name(self, subject: int) -> str:
        """Return the subject as the importer spells it: ``sub01``, ``006``, ``s01``."""

    def subject_numbers(self) -> Iterator[int]:
        """Yield the numbers of the subjects."""
        return (n for n in itertools.count(self.first_subject) if n not in self.absent_subjects)

    def label(self, emotion: str) -> str:
        """Return what the annotation says of an emotion shown."""
        return emotion

    @abstractmethod
    def clip_names(self, subject: int, index: int) -> Callable[[str], str]:
        """Return a function that gives a subject's next clip name for an annotated emotion.

        Parameters
        ----------
        subject : int
            Number of the subject.
        index : int
            Position of the subject among those of the corpus, from 0.
        """

    @abstractmethod
    def first_number(self, index: int, position: int, length: int, rng: np.random.Generator) -> int:
        """Return the onset's frame number, with the digits the corpus is known for.

        Parameters
        ----------
        index, position : int
            Position of the subject in the corpus and of the clip in the subject, from 0.
        length : int
            Frames from onset to offset.
        rng : Generator
            Source of randomness.
        """

    def expression_type(self, position: int) -> str:
        """Return whether a subject's clip at `position` is ``micro`` or ``macro``."""
        return "micro"

    def annotate(self, clip: PlannedClip, emotion: str) -> PlannedClip:
        """Return a clip with what the annotation holds beyond the usual; `emotion` is shown."""
        return clip

    def quirk(
        self, clip: PlannedClip, *, index: int, position: int, before: Sequence[PlannedClip]
    ) -> PlannedClip:
        """Return a clip with the irregularity that the corpus is known for, if this one has it.

        Parameters
        ----------
        clip : PlannedClip
            The clip with its true apex.
        index, position : int
            Position of the subject in the corpus and of the clip in the subject, from 0.
        before : sequence of PlannedClip
            The clips planned so far.
        """
        return clip

    def _check(self, variant: str) -> str:
        return check_option("variant", variant, self.variants)


def write_litter(folder: Path, *, number: int) -> None:
    """Write the files that file managers leave in clip folders."""
    write_bytes(folder / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    write_bytes(folder / ".DS_Store", b"\x00\x00\x00\x01")
    write_bytes(folder / f"._img{number}.jpg", b"\x00\x05\x16\x07")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
