"""One face followed through the frames of a clip.

Running the detector on every frame is slow, and the boxes it gives make the landmarks jump. A face
is therefore detected once and followed by its own landmarks, and the detector is asked now and
then whether there is still a face.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mer_prep.checks import check_range
from mer_prep.errors import NoFaceError
from mer_prep.ops.faces import (
    THRESHOLD,
    FaceFinder,
    canonical_box,
    centre_of,
    choose_face,
    crop_around,
    side_of,
)
from mer_prep.ops.registration import correlation
from mer_prep.ops.similarity import check_face_shape

#: Correlation of neighbouring frames, in the place of the face, below which there is a cut. A head
#: that moves as fast as heads do stays above; where it does not, looking anew costs little.
CUT = 0.5

#: Side of the pictures that are compared for it, px.
VIEW_SIDE = 24

#: Confidence of frames without a face; the detector's scores are looked at from here on.
NO_FACE = -1.0


@dataclass(frozen=True, slots=True)
class FaceTrack:
    """The face of a clip of T frames.

    Parameters
    ----------
    landmarks : ndarray, shape (T, 68, 2), float32
        Landmarks (x, y) in source px; not a number where `detected` is false.
    box : ndarray, shape (T, 4), float32
        Box (left, top, right, bottom) implied by the landmarks, in source px.
    detected : ndarray, shape (T,), bool
        Whether the frame shows the face.
    n_faces : ndarray, shape (T,), int16
        Faces the detector found in the whole frame; -1 where it did not run, because the face
        was followed.
    confidence : ndarray, shape (T,), float32
        Score of dlib's detector, 0 or more for a face and -1 for frames without one. A followed
        face is scored now and then, and has values linear in time between.
    detections : int
        Number of frames the detector ran on.
    lost : int
        Number of times a face that was followed was lost.
    """

    landmarks: np.ndarray
    box: np.ndarray
    detected: np.ndarray
    n_faces: np.ndarray
    confidence: np.ndarray
    detections: int
    lost: int


@dataclass(slots=True)
class _Step:
    """What is known of one frame while a clip is followed."""

    landmarks: np.ndarray | None = None
    n_faces: int = -1
    score: float = math.nan


def track_face(finder: FaceFinder, frames: Iterable[np.ndarray], *, recheck: int = 8) -> FaceTrack:
    """Return the face of a clip.

    Parameters
    ----------
    finder : FaceFinder
        The models.
    frames : iterable of ndarray, shape (H, W, 3) or (H, W), uint8
        The frames in order; they are taken one after the other, and at most `recheck` of them
        are held.
    recheck : int
        Frames after which a followed face is checked by the detector's score.

    Returns
    -------
    FaceTrack
        Frames without a face are marked; a clip without any is returned as such.

    Notes
    -----
    Landmarks that are followed have no failure signal of their own: on a picture of grass the
    model goes on printing faces. A picture that changes at once where the face was is a cut, and
    the face is looked for anew. Every `recheck` frames, and whenever size or position change
    abruptly, the detector's score decides. If it sees no face, the frames since the last
    confirmed one are done again one by one, so that a cut is found where it is.
    """
    check_range("recheck", recheck, low=1)
    run = _Tracking(finder, recheck)
    for image in frames:
        run.add(image)
    return run.finish()


class _Tracking:
    """The state while one clip is followed."""

    def __init__(self, finder: FaceFinder, recheck: int) -> None:
        self.finder, self.recheck = finder, recheck
        self.steps: list[_Step] = []
        self.pending: list[tuple[np.ndarray, _Step]] = []
        self.confirmed: np.ndarray | None = None
        self.last_box: np.ndarray | None = None
        self.detections = self.lost = 0
        self.view: np.ndarray | None = None

    def add(self, image: np.ndarray) -> None:
        """Take the next frame: follow if there is a face to follow, else look for one."""
        if self.confirmed is not None and self._cut(image):
            self._settle_pending()
            self.lost += self.confirmed is not None
            self.confirmed = None
        if self.confirmed is None:
            self._search(image, self._new_step())
            return
        previous = self.pending[-1][1].landmarks if self.pending else self.confirmed
        assert previous is not None
        step = self._new_step()
        step.landmarks = self.finder.predict(image, canonical_box(previous))
        self.pending.append((image, step))
        if len(self.pending) >= self.recheck or _jumped(previous, step.landmarks, image):
            self._settle_pending()

    def finish(self) -> FaceTrack:
        if self.pending:
            self._settle_pending()
        return _track(self.steps, self.detections, self.lost)

    def _new_step(self) -> _Step:
        self.steps.append(_Step())
        return self.steps[-1]

    def _cut(self, image: np.ndarray) -> bool:
        """Return whether the picture changed at once where the face was confirmed last."""
        assert self.last_box is not None
        before, self.view = self.view, _view(image, self.last_box)
        return before is not None and correlation(before, self.view) < CUT

    def _settle_pending(self) -> None:
        """Confirm the followed frames if the newest shows a face, else do them again."""
        if not self.pending:
            return
        image, step = self.pending[-1]
        frames, self.pending = self.pending, []
        if self._confirm(image, step):
            return
        for image, step in frames:
            self._redo(image, step)

    def _confirm(self, image: np.ndarray, step: _Step) -> bool:
        assert step.landmarks is not None
        step.score = self.finder.face_score(image, canonical_box(step.landmarks))
        if step.score < THRESHOLD:
            return False
        self.confirmed = step.landmarks
        self.last_box = canonical_box(step.landmarks)
        self.view = _view(image, self.last_box)
        return True

    def _redo(self, image: np.ndarray, step: _Step) -> None:
        if self.confirmed is not None:
            step.landmarks = self.finder.predict(image, canonical_box(self.confirmed))
            if self._confirm(image, step):
                return
            self.lost += 1
            self.confirmed = None
        self._search(image, step)

    def _search(self, image: np.ndarray, step: _Step) -> None:
        """Look for a face in the whole frame, and believe it only if a second look agrees."""
        faces = self.finder.detect(image)
        self.detections += 1
        step.n_faces, step.landmarks, step.score = len(faces), None, math.nan
        size = (image.shape[1], image.shape[0])
        face = choose_face(faces, size, previous=self.last_box)
        if face is None:
            return
        step.landmarks = self.finder.settle(image, face.box)
        if not (_plausible(step.landmarks, size) and self._confirm(image, step)):
            step.landmarks, step.score = None, math.nan


def _track(steps: Sequence[_Step], detections: int, lost: int) -> FaceTrack:
    """Return what is known of the frames as arrays."""
    detected = np.array([step.landmarks is not None for step in steps], bool)
    landmarks = np.full((len(steps), 68, 2), np.nan, np.float32)
    box = np.full((len(steps), 4), np.nan, np.float32)
    for index, step in enumerate(steps):
        if step.landmarks is not None:
            landmarks[index] = step.landmarks
            box[index] = canonical_box(step.landmarks)
    return FaceTrack(
        landmarks=landmarks,
        box=box,
        detected=detected,
        n_faces=np.array([step.n_faces for step in steps], np.int16),
        confidence=_confidence(np.array([step.score for step in steps]), detected),
        detections=detections,
        lost=lost,
    )


def _confidence(score: np.ndarray, detected: np.ndarray) -> np.ndarray:
    """Return scores with those between two looks filled in, shape (T,), float32."""
    confidence = np.full(len(score), NO_FACE, np.float32)
    looked = detected & np.isfinite(score)
    if looked.any():
        frames = np.arange(len(score))
        confidence[detected] = np.interp(frames, frames[looked], score[looked])[detected]
    return confidence


def detect_every_frame(finder: FaceFinder, frames: Iterable[np.ndarray]) -> FaceTrack:
    """Return the face of a clip as published scripts find it: anew in every frame.

    Parameters
    ----------
    finder : FaceFinder
        The models; see `FaceFinder.detect_and_predict`.
    frames : iterable of ndarray, shape (H, W, 3) or (H, W), uint8
        The frames in order.

    Returns
    -------
    FaceTrack
        Frames without a face are marked, where the scripts stop with an error.
    """
    steps = [_Step(*finder.detect_and_predict(image)) for image in frames]
    return _track(steps, len(steps), 0)


def _view(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return a small grey picture of what is in a box."""
    # Pixels that few would be enough for need not all become grey.
    step = max(1, int(side_of(box)) // (4 * VIEW_SIDE))
    crop, _ = crop_around(image[::step, ::step], centre_of(box) / step, round(side_of(box) / step))
    view = cv2.resize(crop, (VIEW_SIDE, VIEW_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(view, np.float32)


def _plausible(landmarks: np.ndarray, image_size: tuple[int, int]) -> bool:
    try:
        check_face_shape(landmarks, image_size)
    except NoFaceError:
        return False
    return True


def _jumped(before: np.ndarray, after: np.ndarray, image: np.ndarray) -> bool:
    """Return whether a followed face changed size or place as no face does, or left the frame."""
    old, new = canonical_box(before), canonical_box(after)
    ratio = side_of(new) / side_of(old)
    moved = float(np.hypot(*(centre_of(new) - centre_of(old)))) / side_of(old)
    x, y = centre_of(new)
    outside = not (0 <= x < image.shape[1] and 0 <= y < image.shape[0])
    return not (0.8 < ratio < 1.25) or moved > 0.25 or outside
