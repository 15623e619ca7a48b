"""The memory of one worker for a clip of any length: landmarks, alignment, consecutive flow.

``python -m benchmarks.memory --frames 5000`` prints the peak of this process as JSON. A clip of
many frames is made from four pictures, shown again and again, so that it takes no disk.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import cv2
import numpy as np

from benchmarks.processes import peak_bytes
from mer_prep.manifest import Clip, ImportRecord, write_manifest
from mer_prep.sources.frames import ClipFrames, source_digest
from mer_prep.stages import all_stages
from mer_prep.stages.base import Arrays, Stage, StageOutput, build_stages
from mer_prep.stages.landmarks import Landmarks
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.synth.portraits import load_portrait, portrait_names
from mer_prep.videos import write_video
from mer_prep.workspace import Workspace

PICTURES = 4


@dataclass(frozen=True)
class KnownParams:
    width: int = 320


class KnownLandmarks(Stage):
    """The portrait's own landmarks in every frame, at no cost."""

    name = "landmarks"
    version = 1
    reads_frames = True
    fields = Landmarks.fields[:3:2]
    Params = KnownParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        count = sum(1 for _ in frames)
        _, points = portrait(self.params.width)
        return StageOutput(
            {
                "landmarks": np.repeat(points[None].astype(np.float32), count, axis=0),
                "detected": np.ones(count, bool),
            }
        )


def portrait(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a portrait of a width, RGB, and its landmarks (68, 2)."""
    whole = load_portrait(portrait_names()[0])
    scale = width / whole.image.shape[1]
    image = cv2.resize(whole.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image, (whole.landmarks + 0.5) * scale - 0.5


def pictures(width: int) -> list[np.ndarray]:
    """Return the pictures, which differ by a shift of up to a pixel."""
    image, _ = portrait(width)
    shifts = [np.array([[1, 0, k / 3], [0, 1, k / 5]]) for k in range(PICTURES)]
    size = image.shape[1::-1]
    return [cv2.warpAffine(image, s, size, borderMode=cv2.BORDER_REPLICATE) for s in shifts]


def make_clip(folder: Path, count: int, *, width: int, late: bool, video: bool) -> Clip:
    """Return a clip of `count` frames; with `late` its onset is the last but one."""
    images = pictures(width)
    names = [f"img{k}.jpg" for k in range(PICTURES)]
    for name, image in zip(names, images, strict=True):
        cv2.imwrite(str(folder / name), image[..., ::-1])
    if video:
        write_video(folder / "film.avi", (images[k % PICTURES] for k in range(count)), fps=100)
    clip = Clip(
        clip_id="long/s1/clip",
        corpus="long",
        subject="s1",
        clip="clip",
        root=str(folder),
        frame_numbers=tuple(range(count)),
        frames=() if video else tuple(names[k % PICTURES] for k in range(count)),
        video="film.avi" if video else None,
        onset=count - 2 if late else 0,
        offset=count - 1,
    )
    return dataclasses.replace(clip, source_digest=source_digest(clip))


@contextmanager
def stages_with(landmarks: type[Stage]) -> Iterator[dict[str, type[Stage]]]:
    """Let the runner have a landmark stage of this module."""
    kinds = {**all_stages(), "landmarks": landmarks}
    with mock.patch("mer_prep.stages.worker.all_stages", return_value=kinds):
        yield kinds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--width", type=int, default=320, help="of the source pictures, in px")
    parser.add_argument("--size", type=int, default=144, help="of the aligned frames, in px")
    parser.add_argument("--stage", default="flow", help="the last stage, one that needs the flow")
    parser.add_argument("--mode", default="stabilized", help="align.mode")
    parser.add_argument("--pairs", default="consecutive", help="flow.pairs")
    parser.add_argument("--late", action="store_true", help="the onset at the end of the clip")
    parser.add_argument("--video", action="store_true", help="frames from a video file")
    parser.add_argument("--dlib", action="store_true", help="landmarks by dlib")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        stages_with(Landmarks if options.dlib else KnownLandmarks) as kinds,
    ):
        clip = make_clip(
            Path(folder),
            options.frames,
            width=options.width,
            late=options.late,
            video=options.video,
        )
        workspace = Workspace(Path(folder) / "workspace")
        record = ImportRecord(corpus="long", source="clips", root=folder)
        write_manifest(workspace.manifests, [clip], record)
        settings = {
            "source": {"frames": "all"},
            "landmarks": {} if options.dlib else {"width": options.width},
            "align": {"size": options.size, "mode": options.mode},
            "flow": {"pairs": options.pairs},
        }
        recipe = Recipe(*build_stages(kinds, (options.stage,), settings))
        started = time.monotonic()
        summary = Runner(workspace, recipe, on_error="raise").run(
            make_plan(workspace, ["long"], recipe)
        )
        facts = {
            "frames": options.frames,
            "published": summary.published,
            "decoded": summary.decoded,
            "seconds": round(time.monotonic() - started, 1),
            "peak_mib": round(peak_bytes() / 2**20, 1),
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
