from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.models.frl_dgt.objective import (  # noqa: E402
    EDGE,
    WEIGHTS,
    grey,
    self_supervision,
    smoothness,
    structural_similarity,
)
from mer_prep.models.frl_dgt.warp import warp  # noqa: E402


def test_grey_pictures_stay_as_they_are():
    picture = torch.rand(2, 1, 5, 5)
    torch.testing.assert_close(grey(picture.expand(-1, 3, -1, -1)), picture)


def test_the_right_field_of_a_translation_costs_nothing():
    onset = torch.rand(1, 3, 20, 20)
    field = torch.tensor([1.0, -0.5])[None, :, None, None].expand(1, 2, 20, 20)
    parts = self_supervision(onset, warp(onset, field), field)
    assert parts.keys() == WEIGHTS.keys()
    assert max(part.item() for part in parts.values()) < 1e-5
    still = self_supervision(onset, warp(onset, field), torch.zeros_like(field))
    assert still["photometric"] > 0.05
    assert still["structure"] > 0.05


def test_structural_similarity_of_one_window_by_hand():
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 7, 7))
    covariance = np.mean(a * b) - a.mean() * b.mean()
    expected = ((2 * a.mean() * b.mean() + 0.01**2) * (2 * covariance + 0.03**2)) / (
        (a.mean() ** 2 + b.mean() ** 2 + 0.01**2) * (a.var() + b.var() + 0.03**2)
    )
    found = structural_similarity(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None])
    assert found.shape == (1, 1, 1, 1)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_structural_similarity_of_a_picture_with_itself():
    picture = torch.rand(1, 1, 16, 16)
    torch.testing.assert_close(structural_similarity(picture, picture), torch.ones(1, 1, 10, 10))


def test_smoothness_by_hand_spares_edges():
    """u rises by 1 from each column to the next; one column of the guide starts a step of 0.5."""
    field = torch.zeros(1, 2, 3, 5)
    field[:, 0] = torch.arange(5.0)
    assert smoothness(field, torch.zeros(1, 1, 3, 5)).item() == pytest.approx(0.5)
    guide = (torch.arange(5) >= 2).float().expand(1, 1, 3, 5) / 2
    expected = (3 + np.exp(-EDGE / 2)) / 4 / 2
    assert smoothness(field, guide).item() == pytest.approx(expected, rel=1e-5)
