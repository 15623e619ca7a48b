"""The symmetric contrastive loss against a loop written from the printed formula."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.selfme.contrast import contrasted_pairs, symmetric_contrast  # noqa: E402


def loop(features, labels, tau, pairs):
    """The formula of the slides, sum by sum."""
    total = 0.0
    batch = range(len(features))
    for i in batch:
        for a, b in pairs:
            everyone = [q for q in batch if a != b or q != i]
            positives = [p for p in everyone if labels[p] == labels[i]]
            if not positives:
                continue
            below = sum(math.exp(float(features[i, a] @ features[q, b]) / tau) for q in everyone)
            inner = 0.0
            for p in positives:
                above = math.exp(float(features[i, a] @ features[p, b]) / tau)
                inner += math.log(above / below)
            total += -inner / len(positives)
    return total


def unit(*shape):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


@pytest.mark.parametrize("kind", ["symmetric", "all"])
@pytest.mark.parametrize("tau", [0.07, 0.5])
def test_it_is_the_printed_formula(kind, tau):
    features, labels = unit(7, 4, 5), torch.tensor([0, 1, 0, 2, 1, 0, 1])
    expected = loop(features, labels.tolist(), tau, contrasted_pairs(kind))
    found = symmetric_contrast(features, labels, tau=tau, contrasted=kind)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_a_region_meets_itself_and_its_mirror_image():
    # left upper, right upper, left lower, right lower
    assert contrasted_pairs() == (
        *((0, 0), (0, 1), (1, 0), (1, 1)),
        *((2, 2), (2, 3), (3, 2), (3, 3)),
    )
    assert len(contrasted_pairs("all")) == 16
    with pytest.raises(ConfigError, match="contrasted"):
        contrasted_pairs("none")


def test_two_faces_by_hand():
    # Two faces of one class, all regions alike: with itself each has one other to choose, and the
    # loss is 0; with the mirror image it has two, alike, and both count.
    features = torch.zeros(2, 4, 3)
    features[..., 0] = 1
    alike = symmetric_contrast(features, torch.tensor([1, 1]))
    assert float(alike) == pytest.approx(2 * 4 * math.log(2), rel=1e-5)
    # Of two classes, a face has no positive but its own other half.
    apart = symmetric_contrast(features, torch.tensor([0, 1]))
    assert float(apart) == pytest.approx(2 * 4 * math.log(2), rel=1e-5)


def test_one_face_alone_has_nothing_to_learn():
    assert float(symmetric_contrast(unit(1, 4, 3), torch.tensor([0]))) == 0
    lonely = unit(2, 4, 3).requires_grad_()
    symmetric_contrast(lonely, torch.tensor([0, 1])).backward()
    assert torch.isfinite(lonely.grad).all()


def test_symmetric_faces_of_their_own_class_are_what_it_asks_for():
    labels = torch.tensor([0, 0, 1, 1])
    eye = torch.eye(8)
    best = eye[[0, 0, 1, 1]][:, None].expand(4, 4, 8)
    lopsided = best.clone()
    lopsided[:, 1] = eye[[2, 2, 3, 3]]
    assert symmetric_contrast(best, labels) < symmetric_contrast(lopsided, labels)
    mixed = best[[0, 2, 1, 3]]
    assert symmetric_contrast(best, labels) < symmetric_contrast(mixed, labels)
