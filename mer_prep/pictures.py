"""Pictures of landmarks and flow, drawn with OpenCV alone.

All pictures are RGB, (H, W, 3), uint8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mer_prep.errors import MerPrepError
from mer_prep.ops.similarity import eye_distance
from mer_prep.store import disk, files

Colour = tuple[int, int, int]

INK: Colour = (32, 34, 38)
FAINT: Colour = (112, 116, 122)
PAPER: Colour = (250, 250, 248)
POINT: Colour = (80, 255, 120)
ARROW: Colour = (20, 20, 24)

#: Sub-pixel bits of OpenCV's drawing functions.
_BITS = 4
_FONT = cv2.FONT_HERSHEY_DUPLEX


#: CIELAB lightness of full motion, and its chroma, at which sRGB has every hue.
_FULL_LIGHTNESS, _FULL_CHROMA = 65.0, 38.0


def flow_colours(flow: np.ndarray, *, max_px: float) -> np.ndarray:
    """Return a flow as colours: hue is direction, chroma and darkness are magnitude.

    The colours lie on a wheel in CIELAB: equal motions are equally dark and equally colourful
    whatever their direction, and stronger motion is darker, so that magnitude can be read in grey.
    Motion to the right is red, to the left green, down yellow and up blue.

    Parameters
    ----------
    flow : ndarray, shape (2, H, W)
        Channels u (to the right) and v (down) in px.
    max_px : float
        Magnitude of full colour; larger ones look the same. No motion is white.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
    """
    u, v = np.asarray(flow, np.float32)
    magnitude = np.hypot(u, v) / max(float(max_px), 1e-9)
    scale = np.minimum(magnitude, 1) / np.maximum(magnitude, 1e-9) / max(float(max_px), 1e-9)
    lightness = 100 - (100 - _FULL_LIGHTNESS) * np.minimum(magnitude, 1)
    lab = np.stack(
        [lightness, _FULL_CHROMA * u * scale, _FULL_CHROMA * v * scale], axis=-1, dtype=np.float32
    )
    colours = np.clip(np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)), 0, 1)
    return np.rint(255 * colours).astype(np.uint8)


def colour_wheel(side: int = 120, *, max_px: float) -> np.ndarray:
    """Return the legend of `flow_colours`: a wheel, and below it the scale in px.

    Parameters
    ----------
    side : int
        Width of the picture in px.
    max_px : float
        Magnitude at the rim.

    Returns
    -------
    ndarray, shape (side + 24, side, 3), uint8
    """
    radius = (side - 1) / 2
    y, x = np.mgrid[:side, :side] - radius
    colours = flow_colours(np.stack([x, y]) * (max_px / radius), max_px=max_px)
    distance = np.hypot(x, y)
    # One pixel of blending keeps the rim smooth.
    cover = np.clip(radius - distance + 0.5, 0, 1)[..., None]
    wheel = np.rint(cover * colours + (1 - cover) * np.array(PAPER)).astype(np.uint8)
    centre = (int(radius), int(radius))
    cv2.circle(wheel, centre, int(radius) - 1, FAINT, 1, cv2.LINE_AA)
    cv2.circle(wheel, centre, int(radius / 2), FAINT, 1, cv2.LINE_AA)
    picture = np.full((side + 24, side, 3), PAPER, np.uint8)
    picture[:side] = wheel
    label = f"rim {max_px:.3g} px"
    write_text(picture, label, ((side - _text_width(label, 0.42)) // 2, side + 17), size=0.42)
    return picture


def draw_landmarks(
    image: np.ndarray, landmarks: np.ndarray, *, radius: float = 2.0, colour: Colour = POINT
) -> np.ndarray:
    """Return a copy of a picture with its landmarks as dots.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
        The picture.
    landmarks : ndarray, shape (N, 2)
        Points (x, y) in px, drawn at fractions of a pixel.
    radius : float
        Radius of the dots in px.
    colour : tuple of int
        Colour of the dots.
    """
    picture = np.ascontiguousarray(image).copy()
    for point in np.asarray(landmarks, np.float64):
        if np.isfinite(point).all():
            centre = _fixed(point)
            cv2.circle(
                picture, centre, round((radius + 0.6) * 2**_BITS), INK, -1, cv2.LINE_AA, _BITS
            )
            cv2.circle(picture, centre, round(radius * 2**_BITS), colour, -1, cv2.LINE_AA, _BITS)
    return picture


def draw_arrows(
    image: np.ndarray,
    flow: np.ndarray,
    *,
    spacing: int = 9,
    gain: float = 1.0,
    least_px: float = 0.0,
    colour: Colour = ARROW,
) -> np.ndarray:
    """Return a copy of a picture with the flow as arrows.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
        A picture a whole number of times larger than the flow, or as large.
    flow : ndarray, shape (2, h, w)
        Channels u and v in px of the flow's own grid.
    spacing : int
        Distance of the arrows in px of that grid.
    gain : float
        How many times longer than the motion the arrows are.
    least_px : float
        Flow below this magnitude gets no arrow.
    colour : tuple of int
        Colour of the arrows.
    """
    picture = np.ascontiguousarray(image).copy()
    zoom = image.shape[1] / flow.shape[2]
    for y in range(spacing // 2, flow.shape[1], spacing):
        for x in range(spacing // 2, flow.shape[2], spacing):
            motion = np.asarray(flow[:, y, x], np.float64)
            if float(np.hypot(*motion)) < max(least_px, 1e-9):
                continue
            start = (np.array([x, y]) + 0.5) * zoom - 0.5
            _draw_arrow(picture, start, motion * gain * zoom, colour)
    return picture


def _draw_arrow(picture: np.ndarray, start: np.ndarray, motion: np.ndarray, colour: Colour) -> None:
    end = start + motion
    length = float(np.hypot(*motion))
    cv2.line(picture, _fixed(start), _fixed(end), colour, 1, cv2.LINE_AA, _BITS)
    along = motion / length
    across = np.array([-along[1], along[0]])
    head = min(5.0, 0.45 * length + 1)
    for side in (-1, 1):
        barb = end - head * along + side * 0.5 * head * across
        cv2.line(picture, _fixed(end), _fixed(barb), colour, 1, cv2.LINE_AA, _BITS)


def _fixed(point: np.ndarray) -> tuple[int, int]:
    """Return a point in OpenCV's fixed-point pixels."""
    x, y = np.rint(np.asarray(point, np.float64) * 2**_BITS).astype(int)
    return int(x), int(y)


def zoom_to_face(
    image: np.ndarray, landmarks: np.ndarray, *, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return a square view of the face and the landmarks in it.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3), uint8
        Source frame.
    landmarks : ndarray, shape (68, 2)
        Landmarks in source px.
    side : int
        Side of the view in px.

    Returns
    -------
    view : ndarray, shape (side, side, 3), uint8
    points : ndarray, shape (68, 2), float64
        The landmarks in px of the view.
    """
    points = np.asarray(landmarks, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    half = 0.75 * float((high - low).max())
    # The landmarks end at the brows: the middle of the face lies a little higher.
    centre = (low + high) / 2 - (0, 0.12 * half)
    scale = (side - 1) / (2 * half)
    matrix = np.array([[scale, 0.0, 0.0], [0.0, scale, 0.0]])
    matrix[:, 2] = (side - 1) / 2 - scale * centre
    points = points * scale + matrix[:, 2]
    source = np.ascontiguousarray(image)
    if scale < 1:
        source, matrix = _reduced(source, matrix, scale)
    view = cv2.warpAffine(
        source,
        matrix,
        (side, side),
        flags=cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=PAPER,
    )
    return np.asarray(view), points


def _reduced(image: np.ndarray, matrix: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture reduced to about `scale`, and the matrix for it."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    ratio = np.array([width / size[0], height / size[1]])
    # A reduced pixel X shows the source at (X + 0.5) ratio - 0.5.
    fitted = np.column_stack(
        [matrix[:, :2] * ratio, matrix[:, 2] + matrix[:, :2] @ (0.5 * ratio - 0.5)]
    )
    return reduced, fitted


@dataclass(frozen=True)
class KeyFrame:
    """What a sheet shows of one key frame.

    Parameters
    ----------
    title : str
        For example ``onset 46``.
    source : ndarray, shape (H, W, 3), uint8
        Source frame.
    landmarks : ndarray, shape (68, 2)
        Landmarks in source px.
    aligned : ndarray, shape (S, S, 3), uint8
        Aligned frame.
    aligned_landmarks : ndarray, shape (68, 2)
        Landmarks in aligned px.
    """

    title: str
    source: np.ndarray
    landmarks: np.ndarray
    aligned: np.ndarray
    aligned_landmarks: np.ndarray


#: Side of a picture on a sheet, px.
TILE = 288

_GAP, _MARGIN, _LABEL, _HEADER = 16, 24, 26, 76


def clip_sheet(
    clip_id: str,
    *,
    facts: Mapping[str, object],
    key_frames: Sequence[KeyFrame],
    flow: np.ndarray,
    flow_title: str,
    max_px: float | None = None,
) -> np.ndarray:
    """Return one picture that shows how a clip was prepared.

    Parameters
    ----------
    clip_id : str
        Headline.
    facts : mapping
        What stands below it, as ``name value`` in order.
    key_frames : sequence of KeyFrame
        Usually onset, apex and offset; one column each.
    flow : ndarray, shape (2, S, S)
        Flow between two of the aligned frames, in aligned px; drawn over the first key frame.
    flow_title : str
        Which frames and which method.
    max_px : float, optional
        Magnitude of full colour; by default the 99th percentile, at least 0.25 px, so that the
        noise of a clip without motion is not blown up to full colour.

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
    """
    flow = np.asarray(flow, np.float32)
    magnitude = np.hypot(*flow)
    if max_px is None:
        max_px = max(0.25, float(np.percentile(magnitude, 99)))
    top = [_source_tile(frame) for frame in key_frames]
    bottom = [_aligned_tile(frame) for frame in key_frames]
    top.append(flow_tile(flow, flow_title, max_px=max_px))
    bottom.append(_arrow_tile(key_frames[0].aligned, flow, max_px))
    body = np.concatenate([tile_row(top), tile_row(bottom)])
    body = np.concatenate([body, _legend(magnitude, max_px, body.shape[0])], axis=1)
    return headed(body, clip_id, facts)


def headed(body: np.ndarray, headline: str, facts: Mapping[str, object]) -> np.ndarray:
    """Return a picture with a headline above it, and a line of ``name value`` below that."""
    sheet = np.full((body.shape[0] + _HEADER, body.shape[1], 3), PAPER, np.uint8)
    sheet[_HEADER:] = body
    room = sheet.shape[1] - 2 * _MARGIN
    write_text(sheet, _fitted(headline, 0.8, room), (_MARGIN, 38), size=0.8)
    line = "   ".join(f"{name} {_value(value)}" for name, value in facts.items())
    write_text(sheet, _fitted(line, 0.46, room), (_MARGIN, 64), size=0.46, colour=FAINT)
    return sheet


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _source_tile(frame: KeyFrame) -> np.ndarray:
    view, points = zoom_to_face(frame.source, frame.landmarks, side=TILE)
    return labelled_tile(draw_landmarks(view, points), f"{frame.title}, source")


def _aligned_tile(frame: KeyFrame) -> np.ndarray:
    zoom = TILE / frame.aligned.shape[0]
    view = np.asarray(cv2.resize(frame.aligned, (TILE, TILE), interpolation=cv2.INTER_CUBIC))
    points = (np.asarray(frame.aligned_landmarks, np.float64) + 0.5) * zoom - 0.5
    distance = float(eye_distance(frame.aligned_landmarks))
    return labelled_tile(
        draw_landmarks(view, points), f"{frame.title}, aligned, eyes {distance:.1f} px"
    )


def flow_tile(flow: np.ndarray, title: str, *, max_px: float) -> np.ndarray:
    """Return the colours of a flow (2, S, S) as a labelled tile; see `flow_colours`."""
    colours = flow_colours(flow, max_px=max_px)
    return labelled_tile(np.asarray(cv2.resize(colours, (TILE, TILE))), title)


def _arrow_tile(face: np.ndarray, flow: np.ndarray, max_px: float) -> np.ndarray:
    # A pale face keeps the arrows readable on dark hair and on skin alike.
    pale = 255 - (255 - np.asarray(cv2.resize(face, (TILE, TILE)), np.float32)) * 0.55
    spacing = max(1, round(flow.shape[2] / 18))
    gain = 1.6 * spacing / max_px
    picture = draw_arrows(
        np.rint(pale).astype(np.uint8), flow, spacing=spacing, gain=gain, least_px=0.08 * max_px
    )
    return labelled_tile(picture, f"arrows {gain:.3g} x the motion")


def _legend(magnitude: np.ndarray, max_px: float, height: int) -> np.ndarray:
    width = 176
    panel = np.full((height, width, 3), PAPER, np.uint8)
    wheel = colour_wheel(120, max_px=max_px)
    panel[_LABEL : _LABEL + wheel.shape[0], 8 : 8 + wheel.shape[1]] = wheel
    lines = [
        ("magnitude", None),
        ("mean", float(magnitude.mean())),
        ("median", float(np.median(magnitude))),
        ("99 %", float(np.percentile(magnitude, 99))),
        ("largest", float(magnitude.max())),
    ]
    y = _LABEL + wheel.shape[0] + 30
    for name, value in lines:
        write_text(panel, name, (8, y), size=0.46, colour=INK if value is None else FAINT)
        if value is not None:
            write_text(panel, f"{value:.3f} px", (78, y), size=0.46)
        y += 24
    return panel


def labelled_tile(picture: np.ndarray, title: str) -> np.ndarray:
    """Return a picture of `TILE` x `TILE` px with its title above it and a gap below."""
    tile = np.full((_LABEL + TILE + _GAP, TILE, 3), PAPER, np.uint8)
    tile[_LABEL : _LABEL + TILE] = picture
    write_text(tile, _fitted(title, 0.46, TILE), (0, _LABEL - 9), size=0.46)
    return tile


def tile_row(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Return tiles side by side, with a margin before them and gaps between."""
    height = tiles[0].shape[0]
    parts = [np.full((height, _MARGIN, 3), PAPER, np.uint8)]
    for tile in tiles:
        parts += [tile, np.full((height, _GAP, 3), PAPER, np.uint8)]
    return np.concatenate(parts, axis=1)


def write_text(
    picture: np.ndarray, text: str, at: tuple[int, int], *, size: float, colour: Colour = INK
) -> None:
    """Write a line into a picture, from (x, y) on its baseline."""
    # OpenCV's fonts hold ASCII only; anything else would come out as question marks one a byte.
    plain = text.encode("ascii", "replace").decode("ascii")
    cv2.putText(picture, plain, at, _FONT, size, colour, 1, cv2.LINE_AA)


def _text_width(text: str, size: float) -> int:
    return int(cv2.getTextSize(text, _FONT, size, 1)[0][0])


def _fitted(text: str, size: float, room: int) -> str:
    """Return a text cut so that it is no wider than `room` px."""
    if _text_width(text, size) <= room:
        return text
    while text and _text_width(text + "...", size) > room:
        text = text[:-1]
    return text + "..."


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write an RGB picture as PNG; it appears under its name when it is whole.

    Raises
    ------
    ConfigError
        If the name is taken by a folder or device.
    MerPrepError
        If the file cannot be written; what was there before stays.
    """
    good, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not good:
        raise MerPrepError("The picture cannot be encoded.", hint="`mer-prep doctor` shows OpenCV")
    files.check_target(path)
    partial = files.partial_path(path)
    try:
        disk.write_bytes(partial, data.tobytes())
        disk.replace(partial, path)
    except OSError as error:
        raise MerPrepError(
            f"The picture cannot be written: {error.strerror or error}.",
            where=path,
            hint="choose another place that can be written and has room",
        ) from None
    finally:
        files.discard(partial)
