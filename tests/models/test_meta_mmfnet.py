"""Meta-MMFNet: what its encoders see, how prototypes are compared, and the loss of episodes."""

from __future__ import annotations

import dataclasses
import math

import pytest

torch = pytest.importorskip("torch")

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.meta_mmfnet import (  # noqa: E402
    PRESETS,
    Encoder,
    MetaMmfnet,
    MetaMmfnetConfig,
    episode_loss,
    fuse,
)

SMALL = MetaMmfnetConfig(side=16, width=1)


def size(module):
    return sum(one.numel() for one in module.parameters())


def test_two_trunks_of_resnet_18_and_what_belongs_to_them():
    with torch.device("meta"):
        both = MetaMmfnet(PRESETS["paper"], 4)
        micro = MetaMmfnet(dataclasses.replace(PRESETS["paper"], encoder="micro"), 4)
    assert size(both.micro.trunk) == size(both.macro.trunk) == 11_176_512
    # A classifier of 512 features and 4 classes, and a temperature.
    assert size(both) == 2 * (11_176_512 + 512 * 4 + 4 + 1)
    assert size(micro) == size(both) // 2
    assert dict(micro.named_children()).keys() == {"micro"}


def test_the_difference_stands_above_the_flow():
    frames = torch.zeros(1, 2, 3, 2, 2)
    frames[0, 0], frames[0, 1, 0, 0, 1] = -1, 0.5
    flow = torch.tensor([[3.0, 0], [0, 0]]), torch.tensor([[-4.0, 0], [0, 2]])
    model = MetaMmfnet(SMALL, 3)
    model.flow_scale.copy_(torch.tensor([3.0, 8.0, 10.0]))
    seen = model.pictures(frames, torch.stack(flow)[None, None])
    assert seen.shape == (1, 3, 4, 2)
    assert seen[0, 0, :2].tolist() == [[1, 1.5], [1, 1]]
    assert seen[0, :, 2, 0].tolist() == [1, -0.5, 0.5]
    assert seen[0, :, 3, 1].tolist() == pytest.approx([0, 0.25, 0.2])


@pytest.mark.parametrize("features", ["difference", "flow"])
def test_one_half_can_be_seen_alone(features):
    frames, flow = torch.rand(2, 2, 3, 16, 16), torch.rand(2, 1, 2, 16, 16)
    both = MetaMmfnet(SMALL, 3).pictures(frames, flow)
    alone = MetaMmfnet(dataclasses.replace(SMALL, features=features), 3).pictures(frames, flow)
    assert torch.equal(alone, both[:, :, :16] if features == "difference" else both[:, :, 16:])


def test_features_are_compared_by_cosine_and_temperature_or_by_dot_product():
    features, prototypes = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0], [-5.0, 0.0]])
    encoder = Encoder(SMALL, 2)
    assert encoder.temperature.item() == 10
    assert encoder.temperature.requires_grad
    assert encoder.compare(features, prototypes).tolist() == [pytest.approx([8, -6])]
    plain = Encoder(dataclasses.replace(SMALL, metric="dot"), 2)
    assert plain.temperature is None
    assert plain.compare(features, prototypes).tolist() == [[8, -15]]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_the_loss_of_episodes_equals_a_loop(metric):
    shots, queries, ways, count, width = 3, 2, 3, 4, 5
    torch.manual_seed(0)
    encoder = Encoder(dataclasses.replace(SMALL, metric=metric, temperature=3.0), 3)
    features = torch.randn(count * ways * (shots + queries), width)
    episodes = torch.arange(count).repeat_interleave(ways * (shots + queries))
    losses = []
    for episode in range(count):
        mine = features[episodes == episode]
        of_class = [mine[one * 5 : one * 5 + 5] for one in range(ways)]
        prototypes = [sum(part[:shots]) / shots for part in of_class]
        for true, part in enumerate(of_class):
            for asked in part[shots:]:
                scores = []
                for one in prototypes:
                    product = float(asked @ one)
                    if metric == "cosine":
                        product *= 3.0 / float(asked.norm() * one.norm())
                    scores.append(product)
                total = sum(math.exp(one) for one in scores)
                losses.append(-math.log(math.exp(scores[true]) / total))
    found = episode_loss(encoder, features, episodes, shots=shots, queries=queries)
    assert found.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_a_class_without_training_clips_is_never_said():
    encoder = Encoder(SMALL, 3)
    encoder.prototypes[:] = torch.rand(3, 8)
    encoder.present[:] = torch.tensor([True, False, True])
    chances = encoder.scores(torch.rand(4, 8)).softmax(dim=1)
    assert (chances[:, 1] == 0).all()
    torch.testing.assert_close(chances.sum(dim=1), torch.ones(4))


def test_scores_are_fused_by_alpha():
    micro, macro = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert fuse({"micro": micro, "macro": macro}, 0.5).tolist() == [[1, 2]]
    assert fuse({"micro": micro, "macro": macro}, 0.1).argmax() == 0
    assert fuse({"macro": macro}, 0.1) is macro


def test_pretrained_macro_encoders_are_no_classifiers():
    assert SMALL.classified == ("micro", "macro")
    pretrained = dataclasses.replace(SMALL, macro="pretrained")
    assert pretrained.classified == ("micro",)
    # Unless that is all there is to do.
    assert dataclasses.replace(pretrained, meta=False).classified == ("micro", "macro")


@pytest.mark.parametrize(
    ("name", "value"),
    [("metric", "l2"), ("encoder", "none"), ("ways", 1), ("alpha", "best"), ("draw", "any")],
)
def test_what_is_not_known_is_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        MetaMmfnetConfig(**{name: value})
