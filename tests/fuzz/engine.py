"""Tries a reader on broken documents, in a process that may die, hang or ask for all memory.

A reader must give something that is in order, or raise a `MerPrepError` that names the file and
says what to do; nothing else, in little time and memory, and without opening another file.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import util
from pathlib import Path
from typing import Any, NoReturn

from hypothesis import HealthCheck, Phase, example, given, seed, settings
from hypothesis.errors import FailedHealthCheck
from hypothesis.strategies import SearchStrategy

from mer_prep.errors import MerPrepError
from tests.fuzz.odd import CANARY

#: Seconds that a reader may take for a document of some kilobytes, beyond the reader's own.
SECONDS = 5.0

#: Memory that a reader may take beyond what the process has, in bytes, unless it says otherwise.
MEMORY = 256 * 2**20


@dataclass(frozen=True)
class Reader:
    """A reader of foreign bytes.

    Parameters
    ----------
    name : str
        Its name on the command line.
    target : str
        The file that is broken, below the folder of the example.
    make : callable
        Writes a whole example into an empty folder.
    read : callable
        Reads the example of a folder and asserts what must hold of what it gives; what it returns
        is of no interest. Refuses by a `MerPrepError`.
    broken : callable
        Returns the strategy of broken documents of a whole one.
    named : tuple of str
        What an error may name in place of the file, as where several files are one document.
    known : tuple of callable
        Return from a whole document one that once got the better of the reader.
    examples : int
        How many are tried in the test suite.
    memory : int
        Bytes of memory beyond those of the process.
    needs : tuple of str
        Modules without which it cannot be tried.
    """

    name: str
    target: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    broken: Callable[[bytes], SearchStrategy[bytes]]
    named: tuple[str, ...] = ()
    known: tuple[Callable[[bytes], bytes], ...] = ()
    examples: int = 30
    memory: int = MEMORY
    needs: tuple[str, ...] = ()

    def can_run(self) -> bool:
        """Return whether all it needs is installed."""
        return all(util.find_spec(module) is not None for module in self.needs)


@dataclass
class Tally:
    """What came of the tries of a reader.

    Parameters
    ----------
    tried, refused, accepted : int
        Documents read, refused as they should be, and taken.
    worst : float
        Longest time for one, in seconds.
    problem : str
        What went wrong; empty if nothing did.
    culprit : str
        File with the document that it went wrong with, as small as it could be made.
    """

    tried: int = 0
    refused: int = 0
    accepted: int = 0
    worst: float = 0.0
    problem: str = ""
    culprit: str = ""

    def add(self, other: Tally) -> None:
        """Add what came of further tries."""
        self.tried += other.tried
        self.refused += other.refused
        self.accepted += other.accepted
        self.worst = max(self.worst, other.worst)
        self.problem = self.problem or other.problem
        self.culprit = self.culprit or other.culprit


class HangError(Exception):
    """A reader took too long."""


_IN_OPEN = 0x20
_LIBC = ctypes.CDLL(None, use_errno=True)


class Guard:
    """Tells whether a file was opened, by whatever library; only on Linux, else it never was.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        # Never closed: the kernel takes its time over that, and the process ends soon.
        self._watch = _LIBC.inotify_init1(os.O_NONBLOCK) if hasattr(_LIBC, "inotify_init1") else -1
        if self._watch >= 0:
            _LIBC.inotify_add_watch(self._watch, os.fsencode(path), _IN_OPEN)

    def opened(self) -> bool:
        """Return whether the file was opened since this was asked last."""
        try:
            return self._watch >= 0 and bool(os.read(self._watch, 4096))
        except BlockingIOError:
            return False


@dataclass
class Trial:
    """One reader at work in its folder; counts what comes of it."""

    reader: Reader
    folder: Path
    guard: Guard
    tally: Tally = field(default_factory=Tally)

    @property
    def target(self) -> Path:
        """The file that is broken."""
        return self.folder / self.reader.target

    def run(self, document: bytes) -> None:
        """Read a document.

        Raises
        ------
        AssertionError
            If the reader does not do what it must; or whatever else it raises.
        """
        self.target.write_bytes(document)
        self.tally.tried += 1
        started = time.monotonic()
        try:
            with in_time(SECONDS):
                self.reader.read(self.folder)
        except MerPrepError as error:
            self._check(error)
            self.tally.refused += 1
        else:
            self.tally.accepted += 1
        assert not self.guard.opened(), "it opened another file"
        self.tally.worst = max(self.tally.worst, time.monotonic() - started)

    def _check(self, error: MerPrepError) -> None:
        text = str(error)
        names = self.reader.named or (self.target.name,)
        assert any(name in text for name in names), f"names none of {names}: {text}"
        assert error.hint, f"says not what to do: {text}"
        assert len(text) < 4000, f"is {len(text)} characters long: {text[:400]}"
        text.encode()


@contextmanager
def in_time(limit: float) -> Iterator[None]:
    """Raise `HangError` if a block takes longer; end the process if that does not stop it."""

    def stop(*_: object) -> NoReturn:
        raise HangError(f"it took more than {limit:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    # Seen to by a thread of its own, which no library can keep from running.
    faulthandler.dump_traceback_later(2 * limit, exit=True)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def prepare(reader: Reader, folder: Path) -> bytes:
    """Write the example of a reader into a folder, see that it is taken, and return its target.

    What the reader imports for it is there for all processes that follow.
    """
    reader.make(folder)
    (folder / CANARY).write_text("another file\n")
    whole = (folder / reader.target).read_bytes()
    reader.read(folder)
    return whole


def fuzz(
    reader: Reader, *, examples: int | None = None, number: int | None = None, folder: Path
) -> Tally:
    """Try a reader on broken documents.

    Parameters
    ----------
    reader : Reader
        The reader.
    examples : int, optional
        How many documents, beside those known; the reader's own number if None.
    number : int, optional
        Seed; always the same documents if None.
    folder : Path
        An empty folder for the example.

    Returns
    -------
    Tally
        What came of it. A document that the reader fails on is as small as it could be made.
    """
    whole = prepare(reader, folder)
    count = reader.examples if examples is None else examples

    def session(trial: Trial) -> None:
        _explore(reader, whole, count, number, trial.run)

    found = contained(reader, folder, session)
    if found.problem.startswith("the process"):
        # It died, and with it the search for a small document: once more, a process for each.
        small = Tally()

        def alone(document: bytes) -> None:
            one = contained(reader, folder, lambda trial: trial.run(document))
            if one.problem:
                small.problem, small.culprit = one.problem, one.culprit
                raise AssertionError(one.problem)

        try:
            _explore(reader, whole, count, number, alone)
        except AssertionError:
            found.problem, found.culprit = small.problem, small.culprit
    return found


def replay(reader: Reader, document: bytes, folder: Path) -> Tally:
    """Try a reader on one document."""
    prepare(reader, folder)
    return contained(reader, folder, lambda trial: trial.run(document))


def _explore(
    reader: Reader, whole: bytes, count: int, number: int | None, run: Callable[[bytes], None]
) -> None:
    """Call `run` with broken documents; of one that it fails on, with ever smaller ones."""

    def try_one(document: bytes) -> None:
        run(document)

    test: Any = given(reader.broken(whole))(try_one)
    if number is not None:
        test = seed(number)(test)
    for known in reader.known:
        test = example(known(whole))(test)
    phases = (Phase.explicit, Phase.generate, Phase.shrink)
    test = settings(
        max_examples=count,
        derandomize=number is None,
        database=None,
        deadline=None,
        phases=phases if count else (Phase.explicit,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )(test)
    try:
        test()
    except FailedHealthCheck as error:
        raise RuntimeError(f"{reader.name}: the documents themselves are at fault") from error


def contained(reader: Reader, folder: Path, session: Callable[[Trial], None]) -> Tally:
    """Run a session in a process of its own, with little memory, and return what came of it."""
    report, said = folder.parent / f"{folder.name}.report", folder.parent / f"{folder.name}.said"
    report.unlink(missing_ok=True)
    gc.freeze()  # or its first collection would copy all memory
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads that will not be there
        child = os.fork()
    if not child:
        try:
            _live(reader, folder, session, report, said)
        finally:
            os._exit(0)
    gc.unfreeze()
    _, status = os.waitpid(child, 0)
    if report.exists():
        return Tally(**json.loads(report.read_text()))
    words = said.read_text(errors="replace")[-1500:] if said.exists() else ""
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {-code}" if code < 0 else f"code {code}"
    culprit = _keep(reader, (folder / reader.target).read_bytes())
    return Tally(1, problem=f"the process died ({how}): {words}", culprit=culprit)


def _live(
    reader: Reader, folder: Path, session: Callable[[Trial], None], report: Path, said: Path
) -> None:
    """Be the process that reads."""
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file
        faulthandler.enable(file)
        os.chdir(folder)
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = in_use + reader.memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        trial = Trial(reader, folder, Guard(folder / CANARY))
        try:
            session(trial)
        except BaseException as error:
            # Hypothesis tries the smallest document last, so that it still lies there.
            trial.tally.problem = _told(error)
            trial.tally.culprit = _keep(reader, trial.target.read_bytes())
        report.write_text(json.dumps(asdict(trial.tally)))


def _told(error: BaseException) -> str:
    """Return an error and the end of its traceback."""
    error.__notes__ = []  # hypothesis would add the document, however long
    lines = traceback.format_exception(error)
    text = "".join(lines[:-1])[-1500:] + lines[-1][:800]
    return text.encode("utf-8", "backslashreplace").decode()


def _keep(reader: Reader, document: bytes) -> str:
    folder = Path(tempfile.gettempdir()) / "mer-prep-fuzz"
    folder.mkdir(exist_ok=True)
    digest = f"{hash_of(document):08x}"
    path = folder / f"{reader.name}-{digest}{Path(reader.target).suffix}"
    path.write_bytes(document)
    return str(path)


def hash_of(document: bytes) -> int:
    """Return a short number that tells documents apart."""
    import zlib

    return zlib.crc32(document + struct.pack("<Q", len(document)))
