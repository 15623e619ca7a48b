"""Features of LBP-TOP and Bi-WOOF, and the machine that tells them apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models import bi_woof_svm, lbp_top_svm  # noqa: E402
from mer_prep.models.bi_woof_svm import BiWoofSvmConfig  # noqa: E402
from mer_prep.models.lbp_top_svm import LbpTopSvmConfig  # noqa: E402
from mer_prep.models.svm import LinearSvm, SvmConfig, hinge_loss  # noqa: E402
from mer_prep.ops.svm import linear_svm  # noqa: E402

CLIP = np.random.default_rng(0).integers(0, 256, (10, 48, 48), dtype=np.uint8)
FLOW = np.random.default_rng(1).normal(size=(2, 48, 48)).astype(np.float32)


def count(module: torch.nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def test_there_are_as_many_features_as_bins():
    # 25 blocks, 3 planes, 59 bins; and 64 blocks of 8 bins.
    assert lbp_top_svm.PRESETS["paper"].features == 25 * 3 * 59 == 4425
    assert LbpTopSvmConfig(uniform=False).features == 25 * 3 * 256
    assert LbpTopSvmConfig(neighbours=4).features == 25 * 3 * 15
    assert bi_woof_svm.PRESETS["paper"].features == 8 * 8 * 8 == 512
    assert BiWoofSvmConfig(blocks=5).features == 200
    assert count(LinearSvm(4425, 3)) == 3 * (4425 + 1)
    assert count(LinearSvm(512, 3)) == 3 * (512 + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blocks": 3},
        {"radius_x": 3},
        {"radius_y": 2},
        {"radius_t": 2},
        {"neighbours": 6},
        {"uniform": False},
    ],
    ids=str,
)
def test_every_switch_changes_the_features_of_lbp_top(changes):
    config = LbpTopSvmConfig(side=48, **changes)
    found = config.describe(CLIP)
    assert found.shape == (config.features,)
    assert found.dtype == np.float32
    # Every histogram sums to 1.
    assert found.sum() == pytest.approx(config.blocks**2 * 3, rel=1e-5)
    usual = LbpTopSvmConfig(side=48).describe(CLIP)
    assert np.array_equal(found, usual) == (not changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"blocks": 5},
        {"bins": 6},
        {"local_weight": "none"},
        {"local_weight": "strain"},
        {"global_weight": "none"},
        {"global_weight": "magnitude"},
    ],
    ids=str,
)
def test_every_switch_changes_the_features_of_bi_woof(changes):
    config = BiWoofSvmConfig(side=48, **changes)
    found = config.describe(FLOW)
    assert found.shape == (config.features,)
    assert found.dtype == np.float32
    usual = BiWoofSvmConfig(side=48).describe(FLOW)
    assert np.array_equal(found, usual) == (not changes)


@pytest.mark.parametrize(
    ("config", "values", "named"),
    [
        (LbpTopSvmConfig, {"frames": 8}, "too few for a radius of 4 frames"),
        (LbpTopSvmConfig, {"side": 16, "blocks": 15}, "blocks"),
        (LbpTopSvmConfig, {"side": 16, "blocks": 13, "radius_y": 2}, "radius_y"),
        (LbpTopSvmConfig, {"neighbours": 16}, "neighbours"),
        (LbpTopSvmConfig, {"radius_x": 0}, "radius_x"),
        (LbpTopSvmConfig, {"cost": 0}, "cost"),
        (BiWoofSvmConfig, {"bins": 1}, "bins"),
        (BiWoofSvmConfig, {"local_weight": "size"}, "local_weight"),
        (BiWoofSvmConfig, {"global_weight": "size"}, "global_weight"),
        (BiWoofSvmConfig, {"blocks": 200}, "blocks"),
        (BiWoofSvmConfig, {"side": 4}, "side"),
    ],
)
def test_what_cannot_be_is_refused(config, values, named):
    with pytest.raises(ConfigError, match=named):
        config(**values)


def samples(features: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % 3 * (torch.arange(30) % 2)
    scale = torch.tensor([1e-3, 1.0, 100.0, 7.0, 0.0])
    values = torch.randn(30, features, generator=rng) + labels[:, None]
    return values * scale + torch.tensor([0.0, 5.0, -20.0, 0.0, 0.7]), labels


def solved(**changes) -> LinearSvm:
    model = LinearSvm(5, 3)
    model.solve(*samples(), dataclasses.replace(SvmConfig(), **changes))
    return model


def test_features_are_standardised_by_those_it_is_solved_with():
    values, labels = samples()
    model = solved()
    exact = values.double().numpy()
    np.testing.assert_allclose(model.mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(model.deviation[:4], exact.std(axis=0)[:4], rtol=1e-6)
    # What never changes is not divided by nothing, and has no weight.
    assert model.deviation[4] == 1
    np.testing.assert_allclose(model.machine.weight.detach()[:, 4], 0, atol=1e-6)
    scaled = (exact - exact.mean(axis=0)) / np.where(np.arange(5) < 4, exact.std(axis=0), 1)
    weights, offsets = linear_svm(scaled, labels.numpy(), classes=3, cost=1.0)
    np.testing.assert_allclose(model(values).detach(), scaled @ weights.T + offsets, atol=1e-4)
    assert (model(values).argmax(dim=1) == labels).double().mean() > 0.8


def test_each_switch_of_the_machine_changes_what_it_says():
    values, _ = samples()
    usual = solved()(values)
    plain = solved(standardised=False)
    assert (plain.mean == 0).all()
    assert (plain.deviation == 1).all()
    for other in (plain, solved(cost=0.01), solved(balanced=False)):
        assert not torch.allclose(other(values), usual, atol=1e-3)


def test_its_precision_is_not_that_of_the_run():
    values, _ = samples()
    model = solved()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(values)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, model(values), rtol=0, atol=0)


def test_before_anything_is_solved_it_says_nothing():
    assert (LinearSvm(5, 3)(samples()[0]) == 0).all()
    with pytest.raises(NotImplementedError):
        _ = SvmConfig().features


def test_the_hinge_loss_is_that_of_a_loop():
    margins = torch.tensor([[2.0, -0.5, -3.0], [0.2, 0.4, -1.0]])
    labels = torch.tensor([0, 2])
    total = 0.0
    for row, label in zip(margins.tolist(), labels.tolist(), strict=True):
        for number, margin in enumerate(row):
            total += max(0.0, 1 - (1 if number == label else -1) * margin)
    assert hinge_loss(margins, labels).item() == pytest.approx(total / 6)
