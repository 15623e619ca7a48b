"""What works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mer_prep.errors import MerPrepError

#: Packages that the program cannot do without, by import name.
_CORE = {
    "numpy": "numpy",
    "h5py": "h5py",
    "scipy": "scipy",
    "joblib": "joblib",
    "tqdm": "tqdm",
    "openpyxl": "openpyxl",
    "python_calamine": "python-calamine",
}


@dataclass(frozen=True)
class Diagnosis:
    """One thing looked at.

    Parameters
    ----------
    name : str
        What was looked at.
    state : {'ok', 'note', 'missing', 'problem'}
        ``missing`` is something optional that is not there; a ``problem`` keeps commands from
        working.
    detail : str
        What was found.
    remedy : str
        What to do; empty if nothing.
    """

    name: str
    state: str
    detail: str
    remedy: str = ""


def examine(workspace: Path) -> list[Diagnosis]:
    """Look at everything that the program uses."""
    checks: list[Callable[[], Iterator[Diagnosis]]] = [
        _machine,
        _core_packages,
        _opencv,
        _cpu_engine,
        _cuda_engine,
        _dlib,
        _predictor,
        _engines,
        _torch,
        _jinja,
        lambda: _workspace(workspace),
    ]
    found = []
    for check in checks:
        found += list(check())
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _machine() -> Iterator[Diagnosis]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory_gib()
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
    text += f"{cores} cores" + (f", {memory:.0f} GiB of memory" if memory else "")
    good = sys.version_info >= (3, 11)
    yield Diagnosis("machine", "ok" if good else "problem", text, "" if good else "use Python 3.11")


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return None


def _core_packages() -> Iterator[Diagnosis]:
    for module, distribution in _CORE.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield Diagnosis(
                distribution,
                "problem",
                f"cannot be imported: {error}",
                f"pip install {distribution}",
            )
        else:
            yield Diagnosis(distribution, "ok", _version(distribution) or "")


def _opencv() -> Iterator[Diagnosis]:
    from mer_prep.ops.tvl1 import check_tvl1, opencv_distributions

    found = opencv_distributions()
    one = "opencv-contrib-python-headless"
    fix = f"pip uninstall -y {' '.join(name.split()[0] for name in found)} && pip install {one}"
    if len(found) > 1:
        yield Diagnosis(
            "opencv",
            "problem",
            f"{len(found)} distributions overwrite each other: {', '.join(found)}",
            fix,
        )
    elif not found:
        yield Diagnosis("opencv", "problem", "not installed", f"pip install {one}")
    else:
        yield Diagnosis("opencv", "ok", found[0])
    try:
        check_tvl1()
    except MerPrepError as error:
        yield Diagnosis("TV-L1", "problem", error.what, error.hint or fix)
    else:
        yield Diagnosis("TV-L1", "ok", "cv2.optflow.DualTVL1OpticalFlow")


def _cpu_engine() -> Iterator[Diagnosis]:
    from mer_prep.ops.tvl1 import BUILD_HINT, kernel_paths, kernel_version

    version = kernel_version()
    if version is None:
        yield Diagnosis(
            "TV-L1 engine cpu",
            "missing",
            "not built: TV-L1 runs on OpenCV's engine, some 20 times slower",
            BUILD_HINT,
        )
    else:
        yield Diagnosis("TV-L1 engine cpu", "ok", f"version {version}, {kernel_paths()[0]}")


def _cuda_engine() -> Iterator[Diagnosis]:
    from mer_prep.ops.tvl1_torch import cuda_here, fused_here, torch_here

    if not torch_here():
        detail = "PyTorch is not installed; needed only on a machine with a GPU"
        yield Diagnosis("TV-L1 engine cuda", "missing", detail, 'pip install "mer-prep[train]"')
    elif not cuda_here():
        detail = "PyTorch sees no CUDA device; needed only on a machine with a GPU"
        yield Diagnosis("TV-L1 engine cuda", "missing", detail)
    else:
        import torch

        kernels = "fused kernels" if fused_here() else "no Triton, so no fused kernels"
        yield Diagnosis("TV-L1 engine cuda", "ok", f"{torch.cuda.get_device_name()}, {kernels}")


def _dlib() -> Iterator[Diagnosis]:
    found = [name for name in ("dlib", "dlib-bin") if _version(name)]
    install = 'pip install "mer-prep[dlib]"'
    if len(found) > 1:
        yield Diagnosis(
            "dlib",
            "problem",
            "dlib and dlib-bin are both installed and overwrite each other",
            "pip uninstall -y dlib dlib-bin && pip install dlib-bin",
        )
        return
    try:
        dlib = importlib.import_module("dlib")
    except ImportError as error:
        absent = importlib.util.find_spec("dlib") is None
        yield Diagnosis(
            "dlib",
            "missing" if absent else "problem",
            "not installed: no landmarks, no alignment" if absent else f"broken: {error}",
            install,
        )
    else:
        yield Diagnosis("dlib", "ok", f"{found[0] if found else 'dlib'} {dlib.__version__}")


def _predictor() -> Iterator[Diagnosis]:
    from mer_prep.ops.predictor import KNOWN_DIGEST, LICENCE_NOTE, predictor_digest, predictor_file

    try:
        path = predictor_file()
    except MerPrepError as error:
        yield Diagnosis("68-point model", "missing", error.what, error.hint or "")
        return
    known = predictor_digest(path) == KNOWN_DIGEST
    yield Diagnosis(
        "68-point model",
        "ok" if known else "note",
        f"{path}" + ("" if known else ", not the published file: landmarks will differ"),
    )
    yield Diagnosis("model licence", "note", LICENCE_NOTE)


def _engines() -> Iterator[Diagnosis]:
    yield Diagnosis("engine loky", "ok", f"joblib {_version('joblib')}")
    for name, distribution, install in (
        ("dask", "distributed", 'pip install "mer-prep[dask]"'),
        ("ray", "ray", "pip install ray"),
    ):
        version = _version(distribution)
        yield Diagnosis(
            f"engine {name}",
            "ok" if version else "missing",
            version or "not installed",
            "" if version else install,
        )


def _torch() -> Iterator[Diagnosis]:
    version = _version("torch")
    if version is None:
        yield Diagnosis(
            "torch",
            "missing",
            "not installed; needed for training only",
            'pip install "mer-prep[train]"',
        )
        return
    torch = importlib.import_module("torch")
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name(0) if cuda else "no GPU in sight"
    yield Diagnosis("torch", "ok", f"{version}, {device}")


def _jinja() -> Iterator[Diagnosis]:
    version = _version("jinja2")
    if version is None:
        remedy = 'pip install "mer-prep[report]"'
        yield Diagnosis("jinja2", "missing", "not installed; needed for reports only", remedy)
    else:
        yield Diagnosis("jinja2", "ok", version)


def _workspace(workspace: Path) -> Iterator[Diagnosis]:
    folder = workspace
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    if not os.access(folder, os.W_OK):
        yield Diagnosis(
            "workspace", "problem", f"{workspace} cannot be written", "choose another --workspace"
        )
        return
    state = "ok" if free >= 1 else "note"
    yield Diagnosis("workspace", state, f"{workspace}, {free:,.0f} GiB free")
    yield _hdf5_locking(folder)


def _hdf5_locking(folder: Path) -> Diagnosis:
    """Try whether HDF5 can lock a file there; network disks often refuse."""
    import h5py

    with tempfile.TemporaryDirectory(dir=folder, prefix=".mer-prep-doctor-") as scratch:
        try:
            with h5py.File(Path(scratch) / "lock.h5", "w") as file:
                file["x"] = 1
        except OSError as error:
            return Diagnosis(
                "HDF5 locking",
                "problem",
                f"refused by the file system: {error}",
                "export HDF5_USE_FILE_LOCKING=FALSE",
            )
    return Diagnosis("HDF5 locking", "ok", f"h5py {_version('h5py')}, HDF5 {_hdf5_version()}")


def _hdf5_version() -> str:
    import h5py

    return str(h5py.version.hdf5_version)
