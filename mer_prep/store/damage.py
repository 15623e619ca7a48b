"""What is said of a file that is damaged, or that mer-prep did not make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mer_prep.errors import ShardError

#: What to do about a damaged shard: all of it can be computed again.
AGAIN = "delete the file and run again to compute it anew"


def foreign(what: str, path: Path) -> ShardError:
    """Return the error for something that a shard never holds."""
    return ShardError(
        what,
        where=path,
        why="no shard of mer-prep does; the file was made or changed by something else",
        hint=f"do not use this file; {AGAIN}",
    )


@contextmanager
def as_shard_error(path: Path) -> Iterator[None]:
    """Turn what a file that is no shard, or damaged, makes of reading it into one error."""
    try:
        yield
    except (
        *(LookupError, ValueError, TypeError, AttributeError, ArithmeticError),
        *(RuntimeError, OSError, MemoryError),
    ) as error:
        raise ShardError(
            f"The file is not a shard of mer-prep, or is damaged: {error!s:.300}.",
            where=path,
            hint=AGAIN,
        ) from None
