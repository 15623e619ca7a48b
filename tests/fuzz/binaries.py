"""Pictures and HDF5 files broken where their form has a place for it."""

from __future__ import annotations

import io
import struct
import zlib

import h5py
import numpy as np
from hypothesis import strategies as st

from tests.fuzz.odd import CANARY, mangled, numbers, texts, values


def png_chunks(whole: bytes) -> list[tuple[bytes, bytes]]:
    """Return (kind, content) of the chunks of a PNG."""
    chunks, at = [], 8
    while at < len(whole):
        (length,) = struct.unpack(">I", whole[at : at + 4])
        chunks.append((whole[at + 4 : at + 8], whole[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def png_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return the PNG of chunks, with their right lengths and checksums."""
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        checksum = zlib.crc32(kind + content)
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return data


_KINDS = (b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"zTXt")


@st.composite
def broken_png(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a PNG with broken chunks whose checksums are right, or broken anywhere."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    chunks = png_chunks(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(chunks) - 1)) if chunks else 0
        how = draw(st.integers(0, 4))
        if how <= 1 and chunks:
            kind, content = chunks[at]
            where = draw(st.integers(0, max(0, min(len(content), 24) - 1)))
            size = draw(st.sampled_from([1, 2, 4]))
            number = draw(numbers) % 2 ** (8 * size)
            fresh = bytearray(content)
            fresh[where : where + size] = number.to_bytes(size, "big")
            chunks[at] = (kind, bytes(fresh))
        elif how == 2 and chunks:
            chunks.insert(draw(st.integers(0, len(chunks))), chunks[at])
        elif how == 3 and chunks:
            del chunks[at]
        else:
            content = draw(st.binary(max_size=32))
            chunks.insert(at, (draw(st.sampled_from(_KINDS)), content))
    return png_of(chunks)


@st.composite
def broken_header(draw: st.DrawFn, whole: bytes, first: int = 0, last: int = 64) -> bytes:
    """Return a file with odd numbers in its first bytes, or broken anywhere."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(first, min(last, len(data) - 1)))
        form = draw(st.sampled_from(["B", "<H", ">H", "<I", ">I"]))
        size = struct.calcsize(form)
        data[at : at + size] = struct.pack(form, draw(numbers) % 2 ** (8 * size))
    return bytes(data)


def _odd_dataset(draw: st.DrawFn, group: h5py.Group, name: str, shape: tuple[int, ...]) -> None:
    """Put something else in the place of a dataset."""
    how = draw(st.integers(0, 10))
    if how == 0:
        group[name] = h5py.ExternalLink(CANARY, "/x")
    elif how == 1:
        group[name] = h5py.SoftLink("/nowhere")
    elif how == 2:
        group.create_dataset(name, shape=shape, dtype="u1", external=[(CANARY, 0, 10**6)])
    elif how == 3:
        group[name] = draw(texts).replace("\0", "").encode("utf-8", "replace")
    elif how == 4:
        group[name] = np.full(shape, np.nan)
    elif how == 5:
        # Nothing of it is stored, so that a file of some bytes claims any size.
        huge = (2**40, *shape[1:]) if shape else (2**40,)
        group.create_dataset(name, shape=huge, dtype="f4", chunks=(1, *huge[1:]))
    elif how == 6:
        group.create_group(name)
    elif how == 7:
        group[name] = np.zeros((0, *shape[1:]), np.float32)
    elif how == 8:
        group[name] = np.zeros(shape, [("a", "f4"), ("b", "i4")])
    elif how == 9:
        group[name] = np.float64(1)
    else:
        layout = h5py.VirtualLayout(shape=shape or (1,), dtype="u1")
        layout[...] = h5py.VirtualSource(CANARY, "x", shape=shape or (1,))
        group.create_virtual_dataset(name, layout)


def _odd_attribute(draw: st.DrawFn) -> object:
    value = draw(values)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").replace(b"\0", b"")[:60_000].decode()
    if isinstance(value, bool | int | float) and abs(value) < 2**63:
        return value
    choices = (np.zeros(0), np.zeros((2, 2)), b"\xff\xfe", h5py.Empty("f4"), np.array([b"a", b"b"]))
    return draw(st.sampled_from(choices))


def _break_hdf5(draw: st.DrawFn, file: h5py.File) -> None:
    names: list[str] = [""]
    file.visit(names.append)
    name = draw(st.sampled_from(names))
    node = file[name] if name else file
    how = draw(st.integers(0, 6))
    attribute = draw(st.sampled_from(sorted(node.attrs))) if len(node.attrs) else None
    if how <= 1 and attribute is not None:
        node.attrs[attribute] = _odd_attribute(draw)
    elif how == 2 and attribute is not None:
        del node.attrs[attribute]
    elif how == 3 and name:
        file.move(name, draw(st.sampled_from(["x", "a/b/c", "clip", "é"])))
    elif how == 4 and name:
        del file[name]
    elif name and isinstance(node, h5py.Dataset):
        shape, parent = node.shape, node.parent
        short = name.rpartition("/")[2]
        del file[name]
        _odd_dataset(draw, parent, short, shape)
    else:
        parent = node if isinstance(node, h5py.Group) else file
        _odd_dataset(draw, parent, "more", (1,))


@st.composite
def broken_hdf5(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return an HDF5 file with odd attributes, datasets and links, or broken anywhere."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    stream = io.BytesIO(whole)
    with h5py.File(stream, "r+") as file:
        for _ in range(draw(st.integers(1, 2))):
            # Names that are taken, and links that lead nowhere, end one change.
            try:
                _break_hdf5(draw, file)
            except (KeyError, ValueError, OSError, RuntimeError):
                break
    return stream.getvalue()
