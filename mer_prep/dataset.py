"""Shards to tensors: the clips a model is trained on, cut into samples.

A sample is t frames of a clip and the flow between neighbours among them. Which frames, the model
says: MOL takes all phases (see `phases`), others the onset and the apex.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mer_prep.errors import LeakError

#: Kind of the samples that are tested; they have their flow, those of other kinds are for training.
TESTED = "tested"


@dataclass(frozen=True)
class PreparedClip:
    """One labelled clip, prepared.

    Parameters
    ----------
    clip_id, corpus, subject : str
        Which clip; the subject is named across corpora.
    label : int
        Its class.
    frames : ndarray, shape (N, S, S) or (N, 3, S, S), uint8
        Aligned frames, grey or RGB.
    flow : ndarray, shape (P, 2, S, S), float32 or float16
        Flow of the pairs of all tested samples, one sample after the other; px.
    landmarks : ndarray, shape (N, 68, 2), float32
        Landmarks in aligned px.
    samples : ndarray, shape (J, t), int
        Frames of every sample that is tested.
    image : ndarray, shape (C, S, S), float32, optional
        A picture of the whole clip, such as its dynamic image.
    others : mapping of str to ndarray, shape (K, t), int
        Frames of further samples, for training only, by their kind.
    features : ndarray, shape (F,), float32, optional
        Numbers that were computed of the whole clip, once for all folds.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    frames: np.ndarray
    flow: np.ndarray
    landmarks: np.ndarray
    samples: np.ndarray
    image: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    features: np.ndarray | None = None


class Sample(NamedTuple):
    """One sample as it is stored.

    Parameters
    ----------
    frames : Tensor, shape (t, S, S) or (t, 3, S, S), uint8
        Its frames.
    flow : Tensor, shape (t - 1, 2, S, S)
        Flow from each frame to the next, px; not a number where the sample is not of those tested.
    landmarks : Tensor, shape (t, 68, 2)
        Landmarks, px.
    image : Tensor, shape (C, S, S), optional
        The picture of its clip.
    """

    frames: Tensor
    flow: Tensor
    landmarks: Tensor
    image: Tensor | None = None


@dataclass
class Batch:
    """Samples as a model takes them.

    Parameters
    ----------
    frames : Tensor, shape (B, t, S, S) or (B, t, 3, S, S), float32
        Grey or colour values, 0 to 255 before normalisation.
    flow : Tensor, shape (B, t - 1, 2, S, S), float32
        Flow (u, v) from each frame to the next, px.
    landmarks : Tensor, shape (B, t, 68, 2), float32
        Landmarks (x, y), px.
    labels : Tensor, shape (B,), int64
        Classes.
    image : Tensor, shape (B, C, S, S), float32, optional
        Pictures of the whole clips.
    features : Tensor, shape (B, F), float32, optional
        Features of the whole clips, as `PreparedClip` has them: no crop changes them.
    episodes : Tensor, shape (B,), int64, optional
        Episode of every sample, from 0, where a step draws episodes; see
        `mer_prep.training.episodes`.
    """

    frames: Tensor
    flow: Tensor
    landmarks: Tensor
    labels: Tensor
    image: Tensor | None = None
    features: Tensor | None = None
    episodes: Tensor | None = None

    def tensors(self) -> list[Any]:
        """Return the tensors, and None for what is missing, in the order of the parameters."""
        return [getattr(self, one.name) for one in fields(self)]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return self._each(lambda one: one.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in memory that a GPU copies from without waiting."""
        return self._each(lambda one: one.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: list[Any] = [None if one is None else change(one) for one in self.tensors()]
        return Batch(*changed)


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
                hint="take the statistics of the fold's training clips",
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
    samples : ndarray, shape (J + K, t), int
        Frames of every sample, of all kinds.
    kinds : mapping of str to range
        Which of them are of a kind; the first are those tested.
    side : int
        Side of the frames, px.
    sums : tuple of float
        Number, sum and sum of squares of its values.
    mean_landmarks : ndarray, shape (68, 2), float32
        Mean over the frames, px.
    features : ndarray, shape (F,), float32, optional
        See `PreparedClip`.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    samples: np.ndarray
    kinds: Mapping[str, range]
    side: int
    sums: tuple[float, float, float]
    mean_landmarks: np.ndarray
    features: np.ndarray | None = None


def facts_of(clip: PreparedClip) -> ClipFacts:
    """Return what must be known of a clip when its pictures are not at hand."""
    parts = {TESTED: clip.samples, **clip.others}
    kinds, begin = {}, 0
    for kind, rows in parts.items():
        kinds[kind] = range(begin, begin + len(rows))
        begin += len(rows)
    return ClipFacts(
        clip_id=clip.clip_id,
        corpus=clip.corpus,
        subject=clip.subject,
        label=clip.label,
        samples=np.concatenate(list(parts.values())),
        kinds=kinds,
        side=int(clip.frames.shape[-1]),
        sums=_sums(clip.frames),
        mean_landmarks=clip.landmarks.mean(axis=0),
        features=clip.features,
    )


class ClipSource(ABC):
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

    def samples(self, clip_ids: Sequence[str], kind: str = TESTED) -> list[tuple[int, int]]:
        """Return every sample (number of the clip, row of its samples) of a kind of some clips."""
        numbers = [self.index[clip_id] for clip_id in clip_ids]
        return [(n, j) for n in numbers for j in self.clips[n].kinds[kind]]

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
        parts = [self.sample(number, row) for number, row in samples]
        labels = torch.tensor([self.clips[number].label for number, _ in samples])
        images = [one.image.float() for one in parts if one.image is not None]
        return Batch(
            torch.stack([one.frames.float() for one in parts]),
            torch.stack([one.flow.float() for one in parts]),
            torch.stack([one.landmarks for one in parts]),
            labels.to(self.device),
            torch.stack(images) if images else None,
            self._features(samples),
        )

    def _features(self, samples: Sequence[tuple[int, int]]) -> Tensor | None:
        found = [self.clips[number].features for number, _ in samples]
        there = [one for one in found if one is not None]
        return torch.from_numpy(np.stack(there)).to(self.device) if there else None

    @abstractmethod
    def sample(self, number: int, row: int) -> Sample:
        """Return one sample as it is stored."""


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
        self._tensors: list[Sample] = []
        for clip in clips:
            facts.append(facts_of(clip))
            arrays = (clip.frames, clip.flow, clip.landmarks, clip.image)
            self._tensors.append(
                Sample(
                    *(
                        torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
                        for array in arrays
                        if array is not None
                    )
                )
            )
        super().__init__(facts)

    def bytes(self) -> int:
        """Return how much memory the clips take."""
        tensors = [one for part in self._tensors for one in part if one is not None]
        return sum(one.numel() * one.element_size() for one in tensors)

    def sample(self, number: int, row: int) -> Sample:
        """Return one sample as it is stored."""
        of_clip, facts = self._tensors[number], self.clips[number]
        indices = torch.from_numpy(facts.samples[row]).to(self.device)
        flow = flow_rows(facts, row)
        return Sample(
            of_clip.frames[indices],
            no_flow(facts, device=self.device) if flow is None else of_clip.flow[flow],
            of_clip.landmarks[indices],
            of_clip.image,
        )


def flow_rows(clip: ClipFacts, row: int) -> slice | None:
    """Return where the flow of a sample lies among that of its clip; None if it is not there."""
    if row not in clip.kinds[TESTED]:
        return None
    pairs = clip.samples.shape[1] - 1
    return slice(row * pairs, (row + 1) * pairs)


def no_flow(clip: ClipFacts, *, device: torch.device) -> Tensor:
    """Return what stands for the flow of a sample without: not a number, so that none uses it."""
    pairs = clip.samples.shape[1] - 1
    return torch.full((pairs, 2, clip.side, clip.side), torch.nan, device=device)


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
