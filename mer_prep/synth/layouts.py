"""The layouts of the real corpora: folders, frame names, annotation workbooks and their quirks.

Synthetic corpora and test trees are written through these, so that an importer that reads them
reads the real thing. Frame numbers, cells and clips are the caller's; only the form is real.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mer_prep.checks import check_option
from mer_prep.synth.workbooks import Table, casme2_rows, samm_rows, smic_e_rows, write_workbook


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


class Layout:
    """Layout of one corpus.

    Attributes
    ----------
    corpus : str
        Name of the importer that reads it.
    fps : float
        Frames per second of the default variant.
    variants : tuple of str
        Forms the corpus is distributed in.
    default_variant : str
        The form written where none is asked for.
    grey : bool
        Whether the recordings are grey.
    """

    corpus: str
    fps: float
    variants: tuple[str, ...]
    default_variant: str
    grey: bool = False

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""
        raise NotImplementedError

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

    def tree(self, variant: str) -> str:
        """Return the relative folder that holds the subject folders of a variant."""
        raise NotImplementedError

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return the relative folder of a clip's frames."""
        raise NotImplementedError

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return the file name of a frame."""
        raise NotImplementedError

    def frame_path(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return the relative POSIX path of a frame."""
        return f"{self.clip_folder(clip, variant)}/{self.frame_name(clip, number, variant)}"

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
        raise NotImplementedError

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write what lies beside the frames and must be passed over, if `quirks`."""
        raise NotImplementedError

    def _check(self, variant: str) -> str:
        return check_option("variant", variant, self.variants)


class Casme2Layout(Layout):
    """CASME II: raw episodes, selected expressions, registered crops."""

    corpus = "casme2"
    fps = 200.0
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
        _write_litter(folder, number=clips[0].onset)
        _write_bytes(folder.parent / "Desktop - Shortcut.lnk", b"L\x00\x00\x00")
        _write_bytes(root / "note.txt", b"Frame numbers are those of the recordings.\n")
        (folder.parent / "EP00_00").mkdir(exist_ok=True)


class SammLayout(Layout):
    """SAMM: grey clip frames with numbers of four or five digits."""

    corpus = "samm"
    fps = 200.0
    variants = ("official",)
    default_variant = "official"
    grey = True

    def size(self, variant: str) -> tuple[int, int]:
        """Return (width, height) of the real frames in px."""
        self._check(variant)
        return (960, 650)

    def tree(self, variant: str) -> str:
        """Return the folder of the subject folders."""
        self._check(variant)
        return "SAMM"

    def clip_folder(self, clip: PlannedClip, variant: str) -> str:
        """Return ``SAMM/006/006_1_2``."""
        return f"{self.tree(variant)}/{clip.subject:03d}/{clip.clip}"

    def frame_name(self, clip: PlannedClip, number: int, variant: str) -> str:
        """Return ``006_05562.jpg``; odd subjects have four digits, as some real clips do."""
        self._check(variant)
        width = 4 if clip.subject % 2 else 5
        return f"{clip.subject:03d}_{number:0{width}d}.jpg"

    def write_annotations(
        self,
        root: Path,
        clips: Sequence[PlannedClip],
        *,
        quirks: bool = True,
        variant: str | None = None,
    ) -> list[Path]:
        """Write the FACS codes; with quirks 13 rows of prose first, and a copy among the frames."""
        name = "SAMM_Micro_FACS_Codes_v2.xlsx"
        written = [write_workbook(root / name, {"MICRO_ONLY": samm_rows(clips, quirks=quirks)})]
        if quirks:
            copy = root / self.tree(self.default_variant) / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(written[0], copy)
            written.append(copy)
        return written

    def write_extras(
        self, root: Path, clips: Sequence[PlannedClip], variant: str, *, quirks: bool = True
    ) -> None:
        """Write thumbnails and Finder files."""
        if quirks and clips:
            _write_litter(root / self.clip_folder(clips[0], variant), number=clips[0].onset)


_SMIC_LABELS = {"ne": "negative", "po": "positive", "sur": "surprise"}


class SmicLayout(Layout):
    """SMIC (cut to the expression) and SMIC-E (long clips with a workbook), three cameras."""

    corpus = "smic"
    fps = 100.0
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
        label = _SMIC_LABELS.get(clip.clip.split("_")[1], clip.emotion)
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
        _write_litter(folder, number=clip.onset)
        subject = root / self.tree(variant) / f"s{clip.subject}"
        if not self.whole_recording(variant):
            name = self.frame_name(clip, clip.onset, variant)
            _write_bytes(subject / "non_micro" / f"s{clip.subject}_non_micro_01" / name, b"")


def _write_litter(folder: Path, *, number: int) -> None:
    """Write the files that file managers leave in clip folders."""
    _write_bytes(folder / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    _write_bytes(folder / ".DS_Store", b"\x00\x00\x00\x01")
    _write_bytes(folder / f"._img{number}.jpg", b"\x00\x05\x16\x07")


def _write_bytes(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


LAYOUTS: dict[str, Layout] = {
    layout.corpus: layout for layout in (Casme2Layout(), SammLayout(), SmicLayout())
}
