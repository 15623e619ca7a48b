"""What one process does with one clip: decode once, run the missing stages, write the parts."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.errors import (
    DATA_ERRORS,
    DependencyError,
    MerPrepError,
    MotionError,
    ShardError,
    SourceError,
)
from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames, stat_signature
from mer_prep.sources.index import UNREADABLE
from mer_prep.stages import all_stages
from mer_prep.stages.base import Arrays, SourceParams, Stage, StageOutput
from mer_prep.store.shard import ClipResult, DatasetInfo, Failure, read_clip, write_part


@dataclass(frozen=True)
class ClipWork:
    """A clip and what is to be done with it; small, so that it travels between processes.

    Parameters
    ----------
    clip : Clip
        The clip, with its digest as of now.
    source : SourceParams
        Which frames the stages see.
    stages : mapping of str to object
        Parameters of every stage of the recipe by name, in the order they run.
    recipes : mapping of str to mapping
        `Recipe.facts` of every stage, noted in the parts.
    keys : mapping of str to str
        The clip's key by stage.
    targets : mapping of str to Path
        Where to write the result, for the stages to be run.
    available : mapping of str to Path
        Files that hold the results of the other stages.
    failed : mapping of str to Failure
        Stages that are known to fail for this clip.
    marker : Path
        Folder where the process notes which clip it has in hand.
    parent : int
        Process id of the run.
    """

    clip: Clip
    source: SourceParams
    stages: Mapping[str, Any]
    recipes: Mapping[str, Mapping[str, Any]]
    keys: Mapping[str, str]
    targets: Mapping[str, Path]
    available: Mapping[str, Path]
    failed: Mapping[str, Failure]
    marker: Path
    parent: int


@dataclass
class ClipReport:
    """What became of a clip.

    Parameters
    ----------
    clip_id : str
        The clip.
    done : list of str
        Stages that were run and written.
    failures : dict of str to Failure
        Stages that the clip's own data make impossible.
    crash : str
        Text of an unexpected error; empty if there was none. The clip is tried again next time.
    trace : str
        Its traceback.
    warnings : list of str
        Sentences of the stages.
    seconds : dict of str to float
        Time by stage.
    decoded : int
        Frames decoded.
    """

    clip_id: str
    done: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    crash: str = ""
    trace: str = ""
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    decoded: int = 0


_ready = False
_built: dict[tuple[str, Any], Stage] = {}


def _prepare_process(parent: int) -> None:
    """Set up a process once: one thread for OpenCV, and in a worker Ctrl-C left to the parent."""
    global _ready
    if _ready:
        return
    import cv2

    cv2.setNumThreads(1)
    if os.getpid() != parent and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if os.getppid() == parent:
            threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _ready = True


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, which a killed parent cannot ask for."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _stage(name: str, params: Any) -> Stage:
    """Return the stage of a process, built once, so that models are loaded once."""
    if (name, params) not in _built:
        _built[name, params] = all_stages()[name](params)
    return _built[name, params]


def process_clip(work: ClipWork) -> ClipReport:
    """Run the missing stages of one clip and write their results as parts.

    Errors of the clip's own data become `Failure`; a full disk or a missing dependency stops the
    run, since every clip would meet it; any other error is reported as a crash.
    """
    _prepare_process(work.parent)
    marker = work.marker / str(os.getpid())
    note = _note(marker, work.clip.clip_id)
    report = ClipReport(work.clip.clip_id)
    try:
        _run_stages(work, report)
    except (DependencyError, ShardError):
        raise
    except Exception as error:
        report.crash = f"{type(error).__name__}: {error}"
        report.trace = traceback.format_exc()
    finally:
        if note:
            marker.unlink(missing_ok=True)
    return report


def _note(marker: Path, clip_id: str) -> bool:
    try:
        marker.write_text(clip_id, encoding="utf-8")
    except OSError:
        return False
    return True


def _run_stages(work: ClipWork, report: ClipReport) -> None:
    clip = work.clip
    failures = dict(work.failed)
    outputs: dict[str, Arrays] = {}
    frames: ClipFrames | None = None
    for name, params in work.stages.items():
        if name not in work.targets or name in failures:
            continue
        stage = _stage(name, params)
        started = time.perf_counter()
        try:
            required = stage.requirements()
            upstream = next((failures[one] for one in required if one in failures), None)
            if upstream is not None:
                failures[name] = _failure(work, name, upstream.error, upstream.message, upstream)
                report.failures[name] = failures[name]
                continue
            if frames is None:
                start, stop = work.source.span(clip)
                frames = ClipFrames(clip, start, stop)
            inputs = {one: _input(one, outputs, work) for one in required}
            output = stage.run(clip, frames, inputs)
            arrays = check_output(stage, output)
            result = _result(work, stage, frames, output, arrays)
            write_part(work.targets[name], result, stage=name, recipe=work.recipes[name])
            outputs[name] = arrays
            report.done.append(name)
            report.warnings += [f"{name}: {warning}" for warning in output.warnings]
        except DATA_ERRORS as error:
            if clip.source_digest != UNREADABLE and stat_signature(clip) is None:
                # It could be read when the run was planned: not the clip's fault.
                raise SourceError(f"A source file has gone: {error.what}") from error
            failures[name] = _failure(work, name, type(error).__name__, str(error))
            report.failures[name] = failures[name]
        report.seconds[name] = time.perf_counter() - started
    report.decoded = 0 if frames is None else frames.decoded


def _failure(
    work: ClipWork, stage: str, error: str, message: str, upstream: Failure | None = None
) -> Failure:
    return Failure(
        clip_id=work.clip.clip_id,
        stage=stage if upstream is None else upstream.stage,
        error=error,
        message=message,
        clip_key=work.keys[stage],
    )


def _input(name: str, outputs: Mapping[str, Arrays], work: ClipWork) -> Arrays:
    if name in outputs:
        return outputs[name]
    arrays, _ = read_clip(work.available[name], work.clip.clip_id)
    return arrays


def _result(
    work: ClipWork, stage: Stage, frames: ClipFrames, output: StageOutput, arrays: Arrays
) -> ClipResult:
    infos = {
        field.name: DatasetInfo(field.units, field.axes, field.channels, field.note)
        for field in stage.fields
    }
    key_frames = {
        name: getattr(work.clip, name)
        for name in stage.key_frames
        if getattr(work.clip, name) is not None
    }
    return ClipResult(
        clip=work.clip,
        clip_key=work.keys[stage.name],
        frame_numbers=tuple(frames.numbers),
        arrays=arrays,
        infos=infos,
        facts={**key_frames, **output.facts},
    )


def check_output(stage: Stage, output: StageOutput) -> dict[str, np.ndarray]:
    """Return a stage's arrays if they are what its fields promise.

    Raises
    ------
    MotionError
        If floating-point values are not finite, with their count and the first index.
    MerPrepError
        If names, types or dimensions differ from the stage's fields: a bug of the stage.
    """
    names = [field.name for field in stage.fields]
    if sorted(names) != sorted(output.arrays):
        raise MerPrepError(
            f"Stage {stage.name} promises {sorted(names)} and gave {sorted(output.arrays)}."
        )
    arrays = {}
    for field_ in stage.fields:
        array = np.ascontiguousarray(output.arrays[field_.name])
        axes = field_.axes.split()
        if array.dtype.kind != np.dtype(field_.dtype).kind or array.ndim != len(axes):
            raise MerPrepError(
                f"{stage.name}.{field_.name} is {array.dtype} {array.shape}, "
                f"not {field_.dtype} ({', '.join(axes)})."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = np.argwhere(~np.isfinite(array))
            raise MotionError(
                f"{stage.name}.{field_.name} holds {len(bad)} values that are not finite, "
                f"the first at {tuple(int(i) for i in bad[0])}.",
                hint="look at the frames with `mer-prep inspect CLIP --show out.png`",
            )
        arrays[field_.name] = array
    return arrays
