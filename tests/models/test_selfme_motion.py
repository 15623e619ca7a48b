"""The motion stage of SelfME: key points, sparse and dense motion, and what rebuilds the apex."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from mer_prep.models.frl_dgt.warp import warp  # noqa: E402
from mer_prep.models.selfme import PRESETS  # noqa: E402
from mer_prep.models.selfme.equivariance import RandomWarp, equivariance  # noqa: E402
from mer_prep.models.selfme.hourglass import Hourglass  # noqa: E402
from mer_prep.models.selfme.key_points import (  # noqa: E402
    KeyPointDetector,
    KeyPoints,
    heat_difference,
    inverse,
    pixel_grid,
    sparse_motion,
)
from mer_prep.models.selfme.motion import DenseMotion, Motion, Rebuilder  # noqa: E402
from mer_prep.models.selfme.objective import rebuilding  # noqa: E402

SMALL = dataclasses.replace(
    PRESETS["tiny-learned"],
    side=32,
    key_points=3,
    key_point_width=4,
    motion_width=4,
    decoder_width=4,
    widest=8,
    blocks=2,
)


@pytest.fixture(autouse=True)
def _seeded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def parameters(module):
    return sum(one.numel() for one in module.parameters())


def test_the_networks_are_those_of_the_first_order_motion_model():
    # Counts of its published configuration for faces of 256 px.
    detector = KeyPointDetector(10, width=32, blocks=5, widest=1024, shrink=4, first_order=True)
    assert parameters(detector) == 14_215_368
    usual = dataclasses.replace(
        PRESETS["paper"],
        side=256,
        blocks=5,
        widest=1024,
        shrink=4,
        bspline="off",
        residual_blocks=6,
    )
    assert parameters(DenseMotion(usual)) == 37_730_268
    assert parameters(DenseMotion(usual)) + parameters(Rebuilder(usual)) == 45_575_391


def test_an_hourglass_keeps_its_input():
    network = Hourglass(3, width=4, blocks=2, widest=8)
    maps = torch.rand(2, 3, 16, 16)
    found, middle = network(maps)
    assert found.shape == (2, network.outputs, 16, 16)
    assert middle.shape == (2, network.middle, 4, 4)
    assert torch.equal(found[:, -3:], maps)


def test_key_points_are_the_means_of_their_heat_maps():
    detector = KeyPointDetector(2, width=4, blocks=2, widest=8, shrink=2, first_order=True)
    with torch.no_grad():
        for one in detector.heat.parameters():
            one.zero_()
    found = detector(torch.rand(1, 3, 32, 32))
    # The same heat everywhere: the centre of the picture, and the identity.
    torch.testing.assert_close(found.positions, torch.full((1, 2, 2), 15.5))
    torch.testing.assert_close(found.jacobians, torch.eye(2).expand(1, 2, 2, 2))
    assert pixel_grid(2, shrink=4, like=found.positions)[0, 1].tolist() == [5.5, 1.5]


def test_sparse_motion_is_the_printed_affine_map():
    onset = KeyPoints(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[[2.0, 0.0], [0.5, 1.0]]]]))
    apex = KeyPoints(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[[1.0, 1.0], [0.0, 2.0]]]]))
    grid = pixel_grid(5, shrink=1, like=onset.positions)
    found = sparse_motion(onset, apex, grid)
    assert torch.equal(found[0, 0], grid)
    jacobian = onset.jacobians[0, 0] @ torch.linalg.inv(apex.jacobians[0, 0])
    for y, x in ((0, 0), (2, 1), (4, 3)):
        expected = onset.positions[0, 0] + jacobian @ (grid[y, x] - apex.positions[0, 0])
        torch.testing.assert_close(found[0, 1, y, x], expected)
    # Without Jacobians it is the translation from the one to the other.
    plain = sparse_motion(KeyPoints(onset.positions, None), KeyPoints(apex.positions, None), grid)
    torch.testing.assert_close(plain[0, 1] - grid, torch.tensor([2.0, 2.0]).expand(5, 5, 2))


def test_inverses_stay_finite():
    matrices = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]]])
    found = inverse(matrices)
    torch.testing.assert_close(found[0], torch.linalg.inv(matrices[0]))
    assert torch.isfinite(found).all()


def test_heat_comes_where_a_point_goes():
    onset = KeyPoints(torch.tensor([[[2.0, 4.0]]]), None)
    apex = KeyPoints(torch.tensor([[[6.0, 4.0]]]), None)
    grid = pixel_grid(9, shrink=1, like=onset.positions)
    background, heat = heat_difference(onset, apex, grid, deviation=1.0)[0]
    assert background.abs().max() == 0
    assert heat[4, 6] == pytest.approx(1, abs=1e-3)
    assert heat[4, 2] == pytest.approx(-1, abs=1e-3)
    assert heat[4, 7] == pytest.approx(float(torch.exp(torch.tensor(-0.5))), abs=1e-3)


def test_the_dense_motion_is_the_mixture_that_its_masks_say():
    config = dataclasses.replace(SMALL, bspline="off")
    dense = DenseMotion(config)
    with torch.no_grad():
        dense.mask.weight.zero_()
        # All of the first key point, nothing of the others.
        dense.mask.bias.copy_(torch.tensor([-50.0, 50.0, -50.0, -50.0]))
    before = KeyPoints(torch.tensor([[[10.0, 12.0], [20.0, 20.0], [5.0, 5.0]]]), None)
    after = KeyPoints(before.positions + torch.tensor([0.25, -0.5]), None)
    field, seen = dense(torch.rand(1, 3, 32, 32), before, after)
    torch.testing.assert_close(field[0, 0], torch.full((32, 32), -0.25), atol=1e-4, rtol=0)
    torch.testing.assert_close(field[0, 1], torch.full((32, 32), 0.5), atol=1e-4, rtol=0)
    # Pictures are shrunk by 2.
    assert seen.shape == (1, 1, 16, 16)


def test_standing_key_points_are_no_motion_but_for_the_spline():
    points = KeyPoints(torch.rand(1, 3, 2) * 32, torch.eye(2).expand(1, 3, 2, 2))
    onset = torch.rand(1, 3, 32, 32)
    still = DenseMotion(dataclasses.replace(SMALL, bspline="off"))(onset, points, points)[0]
    torch.testing.assert_close(still, torch.zeros_like(still), atol=1e-4, rtol=0)
    dense = DenseMotion(SMALL)
    with torch.no_grad():
        dense.control[1].weight.zero_()
        dense.control[1].bias.copy_(torch.tensor([0.5, -1.0]))
    bent = dense(onset, points, points)[0]
    torch.testing.assert_close(
        bent, torch.tensor([0.5, -1.0])[:, None, None].expand_as(bent), atol=1e-4, rtol=0
    )


def test_a_picture_is_first_rebuilt_as_it_is_moved():
    rebuilder = Rebuilder(SMALL)
    onset, field = torch.rand(2, 3, 32, 32), 0.3 * torch.randn(2, 2, 32, 32)
    torch.testing.assert_close(rebuilder(onset, field, None), warp(onset, field), atol=0.02, rtol=0)
    dark = rebuilder(onset, field, torch.zeros(2, 1, 32, 32))
    assert not torch.equal(dark, rebuilder(onset, field, None))
    found = rebuilding(onset, onset)
    assert float(found["photometric"]) == 0
    assert float(found["structure"]) == pytest.approx(0, abs=1e-6)
    assert float(rebuilding(onset + 0.25, onset)["photometric"]) == pytest.approx(0.25)


@pytest.mark.parametrize("bend", ["thin-plate", "spline"])
def test_points_that_follow_a_warp_cost_nothing(bend):
    pictures = torch.rand(2, 3, 32, 32)
    truth = KeyPoints(8 + 16 * torch.rand(2, 4, 2), torch.eye(2) + 0.1 * torch.randn(2, 4, 2, 2))
    torch.manual_seed(1)
    one = RandomWarp(2, bend=bend, side=32, device=pictures.device)

    def detect(_):
        # Points of the warped picture are where T takes them to the true ones.
        points = truth.positions.clone()
        for _step in range(50):
            points = points - (one(points) - truth.positions)
        through = torch.linalg.solve(one.derivative(points), truth.jacobians)
        return KeyPoints(points, through)

    torch.manual_seed(1)
    losses = equivariance(detect, pictures, truth, bend=bend)
    assert float(losses["points"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["jacobians"]) == pytest.approx(0, abs=1e-4)
    torch.manual_seed(1)
    stays = equivariance(lambda _: truth, pictures, truth, bend=bend)
    assert float(stays["points"]) > 0.01
    plain = KeyPoints(truth.positions, None)
    assert set(equivariance(lambda _: plain, pictures, plain, bend=bend)) == {"points"}


def test_a_warped_picture_shows_what_was_there():
    one = RandomWarp(1, bend="thin-plate", side=16, device=torch.device("cpu"))
    grid = pixel_grid(16, shrink=1, like=one.affine)
    # A picture of its own coordinates shows where T takes every pixel.
    pictures = grid.permute(2, 0, 1)[None]
    inside = one(grid.flatten(0, 1)[None]).unflatten(1, (16, 16)).clamp(0, 15)
    torch.testing.assert_close(one.picture(pictures)[0].permute(1, 2, 0), inside[0])
    torch.manual_seed(4)
    first = RandomWarp(1, bend="spline", side=16, device=torch.device("cpu"))
    torch.manual_seed(4)
    second = RandomWarp(1, bend="thin-plate", side=16, device=torch.device("cpu"))
    point = torch.tensor([[[3.0, 9.0]]])
    assert not torch.allclose(first(point), second(point))


def test_rebuilding_teaches_the_motion_of_a_moved_texture():
    side = 32
    smooth = torch.nn.functional.interpolate(torch.rand(4, 3, 8, 8), size=side, mode="bicubic")
    shift = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    field = shift[:, :, None, None].expand(4, 2, side, side)
    apex = warp(smooth, field)
    motion = Motion(SMALL)
    optimiser = torch.optim.Adam(motion.parameters(), 1e-2)

    def error():
        with torch.no_grad():
            return float((motion(smooth, apex)[0] - field).norm(dim=1).mean())

    for _ in range(20):
        displacement, seen, _points = motion(smooth, apex)
        losses = rebuilding(motion.rebuilder(smooth, displacement, seen), apex)
        optimiser.zero_grad()
        sum(losses.values()).backward()
        optimiser.step()
    # No motion errs by 1 px.
    assert error() < 0.5
