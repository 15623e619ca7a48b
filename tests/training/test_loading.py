"""Clips in memory or in their shards: the same numbers, whoever reads them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, ShardError  # noqa: E402
from mer_prep.training import machine as machines  # noqa: E402
from mer_prep.training.fit import Machine, View  # noqa: E402
from mer_prep.training.loading import (  # noqa: E402
    Draw,
    StreamedClips,
    batches,
    choose_loader,
    open_clips,
    resident_bytes,
)
from mer_prep.training.methods import method_of  # noqa: E402
from mer_prep.training.study import fold_folder, run_fold  # noqa: E402
from tests.bars import (  # noqa: E402
    CLIPS,
    FOLDS,
    SMALL,
    SMALLEST,
    study,
    write_shards,
)

ENTRIES = study().clips
METHOD = method_of("mol", SMALL)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def resident(workspace) -> ClipStore:
    source = open_clips("resident", workspace, ENTRIES, METHOD, "cpu")
    assert isinstance(source, ClipStore)
    return source


@pytest.fixture(scope="module")
def streamed(workspace) -> StreamedClips:
    source = open_clips("stream", workspace, ENTRIES, METHOD, "cpu")
    assert isinstance(source, StreamedClips)
    return source


def draw(source, **changes) -> Draw:
    view = View(64, 1, source.statistics(FOLDS[0].train))
    given = Draw(source.samples(FOLDS[0].train), view, 4, "fold", 1)
    return dataclasses.replace(given, **changes)


def same(first, second) -> None:
    for name in ("frames", "flow", "landmarks", "labels"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name


def test_both_know_the_same_of_the_clips(resident, streamed):
    for number, clip in enumerate(CLIPS):
        one, other = resident.clips[number], streamed.clips[number]
        assert one.clip_id == other.clip_id == clip.clip_id
        assert one.sums == other.sums
    assert streamed.side == resident.side == CLIPS[0].frames.shape[-1]
    ids = FOLDS[1].train
    assert streamed.samples(ids) == resident.samples(ids)
    assert streamed.statistics(ids) == resident.statistics(ids)
    assert torch.equal(streamed.mean_landmarks(ids), resident.mean_landmarks(ids))
    same(streamed.batch([(2, 1), (7, 0)]), resident.batch([(2, 1), (7, 0)]))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_do_not_depend_on_who_reads_them(resident, streamed, workers):
    expected = [draw(resident).batch(resident, step) for step in range(5)]
    machine = Machine(workers=workers)
    # Steps 2 and on, as after a resumption.
    found = list(batches(streamed, draw(streamed), machine, range(2, 5)))
    assert [step for step, _ in found] == [2, 3, 4]
    for step, batch in found:
        same(batch, expected[step])


def test_a_fold_comes_out_the_same(resident, streamed, tmp_path):
    made = study(architecture=SMALLEST)
    files = []
    for name, source, workers in (("a", resident, 0), ("b", streamed, 1)):
        run_fold(tmp_path / name, made, FOLDS[0], source, Machine(workers=workers))
        folder = fold_folder(tmp_path / name, FOLDS[0])
        files.append((folder / "predictions.csv").read_bytes() + (folder / "log.csv").read_bytes())
    assert files[0] == files[1]


def test_parts_of_a_batch_make_up_the_whole(resident):
    whole = draw(resident).batch(resident, 3)
    parts = [draw(resident, rank=rank, world=2).batch(resident, 3) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.frames, whole.frames[rank::2])
        assert torch.equal(part.landmarks, whole.landmarks[rank::2])
        assert torch.equal(part.labels, whole.labels[rank::2])
    named = draw(resident).clips(resident, 3)
    assert set(named) <= set(FOLDS[0].train)
    assert len({one.split("/c")[1] for one in named}) == len(whole.labels.unique())


def test_what_fits_stays_in_memory(workspace, resident, monkeypatch):
    needed = resident_bytes(workspace, ENTRIES, METHOD)
    assert needed == resident.bytes()
    for free, expected in ((4 * needed, "resident"), (4 * needed - 2, "stream")):
        monkeypatch.setattr(machines, "free_memory", lambda device, free=free: free)
        assert choose_loader("auto", workspace, ENTRIES, METHOD, "cpu", copies=2) == expected
    assert choose_loader("stream", workspace, ENTRIES, METHOD, "cpu", copies=1) == "stream"
    with pytest.raises(ConfigError, match="Did you mean 'stream'"):
        choose_loader("steam", workspace, ENTRIES, METHOD, "cpu", copies=1)


def test_memory_that_is_free_is_measured():
    assert 2**20 < machines.free_memory("cpu") < 2**50


def test_a_shard_that_is_gone_is_named_from_the_process_that_reads(tmp_path):
    workspace = write_shards(tmp_path)
    source = open_clips("stream", workspace, ENTRIES, METHOD, "cpu")
    for path in workspace.glob("flow--*"):
        path.unlink()
    with pytest.raises(ShardError, match="The shard is missing") as info:
        list(batches(source, draw(source), Machine(workers=1), range(2)))
    assert info.value.where.endswith(".h5")
