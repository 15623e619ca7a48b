"""SelfME put together: sizes, regions that keep to themselves, amplification, switches."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.frl_dgt.warp import mirror_field  # noqa: E402
from mer_prep.models.selfme import PRESETS, Selfme, SelfmeConfig  # noqa: E402
from mer_prep.models.selfme.amplify import STILL, Amplifier  # noqa: E402
from mer_prep.models.selfme.transformer import MotionTransformer  # noqa: E402
from mer_prep.training.methods import architecture  # noqa: E402

SMALL = dataclasses.replace(
    PRESETS["tiny-learned"],
    side=32,
    key_points=3,
    key_point_width=4,
    motion_width=4,
    decoder_width=4,
    widest=8,
    blocks=2,
    width=16,
    hidden=32,
    projection=8,
)


@pytest.fixture(autouse=True)
def _seeded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def transformer(**changes):
    return MotionTransformer(dataclasses.replace(SMALL, **changes), 3).eval()


def test_the_size_of_the_transformer():
    parts: dict[str, int] = {}
    for name, one in MotionTransformer(PRESETS["paper"], 3).named_parameters():
        parts[name.partition(".")[0]] = parts.get(name.partition(".")[0], 0) + one.numel()
    assert parts["embedding"] + parts["positions"] + parts["layers"] == 2_157_824
    assert parts["regions"] == parts["region_tokens"] == 4 * 256
    plain = dict(
        MotionTransformer(
            dataclasses.replace(PRESETS["paper"], classifier="vit"), 3
        ).named_parameters()
    )
    # A plain transformer has a position for each of 16 x 16 patches, and nothing to contrast.
    assert plain["positions"].shape == (256, 256)
    assert not any(name.startswith(("projection", "region")) for name in plain)


def test_what_a_region_says_is_of_that_region_alone():
    model = transformer()
    field = torch.randn(1, 2, 32, 32)
    other = field.clone()
    other[:, :, :16, 16:] += 1
    before, after = model(field), model(other)
    changed = (before.features - after.features).abs().amax(dim=2)[0] > 1e-6
    assert changed.tolist() == [False, True, False, False]
    assert not torch.allclose(before.logits, after.logits)
    torch.testing.assert_close(after.features.norm(dim=-1), torch.ones(1, 4))


def test_mirrored_faces_exchange_their_regions():
    model = transformer()
    with torch.no_grad():
        for one in (model.regions, model.region_tokens):
            one.zero_()
    field = torch.randn(2, 2, 32, 32)
    features, turned = (model(one).features for one in (field, mirror_field(field)))
    torch.testing.assert_close(turned[:, [1, 0, 3, 2]], features, atol=1e-5, rtol=0)


@pytest.mark.parametrize("classifier", ["scvit", "vit"])
def test_attention_is_that_of_the_last_layer(classifier):
    model = transformer(classifier=classifier)
    found = model(torch.randn(3, 2, 32, 32))
    torch.testing.assert_close(found.attention.sum(dim=1), torch.ones(3))
    assert (found.features is None) == (classifier == "vit")
    # Keys of nothing but a bias: every token counts the same, and so does every region.
    last = model.layers[-1]
    with torch.no_grad():
        last.self_attn.in_proj_weight.zero_()
    even = model(torch.randn(1, 2, 32, 32)).attention
    torch.testing.assert_close(even, torch.full((1, 4), 0.25))


def test_the_attention_is_what_the_library_computes():
    model = transformer()
    layer = model.layers[-1]
    tokens = torch.randn(2, 1 + 4 + 4 * model.patches, 16)
    seen = layer.norm1(tokens)
    _, weights = layer.self_attn(seen, seen, seen, need_weights=True)
    row = weights[:, 0, 1:]
    expected = torch.stack([row[:, model.owner[1:] == one].sum(dim=1) for one in range(4)], dim=1)
    torch.testing.assert_close(
        model._looked(layer, tokens), expected / expected.sum(dim=1, keepdim=True)
    )


def test_the_statistics_are_those_of_all_training_samples_so_far():
    scale = torch.tensor([0.5, 2.0])[None, :, None, None]
    batches = [torch.randn(5, 2, 9, 9) * scale + 3 for _ in range(4)]
    amplifier = Amplifier(gamma=2.0)
    for one in batches:
        last = amplifier(one)
    everything = torch.cat(batches)
    mean = everything.mean(dim=(0, 2, 3), keepdim=True)
    deviation = everything.std(dim=(0, 2, 3), keepdim=True, correction=0)
    expected = 2 * (batches[-1] - mean) / deviation
    torch.testing.assert_close(last, expected, atol=1e-4, rtol=0)
    amplifier.eval()
    torch.testing.assert_close(amplifier(batches[-1]), expected, atol=1e-4, rtol=0)
    assert float(amplifier.batches) == 4


def test_amplification_is_not_lost_in_the_normalisation():
    field = torch.randn(6, 2, 8, 8)
    found = {}
    for gamma in (1.0, 3.0):
        amplifier = Amplifier(gamma=gamma)
        amplifier(field)
        found[gamma] = amplifier.eval()(field)
    torch.testing.assert_close(found[3.0], 3 * found[1.0])
    still = Amplifier(gamma=1.0)
    quiet = torch.full((2, 2, 4, 4), 0.01)
    quiet[0] = 0
    still(quiet)
    # What hardly moves is not blown up to size 1.
    assert float(still.eval()(quiet).abs().max()) == pytest.approx(0.005 / STILL, rel=1e-4)


def test_jitter_amplifies_each_sample_on_its_own_in_training_alone():
    field = torch.randn(64, 2, 4, 4)
    plain, jittered = Amplifier(gamma=2.0), Amplifier(gamma=2.0, jitter=0.5)
    ratio = (jittered(field) / plain(field)).flatten(1)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), atol=1e-3, rtol=0)
    assert 0.5 <= float(ratio.min()) < 0.6
    assert 1.4 < float(ratio.max()) <= 1.5
    torch.testing.assert_close(jittered.eval()(field), plain.eval()(field))


def inputs(batch=2):
    points = 4 + 24 * torch.rand(batch, 2, 68, 2)
    return torch.rand(batch, 2, 3, 32, 32), points, torch.randn(batch, 1, 2, 32, 32)


@pytest.mark.parametrize("bspline", ["ffd", "equivariance", "off"])
def test_every_place_of_the_spline_rebuilds(bspline):
    model = Selfme(dataclasses.replace(SMALL, bspline=bspline), 3)
    output = model(*inputs(), recognise=False)
    assert set(output.rebuilt) == {"photometric", "structure", "points", "jacobians"}
    assert output.logits is None
    sum(output.rebuilt.values()).backward()
    learned = {name for name, one in model.named_parameters() if one.grad is not None}
    assert {name.partition(".")[0] for name in learned} == {"motion"}
    assert any(".control." in name for name in learned) == (bspline == "ffd")


def test_the_kind_of_random_warps_follows_the_switch():
    found = {}
    for bspline in ("off", "equivariance"):
        torch.manual_seed(0)
        model = Selfme(dataclasses.replace(SMALL, bspline=bspline), 3)
        torch.manual_seed(1)
        given = inputs()
        torch.manual_seed(2)
        found[bspline] = model(*given, recognise=False).rebuilt
    assert found["off"]["photometric"] == found["equivariance"]["photometric"]
    assert found["off"]["points"] != found["equivariance"]["points"]


def test_classes_never_change_the_motion():
    model = Selfme(SMALL, 3)
    output = model(*inputs())
    output.logits.sum().backward()
    moved = {name for name, one in model.named_parameters() if one.grad is not None}
    assert not any(name.startswith("motion.") for name in moved)
    assert any(name.startswith("transformer.") for name in moved)
    assert output.displacement.shape == (2, 2, 32, 32)
    assert not output.displacement.requires_grad


@pytest.mark.parametrize(
    ("changes", "part", "there"),
    [
        ({"first_order": False}, "motion.detector.jacobian", False),
        ({"occlusion": False}, "motion.dense.occlusion", False),
        ({"motion": "tvl1"}, "motion.", False),
        ({}, "motion.dense.control", True),
        ({"bspline": "off"}, "motion.dense.control", False),
        ({"classifier": "vit"}, "transformer.projection", False),
    ],
)
def test_switches_decide_what_there_is(changes, part, there):
    names = [
        name for name, _ in Selfme(dataclasses.replace(SMALL, **changes), 3).named_parameters()
    ]
    assert any(name.startswith(part) for name in names) == there


@pytest.mark.parametrize("changes", [{"midline": "centre"}, {"gamma": 1.0}])
def test_switches_of_the_classes_change_what_is_said(changes):
    found = []
    for config in (SMALL, dataclasses.replace(SMALL, **changes)):
        torch.manual_seed(0)
        model = Selfme(dataclasses.replace(config, motion="tvl1", jitter=0.0, dropout=0.0), 3)
        torch.manual_seed(1)
        found.append(model(*inputs()).logits)
    assert not torch.allclose(*found, atol=1e-5)


def test_flow_is_needed_where_no_motion_is_learned():
    model = Selfme(dataclasses.replace(SMALL, motion="tvl1"), 3)
    frames, landmarks, flow = inputs()
    with pytest.raises(ValueError, match="needs optical flow"):
        model(frames, landmarks)
    with pytest.raises(ValueError, match="no motion stage"):
        model(frames, landmarks, flow, recognise=False)
    assert model(frames, landmarks, flow).displacement is None


def test_mixed_precision_keeps_what_is_small():
    model = Selfme(SMALL, 3).eval()
    frames, landmarks, _ = inputs()
    frames[:, 1] = (frames[:, 0] + 0.01 * torch.randn(2, 3, 32, 32)).clamp(0, 1)
    exact = model(frames, landmarks).displacement
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(frames, landmarks).displacement
    assert float((exact - rounded).abs().mean()) < 0.05


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="multiple of 16"):
        SelfmeConfig(side=120)
    with pytest.raises(ConfigError, match="'width'"):
        SelfmeConfig(width=30)
    # TV-L1 flow needs no networks that halve pictures.
    assert SelfmeConfig(side=80, motion="tvl1").side == 80
    with pytest.raises(ConfigError, match="multiple of 32"):
        SelfmeConfig(side=80)
    with pytest.raises(ConfigError, match="Did you mean 'scvit'"):
        architecture("selfme", "paper", {"classifier": "scvitt"})
