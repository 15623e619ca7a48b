"""The film of a clip: source with landmarks, aligned face and flow side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep.inspection import drawing, shards_of_flow
from mer_prep.manifest import Clip
from mer_prep.ops.flow import optical_flow
from mer_prep.ops.images import to_grey
from mer_prep.pictures import (
    TILE,
    draw_landmarks,
    flow_colours,
    headed,
    labelled_tile,
    tile_row,
    zoom_to_face,
)
from mer_prep.sources.frames import ClipFrames
from mer_prep.store import disk, files
from mer_prep.store.shard import open_clip
from mer_prep.videos import write_video

#: Most frames that are shown a second: recordings of 200 frames a second are slowed down.
SHOWN_FPS = 25.0

#: Smallest magnitude of full colour, px, so that noise is not blown up.
LEAST_PX = 0.25


def film_clip(clip: Clip, results: Sequence[Mapping[str, Any]], out: Path) -> int:
    """Write a video of a clip, ``.mp4`` or ``.avi``.

    Every frame shows the source with its landmarks, the aligned face, and the TV-L1 flow from the
    onset to it.

    Parameters
    ----------
    clip : Clip
        The clip.
    results : sequence of mapping
        Its shards, as `stages.survey.results_of_clip` gives them.
    out : Path
        Where to write.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    ShardError
        If landmarks, aligned frames and flow are not all there, or do not fit each other.
    MerPrepError
        If the film is not whole, as on a full disk.
    ConfigError
        For another suffix, or if the name is taken by a folder or device.
    OSError
        If the disk refuses; what was there before stays.
    """
    files.check_target(out)
    fps = min(SHOWN_FPS, clip.fps or SHOWN_FPS)
    partial = files.partial_path(out).with_suffix(out.suffix)
    try:
        disk.create(partial).close()  # says why a place cannot be written, which OpenCV does not
        disk.library_writes(partial)
        count = write_video(partial, _sheets(clip, results, fps), fps=fps)
        disk.replace(partial, out)
    finally:
        files.discard(partial)
    return count


def _sheets(clip: Clip, results: Sequence[Mapping[str, Any]], fps: float) -> Iterator[np.ndarray]:
    chain, _ = shards_of_flow(results, clip)
    with drawing(clip.clip_id), ExitStack() as stack:
        flow, _ = stack.enter_context(open_clip(chain["flow"], clip.clip_id))
        aligned, _ = stack.enter_context(open_clip(chain["align"], clip.clip_id))
        landmarks, _ = stack.enter_context(open_clip(chain["landmarks"], clip.clip_id))
        numbers = [int(number) for number in aligned["frame_numbers"]]
        start = clip.position(numbers[0])
        frames = ClipFrames(clip, start, start + len(numbers))
        onset = numbers.index(clip.onset) if clip.onset in numbers else 0
        first = to_grey(np.asarray(aligned["frames"][onset]))
        strongest = float(np.percentile(np.hypot(*flow["flow"][0].astype(np.float32)), 99))
        max_px = max(LEAST_PX, 1.25 * strongest)
        facts = _facts(clip, fps, max_px)
        for index, number in enumerate(numbers):
            face = np.asarray(aligned["frames"][index])
            motion = optical_flow(first, to_grey(face))
            points = landmarks["landmarks"][index]
            tiles = [
                _source(np.asarray(frames[index]), points, f"{_name(clip, number)}, source"),
                _enlarged(face, "aligned"),
                _enlarged(flow_colours(motion, max_px=max_px), "flow from the onset"),
            ]
            yield headed(tile_row(tiles), clip.clip_id, facts)


def _facts(clip: Clip, fps: float, max_px: float) -> dict[str, object]:
    facts: dict[str, object] = {"emotion": clip.emotion or "unlabelled"}
    if clip.fps and clip.fps > fps:
        facts["slowed"] = f"{clip.fps / fps:.3g} times"
    facts["full colour"] = f"{max_px:.2f} px"
    if clip.synthetic:
        facts = {"SYNTHETIC": "", **facts}
    if clip.restricted:
        facts["licence"] = "restricted: do not pass on"
    return facts


def _name(clip: Clip, number: int) -> str:
    named = {clip.offset: "offset", clip.apex: "apex", clip.onset: "onset"}
    return f"{named.get(number, 'frame')} {number}"


def _source(frame: np.ndarray, landmarks: np.ndarray, title: str) -> np.ndarray:
    view, points = zoom_to_face(frame, landmarks, side=TILE)
    return labelled_tile(draw_landmarks(view, points), title)


def _enlarged(picture: np.ndarray, title: str) -> np.ndarray:
    view = cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    return labelled_tile(np.asarray(view), title)
