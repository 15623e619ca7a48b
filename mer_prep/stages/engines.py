"""The engines of a run on this machine: worker processes of joblib, and of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any

from mer_prep.checks import soft_import
from mer_prep.stages.interrupts import interrupts_held
from mer_prep.stages.worker import ClipReport, ClipWork

Process = Callable[[ClipWork], ClipReport]

ENGINES = ("loky", "dask", "ray")


def run_loky(process: Process, works: Iterator[ClipWork], jobs: int) -> Iterator[ClipReport]:
    """Have clips done by worker processes of joblib, and yield the reports as they come.

    Parameters
    ----------
    process : callable
        What does a clip in a worker: `worker.process_clip`.
    works : iterator of ClipWork
        The work; it is drawn from as workers get free.
    jobs : int
        Worker processes; 1 hands out one clip at a time, in a process that may die all the same.

    Raises
    ------
    BrokenProcessPool
        If a worker process was killed; see `worker_deaths`.
    """
    from joblib import Parallel, delayed

    # One job would mean this very process to joblib, which a dying clip must not take along.
    processes = max(jobs, 2)
    parallel = Parallel(
        n_jobs=processes,
        backend="loky",
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch="2*n_jobs" if jobs > 1 else 1,
    )
    with interrupts_held():  # the workers start as the first clips are handed out
        reports = parallel(delayed(process)(work) for work in works)
    yield from reports


def run_ray(process: Process, works: Iterator[ClipWork], jobs: int) -> Iterator[ClipReport]:
    """Have clips done by Ray on this machine; parameters and errors are those of `run_loky`.

    joblib's own backend for Ray gives nothing back before everything is done, so that no subject
    would be published before the end of a run. This one gives every clip back as it is finished.
    """
    ray = soft_import("ray", purpose="is needed for --engine ray", install="ray")
    with interrupts_held():
        ray.init(
            address="local",
            num_cpus=jobs,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
    in_hand: list[Any] = []
    try:
        remote = ray.remote(num_cpus=1, max_retries=0)(process)
        ahead = 2 * jobs if jobs > 1 else 1
        while True:
            in_hand += [remote.remote(work) for work in islice(works, ahead - len(in_hand))]
            if not in_hand:
                return
            ready, in_hand = ray.wait(in_hand, num_returns=1)
            try:
                report = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
                raise BrokenProcessPool(str(error)) from error
            yield report
    finally:
        ray.shutdown()


def worker_deaths() -> tuple[type[BaseException], ...]:
    """Return the errors by which an engine says that a worker process was killed."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    return (BrokenProcessPool, TerminatedWorkerError)
