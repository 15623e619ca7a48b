"""The usual way, re-enacted with the libraries themselves.

Scripts that prepare micro-expression corpora detect the face anew in every frame, by dlib's
detector on the picture doubled in size, take the 68 whole-pixel landmarks, align each frame on its
own five points, and compute TV-L1 by OpenCV at its defaults.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep.checks import soft_import
from mer_prep.ops.predictor import predictor_file
from mer_prep.ops.similarity import face_transform
from mer_prep.ops.tvl1 import check_tvl1

SIZE = 144


@functools.cache
def _models() -> tuple[Any, Any]:
    dlib = soft_import("dlib", purpose="finds the faces of the usual way", install="mer-prep[dlib]")
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(predictor_file()))


def detect_landmarks(image: np.ndarray) -> np.ndarray | None:
    """Return the 68 landmarks of the largest face found in a picture doubled in size.

    Parameters
    ----------
    image : ndarray, shape (H, W) or (H, W, 3), uint8
        Grey or RGB picture; dlib takes longer over the latter.

    Returns
    -------
    ndarray, shape (68, 2), float64, or None
        Whole numbers of px; None if no face was found.
    """
    detector, predictor = _models()
    boxes = detector(image, 1)
    if not boxes:
        return None
    box = max(boxes, key=lambda one: one.width() * one.height())
    return np.array([(point.x, point.y) for point in predictor(image, box).parts()], np.float64)


def align(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Return a picture aligned on the five points of its own landmarks, 144x144."""
    transform = face_transform(landmarks, size=SIZE)
    return cv2.warpAffine(image, transform, (SIZE, SIZE), flags=cv2.INTER_LINEAR)


def prepare_frame(path: Path, *, grey: bool = True) -> np.ndarray | None:
    """Return the aligned face of an image file: decoded, detected and warped; None without one."""
    image = cv2.imread(str(path))
    assert image is not None, path
    code = cv2.COLOR_BGR2GRAY if grey else cv2.COLOR_BGR2RGB
    landmarks = detect_landmarks(cv2.cvtColor(image, code))
    return None if landmarks is None else align(image, landmarks)


@functools.cache
def _tvl1() -> Any:
    check_tvl1()
    return cv2.optflow.DualTVL1OpticalFlow.create()


def tvl1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return OpenCV's TV-L1 flow at its defaults, (2, H, W) float32."""
    no_flow: Any = None
    return np.ascontiguousarray(_tvl1().calc(first, second, no_flow).transpose(2, 0, 1))
