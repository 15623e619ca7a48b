"""TV-L1 optical flow: our own engine on the CPU, and OpenCV's as the reference."""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mer_prep.checks import check_option, check_range
from mer_prep.errors import ConfigError, DependencyError
from mer_prep.ops.images import check_grey_pair
from mer_prep.ops.tvl1_torch import cuda_here, torch_here

logger = logging.getLogger(__name__)

#: Implementations of TV-L1; ``auto`` is the first of ``cuda``, ``cpu`` and ``opencv`` that works.
ENGINES = ("auto", "cuda", "cpu", "torch", "opencv")

#: Those that take many pairs at once, by PyTorch.
BATCHED = ("cuda", "torch")

#: Smallest height and width of a picture, px.
SMALLEST = 16

#: What to do where the CPU engine is missing.
BUILD_HINT = (
    "install a C compiler and the headers of Python (Debian: apt install gcc python3-dev), then "
    "install mer-prep again"
)


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


@functools.cache
def _kernel() -> Any:
    """Return the extension module of the CPU engine, or None where it was not built."""
    try:
        return importlib.import_module("mer_prep.ops._tvl1")
    except ImportError:
        return None


@functools.cache
def _say_that_opencv_stands_in() -> None:
    logger.warning(
        "TV-L1 runs on OpenCV's engine, some 20 times slower: the CPU engine was not built here; "
        "see `mer-prep doctor`."
    )


def resolve_engine(engine: str = "auto") -> str:
    """Return the engine that a name stands for on this machine.

    Parameters
    ----------
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        ``auto`` is ``cuda`` if PyTorch sees a device, else ``cpu`` if the package was built with
        it. Otherwise it is ``opencv``, and a line in the log says so, once per process.

    Returns
    -------
    {'cuda', 'cpu', 'torch', 'opencv'}
        A name asked for by itself is returned as it is, whether it works here or not; see
        `check_engine`.

    Raises
    ------
    ConfigError
        For an unknown name.
    """
    check_option("engine", engine, ENGINES)
    if engine != "auto":
        return engine
    if cuda_here():
        return "cuda"
    if _kernel() is not None:
        return "cpu"
    _say_that_opencv_stands_in()
    return "opencv"


def check_engine(engine: str) -> None:
    """Check that an engine of TV-L1 works here.

    Parameters
    ----------
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        The engine.

    Raises
    ------
    DependencyError
        If the CPU engine is asked for and was not built, OpenCV is and lacks TV-L1, PyTorch is
        and is not installed, or CUDA is and PyTorch sees no device.
    ConfigError
        For an unknown name.
    """
    engine = resolve_engine(engine)
    if engine == "opencv":
        check_tvl1()
    elif engine in BATCHED:
        _check_torch(engine)
    elif _kernel() is None:
        raise DependencyError(
            "The CPU engine of TV-L1 was not built with this installation of mer-prep.",
            hint=f"{BUILD_HINT}; or choose the engine 'opencv' (or 'auto')",
        )


def _check_torch(engine: str) -> None:
    others = "or choose another engine (flow.engine=auto)"
    if not torch_here():
        raise DependencyError(
            f"The engine '{engine}' of TV-L1 needs PyTorch, which is not installed.",
            hint=f'pip install "mer-prep[train]", {others}',
        )
    if engine == "cuda" and not cuda_here():
        raise DependencyError(
            "The engine 'cuda' of TV-L1 needs a CUDA device, and PyTorch sees none.",
            hint=f"check the driver, and that PyTorch is a build for CUDA; {others}",
        )


def kernel_version() -> int | None:
    """Return the version of the CPU engine, raised with every change of its output.

    None where it was not built.
    """
    kernel = _kernel()
    return None if kernel is None else int(kernel.VERSION)


def kernel_paths() -> list[str]:
    """Return the instruction sets the CPU engine can use here, the fastest first.

    All give the same bits. Empty where it was not built.
    """
    kernel = _kernel()
    return [] if kernel is None else list(kernel.paths())


def tvl1(
    first: np.ndarray,
    second: np.ndarray,
    *,
    engine: str = "auto",
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
    """Return the TV-L1 optical flow between two pictures.

    Parameters
    ----------
    first, second : ndarray, shape (H, W), uint8
        Grey pictures, 16 px or more in height and width.
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        Implementation. ``cuda`` and ``cpu`` are our own, for GPUs and for one core; ``torch`` is
        that of ``cuda`` in plain PyTorch on the CPU, slow, to compare with; ``opencv`` is
        OpenCV's, and ``auto`` the first that works here of ``cuda``, ``cpu`` and ``opencv``.
    tau : float
        Time step of the dual update (tau in [1]_), above 0; 0.25 is the largest stable one.
    lambda_ : float
        Weight of the data term (lambda in [1]_), above 0; smaller gives a smoother flow.
    theta : float
        Tightness of the coupling between flow and auxiliary flow (theta in [1]_), above 0.
    scales : int
        Number of pyramid levels, 1 or more. Levels under 16 px are left out.
    warps : int
        Number of times the second picture is warped at every level, 1 or more.
    epsilon : float
        Stop when the root mean square update is below this, in px; 0 or more.
    inner_iterations, outer_iterations : int
        Iterations between two median filters, and how many such rounds a warp has at most.
    scale_step : float
        Ratio of the sizes of neighbouring pyramid levels, between 0 and 1.
    gamma : float
        Weight of the illumination change OpenCV can estimate beside the flow; 0 leaves it out.
        Only the engine ``opencv`` knows others than 0.
    median : int
        Side of the median filter of the flow: 1 (none), 3 or 5 px.

    Returns
    -------
    ndarray, shape (2, H, W), float32
        Channels u and v in px: pixel (x, y) of `first` moves to (x + u, y + v) in `second`.
        Exactly zero for identical pictures.

    Raises
    ------
    ValueError
        For pictures that are not 8-bit grey of one size, or smaller than 16 px.
    ConfigError
        For a parameter out of its range.
    DependencyError
        If the engine asked for does not work here.

    Notes
    -----
    The defaults are OpenCV's own. Our engines compute what OpenCV does: the same energy,
    pyramid, warps, medians and stopping rule. ``cpu`` gives the same bits on every processor and
    with any number of threads; with ``cuda`` and ``torch`` a pair does not depend on its batch.
    Any two engines differ by about 0.01 px on average and by more at single pixels, since a
    difference in the last bit can move an iteration across the stopping rule; so do two versions
    of OpenCV. Engine and version belong to every published result.

    References
    ----------
    .. [1] C. Zach, T. Pock, H. Bischof, "A duality based approach for realtime TV-L1 optical
       flow", DAGM 2007. doi:10.1007/978-3-540-74936-3_22
    .. [2] J. Sanchez Perez, E. Meinhardt-Llopis, G. Facciolo, "TV-L1 optical flow estimation",
       Image Processing On Line 3, 2013. doi:10.5201/ipol.2013.26
    """
    check_grey_pair(first, second)
    _check_size(first)
    settings = _Settings(
        tau=tau,
        lambda_=lambda_,
        theta=theta,
        scales=scales,
        warps=warps,
        epsilon=epsilon,
        inner_iterations=inner_iterations,
        outer_iterations=outer_iterations,
        scale_step=scale_step,
        gamma=gamma,
        median=median,
    )
    engine = resolve_engine(engine)
    check_engine(engine)
    if engine in BATCHED:
        return _by_torch(first[None], second[None], settings, engine)[0]
    return (_by_cpu if engine == "cpu" else _by_opencv)(first, second, settings)


def _check_size(picture: np.ndarray) -> None:
    if min(picture.shape) < SMALLEST:
        raise ValueError(
            f"'first' and 'second' have shape {picture.shape}; TV-L1 needs {SMALLEST} px or more"
        )


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """The parameters of `tvl1`, checked."""

    tau: float
    lambda_: float
    theta: float
    scales: int
    warps: int
    epsilon: float
    inner_iterations: int
    outer_iterations: int
    scale_step: float
    gamma: float
    median: int

    def __post_init__(self) -> None:
        for name in ("tau", "lambda_", "theta"):
            check_range(name, getattr(self, name), low=0, open_low=True)
        check_range("epsilon", self.epsilon, low=0)
        for name in ("scales", "warps", "inner_iterations", "outer_iterations"):
            check_range(name, getattr(self, name), low=1, high=1_000_000)
        check_range("scale_step", self.scale_step, low=0.1, high=0.99)
        check_range("gamma", self.gamma, low=0)
        if self.median not in (1, 3, 5):
            raise ConfigError(
                f"Invalid value for 'median': {self.median!r}.", hint="choose 1, 3 or 5"
            )


#: The defaults of `tvl1`.
DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(tvl1).parameters.items()
    if name in _Settings.__dataclass_fields__
}


def _check_gamma(engine: str, settings: _Settings) -> None:
    if settings.gamma != 0:
        raise ConfigError(
            f"The engine '{engine}' knows no illumination term, and 'gamma' is {settings.gamma!r}.",
            hint="leave 'gamma' at 0, or choose the engine 'opencv'",
        )


def _by_torch(
    first: np.ndarray, second: np.ndarray, settings: _Settings, engine: str
) -> np.ndarray:
    """Return the flow (N, 2, H, W) of many pairs by PyTorch."""
    from mer_prep.ops.tvl1_torch import solve

    _check_gamma(engine, settings)
    return solve(first, second, settings, device="cuda" if engine == "cuda" else "cpu")


def _by_cpu(
    first: np.ndarray, second: np.ndarray, settings: _Settings, *, path: str | None = None
) -> np.ndarray:
    """Return the flow by the CPU engine; `path` is one of `kernel_paths`, else the fastest."""
    _check_gamma("cpu", settings)
    flow = np.empty((2, *first.shape), np.float32)
    _kernel().flow(
        np.ascontiguousarray(first),
        np.ascontiguousarray(second),
        flow,
        settings.tau,
        settings.lambda_,
        settings.theta,
        settings.epsilon,
        settings.scale_step,
        settings.scales,
        settings.warps,
        settings.inner_iterations,
        settings.outer_iterations,
        settings.median,
        path or kernel_paths()[0],
    )
    return flow


def _by_opencv(first: np.ndarray, second: np.ndarray, settings: _Settings) -> np.ndarray:
    """Return the flow by OpenCV."""
    solver = cv2.optflow.DualTVL1OpticalFlow.create(
        tau=settings.tau,
        lambda_=settings.lambda_,
        theta=settings.theta,
        nscales=settings.scales,
        warps=settings.warps,
        epsilon=settings.epsilon,
        innnerIterations=settings.inner_iterations,  # the triple n is OpenCV's
        outerIterations=settings.outer_iterations,
        scaleStep=settings.scale_step,
        gamma=settings.gamma,
        medianFiltering=settings.median,
        useInitialFlow=False,
    )
    empty = np.zeros((*first.shape, 2), np.float32)
    return np.ascontiguousarray(solver.calc(first, second, empty).transpose(2, 0, 1))


def tvl1_batch(
    first: np.ndarray,
    second: np.ndarray,
    *,
    engine: str = "auto",
    threads: int = 1,
    **settings: Any,
) -> np.ndarray:
    """Return the TV-L1 optical flow of many pairs of pictures.

    Parameters
    ----------
    first, second : ndarray, shape (N, H, W), uint8
        Grey pictures; pair n is ``first[n]`` and ``second[n]``.
    engine : {'auto', 'cuda', 'cpu', 'torch', 'opencv'}
        See `tvl1`.
    threads : int
        Pairs computed at the same time, 1 or more; ``cuda`` and ``torch`` take many at once
        whatever it is. The result does not depend on it.
    **settings
        Further parameters of `tvl1`.

    Returns
    -------
    ndarray, shape (N, 2, H, W), float32
        Channels u and v in px, exactly as `tvl1` gives them pair by pair.

    Raises
    ------
    ValueError
        For arrays that are not 8-bit, of three axes and of one shape, or with pictures smaller
        than 16 px.
    ConfigError, DependencyError
        See `tvl1`.
    """
    for name, pictures in (("first", first), ("second", second)):
        if pictures.ndim != 3:
            raise ValueError(f"'{name}' must have shape (N, H, W), not {pictures.shape}")
    if first.shape != second.shape:
        raise ValueError(f"'first' has shape {first.shape}, 'second' has shape {second.shape}")
    check_range("threads", threads, low=1)
    engine = resolve_engine(engine)
    if engine in BATCHED and len(first):
        check_engine(engine)
        check_grey_pair(first[0], second[0])
        _check_size(first[0])
        return _by_torch(first, second, _Settings(**{**DEFAULTS, **settings}), engine)
    solve = functools.partial(tvl1, engine=engine, **settings)
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    with ThreadPoolExecutor(min(threads, max(1, len(first)))) as pool:
        for row, result in enumerate(pool.map(solve, first, second)):
            flow[row] = result
    return flow
