"""The engines of a run that joblib brings: worker processes of this machine, and Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mer_prep.checks import soft_import
from mer_prep.stages.interrupts import interrupts_held
from mer_prep.stages.worker import ClipReport, ClipWork

ENGINES = ("loky", "dask", "ray")


def run_joblib(
    process: Callable[[ClipWork], ClipReport],
    works: Iterator[ClipWork],
    engine: str,
    jobs: int,
    *,
    alone: bool,
) -> Iterator[ClipReport]:
    """Have clips done by the workers of a joblib backend, and yield the reports as they come.

    Parameters
    ----------
    process : callable
        What does a clip in a worker: `worker.process_clip`.
    works : iterator of ClipWork
        The work; it is drawn from as workers get free.
    engine : {'loky', 'ray'}
        The backend.
    jobs : int
        Worker processes.
    alone : bool
        Hand out one clip at a time, so that it is known which one kills its worker.

    Raises
    ------
    worker_deaths
        If a worker process was killed.
    """
    from joblib import Parallel, delayed, parallel_config

    if engine == "ray":
        soft_import(
            "ray.util.joblib", purpose="is needed for --engine ray", install="ray"
        ).register_ray()
    # One job would mean this very process, which a dying clip must not take along.
    jobs = 2 if alone else jobs
    with parallel_config(backend=engine, n_jobs=jobs):
        parallel = Parallel(
            n_jobs=jobs,
            return_as="generator_unordered",
            batch_size=1,
            pre_dispatch=1 if alone else "2*n_jobs",
        )
        with interrupts_held():  # the workers start as the first clips are handed out
            reports = parallel(delayed(process)(work) for work in works)
        yield from reports


def worker_deaths() -> tuple[type[BaseException], ...]:
    """Return the errors by which a backend says that a worker process was killed."""
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky.process_executor import TerminatedWorkerError

    return (BrokenProcessPool, TerminatedWorkerError)
