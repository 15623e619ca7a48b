"""The folds of studies: which this process trains, and how they are spread over devices.

Several processes, on one machine or many, may train one run at a time, each its share of the
folds. Every fold has a lock, so that two never train the same one.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mer_prep.dataset import ClipSource
from mer_prep.errors import LockedError, MerPrepError, TrainingError
from mer_prep.store.lock import Lock
from mer_prep.training.loading import choose_loader, open_clips
from mer_prep.training.machine import Machine, choose_device, slots
from mer_prep.training.study import Study, finished, fold_folder, read_study, run_fold

__all__ = ["Crew", "choose_device", "share_of_folds", "train_folds", "train_runs", "unfinished"]

#: Processes that read ahead for one fold, at most.
_MOST_READERS = 8

#: Seconds between the signs of life that a fold gives in its lock.
_BEAT = 10.0


@dataclass(frozen=True)
class Crew:
    """Who trains the folds, and how.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``cuda:N``; ``cuda`` stands for all GPUs.
    jobs : int
        On the CPU, folds at a time, each with an equal part of the cores.
    folds_per_gpu : int
        On GPUs, folds that one trains at a time.
    loader : {'auto', 'resident', 'stream'}
        See `mer_prep.training.loading.choose_loader`.
    compiled, deterministic : bool
        See `mer_prep.training.machine.Machine`.
    """

    device: str = "cpu"
    jobs: int = 1
    folds_per_gpu: int = 1
    loader: str = "auto"
    compiled: bool = False
    deterministic: bool = True

    def slots(self) -> list[str]:
        """Return the device of every process that trains folds."""
        gpus = torch.cuda.device_count() if self.device == "cuda" else 0
        return slots(self.device, self.jobs, gpus=gpus, folds_per_gpu=self.folds_per_gpu)


def share_of_folds(count: int, share: tuple[int, int]) -> list[int]:
    """Return the folds of the i-th of n shares: i - 1, i - 1 + n, ...

    Parameters
    ----------
    count : int
        Number of folds.
    share : tuple of int
        (i, n) with 1 <= i <= n.
    """
    first, shares = share
    return list(range(first - 1, count, shares))


def unfinished(run: Path, study: Study) -> list[str]:
    """Return the names of the folds that are not finished."""
    return [fold.name for fold in study.folds if not finished(run, fold)]


def train_folds(
    workspace: Path,
    run: Path,
    study: Study,
    crew: Crew,
    *,
    share: tuple[int, int] = (1, 1),
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Train and test the folds of a share that are not finished.

    Parameters
    ----------
    workspace, run : Path
        Folders of the workspace and of the run.
    study : Study
        The study.
    crew : Crew
        Who trains.
    share : tuple of int
        See `share_of_folds`.
    progress : callable, optional
        Called with (folds of the share that are done, all of the share).
    say : callable, optional
        Called with sentences for the user.

    Raises
    ------
    LockedError
        If another run is training some of the folds; the others are trained first.
    MerPrepError
        If something is wrong with a fold; the first such error.
    TrainingError
        If a process that trains dies.
    """
    failed = train_runs(workspace, [(run, study)], crew, share=share, progress=progress, say=say)
    for error in failed.values():
        raise error


def train_runs(
    workspace: Path,
    runs: Sequence[tuple[Path, Study]],
    crew: Crew,
    *,
    share: tuple[int, int] = (1, 1),
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[Path, MerPrepError]:
    """Train and test the folds of several runs that are not finished, side by side.

    A process that has no more folds of one run to train goes on with the next run. A run in which
    something is wrong is given up, the others are trained.

    Parameters
    ----------
    workspace : Path
        Folder of the workspace.
    runs : sequence of tuple of (Path, Study)
        Folders of the runs, and their studies, in the order in which they are begun.
    crew, share, progress, say
        As of `train_folds`; folds are counted over all runs.

    Returns
    -------
    dict of Path to MerPrepError
        What was wrong, by the run; `LockedError` if another process is training some of its folds,
        while the rest is trained.

    Raises
    ------
    TrainingError
        If a process that trains dies.
    """
    shares = {run: share_of_folds(len(study.folds), share) for run, study in runs}
    tasks = [
        _Task(run, study.folds[number].name, number)
        for run, study in runs
        for number in shares[run]
        if not finished(run, study.folds[number])
    ]
    total = sum(len(one) for one in shares.values())
    done = total - len(tasks)
    progress(done, total)
    if not tasks:
        return {}
    places = crew.slots()[: len(tasks)]
    begun = {one.run for one in tasks}
    waiting = [pair for pair in runs if pair[0] in begun]
    loaders, failed = _loaders(workspace, waiting, crew, places)
    _say_how(runs, tasks, crew, places, loaders, say)
    threads = max(1, len(os.sched_getaffinity(0)) // len(places))
    train = functools.partial(_train, workspace, loaders, crew, threads)
    busy: dict[_Task, LockedError] = {}
    left = tasks
    while left:
        asked, busy = len(left), {}
        for task, error in _side_by_side(
            train, (one for one in left if one.run not in failed), places
        ):
            if isinstance(error, LockedError):
                busy[task] = error
            elif error is not None:
                failed.setdefault(task.run, error)
            else:
                done += 1
                progress(done, total)
        # What others had is perhaps done, or left behind, since the rest took its time.
        left = list(busy) if len(busy) < asked else []
    return _busy(busy) | failed


@dataclass(frozen=True)
class _Task:
    """One fold of a run that is to be trained."""

    run: Path
    fold: str
    number: int


def _loaders(
    workspace: Path, runs: Sequence[tuple[Path, Study]], crew: Crew, places: Sequence[str]
) -> tuple[dict[Path, str], dict[Path, MerPrepError]]:
    """Return how the clips of every run are read, and of which run they cannot be."""
    copies = max(places.count(place) for place in places)
    loaders: dict[Path, str] = {}
    failed: dict[Path, MerPrepError] = {}
    for run, study in runs:
        try:
            loaders[run] = choose_loader(
                crew.loader, workspace, study.clips, study.method, places[0], copies=copies
            )
        except MerPrepError as error:
            failed[run] = error
    return loaders, failed


def _say_how(
    runs: Sequence[tuple[Path, Study]],
    tasks: Sequence[_Task],
    crew: Crew,
    places: Sequence[str],
    loaders: Mapping[Path, str],
    say: Callable[[str], None],
) -> None:
    """Say what is trained where, as far as a user may want to change it."""
    left = {run: sum(task.run == run for task in tasks) for run in loaders}
    for run, study in runs if crew.device == "cpu" else ():
        if not left.get(run) or study.method.solved:
            continue
        steps = study.training.all_steps
        which = f"{run.name}: " if len(runs) > 1 else ""
        say(
            f"{which}training on the CPU: {steps} step{'' if steps == 1 else 's'} in each of "
            f"{left[run]} fold{'' if left[run] == 1 else 's'}, {len(places)} at a time; "
            "--device cuda is far faster where there is one"
        )
    streamed = [run.name for run, how in loaders.items() if left[run] and how == "stream"]
    if streamed:
        which = f" for {', '.join(streamed)}" if len(runs) > 1 else ""
        say(f"clips are read from their shards as they are needed{which} (--loader)")


def _busy(tasks: Mapping[_Task, LockedError]) -> dict[Path, MerPrepError]:
    """Return the error of every run some of whose folds another process is training."""
    by_run: dict[Path, list[_Task]] = {}
    for task in tasks:
        by_run.setdefault(task.run, []).append(task)
    return {
        run: LockedError(
            f"Another run is training {len(folds)} of the folds: "
            f"{', '.join(one.fold for one in folds[:5])}.",
            where=tasks[folds[0]].where,
            why=tasks[folds[0]].why,
            hint="run the same command again when it is done; give every process its own --shard",
        )
        for run, folds in by_run.items()
    }


def _side_by_side(
    train: Callable[[_Task, str], MerPrepError | None],
    tasks: Iterator[_Task],
    places: Sequence[str],
) -> Iterator[tuple[_Task, MerPrepError | None]]:
    """Have folds trained, each place by a process of its own; yield them as they are done."""
    if len(places) == 1:
        for task in tasks:
            yield task, train(task, places[0])
        return
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    # One process a place: it keeps its clips, and a GPU never has more folds than it should.
    pools = [ProcessPoolExecutor(1) for _ in places]
    running: dict[Future[Any], tuple[int, _Task]] = {}

    def hand_out(place: int) -> None:
        for task in itertools.islice(tasks, 1):
            running[pools[place].submit(_in_worker, train, task, places[place])] = (place, task)

    try:
        for place in range(len(places)):
            hand_out(place)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, task = running.pop(future)
                yield task, future.result()
                hand_out(place)
    except TerminatedWorkerError as error:
        raise TrainingError(
            f"A process that was training died: {str(error).splitlines()[0]}",
            why="most often the memory of the machine was full",
            hint="lower --jobs or --folds-per-gpu, or take --loader stream; the same command goes "
            "on from the last checkpoints",
        ) from None
    finally:
        for pool in pools:
            pool.shutdown(wait=True, kill_workers=bool(running))


def _in_worker(
    train: Callable[[_Task, str], MerPrepError | None], task: _Task, device: str
) -> MerPrepError | None:
    # Processes that a worker starts to read shards do not know joblib's way to start processes,
    # which is the default within the worker.
    multiprocessing.set_start_method("spawn", force=True)
    return train(task, device)


def _train(
    workspace: Path,
    loaders: Mapping[Path, str],
    crew: Crew,
    threads: int,
    task: _Task,
    device: str,
) -> MerPrepError | None:
    """Train one fold; return the error if something is wrong, or if another process has it."""
    # More threads than cores wait for one another, busily; set before the first operation.
    torch.set_num_threads(threads)
    run = task.run
    try:
        study, source = _loaded(workspace, run, loaders[run], device)
        machine = Machine(
            device=device,
            precision=study.precision,
            compiled=crew.compiled,
            deterministic=crew.deterministic,
            workers=min(threads, _MOST_READERS),
        )
        fold = study.folds[task.number]
        with _held(Lock(fold_folder(run, fold) / "fold")):
            if not finished(run, fold):
                run_fold(run, study, fold, source, machine)
    except MerPrepError as error:
        return error
    return None


@contextmanager
def _held(lock: Lock) -> Iterator[None]:
    """Hold a lock, and give signs of life in it."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(_BEAT):
            lock.touch()

    with lock:
        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@functools.lru_cache(maxsize=1)
def _loaded(workspace: Path, run: Path, loader: str, device: str) -> tuple[Study, ClipSource]:
    """Return the study and its clips, read once per process."""
    study = read_study(run)
    return study, open_clips(loader, workspace, study.clips, study.method, device)
