"""A clip sent to a worker that shares no storage with the run: inputs go along, parts come back."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mer_prep.errors import MerPrepError, ShardError, SourceError
from mer_prep.manifest import UNREADABLE
from mer_prep.sources.frames import source_digest
from mer_prep.stages.scratch import scratch_folder
from mer_prep.stages.worker import ClipReport, ClipWork
from mer_prep.store import disk, files
from mer_prep.store.readback import check_clip
from mer_prep.store.shard import clip_image, read_part_header

Process = Callable[[ClipWork], ClipReport]


@dataclass(frozen=True)
class Errand:
    """A clip's work as a worker of a cluster gets it.

    Parameters
    ----------
    work : ClipWork
        The work, with absolute paths.
    shares_workspace : bool
        Whether the worker sees the workspace. If not, it writes into a folder of its own.
    shares_sources : bool
        Whether the worker sees the very files of this machine. If not, what it finds under
        their names is hashed before it is used, since it might be another copy.
    inputs : mapping of str to bytes
        Results of other stages that the worker cannot read by itself, as HDF5 files.
    """

    work: ClipWork
    shares_workspace: bool = True
    shares_sources: bool = True
    inputs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivery:
    """What comes back: the report, and the parts that the worker could not put in place."""

    report: ClipReport
    parts: Mapping[str, bytes] = field(default_factory=dict)


def make_errand(work: ClipWork, *, shares_workspace: bool, shares_sources: bool) -> Errand:
    """Pack a clip's work for a worker, with the inputs it needs and cannot read."""
    absolute = dataclasses.replace(
        work,
        targets={name: path.absolute() for name, path in work.targets.items()},
        available={name: path.absolute() for name, path in work.available.items()},
    )
    inputs = {}
    if not shares_workspace:
        inputs = {
            name: clip_image(path, work.clip.clip_id) for name, path in work.available.items()
        }
    return Errand(absolute, shares_workspace, shares_sources, inputs)


def run_errand(process: Process, errand: Errand) -> Delivery:
    """Do a clip's work in a worker.

    Parameters
    ----------
    process : callable
        What does the work: `worker.process_clip`.
    errand : Errand
        The work.
    """
    work = errand.work
    if not errand.shares_sources:
        report = _check_sources(work)
        if report is not None:
            return Delivery(report)
    if errand.shares_workspace:
        return Delivery(process(work))
    with scratch_folder() as scratch:
        away = _moved(errand, scratch)
        report = process(away)
        return Delivery(report, {name: away.targets[name].read_bytes() for name in report.done})


def by_value() -> Callable[[bytes], bytes]:
    """Return a function that does a pickled call and pickles its result.

    It is made within another, so that it travels by value, and what it is given are bytes: a
    scheduler, which unpacks what passes through, then needs no mer-prep of its own.
    """

    def mer_prep_clip(packed: bytes) -> bytes:
        import pickle

        function, *arguments = pickle.loads(packed)
        return pickle.dumps(function(*arguments))

    return mer_prep_clip


def _check_sources(work: ClipWork) -> ClipReport | None:
    """Return the report of a clip whose files are not those that the run has hashed."""
    clip = work.clip
    if clip.source_digest == UNREADABLE:
        return None
    try:
        found = source_digest(clip)
    except MerPrepError as problem:
        # The run could read the clip when it began, so it is not the clip's fault.
        crash = f"{type(problem).__name__}: on {platform.node()}: {problem}"
        return ClipReport(clip.clip_id, crash=crash)
    if found == clip.source_digest:
        return None
    error = SourceError(
        f"The frames on {platform.node()} are not those of the run.",
        where=clip.root,
        why="the result would not be what its key says",
        hint="mount the same folder there, or copy it again",
    )
    return ClipReport(clip.clip_id, crash=f"{type(error).__name__}: {error}")


def _moved(errand: Errand, scratch: Path) -> ClipWork:
    """Return the work with every path in a folder of the worker's own."""
    for name, image in errand.inputs.items():
        (scratch / f"input-{name}.h5").write_bytes(image)
    return dataclasses.replace(
        errand.work,
        targets={name: scratch / f"{name}.h5" for name in errand.work.targets},
        available={name: scratch / f"input-{name}.h5" for name in errand.inputs},
    )


def put_in_place(delivery: Delivery, work: ClipWork) -> ClipReport:
    """Write the parts that came back where the worker would have written them.

    A part is read back first; if one is not what was asked for, the clip counts as crashed and
    is tried again by the next run.
    """
    report = delivery.report
    for name, image in delivery.parts.items():
        target = work.targets[name]
        disk.make_folder(target.parent)
        partial = files.partial_path(target)
        try:
            with files.explained(target, len(image)):
                disk.write_bytes(partial, image)
            _check_part(partial, name, work)
            with files.explained(target):
                disk.replace(partial, target)
        except _NotAsAskedError as error:
            return ClipReport(report.clip_id, crash=f"ShardError: {error}")
        finally:
            files.discard(partial)
    return report


class _NotAsAskedError(ShardError):
    """A part that came back is damaged or another clip's."""


def _check_part(path: Path, stage: str, work: ClipWork) -> None:
    clip_id = work.clip.clip_id
    try:
        found = read_part_header(path)[:3]
        check_clip(path, clip_id)
    except ShardError as error:
        raise _NotAsAskedError(f"What a worker sent back is damaged: {error.what}") from error
    if found != (stage, clip_id, work.keys[stage]):
        raise _NotAsAskedError(f"A worker sent back {found[:2]} for {(stage, clip_id)}.")
