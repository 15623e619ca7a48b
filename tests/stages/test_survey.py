"""What nothing needs, and what must never be taken for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_prep.errors import ManifestError
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.stages.survey import results_of_clip, survey, unneeded
from mer_prep.store.cache import Cache
from mer_prep.workspace import Workspace
from tests.conftest import store_manifest, write_frame
from tests.toys import TOYS, Means


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("worker", "survey"):
        monkeypatch.setattr(f"mer_prep.stages.{module}.all_stages", lambda: TOYS)
    monkeypatch.setattr("mer_prep.stages.worker._built", {})


def run(workspace: Workspace, **settings: dict[str, object]) -> None:
    recipe = Recipe(*build_stages(TOYS, ("change",), settings))
    Runner(workspace, recipe).run(make_plan(workspace, ["toy"], recipe))


def test_results_of_any_parameters_are_needed(imported: Workspace) -> None:
    run(imported)
    run(imported, means={"gain": 3.0})
    assert unneeded(imported) == []
    states = {(one.stage, one.settings): one for one in survey(imported).results}
    assert set(states) == {
        ("means", "defaults"),
        ("means", "means.gain=3.0"),
        ("change", "defaults"),
        ("change", "means.gain=3.0"),
    }
    assert all((one.shards, one.stale, one.missing) == (2, 0, 0) for one in states.values())


def test_a_superseded_shard_is_found(imported: Workspace) -> None:
    run(imported)
    clip = imported.clips("toy")[0]
    write_frame(Path(clip.root) / clip.frames[1], 5)
    # Its other clips are still of use until the new shard is there.
    assert unneeded(imported) == []
    run(imported)
    found = unneeded(imported)
    assert [one.path.name for one in found] == ["toy--sub01.h5", "toy--sub01.h5"]
    assert "superseded" in found[0].reason
    current = {one["stage"]: one["current"] for one in results_of_clip(imported, clip)}
    assert set(current) == {"means", "change"}


def test_a_torn_manifest_stops_it(imported: Workspace) -> None:
    run(imported)
    path = imported.manifests / "toy.jsonl"
    path.write_text(path.read_text()[:-40])
    with pytest.raises(ManifestError, match="line 4"):
        unneeded(imported)


def test_lost_lines_are_noticed(imported: Workspace) -> None:
    path = imported.manifests / "toy.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ManifestError, match="not the one that the import wrote"):
        imported.clips("toy")


def test_sources_out_of_reach_condemn_nothing(imported: Workspace, tmp_path: Path) -> None:
    run(imported)
    (tmp_path / "source").rename(tmp_path / "away")
    assert unneeded(imported) == []
    assert "out of reach" in survey(imported).notes[0]


def test_results_of_another_version_are_left_alone(
    imported: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(imported)
    monkeypatch.setattr("mer_prep.stages.survey.all_stages", lambda: {"means": Means})
    assert [one.path.parent.parent.name for one in unneeded(imported)] == []


def test_what_killed_runs_leave_is_found(imported: Workspace) -> None:
    run(imported)
    shard = Cache(imported.cache).shards("means")[0]
    leftover = shard.with_name(shard.name + ".123.partial")
    leftover.write_bytes(b"half")
    assert [one.path for one in unneeded(imported)] == [leftover]


def test_a_subject_that_is_gone_is_not_needed(imported: Workspace) -> None:
    run(imported)
    store_manifest(imported, imported.clips("toy")[:3])
    assert {one.path.name for one in unneeded(imported)} == {"toy--sub02.h5"}
