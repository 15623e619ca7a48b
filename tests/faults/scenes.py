"""Clips whose faces are bright squares, and a finder that sees those: no model is needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np

from mer_prep.manifest import Clip
from mer_prep.ops.faces import Face, centre_of, side_of
from mer_prep.sources.frames import ClipFrames

#: A face in a picture: x and y of its centre, and its side, in px.
Square = tuple[float, float, float]

SIZE = (160, 120)
MIDDLE: Square = (80, 60, 70)


def face_points() -> np.ndarray:
    """Return an upright face, 68 points (x, y) in a square from -0.5 to 0.5."""
    across = np.linspace(-1, 1, 17)
    jaw = np.stack([0.45 * across, 0.45 - 0.4 * across**2], axis=1)
    brow = np.stack([np.linspace(-0.1, 0.1, 5), [-0.2, -0.22, -0.23, -0.22, -0.2]], axis=1)
    ridge = np.stack([np.zeros(4), np.linspace(-0.1, 0.08, 4)], axis=1)
    nostrils = np.stack([np.linspace(-0.07, 0.07, 5), [0.12, 0.13, 0.14, 0.13, 0.12]], axis=1)
    turn = np.linspace(0, 2 * np.pi, 7)[:-1] + np.pi
    eye = np.stack([0.07 * np.cos(turn), 0.03 * np.sin(turn)], axis=1)
    turn = np.linspace(0, 2 * np.pi, 21)[:-1] + np.pi
    mouth = np.stack([0.15 * np.cos(turn), 0.26 + 0.05 * np.sin(turn)], axis=1)
    # Corner, over the upper lip to the other corner, and back: the corners are points 48 and 54.
    mouth = mouth[[0, 2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 1, 3, 5, 7, 9, 11, 13, 15]]
    brows = [np.add(brow, (side, 0)) for side in (-0.2, 0.2)]
    eyes = [np.add(eye, (side, -0.1)) for side in (-0.2, 0.2)]
    return np.concatenate([jaw, *brows, ridge, nostrils, *eyes, mouth])


def picture(
    *faces: Square, seed: int = 0, size: tuple[int, int] = SIZE, lift: float = 160
) -> np.ndarray:
    """Return a dark textured picture (H, W, 3), uint8, with bright textured squares.

    With a small `lift` the squares are too dim to be faces, and look much as before.
    """
    width, height = size
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    texture = np.clip(cv2.GaussianBlur(noise, (0, 0), 2) * 100, -25, 25)
    grey = 60 + texture
    for x, y, side in faces:
        rows = slice(max(0, round(y - side / 2)), round(y + side / 2))
        columns = slice(max(0, round(x - side / 2)), round(x + side / 2))
        grey[rows, columns] += lift
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


class SquareFinder:
    """Stands in for `FaceFinder`: faces are bright squares."""

    def __init__(self, *, min_face: float = 0.15, **_: Any) -> None:
        self.min_face = min_face

    def check(self) -> None:
        """Need nothing."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the squares that are large enough."""
        faces = [Face(box, 1.0) for box in _squares(image)]
        return [face for face in faces if side_of(face.box) >= self.min_face * min(image.shape[:2])]

    def predict(self, image: np.ndarray, box: np.ndarray, **_: Any) -> np.ndarray:
        """Return the landmarks of the square nearest to a box, or of the box itself."""
        found = min(
            _squares(image), key=lambda one: float(np.hypot(*(centre_of(one) - centre_of(box)))),
            default=box,
        )  # fmt: skip
        return centre_of(found) + side_of(found) * face_points()

    def settle(self, image: np.ndarray, box: np.ndarray, **_: Any) -> np.ndarray:
        """Return the landmarks of a detected square."""
        return self.predict(image, box)

    def face_score(self, image: np.ndarray, box: np.ndarray) -> float:
        """Return 2 if a square is where the box is, else minus infinity."""
        inside = (float(np.hypot(*(centre_of(one) - centre_of(box)))) for one in _squares(image))
        return 2.0 if min(inside, default=np.inf) < 0.5 * side_of(box) else -np.inf


def _squares(image: np.ndarray) -> list[np.ndarray]:
    bright = (image.max(axis=2) > 130).astype(np.uint8)
    _, _, facts, _ = cv2.connectedComponentsWithStats(bright)
    return [
        np.array([left, top, left + width - 1, top + height - 1], np.float64)
        for left, top, width, height, area in facts[1:]
        if area > 30
    ]


@contextmanager
def squares_for_faces() -> Iterator[None]:
    """Let the stage ``landmarks`` see squares for faces."""
    stage = "mer_prep.stages.landmarks."
    with (
        mock.patch(stage + "FaceFinder", SquareFinder),
        mock.patch(stage + "Landmarks.identity", return_value={"finder": "squares"}),
    ):
        yield


def write_frames(folder: Path, images: Sequence[np.ndarray], *, suffix: str = ".png") -> list[Path]:
    """Write frames from number 1 on and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images, start=1):
        paths.append(folder / f"img{number}{suffix}")
        assert cv2.imwrite(str(paths[-1]), image[..., ::-1])
    return paths


def clip_of(root: Path, images: Sequence[np.ndarray], *, name: str = "film", **facts: Any) -> Clip:
    """Write a clip below a root and return it."""
    suffix = facts.pop("suffix", ".png")
    paths = write_frames(root / "ann" / name, images, suffix=suffix)
    return Clip(
        clip_id=f"clips/ann/{name}",
        corpus="clips",
        subject="ann",
        clip=name,
        root=str(root),
        frame_numbers=tuple(range(1, len(images) + 1)),
        frames=tuple(path.relative_to(root).as_posix() for path in paths),
        **facts,
    )


def frames_of(clip: Clip) -> ClipFrames:
    """Return the frames of a clip from onset to offset."""
    return ClipFrames(clip, *clip.expression_span())
