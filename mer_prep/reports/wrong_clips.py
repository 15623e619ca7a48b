"""The clips that a run got wrong, with what the model was shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mer_prep.errors import ShardError
from mer_prep.inspection import drawing
from mer_prep.pictures import PAPER, colour_wheel, draw_landmarks, flow_colours
from mer_prep.reports.embedded import LOSSLESS, data_uri
from mer_prep.reports.markup import Html, render
from mer_prep.store.shard import open_clip, read_header
from mer_prep.training.study import ClipEntry, Study

#: Most clips that are shown, the surest first.
SHOWN = 200

#: Magnitude of full colour of all flows of a page, px, so that they can be compared.
MAX_PX = 1.0

#: Quality of the frames in WebP.
_QUALITY = 80


def wrong_rows(
    rows: Sequence[Mapping[str, str]], classes: Sequence[str]
) -> list[Mapping[str, str]]:
    """Return the predictions that are wrong, the surest first."""

    def chance(row: Mapping[str, str]) -> float:
        return float(row[f"p_{classes[int(row['predicted'])]}"])

    wrong = [row for row in rows if row["label"] != row["predicted"]]
    return sorted(wrong, key=lambda row: (-chance(row), row["clip_id"]))


def wrong_clips(
    root: Path, study: Study, rows: Sequence[Mapping[str, str]], *, faces: bool
) -> Iterator[Html]:
    """Yield a card of every clip that is wrong, one after the other.

    Parameters
    ----------
    root : Path
        The workspace.
    study : Study
        The study.
    rows : sequence of mapping
        Its wrong predictions, in order.
    faces : bool
        Whether faces are shown; without, landmarks on white.
    """
    entries = {entry.clip_id: entry for entry in study.clips}
    wheel = data_uri(colour_wheel(96, max_px=MAX_PX), quality=LOSSLESS)
    yield render(
        "run_wrong_head.html",
        wrong=len(rows),
        clips=len(study.clips),
        shown=min(len(rows), SHOWN),
        wheel=wheel,
        max_px=MAX_PX,
        faces=faces,
    )
    for row in rows[:SHOWN]:
        entry = entries[row["clip_id"]]
        try:
            with drawing(entry.clip_id):
                pictures, missing = _pictures(root, entry, faces=faces), ""
        except ShardError as error:
            pictures, missing = [], error.what
        chances = [(name, float(row[f"p_{name}"])) for name in study.classes]
        yield render(
            "run_wrong.html",
            clip_id=row["clip_id"],
            label=study.classes[int(row["label"])],
            predicted=study.classes[int(row["predicted"])],
            chances=chances,
            pictures=pictures,
            missing=missing,
        )
    yield Html("</div>")


def is_restricted(root: Path, study: Study) -> bool:
    """Return whether anything that can be shown comes from a licensed corpus."""
    for name in sorted({path for entry in study.clips for path in entry.shards.values()}):
        try:
            if read_header(root / name).restricted:
                return True
        except ShardError:
            continue
    return False


def _pictures(root: Path, entry: ClipEntry, *, faces: bool) -> list[tuple[str, str, str]]:
    """Return (data URI, caption, alternative text) of what the model was shown."""
    found: list[tuple[str, str, str]] = []
    first, second, flow, numbers = _flow(root, entry)
    with open_clip(root / entry.shards["align"], entry.clip_id) as (aligned, _):
        frames, points = aligned["frames"], aligned["landmarks"]
        if second is None:
            numbers = [int(one) for one in np.asarray(aligned["frame_numbers"])]
            first, second = 0, len(numbers) // 2
        for index in (first, second):
            face = np.asarray(frames[index]) if faces else _blank(frames.shape[1:3])
            shown = face if faces else draw_landmarks(face, points[index], radius=1.2)
            kind = "aligned frame" if faces else "landmarks of frame"
            text = f"frame {numbers[index]}"
            alternative = f"{kind} {numbers[index]} of {entry.clip_id}"
            found.append((data_uri(shown, quality=_QUALITY), text, alternative))
    if flow is not None:
        size = float(np.hypot(*flow).mean())
        picture = data_uri(flow_colours(flow, max_px=MAX_PX), quality=LOSSLESS)
        caption = f"flow {numbers[first]} to {numbers[second]}, mean {size:.2f} px"
        found.append((picture, caption, f"{caption}, of {entry.clip_id}"))
    return found


def _blank(shape: tuple[int, ...]) -> np.ndarray:
    return np.full((*shape, 3), PAPER, np.uint8)


def _flow(root: Path, entry: ClipEntry) -> tuple[int, int | None, np.ndarray | None, list[int]]:
    """Return the pair of frames with the largest flow, that flow, and the frames' numbers."""
    if "flow" not in entry.shards:
        return 0, None, None, []
    with open_clip(root / entry.shards["flow"], entry.clip_id) as (arrays, _):
        flows, pairs = arrays["flow"], np.asarray(arrays["pairs"])
        sizes = [float(np.hypot(*np.asarray(one, np.float32)).mean()) for one in flows]
        row = int(np.argmax(sizes))
        first, second = (int(one) for one in pairs[row])
        numbers = [int(one) for one in np.asarray(arrays["frame_numbers"])]
        return first, second, np.asarray(flows[row], np.float32), numbers
