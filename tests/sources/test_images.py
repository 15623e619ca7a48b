"""Pictures that are whole, cut off, odd or hostile."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from mer_prep.errors import DecodeError
from mer_prep.sources.frames import decode_image
from mer_prep.sources.images import check_complete, image_header

FORMATS = (".jpg", ".png", ".bmp")


def picture(height: int = 40, width: int = 60) -> np.ndarray:
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def encoded(suffix: str, image: np.ndarray | None = None, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, picture() if image is None else image, list(options))
    assert done
    return data.tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_whole_pictures_pass_and_tell_their_size(suffix: str) -> None:
    header = check_complete(encoded(suffix), where="x")
    assert (header.width, header.height, header.bits) == (60, 40, 8)
    assert image_header(encoded(suffix)[:400] if suffix != ".jpg" else encoded(suffix), where="x")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_truncation_is_noticed(suffix: str) -> None:
    data = encoded(suffix)
    for length in range(0, len(data) - 1, 7):
        with pytest.raises(DecodeError):
            decode_image(data[:length], where="x")
    with pytest.raises(DecodeError, match="truncated or damaged"):
        decode_image(data[: len(data) // 2], where="x")


@pytest.mark.parametrize("option", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL])
def test_progressive_and_restart_jpegs_are_followed(option: int) -> None:
    data = encoded(".jpg", picture(), option, 1)
    assert check_complete(data, where="x").format == "JPEG"
    with pytest.raises(DecodeError):
        check_complete(data[:-40], where="x")


def test_bytes_after_the_end_of_a_jpeg_do_no_harm() -> None:
    assert check_complete(encoded(".jpg") + b"\0" * 100, where="x").width == 60


def test_an_embedded_thumbnail_does_not_hide_a_truncation() -> None:
    whole = encoded(".jpg")
    thumbnail = encoded(".jpg", picture(8, 8))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    data = whole[:2] + segment + whole[2:]
    assert check_complete(data, where="x").width == 60
    with pytest.raises(DecodeError, match="truncated"):
        check_complete(data[:-200], where="x")


def test_a_flipped_byte_in_a_png_is_noticed() -> None:
    data = bytearray(encoded(".png"))
    data[len(data) // 2] ^= 1
    with pytest.raises(DecodeError, match="truncated or damaged"):
        check_complete(bytes(data), where="x")


def test_a_header_that_claims_too_much_is_refused_before_decoding() -> None:
    data = bytearray(encoded(".png"))
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(DecodeError, match=r"claims 50000x50000 px, more than 64,000,000 px"):
        check_complete(bytes(data), where="x")


@pytest.mark.parametrize("data", [b"", b"not a picture at all", b"\xff\xd8", b"BM", b"\x89PNG\r\n"])
def test_what_is_no_picture_is_named(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_image(data, where="sub01/img7.jpg")
    assert "sub01/img7.jpg" in str(caught.value)


def test_sixteen_bits_are_refused_by_name() -> None:
    data = encoded(".png", picture().astype(np.uint16) * 257)
    with pytest.raises(DecodeError, match="16 bits a channel"):
        decode_image(data, where="x")


def test_grey_gives_three_equal_channels() -> None:
    grey = picture()[:, :, 0]
    image = decode_image(encoded(".png", grey), where="x")
    assert image.shape == (40, 60, 3)
    np.testing.assert_array_equal(image, np.repeat(grey[:, :, None], 3, axis=2))


def test_transparency_is_dropped_and_colours_are_red_green_blue() -> None:
    image = np.dstack([picture(), np.full((40, 60), 30, np.uint8)])
    np.testing.assert_array_equal(
        decode_image(encoded(".png", image), where="x"), picture()[:, :, ::-1]
    )


def test_a_rotation_in_the_file_is_applied() -> None:
    data = encoded(".jpg")
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0) + b"\0" * 4
    exif = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    image = decode_image(data[:2] + segment + data[2:], where="x")
    assert image.shape == (60, 40, 3)
