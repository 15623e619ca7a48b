"""Reads any folder of clips: frame folders or video files, with an optional CSV file.

A clip is ``<clip>/`` or ``<subject>/<clip>/`` with numbered frames in it, or ``<clip>.avi`` or
``<subject>/<clip>.avi``. The CSV file may say what the folders cannot: ``clip`` is its only
required column, ``subject``, ``onset``, ``apex``, ``offset``, ``emotion``, ``fps`` and
``action_units`` may follow in any order.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2

from mer_prep.errors import ConfigError, DecodeError, ManifestError
from mer_prep.manifest import Clip
from mer_prep.sources.clip_table import (
    SANE_FPS,
    UNKNOWN_SUBJECT,
    FoundClip,
    annotated_expressions,
    plain_expression,
)
from mer_prep.sources.expressions import (
    Expression,
    Reading,
    check_key_frames,
    check_on_disk,
    expression_ids,
    index_frames,
    normalise_emotion,
    note_copies,
    parse_action_units,
)
from mer_prep.sources.folders import Folder, walk
from mer_prep.sources.frames import iterate_video, path_below
from mer_prep.sources.trees import Request
from mer_prep.sources.videos import check_video

#: What to do about a video that OpenCV cannot read.
_CONVERT = "convert it to H.264 MP4 or to a folder of frames"


def read(request: Request) -> Reading:
    """Read a folder of clips.

    Raises
    ------
    ManifestError
        If there are no clips, or two of one name.
    AnnotationError
        If the CSV file has unknown columns, names clips that are not there, or a cell is not
        what it must be.
    """
    if request.variant is not None:
        raise ConfigError("A folder of clips has no variants.", hint="leave --variant out")
    if not isinstance(request.errata, bool) and request.errata:
        raise ConfigError("A folder of clips has no errata.", hint="leave --errata out")
    reading = Reading(request.name, request.root, cut=True, restricted=False)
    folders = walk(request.root, reading.findings)
    found = _find(reading, folders)
    if not found:
        raise ManifestError(
            "No clip was found: no folder with numbered frames and no readable video.",
            where=request.root,
            hint="expected clip or subject/clip, each a folder of frames or a video file",
        )
    if request.annotations is None:
        expressions = [plain_expression(clip) for clip in found.values()]
        rates: dict[str, float] = {}
    else:
        reading.annotations = request.annotations
        expressions, rates = annotated_expressions(reading, found, request.annotations)
    expressions = _one_spelling(reading, expressions)
    _note_subjects(reading, expressions)
    for clip_id, expression in zip(
        expression_ids(request.name, expressions), expressions, strict=True
    ):
        source = found[str(expression.key)]
        reading.clips.append(_clip(reading, expression, clip_id, source, rates))
    return reading


def _find(reading: Reading, folders: Sequence[Folder]) -> dict[str, FoundClip]:
    """Return the clips on disk by their relative path without suffix."""
    found: dict[str, FoundClip] = {}

    def add(clip: FoundClip) -> None:
        key = "/".join(part for part in (clip.subject, clip.name) if part)
        if key in found:
            raise ManifestError(
                f"Two clips have the name '{key}': {found[key].relative} and {clip.relative}.",
                where=reading.root,
                why="results are stored and scored by clip",
                hint="rename one of them",
            )
        found[key] = clip

    for folder in folders:
        if folder.images:
            _add_folder(reading, folder, folders, add)
        for name in folder.videos:
            _add_video(reading, folder, name, add)
        if not (folder.images or folder.videos) and _is_leaf(folder, folders):
            reading.note("warning", "clip-empty", "The folder is empty.", where=folder.relative)
    return found


def _is_leaf(folder: Folder, folders: Sequence[Folder]) -> bool:
    depth = len(folder.parts)
    return depth > 0 and not any(
        len(other.parts) > depth and other.parts[:depth] == folder.parts for other in folders
    )


def _add_folder(
    reading: Reading,
    folder: Folder,
    folders: Sequence[Folder],
    add: Callable[[FoundClip], None],
) -> None:
    if len(folder.parts) > 2:
        message = "Frames lie deeper than subject/clip; left out. Import the folder above them."
        reading.note("error", "folder-too-deep", message, where=folder.relative)
        return
    if not folder.parts and len(folders) > 1:
        message = "Frames lie beside the clip folders; left out."
        reading.note("warning", "frames-loose", message, where=folder.images[0])
        return
    frames = index_frames(reading.root, folder)
    if isinstance(frames, str):
        reading.note("error", "frames-unusable", frames, where=folder.relative)
        return
    note_copies(reading, folder)
    add(
        FoundClip(
            subject=folder.parts[0] if len(folder.parts) == 2 else None,
            name=folder.name or reading.root.name,
            relative=folder.relative,
            numbers=tuple(number for number, _ in frames),
            frames=tuple(path for _, path in frames),
        )
    )


def _add_video(
    reading: Reading, folder: Folder, name: str, add: Callable[[FoundClip], None]
) -> None:
    relative = "/".join((*folder.parts, name))
    if len(folder.parts) > 1:
        message = "A video lies deeper than subject/clip; left out. Import the folder above it."
        reading.note("error", "folder-too-deep", message, where=relative)
        return
    try:
        relative.encode("utf-8")
        count, stated, fps = measure_video(path_below(reading.root, relative, where=relative))
    except (ManifestError, DecodeError, UnicodeEncodeError) as error:
        what = error.what if isinstance(error, (ManifestError, DecodeError)) else "Bad name."
        reading.note("error", "video-unreadable", f"{what} Left out.", where=repr(relative))
        return
    if count < stated - 1:
        message = f"Only {count} of the {stated} frames that the video states could be decoded."
        reading.note("warning", "video-short", message, where=relative)
    add(
        FoundClip(
            subject=folder.name or None,
            name=Path(name).stem,
            relative=relative,
            numbers=tuple(range(count)),
            video=relative,
            fps=fps,
        )
    )


def measure_video(path: Path) -> tuple[int, int, float | None]:
    """Return how many frames can be decoded, how many the container states, and a sane rate.

    The count by decoding is what holds; a container that states more was perhaps cut short. The
    rate is None if the container's is not sane.

    Raises
    ------
    DecodeError
        If it cannot be opened or has no frame.
    """
    count = sum(1 for _ in iterate_video(path))
    if not count:
        raise DecodeError("The video has no frame that can be decoded.", where=path, hint=_CONVERT)
    return count, *stated_length(path)


def stated_length(path: Path) -> tuple[int, float | None]:
    """Return how many frames a video's container states, 0 if none, and its rate if it is sane.

    Raises
    ------
    DecodeError
        If it cannot be opened.
    """
    check_video(path)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DecodeError("The video cannot be opened.", where=path, hint=_CONVERT)
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        stated = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    finally:
        capture.release()
    stated_count = int(stated) if math.isfinite(stated) and 0 <= stated < 2**31 else 0
    sane = fps if math.isfinite(fps) and SANE_FPS[0] <= fps <= SANE_FPS[1] else None
    return stated_count, sane


def _one_spelling(reading: Reading, expressions: Sequence[Expression]) -> list[Expression]:
    """Return the expressions with subjects that differ only by case under one name."""
    spellings: dict[str, list[str]] = {}
    for expression in expressions:
        found = spellings.setdefault(expression.subject.casefold(), [])
        if expression.subject not in found:
            found.append(expression.subject)
    for first, *others in spellings.values():
        if others:
            listed = ", ".join(repr(name) for name in (first, *others))
            message = f"The subjects {listed} differ only by case; taken as one person, '{first}'. "
            message += "Two names would let one person be trained on and tested."
            reading.note("warning", "subject-case", message)
    return [replace(item, subject=spellings[item.subject.casefold()][0]) for item in expressions]


def _note_subjects(reading: Reading, expressions: Sequence[Expression]) -> None:
    count = sum(expression.subject == UNKNOWN_SUBJECT for expression in expressions)
    if count:
        reading.note(
            "warning",
            "subject-unknown",
            f"The subject of {count} clips is unknown. Without subjects no honest split exists: "
            "one person would be both trained on and tested. Sort the clips into subject folders "
            "or give a CSV file with a subject column.",
        )


def _clip(
    reading: Reading,
    expression: Expression,
    clip_id: str,
    source: FoundClip,
    rates: Mapping[str, float],
) -> Clip:
    if expression.onset is not None or expression.offset is not None or expression.apex is not None:
        expression = _checked(reading, expression, clip_id, source)
    raw = expression.emotion_raw
    units = expression.action_units_raw
    return Clip(
        clip_id=clip_id,
        corpus=reading.corpus,
        subject=unicodedata.normalize("NFC", expression.subject),
        clip=unicodedata.normalize("NFC", expression.clip),
        root=str(reading.root),
        frame_numbers=source.numbers,
        frames=source.frames,
        video=source.video,
        fps=rates.get(str(expression.key), source.fps),
        onset=expression.onset,
        apex=expression.apex,
        offset=expression.offset,
        apex_source=None if expression.apex is None else "annotated",
        emotion=normalise_emotion(raw) if raw else None,
        emotion_raw=raw,
        action_units=parse_action_units(units or ""),
        action_units_raw=units,
    )


def _checked(
    reading: Reading, expression: Expression, clip_id: str, source: FoundClip
) -> Expression:
    before = len(reading.findings)
    # Zero is a frame of a video, not a way to write "none"; blank key frames are no news here.
    zero = expression.offset == 0 and 0 in source.numbers
    checked = check_key_frames(
        reading, replace(expression, offset=None) if zero else expression, clip_id
    )
    if zero:
        checked = replace(checked, offset=0)
    new = reading.findings[before:]
    reading.findings[before:] = [
        item for item in new if item.code not in ("apex-missing", "offset-missing")
    ]
    check_on_disk(reading, checked, clip_id, source.numbers, source.relative)
    return checked
