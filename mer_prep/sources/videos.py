"""Whether a file is a video by its own first bytes, before a library looks further."""

from __future__ import annotations

from pathlib import Path

from mer_prep.errors import DecodeError

#: Bytes at the start of a Matroska or WebM, an ASF (WMV) and an Ogg file, and of MPEG streams.
_STARTS = (
    b"\x1a\x45\xdf\xa3",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"OggS",
    *(b"\x00\x00\x01" + bytes([code]) for code in (0xB0, 0xB3, 0xB5, 0xBA)),
)

#: First boxes of MP4 and QuickTime files, from byte 4.
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")

#: Length of a packet of an MPEG transport stream, in bytes, and what each begins with.
_PACKET, _SYNC = 188, 0x47


def check_video(path: Path) -> None:
    """Refuse a file that is no AVI, MP4, QuickTime, Matroska, WebM, WMV, Ogg or MPEG video.

    A list of other files to play is text. A video library follows it, whatever its suffix, and so
    reads what lies outside of the corpus folder.

    Raises
    ------
    DecodeError
        If it is none of these, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_PACKET + 1)
    except OSError as error:
        raise DecodeError(
            f"The video cannot be read: {error.strerror}.", where=path, hint="copy it again"
        ) from None
    if not _is_video(start):
        raise DecodeError(
            f"The video cannot be opened: it begins with {start[:8]!r}, as no video does.",
            where=path,
            why="a list of other files would be followed to wherever it leads",
            hint="convert it to H.264 MP4 or to a folder of frames",
        )


def _is_video(start: bytes) -> bool:
    avi = start[:4] == b"RIFF" and start[8:11] == b"AVI"
    stream = len(start) > _PACKET and start[0] == start[_PACKET] == _SYNC
    return avi or stream or start[4:8] in _BOXES or start.startswith(_STARTS)
