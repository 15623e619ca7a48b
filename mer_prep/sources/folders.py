"""Walks a corpus folder once: bounded, without following links, telling corpora apart."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import ManifestError
from mer_prep.manifest import Finding
from mer_prep.sources.annotations import WORKBOOK_SUFFIXES
from mer_prep.sources.frames import VIDEO_SUFFIXES, is_image

#: Deepest clip folder known is six levels down (SMIC-E); wrappers add one or two.
MAX_DEPTH = 9

MAX_FOLDERS = 100_000

_PASSED_OVER = re.compile(r"(?i)__macosx|\$recycle\.bin|\..*")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder below the corpus root.

    Parameters
    ----------
    parts : tuple of str
        Names from the root down; empty for the root.
    images : tuple of str
        Names of the frame files in it.
    workbooks, videos, texts : tuple of str
        Names of the annotation workbooks, the videos and the text files in it.
    """

    parts: tuple[str, ...]
    images: tuple[str, ...]
    workbooks: tuple[str, ...]
    videos: tuple[str, ...]
    texts: tuple[str, ...] = ()

    @property
    def relative(self) -> str:
        """Relative POSIX path; empty for the root."""
        return "/".join(self.parts)

    @property
    def name(self) -> str:
        """Its own name; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @property
    def parent_name(self) -> str:
        """Name of the folder above; empty if that is the root."""
        return self.parts[-2] if len(self.parts) > 1 else ""

    def path(self, root: Path) -> Path:
        """Return its path below `root`."""
        return root.joinpath(*self.parts)


def walk(root: Path, findings: list[Finding], *, max_depth: int = MAX_DEPTH) -> list[Folder]:
    """Return the folders below a corpus root, itself included, sorted by path.

    Hidden folders are passed over. Links to folders are not followed, and each gives a finding:
    one that leads back up would never end, and one that leads out of the root would be refused
    when its frames are read.

    Raises
    ------
    ManifestError
        If the root is no folder, cannot be listed, or holds more folders than any corpus.
    """
    if not root.is_dir():
        kind = "a file" if root.exists() else "missing"
        raise ManifestError(
            f"The corpus folder is {kind}.", where=root, hint="give the folder of the corpus"
        )
    result: list[Folder] = []
    waiting: list[tuple[str, ...]] = [()]
    too_deep = 0
    while waiting:
        parts = waiting.pop()
        try:
            folder, below = _list(root, parts, findings)
        except OSError as error:
            if not parts:
                raise ManifestError(
                    f"The corpus folder cannot be listed: {error.strerror}.", where=root
                ) from None
            _warn(findings, "folder-unreadable", f"Cannot be listed: {error.strerror}.", parts)
            continue
        result.append(folder)
        if len(result) > MAX_FOLDERS:
            raise ManifestError(
                f"The folder holds more than {MAX_FOLDERS:,} folders.",
                where=root,
                hint="give the folder of one corpus",
            )
        if len(parts) >= max_depth:
            too_deep += len(below)
        else:
            waiting.extend((*parts, name) for name in below)
    if too_deep:
        message = f"{too_deep} folders lie deeper than {max_depth} levels and were not searched."
        _warn(findings, "folder-too-deep", message, ())
    return sorted(result, key=lambda folder: folder.parts)


def _warn(findings: list[Finding], code: str, message: str, parts: Sequence[str]) -> None:
    findings.append(Finding("warning", code, message, where="/".join(parts) or None))


def _list(
    root: Path, parts: tuple[str, ...], findings: list[Finding]
) -> tuple[Folder, tuple[str, ...]]:
    below: list[str] = []
    files: list[str] = []
    with os.scandir(root.joinpath(*parts)) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            later = _is_judged_later(entry.name)
            if entry.is_dir(follow_symlinks=False):
                if not _PASSED_OVER.fullmatch(entry.name):
                    below.append(entry.name)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                _note_link(root, (*parts, entry.name), findings)
            elif entry.is_symlink() and not (
                _is_judged_later(entry.name) or os.path.exists(entry.path)
            ):
                message = "A link leads nowhere, or back to itself; ignored."
                _warn(findings, "link-broken", message, (*parts, entry.name))
            elif later or _is_usable(root, (*parts, entry.name), findings):
                files.append(entry.name)
    folder = Folder(
        parts,
        tuple(name for name in files if is_image(name)),
        _with_suffix(files, WORKBOOK_SUFFIXES),
        _with_suffix(files, VIDEO_SUFFIXES),
        _with_suffix(files, (".txt",)),
    )
    return folder, tuple(below)


def _with_suffix(names: Iterable[str], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    # Spreadsheet programs leave lock files that begin with "~$".
    return tuple(
        name
        for name in names
        if name.lower().endswith(suffixes) and not name.startswith((".", "~$"))
    )


def _is_judged_later(name: str) -> bool:
    """Return whether a file is a frame or a video: each is judged when it is read."""
    return is_image(name) or name.lower().endswith(VIDEO_SUFFIXES)


def _is_usable(root: Path, parts: tuple[str, ...], findings: list[Finding]) -> bool:
    """Return whether a file may be opened; note one that may not, if it would be."""
    name = parts[-1].lower()
    if not name.endswith((*WORKBOOK_SUFFIXES, ".txt")):
        return True
    path = root.joinpath(*parts)
    if not path.is_file():
        _warn(findings, "file-special", "No regular file, or a link to none; ignored.", parts)
        return False
    if lies_below(path, root):
        return True
    message = "A link leads out of the corpus folder; ignored. Put the file itself there."
    _warn(findings, "link-outside", message, parts)
    return False


def lies_below(path: Path, root: Path) -> bool:
    """Return whether a path is below a root once all links in both are followed."""
    top = os.path.realpath(root).rstrip(os.sep) + os.sep
    return os.path.realpath(path).startswith(top)


def _note_link(root: Path, parts: tuple[str, ...], findings: list[Finding]) -> None:
    target = os.path.realpath(root.joinpath(*parts))
    here = os.path.realpath(root.joinpath(*parts[:-1]))
    top = os.path.realpath(root)
    if here == target or here.startswith(target.rstrip(os.sep) + os.sep):
        _warn(findings, "link-cycle", "A link leads back to a folder above it; ignored.", parts)
    elif target == top or target.startswith(top.rstrip(os.sep) + os.sep):
        message = "A link leads to another folder of the corpus; read there, not here."
        _warn(findings, "link-ignored", message, parts)
    else:
        message = "A link leads out of the corpus folder; ignored. Import the folder it leads to."
        _warn(findings, "link-outside", message, parts)


_SUBJECT_SUB = re.compile(r"(?i)sub[-_ ]?0*(\d{1,2})")

TITLES = {
    "casme": "CASME",
    "casme2": "CASME II",
    "samm": "SAMM",
    "smic": "SMIC",
    "casme_sq": "CAS(ME)^2",
    "casme3": "CAS(ME)^3",
    "mmew": "MMEW",
    "4dme": "4DME",
    "samm_lv": "SAMM Long Videos",
    "affwild2": "Aff-Wild2",
}

_FOLDER_NAMES = {
    "smic": re.compile(r"(?i)s\d{1,2}_(ne|po|sur)_\d{1,3}"),
    "samm": re.compile(r"\d{1,3}_\d_\d{1,2}"),
    "samm_lv": re.compile(r"\d{3}_\d"),
    "mmew": re.compile(r"(?i)s\d{1,2}-\d{1,2}-\d{1,3}"),
    "4dme": re.compile(r"(?i)s\d{1,2}_\w+_\d{3}_\d{2}_\d"),
    "casme_sq": re.compile(r"(?i)\d{2}_0\d{3}[a-z]+|(disgust|anger|happy)\d_\d{1,2}"),
    "casme3": re.compile(r"(?i)spno\.?\d+(_[a-z]_\d+)?"),
}

_EPISODE = re.compile(r"(?i)EP\d{1,2}(_\d+)*f?")


def subject_of_sub(name: str) -> int | None:
    """Return the number of a subject folder ``sub01``, ``sub1`` or ``Sub-01``, or None."""
    match = _SUBJECT_SUB.fullmatch(name)
    return int(match[1]) if match else None


def corpus_of_clip_name(name: str) -> str | None:
    """Return the corpus that names its clips like this, or None.

    CASME and CASME II share their names (``EP02_01``); those give ``casme2``.
    """
    for corpus, pattern in _FOLDER_NAMES.items():
        if pattern.fullmatch(name):
            return corpus
    return "casme2" if _EPISODE.fullmatch(name) else None


def corpus_of_folder(folder: Folder) -> str | None:
    """Return the corpus a folder looks like a clip of, by its name and its frames, or None."""
    corpus = corpus_of_clip_name(folder.name)
    if corpus == "casme2":
        if subject_of_sub(folder.parent_name) is None and len(folder.parts) > 1:
            return None
        # CASME repeats the clip's name in the frame names.
        is_casme = bool(folder.images) and re.match(r"(?i)(reg_)?ep\d", folder.images[0])
        return "casme" if is_casme else "casme2"
    if corpus == "casme3" and not folder.images:
        return "casme3"
    return corpus


def not_this_corpus(root: Path, folders: Sequence[Folder], corpus: str) -> ManifestError:
    """Return the error for a folder that holds no clip of `corpus`, naming what it looks like."""
    counts = Counter(corpus_of_folder(folder) for folder in folders)
    counts.pop(None, None)
    counts.pop(corpus, None)
    title = TITLES[corpus]
    if counts:
        other, count = counts.most_common(1)[0]
        assert other is not None
        example = next(f.relative for f in folders if corpus_of_folder(f) == other)
        return ManifestError(
            f"This is not {title}: it looks like {TITLES[other]} "
            f"({count} clip folders such as '{example}').",
            where=root,
            hint=f"`mer-prep import {other} {root}`, if that corpus is supported",
        )
    seen = [folder.relative for folder in folders if folder.images][:3]
    found = f"frames lie in {', '.join(repr(name) for name in seen)}" if seen else "no frames found"
    return ManifestError(
        f"No clip folder of {title} was found ({found}).",
        where=root,
        hint=f"{_EXPECTED[corpus]}; for any other folder of frame folders: `mer-prep import clips`",
    )


_EXPECTED = {
    "casme": "expected folders such as 'sub01/EP01_5' with 'EP01_5-113.jpg'",
    "casme2": "expected folders such as 'sub01/EP02_01f' with 'img46.jpg' or 'reg_img46.jpg'",
    "samm": "expected folders such as '006/006_1_2' with '006_05562.jpg'",
    "smic": "expected folders such as 's1/micro/negative/s1_ne_01' with 'image559740.bmp'",
    "casme_sq": "expected folders such as 's15/15_0101disgustingteeth' with 'img001.jpg', or "
    "'1/disgust1_1'; videos are not read, but extracted frames numbered from 1 are",
    "casme3": "expected folders such as 'part_A/spNO.1/a/color' with '8.jpg', 'spNO.1_b_166' with "
    "'166.jpg', or 'part_C/01/a/color'; depth pictures and videos are not read",
    "samm_lv": "expected folders such as '006_1' with '006_1_0001.jpg'",
    "affwild2": "expected folders such as 'cropped_aligned/video1' with '00001.jpg', or videos "
    "such as 'video1.mp4'",
    "mmew": "expected folders such as 'anger/S13-07-001' or 'S13/anger/S13-07-001' with '1.jpg'",
    "4dme": "expected folders such as 'gray_micro/S13/S13_1st_001_01_1' with '1.jpg'",
}
