"""Records that are read whole: regular files of a size that a record has."""

from __future__ import annotations

import os
import tracemalloc

import pytest

from mer_prep.records import LARGEST, record_bytes, record_text


def test_a_record_is_what_the_file_holds(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(b'{"name": "\xc3\xa9"}\r\n')
    tracemalloc.start()
    try:
        assert record_bytes(path) == path.read_bytes()
        assert tracemalloc.get_traced_memory()[1] < 2**20  # not room for the largest
    finally:
        tracemalloc.stop()
    assert record_text(path) == '{"name": "é"}\r\n'
    (tmp_path / "link").symlink_to(path)
    assert record_bytes(tmp_path / "link") == path.read_bytes()


def test_what_would_be_waited_for_or_never_end_is_no_record(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(OSError, match="no regular file"):
            record_bytes(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        record_bytes(tmp_path / "absent")


def test_a_file_larger_than_any_record_is_not_read(tmp_path):
    path = tmp_path / "record.json"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="more than 512 MiB"):
            record_text(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
