"""The ground truth of spotting from manifests, and what its policies change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mer_prep.errors import ConfigError, ManifestError
from mer_prep.manifest import Clip, Finding, ImportRecord, Recording, make_clip_id
from mer_prep.manifest_files import write_manifest
from mer_prep.spotting import Interval, corpora_with_recordings, read_ground_truth
from mer_prep.spotting.truth import Policy
from mer_prep.workspace import Workspace

RECORDINGS = (
    Recording("006_1", "006", "videos/006_1", 1, 900, 900),
    Recording("006_5", "006", "videos/006_5", 1, 40, 40),
    Recording("007_1", "007", "videos/007_1", 3, 700, 600),
)


def clip(name: str, onset: int | None, apex: int | None, offset: int | None, **facts: Any) -> Clip:
    """Return a clip of which only the second around its expression is kept."""
    first = facts.pop("first", (onset or 3) - 1)
    numbers = (first, first + 1, first + 2)
    recording = name.rsplit("_", 1)[0]
    return Clip(
        clip_id=make_clip_id("samm_lv", name[:3], name),
        corpus="samm_lv",
        subject=name[:3],
        clip=name,
        root="/data",
        frame_numbers=numbers,
        frames=tuple(f"videos/{recording}/{recording}_{n:04d}.jpg" for n in numbers),
        onset=onset,
        apex=apex,
        offset=offset,
        apex_source=None if apex is None else "annotated",
        **facts,
    )


CLIPS = (
    clip("006_1_3", 50, 58, 70, expression_type="macro"),
    clip("006_1_2", 10, 14, 18, emotion="anger"),
    clip("007_1_1", 20, 25, 30, emotion="others"),
)


def store(
    workspace: Workspace,
    clips: Sequence[Clip] = CLIPS,
    *,
    corpus: str = "samm_lv",
    recordings: Sequence[Recording] = RECORDINGS,
    **facts: Any,
) -> Workspace:
    record = ImportRecord(
        corpus=corpus,
        source=facts.pop("source", corpus),
        root="/data",
        recordings=tuple(recordings),
        **facts,
    )
    write_manifest(workspace.manifests, clips, record)
    return workspace


def spans(workspace: Workspace, **policy: str) -> list[tuple[int, int]]:
    truth = read_ground_truth(workspace, ["samm_lv"], policy=Policy(**policy))
    return [(one.onset, one.offset) for one in truth.intervals]


def test_expressions_by_video_and_all_videos(workspace):
    truth = read_ground_truth(store(workspace), ["samm_lv"])
    assert truth.intervals == (
        Interval("samm_lv/006_1", 10, 18, "micro", "anger"),
        Interval("samm_lv/006_1", 50, 70, "macro", None),
        Interval("samm_lv/007_1", 20, 30, "micro", "others"),
    )
    found = [(one.name, one.subject, one.first, one.last) for one in truth.videos]
    assert found == [
        ("samm_lv/006_1", "samm_lv/006", 1, 900),
        ("samm_lv/006_5", "samm_lv/006", 1, 40),
        ("samm_lv/007_1", "samm_lv/007", 3, 700),
    ]
    assert [video.name for video in truth.without_expression()] == ["samm_lv/006_5"]
    assert truth.notes == ()
    assert not truth.synthetic


def test_types_are_chosen_and_the_videos_stay(workspace):
    truth = read_ground_truth(store(workspace), ["samm_lv"], types=["macro"])
    assert [one.type for one in truth.intervals] == ["macro"]
    assert len(truth.videos) == 3


@pytest.mark.parametrize(
    ("policy", "offset", "note"),
    [
        ("apex", 27, "1 expressions without an offset end at their apex"),
        ("mirror", 34, "1 expressions without an offset end as long after the apex"),
        ("drop", None, "1 expressions without an offset left out"),
    ],
)
@pytest.mark.parametrize("stored", [None, 27])
def test_what_stands_in_for_an_offset(workspace, policy, offset, note, stored):
    # CAS(ME)^2 has the apex filled in at import and marked, the others leave the offset open.
    open_end = clip("006_1_2", 20, 27, stored, flags=("offset-missing",))
    truth = read_ground_truth(
        store(workspace, [open_end]), ["samm_lv"], policy=Policy(missing_offset=policy)
    )
    assert [one.offset for one in truth.intervals] == ([offset] if offset else [])
    assert len(truth.notes) == 1
    assert truth.notes[0].startswith(f"samm_lv: {note}")


def test_without_offset_and_apex_there_is_no_expression(workspace):
    lost = clip("006_1_2", 20, None, None, flags=("offset-missing",))
    truth = read_ground_truth(store(workspace, [lost, CLIPS[2]]), ["samm_lv"])
    assert [one.video for one in truth.intervals] == ["samm_lv/007_1"]
    assert truth.notes == ("samm_lv: 1 expressions without an offset or an apex left out",)


def test_macro_expressions_from_the_start_are_left_out_unless_kept(workspace):
    flags = ("onset-at-start", "onset-missing")
    whole = clip("007_1_4", None, 40, 600, expression_type="macro", flags=flags)
    store(workspace, [*CLIPS, whole])
    assert spans(workspace) == [(10, 18), (50, 70), (20, 30)]
    # Without an onset the recording's first frame stands in.
    assert spans(workspace, onset_at_start="keep") == [(10, 18), (50, 70), (3, 600), (20, 30)]


def test_an_onset_after_its_offset_is_left_out_with_a_note(workspace):
    store(workspace, [CLIPS[0], clip("006_1_2", 20, None, 10)])
    truth = read_ground_truth(workspace, ["samm_lv"])
    assert [one.onset for one in truth.intervals] == [50]
    assert truth.notes == ("samm_lv: 1 expressions whose onset lies after their offset left out",)


def test_what_the_import_left_out_is_said(workspace):
    findings = (
        Finding("error", "clip-not-on-disk", "gone", "samm_lv/006/006_1_9"),
        Finding("warning", "offset-missing", "left out", "samm_lv/006/006_1_8"),
        Finding("warning", "offset-missing", "kept", CLIPS[0].clip_id),
    )
    store(workspace, findings=findings)
    first, second = read_ground_truth(workspace, ["samm_lv"]).notes
    assert first.startswith("samm_lv: 1 annotated expressions are not in the manifest")
    assert second.startswith("samm_lv: 1 expressions without an offset were left out at import")
    dropped = read_ground_truth(workspace, ["samm_lv"], policy=Policy(missing_offset="drop"))
    assert dropped.notes == (first,)


def test_a_type_that_was_not_imported_is_refused(workspace):
    store(workspace, CLIPS[1:], options={"expressions": "micro"})
    assert len(read_ground_truth(workspace, ["samm_lv"], types=["micro"]).intervals) == 2
    with pytest.raises(ManifestError, match="macro-expressions of samm_lv were left out") as error:
        read_ground_truth(workspace, ["samm_lv"])
    assert "--expressions all, or score with --type micro" in str(error.value)


def test_only_corpora_with_long_videos_are_taken(workspace):
    store(workspace)
    crops = [Clip(**{**fields(CLIPS[1]), "corpus": "casme_sq", "clip_id": "casme_sq/006/006_1_2"})]
    store(workspace, crops, corpus="casme_sq", recordings=(), variant="cropped")
    assert corpora_with_recordings(workspace, ()) == ["samm_lv"]
    with pytest.raises(ManifestError, match="without long videos, as 'cropped'") as error:
        corpora_with_recordings(workspace, ("casme_sq",))
    assert "--variant raw" in str(error.value)


def test_a_workspace_without_long_videos(workspace):
    store(workspace, recordings=(), source="clips")
    with pytest.raises(ManifestError, match="No imported corpus has long videos"):
        corpora_with_recordings(workspace, ())
    with pytest.raises(ManifestError, match="--truth FILE"):
        corpora_with_recordings(workspace, ("samm_lv",))


def test_policies_are_named_and_checked():
    with pytest.raises(ConfigError, match="Did you mean 'mirror'"):
        Policy(missing_offset="miror")
    with pytest.raises(ConfigError, match="onset-at-start"):
        Policy(onset_at_start="no")


def fields(one: Clip) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Clip.__slots__}


def test_an_expression_that_is_annotated_twice_counts_once(workspace):
    twice = (
        clip("006_1_2", 10, 14, 18, emotion="anger"),
        clip("006_1_4", 10, 14, 18, emotion="anger"),
    )
    other = clip("006_1_5", 10, 14, 18, emotion="fear")
    store(workspace, (*twice, other))
    truth = read_ground_truth(workspace, ["samm_lv"])
    assert [one.emotion for one in truth.intervals] == ["anger", "fear"]
    assert "samm_lv: 1 expressions annotated twice counted once" in truth.notes


def test_what_ends_after_its_recording_is_left_out_with_a_note(workspace):
    store(workspace, [CLIPS[0], clip("006_1_2", 20, None, 60000)])
    truth = read_ground_truth(workspace, ["samm_lv"])
    assert [one.onset for one in truth.intervals] == [50]
    assert any("end after the last frame" in note for note in truth.notes)


def test_frames_outside_of_all_recordings_are_an_error(workspace):
    store(workspace, recordings=RECORDINGS[1:])
    with pytest.raises(ManifestError, match="lie in no recording"):
        read_ground_truth(workspace, ["samm_lv"])
