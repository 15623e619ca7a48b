from __future__ import annotations

from pathlib import Path

import numpy as np
import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_frame, write_tree

from mer_prep.errors import ManifestError
from mer_prep.sources.corpus import erratum_names, import_corpus
from mer_prep.sources.facts import corpus_facts, recognise_version
from mer_prep.sources.four_dme import moving_action_units, split_emotions
from mer_prep.sources.frames import ClipFrames
from mer_prep.synth.layouts import PlannedClip

WORKBOOK = "4DME_Labelling_Micro_release v1.xlsx"

CLIPS = (
    PlannedClip(
        *(13, "S13_1st_001_02_1", "surprise", "4+L7", 1, 40, 9, 12, 16),
        further_emotions=("positive",),
    ),
    PlannedClip(13, "S13_2nd_004_01_2", "negative", "4", 1, 40, 20, 24, 30),
    PlannedClip(4, "S4_1st_002_01_1", "repression", "14", 1, 40, 98, 101, 104),
)

IDS = ["4dme/S13/S13_1st_001_02_1", "4dme/S13/S13_2nd_004_01_2", "4dme/S04/S4_1st_002_01_1"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("4dme", tmp_path / "4dme", CLIPS)


def edit(root: Path, changes: dict[str, object]) -> None:
    book = openpyxl.load_workbook(root / WORKBOOK)
    for cell, value in changes.items():
        book["Sheet1"][cell] = value
    book.save(root / WORKBOOK)


def test_reads_every_clip_as_annotated(root):
    imported = import_corpus("4dme", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    clip = imported.clips[2]
    assert clip.frames[1:3] == (
        "gray_micro/S04/S4_1st_002_01_1/99.jpg",
        "gray_micro/S04/S4_1st_002_01_1/100.jpg",
    )
    assert [(c.onset, c.apex, c.offset) for c in imported.clips] == [
        (9, 12, 16),
        (20, 24, 30),
        (98, 101, 104),
    ]
    assert {(c.fps, c.variant, c.restricted) for c in imported.clips} == {(60.0, "raw", True)}
    assert imported.record.annotations == str(root / WORKBOOK)
    (image, *_) = ClipFrames(clip, 0, 1)
    assert np.ptp(image, axis=2).max() == 0


def test_of_several_emotions_the_first_counts_and_all_are_kept(root):
    imported = import_corpus("4dme", root)
    assert [(clip.emotion, clip.emotion_raw) for clip in imported.clips] == [
        ("surprise", "Surprise+Positive"),
        ("negative", "Negative"),
        ("repression", "Repression"),
    ]
    assert [clip.flags for clip in imported.clips] == [("emotion-multiple",), (), ()]
    assert codes(imported.record) == {
        ("warning", "annotation-version"): 1,
        ("warning", "clip-without-row"): 1,
        ("info", "emotion-multiple"): 1,
    }
    orphan = only(imported.record, "clip-without-row")
    assert orphan.where == "gray_micro/S13/S13_1st_999_01_1"


def test_action_units_that_stay_are_left_out(root):
    clip = import_corpus("4dme", root).clips[0]
    assert clip.action_units_raw == "AU43(k)+4+L7"
    assert clip.action_units == (4, 7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AU4(k)+L7", (7,)),
        ("AU4 (K)+AU12", (12,)),
        ("AU14(k)+4", (4,)),
        ("AU4b(k)", ()),
        ("AU1+AU2", (1, 2)),
        ("", ()),
    ],
)
def test_moving_action_units(text, expected):
    assert moving_action_units(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Surprise+Positive", ("surprise", "positive")),
        (" Other , negative", ("others", "negative")),
        ("Positive+positive", ("positive",)),
        ("", ()),
        ("/", ()),
    ],
)
def test_split_emotions(text, expected):
    assert split_emotions(text) == expected


def test_text_and_columns_that_disagree_are_reported(root):
    header = [c.value for c in openpyxl.load_workbook(root / WORKBOOK)["Sheet1"][1]]
    assert header[7:10] == ["Positive", "Negative", "Surprise"]
    edit(root, {"H3": 1})
    imported = import_corpus("4dme", root)
    finding = only(imported.record, "label-disagrees")
    assert (finding.clip_id, finding.message) == (
        IDS[1],
        "The text says negative, the columns say positive, negative; the text is believed.",
    )
    assert clip_named(imported, IDS[1]).emotion == "negative"


def test_crops_and_long_videos(root):
    write_tree("4dme", root, CLIPS, variant="cropped", quirks=False, annotations=False)
    long = root / "long_gray_video/long gray video/S13/S13_1st_001_01_1"
    write_frame(long / "Frame_000001826.jpg", 1826)
    imported = import_corpus("4dme", root)
    assert imported.record.variant == "raw"
    assert only(imported.record, "long-videos").level == "info"
    cropped = import_corpus("4dme", root, variant="cropped")
    assert cropped.clips[0].frames[0] == "gray_micro_crop/S13/S13_1st_001_02_1/9.jpg"


def test_a_subject_that_is_not_the_clips(root):
    edit(root, {"A2": 4})
    imported = import_corpus("4dme", root)
    assert [clip.clip_id for clip in imported.clips] == IDS[1:]
    assert only(imported.record, "row-unreadable").where == f"{WORKBOOK}, Sheet1!B2"
    (root / "gray_micro/S04/S4_1st_002_01_1").rename(root / "gray_micro/S13/S4_1st_002_01_1")
    moved = import_corpus("4dme", root)
    assert clip_named(moved, IDS[2]).frames[0].startswith("gray_micro/S13/S4_1st")
    assert only(moved.record, "folder-misplaced").where == "gray_micro/S13/S4_1st_002_01_1"


def test_rows_of_the_full_release_whose_action_units_are_in_doubt(tmp_path):
    clips = [
        PlannedClip(1, f"S1_1st_{n:03d}_01_1", "negative", "4", 1, 1, 1, 1, 1) for n in range(267)
    ]
    root = write_tree("4dme", tmp_path / "full", clips, quirks=False)
    imported = import_corpus("4dme", root)
    assert imported.record.annotation_version == "v1"
    flagged = [c.clip for c in imported.clips if "erratum-flagged" in c.flags]
    assert flagged == ["S1_1st_144_01_1", "S1_1st_145_01_1"]
    assert imported.record.errata == tuple(f"{name}@1" for name in erratum_names("4dme"))
    book = openpyxl.load_workbook(root / WORKBOOK)
    book["Sheet1"].delete_rows(2)
    book.save(root / WORKBOOK)
    part = import_corpus("4dme", root).record
    assert (part.errata, part.annotation_version) == ((), "unknown")


def test_version_by_rows_alone():
    facts = corpus_facts("4dme")
    labels = [(1, f"S1_1st_{n:03d}_01_1", "negative") for n in range(260)]
    version, (finding,) = recognise_version(facts, labels)
    assert version == "unknown"
    assert "v1: rows 260 instead of 267" in finding.message


def test_another_corpus(root, tmp_path):
    with pytest.raises(ManifestError, match="not MMEW: it looks like 4DME"):
        import_corpus("mmew", root)
    write_frame(tmp_path / "x/s1/micro/negative/s1_ne_01/image1.bmp", 1)
    with pytest.raises(ManifestError, match="not 4DME: it looks like SMIC"):
        import_corpus("4dme", tmp_path / "x")
