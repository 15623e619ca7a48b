from __future__ import annotations

import shutil
from pathlib import Path

import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_frame, write_tree

from mer_prep.errors import ManifestError
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.facts import corpus_facts, recognise_version
from mer_prep.synth.layouts import PlannedClip

WORKBOOK = "MMEW_Final/MMEW_Micro_Exp.xlsx"
TREE = "MMEW_Final/Micro_Expression"

CLIPS = (
    PlannedClip(13, "S13-07-001", "anger", "4", 1, 12, 2, 6, 11),
    PlannedClip(3, "S03-01-002", "happiness", "6+12", 1, 9, 1, 4, 9),
    PlannedClip(3, "S03-06-001", "others", "17", 1, 8, 3, 5, 7),
)

IDS = ["mmew/S13/S13-07-001", "mmew/S03/S03-01-002", "mmew/S03/S03-06-001"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("mmew", tmp_path / "mmew", CLIPS)


def edit(root: Path, changes: dict[str, object]) -> None:
    book = openpyxl.load_workbook(root / WORKBOOK)
    for cell, value in changes.items():
        book["Sheet1"][cell] = value
    book.save(root / WORKBOOK)


@pytest.mark.parametrize(
    ("variant", "folder"),
    [("emotion-first", f"{TREE}/anger"), ("subject-first", f"{TREE}/S13/anger")],
)
def test_either_order_of_the_folders(tmp_path, variant, folder):
    root = write_tree("mmew", tmp_path / "m", CLIPS, variant=variant)
    imported = import_corpus("mmew", root)
    assert imported.record.variant == variant
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert imported.clips[0].frames == tuple(
        f"{folder}/S13-07-001/{number}.jpg" for number in range(1, 13)
    )
    assert imported.clips[0].frame_numbers == tuple(range(1, 13))
    assert imported.clips[0].expression_span() == (1, 11)
    assert [(c.onset, c.apex, c.offset) for c in imported.clips] == [
        (2, 6, 11),
        (1, 4, 9),
        (3, 5, 7),
    ]
    assert [clip.emotion for clip in imported.clips] == ["anger", "happiness", "others"]
    assert [clip.action_units for clip in imported.clips] == [(4,), (6, 12), (17,)]
    assert {clip.fps for clip in imported.clips} == {90.0}


def test_the_folder_of_the_seventh_class_has_two_names(root):
    record = import_corpus("mmew", root).record
    assert codes(record) == {("warning", "annotation-version"): 1, ("info", "folder-alias"): 1}
    assert only(record, "folder-alias").message == (
        "The folder 'repression' holds 1 clips that the workbook calls 'others'."
    )
    (root / TREE / "repression").rename(root / TREE / "others")
    assert codes(import_corpus("mmew", root).record) == {("warning", "annotation-version"): 1}


def test_another_emotion_in_the_folder_is_reported(root):
    edit(root, {"G2": "disgust"})
    imported = import_corpus("mmew", root)
    assert clip_named(imported, IDS[0]).emotion == "disgust"
    assert clip_named(imported, IDS[0]).flags == ("label-disagrees",)
    assert only(imported.record, "label-disagrees").where == "MMEW_Micro_Exp.xlsx, Sheet1 row 2"


def test_a_row_counted_from_the_start_of_the_recording_is_moved(root):
    edit(root, {"C3": 501, "D3": 504, "E3": 509})
    imported = import_corpus("mmew", root)
    clip = clip_named(imported, IDS[1])
    assert (clip.onset, clip.apex, clip.offset) == (1, 4, 9)
    finding = only(imported.record, "frames-rebased")
    assert (finding.level, finding.clip_id) == ("warning", IDS[1])
    assert finding.message == (
        "The row counts from the start of the recording; 500 frames are subtracted "
        "(onset 501 is file 1)."
    )


def test_a_row_that_does_not_fit_its_files_is_never_moved(root):
    edit(root, {"C3": 501, "D3": 504, "E3": 508})
    imported = import_corpus("mmew", root)
    assert clip_named(imported, IDS[1]).onset == 501
    found = codes(imported.record)
    assert found["error", "onset-not-on-disk"] == 1
    assert ("warning", "frames-rebased") not in found


def test_an_offset_beyond_the_files_is_only_reported(root):
    edit(root, {"E2": 14})
    imported = import_corpus("mmew", root)
    assert clip_named(imported, IDS[0]).offset == 14
    assert only(imported.record, "offset-not-on-disk").level == "warning"


def test_the_name_tells_the_subject(root):
    edit(root, {"A2": 3})
    record = import_corpus("mmew", root).record
    assert only(record, "row-unreadable").where == "MMEW_Micro_Exp.xlsx, Sheet1!B2"
    edit(root, {"A2": "S13"})
    assert import_corpus("mmew", root).clips[0].subject == "S13"


def test_a_clip_in_another_subjects_folder(tmp_path):
    root = write_tree("mmew", tmp_path / "m", CLIPS, variant="subject-first", quirks=False)
    (root / TREE / "S03/anger").mkdir()
    (root / TREE / "S13/anger/S13-07-001").rename(root / TREE / "S03/anger/S13-07-001")
    imported = import_corpus("mmew", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert only(imported.record, "folder-misplaced").where.endswith("S03/anger/S13-07-001")


def test_macro_expressions_are_passed_over(root):
    assert (root / "MMEW_Final/Macro_Expression/S13/anger/S13-07-001.jpg").is_file()
    folder = root / "MMEW_Final/Macro_Expression/S13/anger/S13-07-009"
    shutil.copytree(root / TREE / "anger/S13-07-001", folder)
    assert [clip.clip_id for clip in import_corpus("mmew", root).clips] == IDS


def test_the_published_counts_add_up():
    facts = corpus_facts("mmew")
    version = facts.versions["300"]
    assert sum(version.emotions.values()) == version.clips == 300
    emotions = [name for name, count in version.emotions.items() for _ in range(count)]
    labels = [(1, f"S01-01-{n}", emotion) for n, emotion in enumerate(emotions)]
    assert recognise_version(facts, labels) == ("300", [])


def test_another_corpus_and_a_single_folder(tmp_path, root):
    with pytest.raises(ManifestError, match="not SAMM: it looks like MMEW"):
        import_corpus("samm", root)
    write_frame(tmp_path / "x/006/006_1_2/006_05562.jpg", 5562)
    with pytest.raises(ManifestError, match="not MMEW: it looks like SAMM"):
        import_corpus("mmew", tmp_path / "x")
    one = import_corpus("mmew", root / TREE / "anger", annotations=root / WORKBOOK)
    assert [clip.clip_id for clip in one.clips] == IDS[:1]
    assert one.clips[0].frames[0] == "S13-07-001/1.jpg"
