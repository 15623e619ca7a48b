"""Corpora of many subjects and clips, made at little cost, for tests of load.

A few recordings are rendered, and every clip shows one of them: its frames are links to those of
the recording, but for the first, a file of its own with the clip's name in a comment. The bytes of
no two clips are the same, then, and nothing is taken for a copy of another clip.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.clips import VGA, Film, make_scene, shoot
from mer_prep.manifest import Clip, ImportRecord, make_clip_id, write_manifest
from mer_prep.sources.frames import source_digest
from mer_prep.workspace import Workspace

#: The corpora of the composite and their subjects there.
SUBJECTS = {"casme2": 24, "samm": 28, "smic": 16}

#: Emotion and objective class that the composite's labels are made of, in turn.
_LABELS = (("happiness", 1), ("surprise", 2), ("disgust", 3))

#: SMIC annotates no emotion but these.
_VALENCES = (("positive", None), ("surprise", None), ("negative", None))

#: Forms of the corpora that the composite is of, where there are several.
_VARIANTS = {"smic": "HS"}

#: Faces that are rendered.
RECORDINGS = 4


def share_subjects(count: int) -> dict[str, int]:
    """Return how many subjects each corpus of the composite gets of a number of them.

    All 68 give every corpus its own; fewer or more are dealt in the same proportion.
    """
    total = sum(SUBJECTS.values())
    shares = {corpus: max(1, count * own // total) for corpus, own in SUBJECTS.items()}
    while sum(shares.values()) < count:
        corpus = min(shares, key=lambda name: shares[name] / SUBJECTS[name])
        shares[corpus] += 1
    return shares


def write_crowd(
    folder: Path,
    workspace: Workspace,
    *,
    subjects: int,
    clips: int,
    frames: int,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Write corpora of full-size clips and their manifests; return the number of clips.

    Parameters
    ----------
    folder : Path
        Where the frames go; one file system, since they are linked.
    workspace : Workspace
        Gets the manifests of casme2, samm and smic.
    subjects, clips : int
        Subjects of all corpora together, and clips of each.
    frames : int
        Frames of a clip, 640x480 px.
    say : callable
        Called with a line on what is being done.
    """
    say(f"rendering {RECORDINGS} recordings of {frames} frames")
    films = [
        shoot(folder, f"recording{face}", make_scene(face, frames=frames, size=VGA))
        for face in range(RECORDINGS)
    ]
    say(f"{subjects * clips} clips of {subjects} subjects")
    number = 0
    for corpus, count in share_subjects(subjects).items():
        made: list[Clip] = []
        for subject in range(1, count + 1):
            for _ in range(clips):
                made.append(_full_clip(folder, corpus, f"s{subject:02d}", number, films))
                number += 1
        _write(workspace, corpus, made, folder)
    return number


def _full_clip(folder: Path, corpus: str, subject: str, number: int, films: Sequence[Film]) -> Clip:
    film = films[number % len(films)]
    name = f"c{number:04d}"
    base = folder / corpus / subject / name
    base.mkdir(parents=True)
    files = [base / path.name for path in film.paths]
    files[0].write_bytes(commented(film.paths[0].read_bytes(), f"{corpus}/{subject}/{name}"))
    for path, file in zip(film.paths[1:], files[1:], strict=True):
        os.link(path, file)
    labels = _VALENCES if corpus == "smic" else _LABELS
    emotion, objective = labels[number % len(labels)]
    clip = dataclasses.replace(
        film.clip,
        clip_id=make_clip_id(corpus, subject, name),
        corpus=corpus,
        subject=subject,
        clip=name,
        root=str(folder),
        frames=tuple(file.relative_to(folder).as_posix() for file in files),
        emotion=emotion,
        emotion_raw=emotion,
        objective_class=objective,
        variant=_VARIANTS.get(corpus),
    )
    return dataclasses.replace(clip, source_digest=source_digest(clip))


def commented(jpeg: bytes, text: str) -> bytes:
    """Return a JPEG file with a comment, which changes its bytes and none of its pixels."""
    data = text.encode()
    return jpeg[:2] + b"\xff\xfe" + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


def write_lines(
    folder: Path, workspace: Workspace, *, corpus: str, lines: int, each: int, frames: int
) -> int:
    """Write a corpus of tiny clips and its manifest; return the number of its subjects.

    Parameters
    ----------
    folder : Path
        Where the frames go: pictures of 16x16 px, shared by all clips but for the first of each.
    workspace : Workspace
        Gets the manifest.
    corpus : str
        Its name: one of the composite's, so that label maps know it.
    lines : int
        Clips.
    each : int
        Clips of a subject; the last may have fewer.
    frames : int
        Frames of a clip.
    """
    folder.mkdir(parents=True)
    shared = [f"shared{number:03d}.jpg" for number in range(1, frames)]
    picture = cv2.imencode(".jpg", np.full((16, 16, 3), 128, np.uint8))[1].tobytes()
    for name in shared:
        (folder / name).write_bytes(commented(picture, name))
    subjects: dict[str, list[Clip]] = defaultdict(list)
    for number in range(lines):
        subject = f"s{number // each + 1:04d}"
        if subject not in subjects:
            (folder / subject).mkdir()
        name = f"c{number % each:04d}"
        own = f"{subject}/{name}.jpg"
        data = commented(picture, own)
        (folder / own).write_bytes(data)
        emotion, objective = _LABELS[number % len(_LABELS)]
        # Any digest will do that no other clip has: every command that needs one hashes anew.
        clip = Clip(
            source_digest=hashlib.sha256(data).hexdigest(),
            clip_id=make_clip_id(corpus, subject, name),
            corpus=corpus,
            subject=subject,
            clip=name,
            root=str(folder),
            frame_numbers=tuple(range(1000, 1000 + frames)),
            frames=(own, *shared),
            fps=200.0,
            onset=1000,
            apex=1000 + frames // 2,
            offset=999 + frames,
            apex_source="annotated",
            emotion=emotion,
            emotion_raw=emotion,
            objective_class=objective,
            synthetic=True,
        )
        subjects[subject].append(clip)
    _write(workspace, corpus, [clip for one in subjects.values() for clip in one], folder)
    return len(subjects)


def _write(workspace: Workspace, corpus: str, clips: Sequence[Clip], folder: Path) -> None:
    record = ImportRecord(
        corpus=corpus,
        source=corpus,
        root=str(folder),
        variant=_VARIANTS.get(corpus),
        synthetic=True,
    )
    write_manifest(workspace.manifests, clips, record)
