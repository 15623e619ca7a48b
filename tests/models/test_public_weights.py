"""The trunk of ResNet-18 with the weights of a file."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from mer_prep.errors import TrainingError  # noqa: E402
from mer_prep.models.public_weights import load_trunk  # noqa: E402
from mer_prep.models.resnet18 import Trunk  # noqa: E402


def test_the_trunk_has_the_published_number_of_parameters():
    trunk = Trunk()
    assert sum(one.numel() for one in trunk.parameters()) == 11_176_512
    assert trunk.features == 512


def test_weights_named_as_torchvision_does_are_taken_over(tmp_path):
    path = tmp_path / "imagenet.safetensors"
    source = Trunk(2)
    names = set(source.state_dict())
    assert {"conv1.weight", "layer2.0.downsample.1.running_var", "layer4.1.bn2.bias"} <= names
    tensors = {name: one for name, one in source.state_dict().items() if "num_" not in name}
    classifier = {"fc.weight": torch.zeros(9, 16), "fc.bias": torch.zeros(9)}
    save_file(tensors | classifier, path)
    trunk = Trunk(2)
    load_trunk(trunk, path)
    for name, one in source.state_dict().items():
        assert torch.equal(trunk.state_dict()[name], one)
    with pytest.raises(TrainingError, match="not of this ResNet-18: 100 tensors differ"):
        load_trunk(Trunk(4), path)


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "imagenet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        load_trunk(Trunk(2), path)
    assert "safetensors" in caught.value.hint
    with pytest.raises(TrainingError, match="cannot be read"):
        load_trunk(Trunk(2), tmp_path / "none.safetensors")
