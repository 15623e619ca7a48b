"""Keys: one hash for everything a result depends on, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from mer_prep.config import canonical_json


def digest(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 (64 hexadecimal digits) of the canonical JSON of `parts`."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def shard_key(stage: str, clip_keys: Mapping[str, str]) -> str:
    """Return the key of a shard: of its stage and the keys of the clips it holds.

    Parameters
    ----------
    stage : str
        Name of the stage.
    clip_keys : mapping of str to str
        Key of every clip by clip id. Order does not matter.
    """
    return digest({"shard": stage, "clips": dict(clip_keys)})
