"""The program over toy stages, started as a user would, to be killed, interrupted and starved."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from mer_prep.manifest import ImportRecord
from mer_prep.manifest_files import write_manifest
from mer_prep.store.cache import Cache
from mer_prep.store.readback import check_shard
from mer_prep.workspace import Workspace
from tests.faults.catalogue import Said, forked, program, run_program
from tests.faults.operations import stored, toy_clip
from tests.toys import TOYS, process_toy_clip


@dataclass(frozen=True)
class Toy:
    """A workspace with an imported toy corpus, and a pipeline of toy stages.

    Parameters
    ----------
    folder : Path
        Holds the workspace ``ws``, the frames ``source``, the pipeline ``toys.toml`` and ``tmp``
        for temporary files.
    """

    folder: Path

    @property
    def root(self) -> Path:
        """The workspace's folder."""
        return self.folder / "ws"

    @property
    def cache(self) -> Cache:
        """Its cache."""
        return Cache(self.root / "cache")

    def words(self, *options: object, jobs: int = 1) -> list[object]:
        """Return the command line that runs the pipeline and prints what it did as JSON."""
        pipeline = self.folder / "toys.toml"
        return ["run", pipeline, "-w", self.root, "-j", jobs, "--json", *options]

    def run(self, *options: object, jobs: int = 1, code: int | None = 0) -> Said:
        """Run the pipeline."""
        with toys(self.folder / "tmp"):
            return program(*self.words(*options, jobs=jobs), code=code)

    @contextmanager
    def running(self, *options: object, jobs: int = 1) -> Iterator[Running]:
        """Start the pipeline in a process group of its own, which is gone in the end."""
        said = Path(tempfile.mkdtemp(dir=self.folder))
        with toys(self.folder / "tmp"):
            one = Running([str(word) for word in self.words(*options, jobs=jobs)], said)
        try:
            yield one
        finally:
            one.stop()

    def result(self) -> Mapping[str, object]:
        """Return all that is published, after having read it back."""
        for path in self.cache.shards():
            check_shard(path)
        return stored(self.root)

    def bytes(self) -> dict[str, bytes]:
        """Return the published shards as they lie on the disk, and when they were written."""
        return {
            str(path.relative_to(self.root)): str(path.stat().st_mtime_ns).encode()
            + path.read_bytes()
            for path in self.cache.shards()
        }

    def leftovers(self) -> list[str]:
        """Return what only a run that is under way has."""
        return sorted(
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.suffix in (".partial", ".lock") or path.parent.name == ".parts"
        )


def toy(folder: Path, *, subjects: int = 2, clips: int = 2, quarantined: bool = False) -> Toy:
    """Make a toy corpus in a folder; `quarantined` has the first clip of each subject refused."""
    names = [(f"sub{s:02d}", f"EP{c:02d}_01") for s in range(subjects) for c in range(clips)]
    made = [
        toy_clip(folder / "source", name, subject, 40 + 9 * number)
        for number, (subject, name) in enumerate(names)
    ]
    record = ImportRecord(corpus="toy", source="clips", root=str(folder / "source"))
    write_manifest(Workspace(folder / "ws").manifests, made, record)
    settings = '[means]\nrefuse = "EP00_01"\n' if quarantined else ""
    (folder / "toys.toml").write_text(f'title = "toys"\nstages = ["change"]\n{settings}')
    (folder / "tmp").mkdir(exist_ok=True)
    return Toy(folder)


class Running:
    """The program in a forked process, the first of a process group of its own.

    Parameters
    ----------
    words : sequence of str
        The command line.
    folder : Path
        An empty folder for what it prints.
    """

    def __init__(self, words: Sequence[str], folder: Path) -> None:
        self._out, self._err = folder / "out", folder / "err"
        self._status: int | None = None

        def work() -> int:
            os.setpgid(0, 0)
            return run_program(words, self._out, self._err)

        self.pid = forked(work)
        with contextlib.suppress(OSError):  # it has done so itself
            os.setpgid(self.pid, self.pid)

    def alive(self) -> bool:
        """Return whether it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is None

    def err(self) -> str:
        """Return what it has printed of itself so far."""
        return self._err.read_text(errors="surrogateescape") if self._err.exists() else ""

    def wait_until(self, condition: Callable[[], object]) -> bool:
        """Wait until something holds; return whether it did before the program ended."""
        deadline = time.monotonic() + 60
        while self.alive() and not condition():
            assert time.monotonic() < deadline, self.err()
            time.sleep(0.002)
        return self.alive()

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the program, or to all its processes as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def end(self, code: int | None = None) -> Said:
        """Wait for its end and return what it said; see `Said.for_people`."""
        deadline = time.monotonic() + 60
        while self.alive():
            assert time.monotonic() < deadline, f"it does not end: {self.err()}"
            time.sleep(0.005)
        assert self._status is not None
        out = self._out.read_text(errors="surrogateescape") if self._out.exists() else ""
        return Said(os.waitstatus_to_exitcode(self._status), out, self.err()).for_people(code)

    def stop(self) -> None:
        """Kill what is left of it."""
        self.signal(signal.SIGKILL, group=True)
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]


@contextmanager
def toys(temporary: Path) -> Iterator[None]:
    """Have the program know the toy stages alone, and use a folder for temporary files."""
    from joblib.externals.loky import reusable_executor

    with ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch("mer_prep.stages.all_stages", return_value=TOYS))
        enter(mock.patch("mer_prep.stages.worker.all_stages", return_value=TOYS))
        enter(mock.patch("mer_prep.stages.runner.process_clip", process_toy_clip))
        enter(mock.patch.object(tempfile, "tempdir", str(temporary)))
        # Worker processes of this very process are none of a forked one's.
        enter(mock.patch.object(reusable_executor, "_executor", None))
        yield


def worker_ids(parent: int) -> list[int]:
    """Return the ids of the processes that do clips for a run, of whatever descent."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            group = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[2])
            if group == parent and b"LokyProcess" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def clips_in_hand(one: Toy) -> dict[int, str]:
    """Return by worker process the clip that it has in hand."""
    found = {}
    for note in (one.folder / "tmp").glob("*/scratch/*"):
        with contextlib.suppress(OSError):
            found[int(note.name)] = note.read_text()
    return found
