from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import openpyxl
import pytest
import xlwt
from corpus_trees import clip_named, codes, only, write_frame, write_tree

from mer_prep.errors import AnnotationError, ManifestError
from mer_prep.manifest import emotion_counts
from mer_prep.sources.corpus import erratum_names, import_corpus
from mer_prep.sources.facts import corpus_facts
from mer_prep.synth.layouts import PlannedClip

CLIPS = (
    PlannedClip(1, "EP01_5", "tense", "4+L10", 90, 130, 97, 100, 104),
    PlannedClip(1, "EP01_5", "disgust", "4", 131, 170, 141, 145, 149, second_apex=147),
    PlannedClip(3, "EP10", "surprise", "1+2", 1, 30, 12, 15, 19),
    PlannedClip(7, "EP12_2_10", "repression", "14", 50, 80, 61, 66, 70),
)

IDS = [
    "casme/sub01/EP01_5@97",
    "casme/sub01/EP01_5@141",
    "casme/sub03/EP10",
    "casme/sub07/EP12_2_10",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("casme", tmp_path / "casme", CLIPS)


def test_two_expressions_in_one_folder_are_two_clips(root):
    imported = import_corpus("casme", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    first, second = imported.clips[:2]
    both = (*range(97, 105), *range(141, 150))
    assert first.frame_numbers == second.frame_numbers == both
    assert first.source_digest == second.source_digest
    assert [clip.expression_span() for clip in (first, second)] == [(0, 8), (8, 17)]
    assert [(clip.onset, clip.apex, clip.offset) for clip in imported.clips] == [
        (97, 100, 104),
        (141, 145, 149),
        (12, 15, 19),
        (61, 66, 70),
    ]


def test_names_and_padding_of_the_frames(root):
    tree = "CASME_raw_selected"
    clips = import_corpus("casme", root).clips
    assert clips[0].frames[2:4] == (
        f"{tree}/sub01/EP01_5/EP01_5-99.jpg",
        f"{tree}/sub01/EP01_5/EP01_5-100.jpg",
    )
    assert clips[2].frames[0] == f"{tree}/sub03/EP10/img12.jpg"
    assert clips[3].frames[0] == f"{tree}/sub07/EP12_2_10/EP12_2_10-061.jpg"
    assert {(clip.fps, clip.variant, clip.restricted) for clip in clips} == {
        (60.0, "selected", True)
    }


def test_labels_and_findings(root):
    imported = import_corpus("casme", root)
    assert [clip.emotion for clip in imported.clips] == [clip.emotion for clip in CLIPS]
    assert [clip.action_units for clip in imported.clips] == [(4, 10), (4,), (1, 2), (14,)]
    assert codes(imported.record) == {
        ("info", "apex-second"): 1,
        ("warning", "annotation-version"): 1,
    }
    second = only(imported.record, "apex-second")
    assert (second.clip_id, second.where) == (IDS[1], "casme.xlsx, Sheet1 row 3")
    assert "147" in second.message
    assert imported.clips[1].flags == ("apex-second",)


def test_an_old_workbook_reads_alike(root):
    expected = import_corpus("casme", root).clips
    rows = list(openpyxl.load_workbook(root / "casme.xlsx")["Sheet1"].iter_rows(values_only=True))
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for y, row in enumerate(rows):
        for x, value in enumerate(row):
            if value is not None:
                sheet.write(y, x, value)
    (root / "casme.xlsx").unlink()
    book.save(str(root / "CASME.xls"))
    imported = import_corpus("casme", root)
    assert imported.clips == expected
    assert imported.record.annotations == str(root / "CASME.xls")


def test_both_sections_are_one_raw_tree(tmp_path):
    clips = [*CLIPS, PlannedClip(8, "EP02_1", "fear", "4", 40, 60, 45, 50, 55)]
    root = write_tree("casme", tmp_path / "c", clips, variant="raw")
    imported = import_corpus("casme", root)
    assert imported.record.variant == "raw"
    assert [clip.clip_id for clip in imported.clips] == [*IDS, "casme/sub08/EP02_1"]
    assert imported.clips[0].frames[0] == "RAW/CASME_A/Section A/sub01/EP01_5/EP01_5-90.jpg"
    assert imported.clips[4].frames[0] == "RAW/CASME_B/Section B/sub08/EP02_1/EP02_1-040.jpg"
    assert imported.clips[4].expression_span() == (5, 16)


def test_crops_carry_their_prefix_and_come_last(root):
    write_tree("casme", root, CLIPS, variant="cropped", quirks=False, annotations=False)
    assert import_corpus("casme", root).record.variant == "selected"
    cropped = import_corpus("casme", root, variant="cropped")
    assert cropped.clips[0].frames[0] == "Cropped/sub01/EP01_5/reg_EP01_5-97.jpg"
    assert cropped.clips[2].frames[0] == "Cropped/sub03/EP10/reg_EP10-12.jpg"


ERRATA = (
    PlannedClip(3, "EP07_1", "tense", "4", 90, 150, 104, 110, 115),
    PlannedClip(3, "EP09_3", "tense", "4", 95, 125, 99, 110, 118),
    PlannedClip(3, "EP09_4", "tense", "4", 50, 80, 57, 65, 74),
    PlannedClip(6, "EP02_5", "tense", "4", 10, 42, 30, 33, 38),
    PlannedClip(6, "EP02_5", "tense", "4", 43, 80, 60, 63, 68),
    PlannedClip(13, "EP08_5", "tense", "4", 120, 150, 130, 135, 141),
)


def test_errata_are_applied_each_by_name_or_not_at_all(tmp_path):
    root = write_tree("casme", tmp_path / "c", ERRATA, variant="raw", quirks=False)
    imported = import_corpus("casme", root)
    assert {c.clip_id: (c.onset, c.apex, c.offset) for c in imported.clips} == {
        "casme/sub03/EP07_1": (104, 110, 115),
        "casme/sub03/EP09_3": (101, 110, 119),
        "casme/sub03/EP09_4": (57, 65, 74),
        # The first of the two alone.
        "casme/sub06/EP02_5@30": (30, 33, 40),
        "casme/sub06/EP02_5@60": (60, 63, 68),
        "casme/sub13/EP08_5": (130, 135, 142),
    }
    # EP09_4 is right as it is, so nothing was applied to it.
    assert imported.record.errata == (
        "casme-03-EP07_1-frames@1",
        "casme-03-EP09_3-frames@1",
        "casme-06-EP02_5-offset@1",
        "casme-13-EP08_5-offset@1",
    )
    flagged = only(imported.record, "erratum-flagged")
    assert (flagged.level, flagged.where) == ("warning", "casme.xlsx, Sheet1 row 2")
    plain = import_corpus("casme", root, errata=False)
    assert [c.offset for c in plain.clips] == [clip.offset for clip in ERRATA]
    one = import_corpus("casme", root, errata=["casme-13-EP08_5-offset"])
    assert [c.offset for c in one.clips] == [115, 118, 74, 38, 68, 142]
    assert len(erratum_names("casme")) == 5


def test_the_published_counts_are_consistent_and_recognised(tmp_path):
    version = corpus_facts("casme").versions["189"]
    assert sum(version.emotions.values()) == sum(version.per_subject.values()) == 189
    assert len(version.per_subject) == version.subjects
    emotions = [name for name, count in version.emotions.items() for _ in range(count)]
    clips = [
        PlannedClip(1, f"EP01_{n}", emotion, "4", 1, 1, 1, 1, 1)
        for n, emotion in enumerate(emotions)
    ]
    root = write_tree("casme", tmp_path / "c", clips, quirks=False)
    imported = import_corpus("casme", root)
    assert imported.record.annotation_version == "189"
    assert emotion_counts(imported.clips) == dict(version.emotions)


def test_casme_and_casme2_are_told_apart(tmp_path, root):
    clip = dataclasses.replace(CLIPS[3], subject=2)
    casme2 = write_tree("casme2", tmp_path / "casme2", [clip], quirks=False)
    with pytest.raises(ManifestError, match=r"not CASME: it looks like CASME II \(1 clip"):
        import_corpus("casme", casme2)
    # The folder of frames without the clip's name is not taken for CASME II either.
    with pytest.raises(ManifestError, match=r"not CASME II: it looks like CASME \("):
        import_corpus("casme2", root)
    workbook = casme2 / "CASME2-coding-20140508.xlsx"
    with pytest.raises(AnnotationError, match="lacks the columns 'OnsetF', 'ApexF1'"):
        import_corpus("casme", root, annotations=workbook)


def test_folders_with_plain_frame_names_need_the_corpus_named_above_them(tmp_path):
    root = write_tree("casme", tmp_path / "c", CLIPS[2:3], quirks=False)
    assert [clip.clip for clip in import_corpus("casme", root).clips] == ["EP10"]
    (root / "CASME_raw_selected").rename(root / "selected")
    with pytest.raises(ManifestError, match="looks like CASME II"):
        import_corpus("casme", root)


def test_a_side_by_side_casme2_workbook_is_not_taken(root, tmp_path):
    shutil.move(root / "casme.xlsx", root / "coding.xlsx")
    write_frame(root / "CASME2_RAW/sub01/EP02_01f/img1.jpg", 1)
    book = openpyxl.Workbook()
    book.active.append(["Subject", "Filename"])
    book.save(root / "CASME2-coding-20140508.xlsx")
    imported = import_corpus("casme", root)
    assert imported.record.annotations == str(root / "coding.xlsx")
    assert clip_named(imported, IDS[0]).onset == 97
