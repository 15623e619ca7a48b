"""Parts of a face as the quarters of a picture."""

from __future__ import annotations

import numpy as np
import pytest

from mer_prep.ops.face_parts import face_parts


def marks(left_eye, right_eye, left_corner, right_corner):
    points = np.full((68, 2), np.nan)
    points[36:42], points[42:48] = left_eye, right_eye
    points[48], points[54] = left_corner, right_corner
    return points


def test_every_part_lies_in_its_quarter_and_keeps_x_and_y_apart():
    y, x = np.mgrid[:28, :28].astype(np.float32)
    image = np.stack([x, y])
    # The square around 9.5 reaches from px 3 to px 16.
    points = marks((9.5, 8.5), (19.5, 10.5), (10.5, 20.5), (18.5, 19.5))
    found = face_parts(image, points)
    for quarter, (left, top) in {
        (0, 0): (3, 2),
        (0, 1): (13, 4),
        (1, 0): (4, 14),
        (1, 1): (12, 13),
    }.items():
        row, column = (14 * one for one in quarter)
        part = found[:, row : row + 14, column : column + 14]
        np.testing.assert_array_equal(part, image[:, top : top + 14, left : left + 14])


def test_parts_beyond_the_border_are_moved_into_the_picture():
    image = np.arange(64.0).reshape(1, 8, 8)
    found = face_parts(image, marks((-3, -3), (40, 1), (0, 9), (7, 7)))
    np.testing.assert_array_equal(found[:, :4, :4], image[:, :4, :4])
    np.testing.assert_array_equal(found[:, :4, 4:], image[:, :4, 4:])
    np.testing.assert_array_equal(found[:, 4:, :4], image[:, 4:, :4])
    np.testing.assert_array_equal(found[:, 4:, 4:], image[:, 4:, 4:])


def test_only_square_pictures_with_an_even_side_have_quarters():
    for shape in ((1, 7, 7), (1, 8, 6), (8, 8)):
        with pytest.raises(ValueError, match=r"\(C, S, S\)"):
            face_parts(np.zeros(shape), np.zeros((68, 2)))
