from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from corpus_trees import clip_named, codes, only, write_frame

import mer_prep
from mer_prep import videos
from mer_prep.errors import AnnotationError, ConfigError, ManifestError
from mer_prep.manifest import read_manifest, read_record, write_manifest
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.frames import ClipFrames


def write_clip(folder: Path, numbers: range, *, tint: int = 0) -> None:
    for number in numbers:
        write_frame(folder / f"frame{number}.png", number, tint=tint)


def write_video(path: Path, *, frames: int, fps: float = 30.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 80))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((80, 64, 3), 20 * number, np.uint8))
    writer.release()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    write_clip(folder / "anna" / "one", range(8, 13))
    write_clip(folder / "anna" / "two", range(1, 5), tint=40)
    write_video(folder / "bert" / "film.avi", frames=6)
    return folder


def test_subject_folders_with_frames_and_video(root):
    imported = import_corpus("clips", root)
    assert [clip.clip_id for clip in imported.clips] == [
        "clips/anna/one",
        "clips/anna/two",
        "clips/bert/film",
    ]
    one, _, film = imported.clips
    assert one.frame_numbers == (8, 9, 10, 11, 12)
    assert one.frames[0] == "anna/one/frame8.png"
    assert (one.subject, one.fps, one.onset, one.emotion) == ("anna", None, None, None)
    assert (film.video, film.frames) == ("bert/film.avi", ())
    assert film.frame_numbers == (0, 1, 2, 3, 4, 5)
    assert film.fps == 30.0
    # People's faces are not to be passed on unless the user says that they may be.
    assert all(clip.restricted for clip in imported.clips)
    free = import_corpus("clips", root, restricted=False)
    assert not any(clip.restricted for clip in free.clips)
    assert imported.record.findings == ()
    assert len(list(ClipFrames(film, 0, 6))) == 6


def test_without_subjects_a_warning_says_what_that_costs(tmp_path):
    write_clip(tmp_path / "c" / "one", range(3))
    imported = import_corpus("clips", tmp_path / "c")
    assert imported.clips[0].clip_id == "clips/unknown/one"
    finding = only(imported.record, "subject-unknown")
    assert finding.level == "warning"
    assert "Without subjects no honest split exists" in finding.message


def test_a_folder_of_frames_is_one_clip(tmp_path):
    write_clip(tmp_path / "single", range(3))
    clip = import_corpus("clips", tmp_path / "single").clips[0]
    assert (clip.clip, clip.frames[0]) == ("single", "frame0.png")


def csv(root: Path, text: str) -> Path:
    path = root.parent / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_labels_the_clips(root):
    path = csv(
        root,
        "clip,subject,onset,apex,offset,emotion,fps,action_units\n"
        "one,A,8,10,12,Happy,90,6+12\n"
        "anna/two,A,1,,4,surprise,,\n"
        "film.avi,B,0,3,5,disgust,,9\n",
    )
    imported = import_corpus("clips", root, annotations=path)
    one = clip_named(imported, "clips/A/one")
    assert (one.onset, one.apex, one.offset, one.apex_source) == (8, 10, 12, "annotated")
    assert (one.emotion, one.emotion_raw, one.fps) == ("happiness", "Happy", 90.0)
    assert one.action_units == (6, 12)
    two = clip_named(imported, "clips/A/two")
    assert (two.apex, two.apex_source, two.fps) == (None, None, None)
    film = clip_named(imported, "clips/B/film")
    assert (film.onset, film.apex, film.offset, film.fps) == (0, 3, 5, 30.0)
    assert imported.record.findings == ()
    assert imported.record.annotations == str(path)


def test_csv_needs_only_the_clip(root):
    path = csv(root, "clip;emotion\none;anger\n")
    imported = import_corpus("clips", root, annotations=path)
    assert clip_named(imported, "clips/anna/one").emotion == "anger"
    assert len(imported.clips) == 3
    assert codes(imported.record) == {("warning", "clip-without-row"): 2}


def test_several_expressions_of_one_clip(root):
    path = csv(root, "clip,onset,offset\none,8,9\none,10,12\ntwo,1,4\nfilm,0,5\n")
    imported = import_corpus("clips", root, annotations=path)
    assert [clip.clip_id for clip in imported.clips][:2] == [
        "clips/anna/one@8",
        "clips/anna/one@10",
    ]


def test_the_example_of_the_how_to_is_read(tmp_path):
    page = Path(mer_prep.__file__).parent.parent / "docs" / "how-to" / "own-videos.md"
    (example,) = re.findall(r"```text\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for name in ("EP01", "EP02", "EP03"):
        for number in range(1, 42):
            write_frame(tmp_path / "clips" / name / f"img{number}.jpg", number)
    path = csv(tmp_path / "clips", example)
    imported = import_corpus("clips", tmp_path / "clips", annotations=path)
    assert [(c.subject, c.onset, c.apex, c.offset, c.emotion) for c in imported.clips] == [
        ("anna", 12, 25, 40, "happiness"),
        ("anna", 3, None, 31, "disgust"),
        ("ben", None, None, None, None),
    ]


def test_semicolons_separate_columns_as_well(root):
    path = csv(root, "clip;onset;emotion\none;8;happiness\ntwo;1;\nfilm;0;\n")
    imported = import_corpus("clips", root, annotations=path)
    assert (imported.clips[0].onset, imported.clips[0].emotion) == (8, "happiness")


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("clip,label\none,x\n", "Unknown column 'label'. Did you mean 'emotion'", "line 1"),
        ("clip\temotion\none\tx\n", "The columns are separated by tabs", "line 1"),
        ("clip,emotoin\none,x\n", "Unknown column 'emotoin'. Did you mean 'emotion'", "line 1"),
        ("name,emotion\none,x\n", "first 60 lines holds the headings of the table", ""),
        ("clip\nonne\n", "There is no clip 'onne' in the folder", "line 2, column 1 ('clip')"),
        (
            "clip,onset\none,8\nthree,1\nfour,1\n",
            "There is no clip 'three' and 1 more",
            "3, column 1 ('clip')",
        ),
        ("clip,onset\none,early\n", "'onset' must be a whole number, not 'early'", "2 ('onset')"),
        ("clip,fps\none,fast\n", "'fps' must be a number from 1 to 10000", "column 2 ('fps')"),
        ("clip,fps\none,0\n", "'fps' must be a number from 1 to 10000", "column 2 ('fps')"),
        ("clip,subject\none,a/b\n", "cannot name a subject", "line 2, column 2 ('subject')"),
        ("clip,clip\none,one\n", "'clip' stands twice: column 1 and column 2", "line 1"),
        ('clip,onset,emotion\n"one",8,"a\nb"\n\ntwo,x,c\ntwo,y,d\n', "2 of 3 rows", "line 5"),
    ],
)
def test_csv_mistakes_name_the_cell(root, text, what, where):
    with pytest.raises(AnnotationError) as caught:
        import_corpus("clips", root, annotations=csv(root, text))
    assert what in caught.value.what
    assert where in (caught.value.where or "")
    # Spreadsheet cells mean nothing in a text file.
    assert "spreadsheet" not in str(caught.value)
    assert "!" not in (caught.value.where or "")


def test_csv_that_is_not_utf8(root):
    path = csv(root, "")
    path.write_bytes("clip,emotion\none,gl\xfccklich\n".encode("latin-1"))
    with pytest.raises(AnnotationError, match="is not UTF-8"):
        import_corpus("clips", root, annotations=path)


def test_a_clip_name_two_subjects_share_must_be_qualified(root):
    write_clip(root / "carl" / "one", range(3))
    with pytest.raises(AnnotationError, match="'one' is not unique: anna/one, carl/one"):
        import_corpus("clips", root, annotations=csv(root, "clip,emotion\none,x\n"))
    path = csv(root, "clip,subject,emotion\none,carl,anger\none,anna,fear\n")
    imported = import_corpus("clips", root, annotations=path)
    assert clip_named(imported, "clips/carl/one").emotion == "anger"
    assert clip_named(imported, "clips/anna/one").emotion == "fear"


def test_key_frames_are_checked(root):
    path = csv(root, "clip,onset,apex,offset\none,7,9,12\ntwo,1,9,4\nfilm,0,0,9\n")
    imported = import_corpus("clips", root, annotations=path)
    assert codes(imported.record) == {
        ("error", "onset-not-on-disk"): 1,
        ("warning", "frames-missing"): 2,
        ("warning", "apex-outside"): 1,
        ("warning", "apex-on-boundary"): 1,
        ("warning", "offset-not-on-disk"): 1,
    }
    assert clip_named(imported, "clips/anna/two").apex is None


def test_offset_zero_is_a_frame_of_a_video(root):
    path = csv(root, "clip,onset,offset\nfilm,0,0\none,,\ntwo,,\n")
    imported = import_corpus("clips", root, annotations=path)
    assert clip_named(imported, "clips/bert/film").offset == 0
    assert imported.record.findings == ()


def test_bad_videos_and_stray_folders_are_findings(root):
    (root / "bert" / "broken.avi").write_bytes(b"RIFF\x00\x00\x00\x00AVI ")
    write_clip(root / "anna" / "deep" / "er", range(3))
    (root / "dora").mkdir()
    write_frame(root / "cover.png", 1)
    (root / "anna" / "odd").mkdir()
    write_frame(root / "anna" / "odd" / "still.png", 0)
    imported = import_corpus("clips", root)
    assert len(imported.clips) == 3
    assert codes(imported.record) == {
        ("error", "video-unreadable"): 1,
        ("error", "folder-too-deep"): 1,
        ("error", "frames-unusable"): 1,
        ("warning", "clip-empty"): 1,
        ("warning", "frames-loose"): 1,
    }


def test_a_folder_and_a_video_of_one_name(root):
    write_video(root / "anna" / "one.avi", frames=3)
    with pytest.raises(ManifestError, match="Two clips have the name 'anna/one'"):
        import_corpus("clips", root)


def test_options_that_mean_nothing_here(root, tmp_path):
    with pytest.raises(ConfigError, match="no variants"):
        import_corpus("clips", root, variant="raw")
    with pytest.raises(ConfigError, match="no errata"):
        import_corpus("clips", root, errata=["x"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="No clip was found"):
        import_corpus("clips", tmp_path / "empty")


def test_awkward_names_work_or_are_refused(tmp_path):
    folder = tmp_path / "study"
    write_clip(folder / "Zoe\u0308 'q\"" / "a b ü", range(3))
    write_clip(folder / "eve" / "line\nbreak", range(3))
    imported = import_corpus("clips", folder, name="my-study")
    assert [clip.clip_id for clip in imported.clips] == ["my-study/Zo\u00eb 'q\"/a b ü"]
    finding = only(imported.record, "frames-unusable")
    assert (finding.level, finding.where) == ("error", "eve/line\\nbreak")
    assert len(list(ClipFrames(imported.clips[0], 0, 3))) == 3


def test_names_that_are_no_unicode_are_refused_and_can_be_stored(tmp_path):
    folder = tmp_path / "study"
    write_clip(folder / "anna" / "one", range(3))
    bad = os.fsencode(folder / "anna") + b"/caf\xe9"
    os.rename(folder / "anna" / "one", bad)
    write_clip(folder / "anna" / "two", range(3))
    imported = import_corpus("clips", folder)
    assert [clip.clip for clip in imported.clips] == ["two"]
    assert only(imported.record, "frames-unusable").where == "anna/caf\\udce9"
    path = write_manifest(tmp_path / "manifests", imported.clips, imported.record)
    assert read_manifest(path) == imported.clips
    assert read_record(path) == imported.record


def test_digests_do_not_depend_on_the_place(root):
    before = [clip.source_digest for clip in import_corpus("clips", root).clips]
    root.rename(root.with_name("moved"))
    after = import_corpus("clips", root.with_name("moved"), jobs=2)
    assert [clip.source_digest for clip in after.clips] == before


def test_a_row_may_not_move_a_clip_to_another_folders_subject(root):
    text = "clip,subject\none,bert\n"
    with pytest.raises(AnnotationError, match="it lies in the folder of 'anna'") as caught:
        import_corpus("clips", root, annotations=csv(root, text))
    assert "line 2, column 2 ('subject')" in str(caught.value)


def test_a_shifted_row_is_refused(root):
    text = "clip,emotion,subject\none,happy, very,anna\n"
    with pytest.raises(AnnotationError, match="4 cells and the table 3 columns"):
        import_corpus("clips", root, annotations=csv(root, text))


def test_a_bad_row_is_left_out_with_its_clip(root):
    text = "clip,onset,offset,fps\none,early,9,\ntwo,1,4,\nfilm,0,5,\n"
    imported = import_corpus("clips", root, annotations=csv(root, text))
    assert [clip.clip for clip in imported.clips] == ["two", "film"]
    finding = only(imported.record, "row-unreadable")
    assert finding.level == "error"
    assert finding.message.startswith("'onset' must be a whole number, not 'early'.")
    assert finding.where == "labels.csv, line 2, column 2 ('onset')"
    assert codes(imported.record) == {("error", "row-unreadable"): 1}


def test_of_a_clip_with_several_rows_only_the_bad_one_is_left_out(root):
    text = "clip,onset,offset\none,8,9\none,1/2,12\ntwo,1,4\nfilm,0,5\n"
    imported = import_corpus("clips", root, annotations=csv(root, text))
    one = [(clip.onset, clip.offset) for clip in imported.clips if clip.clip == "one"]
    assert one == [(8, 9)]


@pytest.mark.parametrize("cell", ["NA", "nan", "None", "null", "/"])
def test_a_subject_cell_that_says_none_is_told(root, cell):
    text = f"clip,subject\none,{cell}\ntwo,anna\nfilm,bert\n"
    imported = import_corpus("clips", root, annotations=csv(root, text))
    assert imported.clips[0].clip_id == "clips/anna/one"
    finding = only(imported.record, "subject-blank")
    assert repr(cell) in finding.message
    assert finding.where == "labels.csv, line 2, column 2 ('subject')"


def test_without_subject_folders_such_a_subject_is_unknown(tmp_path):
    write_clip(tmp_path / "study" / "one", range(3))
    path = csv(tmp_path, "clip,subject\none,NA\n")
    imported = import_corpus("clips", tmp_path / "study", annotations=path)
    assert imported.clips[0].subject == "unknown"
    assert codes(imported.record)["warning", "subject-unknown"] == 1


def test_a_subject_zero_is_kept_and_told(root):
    text = "clip,subject\none,0\ntwo,1\nfilm,2\n"
    imported = import_corpus("clips", root, annotations=csv(root, text))
    assert [clip.subject for clip in imported.clips] == ["0", "1", "2"]
    assert "kept as it is" in only(imported.record, "subject-zero").message


def test_subjects_that_differ_by_case_are_one_person(root):
    text = "clip,subject\none,P1\ntwo,p1\nfilm,p2\n"
    imported = import_corpus("clips", root, annotations=csv(root, text))
    assert [clip.clip_id for clip in imported.clips] == [
        "clips/P1/one",
        "clips/P1/two",
        "clips/p2/film",
    ]
    finding = only(imported.record, "subject-case")
    assert "'P1', 'p1' differ only by case; taken as one person, 'P1'" in finding.message


def test_subject_folders_that_differ_by_case_are_one_person(root):
    write_clip(root / "Anna" / "three", range(3))
    imported = import_corpus("clips", root)
    assert {clip.subject for clip in imported.clips} == {"Anna", "bert"}
    # Two clips of one name cannot be told apart then.
    write_clip(root / "Anna" / "one", range(3), tint=9)
    with pytest.raises(ManifestError, match="Anna/one"):
        import_corpus("clips", root)


def test_copies_of_frames_are_left_out(root):
    folder = root / "anna" / "one"
    write_frame(folder / "frame9 - Copy (7).png", 9)
    write_frame(folder / "frame9 copy 2.png", 9)
    imported = import_corpus("clips", root)
    assert imported.clips[0].frame_numbers == (8, 9, 10, 11, 12)
    assert "2 files are copies" in only(imported.record, "frames-copied").message


def test_a_mistyped_offset_costs_no_memory(root):
    imported = import_corpus(
        "clips", root, annotations=csv(root, "clip,onset,offset\none,8,2000000000\n")
    )
    finding = only(imported.record, "frames-missing")
    assert finding.message.startswith("1999999988 of 1999999993 frames")
    assert "13, 14, 15, 16, 17, ..." in finding.message


def test_an_onset_after_the_offset_says_nothing_of_missing_frames(root):
    imported = import_corpus(
        "clips", root, annotations=csv(root, "clip,onset,offset\none,100008,8\n")
    )
    assert "frames-missing" not in {code for _, code in codes(imported.record)}
    assert only(imported.record, "onset-after-offset").level == "error"


def test_videos_that_are_links_or_pipes_are_left_out_unopened(root, tmp_path):
    outside = tmp_path / "outside.avi"
    outside.write_bytes((root / "bert" / "film.avi").read_bytes())
    (root / "bert" / "link.avi").symlink_to(outside)
    os.mkfifo(root / "bert" / "pipe.avi")
    imported = import_corpus("clips", root)
    found = [item for item in imported.record.findings if item.code == "video-unreadable"]
    assert sorted(item.where for item in found) == ["'bert/link.avi'", "'bert/pipe.avi'"]
    assert not any("link" in clip.clip or "pipe" in clip.clip for clip in imported.clips)


def test_a_damaged_video_is_noticed(root):
    path = root / "carl" / "film.mp4"
    path.parent.mkdir()
    images = np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)
    videos.write_video(path, images, fps=25.0)
    data = bytearray(path.read_bytes())
    start = len(data) // 4
    data[start : 2 * start] = bytes(start)
    path.write_bytes(data)
    imported = import_corpus("clips", path.parent)
    assert "of the 40 frames that the video states" in only(imported.record, "video-short").message
