"""Reads CAS(ME)^3: parts A and C as recordings, and the clips cut from part A.

Part A lies as ``spNO.1/a/color/8.jpg``, part C as ``01/a/color/8.jpg``; the clips are folders
``spNO.1_b_166`` of subject, recording and onset. Recordings begin some frames late and lack some:
key frames are frame numbers, never positions. A clip is one expression: of a recording the second
before its onset and the second after its offset are kept with it. The micro-expressions of part A
stand in one workbook, its macro-expressions in two others, one with emotions and one with action
units. Part B has no annotation and depth pictures are not read.

References
----------
Li et al. (2023). CAS(ME)^3: A third generation facial spontaneous micro-expression database with
depth information and high ecological validity. IEEE Transactions on Pattern Analysis and Machine
Intelligence 45(3), 2782-2800. doi:10.1109/TPAMI.2022.3174895
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Column, Row, Table, find_table, read_sheets
from mer_prep.sources.expressions import CONTEXT_SECONDS, Expression, Reading, Remark
from mer_prep.sources.facts import UNKNOWN
from mer_prep.sources.folders import Folder
from mer_prep.sources.opening import OpenedCorpus, open_corpus
from mer_prep.sources.recordings import list_recordings
from mer_prep.sources.selection import (
    EXPRESSIONS,
    note_missing_emotions,
    of_chosen_type,
    without_repeats,
)
from mer_prep.sources.trees import (
    Request,
    Tree,
    first_workbook,
    holds_table,
    optional_text,
    read_rows,
)

#: Recordings hold the macro-expressions too, and the frames around each expression.
PREFERENCE = ("part-a", "part-a-clips", "part-c")

#: What a reader may choose, the default first.
OPTIONS: Mapping[str, tuple[str, ...]] = {"expressions": EXPRESSIONS}

_KEY_FRAMES = (
    Column("Subject", ("sub",)),
    Column("Filename", ("File name", "seq")),
    Column("Onset"),
    Column("Apex"),
    Column("Offset"),
    Column("AU", ("AUs", "Action Unit", "Action Units"), required=False),
    Column("Objective class", ("Objective classes",), required=False),
    Column("shade", required=False),
)

#: Micro-expressions, or macro-expressions, with their emotions.
LABEL_COLUMNS = (*_KEY_FRAMES, Column("emotion", ("Estimated Emotion",)))

#: Expressions of both kinds with their action units, without emotions.
CODE_COLUMNS = (*_KEY_FRAMES, Column("Expression type"))

PART_C_COLUMNS = (
    Column("sub", ("Subject",)),
    Column("onset"),
    Column("offset"),
    Column("au", ("AUs", "Action Units"), required=False),
    Column("emotion"),
)

# The release of known counts first; several share the rest of the name.
_LABELS = tuple(rf"part[-_ ]?a[-_ ]me[-_ ]label{end}" for end in (r".*_v2\.", r".*_v\d", ""))
_MACRO_LABELS = (r"part[-_ ]?a[-_ ]mae[-_ ]label",)
_CODES = (r"part[-_ ]?a(_v\d+)?(_\d+)?\.xlsx?$",)
_PART_C = (r"part[-_ ]?c[-_ ]me",)

_CLIP = re.compile(r"(?i)spno\.?0*(\d{1,3})_([a-z])_(\d+)")
_SUBJECTS = {"part-a": re.compile(r"(?i)spno\.?0*(\d{1,3})"), "part-c": re.compile(r"0*(\d{1,3})")}
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII")


def read(request: Request) -> Reading:
    """Read a CAS(ME)^3 folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    # What is kept of a recording ends soon after the last key frame, as a cut clip does.
    corpus = open_corpus(request, "casme3", cut=True)
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders), PREFERENCE)
    part_c = tree.variant == "part-c"
    table = _table(corpus, part_c=part_c)
    expressions = _part_c(reading, table, tree) if part_c else _part_a(reading, table)
    corpus.recognise(expressions)
    annotated = [item.onset for item in expressions]
    expressions = corpus.corrected(expressions)
    context: int | None = None
    if tree.variant == "part-a-clips":
        pairs = zip(expressions, annotated, strict=True)
        expressions = [_in_clip_folder(item, onset, tree) for item, onset in pairs]
    else:
        context = round(CONTEXT_SECONDS * (reading.fps or 0))
    wanted = request.options["expressions"]
    if tree.variant == "part-a" and wanted != "micro":
        expressions = _with_macro(reading, corpus.folders, expressions)
    expressions = of_chosen_type(reading, expressions, wanted)
    expressions = without_repeats(reading, [_without_zero(item) for item in expressions])
    corpus.build_clips(tree, expressions, context=context)
    if tree.variant != "part-a-clips":
        list_recordings(reading, tree, _part_c_name if part_c else _part_a_name)
    note_missing_emotions(reading, "The workbook with action units has none.")
    if part_c:
        # That no apex is annotated is so for every clip, and no news.
        reading.findings = [item for item in reading.findings if item.code != "apex-missing"]
    return reading


def recording_key(subject: int, letter: str) -> Hashable:
    """Return what identifies a recording, whatever the case of its letter."""
    return subject, letter.casefold()


def _part_a_name(key: Hashable, folder: Folder) -> tuple[str, str]:
    assert isinstance(key, tuple)
    return f"spNO.{key[0]}", f"spNO.{key[0]}_{key[1]}"


def _part_c_name(key: Hashable, folder: Folder) -> tuple[str, str]:
    assert isinstance(key, tuple)
    return f"{key[0]:02d}", f"{key[0]:02d}_{key[1]}"


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    trees: dict[tuple[str, tuple[str, ...]], Tree] = {}
    for folder in folders:
        found = _place(reading.root.name, folder)
        if found is None:
            continue
        variant, key, depth = found
        parts = folder.parts[: max(len(folder.parts) - depth, 0)]
        tree = trees.setdefault((variant, parts), Tree("/".join(parts), variant))
        tree.add(key, folder, reading.findings)
    return list(trees.values())


def _place(root: str, folder: Folder) -> tuple[str, Hashable, int] | None:
    """Return variant, key and levels below its tree of a folder of frames, or None."""
    names = (root, *folder.parts)
    clip = _CLIP.fullmatch(names[-1])
    if clip:
        if len(names) > 1 and names[-2].casefold() in ("depth", "video"):
            return None
        return "part-a-clips", (*_recording(clip), int(clip[3])), 1
    colour = names[-1].casefold() == "color"
    if len(names) < 3 or not (colour or folder.images):
        return None
    subject, letter = names[-3:-1] if colour else names[-2:]
    if not re.fullmatch(r"[A-Za-z]", letter):
        return None
    for variant, pattern in _SUBJECTS.items():
        if found := pattern.fullmatch(subject):
            return variant, recording_key(int(found[1]), letter), 2 + colour
    return None


def _recording(clip: re.Match[str]) -> tuple[int, str]:
    return int(clip[1]), clip[2].casefold()


def _table(corpus: OpenedCorpus, *, part_c: bool) -> Table:
    """Find and read the workbook of the micro-expressions.

    Raises
    ------
    AnnotationError
        If it is missing or cannot be understood.
    """
    if part_c:
        path = corpus.find_annotation(*_PART_C, expected="CAS(ME)3_part_C_ME.xlsx")
        return find_table(read_sheets(path), PART_C_COLUMNS)
    path = corpus.find_annotation(
        *_LABELS, *_CODES, expected="cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"
    )
    columns = CODE_COLUMNS if holds_table(path, CODE_COLUMNS) else LABEL_COLUMNS
    return find_table(read_sheets(path), columns)


def _part_a(reading: Reading, table: Table, *, kind: str = "micro") -> list[Expression]:
    """Return the expressions of part A; `kind` holds where the table does not say it."""

    def parse(number: int, row: Row) -> Expression:
        letter = row.text("Filename").casefold()
        if not re.fullmatch(r"[a-z]", letter):
            raise AnnotationError(
                f"'{row.text('Filename')}' is no recording of part A, which are letters.",
                where=row.where("Filename"),
            )
        return Expression(
            key=recording_key(number, letter),
            number=number,
            subject=f"spNO.{number}",
            clip=letter,
            onset=row.whole("Onset"),
            apex=row.optional_whole("Apex"),
            offset=row.optional_whole("Offset"),
            emotion_raw=optional_text(row, "emotion"),
            action_units_raw=optional_text(row, "AU"),
            objective_class=_objective_class(row),
            where=row.where(),
            expression_type=_expression_type(row) if "Expression type" in table.columns else kind,
            remarks=_remarks(row),
        )

    return read_rows(reading, table, parse, subject="Subject", clip="Filename", onset="Onset")


def _expression_type(row: Row) -> str:
    match = re.match(r"(?i)(micro|macro)", row.text("Expression type"))
    if match is None:
        raise AnnotationError(
            f"{row.text('Expression type')!r} is neither micro- nor macro-expression.",
            where=row.where("Expression type"),
        )
    return match[1].lower()


def _objective_class(row: Row) -> int | None:
    text = row.text("Objective class").upper()
    return _ROMAN.index(text) + 1 if text in _ROMAN else row.optional_whole("Objective class")


def _remarks(row: Row) -> tuple[Remark, ...]:
    shade = row.text("shade")
    if shade in ("", "0"):
        return ()
    message = f"The column 'shade' says {shade!r}: the face may be covered."
    return (Remark("info", "face-occluded", message),)


def _part_c(reading: Reading, table: Table, tree: Tree) -> list[Expression]:
    """Return the micro-expressions of part C, which lie in the one recording of each subject."""
    letters: dict[int, list[str]] = {}
    for key in tree.folders:
        assert isinstance(key, tuple)
        letters.setdefault(key[0], []).append(key[1])

    def parse(number: int, row: Row) -> Expression:
        found = letters.get(number, ["a"])
        letter = "a" if "a" in found else min(found)
        return Expression(
            key=recording_key(number, letter),
            number=number,
            subject=f"{number:02d}",
            clip=letter,
            onset=row.whole("onset"),
            apex=None,
            offset=row.optional_whole("offset"),
            emotion_raw=optional_text(row, "emotion"),
            action_units_raw=optional_text(row, "au"),
            where=row.where(),
        )

    return read_rows(reading, table, parse, subject="sub", clip="onset", onset="onset")


def _with_macro(
    reading: Reading, folders: Sequence[Folder], expressions: list[Expression]
) -> list[Expression]:
    """Return the expressions and, after them, the macro-expressions of the other workbooks."""
    macro = [item for item in expressions if item.expression_type == "macro"]
    micro = [item for item in expressions if item.expression_type == "micro"]
    labelled = _other_table(reading, folders, _MACRO_LABELS, LABEL_COLUMNS, kind="macro")
    coded = _other_table(reading, folders, _CODES, CODE_COLUMNS, kind="micro")
    macro += [item for item in coded if item.expression_type == "macro"]
    emotions = _by_onset(reading, labelled)
    merged = [_with_emotion(item, emotions.pop((item.key, item.onset), None)) for item in macro]
    merged += emotions.values()
    if merged and reading.version not in (None, UNKNOWN):
        reading.version = f"{reading.version}+macro"
    if not merged:
        message = "No workbook of macro-expressions was found; micro-expressions alone are read."
        reading.note("info", "macro-missing", message)
    return micro + merged


def _by_onset(
    reading: Reading, labelled: Sequence[Expression]
) -> dict[tuple[Hashable, int | None], Expression]:
    """Return expressions by recording and onset; of rows that differ, none, and an error."""
    found: dict[tuple[Hashable, int | None], Expression] = {}
    contradicted = set()
    for item in labelled:
        key = (item.key, item.onset)
        other = found.setdefault(key, item)
        if dataclasses.replace(other, where="") != dataclasses.replace(item, where=""):
            contradicted.add(key)
            message = f"The row says something else than {other.where} of the same onset; neither "
            message += "is taken."
            reading.note("error", "row-repeated", message, where=item.where)
    return {key: item for key, item in found.items() if key not in contradicted}


def _with_emotion(item: Expression, labelled: Expression | None) -> Expression:
    raw = item.emotion_raw if labelled is None else labelled.emotion_raw
    return dataclasses.replace(item, emotion_raw=raw)


def _other_table(
    reading: Reading,
    folders: Sequence[Folder],
    patterns: Sequence[str],
    columns: Sequence[Column],
    *,
    kind: str,
) -> list[Expression]:
    """Return the expressions of a workbook beside the main one; none if there is none."""
    path: Path | None = first_workbook(reading, folders, patterns)
    if path is None or path == reading.annotations:
        return []
    reading.note("info", "annotations-also", f"Macro-expressions: read {path.name}.")
    return _part_a(reading, find_table(read_sheets(path), columns), kind=kind)


def _without_zero(item: Expression) -> Expression:
    """Return an expression with an offset of zero taken for what it means: none is annotated."""
    return dataclasses.replace(item, offset=item.offset or None)


def _in_clip_folder(item: Expression, annotated: int | None, tree: Tree) -> Expression:
    """Return an expression with the key of its folder, which is named by its onset.

    Where an erratum has changed the onset, the folder may have the name of the annotated one.
    """
    keys: list[Hashable] = [(item.number, item.clip, onset) for onset in (item.onset, annotated)]
    return dataclasses.replace(item, key=next((k for k in keys if k in tree.folders), keys[0]))
