"""The picture of a prediction: aligned frames with landmarks, and flow, over one sample."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np

from mer_prep.pictures import (
    FAINT,
    INK,
    PAPER,
    TILE,
    Colour,
    colour_wheel,
    draw_landmarks,
    flow_tile,
    headed,
    labelled_tile,
    tile_row,
    write_text,
)
from mer_prep.training.apply import Prediction
from mer_prep.training.inputs import Ready

#: Colour of the landmarks that the model was trained to give.
TARGET: Colour = (255, 170, 60)

#: Width of the panel on the right, px.
_PANEL = 240


def prediction_sheet(
    ready: Ready, prediction: Prediction, *, title: str, facts: Mapping[str, object]
) -> np.ndarray:
    """Return one picture of what was predicted for the first sample of a clip.

    Every column is a pair of frames: the second one with its landmarks, the predicted flow, and
    that of TV-L1 in the same colours. A row without a head to predict it is left out. Of a single
    pair all stand side by side, after its first frame with the regions that count.

    Parameters
    ----------
    ready : Ready
        The clip.
    prediction : Prediction
        What a model gives for it.
    title : str
        Headline.
    facts : mapping
        What stands below it, as ``name value`` in order.

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
        RGB.
    """
    sample = ready.prepared.samples[0]
    numbers = [ready.frame_numbers[index] for index in sample]
    rows = [[_face_tile(ready, prediction, pair) for pair in range(len(sample) - 1)]]
    if prediction.attention and prediction.boxes is not None:
        rows.insert(0, [_region_tile(ready, prediction)])
    max_px = 0.25
    if prediction.flow is not None:
        target = prediction.target_flow[0]
        max_px = max(max_px, float(np.percentile(np.hypot(*np.moveaxis(target, 1, 0)), 99)))
        for name, flow in (("predicted", prediction.flow[0]), ("TV-L1", target)):
            tiles = [
                flow_tile(
                    one, f"{name} flow, {numbers[pair]} to {numbers[pair + 1]}", max_px=max_px
                )
                for pair, one in enumerate(flow)
            ]
            rows.append(tiles)
    if len(sample) == 2:
        # One pair: everything stands side by side.
        rows = [[tile for row in rows for tile in row]]
    body = np.concatenate([tile_row(row) for row in rows])
    panel = _panel(prediction, max_px, body.shape[0])
    return headed(np.concatenate([body, panel], axis=1), title, facts)


def _face_tile(ready: Ready, prediction: Prediction, pair: int) -> np.ndarray:
    """Return the second frame of a pair as the model sees it, in colour."""
    index = int(ready.prepared.samples[0][pair + 1])
    side = prediction.target_flow.shape[-1]
    picture = _seen(ready, prediction, index)
    layers = [(prediction.target_landmarks, TARGET, 1.2)]
    if prediction.landmarks is not None:
        layers.append((prediction.landmarks, (80, 255, 120), 1.8))
    for landmarks, colour, radius in layers:
        points = (np.asarray(landmarks[0, pair], np.float64) + 0.5) * (TILE / side) - 0.5
        picture = draw_landmarks(picture, points, radius=radius, colour=colour)
    return labelled_tile(picture, f"frame {ready.frame_numbers[index]}")


def _region_tile(ready: Ready, prediction: Prediction) -> np.ndarray:
    """Return the first frame with the regions, the brighter the more they count."""
    index = int(ready.prepared.samples[0][0])
    picture = _seen(ready, prediction, index)
    assert prediction.boxes is not None
    scale = TILE / prediction.target_flow.shape[-1]
    largest = max(prediction.attention.values())
    order = sorted(enumerate(prediction.attention.values()), key=lambda one: one[1])
    for region, weight in order:
        left, top, right, bottom = (
            round((float(edge) + 0.5) * scale) for edge in prediction.boxes[0, region]
        )
        share = weight / largest
        colour = tuple(round(40 + share * (one - 40)) for one in TARGET)
        thickness = 1 if share < 0.5 else 2
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), colour, thickness)
    return labelled_tile(picture, f"frame {ready.frame_numbers[index]}, attention to regions")


def _seen(ready: Ready, prediction: Prediction, index: int) -> np.ndarray:
    """Return a frame as the model sees it, in colour, at the size of a tile."""
    window, side = prediction.window, prediction.target_flow.shape[-1]
    seen = slice(window.offset, window.offset + round(side * window.reduce))
    part = np.ascontiguousarray(ready.pictures[index][seen, seen])
    return np.asarray(cv2.resize(part, (TILE, TILE), interpolation=cv2.INTER_CUBIC))


def _panel(prediction: Prediction, max_px: float, height: int) -> np.ndarray:
    """Return the probabilities as bars, what the dots are, and the colours of the flow."""
    panel = np.full((height, _PANEL, 3), PAPER, np.uint8)
    y = 36
    for name, chance in zip(prediction.classes, prediction.probabilities, strict=True):
        first = name == prediction.predicted
        write_text(panel, f"{name} {chance:.2f}", (8, y), size=0.46, colour=INK if first else FAINT)
        width = round((_PANEL - 24) * float(chance))
        panel[y + 6 : y + 12, 8 : 9 + width] = INK if first else FAINT
        y += 32
    dots = [("landmarks by dlib", TARGET)]
    if prediction.landmarks is not None:
        dots.insert(0, ("predicted landmarks", (80, 255, 120)))
    for name, colour in dots:
        cv2.circle(panel, (14, y - 4), 5, INK, -1, cv2.LINE_AA)
        cv2.circle(panel, (14, y - 4), 4, colour, -1, cv2.LINE_AA)
        write_text(panel, name, (28, y), size=0.46)
        y += 24
    if prediction.flow is not None:
        wheel = colour_wheel(120, max_px=max_px)[: max(0, height - y)]
        panel[y : y + wheel.shape[0], 8 : 8 + wheel.shape[1]] = wheel
    return panel
