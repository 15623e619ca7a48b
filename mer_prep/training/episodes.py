"""Episodes: small tasks of some classes, with clips to learn from and others to be asked about.

References
----------
.. [1] O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra, "Matching networks for
   one shot learning", NeurIPS 2016. arXiv:1606.04080.
.. [2] Y. Chen, Z. Liu, H. Xu, T. Darrell, X. Wang, "Meta-Baseline: exploring simple meta-learning
   for few-shot learning", ICCV 2021. doi:10.1109/ICCV48922.2021.00893
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mer_prep.checks import check_range
from mer_prep.dataset import ClipSource
from mer_prep.errors import TrainingError

#: A sample: the number of its clip, and which sample of that clip.
Sample = tuple[int, int]


@dataclass(frozen=True)
class Episodes:
    """What the episodes of a step are.

    Parameters
    ----------
    ways : int
        Classes of an episode; all of them if there are fewer.
    shots : int
        Support samples of a class.
    queries : int
        Query samples of a class.
    count : int
        Episodes a step.
    apart : bool
        Whether no clip is on both sides of an episode. Without, every clip is there twice, as in
        the published code of Meta-MMFNet, and its two copies may be on both.
    """

    ways: int = 4
    shots: int = 5
    queries: int = 1
    count: int = 4
    apart: bool = True

    def __post_init__(self) -> None:
        check_range("ways", self.ways, low=2, high=1024)
        check_range("shots", self.shots, low=1, high=1024)
        check_range("queries", self.queries, low=1, high=1024)
        check_range("episodes", self.count, low=1, high=1024)

    def draw(
        self, by_class: Mapping[int, Sequence[Sample]], *, generator: torch.Generator
    ) -> list[list[Sample]]:
        """Return the samples of every episode of a step.

        Parameters
        ----------
        by_class : mapping of int to sequence of (int, int)
            Samples by class. A class with a single clip cannot be asked about and is left out.
        generator : torch.Generator
            Source of randomness, on the CPU.

        Returns
        -------
        list of list of (int, int)
            Samples of one class after the other, in each first its shots and then its queries.

        Raises
        ------
        TrainingError
            If fewer than two classes have two clips.
        """
        clips = {one: self._of_clips(samples) for one, samples in sorted(by_class.items())}
        classes = [one for one, groups in clips.items() if len(groups) >= 2]
        if len(classes) < 2:
            raise TrainingError(
                "There are no episodes: fewer than two classes have two training clips.",
                why="of every class of an episode, some clips are learned from and others asked",
                hint="take more subjects, or a label map with fewer classes",
            )
        return [self._episode(clips, classes, generator) for _ in range(self.count)]

    def _of_clips(self, samples: Sequence[Sample]) -> list[list[Sample]]:
        """Return the samples of every clip, or of every copy of it."""
        groups: dict[int, list[Sample]] = {}
        for sample in samples:
            groups.setdefault(sample[0], []).append(sample)
        return list(groups.values()) * (1 if self.apart else 2)

    def _episode(
        self,
        clips: Mapping[int, list[list[Sample]]],
        classes: Sequence[int],
        generator: torch.Generator,
    ) -> list[Sample]:
        chosen = torch.randperm(len(classes), generator=generator)[: self.ways].tolist()
        found: list[Sample] = []
        for number in sorted(chosen):
            found += self._of_class(clips[classes[number]], generator)
        return found

    def _of_class(self, groups: list[list[Sample]], generator: torch.Generator) -> list[Sample]:
        """Return the shots and then the queries of a class; rare clips come more than once."""
        order = torch.randperm(len(groups), generator=generator).tolist()
        asked = min(self.queries, len(groups) - 1)
        queries, shots = order[:asked], order[asked:]
        wanted = [shots[one % len(shots)] for one in range(self.shots)]
        wanted += [queries[one % asked] for one in range(self.queries)]
        places = torch.rand(len(wanted), generator=generator).tolist()
        return [
            groups[clip][int(place * len(groups[clip]))]
            for clip, place in zip(wanted, places, strict=True)
        ]


def by_class(source: ClipSource, samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Return samples by the class of their clip."""
    found: dict[int, list[Sample]] = {}
    for sample in samples:
        found.setdefault(source.clips[sample[0]].label, []).append(sample)
    return found


def support(
    by_class: Mapping[int, Sequence[Sample]], shots: int, *, generator: torch.Generator
) -> dict[int, list[Sample]]:
    """Return the samples that every class is recognised by when a model is tested.

    Parameters
    ----------
    by_class : mapping of int to sequence of (int, int)
        Training samples by class.
    shots : int
        Samples of a class; all of them if there are fewer, or if it is 0.
    generator : torch.Generator
        Source of randomness, on the CPU.
    """
    found = {}
    for one, samples in sorted(by_class.items()):
        order = torch.randperm(len(samples), generator=generator).tolist()
        found[one] = [samples[number] for number in order[: shots or len(samples)]]
    return found
