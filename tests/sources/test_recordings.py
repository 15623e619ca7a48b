"""The long videos that importers list, those without expressions too."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_trees import only, write_frame, write_tree

from mer_prep.manifest import Recording
from mer_prep.manifest_files import read_record, write_manifest
from mer_prep.sources.corpus import import_corpus
from mer_prep.synth.layouts import PlannedClip


def names(corpus: str, root: Path, **options: str) -> list[tuple[str, str]]:
    record = import_corpus(corpus, root, **options).record  # type: ignore[arg-type]
    return [(one.subject, one.name) for one in record.recordings]


def test_cas_me_2_lists_recordings_with_and_without_expressions(tmp_path):
    clips = [
        PlannedClip(15, "disgust1_1", "negative", "4", 1, 40, 10, 12, 15),
        PlannedClip(15, "disgust1_2", "negative", "4", 41, 80, 50, 52, 55),
    ]
    root = write_tree("casme_sq", tmp_path / "casme_sq", clips)
    for number in (3, 4, 9):
        write_frame(root / f"rawpic/s16/16_0505funnyinnovations/img{number:03d}.jpg", number)
    record = import_corpus("casme_sq", root).record
    assert record.recordings == (
        Recording("15_0101disgustingteeth", "s15", "rawpic/s15/15_0101disgustingteeth", 1, 80, 80),
        Recording("16_0505funnyinnovations", "s16", "rawpic/s16/16_0505funnyinnovations", 3, 9, 3),
    )


def test_crops_of_cas_me_2_have_no_recordings(tmp_path):
    clip = PlannedClip(15, "disgust1_1", "negative", "4", 1, 40, 10, 12, 15)
    root = write_tree("casme_sq", tmp_path / "casme_sq", [clip], variant="cropped")
    assert names("casme_sq", root) == []


def test_samm_long_videos_count_a_recording_without_frames_once(tmp_path):
    clip = PlannedClip(6, "006_1_2", "anger", "4", 1, 40, 10, 14, 18, 3)
    root = write_tree("samm_lv", tmp_path / "samm_lv", [clip])
    (root / "SAMM_longvideos/007_8").mkdir()
    record = import_corpus("samm_lv", root).record
    assert [(one.subject, one.name) for one in record.recordings] == [
        ("006", "006_1"),
        ("006", "006_9"),
    ]
    finding = only(record, "recording-unusable")
    assert (finding.level, finding.where) == ("warning", "SAMM_longvideos/007_8")
    assert "1 recordings have no frames" in finding.message


def test_cas_me_3_names_recordings_by_subject_and_letter(tmp_path):
    clips = [
        PlannedClip(1, "a", "others", "4+7", 8, 60, 20, 24, 29, 3),
        PlannedClip(40, "j", "sadness", "4", 8, 50, 20, 24, 28, 7),
    ]
    root = write_tree("casme3", tmp_path / "casme3", clips)
    record = import_corpus("casme3", root).record
    found = {one.name: (one.subject, one.first, one.last) for one in record.recordings}
    assert found["spNO.1_a"] == ("spNO.1", 8, 60)
    assert found["spNO.40_j"] == ("spNO.40", 8, 50)


@pytest.mark.parametrize(
    ("variant", "expected"), [("SMIC-E-HS", [("s03", "s3_ne_22")]), ("HS", [])]
)
def test_only_the_long_clips_of_smic_are_recordings(tmp_path, variant, expected):
    clip = PlannedClip(3, "s3_ne_22", "negative", "", 100, 160, 120, None, 140)
    root = write_tree("smic", tmp_path / "smic", [clip], variant=variant)
    assert names("smic", root, variant=variant) == expected


def test_recordings_survive_the_workspace(tmp_path):
    clip = PlannedClip(6, "006_1_2", "anger", "4", 1, 40, 10, 14, 18, 3)
    imported = import_corpus("samm_lv", write_tree("samm_lv", tmp_path / "samm_lv", [clip]))
    path = write_manifest(tmp_path / "manifests", imported.clips, imported.record)
    assert read_record(path) == imported.record
    assert imported.record.recordings
