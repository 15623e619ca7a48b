from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.frl_dgt.displacement import (  # noqa: E402
    DisplacementGenerator,
    dynamic_feature,
    normalised_field,
)
from mer_prep.models.frl_dgt.objective import self_supervision, weighted  # noqa: E402
from mer_prep.models.frl_dgt.warp import mirror_field, warp  # noqa: E402
from mer_prep.ops.strain import strain_magnitude, strain_tensor  # noqa: E402


def test_the_module_has_the_parameters_of_its_plan():
    convolutions = (
        *((6, 32, 49), (32, 64, 9), (64, 128, 9), (128, 256, 9)),
        *[(256, 256, 9)] * 4,
        *((256 + 128, 128, 9), (128 + 64, 64, 9), (64 + 32, 32, 9)),
    )
    planned = sum(a * b * kernel + 2 * b for a, b, kernel in convolutions) + 32 * 2 * 9 + 2
    assert planned == 3_340_418
    assert sum(p.numel() for p in DisplacementGenerator().parameters()) == planned


def test_the_displacement_starts_small_and_is_bounded():
    torch.manual_seed(0)
    generator = DisplacementGenerator(scale=0.25, largest=1.5)
    frames = torch.rand(2, 2, 3, 64, 64)
    first = generator(frames)
    assert first.shape == (2, 2, 64, 64)
    assert 0 < first.abs().max() < 0.1
    with torch.no_grad():
        generator.field.weight.mul_(1e6)
    assert 1.4 < generator(frames).abs().max() <= 1.5


def test_a_symmetric_generator_gives_mirrored_pairs_mirrored_fields():
    torch.manual_seed(0)
    frames = torch.rand(2, 2, 3, 32, 32)
    gaps = {}
    for symmetric in (True, False):
        generator = DisplacementGenerator(scale=0.25, symmetric=symmetric)
        with torch.no_grad():
            gap = generator(frames.flip(-1)) - mirror_field(generator(frames))
        gaps[symmetric] = gap.abs().max().item()
    assert gaps[True] < 1e-6
    assert gaps[False] > 1e-4


def test_pairs_do_not_depend_on_each_other():
    torch.manual_seed(0)
    generator, frames = DisplacementGenerator(scale=0.25), torch.rand(3, 2, 3, 32, 32)
    torch.testing.assert_close(generator(frames)[1:2], generator(frames[1:2]), atol=1e-6, rtol=1e-4)


def test_the_generator_learns_a_known_field_without_labels():
    generator_of_numbers = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 12, generator=generator_of_numbers)
    onset = functional.interpolate(coarse, size=48, mode="bicubic").clamp(0, 1)
    controls = torch.rand(1, 2, 3, 3, generator=generator_of_numbers) * 3 - 1.5
    field = functional.interpolate(controls, size=48, mode="bilinear", align_corners=True)
    apex = warp(onset, field)
    torch.manual_seed(0)
    model = DisplacementGenerator(scale=0.125)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    frames = torch.stack([onset, apex], dim=1)
    for _ in range(150):
        loss = weighted(self_supervision(onset, apex, model(frames)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found = model(frames)
    assert (warp(onset, found) - apex).abs().mean() < 0.25 * (onset - apex).abs().mean()
    assert (found - field).norm(dim=1).mean() < 0.5 * field.norm(dim=1).mean()


def test_the_magnitude_is_that_of_the_vectors():
    field = torch.tensor([3.0, -4.0])[None, :, None, None].expand(1, 2, 4, 4)
    assert dynamic_feature(field)[0, :, 2, 1].tolist() == [3.0, -4.0, 5.0]


def test_the_strain_is_that_of_the_toolkit():
    field = torch.randn(2, 2, 9, 8, generator=torch.Generator().manual_seed(0))
    found = dynamic_feature(field, kind="strain")
    assert torch.equal(found[:, :2], field)
    for sample, flow in zip(found, field, strict=True):
        expected = strain_magnitude(strain_tensor(flow.numpy()))
        np.testing.assert_allclose(sample[2], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["magnitude", "strain"])
def test_features_of_a_still_face_have_finite_gradients(kind):
    field = torch.zeros(1, 2, 6, 6, requires_grad=True)
    dynamic_feature(field, kind=kind).sum().backward()
    assert torch.isfinite(field.grad).all()


def test_an_unknown_feature_is_an_error():
    with pytest.raises(ConfigError, match="Did you mean 'strain'"):
        dynamic_feature(torch.zeros(1, 2, 6, 6), kind="strian")


def test_normalised_fields_have_one_size_and_still_ones_stay_still():
    torch.manual_seed(0)
    field = torch.randn(1, 2, 20, 20)
    fields = torch.cat([field, 0.01 * field, torch.full_like(field, 1e-5)])
    found = normalised_field(fields)
    torch.testing.assert_close(found[0], found[1])
    above = (found[0].norm(dim=0) > 1).float().mean()
    assert above == pytest.approx(0.01, abs=0.0026)
    torch.testing.assert_close(found[2], fields[2] / 1e-3)
