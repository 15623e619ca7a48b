"""The trees of CASME and CASME II: ``sub01/EP02_01f``, told apart by their frame names."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from mer_prep.sources.expressions import Reading
from mer_prep.sources.folders import Folder, corpus_of_folder, subject_of_sub
from mer_prep.sources.frames import frame_number
from mer_prep.sources.trees import Tree

#: Folders between the raw tree of CASME and its subjects; both sections are one tree.
_SECTION = re.compile(r"(?i)(casme|section)[-_ ]?[ab]")

_CASME = re.compile(r"(?i)casme(?![-_ ]?(2|3|ii|sq|\())")


def episode_key(subject: int, clip: str) -> Hashable:
    """Return what identifies a clip folder, whatever its case and padding."""
    return subject, clip.casefold()


def episode_trees(reading: Reading, folders: Sequence[Folder], corpus: str) -> list[Tree]:
    """Return the trees of one of the two corpora.

    Most clip folders of CASME repeat their name in their frames, as none of CASME II does. Those
    that do not are of CASME if they lie among others that do, or below a folder that says so.

    Parameters
    ----------
    reading : Reading
        Findings are added to it.
    folders : sequence of Folder
        All folders below the root.
    corpus : {'casme', 'casme2'}
        Which corpus.
    """
    grouped: dict[tuple[str, ...], list[Folder]] = {}
    for folder in folders:
        subject = subject_of_sub(folder.parent_name or reading.root.name)
        if subject is not None and corpus_of_folder(folder) in ("casme", "casme2"):
            parts = tuple(name for name in folder.parts[:-2] if not _SECTION.fullmatch(name))
            grouped.setdefault(parts, []).append(folder)
    trees = []
    for parts, clips in grouped.items():
        names = (reading.root.name, *parts)
        filled = [folder for folder in clips if folder.images]
        named = sum(corpus_of_folder(folder) == "casme" for folder in filled)
        repeated = bool(named) and 2 * named >= len(filled)
        said = corpus == "casme" and any(_CASME.match(name) for name in names)
        if (repeated or said) != (corpus == "casme"):
            continue
        tree = Tree("/".join(parts), _variant(names, clips))
        for folder in clips:
            subject = subject_of_sub(folder.parent_name or reading.root.name)
            assert subject is not None
            tree.add(episode_key(subject, folder.name), folder, reading.findings)
        trees.append(tree)
    return trees


def _variant(names: Sequence[str], folders: Sequence[Folder]) -> str:
    """Tell the form of a tree by its frame names, its folder names, or where its clips begin."""
    first = next((folder.images[0] for folder in folders if folder.images), "")
    if first.lower().startswith("reg_"):
        return "cropped"
    path = "/".join(names).lower()
    for word, variant in (("select", "selected"), ("crop", "cropped"), ("raw", "raw")):
        if word in path:
            return variant
    filled = [folder for folder in folders if folder.images]
    # Whole recordings are numbered from 1; the selection keeps their numbers.
    from_one = sum(min(frame_number(n) or 0 for n in folder.images) <= 1 for folder in filled)
    return "raw" if filled and 2 * from_one > len(filled) else "selected"
