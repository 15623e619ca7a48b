"""Frames of clips: gone, damaged, of different sizes, too many and too few."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from mer_prep.errors import DecodeError, ManifestError, MerPrepError
from mer_prep.manifest import Clip, Finding
from mer_prep.sources.validation import validate_clips
from tests.faults import odd_pictures as odd
from tests.faults.catalogue import Said, Tries, fault, instead, nothing, program, refused
from tests.faults.scenes import (
    MIDDLE,
    clip_of,
    frames_of,
    picture,
    squares_for_faces,
    write_frames,
)

_FRAMES = "mer_prep.sources.frames."


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _linked(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


#: What may become of a frame on disk, and what is said of it.
_DAMAGE: Mapping[str, tuple[Callable[[Path], object], type[MerPrepError], str]] = {
    "cut": (_cut, DecodeError, "truncated or damaged"),
    "empty": (lambda path: path.write_bytes(b""), DecodeError, "empty file"),
    "text": (lambda path: path.write_text("frame 3 is lost"), DecodeError, "not a JPEG, PNG or"),
    "gone": (Path.unlink, DecodeError, "missing or cannot be read"),
    "folder": (_folder, DecodeError, "not a regular file"),
    "loop": (lambda path: _linked(path, path.name), DecodeError, "missing or cannot be read"),
    "dangling": (lambda path: _linked(path, "no.png"), DecodeError, "missing or cannot be read"),
    "outside": (lambda path: _linked(path, "/proc/self/status"), ManifestError, "leads out"),
}


@fault(
    6,
    "a frame of a clip is cut off, empty, text, gone, a folder or a link that leads nowhere",
    without={
        "the check before decoding": instead(_FRAMES + "check_complete", nothing),
        "the look at the file before it is opened": instead(
            _FRAMES + "source_path", lambda clip, relative, where: Path(clip.root, relative)
        ),
    },
)
def bad_frames(tries: Tries) -> None:
    images = [picture(MIDDLE, seed=seed) for seed in range(5)]
    ways = [
        (suffix, name, index)
        for suffix in (".png", ".jpg", ".bmp")
        for name in _DAMAGE
        for index in range(5)
    ]
    for suffix, name, index in tries.of(ways, quick=40):
        damage, kind, words = _DAMAGE[name]
        clip = clip_of(tries.fresh(), images, suffix=suffix)
        path = Path(clip.root, clip.frames[index])
        damage(path)
        frames = frames_of(clip)
        with refused(kind, words, clip.clip_id, f"frame {index + 1}", path.name):
            list(frames)
        assert frames.decoded == index
        for other in set(range(5)) - {index}:
            assert frames[other].shape == (120, 160, 3)


@fault(
    5,
    "bad frames in some clips of a corpus: those are put aside and named, the others are made",
    without={
        "the check before decoding": instead(_FRAMES + "check_complete", nothing),
        "errors of the data told from others": instead("mer_prep.stages.worker.DATA_ERRORS", ()),
        "the list of failures": instead("mer_prep.stages.failures._fresh", lambda *_: []),
    },
)
def bad_clips(tries: Tries) -> None:
    folder, workspace = _corpus(tries, ("good", *_DAMAGE))
    options = ("--workspace", workspace, "--jobs", 1)
    with squares_for_faces():
        program("landmarks", *options, code=0)
        before = _shards(workspace)
        for name in tries.of(_DAMAGE, quick=len(_DAMAGE)):
            _DAMAGE[name][0](folder / "ann" / name / "img3.png")
        said = program("landmarks", *options, code=3)
        _named(said, workspace)
        assert before.items() <= _shards(workspace).items(), "a published shard was changed"
    found = program("validate", "--frames", "whole", *options[:2], code=1)
    for name in _DAMAGE:
        assert f"ann/{name}" in found.out, found.out
    assert "ann/good" not in found.out


def _corpus(tries: Tries, names: tuple[str, ...]) -> tuple[Path, Path]:
    """Return a folder of clips of five frames, and a workspace with them imported."""
    folder, workspace = tries.fresh(), tries.fresh()
    for number, name in enumerate(names):
        write_frames(folder / "ann" / name, [picture(MIDDLE, seed=number)] * 5)
    program("import", "clips", folder, "--workspace", workspace, code=0)
    return folder, workspace


def _named(said: Said, workspace: Path) -> None:
    entries = {}
    for line in (workspace / "failures.jsonl").read_text().splitlines():
        entry = json.loads(line)
        entries[entry["clip_id"].rpartition("/")[2]] = entry
    assert set(entries) == set(_DAMAGE), said
    for name, (_, kind, words) in _DAMAGE.items():
        assert entries[name]["error"] == kind.__name__, entries[name]
        assert words in entries[name]["message"]
        assert "what to do" in entries[name]["message"]
    assert f"1 cached, {len(_DAMAGE)} failed" in said.out, said


def _shards(workspace: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((workspace / "cache").rglob("*.h5"))
    }


@fault(
    8,
    "frames of different sizes within a clip: found by their headers alone, and never measured",
    without={
        "the comparison of sizes": instead(
            "mer_prep.sources.validation._frame_size", lambda path, whole: (1, 1)
        ),
        "the comparison when they are decoded": instead(_FRAMES + "ClipFrames._keep", None),
    },
)
def odd_sizes(tries: Tries) -> None:
    ways = [
        (suffix, index, (160 + more, 120 + less))
        for suffix in (".png", ".jpg", ".bmp")
        for index in range(1, 6)
        for more, less in ((1, 0), (0, -1), (-40, 40))
    ]
    for suffix, index, size in tries.of(ways, quick=15):
        images = [picture(MIDDLE)] * 6
        images[index:] = [picture(MIDDLE, size=size)] * (6 - index)
        clip = clip_of(tries.fresh(), images, suffix=suffix)
        with refused(DecodeError, f"Frame {index + 1} is {size[0]}x{size[1]} px", "160x120 px"):
            list(frames_of(clip))
        for relative in clip.frames:  # nothing but headers is left
            path = Path(clip.root, relative)
            path.write_bytes(path.read_bytes()[:700])
        (finding,) = _errors(clip)
        assert finding.code == "frame-size"
        assert f"({6 - index} of 6)" in finding.message
        assert f"{clip.frames[index]} is {size[0]}x{size[1]} px, not 160x120" in finding.message


def _errors(clip: Clip, frames: str = "headers") -> list[Finding]:
    return [one for one in validate_clips([clip], frames=frames) if one.level == "error"]


@fault(
    15,
    "frames that are too large, too deep or of a rare coding: told by validate from their headers",
    without={
        "the look at what headers claim": instead(
            "mer_prep.sources.validation.check_header", nothing
        ),
    },
)
def headers_that_will_be_refused(tries: Tries) -> None:
    deep = np.zeros((4, 4, 1), int)
    flat = np.zeros((1, 1, 1), int)
    large = struct.pack(">II", 50_000, 50_000)
    wide = odd.png(deep, colour=0, depth=8)
    wide = wide[:16] + large + wide[24:]
    ways = {
        "claims 50000x50000 px": wide,
        "16 bits a channel": odd.png(deep, colour=0, depth=16),
        "12 bits a channel": odd.jpeg(flat, bits=12),
        "a lossless JPEG": odd.jpeg(flat, frame=0xC3),
    }
    for words, data in tries.of(ways.items()):
        clip = clip_of(tries.fresh(), [picture(MIDDLE)] * 3)
        for relative in clip.frames:
            Path(clip.root, relative).write_bytes(data)
        (finding,) = _errors(clip)
        assert finding.code == "frame-unreadable"
        assert words in finding.message
        assert "(3 of 3)" in finding.message


@fault(
    15,
    "a video that claims frames larger than memory holds",
    without={
        "the look at its size": instead(
            _FRAMES + "iterate_video.__kwdefaults__", {"max_pixels": 2**40}
        ),
    },
)
def large_videos(tries: Tries) -> None:
    from mer_prep.sources.frames import iterate_video

    film = tries.fresh() / "film.mp4"
    film.write_bytes(b"\0\0\0\x18ftypisom")
    for width, height in tries.of([(8001, 8000), (50_000, 50_000), (2**20, 2**20)]):
        capture = mock.Mock()
        capture.get.side_effect = {
            cv2.CAP_PROP_FRAME_WIDTH: float(width),
            cv2.CAP_PROP_FRAME_HEIGHT: float(height),
        }.__getitem__
        capture.read.return_value = (False, None)
        with (
            mock.patch(_FRAMES + "cv2.VideoCapture", lambda path, capture=capture: capture),
            refused(DecodeError, f"claims frames of {width}x{height} px", "film.mp4"),
        ):
            list(iterate_video(film))
        capture.read.assert_not_called()
        capture.release.assert_called_once()
