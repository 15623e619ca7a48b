"""The faults the program must survive: what is tried of each, and proof that trying can fail.

A case is a function that tries one fault in many ways and asserts what must come of it. It names
the protections that stand between the fault and the user, as things that can be taken away; with
any one of them gone the case has to fail, or it proves nothing.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr
from contextlib import redirect_stdout as redirect
from dataclasses import dataclass
from importlib import import_module, util
from pathlib import Path
from pkgutil import iter_modules
from typing import TypeVar
from unittest import mock

from mer_prep import cli  # here, so that processes to come find it ready
from mer_prep.errors import MerPrepError

T = TypeVar("T")
Removal = Callable[[], AbstractContextManager[object]]


class Tries:
    """What a case works with: a folder, and the count of what it has tried.

    Parameters
    ----------
    folder : Path
        An empty folder.
    quick : bool
        Whether a sample of the tries is enough.
    """

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.count = 0
        self._numbers = itertools.count()

    def of(self, cases: Iterable[T], *, quick: int = 20) -> Iterator[T]:
        """Yield what is to be tried, counted; in a quick run `quick` of it, evenly spread."""
        every = list(cases)
        step = max(1, -(-len(every) // quick)) if self.quick else 1
        for one in every[::step]:
            self.count += 1
            yield one

    def fresh(self) -> Path:
        """Return an empty folder that nothing else uses."""
        folder = self.folder / f"{next(self._numbers):05d}"
        folder.mkdir()
        return folder


@dataclass(frozen=True)
class Case:
    """A fault, how it is tried, and what protects from it.

    Parameters
    ----------
    number : int
        Number of the fault, for the order of the table.
    title : str
        The fault, in a few words.
    function : callable
        Tries it; raises if the program does not stand it.
    without : mapping of str to callable
        By name, makers of contexts in which a protection is gone.
    name : str
        Number and name, for lists.
    needs : tuple of str
        Modules without which it cannot be tried.
    seldom : bool
        Whether a sample may miss what a missing protection does: the proof then takes all tries,
        and is left to ``make faults``.
    """

    number: int
    title: str
    function: Callable[[Tries], None]
    without: Mapping[str, Removal]
    name: str
    needs: tuple[str, ...] = ()
    seldom: bool = False

    def can_run(self) -> bool:
        """Return whether all it needs is installed."""
        return all(util.find_spec(module) is not None for module in self.needs)

    def run(self, *, quick: bool) -> int:
        """Try the fault and return how many times; raise if the program does not stand it."""
        with tempfile.TemporaryDirectory() as folder:
            tries = Tries(Path(folder), quick=quick)
            self.function(tries)
        assert tries.count, "nothing was tried"
        return tries.count

    def run_without(self, protection: str) -> None:
        """See that the case fails once a protection is gone.

        Raises
        ------
        AssertionError
            If it passes all the same.
        """
        with ExitStack() as stack:
            stack.enter_context(self.without[protection]())
            try:
                self.run(quick=not self.seldom)
            except Exception:
                return
        raise AssertionError(f"{self.title}: passes without {protection}")


_CASES: dict[str, Case] = {}


def fault(
    number: int,
    title: str,
    *,
    without: Mapping[str, Removal],
    needs: Sequence[str] = (),
    name: str | None = None,
    seldom: bool = False,
) -> Callable[[Callable[[Tries], None]], Callable[[Tries], None]]:
    """Enter a function into the catalogue of faults; see `Case`."""
    if not without:
        raise ValueError(f"{title}: no protection is named")

    def enter(function: Callable[[Tries], None]) -> Callable[[Tries], None]:
        full = f"{number:02d}-{name or function.__name__}"
        if full in _CASES:
            raise ValueError(f"{full} is there twice")
        _CASES[full] = Case(number, title, function, without, full, tuple(needs), seldom)
        return function

    return enter


def catalogue() -> dict[str, Case]:
    """Return all cases by name, in the order of their numbers."""
    from tests.faults import cases

    for module in iter_modules(cases.__path__):
        import_module(f"{cases.__name__}.{module.name}")
    return dict(sorted(_CASES.items()))


def try_case(name: str) -> tuple[int, float, str]:
    """Return (tries, seconds, what went wrong) of a case and of the removals it names."""
    case, started, tried, problem = catalogue()[name], time.monotonic(), 0, ""
    try:
        if not case.can_run():
            return 0, 0.0, f"NOT TRIED: it needs {', '.join(case.needs)}"
        tried = case.run(quick=False)
        for protection in case.without:
            case.run_without(protection)
    except Exception as error:
        problem = f"NOT STOOD: {type(error).__name__}: {error}"
    return tried, time.monotonic() - started, problem


def instead(target: str, replacement: object) -> Removal:
    """Return the removal of a protection: the thing at a dotted name is replaced by another.

    Parameters
    ----------
    target : str
        As of `unittest.mock.patch`, such as ``mer_prep.sources.images._jpeg_is_whole``; a name
        that is not there is an error.
    replacement : object
        What stands there instead.
    """
    return lambda: mock.patch(target, replacement)


def nothing(*_: object, **__: object) -> None:
    """Do nothing, in place of a check."""


@contextmanager
def refused(kind: type[MerPrepError], *words: str) -> Iterator[None]:
    """Expect an error made for people: of this kind, with these words, and saying what to do."""
    try:
        yield
    except MerPrepError as error:
        found = error
    else:
        raise AssertionError("it was accepted")
    assert isinstance(found, kind), f"{type(found).__name__}, not {kind.__name__}: {found}"
    missing = [word for word in words if word not in str(found)]
    assert not missing, f"{missing} not in: {found}"
    assert found.hint, f"what to do is not said: {found}"


@dataclass(frozen=True)
class Said:
    """What the program printed, and its exit code."""

    code: int
    out: str
    err: str

    def for_people(self, code: int | None = None) -> Said:
        """Return this if it shows no traceback, no bug, and ended with the code asked for."""
        assert "Traceback" not in self.out + self.err, self
        assert "unexpected" not in self.err, self.err
        if code is not None:
            assert self.code == code, f"exit {self.code}: {self.out}\n{self.err}"
        return self


def program(*arguments: object, code: int | None = None) -> Said:
    """Run mer-prep in a process of its own, as it stands here with what has been taken away.

    No traceback may be shown, and an error says what to do.

    Parameters
    ----------
    *arguments : object
        The command line.
    code : int, optional
        The exit code there must be.
    """
    words = [str(one) for one in arguments]
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        status = in_process(lambda: run_program(words, out, err))
        said = Said(status, _read(out), _read(err))
    return said.for_people(code)


def in_process(work: Callable[[], int]) -> int:
    """Do something in a forked process and return its exit code, or minus the signal it died of."""
    return os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1])


def forked(work: Callable[[], int]) -> int:
    """Begin something in a forked process, which exits with its result, and return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks while threads run
        child = os.fork()
    if child == 0:
        status = 70
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def run_program(words: Sequence[str], out: Path, err: Path) -> int:
    """Run mer-prep in this process, which is to end then; what it prints goes to two files."""
    sys.argv = ["mer-prep", *words]
    with (
        open(out, "w", encoding="utf-8", errors="surrogateescape") as said,
        open(err, "w", encoding="utf-8", errors="surrogateescape") as wrong,
        redirect(said),
        redirect_stderr(wrong),
    ):
        os.dup2(said.fileno(), 1)  # for libraries in C, and for processes started from here
        os.dup2(wrong.fileno(), 2)
        try:
            cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
    return 0


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""


def damaged(data: bytes) -> Iterator[bytes]:
    """Yield a file as damage may leave it: cut at every length, and every byte changed in turn."""
    for length in range(len(data)):
        yield data[:length]
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        yield bytes(changed)


__all__ = [
    "Case",
    "Said",
    "Tries",
    "catalogue",
    "damaged",
    "fault",
    "forked",
    "in_process",
    "instead",
    "nothing",
    "program",
    "refused",
    "run_program",
    "try_case",
]
