"""Pictures of every kind that files may hold, written from their specifications.

OpenCV writes few kinds of pictures and is what reads them in the program: written here, both the
kinds and what they show are known.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

#: Samples a pixel by PNG colour type: grey, RGB, palette, grey and alpha, RGBA.
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

#: First column and row, and steps, of the seven passes of an interlaced PNG.
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    samples: np.ndarray,
    *,
    colour: int,
    depth: int,
    palette: np.ndarray | None = None,
    interlaced: bool = False,
    extra: bytes = b"",
) -> bytes:
    """Return a PNG.

    Parameters
    ----------
    samples : ndarray, shape (H, W, C), int
        Samples from 0 to 2^depth - 1.
    colour, depth : int
        Colour type and bits a sample.
    palette : ndarray, shape (N, 3), optional
        Of colour type 3.
    interlaced : bool
        Whether the seven passes of Adam7 are written.
    extra : bytes
        Chunks before the pixels.
    """
    height, width, _ = samples.shape
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"".join(b"\0" + _packed(row, depth) for row in samples[top::down, left::right])
        for left, top, right, down in passes
        if samples[top::down, left::right].size
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    chunks = [png_chunk(b"IHDR", header), extra]
    if palette is not None:
        chunks.append(png_chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    chunks += [png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _packed(row: np.ndarray, depth: int) -> bytes:
    values = row.reshape(-1)
    if depth >= 8:
        return values.astype(">u2" if depth == 16 else np.uint8).tobytes()
    bits = (values[:, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def jpeg(
    blocks: np.ndarray, *, adobe: int | None = None, bits: int = 8, frame: int = 0xC0
) -> bytes:
    """Return a JPEG whose 8x8 blocks are flat.

    Parameters
    ----------
    blocks : ndarray, shape (H / 8, W / 8, C), int
        Value of every block by component, 0 to 255.
    adobe : int, optional
        Colour transform named by an Adobe marker: 0 for CMYK as it is; no marker by default.
    bits, frame : int
        What the header claims: bits a sample, and the marker of the coding.
    """
    rows, columns, count = blocks.shape
    names = range(1, count + 1)
    parts = [b"\xff\xd8"]
    if adobe is not None:
        parts.append(_segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe)))
    parts.append(_segment(0xDB, b"\0" + bytes([1] * 64)))
    components = b"".join(bytes([name, 0x11, 0]) for name in names)
    size = struct.pack(">BHHB", bits, rows * 8, columns * 8, count)
    parts.append(_segment(frame, size + components))
    # Differences of up to 11 bits have codes of four bits; of the rest there is only the end.
    parts.append(_segment(0xC4, b"\0" + bytes([0, 0, 0, 12] + [0] * 12) + bytes(range(12))))
    parts.append(_segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"))
    scan = bytes([count]) + b"".join(bytes([name, 0]) for name in names) + bytes([0, 63, 0])
    parts.append(_segment(0xDA, scan))
    parts += [_flat_blocks(blocks), b"\xff\xd9"]
    return b"".join(parts)


def _flat_blocks(blocks: np.ndarray) -> bytes:
    words, last = [], np.zeros(blocks.shape[2], int)
    for block in blocks.reshape(-1, blocks.shape[2]).astype(int):
        for component, value in enumerate(8 * (block - 128)):
            difference = int(value - last[component])
            length = abs(difference).bit_length()
            words.append(f"{length:04b}")
            if length:
                low = difference if difference > 0 else difference + (1 << length) - 1
                words.append(f"{low:0{length}b}")
            words.append("0")
            last[component] = value
    text = "".join(words)
    text += "1" * (-len(text) % 8)
    data = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    return data.replace(b"\xff", b"\xff\0")


def _segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def with_rotation(data: bytes, turn: int) -> bytes:
    """Return a JPEG with an EXIF note of how it is turned, 1 to 8."""
    entry = struct.pack("<HHHIHH", 1, 0x0112, 3, 1, turn, 0) + b"\0" * 4
    return data[:2] + _segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + entry) + data[2:]


def turned(image: np.ndarray, turn: int) -> np.ndarray:
    """Return a picture as it is shown under a rotation of EXIF, 1 to 8."""
    if turn in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image[::-1] if turn in (3, 4, 7, 8) else image


def bmp(
    rows: Sequence[bytes],
    width: int,
    *,
    bits: int,
    palette: bytes = b"",
    compression: int = 0,
    top_down: bool = False,
    core: bool = False,
) -> bytes:
    """Return a BMP.

    Parameters
    ----------
    rows : sequence of bytes
        Packed rows from top to bottom, without padding; one row for compressed data.
    width, bits : int
        Width in px and bits a pixel.
    palette : bytes
        Four bytes a colour (blue, green, red, 0).
    compression : int
        0 for none, 1 for runs of 8 bits.
    top_down : bool
        Whether the first row stands first.
    core : bool
        Whether the header is the short one of OS/2.
    """
    height = len(rows)
    ordered = rows if top_down else rows[::-1]
    pixels = b"".join(row + b"\0" * (-len(row) % 4) for row in ordered)
    if core:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        signed = -height if top_down else height
        colours = len(palette) // 4
        header = struct.pack(
            "<IiiHHIIiiII", 40, width, signed, 1, bits, compression, len(pixels), 0, 0, colours, 0
        )
    start = 14 + len(header) + len(palette)
    size = start + len(pixels)
    return b"BM" + struct.pack("<IHHI", size, 0, 0, start) + header + palette + pixels


def bmp_of_runs(indices: np.ndarray, palette: bytes) -> bytes:
    """Return a BMP of palette indices (H, W) in runs of 8 bits, one pixel each."""
    lines = [b"".join(bytes([1, int(index)]) for index in row) + b"\0\0" for row in indices[::-1]]
    runs = b"".join(lines)[:-2] + b"\0\1"
    height, width = indices.shape
    data = bytearray(bmp([b""] * height, width, bits=8, palette=palette, compression=1) + runs)
    data[2:6] = struct.pack("<I", len(data))
    data[34:38] = struct.pack("<I", len(runs))
    return bytes(data)


def png_kinds() -> Iterator[tuple[int, int, bool]]:
    """Yield (colour type, bits a sample, interlaced) of all PNGs there are."""
    for colour, depths in PNG_DEPTHS.items():
        for depth in depths:
            yield colour, depth, False
            yield colour, depth, True
