"""The small baselines: their sizes as published, and their parts against loops."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models import htnet, off_apexnet, rcn, resnet18, ststnet, survey  # noqa: E402
from mer_prep.models.picture import PictureNetwork  # noqa: E402


def parameters(model):
    return sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize(
    ("network", "config", "classes", "count"),
    [
        (survey.SurveyBaseline, survey.PRESETS["paper"], 4, 654),
        (survey.SurveyBaseline, survey.PRESETS["code"], 9, 1_284),
        (ststnet.Ststnet, ststnet.PRESETS["paper"], 3, 1_683),
        (off_apexnet.OffApexNet, off_apexnet.PRESETS["meb"], 3, 807_909),
        # Twice 156 + 2,416 for the streams, then 1568 to 1024 to 1024 to 3.
        (off_apexnet.OffApexNet, off_apexnet.PRESETS["paper"], 3, 2_664_475),
        (rcn.RcnA, rcn.PRESETS["paper"], 3, 51_139),
        (htnet.Htnet, htnet.PRESETS["paper"], 3, 139_582_982),
        # The classifier has 512 x 3 + 3.
        (resnet18.ResNet18, resnet18.PRESETS["paper"], 3, 11_176_512 + 1_539),
    ],
)
def test_networks_have_the_published_sizes(network, config, classes, count):
    with torch.device("meta"):
        assert parameters(network(config, classes)) == count


@pytest.mark.parametrize(
    ("network", "presets"),
    [
        (survey.SurveyBaseline, survey.PRESETS),
        (ststnet.Ststnet, ststnet.PRESETS),
        (off_apexnet.OffApexNet, off_apexnet.PRESETS),
        (rcn.RcnA, rcn.PRESETS),
        (htnet.Htnet, htnet.PRESETS),
        (resnet18.ResNet18, resnet18.PRESETS),
    ],
)
def test_every_parameter_of_tiny_learns(network, presets):
    torch.manual_seed(0)
    config = presets["tiny"]
    model = network(config, 3)
    pictures = torch.rand(4, 3, config.side, config.side)
    scores = model(pictures)
    assert scores.shape == (4, 3)
    functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0])).backward()
    still = {name for name, one in model.named_parameters() if not one.grad.abs().sum() > 0}
    # Attention among a single place has nothing to weigh: query and key stay as they are, which
    # are a part of `mixed`, whose values do learn.
    assert still == set()


def stream_by_loops(picture, conv, norm):
    """Return what a stream gives in testing, from the description of the layers."""
    weight, bias = conv.weight.detach().numpy(), conv.bias.detach().numpy()
    side = picture.shape[-1]
    padded = np.pad(picture, ((0, 0), (1, 1), (1, 1)))
    found = np.empty((len(weight), side, side))
    for k in range(len(weight)):
        for y in range(side):
            for x in range(side):
                found[k, y, x] = (weight[k] * padded[:, y : y + 3, x : x + 3]).sum() + bias[k]
    found = np.maximum(found, 0)
    mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    gain, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    scale = gain / np.sqrt(variance + 1e-5)
    found = (found - mean[:, None, None]) * scale[:, None, None] + shift[:, None, None]
    # The same size as before, divided by 3 and rounded up: the border lacks a pixel on each side.
    bordered = np.pad(found, ((0, 0), (1, 3), (1, 3)), constant_values=-np.inf)
    places = range(0, side, 3)
    return np.array(
        [[[one[y : y + 3, x : x + 3].max() for x in places] for y in places] for one in bordered]
    )


def test_streams_are_what_the_paper_draws():
    torch.manual_seed(1)
    config = ststnet.StstnetConfig(side=10, streams="2+3")
    model = ststnet.Ststnet(config, 4).eval()
    for stream in model.streams:
        stream[2].running_mean.uniform_(-1, 1)
        stream[2].running_var.uniform_(0.5, 2)
        torch.nn.init.uniform_(stream[2].weight, 0.5, 2)
    picture = torch.rand(1, 3, 10, 10)
    parts = [stream_by_loops(picture[0].numpy(), one[0], one[2]) for one in model.streams]
    features = np.concatenate(parts)
    assert features.shape == (5, 4, 4)
    pooled = features.reshape(5, 2, 2, 2, 2).mean(axis=(2, 4)).ravel()
    weight, bias = model.head.weight.detach().numpy(), model.head.bias.detach().numpy()
    np.testing.assert_allclose(
        model(picture).detach().numpy()[0], weight @ pooled + bias, rtol=1e-4, atol=1e-5
    )


def test_28_px_become_five_cells_a_side():
    model = ststnet.Ststnet(ststnet.PRESETS["paper"], 3)
    features = model.streams[0](torch.rand(2, 3, 28, 28))
    assert features.shape == (2, 3, 10, 10)
    assert model.head.in_features == 16 * 5 * 5


class Sum(PictureNetwork):
    def scores(self, pictures):
        return pictures.sum(dim=(2, 3))


def test_pictures_are_centred_standardised_or_brought_to_eight_bits():
    torch.manual_seed(2)
    pictures = 100 + 20 * torch.rand(6, 3, 4, 4)
    pictures[:, 2] = 7.0
    plain, centred, standard = Sum(3, 4), Sum(3, 4), Sum(3, 4)
    plain.measure(pictures, centre="none")
    centred.measure(pictures, centre="mean-image")
    standard.measure(pictures, centre="standard")
    assert torch.equal(plain(pictures), pictures.sum(dim=(2, 3)))
    seen = (pictures - centred.mean) / centred.deviation
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(3, 4, 4), atol=1e-4, rtol=0)
    assert seen[:, 0].std() > 3
    seen = (pictures - standard.mean) / standard.deviation
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    spread = seen.std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(spread, torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    eight_bits = Sum(3, 4)
    eight_bits.measure(pictures / 255, centre="bytes")
    torch.testing.assert_close(eight_bits(pictures / 255), pictures.sum(dim=(2, 3)))
    # It lies in the weights, so that a checkpoint brings it along.
    assert {"mean", "deviation"} <= set(standard.state_dict())
    with pytest.raises(ConfigError, match="Did you mean 'standard'"):
        plain.measure(pictures, centre="standart")


def test_class_attention_is_the_mean_of_stretched_class_maps():
    rng = np.random.default_rng(3)
    features, weights = rng.normal(size=(2, 4, 5, 5)), rng.normal(size=(3, 4 * 25))
    weights[2] = 0
    found = rcn.class_attention(torch.from_numpy(features), torch.from_numpy(weights)).numpy()
    assert found.shape == (2, 1, 5, 5)
    for number in range(2):
        maps = []
        for one in weights:
            each = (one.reshape(4, 5, 5) * features[number]).mean(axis=0)
            extent = each.max() - each.min()
            # A flat map attends to nothing, and is no division by zero.
            maps.append((each - each.min()) / extent if extent else np.zeros((5, 5)))
        np.testing.assert_allclose(found[number, 0], np.mean(maps, axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    "changes", [{"attention": False}, {"recurrences": 1}, {"recurrences": 3}], ids=str
)
def test_switches_of_rcn_change_what_it_says_and_no_weight(changes):
    pictures = torch.rand(2, 3, 28, 28)
    usual = rcn.RcnA(rcn.RcnConfig(side=28, channels=8), 3).eval()
    other = rcn.RcnA(rcn.RcnConfig(side=28, channels=8, **changes), 3).eval()
    other.load_state_dict(usual.state_dict())
    assert (usual(pictures) - other(pictures)).abs().max() > 1e-5


def test_off_apexnet_looks_at_u_and_v_each_by_a_stream_and_not_at_strain():
    torch.manual_seed(4)
    pictures = torch.rand(1, 3, 28, 28, requires_grad=True)
    model = off_apexnet.OffApexNet(off_apexnet.OffApexNetConfig(hidden=8), 3).eval()
    (seen,) = torch.autograd.grad(model(pictures).sum(), pictures)
    assert (seen[0, 0] != 0).any()
    assert (seen[0, 1] != 0).any()
    assert (seen[0, 2] == 0).all()
    assert [stream[0].in_channels for stream in model.streams] == [1, 1]
    alone = off_apexnet.OffApexNetConfig(separate=False, hidden=8, layers=0)
    joint = off_apexnet.OffApexNet(alone, 3)
    assert [stream[0].in_channels for stream in joint.streams] == [2]
    # Without hidden layers the classes are read from 16 maps of 7 x 7.
    assert parameters(joint.head) == 3 * 16 * 49 + 3


def test_blocks_are_cut_and_joined_as_the_picture_lies():
    picture = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    cut = htnet.split_blocks(picture, 4)
    assert cut.shape == (32, 3, 2, 2)
    # The blocks of a picture follow each other row by row.
    assert torch.equal(cut[16 + 4 * 1 + 2], picture[1, :, 2:4, 4:6])
    assert torch.equal(htnet.join_blocks(cut, 4), picture)


def test_attention_is_softmax_over_the_places_of_a_block():
    torch.manual_seed(5)
    module = htnet.Attention(7, 3, 0.0).eval()
    features = torch.randn(2, 7, 2, 3)
    # Three heads of two channels; the seventh channel is left out inside.
    mixed = module.mixed(features).flatten(2)
    query, key, value = mixed.chunk(3, dim=1)
    assert query.shape == (2, 6, 6)
    heads = []
    for head in (slice(0, 2), slice(2, 4), slice(4, 6)):
        weight = torch.softmax(query[:, head].transpose(1, 2) @ key[:, head] / 2**0.5, dim=-1)
        heads.append((weight @ value[:, head].transpose(1, 2)).transpose(1, 2))
    expected = module.out(torch.cat(heads, dim=1).view(2, 6, 2, 3))
    torch.testing.assert_close(module(features), expected)


def test_published_blocks_have_a_single_place_and_smaller_patches_more():
    def places(config):
        return [len(level.position) for level in htnet.Htnet(config, 3).levels]

    assert places(htnet.PRESETS["tiny"]) == [1, 1, 1]
    assert places(htnet.HtnetConfig(side=24, patch=3, dim=12, blocks="1+1+1")) == [4, 4, 4]
    with pytest.raises(ConfigError, match="do not divide"):
        htnet.HtnetConfig(patch=5)
    with pytest.raises(ConfigError, match="blocks"):
        htnet.HtnetConfig(blocks="2+2")


def test_neighbouring_blocks_are_seen_from_the_second_level_on():
    torch.manual_seed(6)
    config = htnet.HtnetConfig(side=8, patch=1, dim=6, blocks="1+1+1")
    model = htnet.Htnet(config, 3).eval()
    picture = torch.randn(1, 3, 8, 8, requires_grad=True)
    level = model.levels[0]
    inner = htnet.split_blocks(model.patches(picture), 4)
    inner = inner + level.position.view(2, 2)
    for layer in level.layers:
        inner = inner + layer(inner)
    (seen,) = torch.autograd.grad(inner[0].square().sum(), picture)
    assert (seen[..., :2, :2] != 0).all()
    assert (seen[..., 2:, :] == 0).all()
    (seen,) = torch.autograd.grad(model(picture)[0, 0], picture)
    assert (seen.abs().sum(dim=1) > 0).all()


def test_the_trunk_bears_the_names_of_public_weights():
    names = set(resnet18.Trunk().state_dict())
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer4.1.bn2.bias",
    } <= names
    assert not any("layer1.0.downsample" in name for name in names)
    # 120 tensors of the public ResNet-18 without its classifier.
    assert len(names) == 120
    with torch.no_grad():
        assert resnet18.Trunk(4)(torch.rand(2, 3, 64, 64)).shape == (2, 32)


def test_a_residual_block_adds_what_goes_past_it():
    block = resnet18.ResidualBlock(2, 2, 1).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    features = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(block(features), torch.relu(features))


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (survey.SurveyConfig, {"gray": "red"}),
        (survey.SurveyConfig, {"input": "onset"}),
        (ststnet.StstnetConfig, {"streams": "3+x"}),
        (off_apexnet.OffApexNetConfig, {"kernel": 4}),
        (rcn.RcnConfig, {"side": 8}),
        (resnet18.ResNet18Config, {"centre": "middle"}),
    ],
)
def test_what_no_network_can_have_is_an_error(config, changes):
    with pytest.raises(ConfigError):
        config(**changes)
