"""Disks that are full, read-only, or do not lock."""

from __future__ import annotations

import codecs
import ctypes
import errno
import fcntl
import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

from mer_prep.errors import ShardAccessError
from mer_prep.store.disk import Call, observed
from mer_prep.store.hdf5 import open_hdf5
from mer_prep.store.lock import Lock
from mer_prep.store.shard import read_header
from tests.faults.catalogue import Tries, fault, in_process, instead, refused
from tests.faults.toy_program import Toy, toy
from tests.shards import changing

_NOBODY = 65534


@contextmanager
def _file_limit(size: int) -> Iterator[None]:
    """Allow no file to grow beyond a size in bytes, as a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@fault(
    4,
    "a limit on the size of files (RLIMIT_FSIZE)",
    without={
        "one plain error of a failing disk": instead(
            "mer_prep.store.files.explained", lambda *_, **__: nullcontext()
        ),
        "remembering what did not reach the disk": instead(
            "mer_prep.store.hdf5._PatientFile.check", lambda self: None
        ),
    },
)
def limited_files(tries: Tries) -> None:
    whole = toy(tries.fresh(), clips=1)
    whole.run()
    largest = max(path.stat().st_size for path in whole.cache.shards())
    for limit in tries.of(range(2000, largest, largest // 40), quick=4):
        one = toy(tries.fresh(), clips=1)
        with _file_limit(limit):
            said = one.run(code=1)
        assert "may not grow further: a limit on file sizes is in force" in said.err
        assert "what to do: raise the limit" in said.err
        _nothing_lost(one, whole)
    for _ in tries.of([] if tries.quick else ["in worker processes"]):
        one = toy(tries.fresh(), clips=1)
        with _file_limit(4000):
            assert "may not grow further" in one.run(jobs=2, code=1).err
        _nothing_lost(one, whole)


def _nothing_lost(one: Toy, whole: Toy) -> None:
    """See that no half shard is there, and that running again completes what was begun."""
    assert one.result().items() <= whole.result().items()
    assert [name for name in one.leftovers() if "/.parts/" not in name] == []
    one.run()
    assert one.result() == whole.result()
    assert one.leftovers() == []


def _mount(folder: Path, options: str) -> bool:
    """Mount a disk in memory that this process alone sees; return whether it may."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private, recursive = 0x00020000, 1 << 18, 1 << 14
    if libc.unshare(new_namespace) or libc.mount(b"none", b"/", None, private | recursive, None):
        return False
    return libc.mount(b"none", bytes(folder), b"tmpfs", 0, options.encode()) == 0


def _remount(folder: Path, options: str, *, read_only: bool = False) -> None:
    flags = 32 | (1 if read_only else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"none", bytes(folder), b"tmpfs", flags, options.encode()) == 0


def _can_mount() -> bool:
    def work() -> int:
        return 0 if os.getuid() == 0 and _mount(Path("/mnt"), "size=64k") else 1

    return in_process(work) == 0


@fault(
    4,
    "a disk that is full",
    without={
        "one plain error of a failing disk": instead(
            "mer_prep.store.files.explained", lambda *_, **__: nullcontext()
        ),
        "removing what could not be finished": instead(
            "mer_prep.store.files.discard", lambda path: False
        ),
    },
)
def full_disk(tries: Tries) -> None:
    whole = toy(tries.fresh(), clips=1)
    whole.run()
    mounted = _can_mount()
    used = sum(path.stat().st_size for path in whole.cache.shards())
    for room in tries.of(range(4096, used, max(4096, used // 24)), quick=3):
        one = toy(tries.fresh(), clips=1)
        if not mounted:
            _full_after(one, room, whole)
            continue

        def work(one: Toy = one, room: int = room) -> int:
            cache = one.root / "cache"
            cache.mkdir()
            assert _mount(cache, f"size={room}")
            said = one.run(code=1)
            assert "No space left" in said.err, said
            assert "what to do: free some space (`mer-prep gc`" in said.err, said
            _remount(cache, "size=64m")
            _nothing_lost(one, whole)
            return 0

        assert in_process(work) == 0


@fault(
    4,
    "a run that needs more room than there is says so before it begins",
    without={
        "the estimate of what a run takes": instead(
            "mer_prep.stages.space.needed_bytes", lambda *_: 1
        ),
    },
)
def too_little_room(tries: Tries) -> None:
    for free, options in tries.of(
        (free, options) for free in (4096, 2**40) for options in ((), ("--dry-run",))
    ):
        one = toy(tries.fresh(), clips=3)
        with mock.patch("shutil.disk_usage", lambda _, free=free: mock.Mock(free=free)):
            said = one.run(*options)
        begun = said.err.index(" to write, ")
        assert ("the run will stop when the disk is full" in said.err) == (free == 4096), said
        assert ("or give a --workspace on another disk" in said.err) == (free == 4096), said
        assert "1,024.0 GiB free" in said.err or free == 4096, said
        assert said.err.rfind("done", 0, begun) < 0, said
        again = one.run()
        assert (" to write, " in again.err) == bool(options), "nothing is left to write"


def _full_after(one: Toy, room: int, whole: Toy) -> None:
    """Do the same where no disk may be mounted: writes are refused when the room is used up."""
    left = [room]

    def refuse(call: Call) -> None:
        if call.name == "write" and "cache" in call.path.parts and call.data is not None:
            left[0] -= len(call.data)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(call.path))

    with observed(refuse):
        said = one.run(code=1)
    assert "No space left to write" in said.err, said
    _nothing_lost(one, whole)


def _unprivileged(work: Callable[[], None]) -> None:
    """Do something in a process that permissions hold for."""

    def without_rights() -> int:
        codecs.lookup("utf-8-sig")  # while the standard library can be read
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        work()
        return 0

    assert in_process(without_rights) == 0


def _readable_by_all(tries: Tries, one: Toy) -> None:
    for folder in (tries.folder, one.folder):
        folder.chmod(0o755)
    (one.folder / "tmp").chmod(0o777)


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """Take away the right to change anything below a folder."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: path.stat().st_mode for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@fault(
    27,
    "a workspace and source folders that may only be read",
    without={
        "going on without the record of what was read back": instead(
            "mer_prep.store.verified.write_atomic", lambda path, text: _refuse(path)
        ),
        "going on without the lock of what is cached": instead(
            "mer_prep.stages.subjects.Subjects.tidy", lambda self, plan: _refuse(plan)
        ),
    },
)
def read_only_workspace(tries: Tries) -> None:
    for quarantined in tries.of([False, True], quick=2):
        one = toy(tries.fresh(), clips=2, quarantined=quarantined)
        code = 3 if quarantined else 0
        one.run(code=code)
        kept = one.bytes()
        (one.root / "cache" / ".verified.json").unlink()
        _readable_by_all(tries, one)
        with _read_only(one.root), _read_only(one.folder / "source"):
            _unprivileged(lambda: _reads_but_does_not_write(one, code))  # noqa: B023
        assert one.bytes() == kept
        assert one.leftovers() == []


def _reads_but_does_not_write(one: Toy, code: int) -> None:
    said = one.run(code=code)
    assert json.loads(said.out)["cached"] == 4
    again = one.run("--set", "means.gain=2", code=1)
    # One message, not one for every clip.
    assert again.err.count("error:") == 1, again.err
    assert "Permission denied" in again.err
    assert "choose another --workspace" in again.err or "choose a writable" in again.err


def _refuse(*_: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@fault(
    27,
    "a cache on a disk that is mounted read-only",
    without={
        "going on without the record of what was read back": instead(
            "mer_prep.stages.runner.Verified.save", lambda self: _refuse()
        ),
    },
)
def read_only_mount(tries: Tries) -> None:
    mounted = _can_mount()
    for jobs in tries.of([1, 2], quick=1):
        one = toy(tries.fresh(), clips=1)

        def work(one: Toy = one, jobs: int = jobs) -> int:
            cache = one.root / "cache"
            cache.mkdir()
            if mounted:
                assert _mount(cache, "size=8m")
            one.run()
            kept = one.bytes()
            if mounted:
                _remount(cache, "size=8m", read_only=True)
            with nullcontext() if mounted else observed(_refused_below(cache)):
                # Reading works; without the record, shards are read back every time.
                assert json.loads(one.run().out)["cached"] == 2
                said = one.run("--set", "means.gain=2", jobs=jobs, code=1)
            assert said.err.count("error:") == 1, said.err
            assert "Read-only file system" in said.err
            assert "choose another --workspace" in said.err
            assert one.bytes() == kept
            return 0

        assert in_process(work) == 0


def _refused_below(folder: Path) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        if folder in call.path.parents:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(call.path))

    return refuse


_NO_LOCKS = {errno.EAGAIN: "EAGAIN", errno.ENOLCK: "ENOLCK", 524: "ENOTSUPP"}


@fault(
    28,
    "a file system that does not lock, or says that a file is locked",
    without={
        "asking for no lock": instead(
            "mer_prep.store.hdf5.h5py.File",
            lambda path, mode, **_: _locked_file(path, mode),
        ),
        "knowing a refusal from damage": instead(
            "mer_prep.store.hdf5._is_refusal", lambda error: False
        ),
    },
    needs=("h5py",),
)
def no_locks(tries: Tries) -> None:
    one = toy(tries.fresh(), clips=1)
    one.run()
    # HDF5 opens files without a seal by itself, and would lock them.
    with changing(one.cache.shards()[0], sealed=False) as file:
        file.attrs["schema"] = 1
    kept = one.bytes()
    for shard in tries.of(one.cache.shards(), quick=2):
        with _locked(shard):
            assert read_header(shard).clips
            # HDF5's own variable goes before what the program asks for.
            with mock.patch.dict(os.environ, HDF5_USE_FILE_LOCKING="TRUE"):
                status = in_process(lambda: _is_told_of_locking(shard))  # noqa: B023
        assert status == 0
    for number in tries.of(_NO_LOCKS, quick=3):
        problem = OSError(f"Unable to lock file, errno = {number}, error message = 'x'")
        with (
            mock.patch("mer_prep.store.hdf5.h5py.File", side_effect=problem),
            refused(ShardAccessError, "HDF5_USE_FILE_LOCKING=FALSE", f"errno = {number}"),
            open_hdf5(one.cache.shards()[0]),
        ):
            pass
        # A whole shard that cannot be opened is not made again, nor taken for damaged.
        with mock.patch("mer_prep.store.hdf5.h5py.File", side_effect=problem):
            said = one.run(code=1)
        assert "HDF5_USE_FILE_LOCKING=FALSE" in said.err
        assert one.bytes() == kept


def _is_told_of_locking(shard: Path) -> int:
    """See what is said where HDF5 is told to lock, whatever the program asks for."""
    try:
        header = read_header(shard)
    except ShardAccessError as refusal:
        return 0 if "HDF5_USE_FILE_LOCKING=FALSE" in str(refusal) else 1
    return 0 if header.clips else 1  # this build of HDF5 does not heed the variable any more


def _locked_file(path: Path, mode: str) -> object:

    return _HDF5_FILE(path, mode, locking=True)


def _hdf5_file() -> type:
    import h5py

    return h5py.File


_HDF5_FILE = _hdf5_file()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock of the operating system on a file, as a writer of another program does."""
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@fault(
    28,
    "a file system without hard links, for locks",
    without={
        "creating the lock exclusively instead": instead(
            "mer_prep.store.lock.Lock._create_exclusively", lambda self, body: False
        ),
    },
)
def no_hard_links(tries: Tries) -> None:
    whole = toy(tries.fresh(), clips=1)
    whole.run()
    for number in tries.of(
        (errno.EPERM, errno.EOPNOTSUPP, errno.ENOLCK, errno.EMLINK, 524), quick=5
    ):

        def refuse(call: Call, number: int = number) -> None:
            if call.name == "link":
                raise OSError(number, "not here", str(call.path))

        one = toy(tries.fresh(), clips=1)
        with observed(refuse):
            with Lock(one.root / "x.h5"):
                assert (one.root / "x.h5.lock").exists()
            one.run("--wait", 0)
        assert one.result() == whole.result()
        assert one.leftovers() == []
