"""Single pictures that are damaged, of an odd kind, hostile, or not pictures at all."""

from __future__ import annotations

import resource
import struct
import zlib
from unittest import mock

import cv2
import numpy as np

from mer_prep.errors import DecodeError
from mer_prep.sources.frames import decode_image
from mer_prep.sources.images import ImageHeader, check_complete
from tests.faults import odd_pictures as odd
from tests.faults.catalogue import Tries, damaged, fault, in_process, instead, nothing, refused

_IMAGES = "mer_prep.sources.images."
_OPENCV_ERROR = cv2.error


def _texture(height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def _encoded(suffix: str, *options: int, shape: tuple[int, int] = (40, 48)) -> bytes:
    return bytes(cv2.imencode(suffix, _texture(*shape), list(options))[1].tobytes())


def _whole(shape: tuple[int, int] = (40, 48)) -> dict[str, bytes]:
    """Return pictures that are whole, by what they are."""
    rows = [row[:, ::-1].tobytes() for row in _texture(*shape)]
    cmyk = np.random.default_rng(0).integers(0, 256, (shape[0] // 8, shape[1] // 8, 4))
    interlaced = odd.png(_texture(*shape).astype(int), colour=2, depth=8, interlaced=True)
    return {
        "JPEG": _encoded(".jpg", shape=shape),
        "progressive JPEG": _encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, shape=shape),
        "JPEG with restarts": _encoded(".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 1, shape=shape),
        "CMYK JPEG": odd.jpeg(cmyk, adobe=0),
        "PNG": _encoded(".png", shape=shape),
        "interlaced PNG": interlaced,
        "BMP": _encoded(".bmp", shape=shape),
        "BMP of OS/2": odd.bmp(rows, shape[1], bits=24, core=True),
    }


@fault(
    5,
    "a JPEG, PNG or BMP that is cut off",
    without={
        "the walk to the end of a JPEG": instead(_IMAGES + "_jpeg_is_whole", lambda data: True),
        "the checksums of a PNG": instead(_IMAGES + "_png_is_whole", lambda data: True),
        "the length of a BMP": instead(_IMAGES + "_bmp_is_whole", lambda data: True),
        "the short header of a BMP": instead(_IMAGES + "_has_core_header", lambda data: False),
    },
)
def cut_pictures(tries: Tries) -> None:
    for kind, data in _whole().items():
        assert check_complete(data, where=kind).width == 48
        for length in tries.of(range(len(data)), quick=40):
            with refused(DecodeError, "frame.x"):
                check_complete(data[:length], where="frame.x")


@fault(
    5,
    "a JPEG that is cut off, with bytes appended, or with a whole thumbnail in it",
    without={
        "the walk along the segments": instead(
            _IMAGES + "_jpeg_is_whole", lambda data: b"\xff\xd9" in data
        ),
        "the check before decoding": instead("mer_prep.sources.frames.check_complete", nothing),
    },
)
def cut_behind_a_thumbnail(tries: Tries) -> None:
    thumbnail = _encoded(".jpg", shape=(8, 8))
    whole = _encoded(".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = whole[:2] + segment + whole[2:]
    expected = decode_image(whole, where="whole")
    for rest in (b"", b"\0" * 100, thumbnail):
        np.testing.assert_array_equal(decode_image(data + rest, where="x"), expected)
    begin = 2 + len(segment)
    for length in tries.of(range(begin, len(data) - 1), quick=60):
        with refused(DecodeError, "frame.x"):
            decode_image(data[:length], where="frame.x")
        with refused(DecodeError, "frame.x"):
            decode_image(data[:length] + b"\0" * 100, where="frame.x")


@fault(
    5,
    "a PNG with any byte changed, or with pixels missing and checksums that agree",
    without={
        "the checksums": instead(
            _IMAGES + "_png_is_whole", lambda data: data.rstrip(b"\0").endswith(b"IEND\xaeB`\x82")
        ),
    },
)
def changed_pngs(tries: Tries) -> None:
    image = _texture(8, 9)
    data = odd.png(image.astype(int), colour=2, depth=8)
    for changed in tries.of(damaged(data), quick=150):
        with refused(DecodeError, "frame.x"):
            check_complete(changed, where="frame.x")
        with refused(DecodeError, "frame.x"):
            decode_image(changed, where="frame.x")
    for rows in tries.of(range(8)):
        lines = b"".join(b"\0" + row.tobytes() for row in image[:rows])
        short = data.replace(_idat(data), odd.png_chunk(b"IDAT", zlib.compress(lines)))
        with refused(DecodeError, "cannot be decoded", "frame.x"):
            decode_image(short, where="frame.x")


def _idat(data: bytes) -> bytes:
    start = data.index(b"IDAT") - 4
    (length,) = struct.unpack(">I", data[start : start + 4])
    return data[start : start + length + 12]


@fault(
    5,
    "a picture with any byte changed: refused, or a picture of the size it claims",
    without={
        "the look at what it claims": instead(_IMAGES + "check_header", nothing),
        "an error of OpenCV made ours": instead("mer_prep.sources.frames.cv2.error", KeyError),
    },
)
def changed_pictures(tries: Tries) -> None:
    for data in _whole((16, 24)).values():
        for changed in tries.of(damaged(data), quick=50):
            try:
                image = decode_image(changed, where="frame.x", max_pixels=100_000)
            except DecodeError:
                with refused(DecodeError, "frame.x"):
                    decode_image(changed, where="frame.x", max_pixels=100_000)
                continue
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert 0 < image.size <= 300_000
    failing = mock.Mock(side_effect=_OPENCV_ERROR("a picture that OpenCV trips over"))
    with mock.patch("mer_prep.sources.frames.cv2.imdecode", failing):
        for data in tries.of(_whole().values(), quick=2):
            with refused(DecodeError, "cannot be decoded", "frame.x"):
                decode_image(data, where="frame.x")


@fault(
    6,
    "a file that is empty, text, a web page, another format, or noise",
    without={
        "the look at the first bytes": instead(
            "mer_prep.sources.images.image_header",
            lambda data, where: ImageHeader("BMP", 1, 1, 8),
        ),
    },
)
def not_pictures(tries: Tries) -> None:
    with refused(DecodeError, "empty file", "img7.jpg"):
        decode_image(b"", where="img7.jpg")
    rng = np.random.default_rng(0)
    others = [
        *(text * count for text in (b"a frame", b"<html>", b"\0", b"\xff") for count in (1, 99)),
        b"GIF89a" + bytes(100),
        b"RIFF\x10\0\0\0WEBPVP8 " + bytes(100),
        b"II*\0" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0",
        b"BM",
        b"\x89PNG\r\n\x1a\n",
        *(rng.bytes(int(length)) for length in rng.integers(1, 400, 500)),
    ]
    for data in tries.of(others, quick=120):
        with refused(DecodeError, "img7.jpg"):
            decode_image(data, where="img7.jpg")


@fault(
    7,
    "PNG of every colour type and depth, interlaced and not: as documented, or refused by name",
    without={
        "the refusal of 16 bits": instead(_IMAGES + "check_header", nothing),
        "colours in the order of the program": instead(
            "mer_prep.sources.frames.cv2.IMREAD_COLOR_RGB", cv2.IMREAD_COLOR
        ),
    },
)
def kinds_of_png(tries: Tries) -> None:
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (2, 3), (11, 13), (1, 40)]
    kinds = [(kind, size) for kind in odd.png_kinds() for size in sizes]
    for (colour, depth, interlaced), size in tries.of(kinds, quick=len(kinds)):
        samples = rng.integers(0, 2**depth, (*size, odd.PNG_SAMPLES[colour]))
        palette = rng.integers(0, 256, (2**depth, 3)) if colour == 3 else None
        clear = odd.png_chunk(b"tEXt", b"Comment\0none")
        data = odd.png(
            samples,
            colour=colour,
            depth=depth,
            palette=palette,
            interlaced=interlaced,
            extra=clear,
        )
        if depth == 16:
            with refused(DecodeError, "16 bits a channel", "frame.x"):
                decode_image(data, where="frame.x")
            continue
        shown = samples[..., :3] if colour in (2, 6) else samples[..., :1].repeat(3, axis=2)
        expected = shown * 255 // (2**depth - 1)
        if palette is not None:
            expected = palette[samples[..., 0]]
        np.testing.assert_array_equal(decode_image(data, where="x"), expected)


@fault(
    7,
    "JPEG in grey, colours and CMYK, of every rotation, with codings and depths that are not read",
    without={
        "the refusal of other depths and codings": instead(_IMAGES + "check_header", nothing),
        "rotation": instead(
            "mer_prep.sources.frames.cv2.IMREAD_COLOR_RGB",
            cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION,
        ),
    },
)
def kinds_of_jpeg(tries: Tries) -> None:
    rng = np.random.default_rng(0)
    for seed in tries.of(range(20), quick=5):
        grey = rng.integers(0, 256, (2, 3, 1))
        found = decode_image(odd.jpeg(grey), where="x")
        np.testing.assert_array_equal(found, grey.repeat(8, 0).repeat(8, 1).repeat(3, 2))
        inks = rng.integers(0, 256, (2, 3, 4))
        for adobe in (None, 0):
            found = decode_image(odd.jpeg(inks, adobe=adobe), where="x")[::8, ::8]
            shown = inks[..., :3] * inks[..., 3:] / 255
            assert np.abs(found - shown).max() < 2, f"CMYK {seed}"
    data = _encoded(".jpg")
    upright = decode_image(data, where="x")
    for turn in tries.of(range(1, 9), quick=8):
        found = decode_image(odd.with_rotation(data, turn), where="x")
        np.testing.assert_array_equal(found, odd.turned(upright, turn))
    codings = {0xC3: "lossless", 0xCB: "lossless", 0xC5: "hierarchical", 0xCF: "hierarchical"}
    for frame, name in tries.of(codings.items()):
        with refused(DecodeError, f"a {name} JPEG", "frame.x"):
            decode_image(odd.jpeg(grey, frame=frame), where="frame.x")
    for bits in tries.of((9, 12, 16)):
        with refused(DecodeError, f"{bits} bits a channel", "frame.x"):
            decode_image(odd.jpeg(grey, bits=bits), where="frame.x")


@fault(
    7,
    "BMP of every depth, compressed, upside down, with masks, and of OS/2",
    without={
        "the short header of a BMP": instead(_IMAGES + "_has_core_header", lambda data: False),
        "rows from the top": instead(
            _IMAGES + "_bmp_facts", lambda data: struct.unpack("<ii2xH", data[18:30])
        ),
    },
)
def kinds_of_bmp(tries: Tries) -> None:
    for width in tries.of(range(1, 20), quick=4):
        image = _texture(5, width)
        blue_first = [row[:, ::-1].tobytes() for row in image]
        for extra in ({}, {"top_down": True}, {"core": True}):
            found = decode_image(odd.bmp(blue_first, width, bits=24, **extra), where="x")
            np.testing.assert_array_equal(found, image)
        four = [np.dstack([row[None, :, ::-1], np.full((1, width), 9)]) for row in image]
        rows = [row.astype(np.uint8).tobytes() for row in four]
        np.testing.assert_array_equal(decode_image(odd.bmp(rows, width, bits=32), where="x"), image)
        _indexed_bmps(width)
        red, green, blue = np.moveaxis(image.astype(int) >> 3, 2, 0)
        rows = [row.astype("<u2").tobytes() for row in red << 10 | green << 5 | blue]
        found = decode_image(odd.bmp(rows, width, bits=16), where="x")
        np.testing.assert_array_equal(found, image >> 3 << 3)


def _indexed_bmps(width: int) -> None:
    rng = np.random.default_rng(width)
    for bits in (1, 4, 8):
        colours = rng.integers(0, 256, (2**bits, 3))
        indices = rng.integers(0, 2**bits, (5, width))
        palette = b"".join(bytes([*colour[::-1], 0]) for colour in colours.tolist())
        words = ["".join(f"{index:0{bits}b}" for index in row) for row in indices]
        rows = [
            bytes(int(word[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(word), 8))
            for word in words
        ]
        found = decode_image(odd.bmp(rows, width, bits=bits, palette=palette), where="x")
        np.testing.assert_array_equal(found, colours[indices])
    runs = odd.bmp_of_runs(indices, palette)
    np.testing.assert_array_equal(decode_image(runs, where="x"), colours[indices])
    for length in range(len(runs) - 2):
        with refused(DecodeError, "frame.x"):
            decode_image(runs[:length], where="frame.x")


@fault(
    15,
    "a header that claims more pixels than memory holds",
    without={
        "the refusal of large headers": instead(_IMAGES + "check_header", nothing),
        "a limit by default": instead(
            "mer_prep.sources.frames.decode_image.__kwdefaults__", {"max_pixels": 2**40}
        ),
    },
)
def bombs(tries: Tries) -> None:
    sizes = [(2**15, 2**15), (50_000, 50_000), (65_500, 65_500), (64_000_001, 1), (1, 2**30)]
    for width, height in tries.of(sizes, quick=5):
        for data in _claims(width, height):
            with refused(DecodeError, f"claims {width}x{height} px", "frame.x"):
                decode_image(data, where="frame.x")
    assert in_process(_decodes_bombs_in_little_memory) == 0


def _claims(width: int, height: int) -> list[bytes]:
    """Return small files that claim to be large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    zeros = odd.png_chunk(b"IDAT", zlib.compress(bytes(100_000)))
    ihdr = odd.png_chunk(b"IHDR", header)
    files = [b"\x89PNG\r\n\x1a\n" + ihdr + zeros + odd.png_chunk(b"IEND", b"")]
    bmp = bytearray(odd.bmp([b"\0\0\0"], 1, bits=24))
    bmp[18:26] = struct.pack("<ii", width, -height)
    files.append(bytes(bmp))
    if max(width, height) < 2**16:
        jpeg = bytearray(_encoded(".jpg"))
        at = jpeg.index(b"\xff\xc0") + 5
        jpeg[at : at + 4] = struct.pack(">HH", height, width)
        files.append(bytes(jpeg))
    return files


def _decodes_bombs_in_little_memory() -> int:
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limit = now + 64 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for data in _claims(50_000, 50_000) * 20:
        try:
            decode_image(data, where="x")
        except DecodeError as error:
            if "claims" not in str(error):
                return 1
        else:
            return 1
    return 0
