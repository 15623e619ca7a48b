"""The rigid motion of a head through a clip, measured against one frame by registration.

Landmarks place the face in that one frame; from there on pixels decide. Landmarks of every frame
would add their own noise, and the expression moves them.
"""

from __future__ import annotations

import dataclasses
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mer_prep.errors import NoFaceError
from mer_prep.ops.registration import (
    IDENTITY,
    MIN_PIXELS,
    Limits,
    Reference,
    Registration,
    correlation,
)
from mer_prep.ops.similarity import (
    LEFT_EYE,
    RIGHT_EYE,
    apply_transform,
    check_face_shape,
    compose,
    eye_distance,
    face_transform,
    five_points,
    invert,
    warp,
)

#: Side of the square in which faces are registered, px; the face fills it as MOL's alignment does.
SIZE = 144

#: Fine px per px of that square. Frames are resampled twice, from the source and in the search;
#: at 1, what linear interpolation smooths away triples the error of a moving head.
DENSITY = 2

#: Room around the square, in its px, for the head to move in.
MARGIN = 12

#: Motion by the landmarks, in px of the square, up to which the onset's square is kept: pictures
#: that are cut out alike are the steadiest to compare, so only a larger motion moves the square.
KEPT_MOTION = 6.0

#: Width of the rim around the eyes that is left out, relative to the outer-eye distance. Lids
#: move, and skin moves with them.
EYE_RIM = 0.15

#: Landmarks around what speech moves least: from the inner ends of the brows over the corners of
#: the eyes to the nostrils.
STEADY_POINTS = (21, 22, 36, 39, 42, 45, 31, 35)

#: Weight of the rest of the face, where cheeks, mouth and jaw would drag the registration along,
#: and standard deviation of the passage to it, in px. Together the rest must outweigh what is
#: steady: at 0.1, a strongly wrinkled nose (action unit 9) was taken for motion of the head.
REST_WEIGHT = 0.2
PASSAGE = 3.0

#: Bytes of cut-outs that wait in memory for the reference; further ones wait on the disk.
WAITING_MEMORY = 16 * 2**20


#: A large expression or a turn of the head takes the correlation with the reference down to 0.7,
#: and other faces reach 0.8. What tells them apart is time: neighbouring frames of one recording
#: correlate at 0.92 or more, so a frame must be like the reference or like the one before it.
LIMITS = Limits(correlation=0.5)
ALIKE = 0.88
NEIGHBOUR_LIMITS = Limits(correlation=ALIKE)


def rigid_mask(landmarks: np.ndarray, *, size: int) -> np.ndarray:
    """Return the part of a face that shows how the head moves: all but the eyes.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in px of the picture.
    size : int
        Side S of the picture.

    Returns
    -------
    ndarray, shape (S, S), bool
        The convex hull of the landmarks without the eyes and a rim around them; how much each
        pixel counts is said by `rigid_weights`.
    """
    points = np.asarray(landmarks, np.float64)
    mask = filled_hull(points, size)
    rim = 2 * round(EYE_RIM * float(eye_distance(points))) + 1
    brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (rim, rim))
    for eye in (RIGHT_EYE, LEFT_EYE):
        mask[cv2.dilate(filled_hull(points[eye], size), brush) > 0] = 0
    return mask.astype(bool)


def rigid_weights(landmarks: np.ndarray, *, size: int) -> np.ndarray:
    """Return how much every pixel tells of the head's motion rather than of the face's.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in px of the picture.
    size : int
        Side S of the picture.

    Returns
    -------
    ndarray, shape (S, S), float32
        1 around the bridge of the nose and the corners of the eyes, `REST_WEIGHT` far from them.
    """
    steady = filled_hull(np.asarray(landmarks, np.float64)[list(STEADY_POINTS)], size)
    smooth = cv2.GaussianBlur(steady.astype(np.float32), (0, 0), PASSAGE)
    return np.asarray(REST_WEIGHT + (1 - REST_WEIGHT) * smooth, np.float32)


def filled_hull(points: np.ndarray, size: int) -> np.ndarray:
    """Return the convex hull of points as 1 in a picture of 0."""
    mask = np.zeros((size, size), np.uint8)
    hull = cv2.convexHull(points.astype(np.float32))
    cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), 1)
    return mask


@dataclass(frozen=True, slots=True)
class _Cutout:
    """A face cut out of a frame.

    Parameters
    ----------
    picture : ndarray, shape (N, N), uint8
        Grey values; all that is kept of a frame.
    to_source : ndarray, shape (2, 3)
        Px of the picture to px of the frame.
    guess : ndarray, shape (2, 3), or None
        Motion that the landmarks suggest; None if they are no face.
    """

    picture: np.ndarray
    to_source: np.ndarray
    guess: np.ndarray | None


class _Waiting:
    """Cut-outs put aside and taken back, the latest first; their pictures in a temporary file.

    The file is on the disk only beyond `WAITING_MEMORY`, and goes with this object.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=WAITING_MEMORY)  # noqa: SIM115
        self._rest: list[tuple[tuple[int, ...], np.ndarray, np.ndarray | None]] = []
        weakref.finalize(self, self._file.close)

    def put(self, cutout: _Cutout) -> None:
        self._file.write(cutout.picture.tobytes())
        self._rest.append((cutout.picture.shape, cutout.to_source, cutout.guess))

    def take(self) -> _Cutout:
        shape, to_source, guess = self._rest.pop()
        size = int(np.prod(shape))
        self._file.seek(len(self._rest) * size)
        picture = np.frombuffer(self._file.read(size), np.uint8).reshape(shape)
        return _Cutout(picture, to_source, guess)


class HeadFollower:
    """Measures the rigid motion of a head against a reference frame.

    Frames are shown to it one by one in order of time. From the reference on each is measured at
    once, starting from the motion of the frame before; of those before the reference small grey
    cut-outs are put aside until the reference is seen, and then measured backwards in time.

    Parameters
    ----------
    landmarks : ndarray, shape (T, 68, 2)
        Landmarks of every frame in source px. Those of the reference place the face; the others
        only say where to look if the head has moved far, and are never measured from.
    reference : int
        Index of the reference frame.
    degrees : {4, 3}
        Degrees of freedom: shift, rotation and scale, or shift and rotation.

    Attributes
    ----------
    motions : ndarray, shape (T, 2, 3), float64
        Similarity from the px of every frame to those of the reference frame. A frame that could
        not be registered has that of its neighbour on the side of the reference.
    residuals : ndarray, shape (T,), float64
        What remains after registration, in grey levels (robust standard deviation inside the
        face); 0 for the reference, not a number for failures.
    failures : dict of int to str
        Frames that could not be registered, and why.
    chained : list of int
        Frames too unlike the reference to be registered to it, a head that has turned for one,
        and registered to their neighbour instead. Errors of neighbours add up over them.
    """

    def __init__(self, landmarks: np.ndarray, reference: int, *, degrees: int = 4) -> None:
        self.motions = np.repeat(IDENTITY[None], len(landmarks), axis=0)
        self.residuals = np.zeros(len(landmarks))
        self.failures: dict[int, str] = {}
        self.chained: list[int] = []
        self._landmarks = np.asarray(landmarks, np.float64)
        self._index = reference
        self._degrees = degrees
        self._place = face_transform(self._landmarks[reference], size=SIZE)
        self._points = five_points(self._landmarks[reference])
        self._seen = 0
        self._earlier = _Waiting()
        self._reference: Reference | None = None
        self._mask = np.zeros((SIZE, SIZE), bool)
        self._weights = np.zeros((SIZE, SIZE), np.float32)
        self._latest = np.empty(0, np.float32)
        # The neighbour measured last, for frames that are too unlike the reference.
        self._before: tuple[_Cutout, np.ndarray] | None = None

    def see(self, image: np.ndarray) -> None:
        """Take in the next frame.

        Parameters
        ----------
        image : ndarray, shape (H, W, 3) or (H, W), uint8
            RGB or grey picture.

        Raises
        ------
        NoFaceError
            If the landmarks of the reference leave no face to register.
        """
        index = self._seen
        self._seen += 1
        cutout = self._cut(image, self._guess(index, image.shape[1::-1]))
        if index < self._index:
            self._earlier.put(cutout)
        elif index > self._index:
            self._measure(index, index - 1, cutout)
        else:
            self._begin(cutout)

    def head_motion(self) -> float:
        """Return the largest motion found, in source px, at the mean of the five points."""
        centre = self._points.mean(axis=0)
        moved = np.stack([apply_transform(invert(motion), centre) for motion in self.motions])
        return float(np.hypot(*(moved - centre).T).max())

    def _begin(self, cutout: _Cutout) -> None:
        """Take in the reference, and register what was seen before it, the latest first."""
        points = apply_transform(self._place, self._landmarks[self._index])
        mask = rigid_mask(points, size=SIZE)
        if int(mask.sum()) < MIN_PIXELS:
            raise NoFaceError(
                "The landmarks of the frame that others are aligned to leave no face but the eyes.",
                why="frames are registered by the face without the eyes, which move by themselves",
                hint="look at that frame, or use --set align.mode=onset",
            )
        placement = compose(self._place, cutout.to_source)
        self._mask, self._weights = mask, rigid_weights(points, size=SIZE)
        self._reference = Reference(
            cutout.picture,
            mask,
            placement=placement,
            degrees=self._degrees,
            weights=self._weights,
        )
        self._latest, self._before = self._reference.values, (cutout, IDENTITY)
        for index in range(self._index - 1, -1, -1):
            self._measure(index, index + 1, self._earlier.take())
        self._latest, self._before = self._reference.values, (cutout, IDENTITY)

    def _guess(self, index: int, image_size: Sequence[int]) -> np.ndarray | None:
        """Return the motion that the landmarks of a frame suggest, (2, 3); None if impossible."""
        points = self._landmarks[index]
        width, height = image_size
        try:
            check_face_shape(points, (width, height))
        except NoFaceError:
            return None
        return compose(invert(self._place), face_transform(points, size=SIZE))

    def _cut(self, image: np.ndarray, guess: np.ndarray | None) -> _Cutout:
        """Cut the face out, where the reference's was or, after a large motion, where it is."""
        place = self._place
        if guess is not None:
            moved = apply_transform(invert(guess), self._points) - self._points
            if float(np.hypot(*(moved @ place[:, :2].T).T).max()) > KEPT_MOTION:
                place = compose(place, guess)
        fine = place * DENSITY
        fine[:, 2] += DENSITY * (MARGIN + 0.5) - 0.5
        side = DENSITY * (SIZE + 2 * MARGIN)
        return _Cutout(warp(image, fine, size=side, grey=True), invert(fine), guess)

    def _measure(self, index: int, neighbour: int, cutout: _Cutout) -> None:
        """Register a frame to the reference, else to its neighbour, else give it up."""
        found = self._register(cutout, self.motions[neighbour], coarse=False)
        for start in (cutout.guess, self.motions[neighbour]):
            if found.failure and start is not None:
                found = self._register(cutout, start, coarse=True)
        if found.failure:
            chained = self._register_to_neighbour(cutout)
            if chained is None:
                self.motions[index] = self.motions[neighbour]
                self.residuals[index] = np.nan
                self.failures[index] = found.failure
                self._before = None
                return
            found = chained
            self.chained.append(index)
        in_square = compose(found.transform, invert(cutout.to_source))
        self.motions[index] = compose(invert(self._place), in_square)
        self.residuals[index] = found.residual
        self._latest = found.values
        self._before = (cutout, self.motions[index])

    def _register_to_neighbour(self, cutout: _Cutout) -> Registration | None:
        """Register a frame to the one measured before it, and by it to the reference."""
        if self._before is None:
            return None
        before, motion = self._before
        reference = Reference(
            before.picture,
            self._mask,
            placement=compose(self._place, compose(motion, before.to_source)),
            degrees=self._degrees,
            weights=self._weights,
        )
        start = compose(self._place, compose(motion, cutout.to_source))
        for coarse in (False, True):
            found = reference.register(
                cutout.picture, initial=start, coarse=coarse, limits=NEIGHBOUR_LIMITS
            )
            if found.converged:
                return found
        return None

    def _register(self, cutout: _Cutout, motion: np.ndarray, *, coarse: bool) -> Registration:
        assert self._reference is not None
        start = compose(self._place, compose(motion, cutout.to_source))
        found = self._reference.register(
            cutout.picture, initial=start, coarse=coarse, limits=LIMITS
        )
        alike = max(found.correlation, correlation(found.values, self._latest))
        if found.converged and alike < ALIKE:
            cut = f"the picture has changed (correlation {alike:.2f})"
            return dataclasses.replace(found, failure=cut)
        return found
