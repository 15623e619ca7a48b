"""Optical flow by name: TV-L1, Farneback or DIS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from mer_prep.checks import check_option
from mer_prep.errors import ConfigError
from mer_prep.ops.images import check_grey_pair
from mer_prep.ops.tvl1 import BATCHED, ENGINES, resolve_engine, tvl1, tvl1_batch


def farneback(
    first: np.ndarray,
    second: np.ndarray,
    *,
    pyramid_scale: float = 0.5,
    levels: int = 3,
    window: int = 15,
    iterations: int = 3,
    neighbourhood: int = 5,
    sigma: float = 1.2,
) -> np.ndarray:
    """Return Farneback's polynomial-expansion flow, by OpenCV.

    Parameters
    ----------
    first, second : ndarray, shape (H, W), uint8
        Grey pictures.
    pyramid_scale : float
        Ratio of the sizes of neighbouring pyramid levels, between 0 and 1.
    levels : int
        Number of pyramid levels.
    window : int
        Side of the averaging window in px.
    iterations : int
        Iterations at every level.
    neighbourhood : int
        Side of the neighbourhood the polynomials are fitted to, in px; 5 or 7.
    sigma : float
        Standard deviation of the weights of that fit, in px.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels u and v in px: pixel (x, y) of `first` moves to (x + u, y + v) in `second`.

    Raises
    ------
    ValueError
        For pictures that are not 8-bit grey of one size.

    References
    ----------
    G. Farneback, "Two-frame motion estimation based on polynomial expansion", SCIA 2003.
    doi:10.1007/3-540-45103-X_50
    """
    check_grey_pair(first, second)
    empty = np.zeros((*first.shape, 2), np.float32)
    flow = cv2.calcOpticalFlowFarneback(
        first, second, empty, pyramid_scale, levels, window, iterations, neighbourhood, sigma, 0
    )
    return np.ascontiguousarray(flow.transpose(2, 0, 1))


def dis(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return dense inverse search flow (OpenCV's preset "medium"); fast, for looking at clips.

    Parameters
    ----------
    first, second : ndarray, shape (H, W), uint8
        Grey pictures.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels u and v in px: pixel (x, y) of `first` moves to (x + u, y + v) in `second`.

    Raises
    ------
    ValueError
        For pictures that are not 8-bit grey of one size.

    References
    ----------
    T. Kroeger, R. Timofte, D. Dai, L. Van Gool, "Fast optical flow using dense inverse search",
    ECCV 2016. doi:10.1007/978-3-319-46493-0_29
    """
    check_grey_pair(first, second)
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    empty = np.zeros((*first.shape, 2), np.float32)
    return np.ascontiguousarray(solver.calc(first, second, empty).transpose(2, 0, 1))


#: Methods of optical flow by the name they have in configuration.
METHODS: dict[str, Callable[..., np.ndarray]] = {"tvl1": tvl1, "farneback": farneback, "dis": dis}


def flow_engine(method: str, engine: str = "auto") -> str:
    """Return the engine that computes a method on this machine.

    Parameters
    ----------
    method : {'tvl1', 'farneback', 'dis'}
        The method.
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        The engine asked for; see `mer_prep.ops.tvl1.resolve_engine`. Methods other than TV-L1
        have OpenCV's only.

    Raises
    ------
    ConfigError
        For an unknown name, or an engine that the method does not have.
    """
    check_option("method", method, METHODS)
    if method == "tvl1":
        return resolve_engine(engine)
    if check_option("engine", engine, ENGINES) not in ("auto", "opencv"):
        raise ConfigError(
            f"The method '{method}' has no engine '{engine}'.",
            hint="choose the engine 'opencv' (or 'auto'), or the method 'tvl1'",
        )
    return "opencv"


def optical_flow(
    first: np.ndarray, second: np.ndarray, *, method: str = "tvl1", engine: str = "auto"
) -> np.ndarray:
    """Return the flow between two grey pictures by a named method at its defaults.

    Parameters
    ----------
    first, second : ndarray, shape (H, W), uint8
        Grey pictures; TV-L1 needs 16 px or more in height and width.
    method : {'tvl1', 'farneback', 'dis'}
        The method.
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        Its implementation; see `flow_engine`.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels u and v in px; exactly zero for identical pictures.
    """
    check_grey_pair(first, second)
    engine = flow_engine(method, engine)
    if np.array_equal(first, second):
        # Farneback's solver finds up to a quarter of a pixel of motion even then.
        return np.zeros((2, *first.shape), np.float32)
    if method == "tvl1":
        return tvl1(first, second, engine=engine)
    return METHODS[method](first, second)


def optical_flows(
    firsts: Sequence[np.ndarray],
    seconds: Sequence[np.ndarray],
    *,
    method: str = "tvl1",
    engine: str = "auto",
) -> np.ndarray:
    """Return the flow of many pairs of grey pictures; at once, where the engine can.

    Parameters
    ----------
    firsts, seconds : sequence of ndarray, shape (H, W), uint8
        Grey pictures of one size; one pair or more.
    method, engine
        As for `optical_flow`.

    Returns
    -------
    ndarray, shape (N, 2, H, W), float32
        As `optical_flow` gives it pair by pair.
    """
    engine = flow_engine(method, engine)
    if method != "tvl1" or engine not in BATCHED:
        return np.stack(
            [
                optical_flow(first, second, method=method, engine=engine)
                for first, second in zip(firsts, seconds, strict=True)
            ]
        )
    flows = tvl1_batch(np.stack(firsts), np.stack(seconds), engine=engine)
    for row, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        if np.array_equal(first, second):
            flows[row] = 0
    return flows
