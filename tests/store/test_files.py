"""Files that are still being written, and what is left of them."""

from __future__ import annotations

from pathlib import Path

from mer_prep.store.files import discard_all_of, partial_path


def test_what_killed_writers_left_goes_with_the_file(tmp_path: Path) -> None:
    target, other = tmp_path / "a[1].h5", tmp_path / "a[1].h5x.h5"
    partials = [partial_path(target), partial_path(target)]
    for path in (target, *partials, other, partial_path(other)):
        path.write_bytes(b"")
    discard_all_of(target)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == 2
    assert all(name.startswith("a[1].h5x.h5") for name in left)
    discard_all_of(target)
