"""What one process does with one clip: run the missing stages, write the parts.

Memory does not grow with the clip: long arrays go to their part block by block, and the stages
that need them read them from there.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
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
from mer_prep.manifest import UNREADABLE, Clip
from mer_prep.sources.frames import ClipFrames, stat_signature
from mer_prep.stages import all_stages
from mer_prep.stages.base import Field, SourceParams, Stage, StageOutput
from mer_prep.store.blocks import Blocks, StoredArray
from mer_prep.store.part import DatasetInfo, PartWriter, part_writer
from mer_prep.store.shard import Failure, open_clip


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


#: What to do about values that are not finite.
_LOOK = "look at the frames with `mer-prep inspect CLIP --show out.png`"

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
    frames: ClipFrames | None = None
    with ExitStack() as stack:
        results = _Results(work, stack)
        for name, params in work.stages.items():
            if name not in work.targets or name in failures:
                continue
            stage = _stage(name, params)
            started = time.perf_counter()
            try:
                upstream = next((failures[one] for one in stage.requires if one in failures), None)
                if upstream is not None:
                    error, message = upstream.error, upstream.message
                    failures[name] = _failure(work, name, error, message, upstream)
                    report.failures[name] = failures[name]
                    continue
                if frames is None:
                    start, stop = work.source.span(clip)
                    frames = ClipFrames(clip, start, stop)
                inputs = {one: results.arrays(one) for one in stage.requires}
                warnings = _run_stage(work, stage, frames, inputs)
                results.made(name)
                report.done.append(name)
                report.warnings += [f"{name}: {warning}" for warning in warnings]
            except DATA_ERRORS as error:
                if clip.source_digest != UNREADABLE and stat_signature(clip) is None:
                    # It could be read when the run was planned: not the clip's fault.
                    raise SourceError(f"A source file has gone: {error.what}") from error
                failures[name] = _failure(work, name, type(error).__name__, str(error))
                report.failures[name] = failures[name]
            report.seconds[name] = time.perf_counter() - started
    report.decoded = 0 if frames is None else frames.decoded


class _Results:
    """The results that the stages of one clip need, each opened when it is first asked for."""

    def __init__(self, work: ClipWork, stack: ExitStack) -> None:
        self._work = work
        self._stack = stack
        self._files = dict(work.available)
        self._open: dict[str, dict[str, StoredArray]] = {}

    def arrays(self, stage: str) -> dict[str, StoredArray]:
        if stage not in self._open:
            opened = open_clip(self._files[stage], self._work.clip.clip_id)
            self._open[stage], _ = self._stack.enter_context(opened)
        return self._open[stage]

    def made(self, stage: str) -> None:
        self._files[stage] = self._work.targets[stage]


def _run_stage(
    work: ClipWork, stage: Stage, frames: ClipFrames, inputs: Mapping[str, dict[str, StoredArray]]
) -> tuple[str, ...]:
    """Run one stage and write its part as it goes; return the warnings."""
    stream = stage.stream(work.clip, frames, inputs)
    with part_writer(
        work.targets[stage.name],
        work.clip,
        clip_key=work.keys[stage.name],
        frame_numbers=tuple(frames.numbers),
        stage=stage.name,
        recipe=work.recipes[stage.name],
    ) as part:
        for name, blocks in stream.blocks.items():
            field_ = _field(stage, name)
            _write(part, field_, check_blocks(stage, field_, blocks))
        output = stream.finish()
        arrays = check_output(stage, output, streamed=frozenset(stream.blocks))
        for name, array in arrays.items():
            _write(part, _field(stage, name), array)
        warnings = json.dumps(list(output.warnings), ensure_ascii=False)
        part.note({**_key_frames(work.clip, stage), **output.facts, "warnings": warnings})
    return output.warnings


def _field(stage: Stage, name: str) -> Field:
    for field_ in stage.fields:
        if field_.name == name:
            return field_
    raise MerPrepError(f"Stage {stage.name} gives '{name}', which it does not promise.")


def _write(part: PartWriter, field_: Field, array: np.ndarray | Blocks) -> None:
    info = DatasetInfo(field_.units, field_.axes, field_.channels, field_.note)
    part.write(field_.name, array, info)


def _key_frames(clip: Clip, stage: Stage) -> dict[str, int]:
    """Return the annotated key frames that a stage depends on."""
    found = {name: getattr(clip, name) for name in stage.key_frames}
    return {name: number for name, number in found.items() if number is not None}


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


def check_output(
    stage: Stage, output: StageOutput, *, streamed: frozenset[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Return a stage's arrays if they are what its fields promise.

    Parameters
    ----------
    stage : Stage
        The stage.
    output : StageOutput
        What it gave.
    streamed : frozenset of str
        Fields that it gave block by block, see `check_blocks`.

    Raises
    ------
    MotionError
        If floating-point values are not finite, with their count and the first index, or a fact
        is not.
    MerPrepError
        If names, types or dimensions differ from the stage's fields: a bug of the stage.
    """
    names = [field.name for field in stage.fields if field.name not in streamed]
    if sorted(names) != sorted(output.arrays):
        raise MerPrepError(
            f"Stage {stage.name} promises {sorted(names)} and gave {sorted(output.arrays)}."
        )
    arrays = {}
    for name in names:
        array = np.ascontiguousarray(output.arrays[name])
        _check_type(stage, _field(stage, name), array)
        _check_finite(stage, name, array)
        arrays[name] = array
    _check_facts(stage, output.facts)
    return arrays


def check_blocks(stage: Stage, field_: Field, blocks: Blocks) -> Blocks:
    """Return the same blocks, each checked when it is taken as `check_output` checks arrays."""
    _check_type(stage, field_, blocks)

    def checked() -> Iterator[np.ndarray]:
        start = 0
        for block in blocks:
            _check_finite(stage, field_.name, block, start)
            yield block
            start += len(block)

    return Blocks(blocks.shape, blocks.dtype, checked())


def _check_type(stage: Stage, field_: Field, array: np.ndarray | Blocks) -> None:
    axes = field_.axes.split()
    if array.dtype.kind != np.dtype(field_.dtype).kind or len(array.shape) != len(axes):
        raise MerPrepError(
            f"{stage.name}.{field_.name} is {array.dtype} {array.shape}, "
            f"not {field_.dtype} ({', '.join(axes)})."
        )


def _check_finite(stage: Stage, name: str, array: np.ndarray, start: int = 0) -> None:
    """Refuse values that are not finite; `start` is the first row's index in the whole array."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = np.argwhere(~np.isfinite(array))
    first = [int(i) for i in bad[0]]
    first[:1] = [start + one for one in first[:1]]
    raise MotionError(
        f"{stage.name}.{name} holds {len(bad)} values that are not finite, "
        f"the first at {tuple(first)}.",
        hint=_LOOK,
    )


def _check_facts(stage: Stage, facts: Mapping[str, Any]) -> None:
    for name, fact in facts.items():
        if isinstance(fact, float | np.floating) and not np.isfinite(fact):
            raise MotionError(f"{stage.name}: {name} is {fact}, which is not finite.", hint=_LOOK)
