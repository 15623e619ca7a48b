"""The portraits that synthetic subjects are made of; both are in the public domain."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import DependencyError

_FOLDER = Path(__file__).resolve().parent / "portraits"


@dataclass(frozen=True)
class Portrait:
    """A picture of a face with its landmarks.

    Parameters
    ----------
    name : str
        Name, as in `PORTRAITS`.
    image : ndarray, shape (H, W, 3), uint8
        RGB.
    landmarks : ndarray, shape (68, 2), float64
        (x, y) in px of the picture.
    credit : str
        Title, author and licence, as one sentence.
    """

    name: str
    image: np.ndarray
    landmarks: np.ndarray
    credit: str


@functools.cache
def _facts() -> dict[str, Any]:
    return json.loads((_FOLDER / "portraits.json").read_text(encoding="utf-8"))["portraits"]


def portrait_names() -> tuple[str, ...]:
    """Return the names of the portraits."""
    return tuple(_facts())


@functools.cache
def load_portrait(name: str) -> Portrait:
    """Load a portrait; its arrays are read-only and shared between calls.

    Raises
    ------
    ConfigError
        If there is no portrait of that name.
    DependencyError
        If the picture cannot be decoded.
    """
    facts = _facts()[check_option("portrait", name, _facts())]
    path = _FOLDER / facts["file"]
    decoded = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if decoded is None:
        raise DependencyError(
            "A portrait of the package cannot be decoded.",
            where=path,
            hint="reinstall mer-prep; `mer-prep doctor` shows whether OpenCV works",
        )
    image = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    landmarks = np.array(facts["landmarks"], dtype=np.float64)
    image.flags.writeable = landmarks.flags.writeable = False
    credit = f"{facts['title']}, by {facts['author']}. {facts['licence']}."
    return Portrait(name, image, landmarks, credit)
