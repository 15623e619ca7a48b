"""All folds of a study, in processes side by side."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import torch
from joblib import Parallel, delayed

from mer_prep.dataset import ClipStore
from mer_prep.errors import ConfigError, DependencyError
from mer_prep.training.fit import Machine
from mer_prep.training.study import Study, finished, load_clips, read_study, run_fold


def choose_device(name: str) -> str:
    """Return the device that a name stands for.

    Parameters
    ----------
    name : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    ConfigError
        For another name.
    DependencyError
        If CUDA is asked for and PyTorch sees no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"Unknown device '{name}'.", hint="choose auto, cpu, cuda or cuda:0")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DependencyError(
            f"PyTorch sees no device '{name}'.", hint="check the driver, or use --device cpu"
        )
    return name


def train_folds(
    workspace: Path,
    run: Path,
    study: Study,
    *,
    device: str,
    jobs: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train and test the folds that are not finished.

    Parameters
    ----------
    workspace, run : Path
        Folders of the workspace and of the run.
    study : Study
        The study.
    device : str
        Where to compute.
    jobs : int
        Folds at a time, each with an equal part of the cores.
    progress : callable, optional
        Called with (folds done, folds).
    say : callable, optional
        Called with sentences for the user.
    """
    folds = [number for number, fold in enumerate(study.folds) if not finished(run, fold)]
    done = len(study.folds) - len(folds)
    progress(done, len(study.folds))
    if not folds:
        return
    jobs = max(1, min(jobs, len(folds)))
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    if device == "cpu":
        say(
            f"training on the CPU: {study.training.steps} steps in each of {len(folds)} folds, "
            f"{jobs} at a time; --device cuda is far faster where there is one"
        )
    tasks = (delayed(_train)(workspace, run, fold, device, threads) for fold in folds)
    for _ in Parallel(n_jobs=jobs, return_as="generator_unordered")(tasks):
        done += 1
        progress(done, len(study.folds))


def _train(workspace: Path, run: Path, number: int, device: str, threads: int) -> None:
    # More threads than cores wait for one another, busily; set before the first operation.
    torch.set_num_threads(threads)
    study, store = _loaded(workspace, run)
    run_fold(run, study, study.folds[number], store, Machine(device=device))


@functools.lru_cache(maxsize=1)
def _loaded(workspace: Path, run: Path) -> tuple[Study, ClipStore]:
    """Return the study and its clips, read once per process."""
    study = read_study(run)
    return study, ClipStore(load_clips(workspace, study))
