"""Balancing by a seeded draw: as many clips of every class as the smallest class has."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mer_prep.errors import ManifestError


def balanced_draw(
    labels: Mapping[str, int], classes: Sequence[str], *, seed: int, name: str
) -> set[str]:
    """Return the clips that a draw keeps: of every class as many as the smallest class has.

    Parameters
    ----------
    labels : mapping of str to int
        Label, an index into `classes`, by clip id.
    classes : sequence of str
        All classes.
    seed : int
        Seed of the draw.
    name : str
        Name of the label map, for errors.

    Returns
    -------
    set of str
        Ids of the clips that are kept.

    Raises
    ------
    ManifestError
        If a class has no clip.

    Notes
    -----
    The clips of a class are ordered by the SHA-256 of ``<seed>:<clip id>``, and the first are
    kept. Neither the order of the import nor the version of a library has a part in it, and a clip
    that is missing changes the draw only where it would have been drawn itself or makes the
    smallest class smaller.
    """
    by_class: dict[int, list[str]] = defaultdict(list)
    for clip_id, label in labels.items():
        by_class[label].append(clip_id)
    empty = [name for label, name in enumerate(classes) if not by_class[label]]
    if empty:
        raise ManifestError(
            f"No clip has class '{empty[0]}': balanced to the smallest class, nothing is left.",
            hint=f"import and name the corpora that have it, see `mer-prep labels {name}`",
        )
    size = min(len(ids) for ids in by_class.values())
    return {
        clip_id
        for ids in by_class.values()
        for clip_id in sorted(ids, key=lambda one: _rank(one, seed))[:size]
    }


def _rank(clip_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()
