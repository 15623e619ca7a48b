from __future__ import annotations

import cv2
import numpy as np
import pytest

from mer_prep.errors import MerPrepError
from mer_prep.pictures import (
    PAPER,
    KeyFrame,
    clip_sheet,
    colour_wheel,
    draw_arrows,
    draw_landmarks,
    flow_colours,
    write_png,
    zoom_to_face,
)


def uniform(u: float, v: float, size: int = 4) -> np.ndarray:
    return np.stack([np.full((size, size), u), np.full((size, size), v)])


@pytest.mark.parametrize(
    ("motion", "lab"),
    [
        ((0, 0), (100, 0, 0)),
        ((2, 0), (65, 38, 0)),
        ((-2, 0), (65, -38, 0)),
        ((0, 2), (65, 0, 38)),
        ((0, -2), (65, 0, -38)),
        ((1, 0), (82.5, 19, 0)),
        ((50, 0), (65, 38, 0)),
    ],
)
def test_colours_of_known_motion(motion, lab):
    colours = flow_colours(uniform(*motion), max_px=2)
    assert colours.dtype == np.uint8
    found = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    assert np.abs(found - lab).max() <= 0.5


def test_equal_motions_are_equally_dark_and_larger_ones_darker():
    angles = np.radians(np.arange(0, 360, 5))
    sizes = np.array([0.0, 0.5, 1.0, 3.0])[:, None]
    flow = np.stack([sizes * np.cos(angles), sizes * np.sin(angles)])
    colours = flow_colours(flow, max_px=1)
    lightness = cv2.cvtColor(colours.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[..., 0]
    assert lightness.mean(axis=1) == pytest.approx([100, 82.5, 65, 65], abs=0.5)
    assert np.ptp(lightness, axis=1).max() < 1.5
    # What is beyond the rim looks as the rim does, and opposite motions differ.
    np.testing.assert_array_equal(colours[2], colours[3])
    assert np.abs(colours[2, 0].astype(int) - colours[2, 36]).max() > 60


def test_the_wheel_has_the_colours_of_the_flow():
    wheel = colour_wheel(121, max_px=1.5)
    assert wheel.shape == (145, 121, 3)
    # 54 px to the right of the centre, of 60 to the rim.
    expected = flow_colours(uniform(1.5 * 54 / 60, 0, size=1), max_px=1.5)[0, 0]
    np.testing.assert_array_equal(wheel[60, 114], expected)
    assert tuple(wheel[0, 0]) == PAPER
    # The scale is printed below the wheel.
    assert (wheel[122:] < 100).any()


def test_landmarks_are_drawn_where_they_are_and_the_picture_is_kept():
    image = np.zeros((40, 50, 3), np.uint8)
    drawn = draw_landmarks(image, np.array([(30.0, 10.0), (np.nan, 5)]), colour=(0, 255, 0))
    assert (image == 0).all()
    y, x = np.nonzero(drawn[..., 1] > 128)
    assert (x.mean(), y.mean()) == pytest.approx((30, 10), abs=0.2)


def test_arrows_start_at_their_pixel_and_point_along_the_flow():
    flow = np.zeros((2, 20, 20))
    flow[0, 4, 4] = 1.0
    drawn = draw_arrows(np.full((40, 40, 3), 255, np.uint8), flow, spacing=9, gain=8)
    y, x = np.nonzero(drawn[..., 0] < 128)
    # Pixel 4 of the flow is centred at 8.5 of a picture twice as large; 1 px x 8 x 2 = 16 px.
    assert x.min() == pytest.approx(8.5, abs=1)
    assert x.max() == pytest.approx(24.5, abs=1)
    assert y.mean() == pytest.approx(8.5, abs=1)


def test_weak_flow_has_no_arrows():
    image = np.full((40, 40, 3), 255, np.uint8)
    assert (draw_arrows(image, uniform(0.1, 0, 20), least_px=0.2) == 255).all()


@pytest.mark.parametrize("size", [(60.0, 200), (900.0, 200)])
def test_the_view_of_a_face_shows_its_landmarks_where_they_are(size):
    extent, side = size
    marks = np.full((68, 2), 600.0)
    marks[0], marks[16], marks[8] = (600 - extent / 2, 500), (600 + extent / 2, 500), (600, 560)
    image = np.zeros((1200, 1200, 3), np.uint8)
    for x, y in (marks[0], marks[16], marks[8]):
        cv2.circle(image, (int(x), int(y)), int(extent / 20), (255, 255, 255), -1)
    view, points = zoom_to_face(image, marks, side=side)
    assert view.shape == (side, side, 3)
    for index in (0, 16, 8):
        near = np.zeros((side, side), bool)
        x, y = np.rint(points[index]).astype(int)
        near[max(y - 9, 0) : y + 10, max(x - 9, 0) : x + 10] = True
        rows, columns = np.nonzero((view[..., 0] > 128) & near)
        assert (columns.mean(), rows.mean()) == pytest.approx(tuple(points[index]), abs=0.5)


def key_frame(title: str) -> KeyFrame:
    rng = np.random.default_rng(0)
    marks = rng.uniform(100, 200, (68, 2))
    return KeyFrame(
        title=title,
        source=rng.integers(0, 256, (300, 300, 3), dtype=np.uint8),
        landmarks=marks,
        aligned=rng.integers(0, 256, (144, 144, 3), dtype=np.uint8),
        aligned_landmarks=marks - 90,
    )


def test_a_sheet_shows_every_key_frame_and_the_flow(tmp_path):
    flow = uniform(0.5, 0, 144)
    sheet = clip_sheet(
        "casmé2/sub01/" + "a very long name " * 20,
        facts={"emotion": "happiness", "fps": 200.0},
        key_frames=[key_frame(name) for name in ("onset 1", "apex 5", "offset 9")],
        flow=flow,
        flow_title="onset-apex",
        max_px=0.5,
    )
    assert sheet.shape == (736, 1416, 3)
    # The fourth column is the flow: motion to the right at full scale.
    np.testing.assert_array_equal(sheet[250, 1080], flow_colours(flow, max_px=0.5)[0, 0])
    path = tmp_path / "sheet.png"
    write_png(path, sheet)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], sheet)


def test_a_sheet_of_a_clip_without_motion_stays_white():
    noise = np.random.default_rng(0).normal(0, 0.002, (2, 144, 144))
    sheet = clip_sheet(
        "clip", facts={}, key_frames=[key_frame("onset 1")], flow=noise, flow_title="flow"
    )
    assert sheet[130:360, 360:600].min() > 235


def test_a_picture_that_cannot_be_written(tmp_path):
    with pytest.raises(MerPrepError, match="picture cannot be written"):
        write_png(tmp_path / "gone" / "a.png", np.zeros((2, 2, 3), np.uint8))
