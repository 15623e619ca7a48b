"""Small clips on disk, and stages that need no face, shared by the tests."""

from __future__ import annotations

import os

# Tests run side by side; threads of PyTorch that wait for a core wait busily. Read at its import.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mer_prep.manifest import Clip, ImportRecord, make_clip_id
from mer_prep.manifest_files import write_manifest
from mer_prep.sources.frames import source_digest
from mer_prep.workspace import Workspace

MakeClip = Callable[..., Clip]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)


def write_frame(path: Path, value: int, size: tuple[int, int] = (24, 16)) -> None:
    """Write a small grey gradient whose mean is near `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.linspace(-20, 20, size[0]) + value
    image = np.clip(np.tile(row, (size[1], 1)), 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def toy_clip(tmp_path: Path) -> MakeClip:
    """Return a maker of clips with PNG frames below ``tmp_path/source``."""

    def make(
        name: str = "EP01_01",
        *,
        corpus: str = "toy",
        subject: str = "sub01",
        numbers: Sequence[int] = (8, 9, 10, 11, 12),
        onset: int | None = 8,
        apex: int | None = 10,
        offset: int | None = 12,
        emotion: str = "happiness",
        shade: int = 100,
    ) -> Clip:
        root = tmp_path / "source"
        frames = []
        for number in numbers:
            relative = f"{subject}/{name}/img{number}.png"
            write_frame(root / relative, shade + number % 50)
            frames.append(relative)
        clip = Clip(
            clip_id=make_clip_id(corpus, subject, name),
            corpus=corpus,
            subject=subject,
            clip=name,
            root=str(root),
            frame_numbers=tuple(numbers),
            frames=tuple(frames),
            fps=200.0,
            onset=onset,
            apex=apex,
            offset=offset,
            apex_source=None if apex is None else "annotated",
            emotion=emotion,
            emotion_raw=emotion,
        )
        return Clip(**{**_fields(clip), "source_digest": source_digest(clip)})

    return make


def _fields(clip: Clip) -> dict[str, object]:
    return {name: getattr(clip, name) for name in Clip.__slots__}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return an empty workspace."""
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def imported(workspace: Workspace, toy_clip: MakeClip) -> Workspace:
    """Return a workspace with corpus ``toy``: 2 subjects, 3 and 1 clips."""
    clips = [
        toy_clip("EP01_01"),
        toy_clip("EP01_02", shade=60),
        toy_clip("EP02_01", shade=140, numbers=(98, 99, 100, 101), onset=98, apex=100, offset=101),
        toy_clip("EP01_01", subject="sub02", shade=90),
    ]
    store_manifest(workspace, clips)
    return workspace


def store_manifest(workspace: Workspace, clips: Sequence[Clip], corpus: str = "toy") -> None:
    """Write clips as the manifest of a corpus."""
    record = ImportRecord(corpus=corpus, source="clips", root=clips[0].root)
    write_manifest(workspace.manifests, clips, record)
