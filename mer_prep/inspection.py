"""The picture of a clip: key frames, landmarks, aligned faces and flow, from its shards."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep.errors import ShardError
from mer_prep.manifest import Clip
from mer_prep.pictures import KeyFrame, clip_sheet, write_png
from mer_prep.sources.frames import ClipFrames
from mer_prep.store.shard import open_clip


@contextmanager
def drawing(clip_id: str) -> Iterator[None]:
    """Turn what results that do not fit each other make of being drawn into a `ShardError`.

    A shard may be whole by its checksums and yet hold what no stage gives: too few landmarks,
    pairs of frames that are not there.
    """
    try:
        yield
    except (
        *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
        *(RuntimeError, cv2.error),
    ) as error:
        told = " ".join(str(error).split())
        raise ShardError(
            f"The results of clip {clip_id} do not fit each other: "
            f"{type(error).__name__}: {told:.200}.",
            hint="run the stage again with --force, e.g. `mer-prep flow --force`",
        ) from None


def draw_clip(clip: Clip, results: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Write a picture of a clip as a PNG file.

    Parameters
    ----------
    clip : Clip
        The clip.
    results : sequence of mapping
        Its shards, as `stages.survey.results_of_clip` gives them; current ones are preferred.
    out : Path
        Where to write.

    Raises
    ------
    ShardError
        If landmarks, aligned frames and flow are not all there, or do not fit each other.
    """
    with drawing(clip.clip_id):
        sheet = _sheet(clip, results)
    write_png(out, sheet)


def _sheet(clip: Clip, results: Sequence[Mapping[str, Any]]) -> np.ndarray:
    chain, result = shards_of_flow(results, clip)
    with ExitStack() as files:
        flow, flow_facts = files.enter_context(open_clip(chain["flow"], clip.clip_id))
        aligned, align_facts = files.enter_context(open_clip(chain["align"], clip.clip_id))
        landmarks, _ = files.enter_context(open_clip(chain["landmarks"], clip.clip_id))
        numbers = [int(number) for number in aligned["frame_numbers"]]
        start = clip.position(numbers[0])
        frames = ClipFrames(clip, start, start + len(numbers))
        first, second = (int(index) for index in flow["pairs"][0])
        drawn = flow["flow"][0].astype(np.float32)
        key_frames = [
            KeyFrame(
                title=f"{name} {numbers[index]}",
                source=np.asarray(frames[index]),
                landmarks=landmarks["landmarks"][index],
                aligned=aligned["frames"][index],
                aligned_landmarks=aligned["landmarks"][index],
            )
            for index, name in sorted(_key_indices(clip, numbers, first, second).items())
        ]
    facts: dict[str, Any] = {
        "emotion": clip.emotion or "unlabelled",
        "frames": len(numbers),
        "apex": flow_facts.get("apex_source", "unknown"),
        "jitter px": align_facts.get("jitter_px", "unknown"),
        "settings": result["settings"] + ("" if result["current"] else " (stale)"),
    }
    if clip.synthetic:
        facts = {"SYNTHETIC": "", **facts}
    if clip.restricted:
        facts["licence"] = "restricted: do not pass on"
    return clip_sheet(
        clip.clip_id,
        facts=facts,
        key_frames=key_frames,
        flow=drawn,
        flow_title=f"flow {numbers[first]} to {numbers[second]}",
    )


def _key_indices(clip: Clip, numbers: list[int], first: int, second: int) -> dict[int, str]:
    """Return the frames to show by index: the flow's two, and the last."""
    shown = {len(numbers) - 1: "offset" if clip.offset == numbers[-1] else "last"}
    shown[second] = "apex" if clip.apex == numbers[second] else "frame"
    shown[first] = "onset" if clip.onset in (None, numbers[first]) else "frame"
    return shown


def shards_of_flow(
    results: Sequence[Mapping[str, Any]], clip: Clip
) -> tuple[dict[str, Path], Mapping[str, Any]]:
    """Return the shards of a flow and of the stages it was made from, and the flow's result.

    Raises
    ------
    ShardError
        If landmarks, aligned frames and flow are not all there.
    """
    flows = [one for one in results if one["stage"] == "flow"]
    # Current results first, and among them those of the default parameters.
    for flow in sorted(flows, key=lambda one: (not one["current"], one["settings"] != "defaults")):
        wanted = json.loads(flow["settings_key"])
        chain = {
            one["stage"]: Path(one["path"])
            for one in sorted(results, key=lambda one: bool(one["current"]))
            if json.loads(one["settings_key"]).items() <= wanted.items()
        }
        if {"landmarks", "align"} <= chain.keys():
            return {**chain, "flow": Path(flow["path"])}, flow
    raise ShardError(
        f"There is no flow of clip {clip.clip_id} to draw.",
        hint=f"run `mer-prep flow {clip.corpus}` first",
    )
