from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mer_prep.errors import DecodeError, MerPrepError, ShardError
from mer_prep.manifest import Clip
from mer_prep.store.blocks import BLOCK_BYTES, Blocks, block_rows
from mer_prep.store.disk import Call, observed
from mer_prep.store.part import ClipResult, DatasetInfo, part_writer, write_part
from mer_prep.store.shard import check_clip, open_clip, read_clip
from tests.conftest import MakeClip

FLOW = DatasetInfo("px", "pair channel y x", "u v")
NOISE = np.random.default_rng(0).normal(size=(9, 2, 40, 40)).astype(np.float32)


def in_blocks(array: np.ndarray, rows: int = 4) -> Blocks:
    blocks = (array[start : start + rows] for start in range(0, len(array), rows))
    return Blocks(array.shape, array.dtype, blocks)


def result(clip: Clip, flow: np.ndarray | Blocks) -> ClipResult:
    return ClipResult(clip, "c" * 64, clip.frame_numbers, {"flow": flow}, {"flow": FLOW})


def test_blocks_are_stored_as_the_whole_is(tmp_path: Path, toy_clip: MakeClip) -> None:
    clip = toy_clip()
    write_part(tmp_path / "whole.h5", result(clip, NOISE), stage="flow", recipe={})
    write_part(tmp_path / "blocks.h5", result(clip, in_blocks(NOISE)), stage="flow", recipe={})
    assert (tmp_path / "whole.h5").read_bytes() == (tmp_path / "blocks.h5").read_bytes()
    np.testing.assert_array_equal(read_clip(tmp_path / "blocks.h5", clip.clip_id)[0]["flow"], NOISE)


def test_of_an_open_clip_only_what_is_indexed_is_read(tmp_path: Path, toy_clip: MakeClip) -> None:
    clip = toy_clip()
    path = tmp_path / "part.h5"
    write_part(path, result(clip, NOISE), stage="flow", recipe={})
    with open_clip(path, clip.clip_id) as (arrays, attributes):
        flow = arrays["flow"]
        assert (len(flow), flow.shape, flow.dtype, flow.ndim) == (9, NOISE.shape, "float32", 4)
        np.testing.assert_array_equal(flow[3], NOISE[3])
        np.testing.assert_array_equal(flow[-1, 0, 2:4], NOISE[-1, 0, 2:4])
        np.testing.assert_array_equal(np.stack(list(flow)), NOISE)
        np.testing.assert_array_equal(np.asarray(flow, np.float64), NOISE.astype(np.float64))
        assert attributes["clip_key"] == "c" * 64
        # Damage in the last picture is met only when its block is read.
        offset = flow._dataset.id.get_chunk_info(8).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 40] ^= 1
    path.write_bytes(data)
    with open_clip(path, clip.clip_id) as (arrays, _):
        np.testing.assert_array_equal(arrays["flow"][4], NOISE[4])
        with pytest.raises(ShardError, match="flow is damaged"):
            arrays["flow"][8]
    with pytest.raises(ShardError, match="flow is damaged"):
        check_clip(path, clip.clip_id)


def test_blocks_are_as_large_as_the_limit_allows() -> None:
    assert block_rows((5000, 2, 144, 144), np.float32) == BLOCK_BYTES // (2 * 144 * 144 * 4)
    assert block_rows((5, 10_000, 10_000), np.uint8) == 1
    assert block_rows((7,), np.float64, limit=64) == 8


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ([NOISE[:4]], "4 rows were given of an array"),
        ([NOISE[:, :1]], "A block is float32"),
        ([NOISE.astype(np.float16)], "A block is float16"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(blocks: list[np.ndarray], match: str) -> None:
    with pytest.raises(MerPrepError, match=match):
        Blocks(NOISE.shape, np.float32, iter(blocks)).whole()


def test_an_error_on_the_way_leaves_no_file(tmp_path: Path, toy_clip: MakeClip) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield NOISE[:4]
        raise DecodeError("The frame is cut off.")

    folder = tmp_path / "parts"
    with pytest.raises(DecodeError, match="cut off"):
        write_part(
            folder / "part.h5",
            result(toy_clip(), Blocks(NOISE.shape, np.float32, failing())),
            stage="flow",
            recipe={},
        )
    assert list(folder.iterdir()) == []


def test_a_disk_that_fills_up_at_any_byte_is_one_plain_error(
    tmp_path: Path, toy_clip: MakeClip
) -> None:
    clip = toy_clip()
    write_part(tmp_path / "whole.h5", result(clip, in_blocks(NOISE)), stage="flow", recipe={})
    size = (tmp_path / "whole.h5").stat().st_size
    folder = tmp_path / "parts"
    limit = 0

    def small(call: Call) -> None:
        if call.name == "write":
            assert call.file is not None
            assert call.data is not None
            if call.file.tell() + len(call.data) > limit:
                raise OSError(28, "No space left on device")

    with observed(small):
        for limit in (0, 1, 100, 1000, 3000, *range(5000, size, 7919), size - 1):  # noqa: B007
            with pytest.raises(ShardError, match="No space left to write part"):
                write_part(
                    folder / "part.h5", result(clip, in_blocks(NOISE)), stage="flow", recipe={}
                )
            assert list(folder.iterdir()) == []
        gc.collect()  # nothing that was dropped complains afterwards
        limit = size
        write_part(folder / "part.h5", result(clip, in_blocks(NOISE)), stage="flow", recipe={})
    assert (folder / "part.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, toy_clip: MakeClip) -> None:
    def refuse(call: Call) -> None:
        raise OSError(30, "Read-only file system")

    with (
        observed(refuse),
        pytest.raises(ShardError, match="The cache cannot be written: Read-only file system"),
        part_writer(
            tmp_path / "part.h5",
            toy_clip(),
            clip_key="c",
            frame_numbers=(8,),
            stage="flow",
            recipe={},
        ),
    ):
        raise AssertionError("never reached")
