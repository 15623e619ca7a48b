"""Frames that are damaged, of an odd kind, or not pictures at all."""

from __future__ import annotations

import cv2
import numpy as np

from mer_prep.errors import DecodeError
from mer_prep.sources.images import check_complete
from tests.faults.catalogue import Tries, fault, instead, refused


def _texture(height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


def _encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, _texture())[1].tobytes()


@fault(
    5,
    "a JPEG, PNG or BMP that is cut off",
    without={
        "the walk to the end of a JPEG": instead(
            "mer_prep.sources.images._jpeg_is_whole", lambda data: True
        ),
        "the checksums of a PNG": instead(
            "mer_prep.sources.images._png_is_whole", lambda data: True
        ),
        "the length of a BMP": instead("mer_prep.sources.images._bmp_is_whole", lambda data: True),
    },
)
def cut_pictures(tries: Tries) -> None:
    for suffix in (".jpg", ".png", ".bmp"):
        data = _encoded(suffix)
        check_complete(data, where="whole")
        for length in tries.of(range(len(data)), quick=40):
            with refused(DecodeError, "frame.x"):
                check_complete(data[:length], where="frame.x")
