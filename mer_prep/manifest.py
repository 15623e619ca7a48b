"""Clips, recordings, findings and the record of an import: what a manifest holds.

The files are those of `mer_prep.manifest_files`.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mer_prep.errors import ManifestError

APEX_SOURCES = ("annotated", "spotted", "midpoint")

EXPRESSION_TYPES = ("micro", "macro")

#: A file of this name in a corpus folder says that ``mer-prep synth`` made it.
SYNTHETIC_MARK = "SYNTHETIC.txt"


def synthetic_mark_of(folder: Path) -> Path | None:
    """Return the nearest of a folder and those above it that is marked as synthetic, if any is."""
    for one in (folder, *folder.parents):
        if (one / SYNTHETIC_MARK).is_file():
            return one
    return None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something noticed about a corpus.

    Parameters
    ----------
    level : {'error', 'warning', 'info'}
        An error keeps a clip from being prepared; a warning does not.
    code : str
        Stable short name, e.g. ``apex-missing``.
    message : str
        What was found, and what was done about it.
    clip_id : str, optional
        The clip it concerns.
    where : str, optional
        File, row or cell.
    """

    level: str
    code: str
    message: str
    clip_id: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        place = " · ".join(part for part in (self.clip_id, self.where) if part)
        return f"{self.level} [{self.code}] {place + ': ' if place else ''}{self.message}"


#: Stands for the digest of frames that are missing or cannot be read.
UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Clip:
    """One annotated expression: its frames, its key frames and its labels.

    Parameters
    ----------
    clip_id : str
        ``<corpus>/<subject>/<clip>``, plus ``@<onset>`` where that is not unique.
    corpus : str
        Name of the corpus, e.g. ``casme2``.
    subject : str
        Canonical subject within the corpus: ``sub01``, ``006``, ``s01``.
    clip : str
        Name of the clip within the corpus, spelled as the corpus spells it.
    root : str
        Absolute source folder; `frames` and `video` are relative to it.
    frame_numbers : tuple of int
        Number of every frame in order: the number in the file name, or for a video the
        zero-based index of the decoded frame. Numbers may have gaps.
    frames : tuple of str
        Relative POSIX paths of the frame files in order; empty if `video` is given.
    video : str, optional
        Relative POSIX path of a video file.
    fps : float, optional
        Frames per second of the recording.
    onset, apex, offset : int, optional
        Key frames, as frame numbers. None if unknown.
    apex_source : {'annotated', 'spotted', 'midpoint'}, optional
        Where `apex` comes from; None if there is no apex.
    emotion : str, optional
        Normalised emotion (lower case, field's spelling).
    emotion_raw : str, optional
        The annotation's own word.
    action_units : tuple of int
        Numbers of the action units named, ascending, sides and strengths left out.
    action_units_raw : str, optional
        The annotation's own text.
    objective_class : int, optional
        Objective class 1 to 7 where annotated.
    variant : str, optional
        Which form of the corpus: raw, selected, cropped, HS, VIS, NIR ...
    restricted : bool
        True for licensed corpora: nothing derived from it may be passed on.
    synthetic : bool
        True for frames made by ``mer-prep synth``.
    source_digest : str
        SHA-256 over the frame numbers and the bytes of all frames (see `sources.frames`);
        `UNREADABLE` if one is missing or cannot be read.
    flags : tuple of str
        Codes of the findings that concern this clip.
    expression_type : {'micro', 'macro'}
        Kind of expression; manifests that do not say hold micro-expressions.
    """

    clip_id: str
    corpus: str
    subject: str
    clip: str
    root: str
    frame_numbers: tuple[int, ...]
    frames: tuple[str, ...] = ()
    video: str | None = None
    fps: float | None = None
    onset: int | None = None
    apex: int | None = None
    offset: int | None = None
    apex_source: str | None = None
    emotion: str | None = None
    emotion_raw: str | None = None
    action_units: tuple[int, ...] = ()
    action_units_raw: str | None = None
    objective_class: int | None = None
    variant: str | None = None
    restricted: bool = False
    synthetic: bool = False
    source_digest: str = ""
    flags: tuple[str, ...] = ()
    expression_type: str = "micro"

    @property
    def subject_id(self) -> str:
        """Subject across corpora, ``<corpus>/<subject>``."""
        return f"{self.corpus}/{self.subject}"

    def position(self, number: int) -> int:
        """Return the zero-based position of a frame number among `frame_numbers`.

        Positions and numbers differ wherever a corpus has gaps or does not start at zero.
        """
        try:
            return self.frame_numbers.index(number)
        except ValueError:
            raise ManifestError(
                f"Frame {number} of clip {self.clip_id} is not on disk.",
                where=f"{self.root} (frames {self.frame_numbers[0]} to {self.frame_numbers[-1]})"
                if self.frame_numbers
                else self.root,
                why="a key frame that is missing cannot be replaced by a neighbour unnoticed",
                hint="restore the frame, or correct the annotation by an erratum",
            ) from None

    def expression_span(self) -> tuple[int, int]:
        """Return positions (first, last + 1) of the frames from onset to offset.

        An unknown onset means the first frame, an unknown offset the last. Frames missing inside
        the span are simply absent; a missing onset or offset frame is looked for by number, and
        the nearest frame inside the span stands in for a missing *offset* only.
        """
        first = 0 if self.onset is None else self.position(self.onset)
        if self.offset is None:
            return first, len(self.frame_numbers)
        last = max(
            (i for i, number in enumerate(self.frame_numbers) if number <= self.offset),
            default=-1,
        )
        if last < first:
            raise ManifestError(
                f"Clip {self.clip_id} has no frame between onset {self.onset} "
                f"and offset {self.offset}.",
                where=self.root,
                hint="check the annotation with `mer-prep validate`",
            )
        return first, last + 1


def make_clip_id(corpus: str, subject: str, clip: str, onset: int | None = None) -> str:
    """Return the NFC-normalised clip id, with ``@onset`` if an onset is given."""
    text = f"{corpus}/{subject}/{clip}" + ("" if onset is None else f"@{onset}")
    return unicodedata.normalize("NFC", text)


def check_unique(clips: Iterable[Clip], *, where: str | None = None) -> None:
    """Raise `ManifestError` if two clips share one id."""
    seen: dict[str, int] = {}
    for row, clip in enumerate(clips, start=1):
        if clip.clip_id in seen:
            raise ManifestError(
                f"Clip id {clip.clip_id:.120} stands twice (clips {seen[clip.clip_id]} and {row}).",
                where=where or clip.root,
                why="results are stored and scored by clip id",
                hint="remove the duplicate row or folder",
            )
        seen[clip.clip_id] = row


def emotion_counts(clips: Iterable[Clip]) -> dict[str, int]:
    """Return the number of clips per normalised emotion, largest first."""
    return dict(Counter(clip.emotion or "unlabelled" for clip in clips).most_common())


def subject_counts(clips: Iterable[Clip]) -> dict[str, int]:
    """Return the number of clips per subject, sorted by subject."""
    return dict(sorted(Counter(clip.subject for clip in clips).items()))


@dataclass(frozen=True, slots=True)
class Recording:
    """A long video of a corpus, whether or not an expression is annotated in it.

    Parameters
    ----------
    name : str
        Name within the corpus, e.g. ``006_1``.
    subject : str
        Canonical subject within the corpus.
    folder : str
        Relative POSIX path of the folder of its frames: that of the frames of its clips.
    first, last : int
        Smallest and largest frame number.
    frames : int
        Frames on disk; fewer than the numbers from first to last where there are gaps.
    """

    name: str
    subject: str
    folder: str
    first: int
    last: int
    frames: int


@dataclass(frozen=True)
class ImportRecord:
    """How a corpus was read; stored as ``manifests/<corpus>.json``.

    Parameters
    ----------
    corpus : str
        Name of the corpus.
    source : str
        Name of the importer.
    root : str
        Absolute source folder.
    variant : str, optional
        Form of the corpus that was found or chosen.
    annotations : str, optional
        Annotation file.
    annotations_sha256 : str, optional
        Digest of the annotation file.
    annotation_version : str, optional
        Version recognised by content.
    errata : tuple of str
        Names of the errata that were applied.
    synthetic : bool
        True if the folder was made by ``mer-prep synth``.
    options : mapping of str to str
        What was chosen where the corpus leaves a choice, e.g. which column gives the emotion.
    findings : tuple of Finding
        What the importer noticed.
    recordings : tuple of Recording
        Every long video, for spotting; empty where the clips are not cut from long videos.
    manifest_sha256 : str, optional
        Digest of the ``.jsonl`` as it was written; shows lost or edited lines.
    """

    corpus: str
    source: str
    root: str
    variant: str | None = None
    annotations: str | None = None
    annotations_sha256: str | None = None
    annotation_version: str | None = None
    errata: tuple[str, ...] = ()
    synthetic: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = field(default=())
    recordings: tuple[Recording, ...] = ()
    manifest_sha256: str | None = field(default=None, compare=False)
