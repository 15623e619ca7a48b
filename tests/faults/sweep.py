"""Operations on failing disks: for every k the k-th change fails, and nothing may be lost."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.faulty import EIO, POWER, Fault, Outcome, attempt

Contents = Mapping[str, object]


@dataclass(frozen=True)
class Operation:
    """Something that changes the disk, and how to tell what it has done.

    Parameters
    ----------
    name : str
        For the table.
    prepare : callable
        Makes the state before, in a folder.
    run : callable
        Does the operation there.
    result : callable
        Gives what has been made, in a form that can be compared.
    check : callable
        Raises `AssertionError` if something that a reader would take for whole is not; called
        with the folder, the result before and the result after a run without faults.
    kept : callable
        Gives the bytes of files that no run may ever change.
    informal : frozenset of str
        What of the result may have gaps after a power cut, since it is not forced to the disk.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    result: Callable[[Path], Contents]
    check: Callable[[Path, Contents, Contents], None]
    kept: Callable[[Path], Mapping[str, bytes]] = lambda folder: {}
    informal: frozenset[str] = frozenset()


@dataclass
class Tally:
    """How often a fault was tried, and what came of it."""

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)


class Sweep:
    """An operation, swept with faults.

    Parameters
    ----------
    operation : Operation
        The operation.
    folder : Path
        An empty folder to work in.
    """

    def __init__(self, operation: Operation, folder: Path) -> None:
        self.operation = operation
        self._folder = folder
        self._start = folder / "start"
        self._start.mkdir()
        _expect_done(attempt(operation.prepare, self._start, Fault(EIO, 0)), "preparing")
        self.before = operation.result(self._start)
        whole = self._copy("whole")
        done = attempt(operation.run, whole, Fault(EIO, 0))
        _expect_done(done, "running without faults")
        self.calls = done.calls
        self.after = operation.result(whole)
        assert self.after != self.before
        _expect_no_leftovers(whole)

    def run(self, kind: str, numbers: Iterable[int]) -> Tally:
        """Try a kind of fault at every number, until one is beyond the last call.

        Raises
        ------
        AssertionError
            If anything was lost; kind and number are said.
        """
        tally = Tally()
        for number in numbers:
            outcome = self._one(kind, number)
            if not outcome.fired:
                break
            tally.tried += 1
            tally.outcomes[outcome.how] += 1
        return tally

    def _one(self, kind: str, number: int) -> Outcome:
        where = f"{self.operation.name}, {kind} at call {number}"
        folder = self._copy("case")
        outcome = attempt(self.operation.run, folder, Fault(kind, number))
        try:
            assert outcome.fair, f"no error for people: {outcome.error}"
            self._check_kept(folder)
            self.operation.check(folder, self.before, self.after)
            _expect_done(attempt(self.operation.run, folder, Fault(EIO, 0)), "running again")
            self._check_kept(folder)
            self._check_result(folder, kind)
            _expect_no_leftovers(folder)
        except AssertionError as problem:
            raise AssertionError(f"{where} ({outcome.error or outcome.how}): {problem}") from None
        return outcome

    def _check_result(self, folder: Path, kind: str) -> None:
        found, after = dict(self.operation.result(folder)), dict(self.after)
        for name in self.operation.informal if kind == POWER else ():
            del found[name], after[name]
        differing = [name for name in {**found, **after} if found.get(name) != after.get(name)]
        assert not differing, f"running again gave another result: {differing[:3]}"

    def _check_kept(self, folder: Path) -> None:
        assert self.operation.kept(folder).items() >= self.operation.kept(self._start).items(), (
            "what was published before has changed"
        )

    def _copy(self, name: str) -> Path:
        """Return a fresh copy of the state before; it always lies under the same name."""
        folder = self._folder / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._start, folder, symlinks=True)
        return folder


def _expect_done(outcome: Outcome, what: str) -> None:
    assert outcome.how == "done", f"{what}: {outcome.how} {outcome.error}"


def _expect_no_leftovers(folder: Path) -> None:
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix in (".partial", ".lock", ".old")
    )
    assert found == [], f"left over: {found}"
