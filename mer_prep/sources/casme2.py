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
from mer_prep.sources.episodes import episode_key, episode_trees
from mer_prep.sources.expressions import Expression, Reading
from mer_prep.sources.folders import Folder, lies_below
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.trees import Request, find_workbook, optional_text, read_rows

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
    corpus = open_corpus(request, "casme2")
    reading = corpus.reading
    tree = corpus.choose_tree(episode_trees(reading, corpus.folders, "casme2"), PREFERENCE)
    reading.cut = tree.variant != "raw"
    table = corpus.read_table(
        columns=COLUMNS,
        pattern=r"casme.?(2|ii).*(coding|label)",
        expected="CASME2-coding-20140508.xlsx",
    )
    classes = _objective_classes(reading, corpus.folders)
    expressions = _expressions(reading, table, classes)
    corpus.recognise(expressions)
    _warn_of_version_a(reading)
    expressions = corpus.corrected(expressions)
    corpus.build_clips(tree, expressions)
    return reading


def _objective_classes(reading: Reading, folders: Sequence[Folder]) -> dict[Hashable, int]:
    assert reading.annotations is not None
    path: Path | None = next(
        (
            entry
            for entry in sorted(reading.annotations.parent.iterdir())
            if re.match(r"(?i)casme.?(2|ii).*objective.*\.xlsx?$", entry.name)
            and entry.is_file()
            and lies_below(entry, reading.annotations.parent)
        ),
        None,
    ) or find_workbook(reading, folders, r"casme.?(2|ii).*objective")
    if path is None:
        reading.note("info", "objective-classes-missing", "No workbook of objective classes.")
        return {}
    table = find_table(read_sheets(path), _CLASS_COLUMNS)

    def parse(number: int, row: Row) -> tuple[Hashable, int | None]:
        return episode_key(number, row.text("Filename")), row.optional_whole("Objective Class")

    found = read_rows(
        reading, table, parse, subject="Subject", clip="Filename", onset="Objective Class"
    )
    return {key: value for key, value in found if value is not None}


def _expressions(reading: Reading, table: Table, classes: dict[Hashable, int]) -> list[Expression]:
    def parse(number: int, row: Row) -> Expression:
        key = episode_key(number, row.text("Filename"))
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


def _warn_of_version_a(reading: Reading) -> None:
    if reading.version == "A":
        reading.note(
            "warning",
            "annotation-version",
            "Version A of the annotation has 28 surprise clips where the MEGC2019 clip list was "
            "made from version B, which has 25.",
            where=reading.annotations.name if reading.annotations else None,
        )
