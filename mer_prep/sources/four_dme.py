"""Reads the grey micro-expression clips of 4DME: ``gray_micro/S13/S13_1st_001_01_1/1.jpg``.

A clip may be labelled with several emotions. The first named is the clip's emotion; all of them
stay in ``emotion_raw``, and the clip is flagged ``emotion-multiple``.

References
----------
Li et al. (2023). 4DME: A spontaneous 4D micro-expression dataset with multimodalities. IEEE
Transactions on Affective Computing 14(4), 3031-3047. doi:10.1109/TAFFC.2022.3182342
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import BLANKS, Column, Row, Table
from mer_prep.sources.expressions import (
    Expression,
    Reading,
    Remark,
    normalise_emotion,
    parse_action_units,
)
from mer_prep.sources.folders import Folder
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.trees import Request, Tree, note_misplaced, optional_text, read_rows

PREFERENCE = ("raw", "cropped")

#: Columns that are 1 where the clip carries the emotion.
EMOTION_COLUMNS = ("Positive", "Negative", "Surprise", "Repression", "Others")

COLUMNS = (
    Column("sub_ID", ("Subject",)),
    Column("fold_name", ("Filename", "File name", "Folder name")),
    Column("Onset", ("OnsetFrame",)),
    Column("Apex", ("ApexFrame",)),
    Column("Offset", ("OffsetFrame",)),
    Column("AUs", ("AU", "Action Units"), required=False),
    Column("Emotion", ("Estimated Emotion",)),
    *(Column(name, required=False) for name in EMOTION_COLUMNS),
)

_CLIP = re.compile(r"(?i)s0*(\d{1,3})_\w+")
_FOLDER = re.compile(r"(?i)s0*(\d{1,3})_\w+_\d{3}_\d{2}_\d")


def read(request: Request) -> Reading:
    """Read the grey micro-expression clips of a 4DME folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    corpus = open_corpus(request, "4dme", cut=True)
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders), PREFERENCE)
    table = corpus.read_table(
        columns=COLUMNS,
        pattern=r"4dme.*label.*micro",
        expected="4DME_Labelling_Micro_release v1.xlsx",
        clip="fold_name",
    )
    expressions = _expressions(reading, table)
    corpus.recognise(expressions)
    expressions = corpus.corrected(expressions)
    corpus.build_clips(tree, expressions)
    return reading


def split_emotions(text: str) -> tuple[str, ...]:
    """Return the normalised emotions of a label: ``Surprise+Positive`` gives both, in order."""
    named = (normalise_emotion(part) for part in re.split(r"[+,;/&]", text))
    return tuple(dict.fromkeys(name for name in named if name and name not in BLANKS))


def moving_action_units(text: str) -> tuple[int, ...]:
    """Return the numbers of the action units that move, ascending.

    Those marked ``(k)`` are there all the time: ``AU4(k)+L7`` gives (7,).
    """
    return parse_action_units(re.sub(r"(?i)\d+[a-e]?\s*\(k\)", "", text))


def clip_key(name: str) -> Hashable:
    """Return what identifies a clip folder, whatever its case."""
    return name.casefold()


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    trees: dict[tuple[str, ...], Tree] = {}
    long = []
    for folder in folders:
        match = _FOLDER.fullmatch(folder.name)
        if match is None:
            continue
        if any("long" in name.lower() for name in folder.parts):
            long.append(folder)
            continue
        above = re.fullmatch(r"(?i)(?:sub|s)?[-_ ]?0*(\d{1,3})", folder.parent_name)
        if above and int(above[1]) != int(match[1]):
            note_misplaced(reading, folder, f"S{int(match[1]):02d}")
        parts = folder.parts[: -2 if above else -1]
        crops = "crop" in "/".join((reading.root.name, *parts)).lower()
        variant = "cropped" if crops else "raw"
        tree = trees.setdefault(parts, Tree("/".join(parts), variant))
        tree.add(clip_key(folder.name), folder, reading.findings)
    if long:
        message = f"{len(long)} folders of long videos are not read; the labels are of the clips."
        reading.note("info", "long-videos", message, where=long[0].relative)
    return list(trees.values())


def _expressions(reading: Reading, table: Table) -> list[Expression]:
    def parse(number: int, row: Row) -> Expression:
        clip = row.text("fold_name")
        named = _CLIP.fullmatch(clip)
        if named is None or int(named[1]) != number:
            raise AnnotationError(
                f"'{clip}' is no clip of subject {number}; a wrong subject would leak between "
                "folds.",
                where=row.where("fold_name"),
            )
        emotions = split_emotions(row.text("Emotion"))
        units = optional_text(row, "AUs")
        return Expression(
            key=clip_key(clip),
            number=number,
            subject=f"S{number:02d}",
            clip=clip,
            onset=row.whole("Onset"),
            apex=row.optional_whole("Apex"),
            offset=row.optional_whole("Offset"),
            emotion_raw=optional_text(row, "Emotion"),
            emotion=emotions[0] if emotions else None,
            action_units_raw=units,
            action_units=moving_action_units(units or ""),
            where=row.where(),
            remarks=tuple(_remarks(row, emotions)),
        )

    return read_rows(reading, table, parse, subject="sub_ID", clip="fold_name", onset="Onset")


def _remarks(row: Row, emotions: Sequence[str]) -> list[Remark]:
    remarks = []
    if len(emotions) > 1:
        message = f"Several emotions are annotated ({', '.join(emotions)}); the first is taken."
        remarks.append(Remark("info", "emotion-multiple", message))
    marked = [name.lower() for name in EMOTION_COLUMNS if row.text(name) not in ("", "0")]
    if marked and set(marked) != set(emotions):
        message = f"The text says {', '.join(emotions) or 'nothing'}, the columns say "
        message += f"{', '.join(marked)}; the text is believed."
        remarks.append(Remark("warning", "label-disagrees", message))
    return remarks
