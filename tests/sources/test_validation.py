from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from corpus_trees import codes, only, write_frame, write_tree

from mer_prep.manifest import Clip, Finding, ImportRecord
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.facts import corpus_facts
from mer_prep.sources.validation import expected_findings, validate_clips
from mer_prep.synth.layouts import PlannedClip

CLIPS = (
    PlannedClip(1, "EP02_01f", "happiness", "6+12", 90, 110, 96, 100, 105, 1),
    PlannedClip(2, "EP03_02", "disgust", "4", 10, 30, 15, 18, 24, 4),
)


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    root = write_tree("casme2", tmp_path / "casme2", CLIPS, quirks=False)
    return import_corpus("casme2", root).clips


def test_a_good_manifest_gives_nothing(clips):
    assert validate_clips(clips) == []
    calls: list[tuple[int, int]] = []
    progress = lambda done, total: calls.append((done, total))  # noqa: E731
    assert validate_clips(clips, frames="exist", progress=progress) == []
    assert calls == [(1, 2), (2, 2)]


def test_what_the_importer_has_noted_is_not_repeated(clips):
    told = changed(clips, apex=96, flags=("apex-on-boundary",))
    assert validate_clips(told) == []
    assert codes(validate_clips(changed(clips, apex=96))) == {("warning", "apex-on-boundary"): 1}


def changed(clips: list[Clip], **changes: object) -> list[Clip]:
    return [dataclasses.replace(clips[0], **changes), clips[1]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "level", "code"),
    [
        ({"onset": 105, "offset": 100, "apex": None}, "error", "onset-after-offset"),
        ({"apex": 95}, "error", "apex-outside"),
        ({"apex": 96}, "warning", "apex-on-boundary"),
        ({"onset": 90}, "error", "onset-not-on-disk"),
        ({"offset": 109}, "warning", "offset-not-on-disk"),
        ({"fps": 5.0}, "warning", "clip-long"),
    ],
)
def test_key_frames(clips, changes, level, code):
    if changes.get("apex", 0) is None:
        changes = {**changes, "apex_source": None}
    findings = validate_clips(changed(clips, **changes))
    assert (level, code) in codes(findings)
    assert {finding.clip_id for finding in findings} == {clips[0].clip_id}


def test_short_expressions(clips):
    short = validate_clips(changed(clips, offset=100, apex=98))
    assert only(short, "clip-short").level == "warning"
    one = validate_clips(changed(clips, offset=96, apex=96))
    assert only(one, "clip-short").level == "error"


def test_a_missing_file_is_counted_even_without_headers(clips):
    for number in (97, 99):
        (Path(clips[0].root) / "CASME2_RAW_selected/sub01/EP02_01f" / f"img{number}.jpg").unlink()
    for frames in ("headers", "exist"):
        (finding,) = validate_clips(clips, frames=frames)
        assert str(finding) == (
            "error [file-missing] casme2/sub01/EP02_01f: Files are missing (2 of 10); the first: "
            "CASME2_RAW_selected/sub01/EP02_01f/img97.jpg."
        )


def test_sizes_and_unreadable_headers(clips):
    folder = Path(clips[0].root) / "CASME2_RAW_selected/sub01/EP02_01f"
    write_frame(folder / "img98.jpg", 98, size=(66, 80))
    (folder / "img101.jpg").write_bytes(b"")
    (folder / "img102.jpg").write_bytes(b"hello")
    findings = validate_clips(clips)
    assert only(findings, "frame-size").message == (
        "Frames differ in size (1 of 10); the first: "
        "CASME2_RAW_selected/sub01/EP02_01f/img98.jpg is 66x80 px, not 64x80 px."
    )
    assert only(findings, "frame-unreadable").message.startswith(
        "Frames cannot be read (2 of 10); the first: CASME2_RAW_selected/sub01/EP02_01f/img101.jpg "
        "(The frame is an empty file)"
    )
    assert validate_clips(clips, frames="exist") == []


def test_a_header_behind_a_long_comment(clips):
    path = Path(clips[0].root) / "CASME2_RAW_selected/sub01/EP02_01f/img98.jpg"
    data = path.read_bytes()
    comment = b"\xff\xfe\xff\xff" + b"x" * 65533
    path.write_bytes(data[:2] + comment * 2 + data[2:])
    assert validate_clips(clips) == []


def test_duplicates_and_clashes(clips):
    first, second = clips
    other_case = dataclasses.replace(second, clip_id=first.clip_id.upper(), subject="sub09")
    findings = validate_clips([first, first, other_case], frames="exist")
    assert codes(findings) == {
        ("error", "id-duplicate"): 1,
        ("warning", "id-case-clash"): 1,
        ("warning", "source-duplicate"): 1,
    }
    stolen = dataclasses.replace(first, clip_id="casme2/sub07/x", subject="sub07")
    assert only(validate_clips([first, stolen]), "source-shared").level == "error"
    part = dataclasses.replace(first, clip_id="casme2/sub01/y", onset=97)
    assert validate_clips([first, part], frames="exist") == []


def test_a_path_that_leads_out_is_refused(clips, tmp_path):
    path = Path(clips[0].root) / clips[0].frames[0]
    path.rename(tmp_path / "out.jpg")
    path.symlink_to(tmp_path / "out.jpg")
    (finding,) = validate_clips(clips, frames="exist")
    assert (finding.level, finding.code) == ("error", "frame-unreadable")
    assert "A link leads out of the corpus folder" in finding.message


def full(source: str, version: str) -> tuple[list[Clip], ImportRecord]:
    """Return clips with the published counts of a version, and nothing else real."""
    expected = corpus_facts(source).versions[version]
    subjects = [s for s, count in (expected.per_subject or {}).items() for _ in range(count)]
    emotions = [e for e, count in (expected.emotions or {}).items() for _ in range(count)]
    classes = [int(c) for c, n in (expected.objective_classes or {}).items() for _ in range(n)]
    classes = classes or [None] * len(subjects)  # type: ignore[list-item]
    clips = [
        Clip(
            f"{source}/{subject}/{index}",
            source,
            subject,
            str(index),
            "/",
            (1,),
            ("1.jpg",),
            emotion=emotion,
            objective_class=number,
        )
        for index, (subject, emotion, number) in enumerate(
            zip(subjects, emotions, classes, strict=True)
        )
    ]
    return clips, ImportRecord(source, source, "/", annotation_version=version)


@pytest.mark.parametrize(
    ("source", "version", "clips", "subjects"),
    [
        ("casme2", "A", 255, 26),
        ("casme2", "B", 255, 26),
        ("casme2", "B+1", 256, 26),
        ("samm", "v2", 159, 29),
        ("smic", "HS", 164, 16),
    ],
)
def test_published_counts_agree_with_themselves(source, version, clips, subjects):
    (finding,) = expected_findings(*full(source, version))
    assert (finding.level, finding.code) == ("info", "counts-agree")
    assert finding.message.startswith(f"{clips} clips of {subjects} subjects: ")


def planned(source: str, version: str) -> list[PlannedClip]:
    """Return clips of a corpus in its own spelling, as many as are published of each kind."""
    expected = corpus_facts(source).versions[version]
    people = [s for s, count in (expected.per_subject or {}).items() for _ in range(count)]
    emotions = [e for e, count in (expected.emotions or {}).items() for _ in range(count)]
    classes = [int(c) for c, n in (expected.objective_classes or {}).items() for _ in range(n)]
    shared = len(people) - (expected.folders or len(people))
    # Expressions of one folder are of one person: the second of every pair of neighbours.
    pairs = [i for i in range(1, len(people), 2) if people[i] == people[i - 1]][:shared]
    clips = []
    for index, (person, emotion) in enumerate(zip(people, emotions, strict=True)):
        subject = int("".join(filter(str.isdigit, person)))
        number = index - (index in pairs)
        name = f"EP{number // 9 + 1:02d}_{number % 9 + 1}"
        if source == "casme2":
            name = f"EP{index // 9 + 1:02d}_{index % 9 + 1:02d}f"
        if source == "smic":
            name = f"s{subject}_{emotion[: 3 if emotion == 'surprise' else 2]}_{index % 99 + 1:02d}"
        if source == "samm":
            name = f"{subject:03d}_{index // 90 + 1}_{index % 90 + 1}"
        onset = 30 if index in pairs else 10
        objective = classes[index] if classes else None
        clips.append(
            PlannedClip(
                *(subject, name, emotion, "4"),
                *(onset, onset + 2, onset, onset + 1, onset + 2, objective),
            )
        )
    return clips


@pytest.mark.parametrize(
    ("source", "version"), [("casme", "189"), ("casme2", "B"), ("samm", "v2"), ("smic", "HS")]
)
def test_the_counts_of_a_complete_copy_are_as_published(source, version, tmp_path):
    root = write_tree(source, tmp_path / source, planned(source, version), quirks=False)
    imported = import_corpus(source, root, errata=False)
    record = dataclasses.replace(imported.record, annotation_version=version)
    (finding,) = expected_findings(imported.clips, record)
    assert (finding.level, finding.code) == ("info", "counts-agree"), finding


def test_one_person_may_be_spelt_in_several_ways():
    clips, record = full("smic", "HS")
    short = [dataclasses.replace(c, subject=c.subject.replace("s0", "s")) for c in clips]
    assert codes(expected_findings(short, record)) == {("info", "counts-agree"): 1}
    (_, _, one) = expected_findings(short[1:], record)
    assert one.message == (
        "Clips per subject differ from the published ones: s1 5 instead of 6 (SMIC, HS)."
    )


def test_every_count_that_differs_is_named():
    clips, record = full("samm", "v2")
    findings = expected_findings([c for c in clips if c.subject != "007"], record)
    assert {finding.level for finding in findings} == {"warning"}
    assert [finding.code for finding in findings] == [
        "counts-clips",
        "counts-subjects",
        "counts-emotion",
        "counts-subject",
        "counts-objective class",
    ]
    assert findings[0].message == "159 clips are published, 149 were found (SAMM, v2)."
    assert findings[3].message.endswith("published ones: 007 0 instead of 10 (SAMM, v2).")


def test_synthetic_unknown_and_foreign_corpora_are_not_compared():
    clips, record = full("samm", "v2")
    part = clips[:3]
    synthetic = expected_findings(part, dataclasses.replace(record, synthetic=True))
    assert codes(synthetic) == {("info", "counts-synthetic"): 1}
    unknown = expected_findings(part, dataclasses.replace(record, annotation_version="unknown"))
    assert codes(unknown) == {("warning", "counts-unchecked"): 1}
    other: list[Finding] = expected_findings(part, ImportRecord("x", "clips", "/"))
    assert other == []


@pytest.mark.parametrize(
    ("corpus", "form"), [("casme2", r"sub\d\d"), ("samm", r"\d{3}"), ("smic", r"s\d\d")]
)
def test_published_counts_name_subjects_as_the_importer_does(corpus, form):
    versions = corpus_facts(corpus).versions.values()
    named = [name for version in versions for name in version.per_subject or ()]
    assert named
    assert all(re.fullmatch(form, name) for name in named)
