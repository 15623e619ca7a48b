"""How far a face is from its neutral state in every frame: the curves that key frames are found in.

All curves are measured on aligned frames, best on stabilized ones: what is left of the motion of
the head would be taken for expression.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d

from mer_prep.errors import MotionError
from mer_prep.ops.flow import optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.ops.robust import robust_sigma
from mer_prep.ops.similarity import eye_centre_distance, five_points

#: Cells across the frame that flow is averaged over before it is analysed.
CELLS = 36

#: Points whose surroundings an expression moves: brows, nose and mouth.
MOVING_PARTS = (slice(17, 22), slice(22, 27), slice(27, 36), slice(48, 68))

#: Points of the three parts of the face that Liong et al. compare: each eye with its brow, and
#: the mouth.
LBP_PARTS = ((*range(17, 22), *range(36, 42)), (*range(22, 27), *range(42, 48)), range(48, 68))

#: Sigma of the blur before local binary patterns are taken, in px.
LBP_BLUR = 1.0

#: Width of the seam between the covered eyes and the face, in distances of the eye centres.
_SEAM = 0.1

#: Sigma of the smoothing over time under which the pattern of the expression is looked for.
_PATTERN_SIGMA = 1.5


def flow_score(
    frames: np.ndarray,
    landmarks: np.ndarray,
    *,
    reference: int = 0,
    method: str = "dis",
    engine: str = "auto",
    eye_radius: float = 0.35,
) -> np.ndarray:
    """Return how strongly the main motion of the face is shown in every frame.

    Parameters
    ----------
    frames : ndarray, shape (T, S, S, 3) or (T, S, S), uint8
        Aligned frames.
    landmarks : ndarray, shape (T, 68, 2), float
        Landmarks in px of these frames.
    reference : int
        Index of the frame that flow starts from: the onset, or any neutral frame.
    method, engine : str
        Of the flow; see `mer_prep.ops.flow.optical_flow`.
    eye_radius : float
        Radius around the eye centres, in distances of the eye centres, in which every frame is
        covered by the reference frame, so that a blink is not seen; 0 for none.

    Returns
    -------
    ndarray, shape (T,), float64
        Larger where the expression is stronger; zero on average, in units of the noise of the
        flow. All zero if nothing moves, or for fewer than three frames.

    Raises
    ------
    MotionError
        If a flow is not finite.

    Notes
    -----
    Light is levelled (`level_light`) and the eyes are covered (`cover_eyes`) first: lids travel
    five times as far as a micro-expression, and the smoothness that flow methods assume carries
    their motion well beyond the eyes. The flows F_t(x) from the reference to each frame t,
    averaged in cells inside the face, are divided by their noise, estimated cell by cell from
    second differences in time. The score is the course a_t of the first principal component, the
    best fit of sum over t and x of (F_t(x) - mean F(x) - a_t E(x))^2 with one pattern E; it
    weighs regions and directions by their signal, whichever muscles act. Its sign is that of the
    magnitude of the flow.
    """
    grey = _greys(frames)
    if len(grey) < 3:
        return np.zeros(len(grey))
    shape = typical_shape(landmarks)
    inside = _cells(face_region(shape, size=grey.shape[1], eye_radius=eye_radius))
    covered = _prepared(grey, shape, reference, eye_radius)
    flows = np.zeros((len(grey), 2, *inside.shape), np.float32)
    for index in range(len(grey)):
        if index != reference:
            flow = optical_flow(covered[reference], covered[index], method=method, engine=engine)
            flows[index] = [_average(channel) for channel in flow]
    _check_flows(flows)
    return main_course(flows[:, :, inside].reshape(len(grey), -1).astype(np.float64))


def _check_flows(flows: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(flows).all(axis=(1, 2, 3)))
    if bad.size:
        raise MotionError(
            f"The flow to {bad.size} of {len(flows)} frames is not finite; the first is frame "
            f"{bad[0]}, counted from 0.",
            hint="look at the aligned frames, or spot the apex with --set "
            "apex.method=frame-difference",
        )


def main_course(values: np.ndarray) -> np.ndarray:
    """Return the course over time of the main component of many noisy signals.

    Parameters
    ----------
    values : ndarray, shape (T, D), float64
        Signals over time; zero in a reference frame.

    Returns
    -------
    ndarray, shape (T,), float64
        Course of the first principal component of the signals in units of their noise, zero on
        average, positive where the signals are large. Zero if they are constant.
    """
    if len(values) < 3 or not np.ptp(values, axis=0).any():
        return np.zeros(len(values))
    scaled = values / _noise(values)
    smooth = gaussian_filter1d(scaled, _PATTERN_SIGMA, axis=0, mode="nearest")
    centred = smooth - smooth.mean(axis=0)
    if len(centred) < centred.shape[1]:
        pattern = np.linalg.eigh(centred @ centred.T)[1][:, -1] @ centred
    else:
        pattern = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    length = float(np.linalg.norm(pattern))
    if length == 0:
        return np.zeros(len(values))
    course = (scaled - scaled.mean(axis=0)) @ pattern / length
    magnitude = np.linalg.norm(smooth, axis=1)
    backwards = float((course * (magnitude - magnitude.mean())).sum()) < 0
    return -course if backwards else course


def _noise(values: np.ndarray) -> np.ndarray:
    """Return the noise of every signal, (D,), from its second differences; never zero."""
    second = np.diff(values, 2, axis=0) / np.sqrt(6)
    noise = robust_sigma(second, axis=0)
    typical = float(np.median(noise))
    if typical == 0:
        typical = float(np.abs(second).mean()) or 1.0
    # Cells that happen to look quiet must not rule the pattern.
    return np.sqrt(noise**2 + (0.5 * typical) ** 2)


def lbp_score(
    frames: np.ndarray, landmarks: np.ndarray, *, reference: int = 0, eye_radius: float = 0.35
) -> np.ndarray:
    """Return how far the local binary patterns of every frame are from those of the reference.

    Parameters
    ----------
    frames, landmarks, reference, eye_radius
        As in `flow_score`.

    Returns
    -------
    ndarray, shape (T,), float64
        1 - d in [0, 1], averaged over each eye with its brow and the mouth, where
        ``d = sum(h g) / sqrt(sum(h^2) sum(g^2))`` compares the histograms h and g of the uniform
        patterns of 8 neighbours at radius 1. Zero in the reference frame. Liong et al. leave the
        eyes uncovered, which is a radius of 0, and do not blur; here frames are blurred by
        `LBP_BLUR` first, without which the noise of a camera decides the patterns of smooth skin.

    References
    ----------
    S.-T. Liong, J. See, K. Wong, A. C. Le Ngo, Y.-H. Oh, R. Phan, "Automatic apex frame spotting
    in micro-expression database", ACPR 2015. doi:10.1109/ACPR.2015.7486586
    """
    grey = _greys(frames)
    shape = typical_shape(landmarks)
    score = np.zeros(len(grey))
    codes = [
        _uniform_patterns(cv2.GaussianBlur(image, (0, 0), LBP_BLUR))
        for image in _prepared(grey, shape, reference, eye_radius)
    ]
    for points in LBP_PARTS:
        part = _box(shape[list(points)], size=grey.shape[1], margin=0.1 * _interocular(shape))
        histograms = np.stack([np.bincount(one[part].ravel(), minlength=59) for one in codes])
        length = np.maximum(np.linalg.norm(histograms, axis=1), 1)
        likeness = histograms @ histograms[reference] / (length * length[reference])
        score += (1 - likeness) / len(LBP_PARTS)
    return np.maximum(score, 0)


def difference_score(
    frames: np.ndarray, landmarks: np.ndarray, *, reference: int = 0, eye_radius: float = 0.35
) -> np.ndarray:
    """Return how far the grey values of every frame are from those of both ends of the clip.

    Parameters
    ----------
    frames, landmarks, reference, eye_radius
        As in `flow_score`.

    Returns
    -------
    ndarray, shape (T,), float64
        ``(|I_t - I_ref| + |I_t - I_last|) / 2``, averaged around brows, nose and mouth, in grey
        levels, after light is levelled and eyes are covered; at the two ends, where one of the
        differences is that of a frame from itself, the other.

    References
    ----------
    D. Borza, R. Danescu, R. Itu, A. Darabant, "High-speed video system for micro-expression
    detection and recognition", Sensors 17(12):2913, 2017, doi:10.3390/s17122913, spot
    micro-expressions by absolute differences of frames around brows and mouth; here the frames
    compared with are the ends of the clip, and no classifier is learned.
    """
    grey = _greys(frames)
    if len(grey) < 3:
        return np.zeros(len(grey))
    shape = typical_shape(landmarks)
    where = np.zeros(grey.shape[1:], bool)
    for part in MOVING_PARTS:
        where[_box(shape[part], size=grey.shape[1], margin=0.12 * _interocular(shape))] = True
    pixels = _prepared(grey, shape, reference, eye_radius)[:, where].astype(np.int16)
    ends = (reference, len(grey) - 1 if reference < len(grey) - 1 else 0)
    change = np.stack([np.abs(pixels - pixels[end]).mean(axis=1) for end in ends])
    score = change.mean(axis=0)
    for own, other in ((0, 1), (1, 0)):
        score[ends[own]] = change[other, ends[own]]
    return score


def level_light(grey: np.ndarray, shape: np.ndarray, *, reference: int = 0) -> np.ndarray:
    """Return the frames at the brightness of the reference frame.

    Parameters
    ----------
    grey : ndarray, shape (T, S, S), uint8
        Frames.
    shape : ndarray, shape (68, 2), float
        Landmarks in px.
    reference : int
        Index of the frame whose light is kept.

    Returns
    -------
    ndarray, shape (T, S, S), uint8
        Each frame I times the gain ``sum(R I) / sum(I^2)`` that brings it nearest to the
        reference R over the face without the eyes. Where no face is, over the whole frame.
    """
    region = face_region(shape, size=grey.shape[1], eye_radius=0.3)
    kept = grey[reference][region].astype(np.float64)
    levelled = np.empty_like(grey)
    for index, image in enumerate(grey):
        values = image[region].astype(np.float64)
        power = float(values @ values)
        gain = np.float32(kept @ values / power if power else 1.0)
        levelled[index] = np.minimum(np.rint(image * gain), 255)
    return levelled


def cover_eyes(
    grey: np.ndarray, shape: np.ndarray, *, reference: int = 0, radius: float = 0.35
) -> np.ndarray:
    """Return the frames with the eyes of the reference frame pasted over theirs.

    Parameters
    ----------
    grey : ndarray, shape (T, S, S), uint8
        Aligned frames.
    shape : ndarray, shape (68, 2), float
        Landmarks in px.
    reference : int
        Index of the frame whose eyes are seen.
    radius : float
        Radius of the patches in distances of the eye centres, to the middle of a soft seam; 0
        for none.

    Returns
    -------
    ndarray, shape (T, S, S), uint8
    """
    if radius == 0:
        return grey
    distance = _eye_distance(shape, size=grey.shape[1])
    cover = np.clip((radius - distance) / _SEAM + 0.5, 0, 1).astype(np.float32)
    eyes = grey[reference] * cover
    return np.stack([np.rint(image * (1 - cover) + eyes).astype(np.uint8) for image in grey])


def typical_shape(landmarks: np.ndarray) -> np.ndarray:
    """Return the median over time of every landmark: (T, 68, 2) to (68, 2)."""
    return np.median(np.asarray(landmarks, np.float64), axis=0)


def face_region(shape: np.ndarray, *, size: int, eye_radius: float = 0.0) -> np.ndarray:
    """Return where the face is, lower forehead included and surroundings of the eyes left out.

    Parameters
    ----------
    shape : ndarray, shape (68, 2), float
        Landmarks in px.
    size : int
        Side S of the frames in px.
    eye_radius : float
        Radius around the eye centres that is left out, in distances of the eye centres.

    Returns
    -------
    ndarray, shape (S, S), bool
        True everywhere if nothing would be left, as for landmarks outside of the frame.
    """
    brows = shape[17:27] - (0, 0.25 * _interocular(shape))
    hull = cv2.convexHull(np.concatenate([shape, brows]).astype(np.float32))
    mask = np.zeros((size, size), np.uint8)
    cv2.fillConvexPoly(mask, np.rint(hull).astype(np.int32), 1)
    region = mask.astype(bool) & (_eye_distance(shape, size=size) >= eye_radius)
    return region if region.any() else np.ones((size, size), bool)


def _eye_distance(shape: np.ndarray, *, size: int) -> np.ndarray:
    """Return every pixel's distance from the nearer eye centre, in distances of the eye centres."""
    y, x = np.mgrid[:size, :size]
    distances = [np.hypot(x - centre[0], y - centre[1]) for centre in five_points(shape)[:2]]
    return np.minimum(*distances) / _interocular(shape)


def _interocular(shape: np.ndarray) -> float:
    """Return the distance of the eye centres in px, 1 or more."""
    return max(float(eye_centre_distance(shape)), 1.0)


def _box(points: np.ndarray, *, size: int, margin: float) -> tuple[slice, slice]:
    """Return rows and columns of the box of some points, `margin` px larger, at least one px."""
    low = np.clip(np.floor(points.min(axis=0) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=0) + margin), low, size - 1).astype(int)
    return slice(low[1], high[1] + 1), slice(low[0], high[0] + 1)


def _prepared(grey: np.ndarray, shape: np.ndarray, reference: int, eye_radius: float) -> np.ndarray:
    """Return the frames in the light of the reference, its eyes over theirs."""
    levelled = level_light(grey, shape, reference=reference)
    return cover_eyes(levelled, shape, reference=reference, radius=eye_radius)


def _greys(frames: np.ndarray) -> np.ndarray:
    """Return frames (T, S, S[, 3]) as grey ones."""
    return np.stack([to_grey(np.asarray(image)) for image in frames])


def _average(channel: np.ndarray) -> np.ndarray:
    """Return the means of a square picture in cells, at most `CELLS` by `CELLS`."""
    cells = min(CELLS, *channel.shape)
    return cv2.resize(channel, (cells, cells), interpolation=cv2.INTER_AREA)


def _cells(region: np.ndarray) -> np.ndarray:
    """Return which cells lie in a region for the most part; all if none does."""
    inside = _average(region.astype(np.float32)) > 0.5
    return inside if inside.any() else np.ones_like(inside)


def _uniform_patterns(image: np.ndarray) -> np.ndarray:
    """Return the uniform local binary pattern of every pixel, (S, S) uint8 in 0 to 58."""
    padded = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    height, width = image.shape
    ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
    code = np.zeros(image.shape, np.uint8)
    for bit, (row, column) in enumerate(ring):
        code |= (padded[row : row + height, column : column + width] >= image).astype(
            np.uint8
        ) << np.uint8(bit)
    return _UNIFORM[code]


def _uniform_table() -> np.ndarray:
    """Return the bin of each of 256 patterns: one for each with at most two changes around."""
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    table = np.full(256, 58, np.uint8)
    table[uniform] = np.arange(int(uniform.sum()))
    return table


_UNIFORM = _uniform_table()
