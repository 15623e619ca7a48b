"""A Dask cluster as the engine of a run.

Every clip is given to one worker by name, and every worker is asked first what it has and sees
(`site`). So a worker with other libraries gets nothing, one without the workspace gets its inputs
along and sends its parts back, and when a worker dies it is known which clips it had in hand:
they go to the others. Workers may come and go during a run.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from mer_prep.checks import soft_import
from mer_prep.errors import DependencyError
from mer_prep.stages.errand import Process, by_value, make_errand, put_in_place, run_errand
from mer_prep.stages.interrupts import interrupts_held
from mer_prep.stages.site import Needs, Sight, differences, look_around, packages
from mer_prep.stages.worker import ClipReport, ClipWork

#: Seconds to reach a scheduler.
_CONNECT = 5.0

#: Seconds a cluster may be without any worker that can be used.
_PATIENCE = 30.0

#: Seconds between looks at which workers there are.
_LOOK = 1.0

#: Seconds to fetch one result before it is looked whether its worker still lives.
_FETCH = 5.0

#: Clips a worker has waiting beyond those its threads are busy with.
_AHEAD = 1

#: Workers that may die with a clip in hand until it is given up; the last had nothing else.
_MOST_DEATHS = 2


@dataclass
class _Worker:
    """A worker in use: what it is called, what it sees, and the clips it has, in order."""

    name: str
    threads: int
    shares_workspace: bool
    shares_sources: bool
    in_hand: dict[Any, ClipWork] = field(default_factory=dict)
    alone: bool = False

    def has_room(self, *, alone: bool) -> bool:
        """Return whether it takes another clip, or one that nothing else is to be run beside."""
        if alone or self.alone:
            return not self.in_hand
        return len(self.in_hand) < self.threads + _AHEAD


class Cluster:
    """The workers of a Dask scheduler, as long as a ``with`` block lasts.

    Parameters
    ----------
    needs : Needs
        What a worker must have.
    address : str, optional
        Address of a scheduler; without one, workers are started on this machine.
    jobs : int
        How many to start in that case.
    say : callable
        Called with sentences for the user.
    """

    def __init__(
        self, needs: Needs, *, address: str | None, jobs: int, say: Callable[[str], None]
    ) -> None:
        self._distributed = soft_import(
            "distributed", purpose="is needed for --engine dask", install="mer-prep[dask]"
        )
        self._needs = needs
        self._address = address
        self._jobs = jobs
        self._say = say
        self._call = by_value()
        self._own = look_around(needs)
        self._own_packages = packages()()
        self._workers: dict[str, _Worker] = {}
        self._refused: dict[str, str] = {}
        self._again: deque[ClipWork] = deque()
        self._deaths: dict[str, int] = {}
        self._given_up: list[ClipReport] = []
        self._looked = 0.0
        self._useful = time.monotonic()

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            # Inputs that travel with a clip make a large task, which is what they are meant to.
            warnings.filterwarnings("ignore", message="Sending large graph")
            for name in ("distributed", "distributed.client"):
                # What it logs of a lost worker or scheduler is said by this module in a sentence.
                logger = logging.getLogger(name)
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL)
            address = self._address or self._start_workers(stack)
            self._client = self._connect(address, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._client.cancel([one for w in self._workers.values() for one in w.in_hand])
        self._stack.close()

    def _start_workers(self, stack: ExitStack) -> Any:
        with interrupts_held():
            return stack.enter_context(
                self._distributed.LocalCluster(
                    n_workers=self._jobs, threads_per_worker=1, dashboard_address=":0"
                )
            )

    def _connect(self, address: Any, stack: ExitStack) -> Any:
        try:
            return stack.enter_context(self._distributed.Client(address, timeout=_CONNECT))
        except (OSError, ValueError, TypeError) as error:
            raise DependencyError(
                "The Dask scheduler cannot be reached.",
                where=address,
                why=str(error).splitlines()[0] if str(error) else type(error).__name__,
                hint="start one with `dask scheduler`, give its address as tcp://HOST:8786 by "
                "--scheduler, and look whether a firewall lies between",
            ) from error

    def run(
        self, process: Process, works: Iterator[ClipWork], *, stopping: Callable[[], bool]
    ) -> Iterator[ClipReport]:
        """Have clips done by the workers, and yield the reports as they come.

        Parameters
        ----------
        process : callable
            What does a clip in a worker: `worker.process_clip`.
        works : iterator of ClipWork
            The work; it is drawn from as workers get free.
        stopping : callable
            Returns whether to end after the clips in hand.

        Raises
        ------
        DependencyError
            If the scheduler is gone, or no worker can be used for some time.
        """
        while True:
            self._look()
            left = not stopping() and self._hand_out(process, works)
            yield from self._given_up
            self._given_up.clear()
            if not left and not any(worker.in_hand for worker in self._workers.values()):
                return
            yield from self._collect()

    def _look(self) -> None:
        """Take in new workers, and take back what those that are gone had in hand."""
        if time.monotonic() - self._looked < _LOOK and self._workers:
            return
        threads = self._ask_scheduler()
        for address in set(self._workers) - set(threads):
            self._bury(self._workers.pop(address))
        self._refused = {one: why for one, why in self._refused.items() if one in threads}
        new = [one for one in threads if one not in self._workers and one not in self._refused]
        for address, answer in self._examine(new).items():
            if isinstance(answer, Sight):
                self._workers[address] = _Worker(
                    name=f"{address} on {answer.machine}",
                    threads=max(1, threads[address]),
                    shares_workspace=answer.workspace,
                    shares_sources=answer.files == self._own.files,
                )
                if not answer.workspace:
                    self._say(
                        f"worker {address} on {answer.machine} does not see the workspace; its "
                        "results are sent back"
                    )
            else:
                self._refused[address] = answer
                self._say(f"worker {address} is not used: {answer}")
        self._looked = time.monotonic()
        if self._workers:
            self._useful = self._looked
        elif self._looked - self._useful > _PATIENCE or self._refused:
            raise self._no_workers()
        else:
            time.sleep(_LOOK / 4)

    def _ask_scheduler(self) -> Mapping[str, int]:
        try:
            threads: Mapping[str, int] = self._client.nthreads()
        except Exception as error:
            raise DependencyError(
                "The Dask scheduler is gone.",
                where=self._address,
                why=f"{type(error).__name__}: {error}",
                hint="start it again and run the same command; what was finished is kept",
            ) from error
        return threads

    def _no_workers(self) -> DependencyError:
        if self._refused:
            reasons = "; ".join(f"{one}: {why}" for one, why in sorted(self._refused.items()))
            return DependencyError(
                "No worker of the Dask cluster can be used.",
                where=self._address,
                why=reasons,
                hint="install the same mer-prep and libraries there and mount the corpus folders "
                "under the same paths",
            )
        return DependencyError(
            f"The Dask cluster has had no worker for {_PATIENCE:.0f} s.",
            where=self._address,
            hint="start some with `dask worker ADDRESS`; what was finished is kept",
        )

    def _examine(self, addresses: list[str]) -> dict[str, Sight | str]:
        """Return what every worker sees, or why it cannot be used."""
        answers: dict[str, Sight | str] = {}
        able = []
        for address, found in self._ask(addresses, packages()).items():
            wrong = differences(found, self._own_packages) if isinstance(found, dict) else [found]
            if wrong:
                answers[address] = f"it has {', '.join(map(str, wrong))}"
            else:
                able.append(address)
        for address, sight in self._ask(able, look_around, self._needs).items():
            answers[address] = self._judge(sight)
        return answers

    def _judge(self, sight: Any) -> Sight | str:
        if not isinstance(sight, Sight):
            return f"it cannot say what it has: {sight}"
        wrong = differences(sight.facts, self._own.facts)
        if wrong:
            return f"on {sight.machine} it has {', '.join(wrong)}"
        if sight.blind:
            return (
                f"on {sight.machine} it does not see the source frames, or others: "
                f"{', '.join(sight.blind)}"
            )
        return sight

    def _ask(
        self, addresses: list[str], function: Callable[..., Any], *arguments: object
    ) -> dict[str, Any]:
        """Return the answer of every worker; the text of an error where there is none."""
        if not addresses:
            return {}
        future = self._client.run(function, *arguments, workers=addresses, on_error="return")
        answers: dict[str, Any] = {}
        for address in addresses:
            answer = future.get(address, "it does not answer")
            is_error = isinstance(answer, BaseException)
            answers[address] = f"{type(answer).__name__}: {answer}" if is_error else answer
        return answers

    def _hand_out(self, process: Process, works: Iterator[ClipWork]) -> bool:
        """Give the workers what they have room for; return whether there may be more work."""
        while True:
            # A clip that a worker died with is given to one that has nothing else in hand.
            alone = bool(self._again) and self._again[0].clip.clip_id in self._deaths
            address = self._freest(alone=alone)
            if address is None:
                return True
            work = self._again.popleft() if self._again else next(works, None)
            if work is None:
                return False
            self._give(address, process, work, alone=alone)

    def _freest(self, *, alone: bool) -> str | None:
        """Return the worker with the least to do for its threads, if any has room."""
        free = {one: of for one, of in self._workers.items() if of.has_room(alone=alone)}
        return min(free, key=lambda one: len(free[one].in_hand) / free[one].threads, default=None)

    def _give(self, address: str, process: Process, work: ClipWork, *, alone: bool) -> None:
        worker = self._workers[address]
        errand = make_errand(
            work,
            shares_workspace=worker.shares_workspace,
            shares_sources=worker.shares_sources,
        )
        packed = pickle.dumps((run_errand, process, errand))
        future = self._client.submit(self._call, packed, workers=[address], pure=False)
        worker.in_hand[future] = work
        worker.alone = alone

    def _collect(self) -> Iterator[ClipReport]:
        """Yield the reports of what is finished, waiting a little for the first."""
        futures = [one for worker in self._workers.values() for one in worker.in_hand]
        if not futures:
            return
        # Cancelled are all when the scheduler is lost, which the next look will find.
        with contextlib.suppress(TimeoutError, CancelledError, self._distributed.CancelledError):
            self._distributed.wait(futures, timeout=_LOOK, return_when="FIRST_COMPLETED")
        for worker in self._workers.values():
            for future in [one for one in worker.in_hand if one.done()]:
                report = self._take(worker, future)
                if report is not None:
                    yield report

    def _take(self, worker: _Worker, future: Any) -> ClipReport | None:
        """Fetch what became of a clip; None if it is to be done again or cannot be had yet."""
        work = worker.in_hand[future]
        delivery = None
        if future.status == "finished":
            try:
                delivery = pickle.loads(future.result(timeout=_FETCH))
            except TimeoutError:
                # The worker may have died with the result; then the next look takes it back.
                self._looked = 0.0
                return None
        del worker.in_hand[future]
        if delivery is not None:
            return put_in_place(delivery, work)
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, self._distributed.scheduler.KilledWorker):
                raise error
            self._strike(work)
        else:  # cancelled or lost: the worker or the scheduler has gone
            self._again.append(work)
            self._looked = 0.0
        return None

    def _bury(self, worker: _Worker) -> None:
        """Take back the clips of a worker that is gone."""
        works = list(worker.in_hand.values())
        self._client.cancel(list(worker.in_hand))
        names = ", ".join(work.clip.clip_id for work in works) or "no clip"
        self._say(f"worker {worker.name} is gone with {names} in hand; others take it up")
        for work in works:
            self._strike(work)

    def _strike(self, work: ClipWork) -> None:
        """Note that a worker died with a clip in hand; hand it out again, or give it up.

        Which of its clips the worker was busy with is not known for certain. So each is given to
        a worker that has nothing else; if that one dies too, there is no doubt left.
        """
        clip_id = work.clip.clip_id
        self._deaths[clip_id] = self._deaths.get(clip_id, 0) + 1
        if self._deaths[clip_id] < _MOST_DEATHS:
            self._again.appendleft(work)
        else:
            self._given_up.append(
                ClipReport(clip_id, crash="WorkerKilled: two workers died with it in hand")
            )
