"""Reads SAMM Long Videos: ``006_1/006_1_0001.jpg`` and the FACS codes below their rows of prose.

The codes name every expression as SAMM does (``006_1_2``: recording ``006_1``) and say whether it
is micro or macro, but no emotion: those of the micro-expressions are taken from SAMM's own
workbook, where it is there. Of a recording the second before onset and the second after offset
are kept with each expression.

References
----------
Yap et al. (2020). SAMM Long Videos: A spontaneous facial micro- and macro-expressions dataset. FG
2020. doi:10.48550/arXiv.1911.01519
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Mapping, Sequence

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Column, Row, Table, find_table, read_sheets
from mer_prep.sources.expressions import CONTEXT_SECONDS, Expression, Reading, Remark
from mer_prep.sources.folders import Folder, corpus_of_folder
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.recordings import list_recordings
from mer_prep.sources.samm import COLUMNS as SAMM_COLUMNS
from mer_prep.sources.samm import clip_key
from mer_prep.sources.selection import (
    EXPRESSIONS,
    note_missing_emotions,
    of_chosen_type,
    without_repeats,
)
from mer_prep.sources.trees import (
    Request,
    Tree,
    check_own_table,
    find_workbook,
    optional_text,
    read_rows,
)

PREFERENCE = ("long",)

#: What a reader may choose, the default first.
OPTIONS: Mapping[str, tuple[str, ...]] = {"expressions": EXPRESSIONS}

COLUMNS = (
    Column("Subject"),
    Column("Filename", ("File name", "Clip")),
    Column("Onset", ("Onset Frame",)),
    Column("Apex", ("Apex Frame",)),
    Column("Offset", ("Offset Frame",)),
    Column("Duration", required=False),
    Column("Type"),
    Column("Action Units", ("Action Unit", "AU", "AUs"), required=False),
)

_WORKBOOKS = tuple(rf"samm.?long.*{version}.*\.(xlsx?|csv)$" for version in ("v3", "v2", ""))
_SAMM_CODES = r"samm(?!.*long).*(micro.*facs|facs.*codes)"

_RECORDING = re.compile(r"0*(\d{1,3})_(\d)")

#: Macro-expressions that are annotated from here on span their recording. Frames count from 1.
_START = 1


def read(request: Request) -> Reading:
    """Read a folder of SAMM Long Videos.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    # What is kept of a recording ends soon after the last key frame, as a cut clip does.
    corpus = open_corpus(request, "samm_lv", cut=True)
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders), PREFERENCE)
    path = corpus.find_annotation(*_WORKBOOKS, expected="SAMM_LongVideos_V3_Release.xlsx")
    table = find_table(read_sheets(path), COLUMNS)
    check_own_table(table, "samm", "Filename")
    expressions = _expressions(reading, table)
    corpus.recognise(expressions)
    expressions = corpus.corrected(expressions)
    expressions = of_chosen_type(reading, expressions, request.options["expressions"])
    expressions = _with_emotions(reading, corpus.folders, expressions)
    expressions = without_repeats(reading, expressions)
    context = round(CONTEXT_SECONDS * (reading.fps or 0))
    corpus.build_clips(tree, expressions, context=context)
    list_recordings(reading, tree, _recording_name)
    note_missing_emotions(reading, "Those of macro-expressions are not annotated.")
    return reading


def recording_key(clip: str) -> Hashable | None:
    """Return (subject, inducement) of an expression such as ``006_1_2``, or None."""
    key = clip_key(clip)
    return key[:2] if isinstance(key, tuple) else None


def _recording_name(key: Hashable, folder: Folder) -> tuple[str, str]:
    assert isinstance(key, tuple)
    return f"{key[0]:03d}", f"{key[0]:03d}_{key[1]}"


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    trees: dict[tuple[str, ...], Tree] = {}
    for folder in folders:
        match = _RECORDING.fullmatch(folder.name)
        if match is None or corpus_of_folder(folder) != "samm_lv":
            continue
        below_subject = re.fullmatch(r"\d{1,3}", folder.parent_name) is not None
        parts = folder.parts[: -2 if below_subject else -1]
        tree = trees.setdefault(parts, Tree("/".join(parts), "long"))
        tree.add((int(match[1]), int(match[2])), folder, reading.findings)
    return list(trees.values())


def _expressions(reading: Reading, table: Table) -> list[Expression]:
    """Return the micro- and macro-expressions; movements of other types are noted."""

    def parse(number: int, row: Row) -> Expression | str:
        kind = re.match(r"(?i)(micro|macro)", row.text("Type"))
        if kind is None:
            return row.where("Type")
        clip = row.text("Filename")
        key = recording_key(clip)
        if not isinstance(key, tuple) or key[0] != number:
            raise AnnotationError(
                f"'{clip}' is no expression of subject {number:03d}; a wrong subject would leak "
                "between folds.",
                where=row.where("Filename"),
            )
        onset, apex, offset = (_frame(row, name) for name in ("Onset", "Apex", "Offset"))
        return Expression(
            key=key,
            number=number,
            subject=f"{number:03d}",
            clip=clip,
            onset=onset,
            apex=apex,
            offset=offset,
            emotion_raw=None,
            action_units_raw=optional_text(row, "Action Units"),
            where=row.where(),
            expression_type=kind[1].lower(),
            remarks=tuple(_remarks(row, kind[1].lower(), onset, offset)),
        )

    found = read_rows(reading, table, parse, subject="Subject", clip="Filename", onset="Onset")
    others = [item for item in found if isinstance(item, str)]
    if others:
        message = f"{len(others)} movements are neither micro- nor macro-expressions; left out."
        reading.note("warning", "type-other", message, where=others[0])
    return [item for item in found if isinstance(item, Expression)]


def _frame(row: Row, column: str) -> int | None:
    """Return a key frame; zero and -1 stand for none, as frames count from 1."""
    number = row.optional_whole(column)
    return None if number is None or number < _START else number


def _remarks(row: Row, kind: str, onset: int | None, offset: int | None) -> list[Remark]:
    remarks = []
    if onset is None:
        message = f"The onset is {row.text('Onset') or 'blank'}; the first frame stands in."
        remarks.append(Remark("warning", "onset-missing", message))
    if kind == "macro" and (onset or 0) <= _START:
        message = "The macro-expression is annotated from the start of its recording; benchmarks "
        message += "of spotting leave such ones out."
        remarks.append(Remark("warning", "onset-at-start", message))
    duration = row.optional_whole("Duration")
    if duration is not None and onset is not None and offset is not None:
        length = offset - onset + 1
        if duration != length:
            message = f"Onset {onset} to offset {offset} are {length} frames; the row says "
            message += f"{duration}."
            remarks.append(Remark("warning", "duration-mismatch", message))
    return remarks


def _with_emotions(
    reading: Reading, folders: Sequence[Folder], expressions: Sequence[Expression]
) -> list[Expression]:
    """Return the expressions, the micro-expressions with the emotions of SAMM's own workbook."""
    path = find_workbook(reading, folders, _SAMM_CODES)
    if path is None:
        message = "Put SAMM_Micro_FACS_Codes_v2.xlsx into the corpus folder for the emotions of "
        message += "the micro-expressions."
        reading.note("info", "emotions-not-joined", message)
        return list(expressions)
    labels = _samm_labels(reading, find_table(read_sheets(path), SAMM_COLUMNS))
    result = []
    unmatched = []
    for item in expressions:
        label = labels.get(clip_key(item.clip))
        if item.expression_type == "micro" and label is not None:
            item = dataclasses.replace(item, emotion_raw=label[0], objective_class=label[1])
        elif item.expression_type == "micro":
            unmatched.append(item.clip)
        result.append(item)
    if unmatched:
        message = f"{len(unmatched)} micro-expressions are not in SAMM's workbook and have no "
        message += f"emotion: {', '.join(unmatched[:5])}{', ...' if len(unmatched) > 5 else ''}."
        reading.note("warning", "emotions-unmatched", message, where=path.name)
    return result


def _samm_labels(reading: Reading, table: Table) -> dict[Hashable, tuple[str | None, int | None]]:
    """Return emotion and objective class of SAMM's micro-expressions by their key.

    Rows that say different things of one clip give an error, and none of them is believed.
    """

    def parse(number: int, row: Row) -> tuple[Row, tuple[str | None, int | None]]:
        return row, (
            optional_text(row, "Estimated Emotion"),
            row.optional_whole("Objective Classes"),
        )

    labels: dict[Hashable, tuple[str | None, int | None]] = {}
    contradicted = set()
    for row, label in read_rows(
        reading, table, parse, subject="Subject", clip="Filename", onset="Onset Frame"
    ):
        key = clip_key(row.text("Filename"))
        if labels.setdefault(key, label) != label:
            contradicted.add(key)
            message = f"SAMM's workbook gives {row.text('Filename')} two emotions or classes; "
            message += "neither is taken."
            reading.note("error", "row-repeated", message, where=row.where())
    return {key: label for key, label in labels.items() if key not in contradicted}
