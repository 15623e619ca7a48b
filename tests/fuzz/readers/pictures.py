"""Readers of pictures and videos."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import cv2
import numpy as np

from mer_prep.errors import DecodeError
from mer_prep.export import read_png
from mer_prep.sources.clips import stated_length
from mer_prep.sources.frames import decode_image, iterate_video
from mer_prep.sources.images import MAX_PIXELS, check_complete
from mer_prep.videos import write_video
from tests.fuzz.binaries import broken_header, broken_png
from tests.fuzz.documents import broken_json
from tests.fuzz.engine import Reader
from tests.fuzz.odd import mangled

#: A picture of the largest size allowed, and as much again to decode it.
_MEMORY = 6 * 2 * MAX_PIXELS


def _picture() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    return cv2.resize(noise, (32, 24))


def _make(name: str, options: list[int], folder: Path) -> None:
    done, data = cv2.imencode(Path(name).suffix, _picture(), options)
    assert done
    (folder / name).write_bytes(data.tobytes())


def _read(name: str, folder: Path) -> None:
    data = (folder / name).read_bytes()
    header = check_complete(data, where=name)
    image = decode_image(data, where=name)
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    # A rotation noted in the file swaps the sides.
    assert sorted(image.shape[:2]) == sorted((header.height, header.width))


def _make_video(folder: Path) -> None:
    write_video(folder / "clip.mp4", [_picture().repeat(4, 0).repeat(4, 1)] * 3, fps=25.0)


def _read_video(folder: Path) -> None:
    path = folder / "clip.mp4"
    count, fps = stated_length(path)
    assert 0 <= count < 2**31
    assert fps is None or fps > 0
    sizes = set()
    for number, image in enumerate(iterate_video(path)):
        sizes.add(image.shape)
        if number > 200:
            break
    if not sizes:
        raise DecodeError("There is no frame.", where=path, hint="as readers of videos say")


def _make_sidecar(folder: Path) -> None:
    _make("flow.png", [], folder)
    facts = {"offset": 128, "step": 0.05, "clipped": 0, "largest_error": 0.1}
    (folder / "clip.json").write_text(json.dumps({"pictures": {"flow.png": facts}}))


def _read_sidecar(folder: Path) -> None:
    image = read_png(folder / "flow.png")
    assert image.shape[:2] == (24, 32)
    assert np.isfinite(image).all()


def _reader(name: str, target: str, options: list[int], broken: object) -> Reader:
    return Reader(
        name,
        target,
        functools.partial(_make, target, options),
        functools.partial(_read, target),
        broken,  # type: ignore[arg-type]
        memory=_MEMORY,
        examples=30,
    )


READERS = (
    _reader("png", "frame.png", [], broken_png),
    _reader("jpeg", "frame.jpg", [], functools.partial(broken_header, last=700)),
    _reader(
        "jpeg-progressive",
        "frame.jpg",
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
        functools.partial(broken_header, last=700),
    ),
    _reader("bmp", "frame.bmp", [], broken_header),
    Reader("video", "clip.mp4", _make_video, _read_video, mangled, examples=8, memory=_MEMORY),
    Reader("export-pictures", "clip.json", _make_sidecar, _read_sidecar, broken_json),
)
