from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.models.f5c import (  # noqa: E402
    CCC_VARIANTS,
    F5C,
    FCC_VARIANTS,
    ChannelCorrespondence,
    FullyConnectedConvolution,
    PositionCorrespondence,
    SplitConvolution,
    circular_convolution,
)

CHANNELS, SIZE, K = 8, 6, 3


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def features():
    return torch.randn(2, CHANNELS, SIZE, SIZE)


def close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=2e-5)


def test_circular_convolution_against_the_sum_of_equation_2(features):
    kernel = torch.randn(CHANNELS, SIZE)
    x, u = features.numpy(), kernel.numpy()
    vertical = sum(u[:, s][:, None, None] * np.roll(x, -s, axis=2) for s in range(SIZE))
    horizontal = sum(u[:, s][:, None, None] * np.roll(x, -s, axis=3) for s in range(SIZE))
    close(circular_convolution(features, kernel, direction="vertical"), vertical)
    close(circular_convolution(features, kernel, direction="horizontal"), horizontal)
    by_hand = sum(u[5, s] * x[1, 5, (4 + s) % SIZE, 2] for s in range(SIZE))
    assert vertical[1, 5, 4, 2] == pytest.approx(by_hand, abs=1e-5)


def directed(x, module, axis):
    """Equations (1) to (3) written out: embedding, then circular sum."""
    p, u = module.embedding.detach().numpy(), module.kernel.detach().numpy()
    shape = (-1, 1) if axis == 2 else (1, -1)
    x = x + p.reshape(len(p), *shape)
    return sum(u[:, s][:, None, None] * np.roll(x, -s, axis=axis) for s in range(SIZE))


def pointwise(x, convolution):
    weight = convolution.weight.detach().numpy()[:, :, 0, 0]
    bias = convolution.bias.detach().numpy()[:, None, None]
    return np.einsum("oc,bchw->bohw", weight, x) + bias


def test_fcc_of_the_paper_is_two_orders_between_pointwise_convolutions(features):
    fcc = FullyConnectedConvolution(CHANNELS, SIZE)
    (vertical_1, horizontal_1), (horizontal_2, vertical_2) = fcc.branches
    prepared = pointwise(features.numpy(), fcc.before)
    first = directed(directed(prepared, vertical_1, 2), horizontal_1, 3)
    second = directed(directed(prepared, horizontal_2, 3), vertical_2, 2)
    close(fcc(features), pointwise(np.concatenate([first, second], axis=1), fcc.after))


@pytest.mark.parametrize("directions", ["vertical", "horizontal"])
def test_fcc_in_one_direction(features, directions):
    fcc = FullyConnectedConvolution(CHANNELS, SIZE, directions=directions)
    (branch,) = fcc.branches
    axis = 2 if directions == "vertical" else 3
    middle = directed(pointwise(features.numpy(), fcc.before), branch[0], axis)
    close(fcc(features), pointwise(middle, fcc.after))


def test_fcc_of_the_code_uses_half_of_what_it_declares(features):
    fcc = SplitConvolution(CHANNELS, SIZE).eval()
    with torch.no_grad():
        for norm in fcc.norms:
            norm.running_mean.uniform_(-1, 1)
            norm.weight.uniform_(0.5, 2)
    expected = []
    parts = np.split(features.numpy(), 2, axis=1)
    for half, (part, axes) in enumerate(zip(parts, ((2, 3), (3, 2)), strict=True)):
        norm = fcc.norms[half]
        for index, (module, axis) in enumerate(
            zip((fcc.first[half], fcc.second[half]), axes, strict=True)
        ):
            shape = (-1, 1) if axis == 2 else (1, -1)
            embedding = module.embedding.detach().numpy()[:, :SIZE]
            kernel = module.kernel.detach().numpy()[:, :SIZE]
            part = part + embedding.reshape(len(embedding), *shape)
            if index == 0:
                part = norm(torch.from_numpy(part)).detach().numpy()
            part = sum(
                kernel[:, s][:, None, None] * np.roll(part, -s, axis=axis) for s in range(SIZE)
            )
            part = part + module.bias.detach().numpy()[:, None, None]
        expected.append(part)
    close(fcc(features), features.numpy() + np.concatenate(expected, axis=1))
    fcc(features).sum().backward()
    assert all(parameter.grad is None for parameter in fcc.unused.parameters())


def neighbours(vectors, count, exclude_self):
    """Return, by a plain loop, the indices of the largest cosines."""
    chosen = []
    for i, one in enumerate(vectors):
        cosines = [
            -np.inf
            if exclude_self and i == j
            else one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
            for j, other in enumerate(vectors)
        ]
        chosen.append(np.argsort(cosines)[::-1][:count])
    return chosen


@pytest.mark.parametrize("exclude_self", [True, False])
def test_ccc_of_the_paper_against_equations_4_and_5_in_loops(features, exclude_self):
    ccc = ChannelCorrespondence(CHANNELS, SIZE, neighbours=K, exclude_self=exclude_self)
    v1, v2 = (layer.weight.detach().numpy() for layer in (ccc.own, ccc.other))
    bias = (ccc.own.bias + ccc.other.bias).detach().numpy()
    expected = np.empty(features.shape)
    for b, sample in enumerate(features.flatten(2).numpy()):
        for i, chosen in enumerate(neighbours(sample, K, exclude_self)):
            edges = [
                np.maximum(v1 @ sample[i] + v2 @ (sample[j] - sample[i]) + bias, 0) for j in chosen
            ]
            expected[b, i] = np.max(edges, axis=0).reshape(SIZE, SIZE)
    close(ccc(features), pointwise(expected, ccc.after))


def test_ccc_of_the_code_against_its_loops(features):
    ccc = PositionCorrespondence(CHANNELS, SIZE, neighbours=K)
    v1, v2 = (layer.weight.detach().numpy() for layer in (ccc.own, ccc.other))
    b1, b2 = (layer.bias.detach().numpy() for layer in (ccc.own, ccc.other))
    expected = np.empty((2, CHANNELS, SIZE * SIZE))
    for b, sample in enumerate(features.flatten(2).numpy()):
        chosen = np.array(neighbours(sample.T, K, exclude_self=False))
        np.testing.assert_array_equal(chosen[:, 0], np.arange(SIZE * SIZE))
        for c, x in enumerate(sample):
            edges = []
            for j in range(K):
                gathered = x[chosen[:, j]] - x
                edges.append(np.maximum(v1 @ x + b1 + v2 @ (gathered - x) + b2, 0))
            expected[b, c] = np.max(edges, axis=0)
    close(ccc(features), expected.reshape(features.shape))


@pytest.mark.parametrize("fcc", FCC_VARIANTS)
@pytest.mark.parametrize("ccc", CCC_VARIANTS)
def test_every_form_keeps_the_shape_and_learns(features, fcc, ccc):
    block = F5C(CHANNELS, SIZE, fcc=fcc, ccc=ccc, neighbours=K)
    found = block(features)
    assert found.shape == features.shape
    if fcc == ccc == "none":
        torch.testing.assert_close(found, features)
        return
    found.square().sum().backward()
    used = [p for name, p in block.named_parameters() if "unused" not in name]
    assert used
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in used)


def test_both_parts_are_residual(features):
    block = F5C(CHANNELS, SIZE, neighbours=K)
    mixed = block.fcc(features) + features
    close(block(features), (mixed + block.ccc(mixed)).detach().numpy())
