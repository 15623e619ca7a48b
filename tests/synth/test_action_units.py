from __future__ import annotations

import itertools

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.synth.action_units import (
    ACTION_UNITS,
    EMOTIONS,
    blink_field,
    draw_coding,
    expression_field,
    parse_units,
    unit_field,
)
from mer_prep.synth.fields import invert_displacement, join_fields
from mer_prep.synth.landmarks import mirror_landmarks
from mer_prep.synth.portraits import load_portrait, portrait_names

FACE = load_portrait("grace_hopper").landmarks
X, Y = np.arange(100.0, 420.0, 4), np.arange(90.0, 410.0, 4)


def dense(coding, peak=1.0, landmarks=FACE):
    return expression_field(coding, landmarks, peak=peak).on_grid(X, Y)


def test_codings_are_read_with_sides():
    assert parse_units("4+R12 + L14") == [(4, ""), (12, "R"), (14, "L")]


@pytest.mark.parametrize("coding", ["", "4+", "99", "X4", "4,5"])
def test_bad_codings_are_errors(coding):
    with pytest.raises(ConfigError, match="action unit"):
        parse_units(coding)


@pytest.mark.parametrize(
    ("number", "point", "direction"),
    [
        (1, 21, (0, -1)),
        (2, 18, (0, -1)),
        (4, 21, (1, 1)),
        (5, 37, (0, -1)),
        (7, 41, (0, -1)),
        (9, 31, (0, -1)),
        (10, 50, (0, -1)),
        (12, 48, (-1, -1)),
        (14, 48, (-1, 0)),
        (15, 48, (0, 1)),
        (17, 57, (0, -1)),
        (20, 48, (-1, 0)),
        (23, 48, (1, 0)),
        (24, 51, (0, 1)),
        (25, 57, (0, 1)),
        (26, 8, (0, 1)),
    ],
)
def test_units_move_landmarks_as_facs_says(number, point, direction):
    moved = unit_field(number, "", FACE)(FACE[point])
    assert np.hypot(*moved) > 0.3
    assert moved @ direction / np.hypot(*moved) / np.hypot(*direction) > 0.85


def test_cheek_raiser_lifts_the_cheek():
    cheek = (FACE[41] + FACE[40]) / 2 + [0, 20]
    assert unit_field(6, "", FACE)(cheek)[1] < -0.5


def test_left_and_right_are_the_subjects_own():
    right, left = unit_field(12, "R", FACE), unit_field(12, "L", FACE)
    assert np.hypot(*right(FACE[48])) > 0.5
    assert np.hypot(*right(FACE[54])) < 0.05
    assert np.hypot(*left(FACE[54])) > 0.5
    assert np.hypot(*left(FACE[48])) < 0.05


@pytest.mark.parametrize("number", sorted(ACTION_UNITS))
def test_mirrored_faces_move_mirrored(number):
    mirrored_face = mirror_landmarks(FACE, width=512)
    points = np.stack(np.meshgrid(X, Y), axis=-1)
    flipped = points * [-1, 1] + [511, 0]
    here = unit_field(number, "L", FACE)(points)
    there = unit_field(number, "R", mirrored_face)(flipped) * [-1, 1]
    np.testing.assert_allclose(there, here, atol=1e-3)


@pytest.mark.parametrize("coding", sorted({c for codings in EMOTIONS.values() for c in codings}))
@pytest.mark.parametrize("portrait", portrait_names())
def test_peak_is_as_asked_and_nothing_folds(coding, portrait):
    face = load_portrait(portrait).landmarks
    field = expression_field(coding, face, peak=3.0)
    assert field.peak() == pytest.approx(3.0, rel=1e-4)
    blinking = join_fields(field, blink_field(face))
    points = np.stack(
        np.meshgrid(
            np.arange(face[:, 0].min(), face[:, 0].max(), 3.0),
            np.arange(face[:, 1].min() - 20, face[:, 1].max(), 1.5),
        ),
        axis=-1,
    )
    solved = invert_displacement(blinking, points)
    np.testing.assert_allclose(solved + blinking(solved), points, atol=1e-5)


def test_all_codings_differ():
    fields = {}
    for coding in sorted({c for codings in EMOTIONS.values() for c in codings}):
        field = dense(coding)
        fields[coding] = field / np.linalg.norm(field)
    for a, b in itertools.combinations(fields, 2):
        assert abs(np.vdot(fields[a], fields[b])) < 0.97, (a, b)


def test_emotions_differ_even_at_their_nearest():
    # Codings of one emotion may be alike; those of two emotions keep clearly apart.
    for (a, codings_a), (b, codings_b) in itertools.combinations(EMOTIONS.items(), 2):
        for x, y in itertools.product(codings_a, codings_b):
            p, q = dense(x), dense(y)
            similarity = np.vdot(p, q) / np.linalg.norm(p) / np.linalg.norm(q)
            assert similarity < 0.9, (a, x, b, y)


def test_codings_are_drawn_from_the_emotion():
    drawn = {draw_coding("fear", np.random.default_rng(seed))[0] for seed in range(40)}
    assert drawn == set(EMOTIONS["fear"])
    coding, strengths = draw_coding("anger", np.random.default_rng(1))
    assert set(strengths) == {number for number, _ in parse_units(coding)}
    assert all(0.75 <= value <= 1.25 for value in strengths.values())
    with pytest.raises(ConfigError, match="happiness"):
        draw_coding("hapiness", np.random.default_rng(0))


def test_blink_closes_the_upper_lids_only():
    field = blink_field(FACE)
    opening = FACE[[41, 40, 47, 46], 1].mean() - FACE[[37, 38, 43, 44], 1].mean()
    assert field(FACE[[37, 38, 43, 44]])[:, 1].min() > 0.4 * opening
    assert np.abs(field(FACE[[36, 39, 42, 45]])).max() < 0.35 * opening
    assert np.abs(field(FACE[[19, 24, 30, 48]])).max() < 0.05
