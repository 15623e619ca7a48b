from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.mol import FUSIONS, PRESETS, Mol, fuse  # noqa: E402
from mer_prep.training.methods import architecture  # noqa: E402


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_preset_code_has_the_parameters_of_the_published_code():
    model = Mol(PRESETS["code"], 3)
    assert count(model) == 44_104_865
    parts = {name: count(part) for name, part in model.named_children()}
    assert parts == {
        "encoder": 19_048,
        "blocks": 2 * (17_794 + 131_584),
        "flow": 39_730_282,
        "landmarks": 3_318_440,
        "expression": 738_339,
    }
    assert count(Mol(PRESETS["code"], 5)) == 44_105_379


def test_the_preset_paper_shares_its_block():
    parts = {name: count(part) for name, part in Mol(PRESETS["paper"], 3).named_children()}
    pointwise = 128 * 128 + 128
    fcc = pointwise + (256 * 128 + 128) + 8 * 128 * 16
    assert parts["blocks"] == fcc + 2 * (256 * 256 + 256) + pointwise


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_of_the_outputs(name):
    config = PRESETS[name]
    model = Mol(config, 3).eval()
    with torch.no_grad():
        found = model(torch.rand(1, config.frames, config.side, config.side))
    pairs = config.frames - 1
    assert found.logits.shape == (1, 3)
    assert found.flow.shape == (1, pairs, 2, config.side, config.side)
    assert found.landmarks.shape == (1, pairs, 68, 2)


@pytest.mark.parametrize(
    "changes",
    [
        *({"fusion": fusion} for fusion in FUSIONS),
        {"blocks": 0},
        {"blocks": 2},
        {"flow": False},
        {"landmarks": False},
        {"flow": False, "landmarks": False},
        {"frames": 2},
        {"frames": 16},
        {"share_blocks": False},
    ],
)
def test_the_ablations_of_the_paper_learn(changes):
    torch.manual_seed(0)
    model = Mol(architecture("mol", "tiny", changes), 3)
    found = model(torch.rand(2, model.config.frames, 64, 64))
    assert (found.flow is None) == (not model.config.flow)
    assert (found.landmarks is None) == (not model.config.landmarks)
    loss = found.logits.square().sum()
    for extra in (found.flow, found.landmarks):
        loss = loss if extra is None else loss + extra.square().mean()
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_fusions_by_hand():
    firsts, seconds = torch.arange(3.0), torch.arange(3.0) + 10
    shaped = [one.reshape(1, 3, 1, 1, 1) for one in (firsts, seconds)]
    expected = {
        "concatenate": [0, 10, 1, 11, 2, 12],
        "first": [0, 1, 2],
        "last": [10, 11, 12],
        "frames": [0, 1, 2, 12],
        "add": [10, 12, 14],
        "subtract": [10, 10, 10],
    }
    for fusion, values in expected.items():
        assert fuse(*shaped, fusion).flatten().tolist() == values


def test_clips_do_not_depend_on_each_other():
    torch.manual_seed(0)
    model = Mol(PRESETS["tiny"], 3).eval()
    frames = torch.rand(3, 4, 64, 64)
    with torch.no_grad():
        together, alone = model(frames), model(frames[1:2])
    torch.testing.assert_close(alone.logits[0], together.logits[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone.flow[0], together.flow[1], atol=1e-4, rtol=1e-3)


def test_the_first_guess_of_landmarks_is_given():
    model = Mol(PRESETS["tiny"], 3)
    mean = torch.rand(68, 2) * 60
    model.landmarks.start_from(mean)
    torch.nn.init.zeros_(model.landmarks.points.weight)
    with torch.no_grad():
        found = model(torch.rand(1, 4, 64, 64)).landmarks
    torch.testing.assert_close(found[0, 2], mean)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"side": 100}, "a multiple of 64"),
        ({"channels": 20}, "a multiple of 8"),
        ({"patch": 8}, "an odd number"),
        ({"fusion": "sum"}, "'fusion': 'sum'"),
        ({"frames": 1}, "'frames' is out of range"),
    ],
)
def test_settings_are_checked(changes, match):
    with pytest.raises(ConfigError, match=match):
        architecture("mol", "tiny", changes)
