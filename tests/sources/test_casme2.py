from __future__ import annotations

import dataclasses
import datetime
import os
import shutil
from pathlib import Path

import openpyxl
import pytest
from corpus_trees import clip_named, codes, only, write_frame, write_tree

from mer_prep.errors import AnnotationError, ConfigError, ManifestError
from mer_prep.sources.corpus import erratum_names, import_corpus
from mer_prep.sources.frames import ClipFrames
from mer_prep.synth.layouts import PlannedClip

WORKBOOK = "CASME2-coding-20140508.xlsx"

CLIPS = (
    PlannedClip(1, "EP02_01f", "happiness", "6+12", 90, 110, 96, 100, 105, 1),
    PlannedClip(4, "EP12_01f", "disgust", "4", 10, 30, 15, None, 24, 4),
    PlannedClip(10, "EP11_01", "others", "", 1, 20, 5, 8, 12, 7),
    PlannedClip(10, "EP11_01f", "surprise", "L1+R2", 1, 20, 6, 9, 13, 2),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("casme2", tmp_path / "casme2", CLIPS)


def edit(path: Path, changes: dict[str, object], sheet: str = "Sheet1") -> None:
    book = openpyxl.load_workbook(path)
    for cell, value in changes.items():
        book[sheet][cell] = value
    book.save(path)


def test_reads_every_clip_as_annotated(root):
    imported = import_corpus("casme2", root)
    assert [clip.clip_id for clip in imported.clips] == [
        "casme2/sub01/EP02_01f",
        "casme2/sub04/EP12_01f",
        "casme2/sub10/EP11_01",
        "casme2/sub10/EP11_01f",
    ]
    clip = imported.clips[0]
    assert clip.frame_numbers == tuple(range(96, 106))
    assert clip.frames[0] == "CASME2_RAW_selected/sub01/EP02_01f/img96.jpg"
    assert clip.frames[4] == "CASME2_RAW_selected/sub01/EP02_01f/img100.jpg"
    assert (clip.onset, clip.apex, clip.offset, clip.apex_source) == (96, 100, 105, "annotated")
    assert (clip.fps, clip.variant, clip.restricted, clip.synthetic) == (
        200.0,
        "selected",
        True,
        False,
    )
    assert (clip.emotion, clip.action_units, clip.objective_class) == ("happiness", (6, 12), 1)
    assert [(c.action_units_raw, c.action_units) for c in imported.clips] == [
        ("6+12", (6, 12)),
        ("4", (4,)),
        ("?", ()),
        ("L1+R2", (1, 2)),
    ]
    assert all(len(clip.source_digest) == 64 for clip in imported.clips)


def test_frames_come_in_the_order_of_their_numbers(root):
    clip = import_corpus("casme2", root).clips[0]
    for number, image in zip(clip.frame_numbers, ClipFrames(clip, 0, 10), strict=True):
        bits = [image[40, 2 * bit, 0] > 127 for bit in range(24)]
        assert sum(set_ << bit for bit, set_ in enumerate(bits)) == number


def test_findings_are_exactly_these(root):
    record = import_corpus("casme2", root).record
    assert codes(record) == {
        ("warning", "annotation-version"): 1,
        ("warning", "apex-missing"): 1,
        ("warning", "clip-without-row"): 1,
    }
    assert only(record, "apex-missing").clip_id == "casme2/sub04/EP12_01f"
    assert only(record, "clip-without-row").where == "CASME2_RAW_selected/sub01/EP00_00"
    assert record.annotation_version == "unknown"
    assert record.annotations == str(root / WORKBOOK)
    assert len(record.annotations_sha256) == 64


def test_a_slash_for_the_apex_gives_none_and_a_flag(root):
    clip = clip_named(import_corpus("casme2", root), "casme2/sub04/EP12_01f")
    assert (clip.apex, clip.apex_source, clip.flags) == (None, None, ("apex-missing",))


@pytest.mark.parametrize("blank", ["/", "\\", None, "NaN", " "])
def test_every_way_of_writing_no_apex(root, blank):
    edit(root / WORKBOOK, {"E2": blank})
    clip = import_corpus("casme2", root).clips[0]
    assert clip.apex is None


def test_apex_on_the_boundary_is_kept_with_a_warning(root):
    edit(root / WORKBOOK, {"E2": 96})
    imported = import_corpus("casme2", root)
    assert imported.clips[0].apex == 96
    assert only(imported.record, "apex-on-boundary").level == "warning"


def test_apex_outside_is_taken_as_unknown(root):
    edit(root / WORKBOOK, {"E2": 106})
    imported = import_corpus("casme2", root)
    assert (imported.clips[0].apex, imported.clips[0].apex_source) == (None, None)
    assert only(imported.record, "apex-outside").level == "warning"


def test_offset_beyond_the_files_is_reported_and_the_clip_kept(root):
    edit(root / WORKBOOK, {"F2": 108})
    imported = import_corpus("casme2", root)
    assert imported.clips[0].offset == 108
    assert imported.clips[0].expression_span() == (0, 10)
    missing = only(imported.record, "frames-missing")
    assert (
        missing.message
        == "3 of 13 frames from onset to offset are missing: 106, 107, 108. None is made up."
    )
    assert imported.clips[0].flags == ("frames-missing", "offset-not-on-disk")


@pytest.mark.parametrize("offset", [0, "/", None])
def test_missing_offset_is_a_warning_where_files_end_with_the_expression(root, offset):
    edit(root / WORKBOOK, {"F2": offset})
    imported = import_corpus("casme2", root)
    assert imported.clips[0].offset is None
    assert only(imported.record, "offset-missing").level == "warning"


def test_missing_offset_is_an_error_in_whole_recordings(tmp_path):
    root = write_tree("casme2", tmp_path / "c", CLIPS, variant="raw")
    edit(root / WORKBOOK, {"F2": 0})
    assert only(import_corpus("casme2", root).record, "offset-missing").level == "error"


def test_missing_onset_frame_is_an_error_and_the_clip_kept(root):
    (root / "CASME2_RAW_selected/sub01/EP02_01f/img96.jpg").unlink()
    imported = import_corpus("casme2", root)
    assert len(imported.clips) == 4
    assert only(imported.record, "onset-not-on-disk").level == "error"


def test_missing_folder_and_empty_folder_are_errors(root):
    shutil.rmtree(root / "CASME2_RAW_selected/sub04/EP12_01f")
    for path in (root / "CASME2_RAW_selected/sub10/EP11_01").iterdir():
        path.unlink()
    imported = import_corpus("casme2", root)
    assert len(imported.clips) == 2
    assert only(imported.record, "clip-folder-missing").clip_id == "casme2/sub04/EP12_01f"
    empty = only(imported.record, "clip-empty")
    assert (empty.level, empty.clip_id) == ("error", "casme2/sub10/EP11_01")


def test_two_files_of_one_number_are_named(root):
    folder = root / "CASME2_RAW_selected/sub01/EP02_01f"
    shutil.copy(folder / "img96.jpg", folder / "img096.jpg")
    imported = import_corpus("casme2", root)
    finding = only(imported.record, "frames-unusable")
    assert finding.message.startswith("Two files are frame 96: 'img096.jpg' and 'img96.jpg'.")
    assert len(imported.clips) == 3


@pytest.mark.parametrize(
    ("variant", "frame"),
    [
        ("raw", "CASME2_RAW/CASME2-RAW/sub01/EP02_01f/img90.jpg"),
        ("cropped", "Cropped/sub01/EP02_01f/reg_img96.jpg"),
    ],
)
def test_the_other_variants(tmp_path, variant, frame):
    root = write_tree("casme2", tmp_path / "c", CLIPS, variant=variant)
    imported = import_corpus("casme2", root)
    assert imported.record.variant == variant
    assert imported.clips[0].frames[0] == frame
    assert imported.clips[0].onset == 96


def test_of_several_variants_the_selection_is_read_unless_asked(root):
    for variant in ("raw", "cropped"):
        write_tree("casme2", root, CLIPS, variant=variant, quirks=False, annotations=False)
    imported = import_corpus("casme2", root)
    assert imported.record.variant == "selected"
    chosen = only(imported.record, "tree-chosen")
    assert chosen.level == "info"
    assert chosen.message == (
        "Read 'CASME2_RAW_selected' (selected, 5 clips). Also there: "
        "'CASME2_RAW/CASME2-RAW' (raw, 4 clips); 'Cropped' (cropped, 4 clips)."
    )
    raw = import_corpus("casme2", root, variant="raw")
    assert raw.clips[0].frame_numbers == tuple(range(90, 111))
    assert raw.clips[0].expression_span() == (6, 16)


def test_a_variant_that_is_unknown_or_absent(root):
    with pytest.raises(ConfigError, match=r"no variant 'croped'\. Did you mean 'cropped'"):
        import_corpus("casme2", root, variant="croped")
    with pytest.raises(ManifestError, match="'cropped' of CASME II is not in the folder"):
        import_corpus("casme2", root, variant="cropped")


@pytest.mark.parametrize(
    "wrapper",
    [
        "Cropped/Cropped",
        "CASME2_preprocessed_Li Xiaobai/Cropped",
        "Cropped-updated",
        "Cropped_original",
    ],
)
def test_wrapper_folders_and_a_root_that_is_the_tree(tmp_path, wrapper):
    root = write_tree("casme2", tmp_path / "c", CLIPS, variant="cropped", quirks=False)
    parked = tmp_path / "parked"
    (root / "Cropped").rename(parked)
    (root / wrapper).parent.mkdir(parents=True, exist_ok=True)
    parked.rename(root / wrapper)
    imported = import_corpus("casme2", root)
    assert imported.record.variant == "cropped"
    assert imported.clips[0].frames[0] == f"{wrapper}/sub01/EP02_01f/reg_img96.jpg"
    inside = import_corpus("casme2", root / wrapper, annotations=root / WORKBOOK)
    assert inside.clips[0].frames[0] == "sub01/EP02_01f/reg_img96.jpg"
    assert inside.clips[0].source_digest == imported.clips[0].source_digest


def test_a_tree_without_a_telling_name_is_told_by_where_clips_begin(tmp_path):
    clips = [dataclasses.replace(clip, first=1) for clip in CLIPS]
    for variant, path in (("raw", "CASME2_RAW"), ("selected", "CASME2_RAW_selected")):
        root = write_tree("casme2", tmp_path / variant, clips, variant=variant, quirks=False)
        (root / path).rename(root / "frames")
        assert import_corpus("casme2", root).record.variant == variant


def test_workbook_above_the_tree_is_found(root):
    imported = import_corpus("casme2", root / "CASME2_RAW_selected")
    assert imported.record.annotations == str(root / WORKBOOK)
    assert imported.clips[0].objective_class == 1


def test_unpadded_subject_folders_and_other_case(root):
    tree = root / "CASME2_RAW_selected"
    (tree / "sub01").rename(tree / "Sub1")
    (tree / "Sub1" / "EP02_01f").rename(tree / "Sub1" / "ep02_01F")
    clip = import_corpus("casme2", root).clips[0]
    assert (clip.clip_id, clip.subject) == ("casme2/sub01/EP02_01f", "sub01")
    assert clip.frames[0] == "CASME2_RAW_selected/Sub1/ep02_01F/img96.jpg"


@pytest.mark.parametrize("cell", ["01", 1, 1.0, "sub01", "1"])
def test_every_way_of_writing_a_subject(root, cell):
    edit(root / WORKBOOK, {"A2": cell})
    assert import_corpus("casme2", root).clips[0].subject == "sub01"


def test_plain_seven_column_form_other_names_and_csv(tmp_path):
    root = write_tree("casme2", tmp_path / "c", CLIPS, quirks=False)
    plain = import_corpus("casme2", root)
    assert [clip.onset for clip in plain.clips] == [96, 15, 5, 6]
    assert plain.clips[0].action_units == (6, 12)
    (root / WORKBOOK).rename(root / "my table.xlsx")
    by_content = import_corpus("casme2", root)
    assert by_content.record.annotations == str(root / "my table.xlsx")
    rows = openpyxl.load_workbook(root / "my table.xlsx")["Sheet1"].iter_rows(values_only=True)
    text = "\n".join(";".join("" if cell is None else str(cell) for cell in row) for row in rows)
    (root / "my table.xlsx").unlink()
    (root / "CASME2-coding-20190701.csv").write_text(text, encoding="utf-8-sig")
    assert import_corpus("casme2", root).clips == by_content.clips == plain.clips


def test_two_differing_workbooks_are_reported(root):
    shutil.copy(root / WORKBOOK, root / "CASME2-coding-20190701.xlsx")
    assert ("warning", "several-annotations") not in codes(import_corpus("casme2", root).record)
    edit(root / "CASME2-coding-20190701.xlsx", {"D2": 97})
    imported = import_corpus("casme2", root)
    assert imported.clips[0].onset == 96
    assert only(imported.record, "several-annotations").level == "warning"
    other = import_corpus("casme2", root, annotations=root / "CASME2-coding-20190701.xlsx")
    assert other.clips[0].onset == 97


TOLD = (
    PlannedClip(24, "EP07_01", "sadness", "1", 1, 9, 2, 4, 8),
    PlannedClip(24, "EP10_03", "sadness", "1", 1, 9, 2, 4, 8),
)


@pytest.mark.parametrize(
    ("emotions", "extra", "version", "level"),
    [
        (("surprise", "surprise"), False, "A", "warning"),
        (("sadness", "sadness"), False, "B", None),
        (("sadness", "sadness"), True, "B+1", None),
        (("sadness", "surprise"), False, "unknown", "warning"),
    ],
)
def test_version_is_told_by_the_relabelled_clips(tmp_path, emotions, extra, version, level):
    clips = [
        dataclasses.replace(clip, emotion=emotion)
        for clip, emotion in zip(TOLD, emotions, strict=True)
    ]
    if extra:
        clips.append(PlannedClip(24, "EP02_07", "disgust", "4", 1, 9, 2, 4, 8))
    record = import_corpus("casme2", write_tree("casme2", tmp_path / "c", clips)).record
    assert record.annotation_version == version
    found = [item.level for item in record.findings if item.code == "annotation-version"]
    assert found == ([level] if level else [])


def test_errata_flag_the_clip_and_can_be_switched_off(tmp_path):
    clips = [*CLIPS, PlannedClip(16, "EP01_08", "happiness", "12", 1, 20, 5, 8, 12)]
    root = write_tree("casme2", tmp_path / "c", clips)
    imported = import_corpus("casme2", root)
    assert imported.record.errata == ("casme2-16-EP01_08-offset@1",)
    assert "erratum-flagged" in clip_named(imported, "casme2/sub16/EP01_08").flags
    assert import_corpus("casme2", root, errata=False).record.errata == ()
    assert "casme2-16-EP01_08-offset" in erratum_names("casme2")
    assert erratum_names("clips") == []
    other = ["casme2-20-EP16_01-offset"]
    assert import_corpus("casme2", root, errata=other).record.errata == ()
    with pytest.raises(ConfigError, match=r"no erratum 'casme2-16-EP01_08'\. Did you mean"):
        import_corpus("casme2", root, errata=["casme2-16-EP01_08"])


@pytest.mark.parametrize("value", ["x", 12.5, None, "/", "=40+6"])
def test_an_onset_that_is_no_number_names_its_cell(root, value):
    edit(root / WORKBOOK, {"D3": value})
    imported = import_corpus("casme2", root)
    assert [clip.clip for clip in imported.clips] == ["EP02_01f", "EP11_01", "EP11_01f"]
    finding = only(imported.record, "row-unreadable")
    assert finding.message.startswith("'OnsetFrame' must be a whole number")
    assert (finding.level, finding.where) == ("error", f"{WORKBOOK}, Sheet1!D3")


def test_a_date_in_a_needed_cell_names_it(root):
    book = openpyxl.load_workbook(root / WORKBOOK)
    book["Sheet1"]["H2"] = datetime.date(2020, 1, 2)
    book.save(root / WORKBOOK)
    imported = import_corpus("casme2", root)
    assert len(imported.clips) == 3
    finding = only(imported.record, "row-unreadable")
    assert "holds a date" in finding.message
    assert finding.where == f"{WORKBOOK}, Sheet1!H2"


@pytest.mark.parametrize("cell", ["A2", "B2"])
def test_a_date_for_a_subject_or_a_clip_leaves_its_row_out(root, cell):
    edit(root / WORKBOOK, {cell: datetime.date(2020, 1, 2)})
    imported = import_corpus("casme2", root)
    assert [clip.clip for clip in imported.clips] == ["EP12_01f", "EP11_01", "EP11_01f"]
    assert only(imported.record, "row-unreadable").where == f"{WORKBOOK}, Sheet1!{cell}"


def test_half_of_the_rows_may_be_unreadable_and_no_more(root):
    edit(root / WORKBOOK, {"D2": 1.5, "D3": 2.5})
    imported = import_corpus("casme2", root)
    assert len(imported.clips) == 2
    assert codes(imported.record)["error", "row-unreadable"] == 2
    edit(root / WORKBOOK, {"D4": 3.5})
    match = "3 of 4 rows cannot be read. The first: 'OnsetFrame' must be a whole number, not '1.5'"
    with pytest.raises(AnnotationError, match=match) as caught:
        import_corpus("casme2", root)
    assert caught.value.where == f"{WORKBOOK}, Sheet1!D2"


@pytest.mark.parametrize("subject", ["NA", "nan", "None", 0, "00", "sub00"])
def test_a_subject_that_is_none_leaves_its_row_out(root, subject):
    edit(root / WORKBOOK, {"A2": subject})
    imported = import_corpus("casme2", root)
    assert len(imported.clips) == 3
    finding = only(imported.record, "row-unreadable")
    assert f"its 'Subject' is '{subject}'" in finding.message
    assert finding.where == f"{WORKBOOK}, Sheet1!A2"


def test_a_class_that_cannot_be_read_costs_only_the_class(root):
    path = next(root.glob("*[Oo]bjective*.xlsx"))
    edit(path, {"C3": 1.5}, openpyxl.load_workbook(path).sheetnames[0])
    imported = import_corpus("casme2", root)
    assert [clip.objective_class for clip in imported.clips].count(None) == 1
    assert only(imported.record, "row-unreadable").where.endswith("!C3")


@pytest.mark.parametrize("name", ["img99 - Copy", "img99 - Copy (7)", "img99 (2)", "img99~"])
def test_copies_of_frames_are_left_out_and_told(root, name):
    folder = root / "CASME2_RAW_selected" / "sub01" / "EP02_01f"
    shutil.copy(folder / "img99.jpg", folder / f"{name}.jpg")
    imported = import_corpus("casme2", root)
    clip = clip_named(imported, "casme2/sub01/EP02_01f")
    assert clip.frame_numbers == tuple(range(96, 106))
    assert clip.frames[3].endswith("/img99.jpg")
    finding = only(imported.record, "frames-copied")
    assert finding.message.startswith("1 files are copies")
    assert f"'{name}.jpg', of 'img99.jpg'" in finding.message


def test_a_missing_column_is_named_with_the_nearest_heading(root):
    edit(root / WORKBOOK, {"E1": "ApxFrame"})
    with pytest.raises(AnnotationError, match="lacks the column 'ApexFrame'") as caught:
        import_corpus("casme2", root)
    assert caught.value.hint == (
        "expected columns: Subject, Filename, OnsetFrame, ApexFrame, OffsetFrame, "
        "Estimated Emotion; 'ApxFrame' in E1 is most like 'ApexFrame'"
    )


def test_a_moved_header_is_found_and_a_lost_one_is_an_error(root):
    book = openpyxl.load_workbook(root / WORKBOOK)
    book["Sheet1"].insert_rows(1, 20)
    book.save(root / WORKBOOK)
    assert import_corpus("casme2", root).clips[0].onset == 96
    book["Sheet1"].delete_rows(21)
    book.save(root / WORKBOOK)
    with pytest.raises(AnnotationError, match="No sheet holds the annotation table") as caught:
        import_corpus("casme2", root, annotations=root / WORKBOOK)
    assert "'Sheet1', 'Sheet2', 'Sheet3'" in caught.value.what


def test_a_workbook_without_the_sheet(root):
    book = openpyxl.load_workbook(root / WORKBOOK)
    del book["Sheet1"]
    book.save(root / WORKBOOK)
    with pytest.raises(AnnotationError, match="'Sheet2', 'Sheet3'"):
        import_corpus("casme2", root)


def test_a_row_twice_is_an_error_naming_both(root):
    edit(root / WORKBOOK, {"A6": "01", "B6": "EP02_01f", "D6": 99, "F6": 105, "I6": "disgust"})
    ids = [clip.clip_id for clip in import_corpus("casme2", root).clips]
    assert ids[0] == "casme2/sub01/EP02_01f@96"
    assert ids[4] == "casme2/sub01/EP02_01f@99"
    edit(root / WORKBOOK, {"D6": 96})
    with pytest.raises(ManifestError, match="Two rows annotate the same expression") as caught:
        import_corpus("casme2", root)
    assert caught.value.where == f"{WORKBOOK}, Sheet1 row 2 and {WORKBOOK}, Sheet1 row 6"


def test_unknown_emotion_and_unreadable_row(root):
    edit(root / WORKBOOK, {"I2": "Happy", "I3": "boredom", "A4": "x"})
    imported = import_corpus("casme2", root)
    assert (imported.clips[0].emotion, imported.clips[0].emotion_raw) == ("happiness", "Happy")
    assert clip_named(imported, "casme2/sub04/EP12_01f").emotion == "boredom"
    assert only(imported.record, "emotion-unknown").clip_id == "casme2/sub04/EP12_01f"
    unreadable = only(imported.record, "row-unreadable")
    assert (unreadable.level, unreadable.where) == ("error", f"{WORKBOOK}, Sheet1!A4")


def test_a_samm_folder_and_a_samm_workbook_are_recognised(tmp_path, root):
    samm = write_tree(
        "samm",
        tmp_path / "samm",
        [PlannedClip(6, "006_1_2", "anger", "4", 5562, 5568, 5562, 5564, 5568)],
    )
    with pytest.raises(ManifestError, match=r"not CASME II: it looks like SAMM \(1 clip") as caught:
        import_corpus("casme2", samm)
    assert "mer-prep import samm" in caught.value.hint
    with pytest.raises(AnnotationError, match="clips are named as those of SAMM"):
        import_corpus("casme2", root, annotations=samm / "SAMM_Micro_FACS_Codes_v2.xlsx")


def test_casme_is_told_from_casme2(tmp_path):
    write_frame(tmp_path / "c/sub01/EP01_5/EP01_5-113.jpg", 113)
    with pytest.raises(ManifestError, match="not CASME II: it looks like CASME "):
        import_corpus("casme2", tmp_path / "c")


def test_folders_that_are_no_corpus(tmp_path):
    with pytest.raises(ManifestError, match="The corpus folder is missing"):
        import_corpus("casme2", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="No clip folder of CASME II was found"):
        import_corpus("casme2", tmp_path / "empty")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ManifestError, match="The corpus folder is a file"):
        import_corpus("casme2", tmp_path / "file")


def test_no_workbook_and_a_broken_one(root):
    (root / WORKBOOK).write_bytes(b"not a workbook")
    with pytest.raises(AnnotationError, match="cannot be read as a workbook"):
        import_corpus("casme2", root)
    (root / WORKBOOK).unlink()
    with pytest.raises(AnnotationError, match="workbook of CASME II was not found"):
        import_corpus("casme2", root)
    with pytest.raises(AnnotationError, match="no such annotation file"):
        import_corpus("casme2", root, annotations=root / "missing.xlsx")


def test_links_are_reported_and_never_followed(root, tmp_path):
    os.symlink(root, root / "CASME2_RAW_selected" / "loop")
    (tmp_path / "other").mkdir()
    os.symlink(tmp_path / "other", root / "outside")
    os.symlink(root / "CASME2_RAW_selected" / "sub01", root / "again")
    record = import_corpus("casme2", root).record
    assert only(record, "link-cycle").where == "CASME2_RAW_selected/loop"
    assert only(record, "link-outside").where == "outside"
    assert only(record, "link-ignored").where == "again"
    assert len({item.where for item in record.findings if item.code.startswith("link")}) == 3


def test_digests_are_stable_over_repetition_moves_and_threads(root, tmp_path):
    first = import_corpus("casme2", root)
    again = import_corpus("casme2", root, jobs=2)
    assert again == first
    moved = tmp_path / "elsewhere" / "data"
    moved.parent.mkdir()
    root.rename(moved)
    after = import_corpus("casme2", moved)
    assert [c.source_digest for c in after.clips] == [c.source_digest for c in first.clips]
    assert after.record.annotations_sha256 == first.record.annotations_sha256
    frame = moved / "CASME2_RAW_selected/sub01/EP02_01f/img97.jpg"
    frame.write_bytes(frame.read_bytes()[:-1] + b"\xd8")
    changed = import_corpus("casme2", moved)
    pairs = zip(changed.clips, first.clips, strict=True)
    same = [new.source_digest == old.source_digest for new, old in pairs]
    assert same == [False, True, True, True]


def test_progress_is_told_clip_by_clip(root):
    calls: list[tuple[int, int]] = []
    import_corpus("casme2", root, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_synthetic_corpus_is_marked(root):
    (root / "SYNTHETIC.txt").write_text("made\n")
    imported = import_corpus("casme2", root)
    assert imported.record.synthetic
    assert imported.record.annotation_version == "synthetic"
    assert {(clip.synthetic, clip.restricted) for clip in imported.clips} == {(True, False)}
    assert ("warning", "annotation-version") not in codes(imported.record)


def test_a_corpus_may_get_another_name(root):
    imported = import_corpus("casme2", root, name="casme2-raw")
    assert imported.clips[0].clip_id == "casme2-raw/sub01/EP02_01f"
    assert imported.record.source == "casme2"
    with pytest.raises(ConfigError, match="cannot be the name of a corpus"):
        import_corpus("casme2", root, name="../x")
    with pytest.raises(ConfigError, match="Did you mean 'casme2'"):
        import_corpus("casme22", root)


def test_nothing_in_the_source_folder_changes(root):
    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(root.rglob("*"))}

    before = state()
    import_corpus("casme2", root)
    assert state() == before
