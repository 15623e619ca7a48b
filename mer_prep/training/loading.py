"""From shards to batches: clips kept in memory, or read ahead by other processes.

What a step sees is a function of the seed, the fold and the number of the step. It does not depend
on where clips lie, nor on how many processes read them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mer_prep.checks import check_option
from mer_prep.dataset import (
    Batch,
    ClipFacts,
    ClipSource,
    ClipStore,
    PreparedClip,
    Statistics,
    centre_view,
    crop,
    draw_views,
    facts_of,
    flip,
    phases,
    reduce,
)
from mer_prep.errors import MerPrepError, TrainingError
from mer_prep.ops.images import to_grey
from mer_prep.store.shard import open_clip, read_clip
from mer_prep.training.machine import LOADERS, Machine, fits
from mer_prep.training.seeds import seed_of


class Entry(Protocol):
    """A clip of a study, and where its prepared data lie; see `mer_prep.training.study`."""

    @property
    def clip_id(self) -> str:
        """Its id."""

    @property
    def corpus(self) -> str:
        """Its corpus."""

    @property
    def subject(self) -> str:
        """Its subject, named across corpora."""

    @property
    def label(self) -> int:
        """Its class."""

    @property
    def shards(self) -> Mapping[str, str]:
        """File by stage, relative to the workspace."""


@dataclass(frozen=True)
class View:
    """How samples become what the model takes.

    Parameters
    ----------
    side : int
        Side of the crop in aligned px.
    reduce : int
        Px of it that become one.
    statistics : Statistics
        The normalisation.
    """

    side: int
    reduce: int
    statistics: Statistics

    def cut(self, batch: Batch, offsets: Tensor, flipped: Tensor) -> Batch:
        """Return crops that were drawn by `draw_views`, normalised."""
        part = crop(batch, offsets, self.side)
        return self._finished(flip(part, flipped.to(batch.frames.device)))

    def centre(self, batch: Batch) -> Batch:
        """Return the centre crop, normalised."""
        return self._finished(centre_view(batch, self.side))

    def _finished(self, batch: Batch) -> Batch:
        batch = reduce(batch, self.reduce)
        batch.frames = self.statistics.normalise(batch.frames)
        return batch


@dataclass(frozen=True)
class Draw:
    """What the steps of a training draw from.

    Parameters
    ----------
    samples : sequence of (int, int)
        Samples, as `ClipSource.samples` gives them.
    view : View
        How they become what the model takes.
    size : int
        Samples a step.
    name : str
        Name of the fold.
    seed : int
        The seed.
    rank, world : int
        Part of every batch that is wanted: samples `rank`, `rank` + `world`, ...
    """

    samples: Sequence[tuple[int, int]]
    view: View
    size: int
    name: str
    seed: int
    rank: int = 0
    world: int = 1

    def batch(self, source: ClipSource, step: int) -> Batch:
        """Return the batch of a step, counted from 0, on the source's device."""
        generator = self._generator(step)
        samples = self._samples(generator)
        # All ranks draw the whole batch, so that together they see what one alone would.
        room = source.side - self.view.side
        offsets, flipped = draw_views(self.size, room, generator=generator)
        mine = slice(self.rank, None, self.world)
        return self.view.cut(source.batch(samples[mine]), offsets[mine], flipped[mine])

    def clips(self, source: ClipSource, step: int) -> list[str]:
        """Return the ids of the clips of a step, of all ranks, sorted."""
        samples = self._samples(self._generator(step))
        return sorted({source.clips[number].clip_id for number, _ in samples})

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of("samples", self.seed, self.name, step))

    def _samples(self, generator: torch.Generator) -> list[tuple[int, int]]:
        numbers = torch.randint(len(self.samples), (self.size,), generator=generator)
        return [self.samples[one] for one in numbers.tolist()]


class StreamedClips(ClipSource):
    """Clips that stay in their shards; of a batch only its own frames and flow are read.

    Parameters
    ----------
    entries : sequence of Entry
        The clips; every one is read once, for its statistics.
    workspace : Path
        Folder that their shards are relative to.
    length : int
        Frames t of a sample.
    """

    def __init__(self, entries: Sequence[Entry], *, workspace: Path, length: int) -> None:
        self._paths = [
            (workspace / entry.shards["align"], workspace / entry.shards["flow"])
            for entry in entries
        ]
        super().__init__([facts_of(load_clip(workspace, one, length)) for one in entries])

    def sample(self, number: int, phase: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames, flow and landmarks of one sample."""
        clip: ClipFacts = self.clips[number]
        rows = clip.samples[phase]
        pairs = len(rows) - 1
        align, flow = self._paths[number]
        with open_clip(align, clip.clip_id, ("frames", "landmarks")) as (arrays, _):
            frames = np.stack([to_grey(arrays["frames"][int(row)]) for row in rows])
            landmarks = arrays["landmarks"].whole()[rows]
        with open_clip(flow, clip.clip_id, ("flow",)) as (arrays, _):
            flows = arrays["flow"][phase * pairs : (phase + 1) * pairs]
        return torch.from_numpy(frames), torch.from_numpy(flows), torch.from_numpy(landmarks)


def load_clip(workspace: Path, entry: Entry, length: int) -> PreparedClip:
    """Read one prepared clip from its shards.

    Raises
    ------
    TrainingError
        If its flow is not that of samples of `length` frames.
    """
    aligned, _ = read_clip(
        workspace / entry.shards["align"], entry.clip_id, ("frames", "landmarks")
    )
    flow, _ = read_clip(workspace / entry.shards["flow"], entry.clip_id, ("flow", "pairs"))
    frames = np.stack([to_grey(frame) for frame in aligned["frames"]])
    samples = phases(len(frames), length)
    expected = np.stack([samples[:, :-1], samples[:, 1:]], axis=-1).reshape(-1, 2)
    if not np.array_equal(flow["pairs"], expected):
        raise TrainingError(
            f"The flow of {entry.clip_id} is not that of samples of {length} frames.",
            where=workspace / entry.shards["flow"],
            hint=f"the pairs must be lagged with flow.lag_divisor={length}",
        )
    return PreparedClip(
        clip_id=entry.clip_id,
        corpus=entry.corpus,
        subject=entry.subject,
        label=entry.label,
        frames=frames,
        flow=flow["flow"],
        landmarks=aligned["landmarks"],
        samples=samples,
    )


def resident_bytes(workspace: Path, entries: Sequence[Entry]) -> int:
    """Return how much memory clips take when they stay in it; no pixel is read for that."""
    total = 0
    for entry in entries:
        with ExitStack() as stack:
            aligned, _ = stack.enter_context(
                open_clip(workspace / entry.shards["align"], entry.clip_id, ("frames", "landmarks"))
            )
            flow, _ = stack.enter_context(
                open_clip(workspace / entry.shards["flow"], entry.clip_id, ("flow",))
            )
            total += int(np.prod(aligned["frames"].shape[:3]))
            for array in (aligned["landmarks"], flow["flow"]):
                total += int(np.prod(array.shape)) * array.dtype.itemsize
    return total


def choose_loader(
    name: str, workspace: Path, entries: Sequence[Entry], device: str, *, copies: int
) -> str:
    """Return ``resident`` or ``stream``.

    Parameters
    ----------
    name : {'auto', 'resident', 'stream'}
        ``auto`` is resident if `mer_prep.training.machine.fits`: all copies of the clips take at
        most half of the memory that is free on the device.
    workspace : Path
        Folder that shards are relative to.
    entries : sequence of Entry
        The clips.
    device : str
        Where they would stay.
    copies : int
        Processes that keep them there, each for itself.
    """
    check_option("loader", name, LOADERS)
    if name != "auto":
        return name
    needed = resident_bytes(workspace, entries)
    return "resident" if fits(needed, device, copies=copies) else "stream"


def open_clips(
    loader: str, workspace: Path, entries: Sequence[Entry], length: int, device: str
) -> ClipSource:
    """Return the clips of a study, in memory on a device or in their shards."""
    if loader == "stream":
        return StreamedClips(entries, workspace=workspace, length=length)
    return ClipStore(
        (load_clip(workspace, entry, length) for entry in entries), device=torch.device(device)
    )


class _Steps(Dataset[Any]):
    """The batches of steps as PyTorch's loader takes them; an error is handed over, not raised."""

    def __init__(self, source: ClipSource, draw: Draw) -> None:
        self.source, self.draw = source, draw

    def __getitem__(self, step: int) -> Batch | MerPrepError:
        try:
            return self.draw.batch(self.source, step)
        except MerPrepError as error:
            # Raised in a worker, PyTorch would make a text of the error and its traceback.
            return error


def batches(
    source: ClipSource, draw: Draw, machine: Machine, steps: range
) -> Iterator[tuple[int, Batch]]:
    """Yield every step and its batch, on the machine's device.

    Parameters
    ----------
    source : ClipSource
        The clips. Those that stay in their shards are read ahead by the machine's workers.
    draw : Draw
        What the steps draw from.
    machine : Machine
        Where the batches go; its rank and world name the part of every batch.
    steps : range
        Steps, counted from 0.
    """
    draw = dataclasses.replace(draw, rank=machine.rank, world=machine.world)
    device = torch.device(machine.device)
    if not isinstance(source, StreamedClips) or not machine.workers or not steps:
        for step in steps:
            yield step, draw.batch(source, step).to(device)
        return
    loader = DataLoader(
        _Steps(source, draw),
        batch_size=None,
        sampler=steps,
        num_workers=min(machine.workers, len(steps)),
        # A process that has threads, or a GPU, is not safely forked.
        multiprocessing_context="forkserver",
        pin_memory=machine.cuda,
    )
    for step, batch in zip(steps, loader, strict=True):
        if isinstance(batch, MerPrepError):
            raise batch
        yield step, batch.to(device)
