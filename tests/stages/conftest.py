from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import mer_prep
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames

MakeClip = Callable[..., tuple[Clip, ClipFrames]]


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Return a function that writes frames as PNG and gives the clip and its frames."""

    def make(
        images: list[np.ndarray],
        *,
        first: int = 101,
        seen: tuple[int, int] | None = None,
        **facts: object,
    ) -> tuple[Clip, ClipFrames]:
        numbers = tuple(range(first, first + len(images)))
        names = tuple(f"img{number}.png" for number in numbers)
        for name, image in zip(names, images, strict=True):
            assert cv2.imwrite(str(tmp_path / name), image[..., ::-1])
        clip = Clip(
            clip_id="test/s1/clip",
            corpus="test",
            subject="s1",
            clip="clip",
            root=str(tmp_path),
            frame_numbers=numbers,
            frames=names,
            **facts,
        )
        return clip, ClipFrames(clip, *(seen or clip.expression_span()))

    return make


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    path = Path(mer_prep.__file__).parent / "synth" / "portraits" / "grace_hopper.jpg"
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="session")
def no_face() -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(360, 307, 3)).astype(np.float32)
    return np.clip(128 + 400 * cv2.GaussianBlur(noise, (0, 0), 3), 0, 255).astype(np.uint8)


def add_noise(image: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1.5, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.fixture
def noisy_portraits(portrait: np.ndarray) -> list[np.ndarray]:
    """Return ten frames that differ by camera noise alone."""
    return [add_noise(portrait, seed) for seed in range(10)]
