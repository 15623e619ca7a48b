"""The pictures in a stage's arrays, as PNG, and their values read back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep.config import parse_json
from mer_prep.errors import DecodeError, MerPrepError
from mer_prep.export.coding import IDENTITY, Coding, decode, encode
from mer_prep.records import record_bytes, record_text
from mer_prep.stages.base import Field

#: Name of the file beside the pictures of a clip that says what they are.
SIDECAR = "clip.json"


@dataclass(frozen=True)
class Picture:
    """One picture of a dataset.

    Parameters
    ----------
    name : str
        Unique within the clip, without suffix, e.g. ``flow-00000-u``.
    dataset : str
        The dataset it is from.
    index : int
        Index along the dataset's first axis; 0 if it holds one picture.
    channels : str
        Names of its channels, blank-separated.
    codes : ndarray, shape (H, W) or (H, W, 3), uint8
        Its pixels.
    coding : Coding
        What they mean.
    units : str
        Units of the values.
    """

    name: str
    dataset: str
    index: int
    channels: str
    codes: np.ndarray
    coding: Coding
    units: str

    def facts(self) -> dict[str, Any]:
        """Return what the file beside the picture says of it."""
        return {
            "dataset": self.dataset,
            "index": self.index,
            "channels": self.channels,
            "units": self.units,
            "offset": self.coding.offset,
            "step": self.coding.step,
            "largest_error": 0.0 if self.coding == IDENTITY else self.coding.largest_error,
            "clipped": self.coding.clipped,
        }


def is_picture(field: Field) -> bool:
    """Return whether a dataset holds pictures: rows, columns, and at most one axis of channels."""
    axes = field.axes.split()
    return {"y", "x"} <= set(axes) and len(_leading(field)) <= 1


def pictures_of(
    field: Field, array: np.ndarray, *, scaling: str, largest: float | None
) -> Iterator[Picture]:
    """Yield the pictures of a dataset.

    Three channels make one colour picture; two, or more than three, one grey picture each. 8-bit
    values stay as they are. Others are scaled: `min-max` for every picture on its own, over all
    its channels; otherwise all pictures of the clip's dataset alike.

    Parameters
    ----------
    field : Field
        The dataset's description, for which `is_picture` holds.
    array : ndarray
        The dataset.
    scaling : {'symmetric', 'positive', 'min-max'}
        See `mer_prep.export.coding.encode`.
    largest : float, optional
        Range of `symmetric` and `positive`; by default the largest magnitude in the dataset.
    """
    planes = _planes(field, array)
    names = field.channels.split()
    if planes.dtype != np.uint8 and scaling != "min-max" and largest is None:
        # None is left where all is zero.
        largest = max(float(planes.max()), -float(planes.min())) or None
    numbered = len(_leading(field)) > 0
    for index, plane in enumerate(planes):
        stem = f"{field.name}-{index:05d}" if numbered else field.name
        if plane.dtype == np.uint8:
            codes, coding = plane, IDENTITY
        else:
            codes, coding = encode(plane, scaling=scaling, largest=largest)
        if codes.shape[2] == 3:
            yield Picture(stem, field.name, index, field.channels, codes, coding, field.units)
            continue
        for channel in range(codes.shape[2]):
            one, of_one = codes[..., channel], coding
            if coding.clipped:
                # Counted channel by channel; with a range the codes are the same.
                one, of_one = encode(plane[..., channel], scaling=scaling, largest=largest)
            name = names[channel] if channel < len(names) else ""
            full = f"{stem}-{name or channel}" if codes.shape[2] > 1 else stem
            yield Picture(full, field.name, index, name, one, of_one, field.units)


def _leading(field: Field) -> list[str]:
    return [axis for axis in field.axes.split() if axis not in ("y", "x", "channel")]


def _planes(field: Field, array: np.ndarray) -> np.ndarray:
    """Return a dataset as (N, H, W, C)."""
    axes = field.axes.split()
    if "channel" not in axes:
        array, axes = array[..., None], [*axes, "channel"]
    leading = _leading(field)
    array = array.transpose([axes.index(axis) for axis in (*leading, "y", "x", "channel")])
    return array if leading else array[None]


def png_bytes(pixels: np.ndarray) -> bytes:
    """Return a picture, (H, W) or (H, W, 3) RGB uint8, as the bytes of a PNG file."""
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    good, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not good:
        raise MerPrepError("A picture cannot be encoded as PNG.")
    return bytes(data)


def read_png(path: Path | str) -> np.ndarray:
    """Read a picture that ``mer-prep export --to png`` wrote, and undo its scale.

    Parameters
    ----------
    path : Path or str
        The picture; ``clip.json`` beside it says its offset and step.

    Returns
    -------
    ndarray, shape (H, W) or (H, W, 3)
        uint8 grey values where the stage gave those; otherwise float32 values in the dataset's
        own units, to within ``largest_error`` of the stage's.

    Raises
    ------
    DecodeError
        If the picture or what it means cannot be read.
    """
    path = Path(path)
    sidecar = path.with_name(SIDECAR)
    try:
        facts = parse_json(record_text(sidecar))["pictures"][path.name]
        coding = Coding(float(facts["offset"]), float(facts["step"]), int(facts["clipped"]))
        if not (math.isfinite(coding.offset) and math.isfinite(coding.step)):
            raise ValueError(f"{coding} is no scale")
        data = np.frombuffer(record_bytes(path), np.uint8)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DecodeError(
            f"The picture or its scale cannot be read: {error!s:.200}.",
            where=path,
            hint=f"keep pictures together with their {SIDECAR}",
        ) from None
    codes = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if codes is None:
        raise DecodeError(
            "The picture cannot be decoded.", where=path, hint="export the stage again"
        )
    if codes.ndim == 3:
        codes = np.ascontiguousarray(codes[..., ::-1])
    return codes if coding == IDENTITY else decode(codes, coding).astype(np.float32)
