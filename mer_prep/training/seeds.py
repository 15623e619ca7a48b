"""Seeds that depend on what they are for."""

from __future__ import annotations

import zlib


def seed_of(*parts: object) -> int:
    """Return a seed that depends on all of `parts` and on nothing else."""
    return zlib.crc32("/".join(map(str, parts)).encode())
