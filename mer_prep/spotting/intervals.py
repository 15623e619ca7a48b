"""Intervals of frames in long videos, and the ground truth they make up."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mer_prep.errors import ManifestError
from mer_prep.manifest import EXPRESSION_TYPES


@dataclass(frozen=True, slots=True)
class Interval:
    """An expression in a long video, annotated or spotted.

    Parameters
    ----------
    video : str
        Name of the video across corpora, ``<corpus>/<recording>``.
    onset, offset : int
        First and last frame, both of them inside; frame numbers as the corpus has them.
    type : {'micro', 'macro'}
        Kind of expression.
    emotion : str, optional
        Normalised emotion.

    Raises
    ------
    ManifestError
        If the onset lies after the offset, or the type is another.
    """

    video: str
    onset: int
    offset: int
    type: str = "micro"
    emotion: str | None = None

    def __post_init__(self) -> None:
        if self.onset > self.offset:
            raise ManifestError(
                f"The onset {self.onset} lies after the offset {self.offset}.", where=self.video
            )
        if self.type not in EXPRESSION_TYPES:
            raise ManifestError(
                f"An expression is micro or macro, not {self.type!r}.", where=self.video
            )

    @property
    def length(self) -> int:
        """Number of frames from onset to offset, both counted."""
        return self.offset - self.onset + 1


def iou(first: Interval, second: Interval) -> float:
    """Return the intersection over union of two intervals, 0 to 1.

    Parameters
    ----------
    first, second : Interval
        In one video; that is not looked at.

    Notes
    -----
    Frames are counted: ``IoU = |A n B| / |A u B|``. One frame shared by two intervals of two
    frames gives 1/3. A quotient of whole numbers is rounded once, as a decimal threshold is when it
    is read, so that an IoU of exactly 0.5 or 0.3 is at least the threshold of that name.
    """
    shared = min(first.offset, second.offset) - max(first.onset, second.onset) + 1
    if shared <= 0:
        return 0.0
    return shared / (first.length + second.length - shared)


@dataclass(frozen=True, slots=True)
class Video:
    """A long video, whether or not it holds an expression.

    Parameters
    ----------
    name : str
        ``<corpus>/<recording>``.
    subject : str
        Subject across corpora, ``<corpus>/<subject>``; empty if unknown.
    first, last : int, optional
        Smallest and largest frame number, where known.
    """

    name: str
    subject: str = ""
    first: int | None = None
    last: int | None = None


@dataclass(frozen=True)
class Truth:
    """The ground truth of spotting: all videos, and the expressions in them.

    Parameters
    ----------
    videos : tuple of Video
        Every video that is scored, those without expressions too.
    intervals : tuple of Interval
        Annotated expressions, each in one of the videos. One interval may have several emotions,
        but no expression stands twice.
    notes : tuple of str
        What a reader of scores must know: what was left out, and why.
    synthetic : bool
        Whether any of it was made by ``mer-prep synth``.

    Raises
    ------
    ManifestError
        If two videos share a name, an expression is in none of them, or one stands twice.
    """

    videos: tuple[Video, ...]
    intervals: tuple[Interval, ...]
    notes: tuple[str, ...] = ()
    synthetic: bool = False

    def __post_init__(self) -> None:
        names = {video.name for video in self.videos}
        if len(names) < len(self.videos):
            raise ManifestError("Two videos of the ground truth share a name.")
        strange = sorted({one.video for one in self.intervals} - names)
        if strange:
            raise ManifestError(f"The video '{strange[0]}' of an expression is not listed.")
        repeated = [one for one, count in Counter(self.intervals).items() if count > 1]
        if repeated:
            first = repeated[0]
            raise ManifestError(
                f"An expression stands twice: {first.type}, frames {first.onset} to "
                f"{first.offset}.",
                where=first.video,
                why="an interval that stands twice is counted twice",
            )

    def of_type(self, kind: str) -> list[Interval]:
        """Return the expressions that are ``micro`` or ``macro``."""
        return [one for one in self.intervals if one.type == kind]

    def only(self, types: Sequence[str]) -> Truth:
        """Return the ground truth of some types alone, with all of its videos."""
        kept = tuple(one for one in self.intervals if one.type in types)
        return dataclasses.replace(self, intervals=kept)

    def without_expression(self, types: Sequence[str] = EXPRESSION_TYPES) -> list[Video]:
        """Return the videos that hold no expression of the types."""
        filled = {one.video for one in self.intervals if one.type in types}
        return [video for video in self.videos if video.name not in filled]

    def digest(self) -> str:
        """Return the SHA-256 of videos and expressions, whatever their order.

        Lines ``video`` and ``video,onset,offset,type,emotion``, sorted bytewise, each ended by a
        line feed: two laboratories can see that they score against the same truth.
        """
        lines = [video.name for video in self.videos]
        lines += [
            f"{one.video},{one.onset},{one.offset},{one.type},{one.emotion or ''}"
            for one in self.intervals
        ]
        text = "".join(line + "\n" for line in sorted(lines, key=str.encode))
        return hashlib.sha256(text.encode()).hexdigest()


def half_mean_length(intervals: Iterable[Interval]) -> int | None:
    """Return half the mean length of expressions in frames, or None if there are none.

    The parameter k of many spotting methods, which compare frames k apart and take 2k + 1 frames
    around a peak for an expression.

    Notes
    -----
    ``k = floor((N + 1) / 2)`` with N the mean of ``offset - onset``: one end is not counted, unlike
    in `Interval.length`, because the code of [1]_ (``cal_k``) does so. Two expressions of frames 10
    to 22 and 40 to 52 have N = 12 and k = 6. The code takes the apex for an offset that is 0.

    References
    ----------
    .. [1] G.-B. Liong, J. See, L.-K. Wong, "Shallow optical flow three-stream CNN for macro- and
       micro-expression spotting from long videos", ICIP 2021. doi:10.48550/arXiv.2106.06489;
       code: https://github.com/genbing99/SoftNet-SpotME
    """
    spans = [one.offset - one.onset for one in intervals]
    # In whole numbers: floor((sum / n + 1) / 2).
    return (sum(spans) + len(spans)) // (2 * len(spans)) if spans else None
