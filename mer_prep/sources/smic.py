"""Reads SMIC and SMIC-E: ``s1/micro/negative/s1_ne_01/image559740.bmp``.

SMIC has no annotation: the label is in the clip's code, onset and offset are the first and the
last file, and there is no apex. SMIC-E has longer clips and a workbook with up to three
expressions in each.

References
----------
Li et al. (2013). A spontaneous micro-expression database: Inducement, collection and baseline.
FG 2013. doi:10.1109/FG.2013.6553717
Li et al. (2018). Towards reading hidden emotions. IEEE Transactions on Affective Computing 9(4),
563-577. doi:10.1109/TAFFC.2017.2667642
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Column, Row, Table
from mer_prep.sources.expressions import Expression, Reading, index_frames, normalise_emotion
from mer_prep.sources.folders import Folder, corpus_of_folder
from mer_prep.sources.opening import open_corpus
from mer_prep.sources.recordings import list_recordings
from mer_prep.sources.trees import Request, Tree, optional_text, read_rows

CAMERAS = ("HS", "VIS", "NIR")

#: The high-speed camera first, the camera's own pixels before crops, cut clips before long ones.
PREFERENCE = (
    *CAMERAS,
    *(f"{camera}-cropped" for camera in CAMERAS),
    *(f"SMIC-E-{camera}" for camera in CAMERAS),
)

_CODE = re.compile(r"(?i)s0*(\d{1,2})_(ne|po|sur)_0*(\d{1,3})")
_SUBJECT = re.compile(r"(?i)s0*(\d{1,2})")
_LABELS = {"ne": "negative", "po": "positive", "sur": "surprise"}
_NOT_MICRO = re.compile(r"(?i)non[-_ ]?micro")

Code = tuple[int, str, int]


def read(request: Request) -> Reading:
    """Read a SMIC or SMIC-E folder.

    Raises
    ------
    ManifestError
        If it is another corpus, or lacks the variant asked for.
    AnnotationError
        If the workbook of SMIC-E is missing or cannot be understood.
    """
    corpus = open_corpus(request, "smic", cut=True)
    reading = corpus.reading
    tree = corpus.choose_tree(_trees(reading, corpus.folders), PREFERENCE)
    reading.version = tree.variant.removesuffix("-cropped")
    if tree.variant.startswith("SMIC-E-"):
        reading.cut = False
        camera = tree.variant.removeprefix("SMIC-E-")
        table = corpus.read_table(
            columns=long_columns(camera),
            pattern=rf"smic[-_ ]{camera}[-_ ]e[-_ ]annotation",
            expected=f"SMIC-{camera}-E_annotation.xlsx",
        )
        expressions = _long_expressions(reading, table)
    else:
        if request.annotations is not None:
            reading.note("warning", "annotations-unused", "SMIC needs no annotation; not read.")
        expressions = _cut_expressions(reading, tree)
    expressions = corpus.corrected(expressions)
    corpus.build_clips(tree, expressions)
    if tree.variant.startswith("SMIC-E-"):
        list_recordings(reading, tree, _recording_name)
    # That no apex is annotated is so for every clip, and no news.
    reading.findings = [item for item in reading.findings if item.code != "apex-missing"]
    return reading


def clip_code(name: str) -> Code | None:
    """Return (subject, label, index) of a clip code such as ``s1_ne_01`` or ``s01_ne_1``."""
    match = _CODE.fullmatch(name)
    return (int(match[1]), match[2].lower(), int(match[3])) if match else None


def canonical_clip(code: Code) -> str:
    """Return the one spelling of a clip code, ``s1_ne_01``."""
    return f"s{code[0]}_{code[1]}_{code[2]:02d}"


def _recording_name(key: Hashable, folder: Folder) -> tuple[str, str]:
    assert isinstance(key, tuple)
    return f"s{key[0]:02d}", canonical_clip(key)


def long_columns(camera: str) -> tuple[Column, ...]:
    """Return the columns of a SMIC-E workbook; their order differs from camera to camera."""
    expressions = [f"{name}{n}F" for n in ("", "2", "3") for name in ("Onset", "Offset")]
    return (
        Column("Subject"),
        Column("Filename", ("File name", "Clip")),
        *(
            Column(name, (f"{name} {camera}",), required=name in ("OnsetF", "OffsetF"))
            for name in expressions
        ),
        Column("Emotion", required=False),
    )


def _trees(reading: Reading, folders: Sequence[Folder]) -> list[Tree]:
    trees: dict[tuple[str, ...], Tree] = {}
    for folder in folders:
        code = clip_code(folder.name)
        above = folder.parts[:-1]
        if code is None or corpus_of_folder(folder) != "smic":
            continue
        if any(_NOT_MICRO.fullmatch(name) for name in above):
            continue
        parts = above
        for depth, name in enumerate(above):
            match = _SUBJECT.fullmatch(name)
            if match:
                parts = above[:depth]
                _check_place(reading, folder, code, int(match[1]))
                break
        else:
            # A subject's own folder was given, or the clips lie in one folder.
            parts = () if len(above) <= 2 and set(above) & {"micro", *_LABELS.values()} else above
        if parts not in trees:
            trees[parts] = Tree("/".join(parts), _variant(reading, parts, folder))
        trees[parts].add(code, folder, reading.findings)
    return list(trees.values())


def _check_place(reading: Reading, folder: Folder, code: Code, subject: int) -> None:
    """Note a clip whose folders say something else than its code, which is believed."""
    said = []
    if subject != code[0]:
        said.append(f"subject {subject}")
    labels = {name.lower() for name in folder.parts[:-1]} & set(_LABELS.values())
    said += sorted(labels - {_LABELS[code[1]]})
    if said:
        message = f"The clip lies in a folder of {' and '.join(said)}; its code is believed."
        reading.note("warning", "folder-misplaced", message, where=folder.relative)


def _variant(reading: Reading, parts: Sequence[str], folder: Folder) -> str:
    names = [name.lower() for name in (reading.root.name, *parts)]
    camera = ""
    for name in names:
        for known in CAMERAS:
            if re.search(rf"(^|[^a-z]){known.lower()}([^a-z]|$)", name):
                camera = known
    if not camera:
        camera = "HS"
        message = "No folder names the camera; taken as HS (100 frames per second)."
        reading.note("warning", "camera-assumed", message, where="/".join(parts) or None)
    if any(re.search(r"smic[-_ ](e|(hs|vis|nir)[-_ ]e)([^a-z]|$)|_long$", name) for name in names):
        return f"SMIC-E-{camera}"
    crops = any("crop" in name for name in names)
    crops = crops or bool(folder.images and folder.images[0].lower().startswith("reg_"))
    return f"{camera}-cropped" if crops else camera


def _expression(code: Code, **facts: int | str | None) -> Expression:
    return Expression(
        key=code,
        number=code[0],
        subject=f"s{code[0]:02d}",
        clip=canonical_clip(code),
        apex=None,
        emotion_raw=_LABELS[code[1]],
        **facts,  # type: ignore[arg-type]
    )


def _cut_expressions(reading: Reading, tree: Tree) -> list[Expression]:
    """Return one expression per folder, from its first to its last file."""
    expressions = []
    for code, folder in tree.folders.items():
        frames = index_frames(reading.root, folder)
        # Without frames the clip gets its finding when clips are built.
        first, last = (None, None) if isinstance(frames, str) else (frames[0][0], frames[-1][0])
        assert isinstance(code, tuple)
        expressions.append(_expression(code, onset=first, offset=last, where=folder.relative))
    return sorted(expressions, key=lambda item: item.key)  # type: ignore[arg-type, return-value]


def _long_expressions(reading: Reading, table: Table) -> list[Expression]:
    """Return up to three expressions per row."""

    def parse(number: int, row: Row) -> list[Expression]:
        code = clip_code(row.text("Filename"))
        if code is None or code[0] != number:
            raise AnnotationError(
                f"'{row.text('Filename')}' is no clip of subject {number}.",
                where=row.where("Filename"),
            )
        label = optional_text(row, "Emotion")
        if label and normalise_emotion(label) != _LABELS[code[1]]:
            message = f"The row says '{label}', the clip's code {_LABELS[code[1]]}; the code is "
            message += "believed."
            reading.note("warning", "label-disagrees", message, where=row.where("Emotion"))
        return _row_expressions(row, code)

    rows = read_rows(reading, table, parse, subject="Subject", clip="Filename", onset="OnsetF")
    return [expression for row in rows for expression in row]


def _row_expressions(row: Row, code: Code) -> list[Expression]:
    found = []
    for index in ("", "2", "3"):
        onset, offset = f"Onset{index}F", f"Offset{index}F"
        # The first expression is required, so that a blank onset is an error that names its cell.
        if index and not (row.optional_whole(onset) or row.optional_whole(offset)):
            continue
        found.append(
            _expression(
                code,
                onset=row.whole(onset),
                offset=row.optional_whole(offset),
                where=row.where(),
            )
        )
    return found
