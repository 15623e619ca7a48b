"""From shards to batches: clips kept in memory, or read ahead by other processes.

What a step sees is a function of the seed, the fold and the number of the step. It does not depend
on where clips lie, nor on how many processes read them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
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
    Sample,
    Statistics,
    facts_of,
    flow_rows,
    no_flow,
)
from mer_prep.errors import ConfigError, MerPrepError
from mer_prep.store.shard import open_clip, read_clip
from mer_prep.training.episodes import Episodes, by_class
from mer_prep.training.machine import LOADERS, Machine, fits, memory_errors
from mer_prep.training.methods import Method
from mer_prep.training.methods.base import Labelled
from mer_prep.training.seeds import seed_of
from mer_prep.training.views import centre_view, crop, draw_views, flip, reduce


class Entry(Labelled, Protocol):
    """A clip of a study, and where its prepared data lie; see `mer_prep.training.study`."""

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
    brightness : float
        Largest change of brightness of a training sample, as a part of it.
    mirror: bool
        Whether half of the training samples are mirrored.
    """

    side: int
    reduce: int
    statistics: Statistics
    brightness: float = 0.0
    mirror: bool = True

    def cut(
        self, batch: Batch, offsets: Tensor, flipped: Tensor, gains: Tensor | None = None
    ) -> Batch:
        """Return crops that were drawn by `draw_views`, normalised, their brightness changed."""
        part = flip(crop(batch, offsets, self.side), flipped.to(batch.frames.device))
        if gains is not None:
            factors = gains.view(-1, *[1] * (part.frames.ndim - 1)).to(part.frames)
            part.frames = (part.frames * factors).clamp(0, 255)
        return self._finished(part)

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
    by_clip : bool
        Whether a clip is drawn first, and then one of its samples, so that those with more of
        them are not drawn more often.
    episodes : Episodes, optional
        What is drawn instead of `size` samples, if a step is made of episodes.
    first : int
        Step that the drawing begins with; it changes nothing of what is drawn.
    labels : sequence of int, optional
        Class of every sample, if a batch is to have as many of every class as of any other. What
        is left over of a batch goes to classes that are drawn.
    """

    samples: Sequence[tuple[int, int]]
    view: View
    size: int
    name: str
    seed: int
    rank: int = 0
    world: int = 1
    by_clip: bool = False
    episodes: Episodes | None = None
    first: int = 0
    labels: Sequence[int] | None = None

    def batch(self, source: ClipSource, step: int) -> Batch:
        """Return the batch of a step, counted from 0, on the source's device."""
        generator = self._generator(step)
        samples, numbers = self._drawn(source, generator)
        # All ranks draw the whole batch, so that together they see what one alone would.
        room = source.side - self.view.side
        size = len(samples)
        offsets, flipped = draw_views(size, room, generator=generator)
        flipped &= self.view.mirror
        mine, gains = list(range(self.rank, size, self.world)), None
        if numbers is not None:
            mine = [one for one in range(size) if numbers[one] % self.world == self.rank]
        if self.view.brightness:
            drawn = torch.rand(size, generator=generator)
            gains = (1 + self.view.brightness * (2 * drawn - 1))[mine]
        picked = source.batch([samples[one] for one in mine])
        batch = self.view.cut(picked, offsets[mine], flipped[mine], gains)
        if numbers is not None:
            batch.episodes = torch.tensor([numbers[one] // self.world for one in mine])
        return batch

    def clips(self, source: ClipSource, step: int) -> list[str]:
        """Return the ids of the clips of a step, of all ranks, sorted."""
        samples, _ = self._drawn(source, self._generator(step))
        return sorted({source.clips[number].clip_id for number, _ in samples})

    @functools.cached_property
    def _of_clips(self) -> list[list[tuple[int, int]]]:
        """The samples of every clip."""
        clips: dict[int, list[tuple[int, int]]] = {}
        for sample in self.samples:
            clips.setdefault(sample[0], []).append(sample)
        return list(clips.values())

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed_of("samples", self.seed, self.name, step))

    def _drawn(
        self, source: ClipSource, generator: torch.Generator
    ) -> tuple[list[tuple[int, int]], list[int] | None]:
        """Return the samples of a step and, if it is made of episodes, the episode of each."""
        if self.episodes is None:
            return self._samples(generator), None
        found = self.episodes.draw(by_class(source, self.samples), generator=generator)
        numbers = [number for number, part in enumerate(found) for _ in part]
        return [sample for part in found for sample in part], numbers

    @functools.cached_property
    def _of_classes(self) -> list[Draw]:
        """What is drawn from of every class."""
        classes: dict[int, list[tuple[int, int]]] = {}
        for sample, label in zip(self.samples, self.labels or (), strict=True):
            classes.setdefault(label, []).append(sample)
        return [
            dataclasses.replace(self, samples=classes[label], labels=None)
            for label in sorted(classes)
        ]

    def _samples(self, generator: torch.Generator) -> list[tuple[int, int]]:
        if self.labels is not None:
            parts = self._of_classes
            # Shuffled, so that every rank has its part of all classes.
            places = torch.randperm(self.size, generator=generator).tolist()
            order = torch.randperm(len(parts), generator=generator).tolist()
            drawn = [
                one
                for rank, number in enumerate(order)
                for one in dataclasses.replace(
                    parts[number], size=len(range(rank, self.size, len(parts)))
                )._samples(generator)
            ]
            return [drawn[place] for place in places]
        if self.by_clip:
            groups = self._of_clips
            picked = torch.randint(len(groups), (self.size,), generator=generator).tolist()
            places = torch.rand(self.size, generator=generator).tolist()
            return [
                groups[clip][int(place * len(groups[clip]))]
                for clip, place in zip(picked, places, strict=True)
            ]
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
    method : Method
        What they are read for.
    """

    def __init__(self, entries: Sequence[Entry], *, workspace: Path, method: Method) -> None:
        self._method = method
        self._paths = [
            {stage: workspace / entry.shards[stage] for stage in method.datasets()}
            for entry in entries
        ]
        super().__init__([facts_of(load_clip(workspace, one, method)) for one in entries])

    def sample(self, number: int, row: int) -> Sample:
        """Return one sample as it is stored."""
        clip: ClipFacts = self.clips[number]
        indices = clip.samples[row]
        image = flow = None
        for stage, names in self._method.datasets().items():
            if stage in self._method.described:
                continue
            with open_clip(self._paths[number][stage], clip.clip_id, names) as (arrays, _):
                if stage == "align":
                    frames = np.stack(
                        [self._method.picture(arrays["frames"][int(one)]) for one in indices]
                    )
                    landmarks = arrays["landmarks"].whole()[indices]
                elif stage == "flow":
                    rows = flow_rows(clip, row)
                    flow = None if rows is None else arrays["flow"][rows]
                else:
                    image = self._method.image(arrays[names[0]].whole())
        return Sample(
            torch.from_numpy(frames),
            no_flow(clip, device=self.device) if flow is None else torch.from_numpy(flow),
            torch.from_numpy(landmarks),
            None if image is None else torch.from_numpy(image),
        )


def load_clip(workspace: Path, entry: Entry, method: Method) -> PreparedClip:
    """Read one prepared clip from its shards.

    Raises
    ------
    TrainingError
        If its flow is not that of the method's samples.
    """
    arrays = {
        stage: read_clip(workspace / entry.shards[stage], entry.clip_id, names)[0]
        for stage, names in method.datasets().items()
    }
    where = workspace / entry.shards["flow" if "flow" in arrays else "align"]
    return method.prepared(entry, arrays, where=where)


def resident_bytes(workspace: Path, entries: Sequence[Entry], method: Method) -> int:
    """Return how much memory clips take when they stay in it; no pixel is read for that."""
    total = 0
    for entry in entries:
        for stage, names in method.datasets().items():
            if stage in method.described:
                continue
            with open_clip(workspace / entry.shards[stage], entry.clip_id, names) as (arrays, _):
                for name in set(names) - {"pairs"}:
                    values, size = int(np.prod(arrays[name].shape)), arrays[name].dtype.itemsize
                    # Frames are stored in colour.
                    part = method.colours / 3 if (stage, name) == ("align", "frames") else 1
                    total += round(values * size * part)
    return total


def choose_loader(
    name: str,
    workspace: Path,
    entries: Sequence[Entry],
    method: Method,
    device: str,
    *,
    copies: int,
) -> str:
    """Return ``resident`` or ``stream``.

    Parameters
    ----------
    name : {'auto', 'resident', 'stream'}
        ``auto`` is resident if `mer_prep.training.machine.fits`: all copies of the clips take at
        most half of the memory that is free on the device. Clips of a method that are small are
        resident in any case.
    workspace : Path
        Folder that shards are relative to.
    entries : sequence of Entry
        The clips.
    method : Method
        What they are read for.
    device : str
        Where they would stay.
    copies : int
        Processes that keep them there, each for itself.
    """
    check_option("loader", name, LOADERS)
    if method.small:
        return "resident"
    if name != "auto":
        return name
    needed = resident_bytes(workspace, entries, method)
    return "resident" if fits(needed, device, copies=copies) else "stream"


def open_clips(
    loader: str, workspace: Path, entries: Sequence[Entry], method: Method, device: str
) -> ClipSource:
    """Return the clips of a study, in memory on a device or in their shards."""
    if loader == "stream":
        return StreamedClips(entries, workspace=workspace, method=method)
    with memory_errors(f"{len(entries)} clips on {device}, all at a time"):
        return ClipStore(
            (load_clip(workspace, entry, method) for entry in entries), device=torch.device(device)
        )


def each_batch(
    source: ClipSource, samples: Sequence[tuple[int, int]], view: View, size: int, device: str
) -> Iterator[Batch]:
    """Yield all samples once, in batches of `size`, as they are when tested, on a device."""
    for start in range(0, len(samples), size):
        yield view.centre(source.batch(samples[start : start + size])).to(torch.device(device))


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
    if draw.episodes is not None and draw.episodes.count % machine.world:
        raise ConfigError(
            f"{draw.episodes.count} episodes a step cannot be dealt evenly to {machine.world} "
            "processes.",
            hint="choose a number of episodes that is a multiple of the processes",
        )
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
