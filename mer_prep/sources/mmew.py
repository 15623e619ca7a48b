"""Reads MMEW: ``anger/S13-07-001/1.jpg`` or ``S13/anger/S13-07-001/1.jpg``, and its workbook.

References
----------
Ben et al. (2022). Video-based facial micro-expression analysis: A survey of datasets, features and
algorithms. IEEE Transactions on Pattern Analysis and Machine Intelligence 44(9), 5826-5846.
doi:10.1109/TPAMI.2021.3067464
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Column, Row, Table
from mer_prep.sources.expressions import (
    Expression,
    Reading,
    Remark,
    index_frames,
    normalise_emotion,
)
from mer_prep.sources.folders import Folder
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.trees import Request, Tree, note_misplaced, optional_text, read_rows

PREFERENCE = ("emotion-first", "subject-first")

COLUMNS = (
    Column("Subject"),
    Column("Filename", ("File name", "Clip")),
    Column("OnsetFrame", ("Onset",)),
    Column("ApexFrame", ("Apex",)),
    Column("OffsetFrame", ("Offset",)),
    Column("Action Units", ("Action Unit", "AU", "AUs"), required=False),
    Column("Estimated Emotion", ("Emotion",)),
)

_CLIP = re.compile(r"(?i)s0*(\d{1,2})-0*(\d{1,2})-0*(\d{1,3})")
_SUBJECT = re.compile(r"(?i)s0*\d{1,2}")

#: The seventh class has this folder in some copies; the workbook says "others".
_ALIAS = ("repression", "others")

Code = tuple[int, int, int]


def read(request: Request) -> Reading:
    """Read the micro-expressions of an MMEW folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    corpus = open_corpus(request, "mmew", cut=True)
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders, corpus.facts.emotions), PREFERENCE)
    table = corpus.read_table(
        columns=COLUMNS,
        pattern=r"mmew.*micro",
        expected="MMEW_Micro_Exp.xlsx",
    )
    expressions = _expressions(reading, table)
    corpus.recognise(expressions)
    expressions = corpus.corrected(expressions)
    expressions = _with_folder_labels(reading, expressions, tree, corpus.facts.emotions)
    expressions = [_rebased(reading, item, tree.folders.get(item.key)) for item in expressions]
    corpus.build_clips(tree, expressions)
    return reading


def clip_code(name: str) -> Code | None:
    """Return (subject, emotion index, sample) of a clip name such as ``S13-07-001``."""
    match = _CLIP.fullmatch(name)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _trees(reading: Reading, folders: Sequence[Folder], emotions: Sequence[str]) -> list[Tree]:
    trees: dict[tuple[tuple[str, ...], str], Tree] = {}
    for folder in folders:
        code = clip_code(folder.name)
        if code is None or any("macro" in name.lower() for name in folder.parts):
            continue
        above = folder.parts[:-1]
        variant = "emotion-first"
        if above and _is_emotion(above[-1], emotions):
            above = above[:-1]
        if above and _SUBJECT.fullmatch(above[-1]):
            variant = "subject-first"
            if int(above[-1].lstrip("sS")) != code[0]:
                note_misplaced(reading, folder, f"S{code[0]:02d}")
            above = above[:-1]
        tree = trees.setdefault((above, variant), Tree("/".join(above), variant))
        tree.add(code, folder, reading.findings)
    return list(trees.values())


def _is_emotion(name: str, emotions: Sequence[str]) -> bool:
    return normalise_emotion(name) in (*emotions, *_ALIAS)


def _expressions(reading: Reading, table: Table) -> list[Expression]:
    def parse(number: int, row: Row) -> Expression:
        clip = row.text("Filename")
        code = clip_code(clip)
        if code is None or code[0] != number:
            raise AnnotationError(
                f"'{clip}' is no clip of subject {number}; a wrong subject would leak between "
                "folds.",
                where=row.where("Filename"),
            )
        return Expression(
            key=code,
            number=number,
            subject=f"S{number:02d}",
            clip=clip,
            onset=row.whole("OnsetFrame"),
            apex=row.optional_whole("ApexFrame"),
            offset=row.optional_whole("OffsetFrame"),
            emotion_raw=optional_text(row, "Estimated Emotion"),
            action_units_raw=optional_text(row, "Action Units"),
            where=row.where(),
        )

    return read_rows(reading, table, parse, subject="Subject", clip="Filename", onset="OnsetFrame")


def _with_folder_labels(
    reading: Reading, expressions: Sequence[Expression], tree: Tree, emotions: Sequence[str]
) -> list[Expression]:
    """Return the expressions, with a remark where the folder's emotion is not the workbook's."""
    result = []
    aliased: Counter[str] = Counter()
    for item in expressions:
        folder = tree.folders.get(item.key)
        label = normalise_emotion(item.emotion_raw or "")
        said = normalise_emotion(folder.parent_name) if folder else label
        if said == label or not _is_emotion(said, emotions):
            result.append(item)
        elif (said, label) == _ALIAS:
            aliased[said] += 1
            result.append(item)
        else:
            message = f"The folder says '{said}', the workbook '{label}', which is believed."
            remark = Remark("warning", "label-disagrees", message)
            result.append(dataclasses.replace(item, remarks=(*item.remarks, remark)))
    for said, count in aliased.items():
        message = f"The folder '{said}' holds {count} clips that the workbook calls '{_ALIAS[1]}'."
        reading.note("info", "folder-alias", message)
    return result


def _rebased(reading: Reading, expression: Expression, folder: Folder | None) -> Expression:
    """Return an expression counted from its clip's first file, if it counts otherwise.

    Files of a clip begin with 1. A row that begins after the last of them counts from the start
    of the recording; it is only moved where onset to offset are as many frames as there are files.
    """
    onset, offset = expression.onset, expression.offset
    frames = index_frames(reading.root, folder) if folder else ""
    if isinstance(frames, str) or onset is None or offset is None:
        return expression
    first, last = frames[0][0], frames[-1][0]
    if onset <= last or offset - onset != last - first:
        return expression
    shift = first - onset
    message = f"The row counts from the start of the recording; {-shift} frames are subtracted "
    message += f"(onset {onset} is file {first})."
    remark = Remark("warning", "frames-rebased", message)
    return dataclasses.replace(
        expression,
        onset=first,
        apex=None if expression.apex is None else expression.apex + shift,
        offset=last,
        remarks=(*expression.remarks, remark),
    )
