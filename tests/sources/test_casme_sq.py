from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_frame, write_tree

from mer_prep.errors import AnnotationError, ConfigError, ManifestError
from mer_prep.manifest_files import clip_from_json, clip_to_json
from mer_prep.sources.casme_sq import CONTEXT_SECONDS, published_rules
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.facts import corpus_facts, recognise_version
from mer_prep.sources.validation import expected_findings, validate_clips
from mer_prep.synth.layouts import PlannedClip

WORKBOOK = "CAS(ME)^2code_final.xlsx"
CODES = "CASFEcode_final"

CLIPS = (
    PlannedClip(15, "disgust1_1", "negative", "4", 950, 1010, 996, 999, 1001, self_report="pain"),
    PlannedClip(
        15,
        "disgust1_2",
        "negative",
        "4+9",
        *(1011, 1120, 1050, 1070, 1095),
        expression_type="macro",
        self_report="disgust",
    ),
    PlannedClip(19, "happy1_1", "positive", "12", 1, 40, 20, 24, 29, self_report="fear"),
    PlannedClip(23, "happy1_1", "surprise", "1+2", 1, 30, 8, 10, 14, self_report="surprise"),
)

IDS = [
    "casme_sq/s15/disgust1_1",
    "casme_sq/s15/disgust1_2",
    "casme_sq/s19/happy1_1",
    "casme_sq/s23/happy1_1",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("casme_sq", tmp_path / "casme_sq", CLIPS)


def edit(root: Path, changes: dict[str, object], sheet: str = CODES) -> None:
    book = openpyxl.load_workbook(root / WORKBOOK)
    for cell, value in changes.items():
        book[sheet][cell] = value
    book.save(root / WORKBOOK)


def test_recordings_are_found_by_the_naming_rules(root):
    imported = import_corpus("casme_sq", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert [clip.expression_type for clip in imported.clips] == ["micro", "macro", "micro", "micro"]
    assert [clip.emotion for clip in imported.clips] == [clip.emotion for clip in CLIPS]
    keys = [(clip.onset, clip.apex, clip.offset) for clip in imported.clips]
    assert keys == [(clip.onset, clip.apex, clip.offset) for clip in CLIPS]
    clip = imported.clips[0]
    assert clip.frames[0] == "rawpic/s15/15_0101disgustingteeth/img966.jpg"
    assert clip.frames[34] == "rawpic/s15/15_0101disgustingteeth/img1000.jpg"
    assert imported.clips[2].frames[0] == "rawpic/s19/19_0502funnyerrors/img001.jpg"
    assert {(clip.fps, clip.variant) for clip in imported.clips} == {(30.0, "raw")}
    assert codes(imported.record) == {("warning", "annotation-version"): 1}


def test_a_second_of_the_recording_is_kept_on_either_side(root):
    clips = import_corpus("casme_sq", root).clips
    around = round(CONTEXT_SECONDS * 30)
    assert clips[0].frame_numbers == tuple(range(996 - around, 1001 + around + 1))
    assert clips[0].expression_span() == (around, around + 6)
    # Both expressions lie in one recording, whose frames they share where they meet.
    assert clips[1].frame_numbers == tuple(range(1050 - around, 1095 + 25 + 1))
    assert clips[2].frame_numbers == tuple(range(1, 41))


@pytest.mark.parametrize(("offset", "apex"), [(0, 999), (None, 999), ("/", 999)])
@pytest.mark.parametrize(("policy", "expected"), [(None, 999), ("apex", 999), ("mirror", 1002)])
def test_a_missing_offset_by_policy(root, offset, apex, policy, expected):
    edit(root, {"E1": offset})
    imported = import_corpus(
        "casme_sq", root, options={} if policy is None else {"missing-offset": policy}
    )
    clip = clip_named(imported, IDS[0])
    assert (clip.onset, clip.apex, clip.offset) == (996, apex, expected)
    finding = only(imported.record, "offset-missing")
    assert (finding.level, finding.where) == ("warning", f"{WORKBOOK}, {CODES} row 1")
    assert str(expected) in finding.message
    assert ("apex-on-boundary" in clip.flags) == (expected == apex)
    assert imported.record.options["missing-offset"] == (policy or "apex")


def test_a_missing_offset_may_drop_the_clip(root):
    edit(root, {"E1": 0})
    imported = import_corpus("casme_sq", root, options={"missing-offset": "drop"})
    assert [clip.clip_id for clip in imported.clips] == IDS[1:]
    assert only(imported.record, "offset-missing").level == "warning"


def test_neither_apex_nor_offset_is_an_error_of_that_clip(root):
    edit(root, {"D1": 0, "E1": 0})
    imported = import_corpus("casme_sq", root)
    clip = clip_named(imported, IDS[0])
    assert (clip.apex, clip.offset) == (None, None)
    assert only(imported.record, "offset-missing").level == "error"


def test_either_column_of_emotions(root):
    imported = import_corpus("casme_sq", root, options={"label": "self-report"})
    assert [clip.emotion for clip in imported.clips] == ["pain", "disgust", "fear", "surprise"]
    assert imported.record.options == {
        "missing-offset": "apex",
        "label": "self-report",
        "expressions": "all",
    }
    assert ("warning", "emotion-unknown") not in codes(imported.record)


@pytest.mark.parametrize(("kind", "ids"), [("micro", [IDS[0], *IDS[2:]]), ("macro", IDS[1:2])])
def test_one_kind_of_expression_alone(root, kind, ids):
    imported = import_corpus("casme_sq", root, options={"expressions": kind})
    assert [clip.clip_id for clip in imported.clips] == ids
    left = only(imported.record, "expressions-chosen")
    assert left.message.startswith(f"{4 - len(ids)} {'macro' if kind == 'micro' else 'micro'}")


def test_choices_are_checked(root):
    with pytest.raises(ConfigError, match="CASME leaves no choice of 'label'"):
        import_corpus("casme", root, options={"label": "estimated"})
    with pytest.raises(ConfigError, match=r"miror.*Did you mean 'mirror'"):
        import_corpus("casme_sq", root, options={"missing-offset": "miror"})


def test_a_recording_in_another_subjects_folder_is_believed_by_its_name(root):
    (root / "rawpic/s23/23_0502funnyerrors").rename(root / "rawpic/s19/23_0502funnyerrors")
    imported = import_corpus("casme_sq", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert imported.clips[3].frames[0] == "rawpic/s19/23_0502funnyerrors/img001.jpg"
    assert imported.clips[2].frames[0] == "rawpic/s19/19_0502funnyerrors/img001.jpg"
    misplaced = only(imported.record, "folder-misplaced")
    assert misplaced.where == "rawpic/s19/23_0502funnyerrors"


def test_crops_lie_by_participant(root):
    write_tree("casme_sq", root, CLIPS, variant="cropped", quirks=False, annotations=False)
    assert import_corpus("casme_sq", root).record.variant == "raw"
    cropped = import_corpus("casme_sq", root, variant="cropped")
    assert [clip.clip_id for clip in cropped.clips] == IDS
    assert [clip.frames[0] for clip in cropped.clips] == [
        "cropped/1/disgust1_1/img996.jpg",
        "cropped/1/disgust1_2/img1050.jpg",
        "cropped/3/happy1_1/img20.jpg",
        "cropped/7/happy1_1/img8.jpg",
    ]
    assert cropped.clips[0].frame_numbers == tuple(range(996, 1002))


def test_the_selection_and_a_root_that_is_the_tree(tmp_path):
    root = write_tree("casme_sq", tmp_path / "c", CLIPS, variant="selected")
    imported = import_corpus("casme_sq", root)
    assert imported.record.variant == "selected"
    assert imported.clips[0].frame_numbers == tuple(range(996, 1002))
    inside = import_corpus("casme_sq", root / "selectedpic")
    assert inside.record.annotations == str(root / WORKBOOK)
    assert [clip.clip_id for clip in inside.clips] == IDS


def test_either_name_of_the_sheet_and_a_row_of_headings(tmp_path):
    root = write_tree("casme_sq", tmp_path / "c", CLIPS, quirks=False)
    plain = import_corpus("casme_sq", root)
    book = openpyxl.load_workbook(root / WORKBOOK)
    assert book.sheetnames == ["CASMEcode_final", "naming rule1", "naming rule2"]
    assert book.worksheets[0]["A1"].value == 1
    book.worksheets[0].insert_rows(1)
    book.worksheets[0]["B1"] = "name"
    book.save(root / "code_final.xlsx")
    (root / WORKBOOK).unlink()
    assert import_corpus("casme_sq", root).clips == plain.clips


def test_the_codes_of_blinks_are_not_taken_for_the_codes(root):
    book = openpyxl.Workbook()
    book.save(root / "CAS(ME)^2blink-code.xlsx")
    assert import_corpus("casme_sq", root).record.annotations == str(root / WORKBOOK)
    with pytest.raises(AnnotationError, match="No sheet holds the codes"):
        import_corpus("casme_sq", root, annotations=root / "CAS(ME)^2blink-code.xlsx")


def test_naming_rules_of_the_workbook_win_and_are_reported(root):
    edit(root, {"A1": 102, "B1": "disgust1"}, "naming rule2")
    imported = import_corpus("casme_sq", root)
    differs = only(imported.record, "naming-rule-differs")
    assert differs.message == (
        "The workbook maps disgust1 to 0102, where 0101 is known; the workbook is believed."
    )
    missing = [f.clip_id for f in imported.record.findings if f.code == "clip-folder-missing"]
    assert missing == IDS[:2]
    recording = only(imported.record, "recording-without-row")
    assert (recording.level, recording.where) == ("info", "rawpic/s15/15_0101disgustingteeth")


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("A1", 23),
        ("B1", "disgust"),
        ("C1", "?"),
        ("H1", "subtle"),
        ("F1", datetime.date(2020, 4, 9)),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_left_out(root, cell, value):
    edit(root, {cell: value})
    imported = import_corpus("casme_sq", root)
    assert [clip.clip_id for clip in imported.clips] == IDS[1:]
    refused = only(imported.record, "row-unreadable")
    assert (refused.level, refused.where) == ("error", f"{WORKBOOK}, {CODES}!{cell}")


def test_a_table_that_cannot_be_read_for_the_most_part_is_refused(root):
    edit(root, {"A1": 23, "A2": 24, "A3": "x"})
    with pytest.raises(AnnotationError, match="3 of 4 rows cannot be read"):
        import_corpus("casme_sq", root)


def test_an_expression_beyond_its_recording_is_left_out(root):
    edit(root, {"C1": 5000, "D1": 5002, "E1": 5006})
    imported = import_corpus("casme_sq", root)
    assert [clip.clip_id for clip in imported.clips] == IDS[1:]
    assert only(imported.record, "clip-not-on-disk").clip_id == IDS[0]


def test_macro_expressions_may_be_long(root):
    clips = import_corpus("casme_sq", root).clips
    assert {f.code for f in validate_clips(clips)} == {"clip-short"}
    as_micro = [dataclasses.replace(clip, expression_type="micro") for clip in clips]
    assert [f.clip_id for f in validate_clips(as_micro) if f.code == "clip-long"] == [IDS[1]]


def test_the_kind_is_kept_in_manifests_that_need_not_have_it(root):
    clip = import_corpus("casme_sq", root).clips[1]
    line = clip_to_json(clip)
    assert clip_from_json(line, where="x") == clip
    without = line.replace(', "expression_type": "macro"', "")
    assert without != line
    assert clip_from_json(without, where="x").expression_type == "micro"
    with pytest.raises(ManifestError, match="'subtle', not micro or macro"):
        clip_from_json(line.replace('"macro"', '"subtle"'), where="x")


def test_the_full_annotation_is_known_by_its_micro_and_macro_expressions(root):
    facts = corpus_facts("casme_sq")
    labels = [(15, f"disgust1_{n}", "negative") for n in range(357)]
    types = ["micro"] * 57 + ["macro"] * 300
    assert recognise_version(facts, labels, types=types) == ("final", [])
    version, (finding,) = recognise_version(facts, labels[1:], types=types[1:])
    assert version == "unknown"
    assert "final: micro 56 instead of 57" in finding.message
    imported = import_corpus("casme_sq", root, options={"expressions": "macro"})
    record = dataclasses.replace(imported.record, annotation_version="final")
    messages = [finding.message for finding in expected_findings(imported.clips, record)]
    assert messages == [
        "300 clips are published, 1 were found (CAS(ME)^2, final).",
        "Clips per expression type differ from the published ones: macro 1 instead of 300 "
        "(CAS(ME)^2, final).",
    ]


def test_the_published_rules_are_complete():
    rules = published_rules(corpus_facts("casme_sq"))
    assert list(rules.subjects) == list(range(1, 23))
    assert list(rules.subjects.values()) == [15, 16, *range(19, 28), *range(29, 39), 40]
    assert len(set(rules.videos.values())) == 9
    assert rules.videos["happy5"] == "0508"


def test_videos_alone_are_refused_with_a_hint(tmp_path):
    (tmp_path / "rawvideo/s15").mkdir(parents=True)
    (tmp_path / "rawvideo/s15/15_0101disgustingteeth.avi").write_bytes(b"RIFF")
    with pytest.raises(ManifestError, match=r"No clip folder of CAS\(ME\)\^2") as caught:
        import_corpus("casme_sq", tmp_path)
    assert "extracted frames" in caught.value.hint
    write_frame(tmp_path / "frames/sub01/EP02_01f/img1.jpg", 1)
    with pytest.raises(ManifestError, match="it looks like CASME II"):
        import_corpus("casme_sq", tmp_path)
