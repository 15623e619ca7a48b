from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from mer_prep.errors import ConfigError, MerPrepError, ShardError
from mer_prep.stages.base import build_stages
from mer_prep.stages.failures import read_failures, record_failures
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner, RunSummary
from mer_prep.store.cache import Cache
from mer_prep.store.lock import Lock
from mer_prep.store.shard import check_shard, merge, read_clip, read_header
from mer_prep.workspace import Workspace
from tests.conftest import MakeClip, store_manifest, write_frame
from tests.shards import changing
from tests.toys import TOYS, Change, Means


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer_prep.stages.worker.all_stages", lambda: TOYS)
    monkeypatch.setattr("mer_prep.stages.worker._built", {})
    Means.runs.clear()
    Change.runs.clear()


def recipe(*wanted: str, **settings: dict[str, object]) -> Recipe:
    return Recipe(*build_stages(TOYS, wanted or ("change",), settings))


def run(workspace: Workspace, used: Recipe, **options: object) -> RunSummary:
    plan_options = {
        key: options.pop(key) for key in ("force", "share", "subjects") if key in options
    }
    plans = make_plan(workspace, ["toy"], used, **plan_options)
    summary = Runner(workspace, used, **options).run(plans)
    record_failures(workspace, plans, used, summary)
    return summary


def digests(workspace: Workspace) -> dict[str, str]:
    return {
        path.relative_to(workspace.cache).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Cache(workspace.cache).shards()
    }


def means_of(workspace: Workspace, clip_id: str) -> np.ndarray:
    (path,) = [
        path
        for path in Cache(workspace.cache).shards("means")
        if clip_id in read_header(path).clips
    ]
    return read_clip(path, clip_id)[0]["mean"]


def test_a_run_publishes_one_shard_per_stage_and_subject(imported: Workspace) -> None:
    summary = run(imported, recipe())
    assert (summary.clips, len(summary.computed), summary.cached) == (4, 4, 0)
    assert summary.published == 4
    names = sorted(path.name for path in Cache(imported.cache).shards())
    assert names == ["toy--sub01.h5", "toy--sub01.h5", "toy--sub02.h5", "toy--sub02.h5"]
    for path in Cache(imported.cache).shards():
        check_shard(path)
    assert Cache(imported.cache).parts() == []
    assert Cache(imported.cache).locks() == []


def test_values_are_those_of_the_frames(imported: Workspace) -> None:
    run(imported, recipe())
    clip = imported.find_clip("toy/sub01/EP02_01")
    expected = [
        cv2.imread(os.path.join(clip.root, name), cv2.IMREAD_COLOR).mean() for name in clip.frames
    ]
    np.testing.assert_allclose(means_of(imported, clip.clip_id), expected)


def test_each_frame_is_decoded_once_for_all_stages(imported: Workspace) -> None:
    summary = run(imported, recipe())
    assert summary.decoded == sum(len(clip.frame_numbers) for clip in imported.clips("toy"))


def test_the_time_of_every_stage_is_added_up_over_clips(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()  # one second between any two looks at the clock
    monkeypatch.setattr("mer_prep.stages.worker.time.perf_counter", lambda: float(next(ticks)))
    assert run(imported, recipe()).stage_seconds == {"means": 4.0, "change": 4.0}
    assert run(imported, recipe()).stage_seconds == {}


def test_a_second_run_computes_nothing_and_changes_nothing(imported: Workspace) -> None:
    run(imported, recipe())
    before = digests(imported)
    Means.runs.clear()
    summary = run(imported, recipe())
    assert (summary.cached, len(summary.computed), summary.published) == (4, 0, 0)
    assert Means.runs == []
    assert digests(imported) == before


def test_force_makes_everything_again(imported: Workspace) -> None:
    run(imported, recipe())
    summary = run(imported, recipe(), force=True)
    assert len(summary.computed) == 4


def test_touching_a_file_recomputes_nothing(imported: Workspace) -> None:
    run(imported, recipe())
    clip = imported.clips("toy")[0]
    os.utime(Path(clip.root) / clip.frames[0], ns=(1, 1))
    assert run(imported, recipe()).cached == 4


def test_editing_one_frame_recomputes_its_clip_only(imported: Workspace) -> None:
    run(imported, recipe())
    before = digests(imported)
    Means.runs.clear()
    clip = imported.find_clip("toy/sub01/EP01_02")
    write_frame(Path(clip.root) / clip.frames[2], 200)
    summary = run(imported, recipe())
    assert Means.runs == ["toy/sub01/EP01_02"]
    assert summary.computed == {"toy/sub01/EP01_02"}
    assert before.items() <= digests(imported).items()


def test_a_changed_apex_recomputes_only_the_stage_that_uses_it(imported: Workspace) -> None:
    run(imported, recipe())
    Means.runs.clear()
    Change.runs.clear()
    clips = imported.clips("toy")
    clips[0] = dataclasses.replace(clips[0], apex=11)
    store_manifest(imported, clips)
    run(imported, recipe())
    assert (Means.runs, Change.runs) == ([], [clips[0].clip_id])


def test_a_parameter_change_makes_new_shards_beside_the_old(imported: Workspace) -> None:
    run(imported, recipe())
    before = digests(imported)
    run(imported, recipe("change", means={"gain": 2.0}))
    after = digests(imported)
    assert before.items() <= after.items()
    assert len(after) == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("nothing", "not made yet"),
        ("gain", "means.gain: 1.0 -> 2.0"),
        ("version", "means stage version: 1 -> 2"),
        ("frame", "frames or key frames changed: toy/sub01/EP01_01"),
        ("clip", "no longer in the manifest: toy/sub01/EP01_01"),
        ("source", "source.frames: expression -> all"),
    ],
)
def test_the_plan_says_why(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch, change: str, reason: str
) -> None:
    if change != "nothing":
        run(imported, recipe("means"))
    used = recipe("means")
    clips = imported.clips("toy")
    if change == "gain":
        used = recipe("means", means={"gain": 2.0})
    elif change == "version":
        monkeypatch.setattr(Means, "version", 2)
    elif change == "frame":
        write_frame(Path(clips[0].root) / clips[0].frames[0], 7)
    elif change == "clip":
        store_manifest(imported, clips[1:])
    elif change == "source":
        used = recipe("means", source={"frames": "all"})
    (shard,) = [
        shard
        for plan in make_plan(imported, ["toy"], used)
        for shard in plan.shards.values()
        if plan.subject == "sub01"
    ]
    assert shard.reason == reason


def test_a_bad_clip_is_quarantined_and_the_rest_goes_on(imported: Workspace) -> None:
    used = recipe("change", means={"refuse": "EP01_02"})
    summary = run(imported, used)
    assert summary.quarantined == {"toy/sub01/EP01_02"}
    assert len(summary.computed) == 3
    entries = read_failures(imported.failures)
    assert [(entry["clip_id"], entry["stage"], entry["in_stage"]) for entry in entries] == [
        ("toy/sub01/EP01_02", "means", "change"),
        ("toy/sub01/EP01_02", "means", "means"),
    ]
    assert entries[0]["error"] == "NoFaceError"
    again = run(imported, used)
    assert again.cached == 4
    assert again.quarantined == {"toy/sub01/EP01_02"}
    assert len(read_failures(imported.failures)) == 2


def test_failures_leave_the_list_when_they_are_gone(imported: Workspace) -> None:
    clip = imported.find_clip("toy/sub01/EP01_02")
    path = Path(clip.root) / clip.frames[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    assert run(imported, recipe()).quarantined == {clip.clip_id}
    assert read_failures(imported.failures)[0]["error"] == "DecodeError"
    path.write_bytes(whole)
    Means.runs.clear()
    assert run(imported, recipe()).quarantined == set()
    assert Means.runs == [clip.clip_id]
    assert read_failures(imported.failures) == []


def test_failures_of_other_settings_and_other_runs_still_hold(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = recipe("means", means={"refuse": "EP01_02"})
    run(imported, refused)
    (first,) = read_failures(imported.failures)
    assert run(imported, recipe("means")).quarantined == set()
    assert read_failures(imported.failures) == [first]
    entered = Lock.__enter__

    def late(lock: Lock) -> Lock:
        """Let another run write its failure just before this one gets the lock."""
        held = entered(lock)
        if not done:
            done.append(lock)
            text = imported.failures.read_text()
            other = {**first, "clip_id": "other/sub01/x"}
            imported.failures.write_text(text + json.dumps(other) + "\n")
        return held

    done: list[Lock] = []
    monkeypatch.setattr("mer_prep.stages.failures.Lock.__enter__", late)
    plans = make_plan(imported, ["toy"], recipe("means"))
    record_failures(imported, plans, recipe("means"), RunSummary())
    assert [one["clip_id"] for one in read_failures(imported.failures)] == [
        first["clip_id"],
        "other/sub01/x",
    ]


def test_an_entry_of_an_earlier_version_goes_with_the_next_run(imported: Workspace) -> None:
    old = {"clip_id": "toy/sub01/EP01_02", "stage": "means", "in_stage": "means"}
    imported.failures.write_text(json.dumps(old) + "\n")
    run(imported, recipe("means"))
    assert read_failures(imported.failures) == []


def test_a_missing_frame_is_quarantined_by_name(imported: Workspace) -> None:
    clip = imported.find_clip("toy/sub02/EP01_01")
    (Path(clip.root) / clip.frames[1]).unlink()
    summary = run(imported, recipe())
    (failure,) = {f.clip_id: f for f in summary.failures}.values()
    assert failure.error == "DecodeError"
    assert "img9.png" in failure.message
    assert len(summary.computed) == 3


def test_an_onset_that_is_not_on_disk_is_quarantined(
    workspace: Workspace, toy_clip: MakeClip
) -> None:
    store_manifest(workspace, [toy_clip("EP01_01", onset=5), toy_clip("EP01_02")])
    summary = run(workspace, recipe())
    (failure,) = {f.clip_id: f for f in summary.failures}.values()
    assert failure.error == "ManifestError"
    assert "Frame 5" in failure.message
    assert summary.computed == {"toy/sub01/EP01_02"}


def test_an_unexpected_error_spares_the_others_and_is_tried_again(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = recipe("change", means={"crash": "EP01_02"})
    summary = run(imported, used)
    assert [crash.clip_id for crash in summary.crashes] == ["toy/sub01/EP01_02"]
    assert "ZeroDivisionError" in summary.crashes[0].trace
    assert read_failures(imported.failures)[0]["error"] == "ZeroDivisionError"
    before = digests(imported)
    Means.runs.clear()

    def mended(self, clip, frames, inputs):  # type: ignore[no-untyped-def]
        self.runs.append(clip.clip_id)
        return dataclasses.replace(
            original(type(self)(), clip, frames, inputs), facts={"frames": len(frames)}
        )

    original = Means.run
    monkeypatch.setattr(Means, "run", mended)
    monkeypatch.setattr("mer_prep.stages.worker._built", {})
    again = run(imported, used)
    assert again.computed == {"toy/sub01/EP01_02"}
    assert set(Means.runs) == {"toy/sub01/EP01_02"}
    assert again.quarantined == set()
    assert before.items() <= digests(imported).items()
    assert read_failures(imported.failures) == []


def test_on_error_raise_stops_at_the_first(imported: Workspace) -> None:
    with pytest.raises(MerPrepError, match=r"EP01_02 failed in stage means \(NoFaceError\)"):
        run(imported, recipe("change", means={"refuse": "EP01_02"}), on_error="raise")
    assert Cache(imported.cache).locks() == []


def test_shares_split_the_subjects_and_merge_to_the_whole(
    imported: Workspace, tmp_path: Path
) -> None:
    whole = Workspace(tmp_path / "whole")
    store_manifest(whole, imported.clips("toy"))
    run(whole, recipe())
    first = run(imported, recipe(), share=(1, 2))
    second = run(imported, recipe(), share=(2, 2))
    assert (first.clips, second.clips) == (3, 1)
    assert digests(imported).keys() == digests(whole).keys()
    for clip in imported.clips("toy"):
        np.testing.assert_array_equal(
            means_of(imported, clip.clip_id), means_of(whole, clip.clip_id)
        )


def test_only_the_named_subject(imported: Workspace) -> None:
    assert run(imported, recipe(), subjects=["toy/sub02"]).clips == 1


def test_an_interrupted_run_is_taken_up_clip_by_clip(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mer_prep.stages.subjects.merge", killed)
    with pytest.raises(KeyboardInterrupt):
        run(imported, recipe())
    assert digests(imported) == {}
    assert len(Cache(imported.cache).parts()) == 6
    monkeypatch.setattr("mer_prep.stages.subjects.merge", merge)
    Means.runs.clear()
    summary = run(imported, recipe())
    assert Means.runs == ["toy/sub02/EP01_01"]
    assert (summary.cached, len(summary.computed)) == (3, 1)
    assert (summary.published, len(digests(imported))) == (4, 4)
    assert Cache(imported.cache).parts() == []


def test_a_locked_subject_is_left_and_the_others_are_done(imported: Workspace) -> None:
    plans = make_plan(imported, ["toy"], recipe())
    with Lock(plans[0].shards["means"].path):
        summary = run(imported, recipe())
    assert len(summary.locked) == 1
    assert f"process {os.getpid()}" in str(summary.locked[0])
    assert summary.computed == {"toy/sub02/EP01_01"}
    assert run(imported, recipe()).computed == {
        "toy/sub01/EP01_01",
        "toy/sub01/EP01_02",
        "toy/sub01/EP02_01",
    }


def test_a_damaged_shard_is_made_again(imported: Workspace) -> None:
    run(imported, recipe("means"))
    path = Cache(imported.cache).shards("means")[0]
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ShardError):
        read_header(path)
    plans = make_plan(imported, ["toy"], recipe("means"))
    assert [shard.reason[:21] for plan in plans for shard in plan.missing] == [
        "the shard is damaged:"
    ]
    assert run(imported, recipe("means")).published == 1
    check_shard(path)


def flip_a_bit(path: Path, dataset: str) -> None:
    """Damage the values of one clip; the rest stays readable, as it does in large shards."""
    with changing(path) as file:
        offset = file[dataset].id.get_chunk_info(0).byte_offset
        file.flush()
        data = bytearray(path.read_bytes())
        data[offset + 3] ^= 1
        path.write_bytes(data)


def test_a_damaged_input_is_made_again_before_it_is_used(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Bits that rot on the disk change neither size nor time of a file.
    monkeypatch.setattr("mer_prep.store.verified._signature", lambda path: path.name)
    run(imported, recipe("means"))
    (path,) = Cache(imported.cache).shards("means", "toy--sub01")
    before = digests(imported)
    flip_a_bit(path, "EP01_01/mean")
    said: list[str] = []
    summary = run(imported, recipe(), say=said.append)
    assert summary.quarantined == set()
    assert "made again, since it is damaged" in said[0]
    assert set(Means.runs[-3:]) == {"toy/sub01/EP01_01", "toy/sub01/EP01_02", "toy/sub01/EP02_01"}
    check_shard(path)
    assert before.keys() <= digests(imported).keys()


def test_a_shard_that_was_touched_is_read_back_by_the_next_run(imported: Workspace) -> None:
    run(imported, recipe())
    (path,) = Cache(imported.cache).shards("means", "toy--sub01")
    before = digests(imported)
    flip_a_bit(path, "EP01_01/mean")
    plans = make_plan(imported, ["toy"], recipe())
    (shard,) = [shard for plan in plans for shard in plan.missing]
    assert shard.path == path
    assert shard.reason.startswith("the shard is damaged: Dataset /EP01_01/mean")
    Means.runs.clear()
    Change.runs.clear()
    summary = run(imported, recipe())
    assert (Means.runs, Change.runs) == (["toy/sub01/EP01_01"], [])
    assert (summary.published, summary.cached) == (1, 3)
    check_shard(path)
    others = {name: one for name, one in before.items() if name != shard_name(imported, path)}
    assert others.items() <= digests(imported).items()


def shard_name(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.cache).as_posix()


def test_an_up_to_date_run_reads_no_shard_back(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr("mer_prep.store.verified.check_shard", read.append)
    run(imported, recipe())
    assert run(imported, recipe()).cached == 4
    assert read == []
    os.utime(Cache(imported.cache).shards("means")[0], ns=(1, 1))
    for _ in range(2):
        assert run(imported, recipe()).cached == 4
    assert read == Cache(imported.cache).shards("means")[:1]


def test_a_damaged_result_is_not_reused(imported: Workspace) -> None:
    run(imported, recipe("means"))
    (path,) = Cache(imported.cache).shards("means", "toy--sub01")
    flip_a_bit(path, "EP01_01/mean")
    store_manifest(imported, imported.clips("toy")[:2])
    Means.runs.clear()
    run(imported, recipe("means"))
    assert Means.runs == ["toy/sub01/EP01_01"]
    for shard in Cache(imported.cache).shards("means"):
        if shard != path:
            check_shard(shard)


def test_settings_for_a_stage_that_is_not_used_are_refused() -> None:
    with pytest.raises(ConfigError, match="'change', which this run does not use"):
        recipe("means", change={"power": 2})


def test_the_key_does_not_depend_on_the_place_of_the_frames(
    imported: Workspace, tmp_path: Path
) -> None:
    run(imported, recipe())
    (tmp_path / "source").rename(tmp_path / "moved")
    moved = [
        dataclasses.replace(clip, root=str(tmp_path / "moved")) for clip in imported.clips("toy")
    ]
    store_manifest(imported, moved)
    assert run(imported, recipe()).cached == 4


def test_a_shard_describes_itself(imported: Workspace) -> None:
    run(imported, recipe())
    (path,) = Cache(imported.cache).shards("change", "toy--sub01")
    header = read_header(path)
    assert header.stage == "change"
    assert header.requires == ("means",)
    assert header.recipe["stages"]["means"]["params"]["gain"] == 1.0
    assert header.path.parent.name == header.key[:16]
    arrays, facts = read_clip(path, "toy/sub01/EP01_01")
    assert arrays["frame_numbers"].tolist() == [8, 9, 10, 11, 12]
    assert facts["apex"] == 10
    assert "onset" not in facts
    assert json.loads(json.dumps(facts))["clip_id"] == "toy/sub01/EP01_01"


def test_a_shard_keeps_what_its_stage_warned_of(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warning(self, clip, frames, inputs):  # type: ignore[no-untyped-def]
        output = original(self, clip, frames, inputs)
        return dataclasses.replace(output, warnings=(f"Déjà vu of {clip.clip}.", "Again."))

    original = Means.run
    monkeypatch.setattr(Means, "run", warning)
    run(imported, recipe())
    for stage, expected in (("means", ["Déjà vu of EP01_02.", "Again."]), ("change", [])):
        (path,) = Cache(imported.cache).shards(stage, "toy--sub01")
        _, facts = read_clip(path, "toy/sub01/EP01_02")
        assert json.loads(facts["warnings"]) == expected


def test_a_shard_under_a_wrong_name_is_not_taken(imported: Workspace) -> None:
    run(imported, recipe("means"))
    first, second = (Cache(imported.cache).shards("means", f"toy--sub0{k}")[0] for k in (1, 2))
    second.write_bytes(first.read_bytes())
    with pytest.raises(ShardError, match="lies in folder"):
        check_shard(second)
    plans = make_plan(imported, ["toy"], recipe("means"))
    assert [shard.reason for plan in plans for shard in plan.missing] == [
        "the shard is not the one its name says"
    ]


def test_a_read_error_is_tried_again(imported: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_bytes

    def failing(path: Path) -> bytes:
        if path.name == "img10.png":
            raise OSError(5, "Input/output error")
        return read(path)

    run(imported, recipe("means"), subjects=["toy/sub02"])
    store_manifest(imported, imported.clips("toy"))
    plans = make_plan(imported, ["toy"], recipe("means"))
    monkeypatch.setattr(Path, "read_bytes", failing)
    summary = Runner(imported, recipe("means")).run(plans)
    assert {crash.clip_id for crash in summary.crashes} == {
        "toy/sub01/EP01_01",
        "toy/sub01/EP01_02",
    }
    monkeypatch.undo()
    monkeypatch.setattr("mer_prep.stages.worker.all_stages", lambda: TOYS)
    assert run(imported, recipe("means")).quarantined == set()
