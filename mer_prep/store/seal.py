"""Checksums over every byte of a finished file, seen to before the HDF5 library reads it.

HDF5's own Fletcher-32 covers the chunks of datasets and nothing else: a changed byte in a shape, an
attribute or the index of the chunks gives other values, or brings the library down. A finished
file therefore ends in its seal, which HDF5 readers pass over since it lies behind what they know
of::

    CRC-32 of every block of `BLOCK_BYTES`, little-endian, 4 bytes each
    the magic, 8 bytes | bytes sealed, 8 | bytes of a block, 4 | CRC-32 of the seal so far, 4

A reader checks each block when it first needs one of its bytes. CRC-32 finds every burst of up to
32 bits, and all else but 1 in 2**32; it is no protection from forgery.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mer_prep.errors import ShardError

#: Bytes that have a checksum of their own.
BLOCK_BYTES = 2**14

#: Schemas of shards that are always sealed.
SEALED_SCHEMAS = (2,)

_MAGIC = b"\x89MPseal\n"
_FOOTER = struct.Struct("<8sQII")
_HELD_BLOCKS = 16


def checksum(data: bytes) -> int:
    """Return the CRC-32 of bytes."""
    return zlib.crc32(data)


def seal(file: io.FileIO) -> None:
    """Append the checksums of all bytes to a file that is open to be read and written.

    Parameters
    ----------
    file : FileIO
        The finished file; HDF5 must be done with it.
    """
    file.seek(0)
    sums = []
    while block := _read_fully(file, BLOCK_BYTES):
        sums.append(checksum(block))
    size = file.seek(0, os.SEEK_END)
    table = struct.pack(f"<{len(sums)}I", *sums)
    sealed = checksum(table + _footer(size, BLOCK_BYTES, 0)[:-4])
    rest = memoryview(table + _footer(size, BLOCK_BYTES, sealed))
    while rest:
        rest = rest[file.write(rest) :]


def _footer(size: int, block: int, stated: int) -> bytes:
    return _FOOTER.pack(_MAGIC, size, block, stated)


def _read_fully(file: io.FileIO, size: int) -> bytes:
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class SealedFile(io.RawIOBase):
    """A sealed file for the HDF5 library; gives only bytes that are as they were sealed.

    Parameters
    ----------
    raw : FileIO
        The file, open to be read; it is closed with this one.
    size : int
        Bytes sealed.
    block : int
        Bytes of a block.
    sums : tuple of int
        CRC-32 of every block.
    """

    def __init__(self, raw: io.FileIO, size: int, block: int, sums: tuple[int, ...]) -> None:
        self._raw = raw
        self._size = size
        self._block = block
        self._sums = sums
        self._place = 0
        self._held: dict[int, bytes] = {}

    def readinto(self, buffer: Any, /) -> int:
        """Read bytes; an `OSError` says where they are not as they were sealed."""
        view = memoryview(buffer).cast("B")
        stop = min(self._place + len(view), self._size)
        start = self._place
        while self._place < stop:
            number, offset = divmod(self._place, self._block)
            part = self._checked(number)[offset : offset + stop - self._place]
            view[self._place - start : self._place - start + len(part)] = part
            self._place += len(part)
        return self._place - start

    def _checked(self, number: int) -> bytes:
        if number in self._held:
            return self._held[number]
        place = number * self._block
        self._raw.seek(place)
        block = _read_fully(self._raw, min(self._block, self._size - place))
        if checksum(block) != self._sums[number]:
            raise OSError(f"its bytes {place} to {place + len(block) - 1} have changed")
        if len(self._held) == _HELD_BLOCKS:
            del self._held[next(iter(self._held))]
        self._held[number] = block
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place among the bytes sealed."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        super().close()


def open_sealed(path: Path) -> SealedFile | None:
    """Open a sealed file, or return None if it has no seal.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    OSError
        If it cannot be read.
    ShardError
        If its seal is damaged, or not of this file.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(io.FileIO(path, "r"))
        end = raw.seek(0, os.SEEK_END)
        raw.seek(max(0, end - _FOOTER.size))
        footer = _read_fully(raw, _FOOTER.size)
        if len(footer) < _FOOTER.size or not footer.startswith(_MAGIC):
            return None
        _, size, block, stated = _FOOTER.unpack(footer)
        table = b""
        if block and end == size + 4 * -(-size // block) + _FOOTER.size:
            raw.seek(size)
            table = _read_fully(raw, end - size - _FOOTER.size)
        if checksum(table + footer[:-4]) != stated:
            raise ShardError(
                "The checksums at the end of the file are damaged.",
                where=path,
                why="what it holds can no longer be trusted",
                hint="delete it and run again to compute it again",
            )
        stack.pop_all()
    return SealedFile(raw, size, block, struct.unpack(f"<{len(table) // 4}I", table))
