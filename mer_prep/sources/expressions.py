"""From annotated expressions to clips: what an annotation says, checked against the frames."""

from __future__ import annotations

import dataclasses
import itertools
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mer_prep.errors import ManifestError
from mer_prep.manifest import Clip, Finding, Recording, make_clip_id
from mer_prep.manifest_checks import check_relative
from mer_prep.sources.annotations import Row
from mer_prep.sources.facts import Erratum
from mer_prep.sources.folders import Folder
from mer_prep.sources.frames import copies_of_frames, list_frames

#: Seconds of a long recording kept before onset and after offset.
CONTEXT_SECONDS = 1.0

#: Offsets that annotators write for "none".
_NO_OFFSET = (None, 0)

_EMOTIONS = {
    "other": "others",
    "happy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}


def normalise_emotion(text: str) -> str:
    """Return an emotion in lower case and the field's spelling: ``Other`` gives ``others``."""
    key = " ".join(text.casefold().split())
    return _EMOTIONS.get(key, key)


def parse_action_units(text: str) -> tuple[int, ...]:
    """Return the numbers of the action units in an annotation, ascending.

    Sides (L, R), strengths (A to E), alternatives and remarks are left out: ``(R6 or R12)+R15``
    gives (6, 12, 15), ``10A/B`` gives (10,), ``?`` gives ().
    """
    return tuple(sorted({int(number) for number in re.findall(r"\d+", text) if len(number) <= 9}))


class Remark(NamedTuple):
    """A finding about an expression: level, code and message as in `Finding`."""

    level: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Expression:
    """One row of an annotation, or one expression in it.

    Parameters
    ----------
    key : hashable
        Identifies the clip's folder, whatever its padding and case.
    number : int
        Number of the subject.
    subject, clip : str
        Canonical subject and name of the clip.
    onset, apex, offset : int, optional
        Key frames as annotated.
    emotion_raw : str, optional
        Emotion as annotated.
    action_units_raw : str, optional
        Action units as annotated.
    objective_class : int, optional
        1 to 7.
    where : str
        File and row, for messages.
    expression_type : {'micro', 'macro'}
        Kind of expression.
    action_units : tuple of int, optional
        Numbers of the action units, where they are not simply all that `action_units_raw` names.
    emotion : str, optional
        Normalised emotion, where it is not simply `emotion_raw`.
    remarks : tuple of Remark
        What was noticed about the expression before its clip had an id.
    """

    key: Hashable
    number: int
    subject: str
    clip: str
    onset: int | None
    apex: int | None
    offset: int | None
    emotion_raw: str | None
    action_units_raw: str | None = None
    objective_class: int | None = None
    where: str | None = None
    expression_type: str = "micro"
    action_units: tuple[int, ...] | None = None
    emotion: str | None = None
    remarks: tuple[Remark, ...] = ()


@dataclass
class Reading:
    """What an importer has read so far.

    Parameters
    ----------
    corpus : str
        Name given to the corpus.
    root : Path
        Absolute corpus folder.
    variant : str, optional
        Form of the corpus.
    fps : float, optional
        Frames per second.
    cut : bool
        Whether the frames on disk end with the expression, so that a missing offset is harmless.
    annotations : Path, optional
        Annotation file, or the folder of the annotation files.
    annotation_files : tuple of Path
        The annotation files, where there are many.
    recordings : list of Recording
        Every long video, where the clips are cut from such.
    """

    corpus: str
    root: Path
    variant: str | None = None
    fps: float | None = None
    cut: bool = False
    restricted: bool = True
    annotations: Path | None = None
    annotation_files: tuple[Path, ...] = ()
    version: str | None = None
    errata: tuple[str, ...] = ()
    clips: list[Clip] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)

    def note(
        self,
        level: str,
        code: str,
        message: str,
        *,
        clip_id: str | None = None,
        where: str | None = None,
    ) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, code, message, clip_id, where))


def apply_errata(
    reading: Reading, expressions: Sequence[Expression], errata: Sequence[Erratum]
) -> list[Expression]:
    """Correct or flag the expressions that errata concern, and note which were applied."""
    corrected = list(expressions)
    applied = []
    notes: list[tuple[int, Remark]] = []
    for erratum in errata:
        concerned = _concerned(expressions, erratum)
        for index, expression in enumerate(corrected):
            if index not in concerned:
                continue
            if any(getattr(expression, name) != value for name, value in erratum.when.items()):
                continue
            changes = dict(erratum.set)
            if changes and all(getattr(expression, name) == changes[name] for name in changes):
                continue
            corrected[index] = dataclasses.replace(expression, **changes)  # type: ignore[arg-type]
            what = ", ".join(
                f"{name} {getattr(expression, name)} -> {value}" for name, value in changes.items()
            )
            level, code = ("info", "applied") if changes else ("warning", "flagged")
            message = f"{what + ': ' if what else ''}{erratum.reason} ({erratum.label})."
            notes.append((index, Remark(level, f"erratum-{code}", message)))
            applied.append(erratum.label)
    # An id holds the onset, which an erratum may have changed.
    ids = _plain_or_with_onset(reading.corpus, corrected)
    for index, note in notes:
        reading.note(*note, clip_id=ids[index], where=corrected[index].where)
    reading.errata = tuple(dict.fromkeys(applied))
    return corrected


def _concerned(expressions: Sequence[Expression], erratum: Erratum) -> list[int]:
    """Return the positions of the expressions an erratum is about, whatever their values."""
    if erratum.row is not None:
        known = len(expressions) == erratum.rows
        same = known and erratum.subject in (None, expressions[erratum.row].number)
        return [erratum.row] if same else []
    found = [
        index
        for index, item in enumerate(expressions)
        if item.number == erratum.subject and _same(item.clip, erratum.clip or "")
    ]
    if erratum.occurrence is None:
        return found
    return found[erratum.occurrence - 1 : erratum.occurrence]


def _same(a: str, b: str) -> bool:
    return unicodedata.normalize("NFC", a).casefold() == unicodedata.normalize("NFC", b).casefold()


def expression_ids(corpus: str, expressions: Sequence[Expression]) -> list[str]:
    """Return the clip id of every expression, ``@<onset>`` added where a clip holds several.

    Raises
    ------
    ManifestError
        If two rows annotate the same onset of the same clip.
    """
    folders: dict[tuple[Hashable, int | None], Expression] = {}
    for item in expressions:
        first = folders.setdefault((item.key, item.onset), item)
        if first is not item:
            raise _same_expression(first, item)
    ids = _plain_or_with_onset(corpus, expressions)
    seen: dict[str, Expression] = {}
    for clip_id, item in zip(ids, expressions, strict=True):
        if clip_id in seen:
            raise _same_expression(seen[clip_id], item)
        seen[clip_id] = item
    return ids


def _plain_or_with_onset(corpus: str, expressions: Sequence[Expression]) -> list[str]:
    plain = [make_clip_id(corpus, item.subject, item.clip) for item in expressions]
    counts = Counter(plain)
    return [
        plain_id
        if counts[plain_id] == 1
        else make_clip_id(corpus, item.subject, item.clip, item.onset)
        for plain_id, item in zip(plain, expressions, strict=True)
    ]


def _same_expression(first: Expression, second: Expression) -> ManifestError:
    return ManifestError(
        f"Two rows annotate the same expression, {first.subject}/{first.clip}"
        + (f" and {second.subject}/{second.clip}" if second.clip != first.clip else "")
        + (f", onset {first.onset}" if first.onset is not None else "")
        + ".",
        where=f"{first.where} and {second.where}",
        why="results are stored and scored by clip",
        hint="remove one of the rows",
    )


def build_clips(
    reading: Reading,
    expressions: Sequence[Expression],
    folders: Mapping[Hashable, Folder],
    *,
    emotions: Sequence[str] = (),
    context: int | None = None,
) -> None:
    """Make a clip of every expression whose folder holds frames; the others give findings.

    Parameters
    ----------
    reading : Reading
        Clips and findings are added to it.
    expressions : sequence of Expression
        What is annotated.
    folders : mapping of hashable to Folder
        Clip folders by `Expression.key`.
    emotions : sequence of str
        Normalised emotions that the corpus has; another one gives a warning.
    context : int, optional
        For long recordings: frames kept before onset and after offset. All are kept if None.
    """
    indexed: dict[Hashable, list[tuple[int, str]] | str] = {}
    for clip_id, expression in zip(
        expression_ids(reading.corpus, expressions), expressions, strict=True
    ):
        folder = folders.get(expression.key)
        if folder is None:
            reading.note(
                "error",
                "clip-folder-missing",
                f"The annotation names clip '{expression.clip}' of subject {expression.subject}, "
                "but there is no such folder; left out.",
                clip_id=clip_id,
                where=expression.where,
            )
            continue
        if expression.key not in indexed:
            indexed[expression.key] = index_frames(reading.root, folder)
            note_copies(reading, folder)
        frames = indexed[expression.key]
        if isinstance(frames, str):
            code = "clip-empty" if not folder.images else "frames-unusable"
            reading.note("error", code, frames, clip_id=clip_id, where=folder.relative)
            continue
        for remark in expression.remarks:
            reading.note(*remark, clip_id=clip_id, where=expression.where)
        if context is not None:
            frames = _around(expression, frames, context)
            if not frames:
                message = "None of the frames from onset to offset is on disk; left out."
                where = expression.where
                reading.note("error", "clip-not-on-disk", message, clip_id=clip_id, where=where)
                continue
        reading.clips.append(_build(reading, expression, clip_id, folder, frames, emotions))
    annotated = {expression.key for expression in expressions}
    rest = [folder for key, folder in folders.items() if key not in annotated]
    _note_unannotated(reading, rest, recordings=context is not None)


def _note_unannotated(reading: Reading, rest: Sequence[Folder], *, recordings: bool) -> None:
    """Note the folders without a row: clips each, recordings, of which that is normal, at once."""
    if recordings and rest:
        first, count = rest[0], len(rest)
        message = f"No expression is annotated in the recording ({len(first.images)} frames)."
        if count > 1:
            message = f"No expression is annotated in {count} recordings; the first is named."
        reading.note("info", "recording-without-row", message, where=first.relative)
        return
    for folder in rest:
        message = f"The folder ({len(folder.images)} frames) has no row in the annotation; left "
        message += "out."
        reading.note("warning", "clip-without-row", message, where=folder.relative)


def note_copies(reading: Reading, folder: Folder) -> None:
    """Note the frames of a folder that are copies of others, which are left out."""
    copies = copies_of_frames(folder.images)
    if copies:
        copy, original = next(iter(copies.items()))
        message = f"{len(copies)} files are copies of other frames and left out; the first is "
        message += f"'{copy}', of '{original}'."
        reading.note("warning", "frames-copied", message, where=folder.relative or None)


def _around(
    expression: Expression, frames: Sequence[tuple[int, str]], context: int
) -> list[tuple[int, str]]:
    """Return the frames of a recording from `context` before onset to as many after offset.

    An unknown onset means the first frame, as it does in `Clip`.
    """
    known = [n for n in (expression.onset, expression.apex, expression.offset) if n is not None]
    if expression.onset is None:
        known.append(frames[0][0])
    first, last = min(known), max(known)
    if not any(first <= number <= last for number, _ in frames):
        return []
    return [one for one in frames if first - context <= one[0] <= last + context]


def index_frames(root: Path, folder: Folder) -> list[tuple[int, str]] | str:
    """Return (number, relative path) of a folder's frames, or a sentence that says why not."""
    try:
        frames = [
            (number, f"{folder.relative}/{name}" if folder.parts else name)
            for number, name in list_frames(folder.path(root))
        ]
        for _, relative in frames:
            check_relative(relative, where=folder.relative)
            relative.encode("utf-8")
    except UnicodeEncodeError:
        return "A name is not valid Unicode; left out. Rename the folder or file."
    except ManifestError as error:
        return f"{error.what} Left out."
    return frames or "The folder holds no frames; left out."


def _build(
    reading: Reading,
    expression: Expression,
    clip_id: str,
    folder: Folder,
    frames: Sequence[tuple[int, str]],
    emotions: Sequence[str],
) -> Clip:
    expression = check_key_frames(reading, expression, clip_id)
    numbers = tuple(number for number, _ in frames)
    check_on_disk(reading, expression, clip_id, numbers, folder.relative)
    raw = expression.emotion_raw
    emotion = expression.emotion or (normalise_emotion(raw) if raw else None)
    if emotion is None or (emotions and emotion not in emotions):
        message = f"The emotion {raw!r} is none of {', '.join(emotions)}; kept as it is."
        reading.note("warning", "emotion-unknown", message, clip_id=clip_id, where=expression.where)
    action_units = expression.action_units
    if action_units is None:
        action_units = parse_action_units(expression.action_units_raw or "")
    return Clip(
        clip_id=clip_id,
        corpus=reading.corpus,
        subject=expression.subject,
        clip=unicodedata.normalize("NFC", expression.clip),
        root=str(reading.root),
        frame_numbers=numbers,
        frames=tuple(relative for _, relative in frames),
        fps=reading.fps,
        onset=expression.onset,
        apex=expression.apex,
        offset=expression.offset,
        apex_source=None if expression.apex is None else "annotated",
        emotion=emotion,
        emotion_raw=raw,
        action_units=action_units,
        action_units_raw=expression.action_units_raw,
        objective_class=expression.objective_class,
        variant=reading.variant,
        expression_type=expression.expression_type,
    )


def check_key_frames(reading: Reading, expression: Expression, clip_id: str) -> Expression:
    """Check the order of the key frames; return the expression without an apex that cannot be.

    An apex outside of onset to offset is dropped, never moved.
    """
    onset, apex, offset = expression.onset, expression.apex, expression.offset

    def note(level: str, code: str, message: str) -> None:
        reading.note(level, code, message, clip_id=clip_id, where=expression.where)

    if offset in _NO_OFFSET:
        level = "warning" if reading.cut else "error"
        note(level, "offset-missing", "No offset is annotated; the last frame on disk stands in.")
        offset = None
    if onset is not None and offset is not None and onset > offset:
        note("error", "onset-after-offset", f"Onset {onset} lies after offset {offset}.")
    if apex is None:
        note("warning", "apex-missing", "No apex is annotated.")
    elif (onset is not None and apex < onset) or (offset is not None and apex > offset):
        note(
            "warning",
            "apex-outside",
            f"Apex {apex} lies outside of onset {onset} to offset {offset}; taken as unknown.",
        )
        apex = None
    elif apex in (onset, offset):
        edge = "onset" if apex == onset else "offset"
        note("warning", "apex-on-boundary", f"Apex {apex} is the {edge} frame itself.")
    return dataclasses.replace(expression, apex=apex, offset=offset)


def check_on_disk(
    reading: Reading,
    expression: Expression,
    clip_id: str,
    numbers: Sequence[int],
    where: str,
) -> None:
    """Note key frames that have no file, and gaps between onset and offset."""
    present = set(numbers)
    for name, value in (("onset", expression.onset), ("apex", expression.apex)):
        if value is not None and value not in present:
            message = f"The {name} frame {value} is not on disk ({numbers[0]} to {numbers[-1]})."
            reading.note("error", f"{name}-not-on-disk", message, clip_id=clip_id, where=where)
    first = numbers[0] if expression.onset is None else expression.onset
    last = numbers[-1] if expression.offset is None else expression.offset
    inside = bisect_right(numbers, last) - bisect_left(numbers, first)
    if last < first:
        return  # noted as such, and nothing lies between them
    missing = last - first + 1 - inside
    if last not in present:
        message = f"The offset frame {last} is not on disk; the last one before it stands in."
        reading.note("warning", "offset-not-on-disk", message, clip_id=clip_id, where=where)
    if missing:
        # A mistyped offset may lie any distance away, so the gap is never spelled out whole.
        few = (number for number in itertools.count(first) if number not in present)
        listed = ", ".join(str(number) for number in itertools.islice(few, min(missing, 5)))
        more = ", ..." if missing > 5 else ""
        reading.note(
            "warning",
            "frames-missing",
            f"{missing} of {last - first + 1} frames from onset to offset are missing: "
            f"{listed}{more}. None is made up.",
            clip_id=clip_id,
            where=where,
        )


def with_flags(clips: Sequence[Clip], findings: Sequence[Finding]) -> list[Clip]:
    """Return the clips with the codes of the findings that concern them as flags."""
    codes: dict[str, set[str]] = defaultdict(set)
    for finding in findings:
        if finding.clip_id:
            codes[finding.clip_id].add(finding.code)
    return [
        dataclasses.replace(clip, flags=tuple(sorted({*clip.flags, *codes[clip.clip_id]})))
        for clip in clips
    ]


def subject_number(row: Row, column: str) -> int | None:
    """Return the number of a subject cell: 1 for ``01``, ``sub01``, ``spNO.1`` and 1.0, or None.

    Subjects count from 1; annotators and programs write 0 for "none".
    """
    match = re.fullmatch(r"(?i)(?:sub|spno|s)?[-_. ]?0*([1-9]\d{0,2})(?:\.0+)?", row.text(column))
    return int(match[1]) if match else None
