"""Lists the long videos of a corpus, those without expressions too, for spotting.

A clip keeps only the second around its expression, and a recording in which nothing is annotated
has no clip at all; yet whatever is spotted in it is a false positive. So the recordings are kept
with the import record, and a clip is of the recording in whose folder its frames lie.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from mer_prep.manifest import Recording
from mer_prep.sources.expressions import Reading, index_frames
from mer_prep.sources.folders import Folder
from mer_prep.sources.trees import Tree

#: Returns subject and name of a recording from its key and its folder.
NameOf = Callable[[Hashable, Folder], tuple[str, str]]


def list_recordings(reading: Reading, tree: Tree, name_of: NameOf) -> None:
    """Add every recording of a tree to `reading`, in the order of their names.

    Parameters
    ----------
    reading : Reading
        Gets the recordings, and one finding for all that have no frames that can be read.
    tree : Tree
        The tree that was read; its folders are recordings.
    name_of : callable
        Returns (subject, name) of a recording.
    """
    unusable = []
    for key, folder in tree.folders.items():
        frames = index_frames(reading.root, folder)
        if isinstance(frames, str):
            unusable.append(folder.relative)
            continue
        subject, name = name_of(key, folder)
        first, last = frames[0][0], frames[-1][0]
        found = Recording(name, subject, folder.relative, first, last, len(frames))
        reading.recordings.append(found)
    reading.recordings.sort(key=lambda one: one.name)
    if unusable:
        message = f"{len(unusable)} recordings have no frames that can be read and do not count "
        message += "in spotting; the first is named."
        reading.note("warning", "recording-unusable", message, where=unusable[0])
