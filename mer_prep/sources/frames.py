"""Frames of a clip: found in a folder, checked, decoded, and identified by their bytes."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mer_prep.errors import DecodeError, ManifestError, SourceError
from mer_prep.manifest import Clip
from mer_prep.manifest_checks import check_relative
from mer_prep.sources.images import MAX_PIXELS, check_complete
from mer_prep.sources.videos import check_video

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".bmp", ".png")
VIDEO_SUFFIXES = (".avi", ".mp4", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv")

#: Decoded frames of one clip kept in memory between stages: all of them if the clip is no longer
#: than `KEPT_FRAMES` (an expression; 1.3 s at 200 frames per second) and they fit into
#: `FRAME_MEMORY` bytes, else none. Longer clips are decoded anew by each stage that reads frames.
FRAME_MEMORY = 512 * 2**20
KEPT_FRAMES = 256

_DIGITS = re.compile(r"\d+")

_NAMED_COPY = re.compile(r"(?i)( - copy( ?\(\d+\))?| copy( \d+)?)+$")
_COPY = re.compile(r"(?i)( - copy( ?\(\d+\))?| copy( \d+)?| ?\(\d+\)|~)$")


def frame_number(name: str) -> int | None:
    """Return the last run of digits in a file's stem, or None: ``EP01_12-081.jpg`` gives 81.

    The number of a copy is that of its original: ``img3 - Copy (7).png`` gives 3.
    """
    stem = Path(name).stem
    runs = _DIGITS.findall(_NAMED_COPY.sub("", stem)) or _DIGITS.findall(stem)
    return int(runs[-1]) if runs else None


def is_image(name: str) -> bool:
    """Return whether a file name is that of a frame: a known suffix, not hidden, not ``._x``."""
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)


def copies_of_frames(names: Iterable[str]) -> dict[str, str]:
    """Return the original by the name of every copy among the files of a folder.

    ``img3 - Copy.png``, ``img3 - Copy (7).png``, ``img3 (2).png``, ``img3 copy 2.png`` and
    ``img3~.png`` are copies if ``img3.png`` is there, too: what file managers call a second file.
    Without it the brackets may hold the frame's own number, as in ``frame (1).png``.
    """
    present = {name for name in names if is_image(name)}
    copies = {}
    for name in sorted(present):
        stem, suffix = os.path.splitext(name)
        while (shorter := _COPY.sub("", stem)) != stem:
            stem = shorter
            if stem + suffix in present and frame_number(stem + suffix) is not None:
                copies[name] = stem + suffix
    return copies


def list_frames(folder: Path) -> list[tuple[int, str]]:
    """Return (frame number, file name) of the frames in a folder, by number.

    Shortcuts, thumbnails, hidden files and copies (`copies_of_frames`) are passed over.

    Raises
    ------
    ManifestError
        If two files have one number, or a frame has no number in its name.
    """
    found: dict[int, str] = {}
    names = sorted(os.listdir(folder))
    copies = copies_of_frames(names)
    for name in names:
        if not is_image(name) or name in copies:
            continue
        number = frame_number(name)
        if number is None:
            raise ManifestError(
                f"The frame file {name!r} has no number in its name.",
                where=folder,
                hint="frames are ordered by the number in their names",
            )
        if number in found:
            raise ManifestError(
                f"Two files are frame {number}: {found[number]!r} and {name!r}.",
                where=folder,
                hint="keep one of them",
            )
        found[number] = name
    return sorted(found.items())


def source_path(clip: Clip, relative: str, *, where: str | None = None) -> Path:
    """Return the path of a source file, refusing whatever does not lie below the clip's root.

    Parameters
    ----------
    clip : Clip
        The clip.
    relative : str
        Path of one of its files below its root.
    where : str, optional
        What is named in errors; the clip by default.

    Raises
    ------
    ManifestError
        For paths or links that lead out of the root.
    DecodeError
        For missing files and for anything but a regular file.
    """
    return path_below(clip.root, relative, where=where or clip.clip_id)


def path_below(root: str | os.PathLike[str], relative: str, *, where: str) -> Path:
    """Return the path of a regular file below a root, refusing anything else before it is opened.

    Parameters and errors are those of `source_path`; `where` is named in messages.
    """
    check_relative(relative, where=where)
    root = os.path.realpath(root)
    path = os.path.realpath(os.path.join(root, relative))
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        raise ManifestError(
            f"A link leads out of the corpus folder: {relative!r}.",
            where=where,
            why="only files below the corpus folder are ever read",
            hint="import the folder that really holds the files",
        )
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise DecodeError(
            f"A frame or video is missing or cannot be read: {error.strerror}.",
            where=f"{where}, {path}",
            hint="restore the file, or import the corpus again if it has moved",
        ) from None
    if not stat.S_ISREG(mode):
        raise DecodeError(
            "The source is not a regular file.",
            where=f"{where}, {path}",
            hint="restore the file from the corpus",
        )
    return Path(path)


def read_bytes(clip: Clip, relative: str, *, where: str | None = None) -> bytes:
    """Return the bytes of one source file of a clip; parameters are those of `source_path`."""
    path = source_path(clip, relative, where=where)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(clip, path, error) from None


def _unreadable(clip: Clip, path: Path, error: OSError) -> SourceError:
    return SourceError(
        f"The file cannot be read: {error.strerror}.",
        where=f"{clip.clip_id}, {path}",
        hint="check the disk or the network folder, then run again",
    )


def decode_image(data: bytes, *, where: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode a whole picture.

    Grey pictures give three equal channels; transparency is dropped; a rotation noted in the
    file (EXIF) is applied; CMYK is converted, and taken as Adobe writes it: 255 is no ink.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
        Channels red, green, blue.

    Raises
    ------
    DecodeError
        If the file is truncated, damaged, of more than 8 bits a channel or too large.
    """
    check_complete(data, where=where, max_pixels=max_pixels)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise DecodeError("The frame cannot be decoded.", where=where, hint="copy it again")
    return np.asarray(image)


def iterate_video(path: Path, *, max_pixels: int = MAX_PIXELS) -> Iterator[np.ndarray]:
    """Yield the frames of a video file in order, (H, W, 3) uint8 RGB.

    Frames are counted by decoding; the container's own count is not believed.

    Raises
    ------
    DecodeError
        If the file cannot be opened as a video, or its frames are too large.
    """
    check_video(path)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise DecodeError(
                "The video cannot be opened.",
                where=path,
                hint="convert it to H.264 MP4 or to a folder of frames",
            )
        width, height = (
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > max_pixels:
            raise DecodeError(
                f"The video claims frames of {width}x{height} px, more than {max_pixels:,} px.",
                where=path,
                why="decoding them would take too much memory",
                hint="if they are real, scale the recording down first",
            )
        while True:
            found, image = capture.read()
            if not found:
                return
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


class ClipFrames(Sequence[np.ndarray]):
    """The frames of a clip between two positions, decoded once if the clip is short.

    Iterating gives (H, W, 3) uint8 RGB arrays in order. Frames of one clip must share one size.

    Parameters
    ----------
    clip : Clip
        The clip.
    start, stop : int
        First position and one past the last, among ``clip.frame_numbers``.
    memory : int
        Bytes that decoded frames kept for a second pass may take. They are kept if all of them
        fit and are no more than `KEPT_FRAMES`.
    max_pixels : int
        Largest accepted frame.

    Attributes
    ----------
    decoded : int
        Number of frames decoded so far; tests see by it that a pass decodes each frame once.
    """

    def __init__(
        self,
        clip: Clip,
        start: int,
        stop: int,
        *,
        memory: int = FRAME_MEMORY,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.clip = clip
        self.start = start
        self.numbers = clip.frame_numbers[start:stop]
        self.decoded = 0
        self._max_pixels = max_pixels
        self._memory = memory
        self._kept: dict[int, np.ndarray] = {}
        self._size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in px; the first is decoded if none was before."""
        if self._size is None:
            self[0]
        assert self._size is not None
        return self._size[1], self._size[0]

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        if index in self._kept:
            return self._kept[index]
        if self.clip.video:
            for position, image in enumerate(self):
                if position == index:
                    return image
        return self._keep(index, self._decode_file(index))

    def __iter__(self) -> Iterator[np.ndarray]:
        if self.clip.video and len(self._kept) < len(self):
            yield from self._iterate_video()
        else:
            for index in range(len(self)):
                yield self[index]

    def _iterate_video(self) -> Iterator[np.ndarray]:
        path = source_path(self.clip, str(self.clip.video))
        wanted = {number: index for index, number in enumerate(self.numbers)}
        done = 0
        for number, image in enumerate(iterate_video(path, max_pixels=self._max_pixels)):
            index = wanted.get(number)
            if index is None:
                continue
            yield self._kept[index] if index in self._kept else self._keep(index, image)
            done += 1
            if done == len(wanted):
                return
        raise DecodeError(
            f"The video ends after {done} of the {len(wanted)} frames expected.",
            where=f"{self.clip.clip_id}, {path}",
            hint="copy it again; if it has changed, import it again",
        )

    def _decode_file(self, index: int) -> np.ndarray:
        relative = self.clip.frames[self.start + index]
        where = f"{self.clip.clip_id}, frame {self.numbers[index]}, {relative}"
        data = read_bytes(self.clip, relative, where=where)
        return decode_image(data, where=where, max_pixels=self._max_pixels)

    def _keep(self, index: int, image: np.ndarray) -> np.ndarray:
        self.decoded += 1
        size = image.shape[:2]
        if self._size is None:
            self._size = size
        elif size != self._size:
            raise DecodeError(
                f"Frame {self.numbers[index]} is {size[1]}x{size[0]} px, the frames before it "
                f"are {self._size[1]}x{self._size[0]} px.",
                where=self.clip.clip_id,
                why="landmarks and motion are measured in the pixels of one camera",
                hint="look at the clip's frames: `mer-prep validate` lists those of another size",
            )
        if len(self) <= KEPT_FRAMES and len(self) * image.nbytes <= self._memory:
            image.flags.writeable = False
            self._kept[index] = image
        return image


def source_files(clip: Clip) -> Sequence[str]:
    """Return the relative paths of the files a clip is made of."""
    return (clip.video,) if clip.video else clip.frames


def source_digest(clip: Clip) -> str:
    """Return the SHA-256 of a clip's source: its frame numbers and the bytes of its files.

    File names and times do not enter, so a corpus may move or be copied without a change.
    """
    digest = hashlib.sha256()
    digest.update(repr(clip.frame_numbers).encode())
    for relative in source_files(clip):
        digest.update(_file_digest(clip, relative))
    return digest.hexdigest()


def _file_digest(clip: Clip, relative: str) -> bytes:
    """Return the SHA-256 of a source file, read in stretches: a video may exceed the memory."""
    path = source_path(clip, relative)
    try:
        if clip.video:
            facts = os.stat(path)
            return _video_digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
        return _bytes_digest(path)
    except OSError as error:
        raise _unreadable(clip, path, error) from None


def _bytes_digest(path: Path) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


@functools.lru_cache(maxsize=16)
def _video_digest(path: Path, size: int, modified: int, changed: int) -> bytes:
    """Return the digest of a video, of which many clips may be parts."""
    return _bytes_digest(path)


def stat_signature(clip: Clip) -> str | None:
    """Return a digest of size, modification and change time and inode of a clip's files.

    It only decides whether bytes must be hashed again; it never enters a key. None if a file
    is missing.
    """
    digest = hashlib.sha256()
    for relative in source_files(clip):
        try:
            facts = os.stat(os.path.join(clip.root, relative))
        except (OSError, ValueError):
            return None
        digest.update(
            f"{facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns} {facts.st_ino}\n".encode()
        )
    return digest.hexdigest()
