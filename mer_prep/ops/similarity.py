"""Similarity transforms between source and aligned pixels, and warping with them.

A transform is a (2, 3) float64 matrix ``[A | b]`` that takes a source point (x, y) to the aligned
point ``A @ (x, y) + b``. Coordinates are those of pixel centres.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from mer_prep.errors import NoFaceError
from mer_prep.ops.images import to_grey

#: Rows of the 68-point scheme (iBUG 300-W, counted from zero).
RIGHT_EYE = slice(36, 42)
LEFT_EYE = slice(42, 48)
NOSE_TIP, MOUTH_RIGHT, MOUTH_LEFT = 30, 48, 54
OUTER_EYE_CORNERS = (36, 45)

#: Px of the grid a picture is warped to per source px, at least, when it is shrunk.
FINE_ENOUGH = 0.8

#: Largest oversampling then; 8 covers faces up to 1,440 px at 144 px.
MAX_OVERSAMPLING = 8

#: What to do about a face that cannot be placed.
_LOOK = "look at the frame; if it shows no face, correct the onset or leave the clip out"

#: Smallest distance between the eye centres that is believed, in source px.
MIN_EYE_DISTANCE = 6.0


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Return the five points that place a face.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2) or (T, 68, 2)
        Landmarks of the 68-point scheme.

    Returns
    -------
    ndarray, shape (5, 2) or (T, 5, 2), float64
        Centre of the eye at the left of the picture (the subject's right), centre of the other
        eye, tip of the nose, and the mouth corners in the same order.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape[-2:] != (68, 2):
        raise ValueError(f"landmarks must have shape (68, 2) or (T, 68, 2), not {points.shape}")
    return np.stack(
        [
            points[..., RIGHT_EYE, :].mean(axis=-2),
            points[..., LEFT_EYE, :].mean(axis=-2),
            points[..., NOSE_TIP, :],
            points[..., MOUTH_RIGHT, :],
            points[..., MOUTH_LEFT, :],
        ],
        axis=-2,
    )


def eye_centre_distance(landmarks: np.ndarray) -> np.ndarray:
    """Return the distance between the centres of the eyes, shape (...), in the px of (..., 68, 2).

    The centre of an eye is the mean of its six points.
    """
    points = five_points(landmarks)
    return np.linalg.norm(points[..., 1, :] - points[..., 0, :], axis=-1)


def eye_distance(landmarks: np.ndarray) -> np.ndarray:
    """Return the distance between the outer eye corners (points 36 and 45), in the same px.

    It is the inter-ocular distance that landmark errors are divided by in the 300-W benchmark.

    References
    ----------
    C. Sagonas et al., "300 Faces In-The-Wild Challenge: database and results", Image and Vision
    Computing 47, 2016. doi:10.1016/j.imavis.2016.01.002
    """
    points = np.asarray(landmarks, np.float64)
    first, second = OUTER_EYE_CORNERS
    return np.linalg.norm(points[..., second, :] - points[..., first, :], axis=-1)


def face_transform(landmarks: np.ndarray, *, size: int = 144, enlarge: float = 2.5) -> np.ndarray:
    """Return the transform that makes a face upright and fills a square with it.

    The eyes are made horizontal; the bounding box of the five rotated points gives the centre of
    the square, and the larger of its sides times `enlarge` the side.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in source px.
    size : int
        Side of the aligned picture in px.
    enlarge : float
        Side of the square relative to the box of the five points.

    Returns
    -------
    ndarray, shape (2, 3), float64
        Source to aligned px. The square's edges lie on the outermost pixel centres.

    Raises
    ------
    NoFaceError
        If the eyes coincide or the five points have no extent.

    Notes
    -----
    This is the alignment that the MOL micro-expression recogniser was published with (144 px,
    2.5 times the box). Its angle comes from both eye centres, so it is defined for any face whose
    eyes differ.
    """
    points = five_points(landmarks)
    if not np.isfinite(points).all():
        raise NoFaceError("The landmarks that place the face are not finite.", hint=_LOOK)
    across = points[1] - points[0]
    if float(np.hypot(*across)) < 1e-9:
        raise NoFaceError(f"The eye centres coincide at {_text(points[0])}.", hint=_LOOK)
    angle = math.atan2(across[1], across[0])
    rotation = np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], np.float64
    )
    rotated = points @ rotation.T
    low, high = rotated.min(axis=0), rotated.max(axis=0)
    half = 0.5 * enlarge * float((high - low).max())
    scale = (size - 1) / (2 * half)
    shift = scale * (half - 0.5 * (low + high))
    return np.column_stack([scale * rotation, shift])


def apply_transform(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return points taken through a transform.

    Parameters
    ----------
    transform : ndarray, shape (2, 3)
        The transform.
    points : ndarray, shape (..., 2)
        Points (x, y).

    Returns
    -------
    ndarray, shape (..., 2), float64
    """
    transform = np.asarray(transform, np.float64)
    return np.asarray(points, np.float64) @ transform[:, :2].T + transform[:, 2]


def invert(transform: np.ndarray) -> np.ndarray:
    """Return the inverse transform, shape (2, 3), float64."""
    inverse = np.linalg.inv(np.asarray(transform, np.float64)[:, :2])
    return np.column_stack([inverse, -inverse @ transform[:, 2]])


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the transform that does `first`, then `second`; shape (2, 3), float64."""
    second, first = np.asarray(second, np.float64), np.asarray(first, np.float64)
    return np.column_stack(
        [second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]]
    )


def scale_of(transform: np.ndarray) -> float:
    """Return how many aligned px one source px becomes."""
    return math.sqrt(abs(float(np.linalg.det(np.asarray(transform, np.float64)[:, :2]))))


def warp(
    image: np.ndarray,
    transform: np.ndarray,
    *,
    size: int = 144,
    border: float = 128,
    grey: bool = False,
) -> np.ndarray:
    """Return a picture in aligned pixels.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, 3), uint8 or float32
        Picture in source pixels.
    transform : ndarray, shape (2, 3)
        Source to aligned px.
    size : int
        Side of the result in px.
    border : float
        Grey value where the source has no pixels, 0 to 255.
    grey : bool
        Whether a colour picture becomes a grey one; only what is seen of it is converted.

    Returns
    -------
    ndarray, shape (size, size) or (size, size, 3), dtype of `image`

    Notes
    -----
    Shrinking by linear interpolation alone skips source pixels, so that fine texture flickers
    with every sub-pixel movement and looks like motion. The picture is therefore warped to a
    grid `k` times finer (`k` the least whole number that leaves it no more than a quarter
    coarser than the source, at most `MAX_OVERSAMPLING`) and averaged over k x k cells. Before
    that, sources of more than twice the density needed are averaged over whole cells of their
    own, which lie where they lie whatever the transform.
    """
    if image.dtype not in (np.uint8, np.float32):
        raise ValueError(f"a picture to warp must be uint8 or float32, not {image.dtype}")
    transform = np.asarray(transform, np.float64)
    cell = max(1, math.floor(0.5 / scale_of(transform) + 1e-9))
    part, offset = _source_part(image, transform, size, cell)
    if grey:
        part = to_grey(part)
    if cell > 1:
        part, transform, offset = _reduced(part, transform, offset, cell)
    factor = min(MAX_OVERSAMPLING, max(1, math.ceil(FINE_ENOUGH / scale_of(transform) - 1e-9)))
    # Fine pixel X lies at the aligned position (X + 0.5) / factor - 0.5.
    fine = transform * factor
    fine[:, 2] += 0.5 * factor - 0.5 + fine[:, :2] @ offset
    warped = cv2.warpAffine(
        part.astype(np.float32, copy=False),
        fine,
        (size * factor, size * factor),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(float(border),) * 3,
    )
    if factor > 1:
        warped = cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)
    if image.dtype == np.uint8:
        return np.clip(np.rint(warped), 0, 255).astype(np.uint8)
    return np.asarray(warped)


def _reduced(
    part: np.ndarray, transform: np.ndarray, offset: np.ndarray, cell: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a part averaged over cells, and transform and offset in px of the result."""
    height, width = (max(1, math.ceil(side / cell)) for side in part.shape[:2])
    missing = (height * cell - part.shape[0], width * cell - part.shape[1])
    if any(missing):
        part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    part = np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA))
    # Source px x = cell * X + (cell - 1) / 2 for the px X of the result.
    coarser = transform.copy()
    coarser[:, :2] *= cell
    coarser[:, 2] += transform[:, :2].sum(axis=1) * (cell - 1) / 2
    return part, coarser, offset / cell


def _source_part(
    image: np.ndarray, transform: np.ndarray, size: int, cell: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the part of the source that the aligned square shows, and its (x, y) offset.

    Only this part is turned to floating point, which matters for frames of megapixels. It begins
    at a whole multiple of `cell`.
    """
    edge = size - 0.5
    corners = np.array([[-0.5, -0.5], [edge, -0.5], [edge, edge], [-0.5, edge]])
    seen = apply_transform(invert(transform), corners)
    height, width = image.shape[:2]
    left, top = (np.floor(seen.min(axis=0)).astype(int) - 2 * cell) // cell * cell
    right, bottom = np.ceil(seen.max(axis=0)).astype(int) + 2 * cell + 1
    left, right = np.clip([left, right], 0, width)
    top, bottom = np.clip([top, bottom], 0, height)
    if right - left < 1 or bottom - top < 1:
        raise NoFaceError(
            f"The aligned square lies outside the {width}x{height} px picture "
            f"(its corners are at {np.round(seen).astype(int).tolist()}).",
            hint=_LOOK,
        )
    return image[top:bottom, left:right], np.array([left, top], np.float64)


def fit_similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the similarity that takes `source` points closest to `target` points.

    Parameters
    ----------
    source, target : ndarray, shape (N, 2)
        Corresponding points, N >= 2.

    Returns
    -------
    ndarray, shape (2, 3), float64
        Scale, rotation (determinant positive) and shift of least summed squared distance.

    Raises
    ------
    ValueError
        For shapes that do not fit.
    NoFaceError
        If points are not finite, coincide, or one set is the mirror image of the other.

    References
    ----------
    S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", IEEE TPAMI 13(4), 1991. doi:10.1109/34.88573
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ValueError(
            "source and target must be N >= 2 points of shape (N, 2), "
            f"not {source.shape} and {target.shape}"
        )
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise NoFaceError("Points to fit a similarity to are not finite.", hint=_LOOK)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    spread = float((source_centred**2).sum())
    target_spread = float((target_centred**2).sum())
    if min(spread, target_spread) < 1e-12:
        raise NoFaceError(
            "A similarity cannot be fitted to points that coincide "
            f"(squared spread {spread:.3g} and {target_spread:.3g} px^2).",
            hint=_LOOK,
        )
    covariance = source_centred.T @ target_centred
    determinant = float(np.linalg.det(covariance)) / (spread * target_spread)
    if determinant < -1e-9:
        raise NoFaceError(
            f"The points are the mirror image of each other (determinant {determinant:.3g}).",
            hint=_LOOK,
        )
    # In the plane the best rotation and scale are the two numbers of one complex factor.
    cosine = (covariance[0, 0] + covariance[1, 1]) / spread
    sine = (covariance[0, 1] - covariance[1, 0]) / spread
    matrix = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([matrix, target_mean - matrix @ source_mean])


def transform_jitter(transforms: np.ndarray, points: np.ndarray) -> float:
    """Return how far fixed source points jump from frame to frame by the transforms alone.

    Parameters
    ----------
    transforms : ndarray, shape (T, 2, 3)
        Source to aligned px, one a frame.
    points : ndarray, shape (N, 2)
        Source points, e.g. the five points of the onset frame.

    Returns
    -------
    float
        Root mean square over frames and points of the change of position, in aligned px; zero
        for one frame or one transform.
    """
    placed = np.stack([apply_transform(transform, points) for transform in transforms])
    return point_jitter(placed)


def point_jitter(points: np.ndarray) -> float:
    """Return the root mean square change of position from frame to frame of (T, N, 2) points."""
    if len(points) < 2:
        return 0.0
    steps = np.diff(np.asarray(points, np.float64), axis=0)
    return float(np.sqrt((steps**2).sum(axis=-1).mean()))


def check_face_shape(landmarks: np.ndarray, image_size: tuple[int, int]) -> None:
    """Refuse landmarks that cannot be an upright face in the picture.

    Parameters
    ----------
    landmarks : ndarray, shape (68, 2)
        Landmarks in source px.
    image_size : tuple of int
        Width and height of the picture in px.

    Raises
    ------
    NoFaceError
        With the offending values, if points are not finite, the eyes (nearly) coincide, the face
        is mirrored or upside down, one of the five points lies outside the picture by more than
        a quarter of the eye distance, or any landmark by more than one eye distance.
    """
    landmarks = np.asarray(landmarks, np.float64)
    if not np.isfinite(landmarks).all():
        bad = np.flatnonzero(~np.isfinite(landmarks).all(axis=1))
        raise NoFaceError(
            f"{len(bad)} landmarks are not finite; the first is point {bad[0]}.", hint=_LOOK
        )
    points = five_points(landmarks)
    across = points[1] - points[0]
    distance = float(np.hypot(*across))
    if distance < MIN_EYE_DISTANCE:
        raise NoFaceError(
            f"The eye centres are {distance:.1f} px apart, less than {MIN_EYE_DISTANCE:g} px.",
            why="scale and angle of the face cannot be measured",
            hint=_LOOK,
        )
    down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
    turned = float(across[0] * down[1] - across[1] * down[0])
    if turned <= 0:
        mouth = _text(points[3:].mean(axis=0))
        raise NoFaceError(
            "The landmarks are those of a mirrored face: eyes at "
            f"{_text(points[0])} and {_text(points[1])}, mouth at {mouth}.",
            why="left and right would be exchanged in everything that follows",
            hint=_LOOK,
        )
    roll = math.degrees(math.atan2(across[1], across[0]))
    if abs(roll) > 90:
        raise NoFaceError(
            f"The face is upside down: its eyes are turned by {roll:.0f} degrees.",
            hint="turn the recording",
        )
    _check_inside(points, image_size, 0.25 * distance, "one of the five points that place the face")
    _check_inside(landmarks, image_size, distance, "a landmark")


def _check_inside(
    points: np.ndarray, image_size: tuple[int, int], margin: float, name: str
) -> None:
    last = np.array(image_size, np.float64) - 1
    outside = np.maximum(-points, points - last).max(axis=1)
    worst = int(outside.argmax())
    if outside[worst] > margin:
        raise NoFaceError(
            f"The face leaves the {image_size[0]}x{image_size[1]} px picture: {name} is at "
            f"{_text(points[worst])}, {outside[worst]:.0f} px outside (at most {margin:.0f} px).",
            hint=_LOOK,
        )


def _text(point: np.ndarray) -> str:
    return f"({point[0]:.1f}, {point[1]:.1f})"
