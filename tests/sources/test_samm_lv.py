from __future__ import annotations

import dataclasses
from pathlib import Path

import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_tree

from mer_prep.errors import AnnotationError, ManifestError
from mer_prep.manifest import Clip
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.validation import expected_findings
from mer_prep.synth.layouts import PlannedClip

WORKBOOK = "SAMM_LongVideos_V3_Release.xlsx"
SAMM = "SAMM_Micro_FACS_Codes_v2.xlsx"

CLIPS = (
    PlannedClip(6, "006_1_2", "anger", "4", 1, 40, 10, 14, 18, 3),
    PlannedClip(6, "006_1_3", "", "12", 41, 80, 50, 58, 70, expression_type="macro"),
    PlannedClip(7, "007_3_1", "others", "L14", 1, 40, 20, 25, 30, 7),
)

IDS = ["samm_lv/006/006_1_2", "samm_lv/006/006_1_3", "samm_lv/007/007_3_1"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("samm_lv", tmp_path / "samm_lv", CLIPS)


def edit(path: Path, changes: dict[str, object]) -> None:
    book = openpyxl.load_workbook(path)
    for cell, value in changes.items():
        book.worksheets[0][cell] = value
    book.save(path)


def test_reads_both_kinds_of_expression_with_the_emotions_of_samm(root):
    imported = import_corpus("samm_lv", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    keys = [(clip.onset, clip.apex, clip.offset) for clip in imported.clips]
    assert keys == [(clip.onset, clip.apex, clip.offset) for clip in CLIPS]
    assert [clip.expression_type for clip in imported.clips] == ["micro", "macro", "micro"]
    assert [clip.emotion for clip in imported.clips] == ["anger", None, "others"]
    assert [clip.emotion_raw for clip in imported.clips] == ["Anger", None, "Other"]
    assert [clip.objective_class for clip in imported.clips] == [3, None, 7]
    assert [clip.action_units for clip in imported.clips] == [(4,), (12,), (14,)]
    assert imported.clips[0].frames[9] == "SAMM_longvideos/006_1/006_1_0010.jpg"
    # Both expressions of the recording lie within a second of each other.
    assert imported.clips[0].frame_numbers == imported.clips[1].frame_numbers
    assert imported.clips[0].frame_numbers == tuple(range(1, 81))
    assert {(clip.fps, clip.variant) for clip in imported.clips} == {(200.0, "long")}
    assert codes(imported.record) == {
        ("warning", "annotation-version"): 1,
        ("warning", "type-other"): 1,
        ("info", "recording-without-row"): 1,
        ("info", "emotion-missing"): 1,
    }
    assert only(imported.record, "recording-without-row").where == "SAMM_longvideos/006_9"


def test_recordings_without_expressions_are_counted(root):
    (root / "SAMM_longvideos/007_8").mkdir()
    finding = only(import_corpus("samm_lv", root).record, "recording-without-row")
    assert finding.level == "info"
    assert finding.message == "No expression is annotated in 2 recordings; the first is named."


@pytest.mark.parametrize("quirks", [True, False])
def test_headings_on_row_10_and_on_row_1(tmp_path, quirks):
    root = write_tree("samm_lv", tmp_path / "s", CLIPS, quirks=quirks)
    sheet = openpyxl.load_workbook(root / WORKBOOK).worksheets[0]
    assert sheet.cell(10 if quirks else 1, 1).value == "Subject"
    assert [clip.onset for clip in import_corpus("samm_lv", root).clips] == [10, 50, 20]


def test_movements_of_another_type_are_counted_and_left_out(root):
    finding = only(import_corpus("samm_lv", root).record, "type-other")
    assert finding.message == ("1 movements are neither micro- nor macro-expressions; left out.")
    assert finding.where == f"{WORKBOOK}, FACS_Movement_Only!H14"


def test_apex_minus_one_offset_zero_and_macro_from_the_start_stay_with_flags(root):
    edit(root / WORKBOOK, {"E11": -1, "F12": 0, "G11": None, "G12": None})
    imported = import_corpus("samm_lv", root)
    first, second, third = imported.clips
    assert (first.onset, first.apex, first.offset) == (10, None, 18)
    assert first.flags == ("apex-missing",)
    assert (second.onset, second.apex, second.offset) == (50, 58, None)
    assert second.flags == ("offset-missing",)
    assert third.flags == ()
    assert not [item for item in imported.record.findings if item.level == "error"]


@pytest.mark.parametrize(
    ("onset", "expected", "flags"),
    [
        (0, None, ("onset-at-start", "onset-missing")),
        (1, 1, ("onset-at-start",)),
        (2, 2, ()),
    ],
)
def test_macro_expressions_of_the_whole_recording_can_be_told(root, onset, expected, flags):
    edit(root / WORKBOOK, {"D12": onset, "F12": 80, "G12": None})
    clip = clip_named(import_corpus("samm_lv", root), IDS[1])
    assert (clip.onset, clip.offset) == (expected, 80)
    assert clip.flags == flags
    assert clip.frame_numbers == tuple(range(1, 81))
    assert clip.expression_span() == ((expected or 1) - 1, 80)


def test_a_row_with_no_key_frame_at_all_spans_the_recording(root):
    edit(root / WORKBOOK, {"D12": 0, "E12": -1, "F12": 0})
    clip = clip_named(import_corpus("samm_lv", root), IDS[1])
    assert (clip.onset, clip.apex, clip.offset) == (None, None, None)
    assert set(clip.flags) == {
        *("onset-at-start", "onset-missing", "apex-missing", "offset-missing"),
    }


def test_a_micro_expression_and_a_macro_expression_may_share_a_name(root):
    edit(root / WORKBOOK, {"B12": "006_1_2"})
    imported = import_corpus("samm_lv", root)
    assert [clip.clip_id for clip in imported.clips] == [f"{IDS[0]}@10", f"{IDS[0]}@50", IDS[2]]
    # The emotion is that of the micro-expression alone.
    assert [clip.emotion for clip in imported.clips] == ["anger", None, "others"]


def test_duration_is_checked(root):
    edit(root / WORKBOOK, {"G11": 12})
    finding = only(import_corpus("samm_lv", root).record, "duration-mismatch")
    assert finding.message == "Onset 10 to offset 18 are 9 frames; the row says 12."
    assert finding.clip_id == IDS[0]


def test_without_samms_workbook_there_are_no_emotions(root):
    (root / SAMM).unlink()
    imported = import_corpus("samm_lv", root)
    assert [clip.emotion for clip in imported.clips] == [None] * 3
    assert SAMM in only(imported.record, "emotions-not-joined").message
    assert only(imported.record, "emotion-missing").message.startswith("3 of 3 clips")


def test_micro_expressions_that_samm_does_not_have_are_named(root):
    edit(root / SAMM, {"B15": "006_1_9"})
    imported = import_corpus("samm_lv", root)
    assert [clip.emotion for clip in imported.clips] == [None, None, "others"]
    assert "006_1_2" in only(imported.record, "emotions-unmatched").message


def test_one_kind_alone(root):
    micro = import_corpus("samm_lv", root, options={"expressions": "micro"})
    assert [clip.clip_id for clip in micro.clips] == [IDS[0], IDS[2]]
    macro = import_corpus("samm_lv", root, options={"expressions": "macro"})
    assert [clip.clip_id for clip in macro.clips] == [IDS[1]]


def test_published_counts_by_type(root):
    imported = import_corpus("samm_lv", root)
    clip = imported.clips[0]
    clips: list[Clip] = [
        dataclasses.replace(clip, expression_type=kind)
        for kind, count in (("micro", 159), ("macro", 343))
        for _ in range(count)
    ]
    record = dataclasses.replace(imported.record, annotation_version="long")
    (finding,) = expected_findings(clips, record)
    assert finding.code == "counts-agree"
    chosen = dataclasses.replace(record, options={"expressions": "micro"})
    (finding,) = expected_findings(clips[:159], chosen)
    assert finding.code == "counts-agree"
    assert {one.code for one in expected_findings(clips[1:], record)} == {
        "counts-clips",
        "counts-expression type",
    }


def test_rows_of_another_subject_and_other_corpora_are_refused(tmp_path, root):
    edit(root / WORKBOOK, {"A11": "007"})
    imported = import_corpus("samm_lv", root)
    assert [clip.clip_id for clip in imported.clips] == IDS[1:]
    assert only(imported.record, "row-unreadable").where == f"{WORKBOOK}, FACS_Movement_Only!B11"
    samm = write_tree("samm", tmp_path / "samm", [CLIPS[0]])
    with pytest.raises(ManifestError, match="not SAMM Long Videos: it looks like SAMM"):
        import_corpus("samm_lv", samm)
    with pytest.raises(ManifestError, match="not SAMM: it looks like SAMM Long Videos"):
        import_corpus("samm", root)
    (root / WORKBOOK).unlink()
    with pytest.raises(AnnotationError, match="SAMM_LongVideos_V3_Release"):
        import_corpus("samm_lv", root)


def test_two_rows_of_samm_that_differ_are_not_believed(root):
    book = openpyxl.load_workbook(root / SAMM)
    sheet = book.worksheets[0]
    row = [cell.value for cell in sheet[15]]
    emotion = [cell.value for cell in sheet[14]].index("Estimated Emotion")
    row[emotion] = "Happiness"
    sheet.append(row)
    book.save(root / SAMM)
    imported = import_corpus("samm_lv", root)
    assert [clip.emotion for clip in imported.clips] == [None, None, "others"]
    finding = only(imported.record, "row-repeated")
    assert finding.level == "error"
    assert "006_1_2" in finding.message
