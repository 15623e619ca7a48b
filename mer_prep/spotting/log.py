"""The log of matches: which spotted interval was matched with which annotated one."""

from __future__ import annotations

from pathlib import Path

from mer_prep.spotting.intervals import Interval
from mer_prep.spotting.scores import SpottingScores
from mer_prep.store import disk
from mer_prep.store.text import write_atomic

#: Stands for the frames of the interval that a false positive or a false negative lacks.
NO_FRAME = "-"


def write_log(path: Path, scores: SpottingScores) -> Path:
    """Write which interval was matched with which, one interval a line.

    Parameters
    ----------
    path : Path
        The text file.
    scores : SpottingScores
        Scores by video.

    Notes
    -----
    ``video onset offset onset offset TP|FP|FN``, separated by spaces: the annotated interval, then
    the spotted one, a ``-`` for each frame that is not there. Where more than one type was scored,
    the type follows. Videos with nothing annotated and nothing spotted have no line.
    """
    lines = []
    for one in sorted(scores.videos, key=lambda one: (one.video.name, one.type)):
        pairs = dict(one.match.pairs)
        spotted = set(range(len(one.spotted))) - set(pairs.values())
        rows: list[tuple[Interval | None, Interval | None]] = [
            (annotated, one.spotted[pairs[i]] if i in pairs else None)
            for i, annotated in enumerate(one.annotated)
        ]
        rows += [(None, one.spotted[j]) for j in spotted]
        rows.sort(key=lambda row: min(side.onset for side in row if side is not None))
        kind = f" {one.type}" if len(scores.types) > 1 else ""
        lines += [f"{one.video.name} {_line(*row)}{kind}\n" for row in rows]
    disk.make_folder(path.parent)
    write_atomic(path, "".join(lines))
    return path


def _line(annotated: Interval | None, spotted: Interval | None) -> str:
    frames = [
        f"{one.onset} {one.offset}" if one else f"{NO_FRAME} {NO_FRAME}"
        for one in (annotated, spotted)
    ]
    result = "TP" if annotated and spotted else "FP" if spotted else "FN"
    return f"{' '.join(frames)} {result}"
