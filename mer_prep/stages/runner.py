"""The runner: takes a plan, spreads the clips over processes, publishes the shards.

Clips are computed by worker processes, each writing one part per stage. When all clips of a
subject are there, the parent gathers them into the subject's shards and publishes these. A run
that ends early leaves parts behind, which the next one takes up.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from mer_prep.checks import check_option
from mer_prep.errors import DependencyError, LockedError, MerPrepError
from mer_prep.manifest import Clip
from mer_prep.stages.engines import ENGINES, run_loky, run_ray, worker_deaths
from mer_prep.stages.plan import (
    Recipe,
    SubjectPlan,
)
from mer_prep.stages.scratch import scratch_folder
from mer_prep.stages.subjects import Subject, Subjects
from mer_prep.stages.summary import LEFT_OUT, RunSummary
from mer_prep.stages.worker import ClipReport, ClipWork, process_clip
from mer_prep.store.cache import Cache
from mer_prep.store.hdf5 import hold_back
from mer_prep.store.lock import Owner, Watch
from mer_prep.store.verified import Verified
from mer_prep.workspace import Workspace

_MOST_IDLE_DEATHS = 3

#: What is noted of a clip that is given up because its worker was killed.
_KILLED = "WorkerKilled: its worker process was killed"

#: Seconds between looks at shards that other runs are writing.
_LOOK = 0.5

#: Seconds between the signs of life that a run gives in its locks.
_BEAT = 10.0


class Runner:
    """Runs the missing parts of a plan.

    Parameters
    ----------
    workspace : Workspace
        Where to write.
    recipe : Recipe
        The stages the plan was made from.
    jobs : int
        Worker processes.
    engine : {'loky', 'dask', 'ray'}
        What runs them: processes of joblib, a Dask cluster, or Ray on this machine.
    scheduler : str, optional
        Address of a Dask scheduler; ``$DASK_SCHEDULER_ADDRESS`` by default, and without either
        workers are started on this machine.
    patience : float
        Seconds to wait for shards that other live runs are writing.
    on_error : {'quarantine', 'raise'}
        Whether a bad clip is set aside or stops the run.
    progress : callable, optional
        Called with (clips done, clips to do).
    say : callable, optional
        Called with sentences for the user.
    """

    def __init__(
        self,
        workspace: Workspace,
        recipe: Recipe,
        *,
        jobs: int = 1,
        engine: str = "loky",
        scheduler: str | None = None,
        patience: float = 600.0,
        on_error: str = "quarantine",
        progress: Callable[[int, int], None] = lambda done, total: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        check_option("engine", engine, ENGINES)
        check_option("on-error", on_error, ("quarantine", "raise"))
        self._cache = Cache(workspace.cache)
        self._verified = Verified(workspace.cache)
        self._recipe = recipe
        self._subjects = Subjects(self._cache, recipe, self._verified, say)
        self._jobs = jobs
        self._engine = engine
        self._scheduler = scheduler
        self._patience = patience
        self._raise = on_error == "raise"
        self._progress = progress
        self._say = say
        self._summary = RunSummary()
        self._waiting: deque[SubjectPlan] = deque()
        self._locked: deque[SubjectPlan] = deque()
        self._queue: deque[ClipWork] = deque()
        self._alone: deque[ClipWork] = deque()
        self._handed: dict[str, ClipWork] = {}
        self._open: dict[str, Subject] = {}
        self._clips: list[Clip] = []
        self._scratch = Path()
        self._idle_deaths = 0
        self._stopping = False
        self._done = 0
        self._total = 0

    def run(self, plans: Sequence[SubjectPlan]) -> RunSummary:
        """Make the missing shards of a plan.

        Raises
        ------
        MerPrepError
            With ``on_error="raise"`` the first bad clip's; otherwise only what stops every clip:
            a full disk, a missing dependency.
        """
        started = time.monotonic()
        summary = self._summary
        summary.clips = sum(len(plan.clips) for plan in plans)
        for plan in plans:
            for shard in plan.shards.values():
                summary.failures += shard.failures
        for plan in plans:
            self._subjects.tidy(plan)
        todo = [plan for plan in plans if plan.missing]
        self._clips = [clip for plan in todo for clip in plan.clips]
        self._total = len(self._clips)
        summary.cached = summary.clips - self._total
        if todo:
            for stage in {shard.stage for plan in todo for shard in plan.missing}:
                self._recipe.stages[stage].check()
            self._waiting.extend(todo)
            with self._interruptible(), warnings.catch_warnings():
                # A run that stops early cancels what is under way; joblib takes it for a mistake.
                warnings.filterwarnings("ignore", message=r"\d+ tasks which were still being")
                self._run()
        summary.seconds = time.monotonic() - started
        return summary

    def _run(self) -> None:
        with scratch_folder() as scratch, self._signs_of_life():
            self._scratch = scratch
            try:
                self._work_off()
                self._wait_for_others()
            finally:
                for subject in self._open.values():
                    subject.locks.close()
                self._verified.save()

    @contextmanager
    def _signs_of_life(self) -> Iterator[None]:
        """Touch the locks held now and then, by which other machines know that this run lives."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(_BEAT):
                for subject in list(self._open.values()):
                    for lock in subject.held:
                        lock.touch()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _wait_for_others(self) -> None:
        """Wait for the shards that other live runs are writing, and take them as cached.

        What such a run leaves undone is done here.
        """
        watch = Watch()
        deadline = time.monotonic() + self._patience
        told: set[Owner] = set()
        while self._locked and not self._stopping:
            plans, self._locked = self._locked, deque()
            self._summary.locked.clear()
            for plan in plans:
                self._start_subject(plan)
            if self._queue:
                self._work_off()
                continue
            locks = [Path(str(error.where)) for error in self._summary.locked]
            owners = watch.alive(locks)
            if time.monotonic() >= deadline:
                return
            if not all(lock.exists() for lock in locks):
                continue  # given back since it was asked for
            if not owners:
                return
            for owner in owners - told:
                self._say(f"waiting up to {self._patience:.0f} s for another run: {owner}")
            told |= owners
            time.sleep(_LOOK)

    def _work_off(self) -> None:
        while (self._waiting or self._queue or self._alone) and not self._stopping:
            try:
                for report in self._parallel(alone=bool(self._alone)):
                    self._settle(report)
            except worker_deaths() as death:
                if not self._stopping:
                    self._after_death(death)

    def _works(self, *, alone: bool) -> Iterator[ClipWork]:
        """Yield the work left, subject by subject, taking each subject's locks as it begins."""
        queue = self._alone if alone else self._queue
        while not self._stopping:
            if queue:
                work = queue.popleft()
                self._handed[work.clip.clip_id] = work
                yield work
            elif not alone and self._waiting:
                self._start_subject(self._waiting.popleft())
            else:
                return

    def _start_subject(self, plan: SubjectPlan) -> None:
        try:
            subject = self._subjects.begin(plan)
        except LockedError as error:
            self._summary.locked.append(error)
            self._locked.append(plan)
            return
        self._summary.failures += subject.found_failures
        works = list(self._subjects.works(subject, marker=self._scratch))
        finished = subject.awaited - {work.clip.clip_id for work in works}
        subject.awaited -= finished
        self._done += len(finished)
        self._summary.cached += len(finished)
        if subject.awaited:
            self._open[f"{plan.corpus}/{plan.subject}"] = subject
            self._queue.extend(works)
        else:
            self._summary.published += self._subjects.publish(subject)

    def _parallel(self, *, alone: bool) -> Iterator[ClipReport]:
        """Run the work left in worker processes; `alone` hands out one clip at a time."""
        works = self._works(alone=alone)
        if self._engine == "dask":
            yield from self._on_cluster(works)
        elif self._jobs == 1 and self._engine == "loky":
            yield from map(process_clip, works)
        else:
            run_engine = run_ray if self._engine == "ray" else run_loky
            yield from run_engine(process_clip, works, 1 if alone else self._jobs)

    def _on_cluster(self, works: Iterator[ClipWork]) -> Iterator[ClipReport]:
        from mer_prep.stages.cluster import Cluster
        from mer_prep.stages.site import needs_of

        address = self._scheduler or os.environ.get("DASK_SCHEDULER_ADDRESS")
        with (
            needs_of(self._recipe, self._clips, self._cache.folder) as needs,
            Cluster(needs, address=address, jobs=self._jobs, say=self._say) as cluster,
        ):
            yield from cluster.run(process_clip, works, stopping=lambda: self._stopping)

    def _settle(self, report: ClipReport) -> None:
        """Take note of what became of a clip; publish its subject if it was the last."""
        self._handed.pop(report.clip_id, None)
        summary = self._summary
        name = next(name for name, one in self._open.items() if report.clip_id in one.awaited)
        subject = self._open[name]
        for stage in report.done:
            key = subject.plan.shards[stage].keys[report.clip_id]
            subject.files[stage][report.clip_id] = self._cache.part(stage, key)
            summary.computed.add(report.clip_id)
        for stage, failure in report.failures.items():
            subject.failures[stage][report.clip_id] = failure
            summary.failures.append(failure)
        summary.warnings += [f"{report.clip_id}: {text}" for text in report.warnings]
        summary.decoded += report.decoded
        for stage, seconds in report.seconds.items():
            summary.stage_seconds[stage] = summary.stage_seconds.get(stage, 0.0) + seconds
        self._report_trouble(report)
        subject.awaited.discard(report.clip_id)
        self._done += 1
        self._progress(self._done, self._total)
        if not subject.awaited:
            self._summary.published += self._subjects.publish(self._open.pop(name))

    def _report_trouble(self, report: ClipReport) -> None:
        """Say what went wrong with a clip, or stop if errors are to be raised."""
        if report.crash:
            self._summary.crashes.append(report)
            if self._raise:
                raise MerPrepError(
                    f"Clip {report.clip_id} met an unexpected error: {report.crash}",
                    hint="run with --debug and report the traceback",
                ) from RuntimeError(report.trace)
            what = report.crash if report.crash == _KILLED else f"unexpected {report.crash}"
            self._say(f"{report.clip_id}: {what}; the next run will try it again")
        for failure in list(report.failures.values())[:1]:
            if failure.error == LEFT_OUT:
                continue  # by choice: the summary counts them
            message = failure.message.replace("\n  ", " · ")
            if self._raise:
                raise MerPrepError(
                    f"Clip {failure.clip_id} failed in stage {failure.stage} ({failure.error}).",
                    where=message,
                    hint="run without --on-error raise to set it aside and go on",
                )
            self._say(
                f"quarantined {failure.clip_id} in stage {failure.stage}: "
                f"{failure.error}: {message}"
            )

    def _after_death(self, death: BaseException) -> None:
        """Settle what a killed worker had in hand.

        Everything handed out is tried once more, one clip at a time; a clip that kills its
        worker when it is alone is given up for this run.
        """
        notes = list(self._scratch.iterdir())
        in_hand = {note.read_text(encoding="utf-8") for note in notes} & set(self._handed)
        for note in notes:
            note.unlink()
        self._say(
            "a worker process was killed (often: out of memory; try fewer --jobs) with "
            f"{', '.join(sorted(in_hand)) or 'no clip'} in hand ({type(death).__name__})"
        )
        self._idle_deaths = 0 if in_hand else self._idle_deaths + 1
        if self._idle_deaths == _MOST_IDLE_DEATHS:
            raise DependencyError(
                f"Worker processes died {_MOST_IDLE_DEATHS} times before they had a clip in hand.",
                why="nothing can be computed in processes of their own",
                hint="try --jobs 1, which needs none; look for limits on processes or memory",
            ) from death
        if len(in_hand) == 1:
            clip_id = in_hand.pop()
            self._settle(ClipReport(clip_id, crash=_KILLED))
        self._alone.extend(self._handed.values())
        self._handed.clear()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C end the run after the clips in hand, the second at once."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self._stopping:
                at_once = KeyboardInterrupt()
                if hold_back(at_once, frame):
                    return
                raise at_once
            self._stopping = self._summary.interrupted = True
            self._say("stopping after the clips in hand; press Ctrl-C again to stop at once")

        try:
            before = signal.signal(signal.SIGINT, stop)
        except ValueError:
            yield  # not the main thread: the caller handles interruption
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
