from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_tree

from mer_prep.errors import AnnotationError, ManifestError
from mer_prep.sources.corpus import import_corpus
from mer_prep.synth.layouts import LAYOUTS, PlannedClip

CLIPS = (
    PlannedClip(1, "s1_ne_01", "negative", "", 9990, 10010, 9998, None, 10003, missing=(10000,)),
    PlannedClip(3, "s3_po_08", "positive", "", 61240, 61262, 61248, None, 61255),
    PlannedClip(20, "s20_sur_02", "surprise", "", 17581030, 17581050, 17581039, None, 17581046),
)

IDS = ["smic/s01/s1_ne_01", "smic/s03/s3_po_08", "smic/s20/s20_sur_02"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("smic", tmp_path / "smic", CLIPS)


def test_reads_every_clip_from_its_files(root):
    imported = import_corpus("smic", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    first, second, third = imported.clips
    assert first.frames[0] == "SMIC_all_raw/HS/s1/micro/negative/s1_ne_01/image009998.bmp"
    assert first.frame_numbers == (9998, 9999, 10001, 10002, 10003)
    assert second.frames[0].endswith("/image061248.bmp")
    assert third.frames[-1].endswith("/image17581046.bmp")
    assert [(clip.onset, clip.apex, clip.offset) for clip in imported.clips] == [
        (9998, None, 10003),
        (61248, None, 61255),
        (17581039, None, 17581046),
    ]
    assert [clip.emotion for clip in imported.clips] == ["negative", "positive", "surprise"]
    assert {(clip.fps, clip.variant, clip.restricted) for clip in imported.clips} == {
        (100.0, "HS", True)
    }
    assert imported.record.annotations is None
    assert imported.record.annotation_version == "HS"


def test_a_gap_is_flagged_and_nothing_made_up(root):
    imported = import_corpus("smic", root)
    assert codes(imported.record) == {("warning", "frames-missing"): 1}
    assert imported.clips[0].flags == ("frames-missing",)
    assert imported.clips[0].position(10001) == 2


def test_non_micro_clips_are_passed_over(root):
    assert list(root.glob("SMIC_all_raw/HS/s1/non_micro/*/*.bmp"))
    folder = root / "SMIC_all_raw/HS/s1/non_micro"
    shutil.copytree(root / "SMIC_all_raw/HS/s3/micro/positive/s3_po_08", folder / "s1_po_09")
    assert [clip.clip_id for clip in import_corpus("smic", root).clips] == IDS


def test_an_empty_clip_folder_is_an_error(root):
    empty = root / "SMIC_all_raw/HS/s18/micro/surprise/s18_sur_03"
    empty.mkdir(parents=True)
    imported = import_corpus("smic", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    finding = only(imported.record, "clip-empty")
    assert (finding.level, finding.clip_id) == ("error", "smic/s18/s18_sur_03")


@pytest.mark.parametrize(
    ("variant", "fps", "frame"),
    [
        ("VIS", 25.0, "SMIC_all_raw/VIS/s1/micro/negative/s1_ne_01/image009998.bmp"),
        ("NIR", 25.0, "SMIC_all_raw/NIR/s1/micro/negative/s1_ne_01/image009998.bmp"),
        ("HS-cropped", 100.0, "SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image009998.bmp"),
    ],
)
def test_the_other_variants(tmp_path, variant, fps, frame):
    imported = import_corpus("smic", write_tree("smic", tmp_path / "smic", CLIPS, variant=variant))
    assert imported.record.variant == variant
    assert (imported.clips[0].fps, imported.clips[0].frames[0]) == (fps, frame)


def test_of_several_cameras_hs_is_read_unless_asked(root):
    for variant in ("VIS", "NIR", "HS-cropped"):
        write_tree("smic", root, CLIPS, variant=variant)
    imported = import_corpus("smic", root)
    assert imported.record.variant == "HS"
    assert only(imported.record, "tree-chosen").message.startswith(
        "Read 'SMIC_all_raw/HS' (HS, 3 clips). Also there: 'SMIC_all_cropped/HS' (HS-cropped,"
    )
    assert import_corpus("smic", root, variant="NIR").record.variant == "NIR"


@pytest.mark.parametrize("spelling", ["s{0}_{1}_{2:02d}", "s{0:02d}_{1}_{2:02d}", "S{0}_{1}_{2}"])
def test_every_spelling_of_a_code_gives_one_id(root, spelling):
    for clip in CLIPS:
        subject, label, index = clip.clip.split("_")
        name = spelling.format(int(subject[1:]), label, int(index))
        folder = root / LAYOUTS["smic"].clip_folder(clip, "HS")
        if folder.name != name:
            folder.rename(folder.with_name(name))
    (root / "SMIC_all_raw/HS/s3").rename(root / "SMIC_all_raw/HS/s03")
    assert [clip.clip_id for clip in import_corpus("smic", root).clips] == IDS


def test_jpeg_trees_are_read_too(root):
    folder = root / "SMIC_all_raw/HS/s3/micro/positive/s3_po_08"
    for path in sorted(folder.glob("*.bmp")):
        path.rename(path.with_suffix(".JPG"))
    clip = clip_named(import_corpus("smic", root), IDS[1])
    assert clip.frames[0].endswith("/image061248.JPG")


def test_the_code_is_believed_over_the_folder(root):
    base = root / "SMIC_all_raw/HS"
    (base / "s3/micro/negative").mkdir()
    (base / "s3/micro/positive/s3_po_08").rename(base / "s3/micro/negative/s3_po_08")
    (base / "s20/micro/surprise/s20_sur_02").rename(base / "s1/micro/negative/s20_sur_02")
    imported = import_corpus("smic", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert [clip.emotion for clip in imported.clips] == ["negative", "positive", "surprise"]
    assert codes(imported.record)["warning", "folder-misplaced"] == 2


def test_a_subject_or_the_tree_alone_as_root(root):
    inside = import_corpus("smic", root / "SMIC_all_raw" / "HS")
    assert inside.record.variant == "HS"
    assert inside.clips[0].frames[0] == "s1/micro/negative/s1_ne_01/image009998.bmp"
    one = import_corpus("smic", root / "SMIC_all_raw" / "HS" / "s3")
    assert [clip.clip_id for clip in one.clips] == [IDS[1]]
    assert only(one.record, "camera-assumed").level == "warning"


LONG = (
    PlannedClip(3, "s3_ne_22", "negative", "", 443800, 443830, 443808, None, 443812),
    PlannedClip(3, "s3_ne_22", "negative", "", 443800, 443830, 443818, None, 443824),
    PlannedClip(20, "s20_po_01", "positive", "", 17581030, 17581050, 17581035, None, 17581041),
)


@pytest.mark.parametrize("camera", ["HS", "VIS", "NIR"])
def test_smic_e_rows_hold_up_to_three_expressions(tmp_path, camera):
    root = write_tree("smic", tmp_path / "smic", LONG, variant=f"SMIC-E-{camera}")
    imported = import_corpus("smic", root)
    assert imported.record.variant == f"SMIC-E-{camera}"
    assert imported.record.annotations == str(
        root / "SMIC-E_raw image" / f"SMIC-{camera}-E_annotation.xlsx"
    )
    assert [(c.clip_id, c.onset, c.offset) for c in imported.clips] == [
        ("smic/s03/s3_ne_22@443808", 443808, 443812),
        ("smic/s03/s3_ne_22@443818", 443818, 443824),
        ("smic/s20/s20_po_01", 17581035, 17581041),
    ]
    first = imported.clips[0]
    assert first.frames[0] == (
        f"SMIC-E_raw image/{camera}_long/SMIC-{camera}-E/{camera}/s03/s3_ne_22/image443800.jpg"
    )
    assert first.expression_span() == (8, 13)
    assert first.source_digest == imported.clips[1].source_digest
    assert [clip.emotion for clip in imported.clips] == ["negative", "negative", "positive"]
    assert codes(imported.record) == {
        ("warning", "label-disagrees"): 1,
        ("info", "rows-of-prose"): 1,
    }


def test_smic_e_needs_its_workbook(tmp_path):
    root = write_tree("smic", tmp_path / "s", LONG, variant="SMIC-E-HS", annotations=False)
    with pytest.raises(AnnotationError, match="workbook of SMIC was not found") as caught:
        import_corpus("smic", root)
    assert "SMIC-HS-E_annotation.xlsx" in caught.value.hint


def test_smic_e_blank_onset_and_foreign_clip(tmp_path):
    root = write_tree("smic", tmp_path / "s", LONG, variant="SMIC-E-HS")
    path = root / "SMIC-E_raw image" / "SMIC-HS-E_annotation.xlsx"
    book = openpyxl.load_workbook(path)
    book["Sheet1"]["B3"] = "s19_po_01"
    book.save(path)
    imported = import_corpus("smic", root)
    assert len(imported.clips) == 2
    assert only(imported.record, "row-unreadable").where == f"{path.name}, Sheet1!B3"
    assert only(imported.record, "clip-without-row").where.endswith("s20/s20_po_01")
    book["Sheet1"]["D2"] = None
    book.save(path)
    with pytest.raises(AnnotationError, match="'OnsetF' must be a whole number") as caught:
        import_corpus("smic", root)
    assert caught.value.where == f"{path.name}, Sheet1!D2"


def test_wrong_corpus(tmp_path, root):
    with pytest.raises(ManifestError, match="not SAMM: it looks like SMIC"):
        import_corpus("samm", root)
    folder = tmp_path / "frames"
    shutil.copytree(root / "SMIC_all_raw/HS/s3/micro/positive/s3_po_08", folder / "a")
    with pytest.raises(ManifestError, match="No clip folder of SMIC was found") as caught:
        import_corpus("smic", folder)
    assert "mer-prep import clips" in caught.value.hint


def test_two_folders_for_one_clip(root):
    folder = root / "SMIC_all_raw/HS/s3/micro/positive/s3_po_08"
    shutil.copytree(folder, folder.with_name("s03_po_8"))
    (folder / "image061250.bmp").unlink()
    imported = import_corpus("smic", root)
    assert clip_named(imported, IDS[1]).frames[0].split("/")[-2] == "s03_po_8"
    assert only(imported.record, "folder-duplicate").where.endswith("s3_po_08")


def test_layout_numbers_leave_missing_frames_out():
    layout = LAYOUTS["smic"]
    assert layout.numbers(CLIPS[0], "HS") == (9998, 9999, 10001, 10002, 10003)
    assert layout.numbers(dataclasses.replace(CLIPS[0], missing=()), "SMIC-E-HS") == tuple(
        range(9990, 10011)
    )
