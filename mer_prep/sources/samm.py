"""Reads SAMM: ``006/006_1_2/006_05562.jpg`` and the FACS codes below their rows of prose.

References
----------
Davison et al. (2018). SAMM: A spontaneous micro-facial movement dataset. IEEE Transactions on
Affective Computing 9(1), 116-129. doi:10.1109/TAFFC.2016.2573832
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from mer_prep.errors import AnnotationError
from mer_prep.manifest import make_clip_id
from mer_prep.sources.annotations import Column, Row, Table
from mer_prep.sources.expressions import Expression, Reading
from mer_prep.sources.folders import Folder, corpus_of_folder
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.trees import Request, Tree, note_misplaced, optional_text, read_rows

PREFERENCE = ("official", "cropped")

COLUMNS = (
    Column("Subject"),
    Column("Filename", ("File name", "Clip")),
    Column("Onset Frame", ("Onset",)),
    Column("Apex Frame", ("Apex",)),
    Column("Offset Frame", ("Offset",)),
    Column("Duration", required=False),
    Column("Action Units", ("Action Unit", "AU", "AUs"), required=False),
    Column("Estimated Emotion", ("Emotion",)),
    Column("Objective Classes", ("Objective Class",), required=False),
)

_CLIP = re.compile(r"0*(\d{1,3})_(\d)_0*(\d{1,2})")


def read(request: Request) -> Reading:
    """Read a SAMM folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    corpus = open_corpus(request, "samm", cut=True)
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders), PREFERENCE)
    table = corpus.read_table(
        columns=COLUMNS,
        pattern=r"samm.*(micro.*facs|facs.*codes)",
        expected="SAMM_Micro_FACS_Codes_v2.xlsx",
    )
    expressions, durations = _expressions(reading, table)
    corpus.recognise(expressions)
    expressions = corpus.corrected(expressions)
    _check_durations(reading, expressions, durations)
    corpus.build_clips(tree, expressions)
    return reading


def clip_key(name: str) -> Hashable:
    """Return (subject, inducement, index) of a clip name, or the name itself if it is another."""
    match = _CLIP.fullmatch(name)
    return tuple(int(part) for part in match.groups()) if match else name.casefold()


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    trees: dict[tuple[str, ...], Tree] = {}
    for folder in folders:
        if corpus_of_folder(folder) != "samm":
            continue
        match = _CLIP.fullmatch(folder.name)
        assert match is not None
        below_subject = re.fullmatch(r"\d{1,3}", folder.parent_name) is not None
        if below_subject and int(folder.parent_name) != int(match[1]):
            note_misplaced(reading, folder, f"{int(match[1]):03d}")
        parts = folder.parts[: -2 if below_subject else -1]
        path = "/".join((reading.root.name, *parts)).lower()
        variant = "cropped" if "crop" in path else "official"
        tree = trees.setdefault(parts, Tree("/".join(parts), variant))
        tree.add(clip_key(folder.name), folder, reading.findings)
    return list(trees.values())


def _expressions(
    reading: Reading, table: Table
) -> tuple[list[Expression], list[tuple[int | None, Row]]]:
    """Return the expressions, and for each the duration its row states."""

    def parse(number: int, row: Row) -> tuple[Expression, tuple[int | None, Row]]:
        key = clip_key(row.text("Filename"))
        if isinstance(key, tuple) and key[0] != number:
            raise AnnotationError(
                f"'{row.text('Filename')}' is no clip of subject {number:03d}; a wrong subject "
                "would leak between folds.",
                where=row.where("Filename"),
            )
        expression = Expression(
            key=key,
            number=number,
            subject=f"{number:03d}",
            clip=row.text("Filename"),
            onset=row.whole("Onset Frame"),
            apex=row.optional_whole("Apex Frame"),
            offset=row.optional_whole("Offset Frame"),
            emotion_raw=optional_text(row, "Estimated Emotion"),
            action_units_raw=optional_text(row, "Action Units"),
            objective_class=row.optional_whole("Objective Classes"),
            where=row.where(),
        )
        return expression, (row.optional_whole("Duration"), row)

    found = read_rows(
        reading, table, parse, subject="Subject", clip="Filename", onset="Onset Frame"
    )
    return [expression for expression, _ in found], [duration for _, duration in found]


def _check_durations(
    reading: Reading,
    expressions: Sequence[Expression],
    durations: Sequence[tuple[int | None, Row]],
) -> None:
    """Note rows whose duration is not that of their onset and offset."""
    for expression, (duration, row) in zip(expressions, durations, strict=True):
        if duration is None or expression.onset is None or not expression.offset:
            continue
        length = expression.offset - expression.onset + 1
        if duration != length:
            reading.note(
                "warning",
                "duration-mismatch",
                f"Onset {expression.onset} to offset {expression.offset} are {length} frames; "
                f"the row says {duration}.",
                clip_id=make_clip_id(reading.corpus, expression.subject, expression.clip),
                where=row.where("Duration"),
            )
