from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.frl_dgt import (  # noqa: E402
    PRESETS,
    DisplacementGenerator,
    FrlDgt,
    self_supervision,
)
from mer_prep.training.methods import architecture  # noqa: E402


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build(**changes):
    torch.manual_seed(0)
    return FrlDgt(architecture("frl-dgt", "tiny", {"side": 64, **changes}), 3)


def samples(batch=2, *, side=64):
    """Return everything the model may be given, at random."""
    numbers = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.rand(*shape, generator=numbers)

    return {
        "frames": rand(batch, 2, 3, side, side),
        "landmarks": rand(batch, 2, 68, 2) * side,
        "flow": rand(batch, 1, 2, side, side) - 0.5,
        "image": 100 * rand(batch, 3, side, side) - 50,
    }


def transformer(width, tokens, layers):
    """Return the parameters of a fusion: its tokens, its positions and its layers."""
    total = width + tokens * width
    for _ in range(layers):
        total += (tokens + 1) // 2 * tokens + 12 * width**2 + 13 * width
        tokens = (tokens + 1) // 2
    return total


def test_the_parts_of_the_preset_paper():
    parts = {name: count(part) for name, part in FrlDgt(PRESETS["paper"], 3).named_children()}
    shared = sum(a * b * 9 + b for a, b in ((3, 32), (32, 64), (64, 128)))
    assert parts == {
        "displacement": count(DisplacementGenerator()),
        "embedding": 6 + shared + 128 * 128 * 9 + 128,
        "local": transformer(128, 16, 1),
        "global_": transformer(128, 9, 2),
        "face": transformer(128, 64, 2),
        "head": 2 * 256 + 256 * 3 + 3,
    }


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_of_the_outputs(name):
    model = FrlDgt(PRESETS[name], 3).eval()
    side = model.config.side
    with torch.no_grad():
        found = model(**samples(side=side))
    assert found.logits.shape == (2, 3)
    assert found.displacement.shape == (2, 2, side, side)
    assert found.attention.shape == (2, 9)
    torch.testing.assert_close(found.attention.sum(1), torch.ones(2))


ABLATIONS = {
    "M0": {"displacement": "tvl1"},
    "M1": {"displacement": "tvl1-normalised"},
    "M2": {"displacement": "dynamic-image"},
    "M3": {"self_supervised": False},
    "M4": {"fusion": "after"},
    "M5": {"regions": "grid"},
    "M6": {"full_face": False},
    "M7": {"local_fusion": False},
    "M8": {"global_fusion": False},
    "strain": {"feature": "strain"},
    "symmetric": {"symmetric": True},
    "full face alone": {"local_fusion": False, "global_fusion": False},
    "local alone": {"global_fusion": False, "full_face": False},
}


@pytest.mark.parametrize("changes", ABLATIONS.values(), ids=ABLATIONS)
def test_every_parameter_of_an_ablation_learns(changes):
    model = build(**changes)
    found = model(**samples())
    assert (found.displacement is None) == (not model.config.learned)
    assert (found.attention is None) == (not model.config.global_fusion)
    functional.cross_entropy(found.logits, torch.tensor([0, 2])).backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_what_the_ablations_remove():
    full = build()
    parts = {name: count(part) for name, part in full.named_children()}
    removed = {name: count(full) - count(build(**changes)) for name, changes in ABLATIONS.items()}
    further = 9 * 32 * 32 + 32
    assert removed == {
        **dict.fromkeys(("M0", "M1", "M2"), parts["displacement"]),
        **dict.fromkeys(("M3", "M5", "strain", "symmetric"), 0),
        "M4": 2 * 4 + 5 * 9 + 8 * 16,
        "M6": parts["face"] + further + 32 * (2 + 3),
        "M7": parts["local"],
        "M8": parts["global_"],
        "full face alone": parts["local"] + parts["global_"],
        "local alone": parts["global_"] + parts["face"] + further + 32 * (2 + 3),
    }


def test_switches_without_parameters_change_what_is_computed():
    given = samples()
    logits = {}
    for name in ("M0", "M1", "M2", "M4", "M5", "strain", "symmetric"):
        with torch.no_grad():
            logits[name] = build(**ABLATIONS[name]).eval()(**given).logits
            logits["full"] = build().eval()(**given).logits
    values = list(logits.values())
    for index, one in enumerate(values):
        assert all((one - other).abs().max() > 1e-5 for other in values[:index])


def test_the_sizes_that_do_not_matter_do_not_matter():
    """A normalised field has no size, and a dynamic image no scale; a plain flow has one."""
    given = samples()
    changed = given | {"flow": 3 * given["flow"], "image": 0.02 * given["image"]}
    gaps = {}
    for kind in ("tvl1", "tvl1-normalised", "dynamic-image"):
        model = build(displacement=kind).eval()
        with torch.no_grad():
            gaps[kind] = (model(**given).logits - model(**changed).logits).abs().max().item()
    assert gaps["tvl1"] > 1e-3
    assert max(gaps["tvl1-normalised"], gaps["dynamic-image"]) < 1e-4


def test_self_supervision_alone_leaves_the_recogniser_alone():
    model, given = build(), samples()
    found = model(**given, recognise=False)
    assert found.logits.shape == (2, 0)
    assert found.attention is None
    parts = self_supervision(*given["frames"].unbind(1), found.displacement)
    sum(parts.values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("displacement."), name


def test_nothing_is_learned_without_labels_where_no_displacement_is():
    found = build(displacement="tvl1")(**samples(), recognise=False)
    assert found.logits.shape == (2, 0)
    assert found.displacement is None


def test_results_are_repeatable_and_pairs_independent():
    model, given = build().eval(), samples(3)
    with torch.no_grad():
        first, again = model(**given), model(**given)
        alone = model(**{name: value[1:2] for name, value in given.items()})
    assert torch.equal(first.logits, again.logits)
    torch.testing.assert_close(alone.logits, first.logits[1:2], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone.attention, first.attention[1:2], atol=1e-5, rtol=1e-4)


def test_the_grid_needs_no_landmarks_and_action_units_do():
    given = samples()
    moved = given | {"landmarks": given["landmarks"].flip(0)}
    gaps = {}
    for regions in ("grid", "action-units"):
        model = build(regions=regions).eval()
        with torch.no_grad():
            gaps[regions] = (model(**given).logits - model(**moved).logits).abs().max().item()
    assert gaps["grid"] == 0
    assert gaps["action-units"] > 1e-5


@pytest.mark.parametrize(
    ("kind", "match"), [("tvl1", "needs optical flow"), ("dynamic-image", "needs dynamic images")]
)
def test_what_the_architecture_needs_must_be_given(kind, match):
    given = samples() | {"flow": None, "image": None}
    with pytest.raises(ValueError, match=match):
        build(displacement=kind)(**given)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"side": 72}, "a multiple of 16"),
        ({"region_size": 20}, "a multiple of 8"),
        ({"width": 30}, "a multiple of 4"),
        ({"heads": 3}, "a multiple of 3"),
        ({"displacement": "tv-l1"}, "Did you mean 'tvl1'"),
        ({"fusion": "middle"}, "'fusion': 'middle'"),
        ({"regions": "patches"}, "'regions': 'patches'"),
        ({"feature": "size"}, "'feature': 'size'"),
        ({"largest": 0}, "'largest'"),
        (
            {"full_face": False, "local_fusion": False, "global_fusion": False},
            "at least one of its fusions",
        ),
    ],
)
def test_settings_are_checked(changes, match):
    with pytest.raises(ConfigError, match=match):
        architecture("frl-dgt", "tiny", changes)
