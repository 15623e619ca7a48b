"""Reads CASME II: ``sub01/EP02_01f/img46.jpg`` and the coding workbook.

Of the forms found the cut selection is preferred over the whole recordings, which only cost time,
and both over the registered crops: alignment is done here, once, from the camera's own pixels.

References
----------
Yan et al. (2014). CASME II: An improved spontaneous micro-expression database and the baseline
evaluation. PLoS ONE 9(1), e86041. doi:10.1371/journal.pone.0086041
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path

from mer_prep.sources.annotations import Column, Row, Table, find_table, read_sheets
from mer_prep.sources.expressions import (
    Expression,
    Reading,
    apply_errata,
    build_clips,
    normalise_emotion,
)
from mer_prep.sources.facts import CorpusFacts, chosen_errata, corpus_facts, recognise_version
from mer_prep.sources.folders import (
    Folder,
    corpus_of_folder,
    not_this_corpus,
    subject_of_sub,
    walk,
)
from mer_prep.sources.frames import frame_number
from mer_prep.sources.trees import (
    Request,
    Tree,
    check_own_table,
    choose_tree,
    find_workbook,
    holds_table,
    no_workbook,
    optional_text,
    read_rows,
)

PREFERENCE = ("selected", "raw", "cropped")

COLUMNS = (
    Column("Subject"),
    Column("Filename", ("File name", "Clip")),
    Column("OnsetFrame", ("Onset",)),
    Column("ApexFrame", ("Apex",)),
    Column("OffsetFrame", ("Offset",)),
    Column("Action Units", ("Action Unit", "AU", "AUs"), required=False),
    Column("Estimated Emotion", ("Emotion",)),
)

_CLASS_COLUMNS = (
    Column("Subject"),
    Column("Filename", ("File name", "Clip")),
    Column("Objective Class", ("Objective Classes",)),
)


def read(request: Request) -> Reading:
    """Read a CASME II folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    facts = corpus_facts("casme2")
    reading = Reading(request.name, request.root)
    errata = chosen_errata(facts, request.errata)
    folders = walk(request.root, reading.findings)
    trees = _trees(reading, folders)
    if not trees:
        raise not_this_corpus(request.root, folders, "casme2")
    tree = choose_tree(reading, trees, PREFERENCE, facts, request.variant)
    reading.cut = tree.variant != "raw"
    reading.annotations = request.annotations or find_workbook(
        reading,
        folders,
        r"casme.?(2|ii).*(coding|label)",
        lambda path: holds_table(path, COLUMNS),
    )
    if reading.annotations is None:
        raise no_workbook(reading, facts, "CASME2-coding-20140508.xlsx")
    table = find_table(read_sheets(reading.annotations), COLUMNS)
    check_own_table(table, "casme2", "Filename")
    classes = _objective_classes(reading, folders)
    expressions = _expressions(reading, table, classes)
    _recognise(reading, facts, expressions)
    expressions = apply_errata(reading, expressions, errata)
    build_clips(reading, expressions, tree.folders, emotions=facts.emotions)
    return reading


def _key(subject: int, clip: str) -> Hashable:
    return subject, clip.casefold()


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    grouped: dict[tuple[str, ...], list[tuple[Hashable, Folder]]] = {}
    for folder in folders:
        subject = subject_of_sub(folder.parent_name or reading.root.name)
        if subject is not None and corpus_of_folder(folder) == "casme2":
            entry = (_key(subject, folder.name), folder)
            grouped.setdefault(folder.parts[:-2], []).append(entry)
    trees = []
    for parts, entries in grouped.items():
        variant = _variant((reading.root.name, *parts), [folder for _, folder in entries])
        tree = Tree("/".join(parts), variant)
        for key, folder in entries:
            tree.add(key, folder, reading.findings)
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


def _objective_classes(reading: Reading, folders: Sequence[Folder]) -> dict[Hashable, int]:
    assert reading.annotations is not None
    path: Path | None = next(
        (
            entry
            for entry in sorted(reading.annotations.parent.iterdir())
            if re.match(r"(?i)casme.?(2|ii).*objective.*\.xlsx?$", entry.name)
        ),
        None,
    ) or find_workbook(reading, folders, r"casme.?(2|ii).*objective")
    if path is None:
        reading.note("info", "objective-classes-missing", "No workbook of objective classes.")
        return {}
    table = find_table(read_sheets(path), _CLASS_COLUMNS)

    def parse(number: int, row: Row) -> tuple[Hashable, int | None]:
        return _key(number, row.text("Filename")), row.optional_whole("Objective Class")

    found = read_rows(
        reading, table, parse, subject="Subject", clip="Filename", onset="Objective Class"
    )
    return {key: value for key, value in found if value is not None}


def _expressions(reading: Reading, table: Table, classes: dict[Hashable, int]) -> list[Expression]:
    def parse(number: int, row: Row) -> Expression:
        key = _key(number, row.text("Filename"))
        return Expression(
            key=key,
            number=number,
            subject=f"sub{number:02d}",
            clip=row.text("Filename"),
            onset=row.whole("OnsetFrame"),
            apex=row.optional_whole("ApexFrame"),
            offset=row.optional_whole("OffsetFrame"),
            emotion_raw=optional_text(row, "Estimated Emotion"),
            action_units_raw=optional_text(row, "Action Units"),
            objective_class=classes.get(key),
            where=row.where(),
        )

    return read_rows(reading, table, parse, subject="Subject", clip="Filename", onset="OnsetFrame")


def _recognise(reading: Reading, facts: CorpusFacts, expressions: Sequence[Expression]) -> None:
    labels = [
        (item.number, item.clip, normalise_emotion(item.emotion_raw or "")) for item in expressions
    ]
    reading.version, findings = recognise_version(facts, labels)
    reading.findings += findings
    if reading.version == "A":
        reading.note(
            "warning",
            "annotation-version",
            "Version A of the annotation has 28 surprise clips where the MEGC2019 clip list was "
            "made from version B, which has 25.",
            where=reading.annotations.name if reading.annotations else None,
        )
