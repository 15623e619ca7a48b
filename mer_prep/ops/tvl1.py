"""TV-L1 optical flow: OpenCV's implementation as the reference engine."""

from __future__ import annotations

import cv2
import numpy as np

from mer_prep.errors import DependencyError
from mer_prep.ops.images import check_grey_pair


def check_tvl1() -> None:
    """Check that this OpenCV has TV-L1.

    Raises
    ------
    DependencyError
        If ``cv2.optflow`` is missing, naming every OpenCV distribution that is installed.
    """
    if hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow"):
        return
    installed = opencv_distributions()
    raise DependencyError(
        f"OpenCV {cv2.__version__} here has no TV-L1 (cv2.optflow is missing). "
        f"Installed: {', '.join(installed) or 'no OpenCV wheel'}.",
        why="TV-L1 is only in the contrib build, and another OpenCV wheel overwrites its files",
        hint="pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python "
        "opencv-contrib-python-headless && pip install opencv-contrib-python-headless",
    )


def opencv_distributions() -> list[str]:
    """Return name and version of every installed distribution that provides ``cv2``."""
    from importlib.metadata import distributions

    found = {
        f"{distribution.name} {distribution.version}"
        for distribution in distributions()
        if (distribution.name or "").lower().replace("_", "-").startswith("opencv-")
    }
    return sorted(found)


def tvl1(
    first: np.ndarray,
    second: np.ndarray,
    *,
    tau: float = 0.25,
    lambda_: float = 0.15,
    theta: float = 0.3,
    scales: int = 5,
    warps: int = 5,
    epsilon: float = 0.01,
    inner_iterations: int = 30,
    outer_iterations: int = 10,
    scale_step: float = 0.8,
    gamma: float = 0.0,
    median: int = 5,
) -> np.ndarray:
    """Return the TV-L1 optical flow between two pictures, by OpenCV.

    Parameters
    ----------
    first, second : ndarray, shape (H, W), uint8
        Grey pictures.
    tau : float
        Time step of the dual update (tau in [1]_); 0.25 is the largest stable one.
    lambda_ : float
        Weight of the data term (lambda in [1]_); smaller gives a smoother flow.
    theta : float
        Tightness of the coupling between flow and auxiliary flow (theta in [1]_).
    scales : int
        Number of pyramid levels.
    warps : int
        Number of times the second picture is warped at every level.
    epsilon : float
        Stop when the root mean square update is below this, in px.
    inner_iterations, outer_iterations : int
        Iterations between two median filters, and how many such rounds a warp has at most.
    scale_step : float
        Ratio of the sizes of neighbouring pyramid levels, between 0 and 1.
    gamma : float
        Weight of the illumination change OpenCV can estimate beside the flow; 0 leaves it out.
    median : int
        Side of the median filter of the flow: 1 (none), 3 or 5 px.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels u and v in px: pixel (x, y) of `first` moves to (x + u, y + v) in `second`.

    Raises
    ------
    ValueError
        For pictures that are not 8-bit grey of one size.
    DependencyError
        If OpenCV was installed without TV-L1.

    Notes
    -----
    The defaults are OpenCV's own. Results differ between OpenCV versions by about 0.01 px on
    average and by more at single pixels, so the version belongs to every published result.

    References
    ----------
    .. [1] C. Zach, T. Pock, H. Bischof, "A duality based approach for realtime TV-L1 optical
       flow", DAGM 2007. doi:10.1007/978-3-540-74936-3_22
    .. [2] J. Sanchez Perez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 optical flow estimation",
       Image Processing On Line 3, 2013. doi:10.5201/ipol.2013.26
    """
    check_grey_pair(first, second)
    check_tvl1()
    solver = cv2.optflow.DualTVL1OpticalFlow.create(
        tau=tau,
        lambda_=lambda_,
        theta=theta,
        nscales=scales,
        warps=warps,
        epsilon=epsilon,
        innnerIterations=inner_iterations,  # the triple n is OpenCV's
        outerIterations=outer_iterations,
        scaleStep=scale_step,
        gamma=gamma,
        medianFiltering=median,
        useInitialFlow=False,
    )
    empty = np.zeros((*first.shape, 2), np.float32)
    return np.ascontiguousarray(solver.calc(first, second, empty).transpose(2, 0, 1))
