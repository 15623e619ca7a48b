"""The panels of a clip: pictures as data URIs, landmarks as lines that can be taken away."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mer_prep.pictures import (
    PAPER,
    colour_wheel,
    draw_arrows,
    flow_colours,
    zoom_to_face,
)
from mer_prep.reports.embedded import data_uri
from mer_prep.reports.markup import Html, escaped

#: Side of one face on a strip, px; the side of aligned frames by default.
TILE = 144

#: Side of the picture of arrows, px.
ARROWS = 288

#: Quality of WebP, 0 to 100: enough to see skin, small enough for thousands of clips.
QUALITY = 72

#: Contours of the 68 landmarks: first and last point, and whether they close.
CONTOURS = (
    (0, 17, False),
    (17, 22, False),
    (22, 27, False),
    (27, 31, False),
    (31, 36, False),
    (36, 42, True),
    (42, 48, True),
    (48, 60, True),
    (60, 68, True),
)

#: Least magnitude of full colour of a flow, px: the noise of a still face is not blown up to it.
LEAST_FLOW = 0.25

#: Least strain at the end of its scale, for the same reason.
LEAST_STRAIN = 0.01


def image(picture: np.ndarray, alt: str, *, quality: int = QUALITY) -> Html:
    """Return a picture as an ``img`` element that is decoded when it comes into sight."""
    height, width = picture.shape[:2]
    return Html(
        f'<img src="{data_uri(picture, quality=quality)}" alt="{escaped(alt)}" '
        f'width="{width}" height="{height}" loading="lazy" decoding="async">'
    )


def landmark_path(landmarks: np.ndarray, *, shift: float = 0.0) -> str:
    """Return the contours of 68 landmarks as the data of an SVG path.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Points (x, y) at pixel centres, in px of the picture.
    shift : float
        Added to x, in px.

    Notes
    -----
    In SVG the centre of the first pixel lies at 0.5: half a pixel is added.
    """
    points = np.asarray(landmarks, np.float64) + np.array([shift + 0.5, 0.5])
    parts = []
    for first, last, closed in CONTOURS:
        corners = "L".join(f"{x:.1f} {y:.1f}" for x, y in points[first:last])
        parts.append(f"M{corners}{'Z' if closed else ''}")
    return "".join(parts)


def landmarks_overlay(
    landmarks: Sequence[np.ndarray], size: tuple[int, int], *, alt: str = ""
) -> Html:
    """Return landmarks of faces side by side as an SVG that lies over their strip.

    Parameters
    ----------
    landmarks : sequence of ndarray, shape (68, 2)
        Of every face, in px of its own tile.
    size : tuple of int
        Width and height of the strip in px.
    alt : str
        What it shows, where there is no picture below it; empty if there is one.
    """
    width, height = size
    step = width / max(len(landmarks), 1)
    path = "".join(
        landmark_path(points, shift=index * step) for index, points in enumerate(landmarks)
    )
    label = f'role="img" aria-label="{escaped(alt)}"' if alt else 'aria-hidden="true"'
    return Html(
        f'<svg class="landmarks" viewBox="0 0 {width} {height}" {label}><path d="{path}"/></svg>'
    )


def source_tile(frame: np.ndarray, landmarks: np.ndarray | None) -> np.ndarray:
    """Return the face of a source frame, `TILE` px large; the whole frame without landmarks."""
    if landmarks is not None:
        return zoom_to_face(frame, landmarks, side=TILE)[0]
    height, width = frame.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    tile = np.full((TILE, TILE, 3), PAPER, np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def aligned_tile(frame: np.ndarray) -> np.ndarray:
    """Return an aligned frame, `TILE` px large."""
    return _resized(frame, TILE)


def aligned_points(landmarks: np.ndarray, size: int, *, side: int = TILE) -> np.ndarray:
    """Return landmarks of an aligned frame of some size in px of its tile."""
    return (np.asarray(landmarks, np.float64) + 0.5) * (side / size) - 0.5


def full_scale(values: np.ndarray, *, least: float, percentile: float = 99) -> float:
    """Return the magnitude at the end of a scale: a percentile, and `least` at least."""
    return max(least, float(np.percentile(values, percentile)))


def flow_picture(flow: np.ndarray, *, max_px: float) -> np.ndarray:
    """Return a flow, (2, S, S), in the colours of the wheel, `TILE` px large."""
    return _resized(flow_colours(flow, max_px=max_px), TILE)


def arrow_picture(
    flow: np.ndarray, face: np.ndarray | None, *, max_px: float
) -> tuple[np.ndarray, float]:
    """Return a flow as arrows over a pale face or on paper, and how often they are enlarged."""
    below = np.full((ARROWS, ARROWS, 3), 250, np.uint8)
    if face is not None:
        pale = 255 - (255 - _resized(face, ARROWS).astype(np.float32)) * 0.45
        below = np.rint(pale).astype(np.uint8)
    spacing = max(1, round(flow.shape[2] / 18))
    gain = 1.6 * spacing / max_px
    drawn = draw_arrows(below, flow, spacing=spacing, gain=gain, least_px=0.08 * max_px)
    return drawn, gain


def strain_picture(strain: np.ndarray, *, largest: float) -> np.ndarray:
    """Return a strain, (S, S), from 0 to `largest` in cividis, `TILE` px large."""
    levels = np.rint(255 * np.clip(strain / largest, 0, 1)).astype(np.uint8)
    coloured = cv2.applyColorMap(levels, cv2.COLORMAP_CIVIDIS)
    return _resized(np.asarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)), TILE)


def dynamic_picture(dynamic: np.ndarray) -> tuple[np.ndarray, float]:
    """Return a dynamic image, (S, S, C), with zero as mid-grey, and the value of full contrast.

    A pooled flow has two channels, u and v; its magnitude is shown.
    """
    values = np.asarray(dynamic, np.float32)
    if values.shape[-1] == 2:
        values = np.hypot(values[..., 0], values[..., 1])[..., None]
    largest = full_scale(np.abs(values), least=1e-6, percentile=99.5)
    levels = np.rint(127.5 + 127.5 * np.clip(values / largest, -1, 1)).astype(np.uint8)
    return _resized(np.repeat(levels, 3 // levels.shape[-1], axis=-1), TILE), largest


def wheel_picture() -> np.ndarray:
    """Return the legend of the flow: the wheel alone, its rim the full scale of each clip."""
    return colour_wheel(96, max_px=1.0)[:96]


def strain_scale() -> np.ndarray:
    """Return the legend of the strain: cividis from 0 to the full scale of each clip."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (10, 1))
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(ramp, cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)
    )


def _resized(picture: np.ndarray, side: int) -> np.ndarray:
    if picture.shape[0] == side:
        return np.ascontiguousarray(picture)
    kind = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side, side), interpolation=kind))
