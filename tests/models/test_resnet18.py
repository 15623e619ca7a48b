"""The trunk of ResNet-18: its size, its shapes and its weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from mer_prep.errors import TrainingError  # noqa: E402
from mer_prep.models.resnet18 import ResNet18, load_trunk  # noqa: E402


def test_it_has_the_published_number_of_parameters():
    trunk = ResNet18()
    assert sum(one.numel() for one in trunk.parameters()) == 11_176_512
    assert trunk.features == 512


def test_features_are_the_mean_over_pictures_of_any_shape():
    trunk = ResNet18(width=2).eval()
    with torch.no_grad():
        assert trunk(torch.rand(3, 3, 160, 80)).shape == (3, 16)
        assert trunk(torch.rand(2, 3, 28, 28)).shape == (2, 16)
        kept = []
        trunk.layer4.register_forward_hook(lambda module, given, found: kept.append(found))
        found = trunk(torch.rand(1, 3, 160, 80))
    # Five halvings.
    assert kept[0].shape == (1, 16, 5, 3)
    torch.testing.assert_close(found, kept[0].flatten(2).mean(dim=2))


def test_a_block_adds_its_input():
    trunk = ResNet18(width=2).eval()
    block = trunk.layer1[0]
    torch.nn.init.zeros_(block.bn2.weight)
    given = torch.rand(1, 2, 5, 5)
    torch.testing.assert_close(block(given), given)


def test_weights_named_as_torchvision_does_are_taken_over(tmp_path):
    path = tmp_path / "imagenet.safetensors"
    source = ResNet18(width=2)
    names = set(source.state_dict())
    assert {"conv1.weight", "layer2.0.downsample.1.running_var", "layer4.1.bn2.bias"} <= names
    tensors = {name: one for name, one in source.state_dict().items() if "num_" not in name}
    classifier = {"fc.weight": torch.zeros(9, 16), "fc.bias": torch.zeros(9)}
    save_file(tensors | classifier, path)
    trunk = ResNet18(width=2)
    load_trunk(trunk, path)
    for name, one in source.state_dict().items():
        assert torch.equal(trunk.state_dict()[name], one)
    with pytest.raises(TrainingError, match="not of this ResNet-18: 100 tensors differ"):
        load_trunk(ResNet18(width=4), path)


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "imagenet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        load_trunk(ResNet18(width=2), path)
    assert "safetensors" in caught.value.hint
    with pytest.raises(TrainingError, match="cannot be read"):
        load_trunk(ResNet18(width=2), tmp_path / "none.safetensors")
