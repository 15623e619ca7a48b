"""No switch of any architecture is without effect: what a model is made of, is fed, or says."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import Batch, phases  # noqa: E402
from mer_prep.training.methods import METHODS, architecture, method_of  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402

CLASSES, COUNT, FRAMES, FACE = 3, 12, 9, 72

#: Sizes at which a model is built in a moment, beside its preset `tiny`.
SMALL = {
    "mol": {"side": 64, "channels": 8, "hidden": 16},
    "frl-dgt": {"side": 32},
    "meta-mmfnet": {"side": 32, "width": 2, "shots": 2, "ways": 3},
    "resnet18": {"width": 2},
    "rcn-a": {"channels": 4},
    "lbp-top-svm": {"side": 64, "frames": 8, "radius_t": 2, "neighbours": 6},
    "bi-woof-svm": {"side": 64},
}
SMALL["selfme"] = {
    "motion": "learned",
    "side": 32,
    "key_points": 3,
    "key_point_width": 4,
    "motion_width": 4,
    "decoder_width": 4,
    "widest": 16,
    "blocks": 2,
    "width": 16,
    "hidden": 32,
    "projection": 8,
}

#: Of every model its switches, each with another value than `SMALL` or `tiny` has.
OTHERS = {
    "mol": {
        "frames": 5,
        "side": 128,
        "channels": 16,
        "fcc": "code",
        "ccc": "code",
        "neighbours": 3,
        "exclude_self": False,
        "blocks": 2,
        "share_blocks": False,
        "flow": False,
        "landmarks": False,
        "fusion": "add",
        "flow_scale": 0.125,
        "patch": 3,
        "dilation": 2,
        "hidden": 32,
        "dropout": 0.5,
    },
    "frl-dgt": {
        "side": 48,
        "displacement": "tvl1",
        "self_supervised": False,
        "fusion": "after",
        "regions": "grid",
        "full_face": False,
        "local_fusion": False,
        "global_fusion": False,
        "feature": "strain",
        "guess": False,
        "symmetric": True,
        "scale": 0.25,
        "largest": 1.0,
        "region_size": 24,
        "width": 64,
        "heads": 4,
        "layers": 2,
        "dropout": 0.4,
        "head_dropout": 0.4,
    },
    "selfme": {
        "side": 64,
        "motion": "tvl1",
        "bspline": "equivariance",
        "classifier": "vit",
        "gamma": 1.0,
        "jitter": 0.0,
        "omega": 0.5,
        "tau": 0.2,
        "contrasted": "all",
        "midline": "centre",
        "stage1": "all",
        "key_points": 4,
        "first_order": False,
        "occlusion": False,
        "control_points": 5,
        "shrink": 4,
        "key_point_width": 8,
        "motion_width": 8,
        "decoder_width": 8,
        "widest": 8,
        "blocks": 1,
        "residual_blocks": 1,
        "patch": 4,
        "width": 32,
        "layers": 1,
        "heads": 1,
        "hidden": 16,
        "projection": 4,
        "dropout": 0.4,
    },
    "meta-mmfnet": {
        "side": 48,
        "width": 4,
        "encoder": "micro",
        "features": "flow",
        "metric": "dot",
        "temperature": 3.0,
        "ways": 2,
        "shots": 3,
        "queries": 2,
        "episodes": 1,
        "draw": "legacy",
        "meta": False,
        "macro": "pretrained",
        "alpha": "fixed",
        "alpha_value": 0.3,
        "inner_folds": 4,
    },
    "survey": {
        "side": 40,
        "input": "apex",
        "gray": "r-only",
        "filters": 3,
        "dropout": 0.5,
        "centre": "mean-image",
    },
    "ststnet": {
        "side": 40,
        "streams": "3+5",
        "dropout": 0.5,
        "normalise": "min-max",
        "centre": "mean-image",
    },
    "off-apexnet": {
        "side": 40,
        "separate": False,
        "kernel": 3,
        "hidden": 16,
        "layers": 2,
        "dropout": 0.5,
        "normalise": "min-max",
        "centre": "none",
    },
    "rcn-a": {
        "side": 40,
        "channels": 8,
        "recurrences": 1,
        "attention": False,
        "dropout": 0.5,
        "normalise": "min-max",
        "centre": "none",
    },
    "htnet": {
        "side": 56,
        "patch": 1,
        "dim": 12,
        "heads": 2,
        "blocks": "1+2+1",
        "regions": "whole",
        "dropout": 0.5,
        "normalise": "min-max",
        "centre": "none",
    },
    "resnet18": {
        "side": 64,
        "width": 4,
        "dropout": 0.5,
        "normalise": "min-max",
        "centre": "none",
    },
    "lbp-top-svm": {
        "side": 48,
        "cost": 1e-5,
        "balanced": False,
        "standardised": False,
        "frames": 9,
        "blocks": 2,
        "radius_x": 2,
        "radius_y": 2,
        "radius_t": 1,
        "neighbours": 8,
        "uniform": False,
    },
    "bi-woof-svm": {
        "side": 48,
        "cost": 1e-5,
        "balanced": False,
        "standardised": False,
        "blocks": 3,
        "bins": 6,
        "local_weight": "none",
        "global_weight": "none",
    },
}

#: What acts on files or on a whole study; tests/training/test_meta_mmfnet_method.py has it.
ELSEWHERE = {"meta-mmfnet": {"support", "weights", "weights_sha256"}}

#: Switches that need others to be what they are, to have any effect.
TOGETHER = {
    ("survey", "gray"): {"input": "apex"},
    ("frl-dgt", "symmetric"): {"guess": False},
    # Blocks of one patch have nothing to attend to, whatever the heads.
    ("htnet", "heads"): {"patch": 1},
    # Few clips and many features can be told apart whatever each clip counts, unless it is little.
    ("lbp-top-svm", "balanced"): {"cost": 1e-5},
    ("bi-woof-svm", "balanced"): {"cost": 1e-5},
}

SETTINGS = TrainingSettings(steps=2, batch=4)


class Clips:
    """The samples of a batch, as a source of clips and as the view of them."""

    def __init__(self, batch):
        self.all = batch

    def samples(self, clip_ids):
        return list(range(len(self.all.labels)))

    def batch(self, samples):
        return Batch(*(None if one is None else one[samples] for one in self.all.tensors()))

    def centre(self, batch):
        return batch


def rand(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def arrays_of(made):
    """Return what the stages would leave of one clip with a grey face."""
    rng = np.random.default_rng(0)
    frames = np.repeat(rng.integers(1, 255, (FRAMES, FACE, FACE, 1), np.uint8), 3, axis=-1)
    pairs = np.array([[1, 5]])
    if made.required().get("flow", {}).get("pairs") == "lagged":
        samples = phases(FRAMES, made.length)
        pairs = np.stack([samples[:, :-1], samples[:, 1:]], axis=-1).reshape(-1, 2)
    side = made.required().get("motion-image", {}).get("size", 8)
    return {
        "align": {"frames": frames, "landmarks": rng.uniform(20, 50, (FRAMES, 68, 2))},
        "flow": {
            "flow": rng.normal(0, 1, (len(pairs), 2, FACE, FACE)).astype(np.float32),
            "pairs": pairs,
        },
        "motion-image": {"motion_image": rng.normal(0, 1, (1, 3, side, side))},
        "tim": {
            "frames": np.resize(
                frames, (made.required().get("tim", {}).get("length", 1), *frames.shape[1:])
            )
        },
        "dynamic-image": {"dynamic_image": rng.normal(0, 1, (FACE, FACE, 3))},
    }


def batch_of(made, count=COUNT):
    """Return samples of `count` clips at random, as many as the episodes of a step have."""
    side, length = made.side, made.length
    colours = (3,) if made.colours == 3 else ()
    described = hasattr(made.config, "features") and isinstance(made.config.features, int)
    return Batch(
        frames=rand(count, length, *colours, side, side),
        flow=4 * rand(count, length - 1, 2, side, side) - 2,
        landmarks=side * (0.2 + 0.6 * rand(count, length, 68, 2)),
        # Not as many of every class, so that balance matters.
        labels=torch.arange(count).remainder(4).clamp_max(CLASSES - 1),
        image=rand(count, 3, side, side),
        features=3 * rand(count, made.config.features) if described else None,
    )


def episodes_of(made, stretch):
    """Return a batch in the order of the episodes of a stretch."""
    one = stretch.episodes
    clips = min(one.ways, CLASSES) * (one.shots + one.queries)
    batch = batch_of(made, one.count * clips)
    batch.episodes = torch.arange(one.count).repeat_interleave(clips)
    return batch


def plain(value):
    """Return a value in a form that can be compared: arrays bit by bit."""
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def effects(name, changes):
    """Return all that a study sees of an architecture, to be compared."""
    made = method_of(name, architecture(name, "tiny", SMALL.get(name, {}) | changes))
    settings = SETTINGS
    if any(one in name for one in ("selfme", "frl", "meta")):
        settings = dataclasses.replace(settings, pre_steps=2, pre_learning_rate=0.1)
    settings = settings if made.solved else made.settled(settings)
    stretches = made.stretches(settings)
    clips = Clips(batch_of(made))
    torch.manual_seed(0)
    model = made.build(CLASSES)
    made.measure(model, clips, (), clips)
    found = [made.datasets(), made.required(), made.weights(settings), made.rates(settings)]
    found += [stretches, made.loss_names(settings), made.transductive, made.inner_folds]
    clip = SimpleNamespace(clip_id="c", corpus="c", subject="c", label=0)
    prepared = made.prepared(clip, arrays_of(made))
    found += [prepared.image, prepared.features, prepared.samples]
    torch.manual_seed(1)
    for stretch in stretches:
        batch = episodes_of(made, stretch) if stretch.episodes else clips.all
        if stretch.solved:
            made.solve(model, [batch], stretch.objective)
        losses = made.losses(model, batch, stretch.objective)
        found += [(loss, value.item()) for loss, value in losses.items()]
    found += [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
    with torch.no_grad():
        output = made.apply(model.eval(), clips.all)
    given = [getattr(output, one.name) for one in dataclasses.fields(output)]
    return plain(found + given)


@pytest.mark.parametrize("name", METHODS)
def test_every_switch_is_tried(name):
    known = {one.name for one in dataclasses.fields(METHODS[name].Config)}
    assert set(OTHERS[name]) | ELSEWHERE.get(name, set()) == known
    usual = architecture(name, "tiny", SMALL.get(name, {}))
    same = [one for one, value in OTHERS[name].items() if getattr(usual, one) == value]
    assert same == []


@pytest.mark.parametrize("name", METHODS)
def test_every_switch_has_an_effect(name):
    if METHODS[name].solved:
        pytest.importorskip("sklearn")
    usual = effects(name, {})
    assert effects(name, {}) == usual, "the same architecture gives the same"
    dead = []
    for switch, value in OTHERS[name].items():
        others = TOGETHER.get((name, switch), {})
        before = effects(name, others) if others else usual
        if effects(name, others | {switch: value}) == before:
            dead.append(switch)
    assert dead == []
