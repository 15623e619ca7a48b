"""The runner: takes a plan, spreads the clips over processes, publishes the shards.

Clips are computed by worker processes, each writing one part per stage. When all clips of a
subject are there, the parent gathers them into the subject's shards and publishes these. A run
that ends early leaves parts behind, which the next one takes up.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mer_prep.checks import check_option, soft_import
from mer_prep.errors import DependencyError, LockedError, MerPrepError, ShardError
from mer_prep.stages.plan import (
    Recipe,
    ShardPlan,
    SubjectPlan,
    existing_shard,
    shard_header,
)
from mer_prep.stages.worker import ClipReport, ClipWork, process_clip
from mer_prep.store import files
from mer_prep.store.cache import Cache
from mer_prep.store.key import shard_key
from mer_prep.store.lock import Lock
from mer_prep.store.shard import Failure, check_clip, check_shard, merge
from mer_prep.workspace import Workspace

ENGINES = ("loky", "dask", "ray")

_MOST_IDLE_DEATHS = 3


@dataclass
class RunSummary:
    """What a run did.

    Parameters
    ----------
    clips : int
        Clips of the plan.
    computed : set of str
        Clips of which at least one stage was computed.
    cached : int
        Clips whose results were all there.
    failures : list of Failure
        Quarantined clips, of this run and of the shards it found.
    crashes : list of ClipReport
        Clips that met an unexpected error; they are tried again next time.
    locked : list of LockedError
        Shards that another run is writing.
    published : int
        Shards published.
    warnings : list of str
        Sentences of the stages, with the clip.
    seconds : float
        Wall time.
    decoded : int
        Frames decoded.
    stage_seconds : dict of str to float
        Time by stage, added up over clips and processes; the decoding of frames counts for the
        stage that first looks at them.
    interrupted : bool
        Whether Ctrl-C stopped the run.
    """

    clips: int = 0
    computed: set[str] = field(default_factory=set)
    cached: int = 0
    failures: list[Failure] = field(default_factory=list)
    crashes: list[ClipReport] = field(default_factory=list)
    locked: list[LockedError] = field(default_factory=list)
    published: int = 0
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    decoded: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def quarantined(self) -> set[str]:
        """Ids of the clips that were quarantined or crashed."""
        return {f.clip_id for f in self.failures} | {c.clip_id for c in self.crashes}


@dataclass
class _Subject:
    """A subject in progress: its plan, its locks, and the clips still awaited."""

    plan: SubjectPlan
    missing: list[ShardPlan]
    locks: ExitStack
    awaited: set[str]
    files: dict[str, dict[str, Path]]
    failures: dict[str, dict[str, Failure]]


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
        The joblib backend that runs them.
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
        on_error: str = "quarantine",
        progress: Callable[[int, int], None] = lambda done, total: None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        check_option("engine", engine, ENGINES)
        check_option("on-error", on_error, ("quarantine", "raise"))
        self._cache = Cache(workspace.cache)
        self._recipe = recipe
        self._facts = {name: recipe.facts(name) for name in recipe.stages}
        self._jobs = jobs
        self._engine = engine
        self._raise = on_error == "raise"
        self._progress = progress
        self._say = say
        self._summary = RunSummary()
        self._waiting: deque[SubjectPlan] = deque()
        self._locked: deque[SubjectPlan] = deque()
        self._queue: deque[ClipWork] = deque()
        self._alone: deque[ClipWork] = deque()
        self._handed: dict[str, ClipWork] = {}
        self._open: dict[str, _Subject] = {}
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
        todo = [plan for plan in plans if plan.missing]
        self._total = sum(len(plan.clips) for plan in todo)
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
        with tempfile.TemporaryDirectory(prefix="mer-prep-", ignore_cleanup_errors=True) as scratch:
            self._scratch = Path(scratch)
            try:
                self._work_off()
                # What another run was writing may be finished by now; it is looked at once more.
                self._waiting, self._locked = self._locked, deque()
                self._summary.locked.clear()
                self._work_off()
            finally:
                for subject in self._open.values():
                    subject.locks.close()

    def _work_off(self) -> None:
        while (self._waiting or self._queue or self._alone) and not self._stopping:
            try:
                for report in self._parallel(alone=bool(self._alone)):
                    self._settle(report)
            except _worker_deaths() as death:
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
            subject = self._begin(plan)
        except LockedError as error:
            self._summary.locked.append(error)
            self._locked.append(plan)
            return
        works = list(self._clip_works(subject))
        finished = subject.awaited - {work.clip.clip_id for work in works}
        subject.awaited -= finished
        self._done += len(finished)
        self._summary.cached += len(finished)
        if subject.awaited:
            self._open[f"{plan.corpus}/{plan.subject}"] = subject
            self._queue.extend(works)
        else:
            self._publish(subject)

    def _begin(self, plan: SubjectPlan) -> _Subject:
        """Take the locks of a subject's missing shards, then look again what is missing."""
        missing = []
        headers = {name: shard.header for name, shard in plan.shards.items()}
        with ExitStack() as stack:
            for shard in self._to_make(plan):
                stack.enter_context(Lock(shard.path, self._say))
                header, _ = existing_shard(shard)
                if shard.cached or shard.reason == "forced" or header is None:
                    missing.append(shard)
                    headers[shard.stage] = None
                else:
                    headers[shard.stage] = header
            locks = stack.pop_all()
        return _Subject(
            plan=plan,
            missing=missing,
            locks=locks,
            awaited={clip.clip_id for clip in plan.clips},
            files={
                name: self._intact(shard.reusable)
                if headers[name] is None
                else {clip.clip_id: shard.path for clip in plan.clips}
                for name, shard in plan.shards.items()
            },
            failures={
                name: {failure.clip_id: failure for failure in header.failures} if header else {}
                for name, header in headers.items()
            },
        )

    def _to_make(self, plan: SubjectPlan) -> list[ShardPlan]:
        """Return the missing shards, and those that these need and that turn out damaged."""
        found: list[ShardPlan] = []
        needed: set[str] = set()
        for shard in reversed(list(plan.shards.values())):
            if shard.cached and not (shard.stage in needed and self._is_damaged(shard.path)):
                continue
            found.append(shard)
            needed.update(self._recipe.stages[shard.stage].requires)
        return found[::-1]

    def _is_damaged(self, path: Path) -> bool:
        try:
            check_shard(path)
        except ShardError as error:
            self._say(f"made again, since it is damaged: {path} ({error.what})")
            return True
        return False

    def _intact(self, reusable: Mapping[str, Path]) -> dict[str, Path]:
        """Return those of the reusable results that can be read."""
        intact = {}
        for clip_id, path in reusable.items():
            try:
                check_clip(path, clip_id)
            except ShardError as error:
                self._say(f"not reused, since it is damaged: {path} ({error.what})")
            else:
                intact[clip_id] = path
        return intact

    def _clip_works(self, subject: _Subject) -> Iterator[ClipWork]:
        plan = subject.plan
        for clip in plan.clips:
            clip_id = clip.clip_id
            targets = {
                shard.stage: self._cache.part(shard.stage, shard.keys[clip_id])
                for shard in subject.missing
                if clip_id not in subject.files[shard.stage]
            }
            if not targets:
                continue
            yield ClipWork(
                clip=clip,
                source=self._recipe.source,
                stages={name: stage.params for name, stage in self._recipe.stages.items()},
                recipes=self._facts,
                keys={name: shard.keys[clip_id] for name, shard in plan.shards.items()},
                targets=targets,
                available={
                    name: paths[clip_id]
                    for name, paths in subject.files.items()
                    if clip_id in paths and clip_id not in subject.failures[name]
                },
                failed={
                    name: failures[clip_id]
                    for name, failures in subject.failures.items()
                    if clip_id in failures
                },
                marker=self._scratch,
                parent=os.getpid(),
            )

    def _parallel(self, *, alone: bool) -> Iterator[ClipReport]:
        """Run the work left in worker processes; `alone` hands out one clip at a time."""
        works = self._works(alone=alone)
        if self._jobs == 1 and self._engine == "loky":
            yield from map(process_clip, works)
            return
        from joblib import Parallel, delayed, parallel_config

        with ExitStack() as stack:
            _open_engine(self._engine, self._jobs, stack)
            # One job would mean this very process, which a dying clip must not take along.
            jobs = 2 if alone else self._jobs
            stack.enter_context(parallel_config(backend=self._engine, n_jobs=jobs))
            parallel = Parallel(
                n_jobs=jobs,
                return_as="generator_unordered",
                batch_size=1,
                pre_dispatch=1 if alone else "2*n_jobs",
            )
            yield from parallel(delayed(process_clip)(work) for work in works)

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
            self._publish(self._open.pop(name))

    def _report_trouble(self, report: ClipReport) -> None:
        """Say what went wrong with a clip, or stop if errors are to be raised."""
        if report.crash:
            self._summary.crashes.append(report)
            if self._raise:
                raise MerPrepError(
                    f"Clip {report.clip_id} met an unexpected error: {report.crash}",
                    hint="run with --debug and report the traceback",
                ) from RuntimeError(report.trace)
            self._say(f"{report.clip_id}: unexpected {report.crash}; it will be tried again")
        for failure in list(report.failures.values())[:1]:
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

    def _publish(self, subject: _Subject) -> None:
        """Gather a subject's parts into its shards, leaving out clips to be tried again."""
        try:
            for shard in subject.missing:
                paths = {
                    clip_id: path
                    for clip_id, path in subject.files[shard.stage].items()
                    if clip_id in shard.keys and clip_id not in subject.failures[shard.stage]
                }
                failures = list(subject.failures[shard.stage].values())
                settled = {*paths, *(failure.clip_id for failure in failures)}
                if not settled:
                    continue
                keys = {clip_id: key for clip_id, key in shard.keys.items() if clip_id in settled}
                key = shard_key(shard.stage, keys)
                target = self._cache.shard(shard.stage, key, shard.corpus, shard.subject)
                merge(target, shard_header(shard, self._recipe), key, paths, failures)
                self._summary.published += 1
                for path in paths.values():
                    if path.parent.name == ".parts":
                        files.remove(path)
        finally:
            subject.locks.close()

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
            self._settle(ClipReport(clip_id, crash="WorkerKilled: the worker process was killed"))
        self._alone.extend(self._handed.values())
        self._handed.clear()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C end the run after the clips in hand, the second at once."""

        def stop(number: int, frame: object) -> None:
            if self._stopping:
                raise KeyboardInterrupt
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


def _open_engine(engine: str, jobs: int, stack: ExitStack) -> None:
    """Prepare a joblib backend; Dask and Ray are imported only when asked for."""
    if engine == "dask":
        distributed = soft_import(
            "distributed", purpose="is needed for --engine dask", install="mer-prep[dask]"
        )
        address = os.environ.get("DASK_SCHEDULER_ADDRESS")
        if not address:
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=jobs, threads_per_worker=1, dashboard_address=None
                )
            )
        stack.enter_context(distributed.Client(address))
    elif engine == "ray":
        soft_import(
            "ray.util.joblib", purpose="is needed for --engine ray", install="ray"
        ).register_ray()


def _worker_deaths() -> tuple[type[BaseException], ...]:
    from concurrent.futures.process import BrokenProcessPool

    from joblib.externals.loky.process_executor import TerminatedWorkerError

    return (BrokenProcessPool, TerminatedWorkerError)
