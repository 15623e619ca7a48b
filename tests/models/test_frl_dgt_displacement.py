from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional  # noqa: E402

from mer_prep.errors import ConfigError  # noqa: E402
from mer_prep.models.frl_dgt.displacement import (  # noqa: E402
    WINDOWS,
    DisplacementGenerator,
    dynamic_feature,
    normalised_field,
)
from mer_prep.models.frl_dgt.least_squares import least_squares_displacement  # noqa: E402
from mer_prep.models.frl_dgt.objective import WEIGHTS, self_supervision  # noqa: E402
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
    assert count(DisplacementGenerator(guess=False)) == planned
    # The guesses are seen, and the share of each, and of none, is given.
    windows = len(WINDOWS)
    more = 2 * windows * 32 * 49 + (windows + 1) * (32 * 9 + 1)
    assert count(DisplacementGenerator()) == planned + more


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def smooth_picture(side=64):
    """Return a picture (1, 1, S, S) whose values are known between pixels, as a function."""

    def at(dx, dy):
        y, x = torch.meshgrid(*[torch.arange(float(side))] * 2, indexing="ij")
        x, y = x + dx, y + dy
        waves = torch.sin(0.4 * x + 0.1 * y) + torch.cos(0.35 * y - 0.2 * x)
        return (0.5 + 0.2 * waves)[None, None]

    return at


@pytest.mark.parametrize("shift", [(0.3, 0.0), (-0.2, 0.15), (0.0, -0.4)])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_small_shift_is_found_in_closed_form(shift, window):
    picture = smooth_picture()
    found = least_squares_displacement(picture(0, 0), picture(*shift), window=window)
    inside = found[0, :, 12:-12, 12:-12]
    error = (inside - torch.tensor(shift)[:, None, None]).norm(dim=0)
    # Slopes of the picture vanish in places, and there is little to follow.
    assert error.mean() < 0.05 * np.hypot(*shift)
    assert error.max() < 0.12


def test_the_closed_form_stands_still_where_nothing_is_to_be_seen():
    flat = torch.full((1, 1, 16, 16), 0.5)
    brighter = flat + 0.1
    assert not least_squares_displacement(flat, brighter, window=5).any()


def test_the_guess_is_where_the_generator_starts():
    torch.manual_seed(0)
    picture = smooth_picture()
    frames = torch.stack([picture(0, 0), picture(0.3, -0.2)], dim=1).expand(-1, -1, 3, -1, -1)
    with torch.no_grad():
        found = DisplacementGenerator(scale=0.125)(frames)[0, :, 12:-12, 12:-12]
    # At first all guesses and standing still have about the same share.
    expected = len(WINDOWS) / (len(WINDOWS) + 1) * torch.tensor([0.3, -0.2])
    torch.testing.assert_close(found.mean(dim=(1, 2)), expected, atol=0.03, rtol=0)


def test_the_displacement_starts_small_and_is_bounded():
    torch.manual_seed(0)
    generator = DisplacementGenerator(scale=0.25, largest=1.5, guess=False)
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
        parts = self_supervision(onset, apex, model(frames))
        loss = sum(WEIGHTS[name] * part for name, part in parts.items())
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
