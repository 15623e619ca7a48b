from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from mer_prep.errors import ShardError
from mer_prep.store import files
from mer_prep.store.part import ClipResult, DatasetInfo, write_part
from mer_prep.store.shard import (
    Failure,
    Header,
    check_shard,
    group_name,
    merge,
    read_clip,
    read_header,
    read_part_header,
)
from tests.conftest import MakeClip
from tests.shards import changing

KEY = "0123456789abcdef" * 4
RECIPE = {"source": {"frames": "all"}, "stages": {"flow": {"params": {}}}}


@pytest.fixture
def shard(tmp_path: Path, toy_clip: MakeClip) -> Path:
    """Return a published shard of one clip with a result and one quarantined."""
    clip = toy_clip()
    flow = np.arange(2 * 2 * 40 * 40, dtype=np.float32).reshape(2, 2, 40, 40)
    result = ClipResult(
        clip=clip,
        clip_key="c" * 64,
        frame_numbers=clip.frame_numbers,
        arrays={"flow": flow},
        infos={"flow": DatasetInfo("px", "pair channel y x", "u v", "a note")},
        facts={"method": "tvl1", "mean": 0.5},
    )
    part = tmp_path / "part.h5"
    write_part(part, result, stage="flow", recipe=RECIPE)
    target = tmp_path / "cache" / "flow" / KEY[:16] / "toy--sub01.h5"
    failure = Failure("toy/sub01/EP09_09", "align", "NoFaceError", "There is no face.", "f" * 64)
    merge(target, header(), KEY, {clip.clip_id: part}, [failure])
    return target


def header() -> Header:
    return Header(
        stage="flow",
        stage_version=3,
        params={"method": "tvl1"},
        recipe=RECIPE,
        requires=("align",),
        libraries={"numpy": "2"},
        corpus="toy",
        subject="sub01",
        restricted=True,
        synthetic=False,
        datasets=("flow",),
    )


def test_what_was_written_reads_back(shard: Path) -> None:
    found = read_header(shard)
    assert found.clips == {"toy/sub01/EP01_01": "c" * 64}
    assert [failure.error for failure in found.failures] == ["NoFaceError"]
    assert (found.stage, found.stage_version, found.key) == ("flow", 3, KEY)
    assert found.restricted
    assert found.holds("toy/sub01/EP09_09", "f" * 64)
    assert not found.holds("toy/sub01/EP01_01", "other")
    arrays, facts = read_clip(shard, "toy/sub01/EP01_01")
    np.testing.assert_array_equal(
        arrays["flow"], np.arange(6400, dtype=np.float32).reshape(2, 2, 40, 40)
    )
    assert facts["method"] == "tvl1"
    assert list(shard.parent.iterdir()) == [shard]


def test_any_hdf5_reader_can_open_it(shard: Path) -> None:
    with h5py.File(shard) as file:
        dataset = file["EP01_01/flow"]
        assert dataset.attrs["units"] == "px"
        assert dataset.attrs["axes"] == "pair channel y x"
        assert dataset.attrs["channels"] == "u v"
        assert (dataset.compression, dataset.shuffle, dataset.fletcher32) == ("gzip", True, True)
        assert dataset.chunks == (1, 2, 40, 40)
        assert file["EP01_01/frame_numbers"][:].tolist() == [8, 9, 10, 11, 12]


def test_a_quarantined_clip_says_why_when_it_is_read(shard: Path) -> None:
    with pytest.raises(ShardError, match="quarantined: There is no face"):
        read_clip(shard, "toy/sub01/EP09_09")


def test_an_unknown_clip_and_dataset_are_named(shard: Path) -> None:
    with pytest.raises(ShardError, match="no clip toy/sub01/EP77"):
        read_clip(shard, "toy/sub01/EP77")
    with pytest.raises(ShardError, match="holds no 'strain'"):
        read_clip(shard, "toy/sub01/EP01_01", ["strain"])


def test_a_flipped_bit_is_found(shard: Path) -> None:
    check_shard(shard)
    with h5py.File(shard) as file:
        offset = file["EP01_01/flow"].id.get_chunk_info(0).byte_offset
    data = bytearray(shard.read_bytes())
    data[offset + 40] ^= 0x10
    shard.write_bytes(data)
    with pytest.raises(ShardError, match=r"its bytes 0 to .* have changed"):
        check_shard(shard)


def test_a_truncated_file_is_refused(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ShardError, match=r"checksums .* are gone|cannot be opened"):
        read_header(shard)


def test_links_out_of_the_file_are_refused(shard: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = [1.0]
    with changing(shard) as file:
        file["EP66"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    with pytest.raises(ShardError, match="link to somewhere else"):
        read_header(shard)


@pytest.mark.parametrize("kind", ["soft", "text", "external"])
def test_foreign_datasets_are_refused(shard: Path, tmp_path: Path, kind: str) -> None:
    with changing(shard) as file:
        group = file["EP01_01"]
        if kind == "soft":
            group["odd"] = h5py.SoftLink("/EP01_01/flow")
        elif kind == "text":
            group["odd"] = ["text"]
        else:
            (tmp_path / "raw.bin").write_bytes(bytes(16))
            group.create_dataset("odd", (2,), "f8", external=[(str(tmp_path / "raw.bin"), 0, 16)])
    with pytest.raises(ShardError, match=r"link to somewhere|not a plain array"):
        read_clip(shard, "toy/sub01/EP01_01")


def test_a_newer_schema_is_refused_with_both_numbers(shard: Path) -> None:
    with changing(shard) as file:
        file.attrs["schema"] = 9
    with pytest.raises(ShardError, match=r"schema 9; this mer-prep, .*, reads 1 and 2"):
        read_header(shard)


def test_values_that_are_not_finite_are_not_published(tmp_path: Path, toy_clip: MakeClip) -> None:
    clip = toy_clip()
    bad = np.array([1.0, np.nan, np.inf])
    result = ClipResult(
        clip, "c", clip.frame_numbers, {"flow": bad}, {"flow": DatasetInfo("px", "a")}
    )
    write_part(tmp_path / "part.h5", result, stage="flow", recipe=RECIPE)
    target = tmp_path / "cache" / KEY[:16] / "shard.h5"
    with pytest.raises(ShardError, match="2 values that are not finite"):
        merge(target, header(), KEY, {clip.clip_id: tmp_path / "part.h5"}, [])
    assert list(target.parent.iterdir()) == []


def test_nothing_is_left_if_publishing_fails(
    shard: Path, tmp_path: Path, toy_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shard.read_bytes()

    def full(partial: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "publish", full)
    with pytest.raises(ShardError, match="No space left to write") as caught:
        merge(shard, header(), KEY, {"toy/sub01/EP01_01": tmp_path / "part.h5"}, [])
    assert "mer-prep gc" in str(caught.value)
    assert shard.read_bytes() == before
    assert list(shard.parent.iterdir()) == [shard]


def test_a_part_knows_its_recipe(shard: Path, tmp_path: Path) -> None:
    assert read_part_header(tmp_path / "part.h5") == (
        "flow",
        "toy/sub01/EP01_01",
        "c" * 64,
        RECIPE,
    )


def test_group_names_are_the_clip_without_corpus_and_subject() -> None:
    assert group_name("casme/sub06/EP02_5@40") == "EP02_5@40"
    assert "/" not in group_name("clips/ann/day1/take2")
