"""Writes frames as a video file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from mer_prep.errors import ConfigError, MerPrepError

_CODECS = {".avi": "MJPG", ".mp4": "mp4v"}


def write_video(path: Path, frames: Iterable[np.ndarray], *, fps: float) -> int:
    """Write frames as a video; Motion JPEG in ``.avi``, MPEG-4 in ``.mp4``. Both lose a little.

    Parameters
    ----------
    path : Path
        File to write.
    frames : iterable of ndarray, shape (H, W, 3) or (H, W), uint8
        RGB or grey frames of one size; sides must be even for ``.mp4``.
    fps : float
        Frames per second.

    Returns
    -------
    int
        Number of frames written.

    Raises
    ------
    ConfigError
        For another suffix, for no frames, and if the file cannot be written.
    MerPrepError
        If not all frames can be read back, as on a full disk, of which OpenCV says nothing.
    """
    if path.suffix not in _CODECS:
        raise ConfigError(
            f"Videos are written as {' or '.join(_CODECS)}, not {path.suffix!r}.", where=path
        )
    writer: cv2.VideoWriter | None = None
    count = 0
    try:
        for frame in frames:
            if writer is None:
                codec = cv2.VideoWriter.fourcc(*_CODECS[path.suffix])
                writer = cv2.VideoWriter(str(path), codec, fps, frame.shape[1::-1])
                if not writer.isOpened():
                    raise ConfigError(
                        "The video cannot be written.",
                        where=path,
                        hint="choose another place, or the other of .mp4 and .avi",
                    )
            code = cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR
            writer.write(cv2.cvtColor(frame, code))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    if not count:
        raise ConfigError("A video needs at least one frame.", where=path)
    readable = _readable_frames(path)
    if readable < count:
        raise MerPrepError(
            f"The video is not whole: {readable} of {count} frames can be read back.",
            where=path,
            why="most often the disk is full, or a limit on file sizes is in force",
            hint="free some space (`mer-prep gc` shows what nothing needs), then try again",
        )
    return count


def _readable_frames(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    try:
        count = 0
        while video.grab():
            count += 1
        return count
    finally:
        video.release()
