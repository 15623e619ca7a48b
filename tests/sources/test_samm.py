from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_tree

from mer_prep.errors import AnnotationError, ManifestError
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.frames import ClipFrames
from mer_prep.synth.layouts import PlannedClip

WORKBOOK = "SAMM_Micro_FACS_Codes_v2.xlsx"

CLIPS = (
    PlannedClip(6, "006_1_2", "anger", "(R6 or R12)+R15", 5550, 5580, 5562, 5565, 5570, 2),
    PlannedClip(9, "009_2_1", "others", "10A/B", 3570, 3600, 3577, 3580, 3585, 7),
    PlannedClip(13, "013_1_10", "surprise", "R14+17+soft focus", 990, 1010, 996, 1000, 1004, 7),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("samm", tmp_path / "samm", CLIPS)


def edit(path: Path, changes: dict[str, object]) -> None:
    book = openpyxl.load_workbook(path)
    for cell, value in changes.items():
        book.worksheets[0][cell] = value
    book.save(path)


def test_reads_every_clip_as_annotated(root):
    imported = import_corpus("samm", root)
    assert [clip.clip_id for clip in imported.clips] == [
        "samm/006/006_1_2",
        "samm/009/009_2_1",
        "samm/013/013_1_10",
    ]
    first, second, third = imported.clips
    assert first.frames[0] == "SAMM/006/006_1_2/006_05562.jpg"
    assert second.frames[0] == "SAMM/009/009_2_1/009_3577.jpg"
    assert third.frame_numbers == tuple(range(996, 1005))
    assert (first.onset, first.apex, first.offset) == (5562, 5565, 5570)
    assert [clip.action_units for clip in imported.clips] == [(6, 12, 15), (10,), (14, 17)]
    assert [clip.objective_class for clip in imported.clips] == [2, 7, 7]
    assert (second.emotion, second.emotion_raw) == ("others", "Other")
    assert (first.emotion, first.fps, first.variant) == ("anger", 200.0, "official")
    assert all(clip.restricted for clip in imported.clips)
    assert codes(imported.record) == {("warning", "annotation-version"): 1}


def test_grey_frames_give_three_equal_channels(root):
    image = ClipFrames(import_corpus("samm", root).clips[0], 0, 1)[0]
    assert image.shape == (80, 64, 3)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 1] == image[..., 2]).all()


@pytest.mark.parametrize("quirks", [True, False])
def test_header_on_row_14_and_on_row_1(tmp_path, quirks):
    root = write_tree("samm", tmp_path / "s", CLIPS, quirks=quirks)
    header = 14 if quirks else 1
    sheet = openpyxl.load_workbook(root / WORKBOOK).worksheets[0]
    assert sheet.cell(header, 1).value.strip() == "Subject"
    assert [clip.onset for clip in import_corpus("samm", root).clips] == [5562, 3577, 996]


def test_a_copy_of_the_workbook_among_the_frames_is_no_news(root):
    assert (root / "SAMM" / WORKBOOK).is_file()
    record = import_corpus("samm", root).record
    assert record.annotations == str(root / WORKBOOK)
    (root / WORKBOOK).unlink()
    assert import_corpus("samm", root).record.annotations == str(root / "SAMM" / WORKBOOK)


def test_offset_typo_is_corrected_by_its_erratum_and_seen_without(tmp_path):
    clips = [PlannedClip(13, "013_1_9", "happiness", "12", 5650, 5745, 5658, 5700, 5739, 6)]
    root = write_tree("samm", tmp_path / "s", clips)
    assert import_corpus("samm", root).record.errata == ()
    edit(root / WORKBOOK, {"F15": 5793})
    imported = import_corpus("samm", root)
    assert imported.clips[0].offset == 5739
    assert imported.record.errata == ("samm-013_1_9-offset@1",)
    assert only(imported.record, "erratum-applied").message.startswith("offset 5793 -> 5739: ")
    assert ("warning", "duration-mismatch") not in codes(imported.record)
    plain = import_corpus("samm", root, errata=False)
    assert plain.clips[0].offset == 5793
    mismatch = only(plain.record, "duration-mismatch")
    assert mismatch.message == "Onset 5658 to offset 5793 are 136 frames; the row says 82."
    assert mismatch.where == f"{WORKBOOK}, MICRO_ONLY!G15"
    assert only(plain.record, "frames-missing").clip_id == "samm/013/013_1_9"


def test_apex_outside_is_taken_as_unknown_and_flagged(tmp_path):
    clips = [PlannedClip(28, "028_4_1", "anger", "4", 100, 120, 102, 119, 110, 2)]
    imported = import_corpus("samm", write_tree("samm", tmp_path / "s", clips))
    clip = imported.clips[0]
    assert (clip.apex, clip.apex_source) == (None, None)
    assert clip.flags == ("apex-outside", "erratum-flagged")


def test_unpadded_folders_and_frames_without_prefix(root):
    folder = root / "SAMM/006/006_1_2"
    for path in sorted(folder.glob("006_*.jpg")):
        path.rename(folder / f"{int(path.stem.split('_')[1])}.jpg")
    folder.rename(root / "SAMM/006/6_1_2")
    (root / "SAMM/006").rename(root / "SAMM/6")
    clip = import_corpus("samm", root).clips[0]
    assert clip.clip_id == "samm/006/006_1_2"
    assert clip.frames[0] == "SAMM/6/6_1_2/5562.jpg"


def test_crops_are_the_second_choice(root):
    shutil.copytree(root / "SAMM", root / "SAMM_CROP")
    imported = import_corpus("samm", root)
    assert imported.record.variant == "official"
    assert only(imported.record, "tree-chosen").level == "info"
    cropped = import_corpus("samm", root, variant="cropped")
    assert cropped.clips[0].frames[0] == "SAMM_CROP/006/006_1_2/006_05562.jpg"


def test_a_clip_in_another_subjects_folder(root):
    (root / "SAMM/006/006_1_2").rename(root / "SAMM/009/006_1_2")
    imported = import_corpus("samm", root)
    assert imported.clips[0].subject == "006"
    assert only(imported.record, "folder-misplaced").where == "SAMM/009/006_1_2"


def test_a_row_with_another_subjects_clip_is_left_out(root):
    edit(root / WORKBOOK, {"A15": "007"})
    imported = import_corpus("samm", root)
    assert len(imported.clips) == 2
    assert only(imported.record, "row-unreadable").where == f"{WORKBOOK}, MICRO_ONLY!B15"


def test_wrong_corpus_and_wrong_table(tmp_path, root):
    casme2 = write_tree(
        "casme2",
        tmp_path / "casme2",
        [PlannedClip(1, "EP02_01f", "happiness", "6+12", 1, 9, 2, 4, 8)],
    )
    with pytest.raises(ManifestError, match="not SAMM: it looks like CASME II"):
        import_corpus("samm", casme2)
    with pytest.raises(AnnotationError, match="clips are named as those of CASME II"):
        import_corpus("samm", root, annotations=casme2 / "CASME2-coding-20140508.xlsx")


def test_missing_frames_are_counted(tmp_path):
    clips = [dataclasses.replace(CLIPS[0], missing=(5564, 5567)), *CLIPS[1:]]
    imported = import_corpus("samm", write_tree("samm", tmp_path / "s", clips))
    clip = clip_named(imported, "samm/006/006_1_2")
    assert clip.position(5565) == 2
    assert only(imported.record, "frames-missing").message == (
        "2 of 9 frames from onset to offset are missing: 5564, 5567. None is made up."
    )


def test_two_spellings_of_one_clip_are_one_clip(tmp_path):
    from mer_prep.sources.expressions import Expression, expression_ids

    rows = [
        Expression((6, 1, 2), 6, "006", name, 10, None, 20, "Anger", where=f"row {k}")
        for k, name in enumerate(("006_1_2", "6_1_2"))
    ]
    with pytest.raises(ManifestError, match="006/006_1_2 and 006/6_1_2, onset 10") as caught:
        expression_ids("samm", rows)
    assert "row 0 and row 1" in str(caught.value)
