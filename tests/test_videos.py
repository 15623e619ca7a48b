from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError, MerPrepError
from mer_prep.sources.frames import iterate_video
from mer_prep.videos import write_video


def frames(count, *, grey=False):
    ramp = np.tile(np.linspace(0, 200, 64), (48, 1))
    for index in range(count):
        plane = (ramp + 5 * index).astype(np.uint8)
        yield plane if grey else np.stack([plane, plane // 2, 255 - plane], axis=-1)


@pytest.mark.parametrize("suffix", [".avi", ".mp4"])
@pytest.mark.parametrize("grey", [False, True])
def test_videos_give_back_their_frames(tmp_path, suffix, grey):
    path = tmp_path / f"clip{suffix}"
    assert write_video(path, frames(7, grey=grey), fps=30.0) == 7
    read = list(iterate_video(path))
    assert len(read) == 7
    for mine, theirs in zip(frames(7, grey=grey), read, strict=True):
        expected = np.repeat(mine[..., None], 3, axis=2) if grey else mine
        assert np.abs(theirs.astype(float) - expected).mean() < 6


def test_bad_videos_are_errors(tmp_path):
    with pytest.raises(ConfigError, match=r"\.avi"):
        write_video(tmp_path / "clip.gif", frames(2), fps=30.0)
    with pytest.raises(ConfigError, match="at least one"):
        write_video(tmp_path / "clip.avi", frames(0), fps=30.0)
    with pytest.raises(ConfigError, match="cannot be written"):
        write_video(tmp_path / "none" / "clip.avi", frames(2), fps=30.0)


def test_a_video_that_cannot_be_read_back_whole_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("mer_prep.videos._readable_frames", lambda path: 2)
    with pytest.raises(MerPrepError, match="2 of 3 frames can be read back"):
        write_video(tmp_path / "clip.avi", frames(3), fps=30.0)
