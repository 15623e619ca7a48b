"""Reads Aff-Wild2 for pre-training: frames labelled one by one, cut into clips of one expression.

An annotation is a text file per person and video: the names of the classes on the first line, then
a line per frame with the number of its class, or -1 where there is none. Frames are folders of
face crops (``cropped_aligned/video1/00001.jpg``) or the videos themselves. A clip is a stretch of
frames of one label without a gap, split where it is long. It has no onset, apex or offset.

References
----------
Kollias, Zafeiriou (2019). Expression, affect, action unit recognition: Aff-Wild2, multi-task
learning and ArcFace. BMVC 2019. doi:10.48550/arXiv.1910.04855
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import AnnotationError, ConfigError, MerPrepError
from mer_prep.manifest import Clip, make_clip_id
from mer_prep.sources.clips import stated_length
from mer_prep.sources.expressions import Reading, index_frames, normalise_emotion, note_copies
from mer_prep.sources.folders import Folder, walk
from mer_prep.sources.frames import path_below
from mer_prep.sources.opening import OpenedCorpus, open_corpus
from mer_prep.sources.trees import Request, Tree, WholeNumber
from mer_prep.sources.workbooks import text_of

#: Crops tell two people in one video apart; videos do not.
PREFERENCE = ("cropped_aligned", "cropped", "video")

#: Lengths of clips in frames; at 30 frames per second about half a second to two seconds.
OPTIONS: Mapping[str, WholeNumber] = {
    "min-frames": WholeNumber(16, low=2),
    "max-frames": WholeNumber(64, low=3),
}

#: Class of a frame without annotation.
UNANNOTATED = -1

#: Class names that make a first line one of expressions, not of valence or action units.
_ENOUGH_NAMES = 3

#: Ends of the names of two people's annotations of one video.
_PERSON = re.compile(r"(?i)_(left|right)$")


@dataclass(frozen=True, slots=True)
class Labels:
    """One annotation file.

    Parameters
    ----------
    emotions : tuple of str
        Normalised emotions by class number.
    raw : tuple of str
        The same as the file spells them.
    classes : tuple of int
        Class of every frame, the first frame first; -1 where there is none.
    """

    emotions: tuple[str, ...]
    raw: tuple[str, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Track:
    """One person in one video: what is on disk of it.

    Parameters
    ----------
    name : str
        Name of its folder or video.
    numbers : tuple of int
        Ascending frame numbers.
    first : int
        Number of the frame that the first label is for.
    frames : tuple of str
        Relative paths of the frames; empty for a video.
    video : str, optional
        Relative path of the video.
    fps : float, optional
        Frames per second.
    """

    name: str
    numbers: tuple[int, ...]
    first: int
    frames: tuple[str, ...] = ()
    video: str | None = None
    fps: float | None = None


def read(request: Request) -> Reading:
    """Read an Aff-Wild2 folder.

    Raises
    ------
    ConfigError
        If the longest clip allowed is less than twice the shortest.
    ManifestError
        If there are no frames and no videos, or the variant asked for is missing.
    AnnotationError
        If no annotation of expressions is found.
    """
    shortest, longest = (int(request.options[name]) for name in OPTIONS)
    if longest < 2 * shortest - 1:
        raise ConfigError(
            f"max-frames must be at least {2 * shortest - 1}, not {longest}, with min-frames "
            f"{shortest}.",
            why="a stretch that is split into equal parts must not fall below the shortest clip",
        )
    corpus = open_corpus(request, "affwild2")
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders), PREFERENCE)
    annotations = _annotations(corpus)
    short = 0
    for name, labels in annotations.items():
        track = _track(reading, tree, name, labels)
        if track is not None:
            short += _add_clips(reading, track, labels, shortest, longest)
    if short:
        message = f"{short} frames lie in stretches of fewer than {shortest} frames of one label."
        reading.note("info", "stretches-short", message)
    _note_rest(reading, tree, annotations)
    return reading


def read_labels(path: Path, emotions: Sequence[str]) -> Labels | None:
    """Read an annotation file.

    Parameters
    ----------
    path : Path
        Text file.
    emotions : sequence of str
        Normalised emotions that may stand on its first line.

    Returns
    -------
    Labels or None
        None if the first line names no expressions: then it annotates something else.

    Raises
    ------
    AnnotationError
        If it cannot be read, the first line names an unknown emotion, or another line is no class
        number.
    """
    lines = text_of(path).splitlines()
    raw = tuple(name.strip() for name in lines[0].split(",")) if lines else ()
    names = tuple(normalise_emotion(name) for name in raw)
    if sum(name in emotions for name in names) < _ENOUGH_NAMES:
        return None
    unknown = [name for name in raw if normalise_emotion(name) not in emotions]
    if unknown:
        raise AnnotationError(
            f"The first line names {unknown[0]!r}, which is none of {', '.join(emotions)}.",
            where=f"{path.name}, line 1",
        )
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    classes = []
    for number, line in enumerate(lines[1:], start=2):
        text = line.strip()
        if not re.fullmatch(r"-1|\d{1,2}", text) or int(text) >= len(names):
            raise AnnotationError(
                f"{text!r} is no class from -1 to {len(names) - 1}.",
                where=f"{path.name}, line {number}",
                why="every line is the class of one frame; all after it would be shifted",
            )
        classes.append(int(text))
    return Labels(names, raw, tuple(classes))


def runs_of_one_class(
    classes: Sequence[int], numbers: Sequence[int], *, first: int = 1
) -> list[tuple[int, int, int]]:
    """Return the longest stretches of frames that have one class and follow each other.

    Parameters
    ----------
    classes : sequence of int
        Class of the frames `first`, `first` + 1, ...; negative where there is none.
    numbers : sequence of int
        Ascending numbers of the frames on disk. A stretch ends where one is missing.
    first : int
        Number of the frame that the first class is for.

    Returns
    -------
    list of (int, int, int)
        Class, first position and last position + 1 among `numbers`.
    """
    runs: list[tuple[int, int, int]] = []
    for position, number in enumerate(numbers):
        inside = 0 <= number - first < len(classes)
        label = classes[number - first] if inside else UNANNOTATED
        if label < 0:
            continue
        follows = bool(runs) and runs[-1][2] == position and numbers[position - 1] == number - 1
        if follows and runs[-1][0] == label:
            runs[-1] = (label, runs[-1][1], position + 1)
        else:
            runs.append((label, position, position + 1))
    return runs


def split_evenly(start: int, stop: int, longest: int) -> list[tuple[int, int]]:
    """Split start to stop into as few parts of at most `longest` as can be.

    The parts differ by one at most, so that none is shorter than half of `longest`, rounded up,
    unless the whole is.
    """
    length = stop - start
    count = -(-length // longest)
    edges = [start + length * part // count for part in range(count + 1)]
    return list(itertools.pairwise(edges))


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    """Return one tree per form; batches that lie in folders of their own belong together."""
    trees: dict[str, Tree] = {}
    for folder in folders:
        if folder.images and folder.parts:
            aligned = any("aligned" in name.casefold() for name in folder.parts)
            variant = "cropped_aligned" if aligned else "cropped"
            tree = trees.setdefault(variant, Tree("", variant))
            tree.add(_key(folder.name), folder, reading.findings)
        for name in folder.videos:
            # A video stands for the folder of its frames.
            video = Folder((*folder.parts, name), (name,), (), (name,))
            tree = trees.setdefault("video", Tree("", "video"))
            tree.add(_key(Path(name).stem), video, reading.findings)
    return list(trees.values())


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _annotations(corpus: OpenedCorpus) -> dict[str, Labels]:
    """Return the annotations by the name of their file, and note those that cannot be read.

    Raises
    ------
    AnnotationError
        If there is none.
    """
    reading, request = corpus.reading, corpus.request
    found: dict[str, Labels] = {}
    paths: dict[str, Path] = {}
    spelled: dict[str, str] = {}
    for path in _text_files(corpus):
        try:
            labels = read_labels(path, corpus.facts.emotions)
        except AnnotationError as error:
            message = f"{error.what} The file is left out."
            reading.note("error", "annotation-unreadable", message, where=error.where)
            continue
        if labels is None:
            continue
        # Names that differ in case alone are of one track.
        first = spelled.setdefault(_key(path.stem), path.stem)
        if first in found:
            if found[first] != labels:
                message = f"Two files annotate '{path.stem}' differently; {paths[first]} is read."
                reading.note("warning", "annotation-repeated", message, where=str(path))
            continue
        found[first], paths[first] = labels, path
    if not found:
        raise AnnotationError(
            "No annotation of expressions was found.",
            where=request.annotations or request.root,
            why="they are text files whose first line names the classes, such as "
            "'Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise'",
            hint="put the folder of annotations into the corpus folder, or give it with "
            "--annotations",
        )
    reading.annotation_files = tuple(paths.values())
    folder = os.path.commonpath([path.parent for path in paths.values()])
    reading.annotations = request.annotations or Path(folder)
    return dict(sorted(found.items()))


def _text_files(corpus: OpenedCorpus) -> list[Path]:
    root, folders = corpus.request.root, corpus.folders
    given = corpus.request.annotations
    if given is not None:
        if given.is_file():
            return [given]
        root, folders = given, walk(given, corpus.reading.findings)
    return [folder.path(root) / name for folder in folders for name in folder.texts]


def _track(reading: Reading, tree: Tree, name: str, labels: Labels) -> Track | None:
    """Return what is on disk for an annotation, or None and say why not."""
    folder = tree.folders.get(_key(name))
    if folder is None:
        person = _PERSON.search(name)
        if person and _key(name[: person.start()]) in tree.folders:
            message = "Two people are in the video, and nothing tells which of them this "
            message += "annotation is for; left out. Their cropped frames can be read."
            reading.note("warning", "person-ambiguous", message, where=name)
        else:
            message = "The annotation has no frames and no video of its name; left out."
            reading.note("warning", "source-missing", message, where=name)
        return None
    try:
        if tree.variant == "video":
            return _video_track(reading, folder, labels)
        return _folder_track(reading, folder, labels)
    except MerPrepError as error:
        message = f"{error.what} Left out."
        reading.note("error", "source-unusable", message, where=folder.relative)
        return None


def _folder_track(reading: Reading, folder: Folder, labels: Labels) -> Track | None:
    frames = index_frames(reading.root, folder)
    note_copies(reading, folder)
    if isinstance(frames, str):
        reading.note("error", "frames-unusable", frames, where=folder.relative)
        return None
    numbers = tuple(number for number, _ in frames)
    beyond = sum(number > len(labels.classes) for number in numbers)
    if beyond:
        message = f"{beyond} frames lie beyond the last of {len(labels.classes)} labels; left out."
        reading.note("warning", "frames-beyond-labels", message, where=folder.relative)
    paths = tuple(path for _, path in frames)
    return Track(folder.name, numbers, first=1, frames=paths, fps=reading.fps)


def _video_track(reading: Reading, folder: Folder, labels: Labels) -> Track:
    relative = folder.relative
    count, fps = stated_length(path_below(reading.root, relative, where=relative))
    total = len(labels.classes)
    if count and abs(count - total) > 1:
        message = f"The video states {count} frames, the annotation has {total} labels; what both "
        message += "have is read."
        reading.note("warning", "labels-and-frames", message, where=relative)
    # Decoding hours of video to count their frames is left to the stages.
    numbers = tuple(range(min(count or total, total)))
    name = Path(folder.name).stem
    return Track(name, numbers, first=0, video=relative, fps=fps or reading.fps)


def _add_clips(reading: Reading, track: Track, labels: Labels, shortest: int, longest: int) -> int:
    """Add the clips of a track; return how many labelled frames are in none of them."""
    short = 0
    subject = unicodedata.normalize("NFC", track.name)
    for label, start, stop in runs_of_one_class(labels.classes, track.numbers, first=track.first):
        if stop - start < shortest:
            short += stop - start
            continue
        for part in split_evenly(start, stop, longest):
            numbers = track.numbers[slice(*part)]
            clip = f"{numbers[0]:05d}-{numbers[-1]:05d}"
            reading.clips.append(
                Clip(
                    clip_id=make_clip_id(reading.corpus, subject, clip),
                    corpus=reading.corpus,
                    subject=subject,
                    clip=clip,
                    root=str(reading.root),
                    frame_numbers=numbers,
                    frames=track.frames[slice(*part)],
                    video=track.video,
                    fps=track.fps,
                    emotion=labels.emotions[label],
                    emotion_raw=labels.raw[label],
                    variant=reading.variant,
                    expression_type="macro",
                )
            )
    return short


def _note_rest(reading: Reading, tree: Tree, annotations: Mapping[str, Labels]) -> None:
    """Note what has no annotation, and what a subject is."""
    names = {_key(name) for name in annotations}
    names |= {_key(_PERSON.sub("", name)) for name in annotations}
    without = sorted(folder.relative for key, folder in tree.folders.items() if key not in names)
    if without:
        message = f"{len(without)} tracks have no annotation, as those of the test set; left out."
        reading.note("info", "track-without-labels", message, where=without[0])
    classes = [one for labels in annotations.values() for one in labels.classes]
    count = sum(one < 0 for one in classes)
    message = f"{count} of {len(classes)} labels are -1: not annotated."
    reading.note("info", "frames-unannotated", message)
    message = "The annotation does not say who is seen: every track counts as a subject. One "
    message += "person in two videos may be on both sides of a split; train on these clips, but do "
    message += "not score on them."
    reading.note("info", "subject-is-track", message)
