"""Frames of a clip: found, ordered, decoded once, kept within bounds, read from nowhere else."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from mer_prep.errors import DecodeError, ManifestError
from mer_prep.manifest import UNREADABLE, Clip
from mer_prep.sources import index
from mer_prep.sources.frames import (
    ClipFrames,
    copies_of_frames,
    frame_number,
    iterate_video,
    list_frames,
    read_bytes,
    source_digest,
    source_path,
    stat_signature,
)
from mer_prep.sources.index import current_digests
from mer_prep.videos import write_video
from tests.conftest import MakeClip, write_frame


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("img46.jpg", 46),
        ("reg_img100.jpg", 100),
        ("006_05562.jpg", 5562),
        ("EP01_12-081.jpg", 81),
        ("image090823.bmp", 90823),
        ("17581039.jpg", 17581039),
        ("neutral.jpg", None),
        ("img3 - Copy (7).png", 3),
        ("img3 - Copy.png", 3),
        ("frame (12).png", 12),
        ("shot copy 12.png", 12),
    ],
)
def test_the_number_is_the_last_run_of_digits(name: str, number: int | None) -> None:
    assert frame_number(name) == number


def test_frames_are_ordered_by_number_and_other_files_passed_over(tmp_path: Path) -> None:
    for name in ("img99.jpg", "img100.JPG", "img9.png", "Thumbs.db", "._img5.jpg", "a.lnk"):
        (tmp_path / name).write_bytes(b"")
    assert list_frames(tmp_path) == [(9, "img9.png"), (99, "img99.jpg"), (100, "img100.JPG")]


def test_copies_are_known_by_their_originals() -> None:
    names = [
        "img3.png",
        "img3 - Copy.png",
        "img3 - Copy (7).png",
        "img3 - Copy - Copy.png",
        "img3 (2).png",
        "img3(3).png",
        "img3 copy.png",
        "img3 copy 2.png",
        "IMG3 - COPY.png",
        "img3~.png",
        "img4 (2).png",
        "img5 - Copy.jpg",
        "img5.png",
        "img6.png~",
    ]
    copies = copies_of_frames(names)
    assert set(copies) == set(names[1:8]) | {"img3~.png"}
    assert set(copies.values()) == {"img3.png"}


def test_numbers_in_brackets_are_numbers_where_there_is_no_original(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / f"frame ({number}).png").write_bytes(b"")
    assert [number for number, _ in list_frames(tmp_path)] == [1, 2, 10]


def test_two_files_of_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("img7.jpg", "img007.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ManifestError, match="Two files are frame 7"):
        list_frames(tmp_path)


def test_a_second_pass_decodes_nothing(toy_clip: MakeClip) -> None:
    frames = ClipFrames(toy_clip(), 1, 4)
    first = [image.copy() for image in frames]
    assert (len(frames), frames.numbers, frames.decoded) == (3, (9, 10, 11), 3)
    np.testing.assert_array_equal(list(frames), first)
    np.testing.assert_array_equal(frames[-1], first[-1])
    assert frames.decoded == 3


@pytest.mark.parametrize(("allowed", "decoded"), [(5, 5), (4.9, 10), (0, 10)])
def test_frames_are_kept_if_all_of_them_fit(
    toy_clip: MakeClip, allowed: float, decoded: int
) -> None:
    one = 24 * 16 * 3
    frames = ClipFrames(toy_clip(), 0, 5, memory=int(allowed * one))
    first = [image.copy() for image in frames]
    np.testing.assert_array_equal(list(frames), first)
    assert frames.decoded == decoded


def test_frames_of_a_long_clip_are_decoded_again(
    toy_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mer_prep.sources.frames.KEPT_FRAMES", 4)
    for stop, decoded in ((4, 4), (5, 10)):
        frames = ClipFrames(toy_clip(), 0, stop)
        assert [image.shape for image in (*frames, *frames)] == 2 * stop * [(16, 24, 3)]
        assert frames.decoded == decoded


def test_the_size_is_known_without_decoding_again(toy_clip: MakeClip) -> None:
    frames = ClipFrames(toy_clip(), 0, 5, memory=0)
    assert frames.size == (24, 16)
    assert frames.size == (24, 16)
    assert frames.decoded == 1


def test_kept_frames_cannot_be_written_to(toy_clip: MakeClip) -> None:
    frames = ClipFrames(toy_clip(), 0, 5)
    with pytest.raises(ValueError, match="read-only"):
        frames[0][0] = 0


def test_a_frame_of_another_size_is_named(toy_clip: MakeClip) -> None:
    clip = toy_clip()
    write_frame(Path(clip.root) / clip.frames[2], 90, size=(30, 16))
    with pytest.raises(DecodeError, match="Frame 10 is 30x16 px"):
        list(ClipFrames(clip, 0, 5))


def test_a_missing_frame_is_named(toy_clip: MakeClip) -> None:
    clip = toy_clip()
    (Path(clip.root) / clip.frames[3]).unlink()
    with pytest.raises(DecodeError, match="missing") as caught:
        list(ClipFrames(clip, 0, 5))
    assert "img11.png" in str(caught.value)


def test_links_that_leave_the_root_are_refused(toy_clip: MakeClip, tmp_path: Path) -> None:
    clip = toy_clip()
    path = Path(clip.root) / clip.frames[0]
    secret = tmp_path / "secret.png"
    shutil.copy(path, secret)
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(ManifestError, match="leads out of the corpus folder"):
        read_bytes(clip, clip.frames[0])
    path.unlink()
    path.symlink_to(Path(clip.root) / clip.frames[1])
    assert read_bytes(clip, clip.frames[0]) == read_bytes(clip, clip.frames[1])


@pytest.mark.parametrize("relative", ["../x.png", "/etc/passwd", "a\0b.png", "file:///x"])
def test_paths_that_are_not_below_the_root_are_refused(toy_clip: MakeClip, relative: str) -> None:
    with pytest.raises(ManifestError, match="not a plain relative path"):
        source_path(toy_clip(), relative)


def test_only_regular_files_are_read(toy_clip: MakeClip) -> None:
    clip = toy_clip()
    os.mkfifo(Path(clip.root) / "pipe.png")
    with pytest.raises(DecodeError, match="not a regular file"):
        source_path(clip, "pipe.png")


@pytest.fixture
def video(tmp_path: Path) -> Clip:
    root = tmp_path / "videos"
    root.mkdir()
    images = [np.full((48, 64, 3), 20 * k, np.uint8) for k in range(10)]
    write_video(root / "film.avi", images, fps=25.0)
    return Clip(
        clip_id="clips/ann/film",
        corpus="clips",
        subject="ann",
        clip="film",
        root=str(root),
        frame_numbers=tuple(range(10)),
        video="film.avi",
    )


def test_a_video_is_read_in_order_and_once(video: Clip) -> None:
    frames = ClipFrames(video, 2, 7)
    means = [float(image.mean()) for image in frames]
    np.testing.assert_allclose(means, [40, 60, 80, 100, 120], atol=3)
    assert float(frames[1].mean()) == means[1]
    assert frames.decoded == 5


def test_a_video_that_is_shorter_than_it_was_is_noticed(video: Clip) -> None:
    longer = dataclasses.replace(video, frame_numbers=tuple(range(12)))
    with pytest.raises(DecodeError, match="ends after 10 of the 12 frames"):
        list(ClipFrames(longer, 0, 12))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no video")
    with pytest.raises(DecodeError, match="cannot be opened"):
        list(iterate_video(tmp_path / "film.mp4"))


def test_the_digest_follows_bytes_not_names_or_times(toy_clip: MakeClip, tmp_path: Path) -> None:
    clip = toy_clip()
    base = source_digest(clip)
    shutil.copytree(clip.root, tmp_path / "copy")
    assert source_digest(dataclasses.replace(clip, root=str(tmp_path / "copy"))) == base
    assert source_digest(dataclasses.replace(clip, frames=clip.frames[::-1])) != base
    numbers = tuple(number + 1 for number in clip.frame_numbers)
    assert source_digest(dataclasses.replace(clip, frame_numbers=numbers)) != base


def age(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files' times be long past, as they are in a real corpus."""
    monkeypatch.setattr(index, "_GRAIN_NS", -1_000_000_000_000)


def test_unchanged_files_are_not_hashed_again(
    toy_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = toy_clip()
    age(clip, monkeypatch)
    place = tmp_path / "index.json"
    first = current_digests([clip], place)
    assert first == {clip.clip_id: clip.source_digest}
    monkeypatch.setattr(index, "source_digest", lambda _: pytest.fail("hashed again"))
    assert current_digests([clip], place) == first


def test_fresh_files_are_not_trusted_yet(toy_clip: MakeClip, tmp_path: Path) -> None:
    clip = toy_clip()
    place = tmp_path / "index.json"
    current_digests([clip], place)
    path = Path(clip.root) / clip.frames[0]
    facts = path.stat()
    write_frame(path, 33)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert current_digests([clip], place)[clip.clip_id] != clip.source_digest


def test_an_edit_is_seen_and_a_missing_file_is_unreadable(
    toy_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = toy_clip()
    age(clip, monkeypatch)
    place = tmp_path / "index.json"
    current_digests([clip], place)
    time.sleep(0.01)
    write_frame(Path(clip.root) / clip.frames[0], 34)
    assert stat_signature(clip) is not None
    assert current_digests([clip], place)[clip.clip_id] == source_digest(clip)
    (Path(clip.root) / clip.frames[0]).unlink()
    assert stat_signature(clip) is None
    assert current_digests([clip], place) == {clip.clip_id: UNREADABLE}


def test_a_damaged_index_is_made_again(toy_clip: MakeClip, tmp_path: Path) -> None:
    place = tmp_path / "index.json"
    place.write_text("[1, 2")
    clip = toy_clip()
    assert current_digests([clip], place) == {clip.clip_id: clip.source_digest}
