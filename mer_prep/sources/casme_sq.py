"""Reads CAS(ME)^2: long recordings with micro- and macro-expressions, or crops of these.

The codes have no headings and name participants 1 to 22 and stimuli (``disgust1``), the folders of
the recordings other subject numbers and videos (``s15/15_0101disgustingteeth``); two more sheets
map one to the other. A clip is one expression: of a recording the second before its onset and the
second after its offset are kept with it.

References
----------
Qu et al. (2018). CAS(ME)^2: A database for spontaneous macro-expression and micro-expression
spotting and recognition. IEEE Transactions on Affective Computing 9(4), 424-436.
doi:10.1109/TAFFC.2017.2654440
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Row, Sheet, Table, cell_text, read_sheets
from mer_prep.sources.expressions import CONTEXT_SECONDS, Expression, Reading
from mer_prep.sources.facts import CorpusFacts
from mer_prep.sources.folders import Folder
from mer_prep.sources.offsets import MISSING_OFFSET, with_offset
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.recordings import list_recordings
from mer_prep.sources.selection import EXPRESSIONS, of_chosen_type
from mer_prep.sources.trees import Request, Tree, note_refused, optional_text

#: Crops cover the micro-expressions only, and what the selection covers differs between copies.
PREFERENCE = ("raw", "selected", "cropped")

#: What a reader may choose, the default first.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "missing-offset": MISSING_OFFSET,
    "label": ("estimated", "self-report"),
    "expressions": EXPRESSIONS,
}

COLUMNS = (
    *("Participant", "Filename", "Onset", "Apex", "Offset"),
    *("Action Units", "Estimated Emotion", "Type", "Self-reported Emotion"),
)

_CLIP = re.compile(r"(?i)([a-z]+\d)_0*(\d{1,2})")
_RECORDING = re.compile(r"(?i)(\d{1,2})_(\d{4})[a-z]*")
_SUBJECT = re.compile(r"(?i)s0*(\d{1,2})")
_TYPES = re.compile(r"(?i)(micro|macro)([-_ ]?expressions?)?")


def read(request: Request) -> Reading:
    """Read a CAS(ME)^2 folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook is missing or cannot be understood.
    """
    corpus = open_corpus(request, "casme_sq")
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders, corpus.facts), PREFERENCE)
    reading.cut = tree.variant != "raw"
    path = corpus.find_annotation(
        r"(cas\(?me\)?\^?2|casme.?sq)(?!.*blink).*code|^code_final",
        expected="CAS(ME)^2code_final.xlsx",
    )
    sheets = read_sheets(path)
    codes = codes_table(sheets)
    others = [sheet for sheet in sheets if sheet is not codes.sheet]
    rules = _naming_rules(reading, others, corpus.facts)
    by_recording = any(isinstance(key, Recording) for key in tree.folders)
    expressions = _expressions(reading, codes, rules, request.options, by_recording)
    corpus.recognise(expressions)
    expressions = corpus.corrected(expressions)
    expressions = of_chosen_type(reading, expressions, request.options["expressions"])
    policy = request.options["missing-offset"]
    expressions = [with_offset(reading, item, policy) for item in expressions]
    expressions = [item for item in expressions if item.offset or policy != "drop"]
    context = round(CONTEXT_SECONDS * (reading.fps or 0)) if by_recording else None
    corpus.build_clips(tree, expressions, context=context)
    if by_recording:
        list_recordings(reading, tree, _recording_name)
    return reading


@dataclass(frozen=True, slots=True)
class Recording:
    """Key of a recording's folder: subject 15 and video ``0101``."""

    subject: int
    video: str


def _recording_name(key: Hashable, folder: Folder) -> tuple[str, str]:
    assert isinstance(key, Recording)
    return f"s{key.subject}", folder.name


@dataclass(frozen=True, slots=True)
class NamingRules:
    """How the codes name subjects and videos.

    Parameters
    ----------
    subjects : mapping of int to int
        Number in the recordings' names, 15 to 40, by participant, 1 to 22.
    videos : mapping of str to str
        Four digits of the video by stimulus: ``disgust1`` gives ``0101``.
    """

    subjects: Mapping[int, int]
    videos: Mapping[str, str]


def published_rules(facts: CorpusFacts) -> NamingRules:
    """Return the naming rules as the corpus's facts have them."""
    participants, stimuli = facts.names["participants"], facts.names["stimuli"]
    return NamingRules(
        {int(one): int(name.removeprefix("s")) for one, name in participants.items()},
        {stimulus: video[:4] for stimulus, video in stimuli.items()},
    )


def clip_key(subject: int, clip: str) -> Hashable:
    """Return what identifies a folder ``disgust1_1`` of a subject, whatever its case."""
    return subject, clip.casefold()


def _trees(reading: Reading, folders: Sequence[Folder], facts: CorpusFacts) -> list[Tree]:
    rules = published_rules(facts)
    trees: dict[tuple[tuple[str, ...], bool], Tree] = {}
    for folder in folders:
        key = _folder_key(reading, folder, rules)
        if key is None:
            continue
        parts = folder.parts[:-2]
        group = (parts, isinstance(key, Recording))
        if group not in trees:
            trees[group] = Tree("/".join(parts), _variant((reading.root.name, *parts), key))
        trees[group].add(key, folder, reading.findings)
    return list(trees.values())


def _folder_key(reading: Reading, folder: Folder, rules: NamingRules) -> Hashable | None:
    above = folder.parent_name or reading.root.name
    subject = _SUBJECT.fullmatch(above)
    recording = _RECORDING.fullmatch(folder.name)
    if recording and int(recording[1]) in rules.subjects.values():
        number = int(recording[1])
        if subject and int(subject[1]) != number:
            message = f"A recording of subject s{number} lies in the folder of s{int(subject[1])}; "
            message += "its name is believed."
            reading.note("warning", "folder-misplaced", message, where=folder.relative)
        return Recording(number, recording[2])
    if _CLIP.fullmatch(folder.name) is None:
        return None
    if subject and int(subject[1]) in rules.subjects.values():
        return clip_key(int(subject[1]), folder.name)
    if above.isdecimal() and int(above) in rules.subjects:
        return clip_key(rules.subjects[int(above)], folder.name)
    return None


def _variant(names: Sequence[str], key: Hashable) -> str:
    path = "/".join(names).lower()
    for word, variant in (("select", "selected"), ("crop", "cropped"), ("raw", "raw")):
        if word in path:
            return variant
    return "raw" if isinstance(key, Recording) else "cropped"


def codes_table(sheets: Sequence[Sheet]) -> Table:
    """Return the codes, found by their cells: the sheet has no headings, and two names.

    Raises
    ------
    AnnotationError
        If no sheet holds a participant and a clip such as ``disgust2_3`` in its first columns.
    """
    columns = {name: position for position, name in enumerate(COLUMNS)}
    for sheet in sheets:
        numbers = range(1, len(sheet.rows) + 1)
        rows = [Row(sheet, number, columns) for number in numbers]
        coded = [row.number for row in rows if _CLIP.fullmatch(row.text("Filename"))]
        if coded and 2 * len(coded) >= sum(bool(row.text("Filename")) for row in rows):
            first = next(
                row.number
                for row in rows
                if row.number == coded[0] or row.text("Participant").isdecimal()
            )
            return Table(sheet, first - 1, columns, ())
    raise AnnotationError(
        "No sheet holds the codes of CAS(ME)^2.",
        where=sheets[0].file if sheets else None,
        why="they have no headings and are recognised by clips such as 'disgust2_3'",
        hint="expected columns: participant, clip, onset, apex, offset, action units, estimated "
        "emotion, micro- or macro-expression, self-reported emotion",
    )


def _naming_rules(reading: Reading, sheets: Sequence[Sheet], facts: CorpusFacts) -> NamingRules:
    """Return the workbook's own naming rules where it has them, else the published ones."""
    rules = published_rules(facts)
    subjects: dict[int, int] = {}
    videos: dict[str, str] = {}
    for sheet in sheets:
        for number, values in enumerate(sheet.rows, start=1):
            place = f"{sheet.file.name}, {sheet.name} row {number}"
            cells = [cell_text(value, where=place) for value in values]
            if len(cells) >= 3 and _SUBJECT.fullmatch(cells[1]) and cells[2].isdecimal():
                subjects[int(cells[2])] = int(cells[1].lstrip("sS"))
            elif len(cells) >= 2 and re.fullmatch(r"\d{3,4}", cells[0]):
                # As a number the code has lost its zero.
                videos[cells[1].casefold()] = cells[0].zfill(4)
    merged = NamingRules({**rules.subjects, **subjects}, {**rules.videos, **videos})
    known = {str(name): str(value) for name, value in _pairs(rules)}
    for name, value in _pairs(merged):
        if known.get(str(name)) != str(value):
            message = f"The workbook maps {name} to {value}, where {known.get(str(name))} is "
            message += "known; the workbook is believed."
            where = reading.annotations.name if reading.annotations else None
            reading.note("warning", "naming-rule-differs", message, where=where)
    return merged


def _pairs(rules: NamingRules) -> list[tuple[int | str, int | str]]:
    return [*rules.subjects.items(), *rules.videos.items()]


def _expressions(
    reading: Reading,
    table: Table,
    rules: NamingRules,
    options: Mapping[str, str],
    by_recording: bool,
) -> list[Expression]:
    column = "Estimated Emotion" if options["label"] == "estimated" else "Self-reported Emotion"
    expressions: list[Expression] = []
    refused: list[AnnotationError] = []
    for row in table:
        try:
            if row.filled("Filename") or row.filled("Onset"):
                expressions.append(_expression(row, rules, column, by_recording))
        except AnnotationError as error:
            refused.append(error)
    note_refused(reading, refused, total=len(expressions) + len(refused))
    return expressions


def _expression(row: Row, rules: NamingRules, column: str, by_recording: bool) -> Expression:
    """Return the expression of a row.

    Raises
    ------
    AnnotationError
        If a cell is not what it must be.
    """
    participant, clip = row.text("Participant"), row.text("Filename")
    if not participant.isdecimal() or int(participant) not in rules.subjects:
        message = f"{participant!r} is no participant (1 to 22)."
        raise AnnotationError(message, where=row.where("Participant"))
    if _CLIP.fullmatch(clip) is None:
        message = f"{clip!r} is no clip such as 'disgust2_3'."
        raise AnnotationError(message, where=row.where("Filename"))
    kind = _TYPES.fullmatch(row.text("Type"))
    if kind is None:
        message = f"{row.text('Type')!r} is neither micro- nor macro-expression."
        raise AnnotationError(message, where=row.where("Type"))
    number = rules.subjects[int(participant)]
    stimulus = clip.rsplit("_", 1)[0].casefold()
    recording = Recording(number, rules.videos.get(stimulus, stimulus))
    return Expression(
        key=recording if by_recording else clip_key(number, clip),
        number=number,
        subject=f"s{number}",
        clip=clip,
        onset=row.whole("Onset"),
        # Zero stands for none: frames are numbered from 1.
        apex=row.optional_whole("Apex") or None,
        offset=row.optional_whole("Offset") or None,
        emotion_raw=optional_text(row, column),
        action_units_raw=optional_text(row, "Action Units"),
        where=row.where(),
        expression_type=kind[1].lower(),
    )
