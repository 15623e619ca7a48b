from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from corpus_trees import codes, only, write_frame
from hypothesis import given
from hypothesis import strategies as st

from mer_prep.errors import AnnotationError, ConfigError, ManifestError
from mer_prep.manifest_files import clip_from_json, clip_to_json
from mer_prep.sources.affwild2 import read_labels, runs_of_one_class, split_evenly
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.facts import corpus_facts
from mer_prep.sources.frames import ClipFrames
from mer_prep.videos import write_video

HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise"
ANNOTATIONS = "EXPR_Recognition_Challenge/Train_Set"
SHORT = {"min-frames": "3", "max-frames": "5"}


def annotate(root: Path, name: str, classes: list[int], header: str = HEADER) -> Path:
    path = root / ANNOTATIONS / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(str(one) for one in classes)]) + "\n")
    return path


def crops(root: Path, name: str, numbers: range | list[int]) -> None:
    for number in numbers:
        write_frame(root / f"cropped_aligned/{name}/{number:05d}.jpg", number)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "affwild2"
    #               1-4          5-6       7-17      18-20
    annotate(root, "video1", [0] * 4 + [-1] * 2 + [4] * 11 + [6] * 3)
    crops(root, "video1", [n for n in range(1, 21) if n != 10])
    annotate(root, "video2_left", [1] * 6)
    crops(root, "video2_left", range(1, 7))
    return root


def test_frames_are_cut_into_clips_of_one_expression(root):
    imported = import_corpus("affwild2", root, options=SHORT)
    assert [(clip.clip_id, clip.emotion) for clip in imported.clips] == [
        ("affwild2/video1/00001-00004", "neutral"),
        # The stretch of happiness is interrupted by frame 10, which is missing.
        ("affwild2/video1/00007-00009", "happiness"),
        ("affwild2/video1/00011-00013", "happiness"),
        ("affwild2/video1/00014-00017", "happiness"),
        ("affwild2/video1/00018-00020", "surprise"),
        ("affwild2/video2_left/00001-00003", "anger"),
        ("affwild2/video2_left/00004-00006", "anger"),
    ]
    for clip in imported.clips:
        first, last = (int(number) for number in clip.clip.split("-"))
        assert clip.frame_numbers == tuple(range(first, last + 1))
        assert clip.frames[0] == f"cropped_aligned/{clip.subject}/{first:05d}.jpg"
        assert (clip.onset, clip.apex, clip.offset, clip.apex_source) == (None,) * 4
        assert clip.expression_span() == (0, len(clip.frames))
        assert (clip.expression_type, clip.fps, clip.restricted) == ("macro", 30.0, True)
        assert clip_from_json(clip_to_json(clip), where="here") == clip
    assert codes(imported.record) == {
        ("info", "frames-unannotated"): 1,
        ("info", "subject-is-track"): 1,
    }
    assert only(imported.record, "frames-unannotated").message.startswith("2 of 26 labels")
    assert imported.record.options == SHORT
    assert imported.record.annotations == str(root / ANNOTATIONS)


def test_short_stretches_are_left_out_and_counted(root):
    imported = import_corpus("affwild2", root, options={"min-frames": "4", "max-frames": "7"})
    assert [clip.clip for clip in imported.clips] == ["00001-00004", "00011-00017", "00001-00006"]
    finding = only(imported.record, "stretches-short")
    assert finding.message.startswith("6 frames lie in stretches of fewer than 4")
    with pytest.raises(ManifestError, match="No clip could be imported"):
        import_corpus("affwild2", root)


def test_lengths_must_fit_each_other(root):
    with pytest.raises(ConfigError, match="max-frames must be at least 7"):
        import_corpus("affwild2", root, options={"min-frames": "4", "max-frames": "6"})
    with pytest.raises(ConfigError, match="'min-frames' must be a whole number"):
        import_corpus("affwild2", root, options={"min-frames": "four"})
    with pytest.raises(ConfigError, match="min-frames"):
        import_corpus("affwild2", root, options={"min-frames": "1"})
    with pytest.raises(ConfigError, match="leaves no choice of 'min-frames'"):
        import_corpus("casme", root, options={"min-frames": "4"})


@given(
    st.lists(st.integers(-1, 2), max_size=40),
    st.sets(st.integers(1, 45)),
    st.integers(2, 6),
)
def test_every_labelled_frame_is_in_one_part_of_its_own_class(classes, present, shortest):
    numbers = sorted(present)
    longest = 2 * shortest - 1
    runs = runs_of_one_class(classes, numbers)
    covered = []
    for label, start, stop in runs:
        inside = numbers[start:stop]
        assert inside == list(range(inside[0], inside[-1] + 1))
        assert {classes[number - 1] for number in inside} == {label}
        covered += inside
        parts = split_evenly(start, stop, longest)
        assert (parts[0][0], parts[-1][1]) == (start, stop)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
        lengths = [b - a for a, b in parts]
        assert max(lengths) <= longest
        assert max(lengths) - min(lengths) <= 1
        assert stop - start < shortest or min(lengths) >= shortest
    assert covered == [n for n in numbers if n <= len(classes) and classes[n - 1] >= 0]
    # Stretches cannot be joined: neighbours differ in class or are apart.
    for a, b in itertools.pairwise(runs):
        assert a[0] != b[0] or numbers[b[1]] > numbers[a[2] - 1] + 1


def test_videos_count_from_zero(tmp_path):
    root = tmp_path / "videos"
    for batch, name, suffix in ((1, "video1", ".mp4"), (2, "video2", ".avi")):
        path = root / f"batch{batch}/{name}{suffix}"
        path.parent.mkdir(parents=True)
        shades = [np.full((64, 80, 3), 10 * number, np.uint8) for number in range(12)]
        write_video(path, shades, fps=25.0)
        annotate(root, name, [0] * 4 + [3] * 8)
    imported = import_corpus("affwild2", root, options=SHORT)
    assert imported.record.variant == "video"
    assert [clip.clip_id for clip in imported.clips] == [
        f"affwild2/{name}/{part}"
        for name in ("video1", "video2")
        for part in ("00000-00003", "00004-00007", "00008-00011")
    ]
    clip = imported.clips[1]
    assert (clip.video, clip.emotion, clip.fps) == ("batch1/video1.mp4", "fear", 25.0)
    assert clip.frame_numbers == (4, 5, 6, 7)
    frames = list(ClipFrames(clip, *clip.expression_span()))
    assert [round(frame.mean() / 10) for frame in frames] == [4, 5, 6, 7]
    # Clips of one video are told apart by their numbers.
    assert len({clip.source_digest for clip in imported.clips}) == 6


def test_a_video_of_two_people_is_not_guessed_at(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    write_video(root / "video1.avi", [np.zeros((64, 80, 3), np.uint8)] * 6, fps=30.0)
    write_video(root / "video2.avi", [np.zeros((64, 80, 3), np.uint8)] * 6, fps=30.0)
    annotate(root, "video1", [0] * 6)
    annotate(root, "video2_left", [1] * 6)
    annotate(root, "video2_right", [2] * 6)
    imported = import_corpus("affwild2", root, options=SHORT)
    assert {clip.subject for clip in imported.clips} == {"video1"}
    found = [item for item in imported.record.findings if item.code == "person-ambiguous"]
    assert [item.where for item in found] == ["video2_left", "video2_right"]


def test_labels_and_frames_of_other_lengths(tmp_path):
    root = tmp_path / "a"
    annotate(root, "video1", [0] * 4)
    crops(root, "video1", range(1, 8))
    write_video(root / "video2.avi", [np.zeros((64, 80, 3), np.uint8)] * 6, fps=30.0)
    annotate(root, "video2", [0] * 10)
    imported = import_corpus("affwild2", root, options=SHORT)
    assert [clip.clip for clip in imported.clips] == ["00001-00004"]
    assert only(imported.record, "frames-beyond-labels").message.startswith("3 frames lie beyond")
    assert only(imported.record, "source-missing").where == "video2"
    video = import_corpus("affwild2", root, variant="video", options=SHORT)
    assert [clip.clip for clip in video.clips] == ["00000-00002", "00003-00005"]
    assert only(video.record, "labels-and-frames").where == "video2.avi"


def test_annotations_elsewhere_of_other_kinds_and_of_nothing(tmp_path, root):
    elsewhere = tmp_path / "annotations"
    (root / "EXPR_Recognition_Challenge").rename(elsewhere)
    (root / "readme.txt").write_text("Frames of faces.\n")
    values = root / "VA_Estimation_Challenge/Train_Set/video1.txt"
    values.parent.mkdir(parents=True)
    values.write_text("valence,arousal\n0.1,0.2\n")
    with pytest.raises(AnnotationError, match="No annotation of expressions was found"):
        import_corpus("affwild2", root)
    imported = import_corpus("affwild2", root, annotations=elsewhere, options=SHORT)
    assert len(imported.clips) == 7
    one = elsewhere / "Train_Set/video2_left.txt"
    alone = import_corpus("affwild2", root, annotations=one, options=SHORT)
    assert {clip.subject for clip in alone.clips} == {"video2_left"}
    assert only(alone.record, "track-without-labels").message.startswith("1 tracks")


def test_the_eighth_class_and_other_orders_are_read_by_name(root):
    annotate(root, "video2_left", [0] * 3 + [7] * 3, f"Other,{HEADER}")
    clips = import_corpus("affwild2", root, options=SHORT).clips
    assert [clip.emotion for clip in clips[-2:]] == ["others", "surprise"]
    assert [clip.emotion_raw for clip in clips[-2:]] == ["Other", "Surprise"]


@pytest.mark.parametrize(
    ("classes", "header", "line", "message"),
    [
        ([0, 7], HEADER, 3, "'7' is no class from -1 to 6"),
        ([0, -2], HEADER, 3, "'-2' is no class"),
        (["0.5"], HEADER, 2, "'0.5' is no class"),
        (["", 1], HEADER, 2, "'' is no class"),
        ([0], HEADER + ",Contentment", 1, "names 'Contentment'"),
    ],
)
def test_a_file_that_cannot_be_read_is_left_out_alone(root, classes, header, line, message):
    annotate(root, "video1", classes, header)
    imported = import_corpus("affwild2", root, options=SHORT)
    assert {clip.subject for clip in imported.clips} == {"video2_left"}
    finding = only(imported.record, "annotation-unreadable")
    assert message in finding.message
    assert (finding.level, finding.where) == ("error", f"video1.txt, line {line}")


def test_a_second_file_for_one_track(root):
    copy = root / "Copy" / "video1.txt"
    copy.parent.mkdir()
    copy.write_bytes((root / ANNOTATIONS / "video1.txt").read_bytes())
    assert ("warning", "annotation-repeated") not in codes(
        import_corpus("affwild2", root, options=SHORT).record
    )
    copy.write_text(f"{HEADER}\n0\n")
    imported = import_corpus("affwild2", root, options=SHORT)
    finding = only(imported.record, "annotation-repeated")
    assert str(copy) in finding.message
    assert finding.where == str(root / ANNOTATIONS / "video1.txt")


def test_a_second_file_whose_name_differs_in_case(root):
    copy = root / ANNOTATIONS / "VIDEO1.txt"
    first = root / ANNOTATIONS / "video1.txt"
    copy.write_bytes(first.read_bytes())
    same = import_corpus("affwild2", root, options=SHORT)
    assert ("warning", "annotation-repeated") not in codes(same.record)
    copy.write_text(f"{HEADER}\n0\n")
    imported = import_corpus("affwild2", root, options=SHORT)
    finding = only(imported.record, "annotation-repeated")
    # In the order of the names: capitals come first.
    assert str(copy) in finding.message
    assert finding.where == str(first)
    ids = [clip.clip_id for clip in imported.clips]
    assert len(ids) == len(set(ids))


def test_the_digest_of_the_annotations_follows_their_content(root):
    before = import_corpus("affwild2", root, options=SHORT).record.annotations_sha256
    assert import_corpus("affwild2", root, options=SHORT).record.annotations_sha256 == before
    annotate(root, "video2_left", [1] * 5 + [2])
    assert import_corpus("affwild2", root, options=SHORT).record.annotations_sha256 != before


def test_windows_line_ends_and_blank_last_lines(tmp_path):
    path = tmp_path / "video1.txt"
    path.write_bytes(f"\ufeff{HEADER}\r\n0\r\n-1\r\n\r\n".encode())
    labels = read_labels(path, corpus_facts("affwild2").emotions)
    assert labels is not None
    assert labels.classes == (0, -1)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_labels(path, corpus_facts("affwild2").emotions)
    path.write_bytes(b"")
    assert read_labels(path, corpus_facts("affwild2").emotions) is None


def test_two_folders_of_one_track_are_noted(root):
    for number in range(1, 4):
        write_frame(root / f"cropped_aligned/batch2/video1/{number:05d}.jpg", number)
    imported = import_corpus("affwild2", root, options=SHORT)
    assert len(imported.clips) == 7
    finding = only(imported.record, "folder-duplicate")
    assert finding.where == "cropped_aligned/batch2/video1"
