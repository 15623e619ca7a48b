"""Shards to tensors: the clips a model is trained on, cut into samples, crops and flips.

A sample is t frames of a clip at one phase: frames j, j + s, ..., j + (t - 1) s with the interval
s = N // t and the phase j = 0 ... s - 1, and the flow between neighbours among them, which is what
the lagged pairs of the stage ``flow`` are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mer_prep.errors import LeakError

#: Landmark that each of the 68 becomes in a mirrored face.
MIRRORED = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
)


@dataclass(frozen=True)
class PreparedClip:
    """One labelled clip, prepared.

    Parameters
    ----------
    clip_id, corpus, subject : str
        Which clip; the subject is named across corpora.
    label : int
        Its class.
    frames : ndarray, shape (N, S, S), uint8
        Aligned grey frames.
    flow : ndarray, shape (P, 2, S, S), float32 or float16
        Flow of the pairs of all samples, one sample after the other; px.
    landmarks : ndarray, shape (N, 68, 2), float32
        Landmarks in aligned px.
    samples : ndarray, shape (J, t), int
        Frames of every sample.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    frames: np.ndarray
    flow: np.ndarray
    landmarks: np.ndarray
    samples: np.ndarray


@dataclass
class Batch:
    """Samples as a model takes them.

    Parameters
    ----------
    frames : Tensor, shape (B, t, S, S), float32
        Grey values, 0 to 255 before normalisation.
    flow : Tensor, shape (B, t - 1, 2, S, S), float32
        Flow (u, v) from each frame to the next, px.
    landmarks : Tensor, shape (B, t, 68, 2), float32
        Landmarks (x, y), px.
    labels : Tensor, shape (B,), int64
        Classes.
    """

    frames: Tensor
    flow: Tensor
    landmarks: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(
            *(
                one.to(device, non_blocking=True)
                for one in (self.frames, self.flow, self.landmarks, self.labels)
            )
        )

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU copies from without waiting."""
        return Batch(
            *(one.pin_memory() for one in (self.frames, self.flow, self.landmarks, self.labels))
        )


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of grey values, and the clips they were taken from.

    Parameters
    ----------
    mean, deviation : float
        In grey levels.
    clips : frozenset of str
        Clip ids.
    """

    mean: float
    deviation: float
    clips: frozenset[str]

    def check_apart(self, tested: Sequence[str]) -> None:
        """Raise `LeakError` if a tested clip is among those the statistics were taken from."""
        shared = sorted(self.clips & set(tested))
        if shared:
            raise LeakError(
                f"The normalisation was taken from clips that are tested: {', '.join(shared[:5])}.",
                why="the model would know something of the test subject",
            )

    def normalise(self, frames: Tensor) -> Tensor:
        """Return frames with mean 0 and deviation 1 over the clips they were taken from."""
        return (frames - self.mean) / self.deviation


@dataclass(frozen=True)
class ClipFacts:
    """What must be known of a clip without its pictures.

    Parameters
    ----------
    clip_id, corpus, subject : str
        Which clip; the subject is named across corpora.
    label : int
        Its class.
    samples : ndarray, shape (J, t), int
        Frames of every sample.
    side : int
        Side of the frames, px.
    sums : tuple of float
        Number, sum and sum of squares of its grey values.
    mean_landmarks : ndarray, shape (68, 2), float32
        Mean over the frames, px.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    samples: np.ndarray
    side: int
    sums: tuple[float, float, float]
    mean_landmarks: np.ndarray


def facts_of(clip: PreparedClip) -> ClipFacts:
    """Return what must be known of a clip when its pictures are not at hand."""
    return ClipFacts(
        clip_id=clip.clip_id,
        corpus=clip.corpus,
        subject=clip.subject,
        label=clip.label,
        samples=clip.samples,
        side=int(clip.frames.shape[-1]),
        sums=_sums(clip.frames),
        mean_landmarks=clip.landmarks.mean(axis=0),
    )


class ClipSource:
    """Clips that batches are drawn from, wherever their pictures lie.

    Parameters
    ----------
    clips : sequence of ClipFacts
        The clips.
    """

    #: Where its batches are.
    device = torch.device("cpu")

    def __init__(self, clips: Sequence[ClipFacts]) -> None:
        self.clips = list(clips)
        self.index = {clip.clip_id: number for number, clip in enumerate(clips)}

    @property
    def side(self) -> int:
        """Side of the frames in px."""
        return self.clips[0].side

    def samples(self, clip_ids: Sequence[str]) -> list[tuple[int, int]]:
        """Return every sample (number of the clip, phase) of some clips."""
        numbers = [self.index[clip_id] for clip_id in clip_ids]
        return [(n, j) for n in numbers for j in range(len(self.clips[n].samples))]

    def statistics(self, clip_ids: Sequence[str]) -> Statistics:
        """Return mean and deviation of the grey values of some clips."""
        sums = [self.clips[self.index[one]].sums for one in clip_ids]
        count, total, squares = np.sum(sums, axis=0)
        mean = total / count
        deviation = max(float(np.sqrt(max(squares / count - mean**2, 0.0))), 1.0)
        return Statistics(float(mean), deviation, frozenset(clip_ids))

    def mean_landmarks(self, clip_ids: Sequence[str]) -> Tensor:
        """Return the mean landmarks of some clips, shape (68, 2), px."""
        means = [self.clips[self.index[one]].mean_landmarks for one in clip_ids]
        return torch.from_numpy(np.mean(means, axis=0, dtype=np.float64).astype(np.float32))

    def batch(self, samples: Sequence[tuple[int, int]]) -> Batch:
        """Return samples at full size, on the source's device."""
        parts = [self.sample(number, phase) for number, phase in samples]
        labels = torch.tensor([self.clips[number].label for number, _ in samples])
        return Batch(
            torch.stack([frames.float() for frames, _, _ in parts]),
            torch.stack([flow.float() for _, flow, _ in parts]),
            torch.stack([landmarks for _, _, landmarks in parts]),
            labels.to(self.device),
        )

    def sample(self, number: int, phase: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames, flow and landmarks of one sample, as they are stored."""
        raise NotImplementedError


class ClipStore(ClipSource):
    """All clips of a study in memory, on the device where it trains if they fit.

    Parameters
    ----------
    clips : sequence of PreparedClip
        The clips.
    device : torch.device, optional
        Where to keep them.
    """

    def __init__(
        self, clips: Iterable[PreparedClip], *, device: torch.device | None = None
    ) -> None:
        self.device = torch.device("cpu") if device is None else device
        facts: list[ClipFacts] = []
        self._tensors: list[tuple[Tensor, Tensor, Tensor]] = []
        for clip in clips:
            facts.append(facts_of(clip))
            frames, flow, landmarks = (
                torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
                for array in (clip.frames, clip.flow, clip.landmarks)
            )
            self._tensors.append((frames, flow, landmarks))
        super().__init__(facts)

    def bytes(self) -> int:
        """Return how much memory the clips take."""
        return sum(one.numel() * one.element_size() for part in self._tensors for one in part)

    def sample(self, number: int, phase: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames, flow and landmarks of one sample, as they are stored."""
        frames, flow, landmarks = self._tensors[number]
        rows = torch.from_numpy(self.clips[number].samples[phase]).to(self.device)
        pairs = len(rows) - 1
        return frames[rows], flow[phase * pairs : (phase + 1) * pairs], landmarks[rows]


def _sums(frames: np.ndarray) -> tuple[float, float, float]:
    values = frames.astype(np.float64)
    return float(values.size), float(values.sum()), float(np.square(values).sum())


def phases(count: int, length: int) -> np.ndarray:
    """Return the frames of every sample of a clip.

    Parameters
    ----------
    count : int
        Frames N of the clip.
    length : int
        Frames t of a sample.

    Returns
    -------
    ndarray, shape (s, t), int64
        Row j holds frames j + i s for i = 0 ... t - 1, with s = N // t.
    """
    interval = count // length
    return np.arange(interval)[:, None] + interval * np.arange(length)[None, :]


def crop(batch: Batch, offsets: Tensor, side: int) -> Batch:
    """Return a square part of every sample, with flow and landmarks to match.

    Parameters
    ----------
    batch : Batch
        Samples of B clips.
    offsets : Tensor, shape (B, 2), int64
        First column and row (x, y) of every part.
    side : int
        Side of the parts, px.
    """
    frames = torch.stack(
        [
            one[..., y : y + side, x : x + side]
            for one, (x, y) in zip(batch.frames, offsets.tolist(), strict=True)
        ]
    )
    flow = torch.stack(
        [
            one[..., y : y + side, x : x + side]
            for one, (x, y) in zip(batch.flow, offsets.tolist(), strict=True)
        ]
    )
    # A new array: landmarks of the uncropped frames are used again by the next crop.
    landmarks = batch.landmarks - offsets[:, None, None].to(batch.landmarks)
    return Batch(frames, flow, landmarks, batch.labels)


def flip(batch: Batch, flipped: Tensor) -> Batch:
    """Return samples, some of them mirrored left to right; twice gives them back.

    Parameters
    ----------
    batch : Batch
        Samples of B clips.
    flipped : Tensor, shape (B,), bool
        Which are mirrored.

    Notes
    -----
    A mirrored flow also changes the sign of u, and mirrored landmarks change places: the left
    corner of the mouth becomes the right one.
    """
    side = batch.frames.shape[-1]
    frames = torch.where(flipped[:, None, None, None], batch.frames.flip(-1), batch.frames)
    sign = torch.tensor([-1.0, 1.0], device=batch.flow.device)[:, None, None]
    flow = torch.where(flipped[:, None, None, None, None], batch.flow.flip(-1) * sign, batch.flow)
    order = torch.tensor(MIRRORED, device=batch.landmarks.device)
    mirrored = batch.landmarks[:, :, order].clone()
    mirrored[..., 0] = side - 1 - mirrored[..., 0]
    landmarks = torch.where(flipped[:, None, None, None], mirrored, batch.landmarks)
    return Batch(frames, flow, landmarks, batch.labels)


def reduce(batch: Batch, factor: int) -> Batch:
    """Return samples at a fraction of their size: areas are averaged, motion is scaled.

    Parameters
    ----------
    batch : Batch
        Samples.
    factor : int
        Whole number of px that become one.
    """
    if factor == 1:
        return batch
    clips, pairs = batch.flow.shape[:2]
    frames = functional.avg_pool2d(batch.frames, factor)
    flow = functional.avg_pool2d(batch.flow.flatten(0, 1), factor).unflatten(0, (clips, pairs))
    landmarks = (batch.landmarks + 0.5) / factor - 0.5
    return Batch(frames, flow / factor, landmarks, batch.labels)


def draw_views(count: int, room: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the crops of a training batch.

    Parameters
    ----------
    count : int
        Number of samples B.
    room : int
        Largest offset of a crop, px.
    generator : torch.Generator
        Source of randomness, on the CPU.

    Returns
    -------
    offsets : Tensor, shape (B, 2), int64
        First column and row of every crop.
    flipped : Tensor, shape (B,), bool
        Which are mirrored: half of them, on average.
    """
    offsets = torch.randint(0, room + 1, (count, 2), generator=generator)
    return offsets, torch.rand(count, generator=generator) < 0.5


def random_view(batch: Batch, side: int, *, generator: torch.Generator) -> Batch:
    """Return a random crop of every sample, mirrored half of the time.

    Parameters
    ----------
    batch : Batch
        Samples.
    side : int
        Side of the crop, px.
    generator : torch.Generator
        Source of randomness, on the CPU.
    """
    room = batch.frames.shape[-1] - side
    offsets, flipped = draw_views(len(batch.labels), room, generator=generator)
    return flip(crop(batch, offsets, side), flipped.to(batch.frames.device))


def centre_view(batch: Batch, side: int) -> Batch:
    """Return the centre crop of every sample."""
    room = batch.frames.shape[-1] - side
    offsets = torch.full((len(batch.labels), 2), room // 2, dtype=torch.int64)
    return crop(batch, offsets, side)
