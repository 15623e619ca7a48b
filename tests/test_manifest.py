from __future__ import annotations

import json
from pathlib import Path

import pytest

from mer_prep.errors import ManifestError
from mer_prep.manifest import Finding, ImportRecord, make_clip_id
from mer_prep.manifest_files import (
    clip_from_json,
    clip_to_json,
    read_manifest,
    read_record,
    write_manifest,
)
from mer_prep.workspace import Workspace
from tests.conftest import MakeClip, store_manifest


def test_a_clip_survives_its_line(toy_clip: MakeClip) -> None:
    clip = toy_clip()
    assert clip_from_json(clip_to_json(clip), where="here") == clip


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("schema", 2, "schema 2; this mer-prep reads schema 1"),
        ("frames", ["../../etc/passwd", "a", "b", "c", "d"], "not a plain relative path"),
        ("frames", ["/etc/passwd", "a", "b", "c", "d"], "not a plain relative path"),
        ("frames", ["a\0b", "a", "b", "c", "d"], "not a plain relative path"),
        ("frames", ["http://host/x.jpg", "a", "b", "c", "d"], "not a plain relative path"),
        ("frames", ["C:/x.jpg", "a", "b", "c", "d"], "not a plain relative path"),
        ("frames", ["a"], "differ in count"),
        ("frame_numbers", [3, 2, 1, 4, 5], "do not ascend"),
        ("frame_numbers", [1, 2, 3, 4, True], "list of whole numbers"),
        ("onset", "8", "must be int"),
        ("apex", None, "do not fit"),
        ("apex_source", "guessed", "do not fit"),
        ("colour", "red", r"unknown \['colour'\]"),
        ("video", "film.avi", "either frames or a video"),
    ],
)
def test_a_bad_line_is_refused_with_its_place(
    toy_clip: MakeClip, field: str, value: object, message: str
) -> None:
    record = json.loads(clip_to_json(toy_clip()))
    record[field] = value
    with pytest.raises(ManifestError, match=message) as caught:
        clip_from_json(json.dumps(record), where="toy.jsonl, line 7")
    assert "line 7" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 1', "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"schema": 1, "schema": 1}', "stands twice"),
        ('{"schema": 1}', "missing"),
    ],
)
def test_a_line_that_is_no_clip_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        clip_from_json(text, where="line 1")


def test_a_torn_last_line_is_named_by_number(imported: Workspace) -> None:
    path = imported.manifests / "toy.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ManifestError, match="line 4"):
        read_manifest(path)


def test_byte_order_mark_and_windows_line_ends_do_no_harm(imported: Workspace) -> None:
    path = imported.manifests / "toy.jsonl"
    clips = read_manifest(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_manifest(path) == clips


def test_two_clips_of_one_id_are_refused_with_both_rows(
    workspace: Workspace, toy_clip: MakeClip
) -> None:
    with pytest.raises(ManifestError, match=r"stands twice \(clips 1 and 2\)"):
        store_manifest(workspace, [toy_clip(), toy_clip()])


def test_ids_are_unicode_normalised() -> None:
    assert make_clip_id("clips", "Jose\u0301", "a") == make_clip_id("clips", "Jos\u00e9", "a")


def test_positions_are_not_numbers(toy_clip: MakeClip) -> None:
    clip = toy_clip(numbers=(8, 9, 12, 13), onset=9, apex=12, offset=13)
    assert clip.position(12) == 2
    assert clip.expression_span() == (1, 4)
    with pytest.raises(ManifestError, match="Frame 10"):
        clip.position(10)


def test_an_offset_beyond_the_files_ends_at_the_last(toy_clip: MakeClip) -> None:
    assert toy_clip(offset=20).expression_span() == (0, 5)
    assert toy_clip(onset=None, apex=None, offset=None).expression_span() == (0, 5)


def test_the_import_record_survives(tmp_path: Path, toy_clip: MakeClip) -> None:
    record = ImportRecord(
        corpus="toy",
        source="clips",
        root="/data",
        errata=("one",),
        findings=(Finding("warning", "gap", "2 frames are missing", clip_id="toy/a/b"),),
    )
    path = write_manifest(tmp_path, [toy_clip()], record)
    assert read_record(path) == record
    assert list(tmp_path.glob("*.partial")) == []


def test_an_unknown_corpus_is_suggested(imported: Workspace) -> None:
    with pytest.raises(ManifestError, match="Did you mean 'toy'"):
        imported.select(("toys",))
    with pytest.raises(ManifestError, match="Did you mean 'toy/sub01/EP01_01'"):
        imported.find_clip("toy/sub01/EP01_1")
    with pytest.raises(ManifestError, match="no imported corpus"):
        Workspace(imported.root / "other").select(())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("clip_id", "abc", "does not fit"),
        ("clip", ".", "does not fit"),
        ("root", "../../etc", "not an absolute path"),
        ("root", "/da\0ta", "not an absolute path"),
        ("root", "/data/../etc", "not an absolute path"),
        ("frame_numbers", [8, 9, 10, 11, 10**30], "out of range"),
        ("fps", -1.0, "frames per second"),
        ("fps", float("nan"), "not valid JSON"),
    ],
)
def test_names_and_numbers_are_checked(
    toy_clip: MakeClip, field: str, value: object, message: str
) -> None:
    record = json.loads(clip_to_json(toy_clip()))
    record[field] = value
    with pytest.raises(ManifestError, match=message):
        clip_from_json(json.dumps(record), where="line 1")


def test_a_clip_of_another_corpus_is_refused(imported: Workspace) -> None:
    (imported.manifests / "toy.jsonl").rename(imported.manifests / "samm.jsonl")
    with pytest.raises(ManifestError, match=r"corpus 'toy' stands in the manifest samm\.jsonl"):
        read_manifest(imported.manifests / "samm.jsonl")
