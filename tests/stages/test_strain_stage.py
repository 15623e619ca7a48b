from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.stages.motion_image import MotionImage, MotionImageParams
from mer_prep.stages.strain import Strain, StrainParams
from mer_prep.stages.worker import check_output

TINY = np.zeros((4, 4, 3), np.uint8)


def flows(*matrices: tuple[float, float, float, float], size: int = 56) -> dict:
    """Return linear flows u = a x + b y, v = c x + d y."""
    y, x = np.mgrid[:size, :size]
    return {
        "flow": {
            "flow": np.stack(
                [np.stack([a * x + b * y, c * x + d * y]) for a, b, c, d in matrices]
            ).astype(np.float32)
        }
    }


def test_magnitude_of_every_pair(make_clip):
    clip, frames = make_clip([TINY] * 3)
    stage = Strain()
    output = stage.run(clip, frames, flows((0.03, 0, 0, 0.04), (0, 0.02, 0, 0)))
    strain = check_output(stage, output)["strain"]
    assert (strain.shape, strain.dtype) == ((2, 56, 56), np.float32)
    np.testing.assert_allclose(strain[0], 0.05, atol=1e-6)
    np.testing.assert_allclose(strain[1], 0.01 * np.sqrt(2), atol=1e-6)
    assert output.facts["mean_magnitude"] == pytest.approx((0.05 + 0.01 * np.sqrt(2)) / 2)


def test_the_tensor_is_a_choice_and_is_described(make_clip):
    clip, frames = make_clip([TINY] * 2)
    stage = Strain(StrainParams(components="tensor"))
    strain = check_output(stage, stage.run(clip, frames, flows((0.03, 0.01, 0.05, -0.02))))
    np.testing.assert_allclose(
        strain["strain"][0].mean(axis=(1, 2)), (0.03, -0.02, 0.03), atol=1e-6
    )
    assert strain["strain"].shape == (1, 3, 56, 56)
    assert stage.fields[0].channels == "e_xx e_yy e_xy"
    assert Strain().fields[0].axes == "pair y x"
    with pytest.raises(ConfigError, match=r"'strain\.components'"):
        StrainParams(components="shear")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_no_motion_has_no_strain_and_an_empty_image(make_clip, dtype):
    clip, frames = make_clip([TINY] * 2)
    inputs = {"flow": {"flow": np.zeros((1, 2, 56, 56), dtype)}}
    assert not check_output(Strain(), Strain().run(clip, frames, inputs))["strain"].any()
    stage = MotionImage()
    assert not check_output(stage, stage.run(clip, frames, inputs))["motion_image"].any()


def test_motion_images_have_three_channels_in_the_order_stated(make_clip):
    clip, frames = make_clip([TINY] * 2)
    stage = MotionImage()
    inputs = flows((0.03, 0, 0, 0), (0, 0, 0, -0.02))
    images = check_output(stage, stage.run(clip, frames, inputs))["motion_image"]
    assert (images.shape, images.dtype) == ((2, 3, 28, 28), np.float32)
    assert stage.fields[0].channels == "u v strain"
    ramp = np.linspace(0, 1, 28)
    np.testing.assert_allclose(images[0, 0], np.tile(ramp, (28, 1)), atol=1e-5)
    assert not images[0, 1].any()
    np.testing.assert_allclose(images[1, 1], np.tile(ramp[::-1, None], 28), atol=1e-5)


def test_motion_images_may_keep_their_units(make_clip):
    clip, frames = make_clip([TINY] * 2)
    stage = MotionImage(MotionImageParams(size=14, normalise="none"))
    output = stage.run(clip, frames, flows((0.03, 0, 0, 0)))
    image = check_output(stage, output)["motion_image"][0]
    # The mean over a cell of four pixels is the flow at its middle.
    np.testing.assert_allclose(image[0, 0], 0.03 * (4 * np.arange(14) + 1.5), atol=1e-5)
    np.testing.assert_allclose(image[2], 0.03, atol=1e-6)
    assert stage.fields[0].units == "px px unitless"
    assert output.facts == {"resize": "area", "normalise": "none"}


@pytest.mark.parametrize("values", [{"size": 3}, {"normalise": "z-score"}])
def test_parameters_of_motion_images_are_checked(values):
    with pytest.raises(ConfigError, match=r"'motion-image\."):
        MotionImageParams(**values)
