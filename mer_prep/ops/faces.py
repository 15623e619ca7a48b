"""Faces and their 68 landmarks in one picture, by dlib.

Where the 68-point model puts landmarks depends on the box it is given. Here one kind of box is used
throughout: the box that earlier landmarks, of a first guess or of the frame before, imply.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep.checks import check_range, soft_import
from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops.images import to_grey
from mer_prep.ops.predictor import LICENCE_NOTE, VARIABLE, predictor_digest, predictor_file

logger = logging.getLogger(__name__)

#: Side of the canonical box and the offset of its centre, in root mean square radii of the 68
#: points; they approximate the box of dlib's detector, on which the model was trained.
BOX_SIDE = 2.7
BOX_OFFSET = (0.03, -0.1)

#: Smallest face dlib's detector sees, in px, and the shorter side of the first picture tried.
DETECTOR_FACE = 80
FIRST_SIDE = 240

#: Side of the box in the picture the landmark model sees, and of the picture of the loss check.
CROP_BOX = 400
CHECK_BOX, CHECK_SIDE = 90, 180

#: Standard deviation of the smoothing before landmarks, relative to the side of the box. Pixel
#: noise that flips the model's pixel comparisons causes most of the landmarks' jitter.
BLUR = 0.01

#: Scores at or above this are faces, both for finding and for the loss check.
THRESHOLD = 0.0

_SHIFT, _SCALE = 0.02, 0.03
_GRID = ((0, 0, 0), (1, 1, 1), (-1, -1, 1), (1, -1, -1), (-1, 1, -1))
_EDGES = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0))
_OFFSETS = {1: _GRID[:1], 5: _GRID, 9: _GRID + _EDGES}

#: How many predictions may be averaged.
SAMPLES = tuple(_OFFSETS)


@dataclass(frozen=True, slots=True)
class Face:
    """A detected face: its box (left, top, right, bottom) in px and the detector's score."""

    box: np.ndarray
    score: float


def canonical_box(landmarks: np.ndarray) -> np.ndarray:
    """Return the box (left, top, right, bottom) that landmarks imply.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in px.

    Returns
    -------
    ndarray, shape (4,), float64
        A square of 2.7 R around the mean of the points plus (0.03, -0.1) R, where R is the root
        mean square distance of the points from their mean.
    """
    points = np.asarray(landmarks, np.float64)
    mean = points.mean(axis=0)
    radius = math.sqrt(float(((points - mean) ** 2).sum(axis=1).mean()))
    centre = mean + radius * np.array(BOX_OFFSET)
    half = 0.5 * BOX_SIDE * radius
    return np.concatenate([centre - half, centre + half])


def choose_face(
    faces: Sequence[Face], image_size: tuple[int, int], *, previous: np.ndarray | None = None
) -> Face | None:
    """Return the face that is meant: large, central, and where it was before.

    Parameters
    ----------
    faces : sequence of Face
        Candidates, in any order.
    image_size : tuple of int
        Width and height of the picture in px.
    previous : ndarray, shape (4,), optional
        Box of the face in the last frame that showed it.

    Returns
    -------
    Face or None
        The face with the largest product of its side (relative to the shorter side of the
        picture), ``exp(-(d/D)^2)`` with the distance d of its centre from the picture's and D
        half the picture's diagonal, and, with `previous`, ``exp(-(m/s)^2)`` with the distance m
        from the previous centre and s the previous side. Ties go to the leftmost, topmost face.
    """
    width, height = image_size
    middle = np.array([width - 1, height - 1]) / 2

    def rank(face: Face) -> tuple[float, ...]:
        centre, side = centre_of(face.box), side_of(face.box)
        distance = float(np.hypot(*(centre - middle))) / (math.hypot(width, height) / 2)
        weight = side / min(image_size) * math.exp(-(distance**2))
        if previous is not None:
            moved = float(np.hypot(*(centre - centre_of(previous)))) / side_of(previous)
            weight *= math.exp(-(moved**2))
        return (-round(weight, 9), *(float(edge) for edge in face.box))

    return min(faces, key=rank, default=None)


def centre_of(box: np.ndarray) -> np.ndarray:
    """Return the centre (x, y) of a box (left, top, right, bottom)."""
    return np.array([box[0] + box[2], box[1] + box[3]], np.float64) / 2


def side_of(box: np.ndarray) -> float:
    """Return the mean of width and height of a box (left, top, right, bottom)."""
    return float(box[2] - box[0] + box[3] - box[1]) / 2


@functools.cache
def _models(predictor: str) -> tuple[Any, Any, Any]:
    """Load dlib, its detector and a landmark model: 1.5 s and 100 MB, so once per process."""
    dlib = _dlib()
    predictor_digest(Path(predictor))
    try:
        model = dlib.shape_predictor(predictor)
    except RuntimeError as error:
        raise DependencyError(
            f"dlib cannot read the landmark model: {error}.",
            where=predictor,
            hint="install the model again",
        ) from None
    logger.info("%s", LICENCE_NOTE)
    return dlib, dlib.get_frontal_face_detector(), model


def _dlib() -> Any:
    return soft_import(
        "dlib", purpose="is needed to find faces and their landmarks", install="mer-prep[dlib]"
    )


def dlib_version() -> str:
    """Return the version of dlib itself, whichever wheel brought it, or ``missing``."""
    try:
        return str(_dlib().__version__)
    except DependencyError:
        return "missing"


@functools.lru_cache
def _resolved(explicit: str | Path | None, variable: str | None) -> str:
    """Return the file of the landmark model, looked for once per process."""
    return str(predictor_file(explicit))


class FaceFinder:
    """Finds faces, predicts their landmarks and scores what is followed.

    The models are loaded at the first use and shared within the process; a finder itself holds
    only settings, so it may be sent to other processes.

    Parameters
    ----------
    samples : {1, 5, 9}
        Landmark predictions averaged, from boxes shifted by 2 % and scaled by 3 %. More are
        steadier and slower.
    min_face : float
        Smallest side of a face that is accepted, relative to the shorter side of the picture.
    predictor : str or Path, optional
        Landmark model; see `mer_prep.ops.predictor.predictor_file`.

    References
    ----------
    .. [1] V. Kazemi, J. Sullivan, "One millisecond face alignment with an ensemble of regression
       trees", CVPR 2014. doi:10.1109/CVPR.2014.241
    .. [2] D. E. King, "Max-margin object detection", 2015. arXiv:1502.00046
    """

    def __init__(
        self,
        *,
        samples: int = 1,
        min_face: float = 0.15,
        predictor: str | Path | None = None,
    ) -> None:
        if samples not in SAMPLES:
            raise ConfigError(
                f"Invalid value for 'samples': {samples!r}.",
                hint=f"choose one of {', '.join(map(str, SAMPLES))}",
            )
        check_range("min_face", min_face, low=0.02, high=1)
        self.samples, self.min_face = samples, float(min_face)
        self._predictor = predictor

    def check(self) -> None:
        """Raise `DependencyError` if dlib or the landmark model is missing; nothing is loaded."""
        _dlib()
        predictor_file(self._predictor)

    def _loaded(self) -> tuple[Any, Any, Any]:
        return _models(_resolved(self._predictor, os.environ.get(VARIABLE)))

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces of a picture that are large enough, from left to right.

        Parameters
        ----------
        image : ndarray, shape (H, W, 3) or (H, W), uint8
            The picture.

        Notes
        -----
        The detector's time grows with the number of pixels and it sees faces from 80 px, so the
        picture is first reduced until its shorter side has 240 px and then enlarged by steps of
        two, at most to the scale at which the smallest accepted face has 80 px, until there is a
        face. One more step then shows whether there are others of down to half its size. If
        there is none, the picture is tried with a border: faces that fill their picture are
        missed otherwise.
        """
        grey = to_grey(image)
        shorter = min(grey.shape)
        finest = 1.1 * DETECTOR_FACE / (self.min_face * shorter)
        scale = min(FIRST_SIDE / shorter, finest)
        faces = self._detect_at(grey, scale)
        while not faces and scale < finest:
            scale = min(2 * scale, finest)
            faces = self._detect_at(grey, scale)
        if faces and scale < finest:
            finer = self._detect_at(grey, min(2 * scale, finest))
            faces = finer if len(finer) > len(faces) else faces
        if not faces:
            faces = self._detect_padded(grey)
        smallest = self.min_face * shorter
        faces = [face for face in faces if side_of(face.box) >= smallest]
        return sorted(faces, key=lambda face: tuple(face.box))

    def _detect_at(self, grey: np.ndarray, scale: float) -> list[Face]:
        _, detector, _ = self._loaded()
        height, width = grey.shape
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        scaled = grey
        if size != (width, height):
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            scaled = np.asarray(cv2.resize(grey, size, interpolation=method))
        ratio = np.array([width / size[0], height / size[1]] * 2)
        boxes, scores, _ = detector.run(np.ascontiguousarray(scaled), 0, THRESHOLD)
        return [
            Face((_edges(box) + 0.5) * ratio - 0.5, float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]

    def _detect_padded(self, grey: np.ndarray) -> list[Face]:
        pad = round(0.25 * min(grey.shape))
        padded = cv2.copyMakeBorder(grey, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
        scale = min(1.5 * FIRST_SIDE / min(padded.shape), 2.0)
        return [
            Face(face.box - pad, face.score) for face in self._detect_at(np.asarray(padded), scale)
        ]

    def predict(
        self, image: np.ndarray, box: np.ndarray, *, samples: int | None = None
    ) -> np.ndarray:
        """Return the 68 landmarks of the face in a box.

        Parameters
        ----------
        image : ndarray, shape (H, W, 3) or (H, W), uint8
            The picture.
        box : ndarray, shape (4,)
            Box (left, top, right, bottom) in px.
        samples : {1, 5, 9}, optional
            Predictions averaged; the finder's own number by default.

        Returns
        -------
        ndarray, shape (68, 2), float64
            Landmarks in px: the mean over `samples` predictions, each made in a smoothed picture
            in which the box has 400 px, so that the model's whole pixels become fractions.
        """
        dlib, _, model = self._loaded()
        side = side_of(box)
        crop, offset = crop_around(image, centre_of(box), round(1.6 * side))
        zoomed_side = max(1, round(crop.shape[0] * CROP_BOX / side))
        zoom = zoomed_side / crop.shape[0]
        zoomed = _zoomed(crop, zoomed_side)
        centre = (centre_of(box) - offset + 0.5) * zoom - 0.5
        total = np.zeros((68, 2))
        offsets = _OFFSETS[samples or self.samples]
        for right, down, larger in offsets:
            half = 0.5 * CROP_BOX * (1 + _SCALE * larger)
            x, y = centre + CROP_BOX * _SHIFT * np.array([right, down])
            rectangle = dlib.rectangle(
                round(x - half), round(y - half), round(x + half), round(y + half)
            )
            total += _points(model(zoomed, rectangle))
        return (total / len(offsets) + 0.5) / zoom - 0.5 + offset

    def detect_and_predict(self, image: np.ndarray) -> tuple[np.ndarray | None, int, float]:
        """Find the face of a picture as the scripts of published recognisers do.

        The detector runs on the picture enlarged twice, its best face goes straight to the
        landmark model, and landmarks are whole pixels. For comparison with published work: it is
        some ten times slower than following, and its landmarks jump from frame to frame.

        Parameters
        ----------
        image : ndarray, shape (H, W, 3) or (H, W), uint8
            The picture.

        Returns
        -------
        landmarks : ndarray, shape (68, 2), float64, or None
            Landmarks in whole px; None if there is no face.
        n_faces : int
            Number of faces found.
        score : float
            The detector's score of the face; not a number if there is none.
        """
        _, detector, model = self._loaded()
        boxes, scores, _ = detector.run(np.ascontiguousarray(image), 1, THRESHOLD)
        if not boxes:
            return None, 0, math.nan
        best = int(np.argmax(scores))
        return _points(model(np.ascontiguousarray(image), boxes[best])), len(boxes), scores[best]

    def settle(self, image: np.ndarray, box: np.ndarray, *, rounds: int = 3) -> np.ndarray:
        """Return landmarks of a detected face, predicted again from the boxes they imply.

        The last round takes as many samples as there are: a clip is aligned by these landmarks.
        """
        landmarks = self.predict(image, box, samples=1)
        for _ in range(rounds - 1):
            landmarks = self.predict(image, canonical_box(landmarks), samples=1)
        return self.predict(image, canonical_box(landmarks), samples=SAMPLES[-1])

    def face_score(self, image: np.ndarray, box: np.ndarray) -> float:
        """Return the detector's score of the face in a box; minus infinity if it sees none.

        The score is that of a 180 px picture in which the box has 90 px, so it costs the same
        at any resolution. Followed faces have scores around 1 to 2, other content below -0.6.
        """
        _, detector, _ = self._loaded()
        crop, _ = crop_around(image, centre_of(box), round(side_of(box) * CHECK_SIDE / CHECK_BOX))
        method = cv2.INTER_AREA if crop.shape[0] > CHECK_SIDE else cv2.INTER_LINEAR
        view = cv2.resize(crop, (CHECK_SIDE, CHECK_SIDE), interpolation=method)
        boxes, scores, _ = detector.run(np.asarray(view), 0, -1.0)
        middle = (CHECK_SIDE - 1) / 2
        central = [
            float(score)
            for found, score in zip(boxes, scores, strict=True)
            if float(np.hypot(*(centre_of(_edges(found)) - middle))) < 0.5 * CHECK_BOX
        ]
        return max(central, default=-math.inf)


def _points(shape: Any) -> np.ndarray:
    """Return dlib's landmarks as an array of shape (68, 2), float64."""
    return np.array([(point.x, point.y) for point in shape.parts()], np.float64)


def _zoomed(crop: np.ndarray, side: int) -> np.ndarray:
    """Return a square picture at another size, smoothed; at the smaller of the two sizes."""
    sigma = BLUR * CROP_BOX * min(1.0, crop.shape[0] / side)
    if crop.shape[0] > side:
        # The smoothing that follows hides what little a mild reduction by linear weights aliases.
        method = cv2.INTER_AREA if crop.shape[0] > 2 * side else cv2.INTER_LINEAR
        crop = np.asarray(cv2.resize(crop, (side, side), interpolation=method))
    # OpenCV smooths floating point faster than bytes at these widths.
    smooth = cv2.GaussianBlur(crop.astype(np.float32), (0, 0), max(sigma, 0.3))
    smooth = cv2.convertScaleAbs(smooth)
    if smooth.shape[0] < side:
        smooth = cv2.resize(smooth, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(smooth)


def _edges(box: Any) -> np.ndarray:
    return np.array([box.left(), box.top(), box.right(), box.bottom()], np.float64)


def crop_around(image: np.ndarray, centre: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a square part of a picture in grey, zero outside of it, and its first pixel (x, y)."""
    side = max(side, 2)
    left, top = (round(float(value) - (side - 1) / 2) for value in centre)
    crop = np.zeros((side, side), np.uint8)
    height, width = image.shape[:2]
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    if x0 < x1 and y0 < y1:
        crop[y0 - top : y1 - top, x0 - left : x1 - left] = to_grey(image[y0:y1, x0:x1])
    return crop, np.array([left, top], np.float64)
