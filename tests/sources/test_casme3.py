from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import openpyxl
import pytest
import xlwt
from corpus_trees import clip_named, codes, only, write_frame, write_tree

from mer_prep.errors import AnnotationError, ConfigError, ManifestError
from mer_prep.sources.corpus import erratum_names, import_corpus
from mer_prep.sources.facts import corpus_facts
from mer_prep.synth.layouts import PlannedClip
from mer_prep.synth.workbooks import write_workbook

WORKBOOK = "annotation/partA/cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"

CLIPS = (
    PlannedClip(1, "a", "others", "4+7", 8, 120, 60, 64, 69, 3, missing=(62, 66)),
    PlannedClip(1, "b", "surprise", "1+2", 8, 60, 10, 14, 18, 2),
    PlannedClip(1, "b", "happiness", "R12", 61, 100, 70, 74, 78, 1),
    PlannedClip(40, "j", "sadness", "4", 8, 50, 20, 24, 28, 7),
)

IDS = ["casme3/spNO.1/a", "casme3/spNO.1/b@10", "casme3/spNO.1/b@70", "casme3/spNO.40/j"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_tree("casme3", tmp_path / "casme3", CLIPS)


def edit(path: Path, changes: dict[str, object]) -> None:
    book = openpyxl.load_workbook(path)
    for cell, value in changes.items():
        book.worksheets[0][cell] = value
    book.save(path)


def write_xls(path: Path, sheets: dict[str, list[list[object]]]) -> None:
    book = xlwt.Workbook()
    for name, rows in sheets.items():
        sheet = book.add_sheet(name)
        for r, row in enumerate(rows):
            for c, value in enumerate(row):
                sheet.write(r, c, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(str(path))


def test_two_expressions_of_one_recording_are_two_clips(root):
    imported = import_corpus("casme3", root)
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert imported.record.variant == "part-a"
    keys = [(clip.onset, clip.apex, clip.offset) for clip in imported.clips]
    assert keys == [(clip.onset, clip.apex, clip.offset) for clip in CLIPS]
    assert [clip.emotion for clip in imported.clips] == [
        "others",
        "surprise",
        "happiness",
        "sadness",
    ]
    assert [clip.emotion_raw for clip in imported.clips] == ["Others", "surprise", "happy", "sad"]
    assert [clip.objective_class for clip in imported.clips] == [3, 2, 1, 7]
    assert [clip.action_units for clip in imported.clips] == [(4, 7), (1, 2), (12,), (4,)]
    assert {clip.expression_type for clip in imported.clips} == {"micro"}
    assert {clip.fps for clip in imported.clips} == {30.0}
    assert all(clip.restricted for clip in imported.clips)


def test_recordings_begin_late_and_drop_frames(root):
    imported = import_corpus("casme3", root)
    first, second = imported.clips[:2]
    folder = "part_A_split/part_A/spNO.1"
    assert first.frames[0] == f"{folder}/a/color/30.jpg"
    assert second.frames[0] == f"{folder}/b/color/8.jpg"
    assert second.frame_numbers == tuple(range(8, 49))
    assert first.frame_numbers == tuple(n for n in range(30, 100) if n not in (62, 66))
    # Four numbers later, but only three positions: frame 62 is missing.
    assert first.position(64) - first.position(60) == 3
    assert only(imported.record, "frames-missing").message == (
        "2 of 10 frames from onset to offset are missing: 62, 66. None is made up."
    )
    assert codes(imported.record) == {
        ("warning", "annotation-version"): 1,
        ("warning", "frames-missing"): 1,
        ("info", "recording-without-row"): 1,
        ("info", "macro-missing"): 1,
    }


def test_case_and_zeros_of_folders_do_not_matter(root):
    tree = root / "part_A_split/part_A"
    (tree / "spNO.1/a").rename(tree / "spNO.1/A")
    (tree / "spNO.1").rename(tree / "spNo.01")
    clips = import_corpus("casme3", root).clips
    assert [clip.clip_id for clip in clips] == IDS
    assert clips[0].frames[0].startswith("part_A_split/part_A/spNo.01/A/color/")


def test_any_folder_below_may_be_given(root):
    clips = import_corpus(
        "casme3", root / "part_A_split/part_A/spNO.1", annotations=root / WORKBOOK
    ).clips
    assert [clip.clip_id for clip in clips] == IDS[:3]
    assert clips[0].frames[0] == "a/color/30.jpg"


def test_cut_clips_are_found_by_subject_recording_and_onset(tmp_path):
    root = write_tree("casme3", tmp_path / "c", CLIPS, variant="part-a-clips")
    imported = import_corpus("casme3", root)
    assert imported.record.variant == "part-a-clips"
    assert [clip.clip_id for clip in imported.clips] == IDS
    assert imported.clips[2].frames[0] == "Part_A_ME_clip/frame/spNo.1_b_70/70.jpg"
    assert imported.clips[2].frame_numbers == tuple(range(70, 79))
    assert imported.clips[0].frame_numbers == (60, 61, 63, 64, 65, 67, 68, 69)


def test_recordings_are_preferred_to_the_clips_cut_from_them(root):
    write_tree("casme3", root, CLIPS, variant="part-a-clips", annotations=False)
    imported = import_corpus("casme3", root)
    assert imported.record.variant == "part-a"
    assert only(imported.record, "tree-chosen").level == "info"
    assert import_corpus("casme3", root, variant="part-a-clips").record.variant == "part-a-clips"
    with pytest.raises(ConfigError, match="Did you mean 'part-a'"):
        import_corpus("casme3", root, variant="parta")


def test_onset_zero_apex_before_onset_and_offset_zero_are_reported_not_changed(root):
    edit(root / WORKBOOK, {"C2": 0, "D3": 3, "E4": 0})
    imported = import_corpus("casme3", root)
    zero, early, endless, _ = imported.clips
    assert zero.onset == 0
    assert only(imported.record, "onset-not-on-disk").clip_id == IDS[0]
    assert (early.onset, early.apex, early.offset) == (10, None, 18)
    assert only(imported.record, "apex-outside").clip_id == IDS[1]
    assert (endless.onset, endless.apex, endless.offset) == (70, 74, None)
    # What is kept ends a second after the apex, not with the recording.
    assert endless.frame_numbers[-1] == 100
    finding = only(imported.record, "offset-missing")
    assert (finding.level, finding.clip_id) == ("warning", IDS[2])
    assert "offset-missing" in endless.flags


def errata_root(tmp_path: Path) -> Path:
    clips = (
        PlannedClip(149, "d", "disgust", "4", 80, 180, 112, 83, 175),
        PlannedClip(214, "c", "disgust", "4", 8, 60, 20, 26, 34),
        PlannedClip(216, "d", "disgust", "4", 2640, 2670, 2647, 2652, 2660),
        PlannedClip(216, "e", "disgust", "4", 1, 40, 1, 1, 12),
        PlannedClip(216, "f", "disgust", "4", 8, 40, 12, 15, 20),
    )
    root = write_tree("casme3", tmp_path / "e", clips)
    edit(root / WORKBOOK, {"E3": 3460, "C4": 3647, "C5": 0, "D5": 0})
    return root


def test_errata_are_applied_by_name_only(tmp_path):
    root = errata_root(tmp_path)
    plain = import_corpus("casme3", root)
    assert plain.record.errata == ()
    left = [clip.clip_id for clip in plain.clips]
    # The onset of 3647 lies after the offset; the clip stays and says so.
    assert clip_named(plain, "casme3/spNO.216/d").onset == 3647
    assert "onset-after-offset" in clip_named(plain, "casme3/spNO.216/d").flags
    imported = import_corpus("casme3", root, errata=erratum_names("casme3"))
    assert [clip.clip_id for clip in imported.clips] == left
    assert imported.record.errata == (
        "casme3-149-d-apex@1",
        "casme3-216-d-onset@1",
        "casme3-216-e-onset@1",
        "casme3-214-c-offset@1",
    )
    assert [(clip.onset, clip.apex, clip.offset) for clip in imported.clips] == [
        (112, 167, 175),
        (20, 26, 34),
        (2647, 2652, 2660),
        (1, 1, 12),
        (12, 15, 20),
    ]
    assert all("erratum-applied" in clip.flags for clip in imported.clips[:4])
    assert "erratum-applied" not in imported.clips[4].flags


def test_a_clip_folder_named_by_the_uncorrected_onset_is_found(tmp_path):
    root = tmp_path / "n"
    clip = PlannedClip(216, "d", "disgust", "4", 2640, 2670, 2647, 2652, 2660)
    write_tree("casme3", root, [clip], variant="part-a-clips")
    frames = root / "Part_A_ME_clip/frame"
    (frames / "spNo.216_d_2647").rename(frames / "spNo.216_d_3647")
    edit(root / WORKBOOK, {"C2": 3647})
    (found,) = import_corpus("casme3", root, errata=["casme3-216-d-onset"]).clips
    assert found.onset == 2647
    assert found.frames[0] == "Part_A_ME_clip/frame/spNo.216_d_3647/2647.jpg"


def test_rows_are_corrected_in_the_release_of_known_length_only():
    facts = corpus_facts("casme3")
    by_row = {one.name: one for one in facts.errata if one.row is not None}
    assert {one.row: one.set["offset"] for one in by_row.values()} == {796: 1845, 798: 2403}
    assert all(one.rows == 860 and one.subject == 40 for one in by_row.values())
    assert all(one.optional for one in facts.errata)


def test_macro_expressions_come_from_their_own_workbooks(root):
    codes_book = root / "annotation/partA/CAS(ME)3_part_A_v2.xls"
    head = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Expression type"]
    rows = [
        [*head, "Objective class"],
        ["spNO.1", "a", 60, 64, 69, "4+7", "Micro-expression", "III"],
        ["spNO.1", "b", 30, 40, 50, "6+12", "Macro-expression", "I"],
        ["spNO.40", "J", 10, 30, 44, "4", "Macro-expression", "VII"],
    ]
    blinks = [["Subject", "Filename", "Onset", "Offset"], ["spNO.1", "a", 1, 2]]
    write_xls(codes_book, {"AU+Emotion": rows, "eye blink": blinks})
    labels = root / "annotation/partA/cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx"
    table = [["sub", "seq", "onset", "apex", "offset", "emotion"]]
    table.append(["spNO.1", "b", 30, 40, 50, "happy"])
    write_workbook(labels, {"Sheet1": table})
    imported = import_corpus("casme3", root)
    assert [clip.clip_id for clip in imported.clips] == [
        *IDS[:3],
        "casme3/spNO.40/j@20",
        "casme3/spNO.1/b@30",
        "casme3/spNO.40/j@10",
    ]
    smile, frown = imported.clips[4:]
    assert [clip.expression_type for clip in imported.clips] == ["micro"] * 4 + ["macro"] * 2
    assert (smile.emotion, smile.action_units, smile.objective_class) == ("happiness", (6, 12), 1)
    assert (frown.emotion, frown.action_units, frown.objective_class) == (None, (4,), 7)
    assert only(imported.record, "emotion-missing").message.startswith("1 of 6 clips")
    assert ("warning", "emotion-unknown") not in codes(imported.record)
    micro = import_corpus("casme3", root, options={"expressions": "micro"})
    assert [clip.clip_id for clip in micro.clips] == IDS
    macro = import_corpus("casme3", root, options={"expressions": "macro"})
    assert {clip.expression_type for clip in macro.clips} == {"macro"}
    (root / WORKBOOK).unlink()
    alone = import_corpus("casme3", root)
    assert [clip.expression_type for clip in alone.clips] == ["micro", "macro", "macro"]


def test_a_repeated_row_is_left_out_and_the_others_are_read(root):
    edit(root / WORKBOOK, {"C4": 10})
    imported = import_corpus("casme3", root)
    assert [clip.clip_id for clip in imported.clips] == [IDS[0], "casme3/spNO.1/b", IDS[3]]
    finding = only(imported.record, "row-repeated")
    assert finding.level == "error"
    assert finding.where == f"{Path(WORKBOOK).name}, label row 4"
    assert "label row 3" in finding.message


def test_a_recording_that_is_no_letter_and_a_covered_face(root):
    edit(root / WORKBOOK, {"B2": "aa", "I1": "shade", "I3": 1, "I4": 0})
    imported = import_corpus("casme3", root)
    assert [clip.clip_id for clip in imported.clips] == IDS[1:]
    unreadable = only(imported.record, "row-unreadable")
    assert unreadable.where == f"{Path(WORKBOOK).name}, label!B2"
    assert only(imported.record, "face-occluded").clip_id == IDS[1]


def part_c(root: Path) -> Path:
    for subject in (1, 22):
        for number in range(8, 60):
            write_frame(root / f"part_C/{subject:02d}/a/color/{number}.jpg", number, tint=subject)
        (root / f"part_C/{subject:02d}/a/depth").mkdir()
    rows = [
        ["sub", "count", "onset", "offset", "au", "emotion"],
        [1, 1, 12, 20, "4\uff0c7", "negative"],
        [1, 2, 40, 47, "1,2", "surprise"],
        [22, 1, 30, 39, "12", "positive"],
    ]
    write_workbook(root / "annotation/CAS(ME)3_part_C_ME.xlsx", {"mockCrimeME": rows})
    return root


def test_part_c_has_no_apex_and_two_kinds_of_comma(tmp_path):
    imported = import_corpus("casme3", part_c(tmp_path / "c"))
    assert imported.record.variant == "part-c"
    assert [clip.clip_id for clip in imported.clips] == [
        "casme3/01/a@12",
        "casme3/01/a@40",
        "casme3/22/a",
    ]
    assert [clip.action_units for clip in imported.clips] == [(4, 7), (1, 2), (12,)]
    assert [clip.emotion for clip in imported.clips] == ["negative", "surprise", "positive"]
    assert [(clip.apex, clip.apex_source) for clip in imported.clips] == [(None, None)] * 3
    assert [clip.flags for clip in imported.clips] == [()] * 3
    assert codes(imported.record) == {("warning", "annotation-version"): 1}
    assert imported.clips[0].frames[0] == "part_C/01/a/color/8.jpg"


def test_part_c_beside_part_a_is_read_where_it_is_asked_for(root):
    part_c(root)
    assert import_corpus("casme3", root).record.variant == "part-a"
    imported = import_corpus("casme3", root, variant="part-c")
    assert [clip.subject for clip in imported.clips] == ["01", "01", "22"]
    assert Path(str(imported.record.annotations)).name == "CAS(ME)3_part_C_ME.xlsx"


def test_published_counts_are_recognised(tmp_path):
    emotions = corpus_facts("casme3").versions["A-v2"].emotions or {}
    first = dataclasses.replace(CLIPS[1], clip="a")
    root = write_tree("casme3", tmp_path / "p", [first], annotations=False)
    rows = [["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"]]
    labels = [emotion for emotion, count in emotions.items() for _ in range(count)]
    for index, emotion in enumerate(labels):
        rows.append(["spNO.1", "a", 10 + 2 * index, 11 + 2 * index, 12 + 2 * index, "4"])
        rows[-1] += ["I", emotion]
    write_workbook(root / WORKBOOK, {"label": rows})
    assert len(labels) == 860
    imported = import_corpus("casme3", root)
    assert imported.record.annotation_version == "A-v2"
    # The recording ends with frame 60: of the 860 onsets only 26 lie before its end.
    assert len(imported.clips) == 26
    assert codes(imported.record)["error", "clip-not-on-disk"] == 834


def test_the_release_of_known_counts_is_taken_first(root):
    for name in ("_v2_20250903.xlsx", ".xlsx", "_v1.xlsx"):
        shutil.copyfile(root / WORKBOOK, (root / WORKBOOK).with_name(f"x_part_A_ME_label{name}"))
    assert import_corpus("casme3", root).record.annotations == str(root / WORKBOOK)
    (root / WORKBOOK).unlink()
    record = import_corpus("casme3", root).record
    assert str(record.annotations).endswith(("v1.xlsx", "v2_20250903.xlsx"))


def test_what_is_missing_is_said(tmp_path, root):
    (root / WORKBOOK).unlink()
    with pytest.raises(AnnotationError, match="workbook of CAS\\(ME\\)\\^3 was not found"):
        import_corpus("casme3", root)
    write_frame(tmp_path / "x/folder/1.jpg", 1)
    with pytest.raises(ManifestError, match="No clip folder of CAS") as caught:
        import_corpus("casme3", tmp_path / "x")
    assert "part_A/spNO.1/a/color" in str(caught.value)


@pytest.mark.parametrize("order", [1, -1])
def test_two_macro_labels_of_one_onset_are_not_believed(root, order):
    labels = root / "annotation/partA/cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx"
    head = ["sub", "seq", "onset", "apex", "offset", "emotion"]
    rows = [["spNO.1", "b", 30, 40, 50, "happy"], ["spNO.1", "b", 30, 42, 50, "anger"]]
    write_workbook(labels, {"Sheet1": [head, *rows[::order]]})
    imported = import_corpus("casme3", root)
    assert "casme3/spNO.1/b@30" not in [clip.clip_id for clip in imported.clips]
    assert only(imported.record, "row-repeated").level == "error"
