"""What commands look at grows with the clips, the shards and the recipes, never with a product."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mer_prep.config import canonical_json
from mer_prep.manifest import Clip, ImportRecord, read_manifest, write_manifest
from mer_prep.protocols import Member, Protocol, check_folds, folds_digest, make_folds
from mer_prep.sources import index
from mer_prep.sources.index import current_digests
from mer_prep.stages import plan as planning
from mer_prep.stages import survey as surveying
from mer_prep.stages.base import SourceParams, Stage
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.store.cache import Cache, Listing
from mer_prep.store.key import digest
from mer_prep.store.shard import read_header
from mer_prep.workspace import Workspace
from tests.conftest import MakeClip, store_manifest
from tests.toys import TOYS, Change, Means

Counted = Callable[[Any, str], None]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> tuple[Counter[str], Counted]:
    """Return a counter of calls by name, and what has the calls of a function counted."""
    found: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            found[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    return found, count


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: dict[str, type[Stage]] = TOYS
    monkeypatch.setattr("mer_prep.stages.worker.all_stages", lambda: kinds)
    monkeypatch.setattr("mer_prep.stages.worker._built", {})
    monkeypatch.setattr(surveying, "all_stages", lambda: kinds)


def crowd(workspace: Workspace, toy_clip: MakeClip, subjects: int) -> None:
    clips = [toy_clip(subject=f"sub{number:02d}", shade=number) for number in range(subjects)]
    store_manifest(workspace, clips)


def recipe() -> Recipe:
    return Recipe(SourceParams(), {"means": Means(), "change": Change()})


@pytest.mark.parametrize("subjects", [3, 9])
def test_a_plan_goes_through_the_cache_once_a_stage(
    workspace: Workspace,
    toy_clip: MakeClip,
    toys: None,
    counts: tuple[Counter[str], Counted],
    subjects: int,
) -> None:
    crowd(workspace, toy_clip, subjects)
    Runner(workspace, recipe()).run(make_plan(workspace, ["toy"], recipe()))
    clips = [toy_clip(subject=f"sub{number:02d}", shade=99) for number in range(subjects)]
    store_manifest(workspace, clips)  # other frames: every shard is missing, and another is there
    found, count = counts
    count(Cache, "shards")
    plans = make_plan(workspace, ["toy"], recipe())
    assert sum(len(plan.missing) for plan in plans) == 2 * subjects
    assert found["shards"] == 2


@pytest.mark.parametrize("subjects", [2, 8])
def test_a_survey_looks_once_at_manifests_sources_and_shards(
    workspace: Workspace,
    toy_clip: MakeClip,
    toys: None,
    counts: tuple[Counter[str], Counted],
    subjects: int,
) -> None:
    crowd(workspace, toy_clip, subjects)
    for power in (1, 2):  # two recipes of the second stage
        used = Recipe(
            SourceParams(), {"means": Means(), "change": Change(Change.Params(power=power))}
        )
        Runner(workspace, used).run(make_plan(workspace, ["toy"], used))
    found, count = counts
    count(Workspace, "clips")
    count(index, "stat_signature")
    count(surveying, "read_header")
    count(planning, "read_header")
    state = surveying.survey(workspace)
    assert [(one.stage, one.shards, one.stale) for one in state.results] == [
        ("means", subjects, 0),
        ("change", subjects, 0),
        ("change", subjects, 0),
    ]
    assert found == {"clips": 1, "stat_signature": subjects, "read_header": 3 * subjects}
    found.clear()
    assert surveying.unneeded(workspace) == []
    assert found == {"clips": 1, "stat_signature": subjects, "read_header": 3 * subjects}


def test_one_clip_is_asked_about_alone(
    workspace: Workspace, toy_clip: MakeClip, toys: None, counts: tuple[Counter[str], Counted]
) -> None:
    crowd(workspace, toy_clip, 5)
    Runner(workspace, recipe()).run(make_plan(workspace, ["toy"], recipe()))
    clip = workspace.clips("toy")[3]
    found, count = counts
    count(index, "stat_signature")
    results = surveying.results_of_clip(workspace, clip)
    assert [(one["stage"], one["current"]) for one in results] == [
        ("means", True),
        ("change", True),
    ]
    assert found == {"stat_signature": 1}


def test_a_run_of_one_subject_forgets_nothing_of_the_others(
    workspace: Workspace, toy_clip: MakeClip, counts: tuple[Counter[str], Counted], aged: None
) -> None:
    crowd(workspace, toy_clip, 4)
    make_plan(workspace, ["toy"], recipe())
    make_plan(workspace, ["toy"], recipe(), subjects=["toy/sub02"])
    found, count = counts
    count(index, "source_digest")
    make_plan(workspace, ["toy"], recipe())
    assert found == {}


def test_clips_that_left_the_manifest_are_forgotten(
    toy_clip: MakeClip, tmp_path: Path, aged: None
) -> None:
    first, second, third = (toy_clip(f"EP01_0{number}", shade=number) for number in (1, 2, 3))
    place = tmp_path / "index.json"
    current_digests([first, second, third], place)
    ids = [first.clip_id, second.clip_id]
    current_digests([second], place, others=ids)
    assert sorted(index._read(place)) == ids


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files that were written just now count as settled."""
    monkeypatch.setattr(index, "_GRAIN_NS", -(10**12))


def long_manifest(folder: Path, lines: int) -> Path:
    clips = [
        Clip(
            clip_id=f"toy/s{number // 10:03d}/c{number}",
            corpus="toy",
            subject=f"s{number // 10:03d}",
            clip=f"c{number}",
            root="/corpus",
            frame_numbers=tuple(range(1000, 1016)),
            frames=tuple(f"s{number // 10:03d}/c{number}/img{k}.jpg" for k in range(1000, 1016)),
            source_digest=f"{number:064d}",
        )
        for number in range(lines)
    ]
    return write_manifest(folder, clips, ImportRecord("toy", "clips", "/corpus"))


def test_the_memory_of_a_manifest_is_its_lines(tmp_path: Path) -> None:
    sizes, peaks = [], []
    for lines in (400, 1600):
        path = long_manifest(tmp_path / str(lines), lines)
        tracemalloc.start()
        clips = read_manifest(path)
        size, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(clips) == lines
        sizes.append(size / lines)
        peaks.append(peak / size)
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)
    assert sizes[1] < 4096  # 16 frames of 110 bytes, and the clip
    assert peaks[1] < 1.2  # nothing is held twice


def members(subjects: int, each: int) -> list[Member]:
    return [
        Member(f"toy/s{s:03d}/c{c}", "toy", f"toy/s{s:03d}", c % 3, f"{s}-{c}", onset=1, offset=9)
        for s in range(subjects)
        for c in range(each)
    ]


def test_the_digest_of_folds_is_that_of_their_json_and_holds_one_fold(tmp_path: Path) -> None:
    folds = make_folds(Protocol("loso"), members(60, 20))
    plain = {"folds": [[fold.name, [*fold.train], [*fold.test]] for fold in folds]}
    tracemalloc.start()
    found = folds_digest(folds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == digest(plain)
    assert peak < len(canonical_json(plain)) / 5


@pytest.mark.parametrize("subjects", [10, 40])
def test_only_the_clips_of_tested_people_are_compared(
    counts: tuple[Counter[str], Counted], subjects: int
) -> None:
    every = members(subjects, 5)
    folds = make_folds(Protocol("loso"), every)
    found, count = counts
    shared = [Member(**{**_fields(one), "source_digest": "same"}) for one in every[:2]]
    count(Member, "overlaps")
    check_folds(folds, [*shared, *every[2:]], tests_all=True)
    assert found == {}  # both are of one person, whose fold tests them


def _fields(member: Member) -> dict[str, Any]:
    return {name: getattr(member, name) for name in Member.__dataclass_fields__}


def test_headers_are_found_by_the_listing(
    workspace: Workspace, toy_clip: MakeClip, toys: None
) -> None:
    crowd(workspace, toy_clip, 3)
    Runner(workspace, recipe()).run(make_plan(workspace, ["toy"], recipe()))
    cache = Cache(workspace.cache)
    listing = Listing(cache)
    for number in range(3):
        subject = f"sub{number:02d}"
        (path,) = cache.shards("means", f"toy--{subject}")
        assert listing.shards("means", f"toy--{subject}") == [path]
        found = cache.headers("means", "toy", subject, listing=listing)
        assert found == cache.headers("means", "toy", subject) == [read_header(path)]
    assert listing.shards("means", "toy--nobody") == []
