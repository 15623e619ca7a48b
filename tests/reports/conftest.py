from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from mer_prep.manifest import Clip, Finding, ImportRecord, make_clip_id, write_manifest
from mer_prep.reports.qc import QcSummary, write_qc
from mer_prep.sources.frames import source_digest
from mer_prep.store.shard import Failure
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.reports.prepared import prepare

STAGES = ("flow", "strain", "apex", "dynamic-image")

FAILED = "toy/sub02/EP01_01"
LEFT_OUT = "toy/sub02/EP01_02"
WARNED = "toy/sub01/EP01_02"
NOTICED = "toy/sub01/EP02_01"

#: Subject, clip, grey value, apex, emotion; frames 8 to 12, onset 8, offset 12.
CLIPS = (
    ("sub01", "EP01_01", 100, 10, "happiness"),
    ("sub01", "EP01_02", 60, 10, "disgust"),
    ("sub01", "EP02_01", 140, None, "disgust"),
    ("sub02", "EP01_01", 90, 10, "happiness"),
    ("sub02", "EP01_02", 80, 10, "surprise"),
    ("sub02", "EP02_01", 120, 10, "surprise"),
)


def import_toy(workspace: Workspace, root: Path, **changes: object) -> None:
    """Write the manifest of corpus ``toy``: 2 subjects with 3 clips each."""
    clips = []
    for subject, name, _, apex, emotion in CLIPS:
        clip = Clip(
            clip_id=make_clip_id("toy", subject, name),
            corpus="toy",
            subject=subject,
            clip=name,
            root=str(root),
            frame_numbers=tuple(range(8, 13)),
            frames=tuple(f"{subject}/{name}/img{number}.png" for number in range(8, 13)),
            fps=200.0,
            onset=8,
            apex=apex,
            offset=12,
            apex_source=None if apex is None else "annotated",
            emotion=emotion,
            emotion_raw=emotion,
            **changes,
        )
        clips.append(dataclasses.replace(clip, source_digest=source_digest(clip)))
    findings = (
        Finding("warning", "frames-missing", "One frame <is> missing.", NOTICED),
        Finding("info", "version", "Nothing of note.", "toy/sub01/EP01_01"),
    )
    record = ImportRecord(corpus="toy", source="clips", root=str(root), findings=findings)
    write_manifest(workspace.manifests, clips, record)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace with results: one clip failed, one was left out, one has a warning.

    It is shared by all tests, which only look at it.
    """
    folder = tmp_path_factory.mktemp("qc")
    for subject, name, shade, _, _ in CLIPS:
        for number in range(8, 13):
            path = folder / "source" / subject / name / f"img{number}.png"
            write_frame(path, shade + number)
    workspace = Workspace(folder / "workspace")
    import_toy(workspace, folder / "source")
    failures = {
        FAILED: Failure(FAILED, "landmarks", "NoFaceError", "No face was found.\n  where: x"),
        LEFT_OUT: Failure(LEFT_OUT, "flow", "NotAnnotatedError", "No annotated apex."),
    }
    prepare(
        workspace,
        "toy",
        STAGES,
        failures=failures,
        warnings=lambda stage, clip: (
            ["The head turns."] if (stage, clip.clip_id) == ("align", WARNED) else []
        ),
    )
    return workspace


@pytest.fixture(scope="session")
def page(finished: Workspace) -> tuple[QcSummary, str]:
    """Return what became of its page, and the page."""
    summary = write_qc(finished, "toy", finished.reports)
    return summary, summary.path.read_text(encoding="utf-8")


@pytest.fixture
def corpus(finished: Workspace, tmp_path: Path) -> Workspace:
    """Return a workspace of the test's own with the corpus imported, and frames of its own."""
    shutil.copytree(finished.root.parent / "source", tmp_path / "source")
    workspace = Workspace(tmp_path / "workspace")
    import_toy(workspace, tmp_path / "source")
    return workspace


@pytest.fixture
def prepared(finished: Workspace, corpus: Workspace) -> Workspace:
    """Return the same with the results of `finished`."""
    shutil.copytree(finished.cache, corpus.cache)
    return corpus
