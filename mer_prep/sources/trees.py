"""Which of the trees and workbooks in a corpus folder are read, and why."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from mer_prep.checks import suggest
from mer_prep.errors import AnnotationError, ConfigError, ManifestError
from mer_prep.manifest import Finding
from mer_prep.sources.annotations import (
    WORKBOOK_SUFFIXES,
    Column,
    Row,
    Table,
    check_width,
    file_sha256,
    find_table,
    read_sheets,
)
from mer_prep.sources.expressions import Reading, subject_number
from mer_prep.sources.facts import CorpusFacts
from mer_prep.sources.folders import TITLES, Folder, corpus_of_clip_name, lies_below

#: What an importer makes of a row.
Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class WholeNumber:
    """A choice of a corpus that is a whole number, at least `low`.

    Parameters
    ----------
    default, low : int
        What holds where nothing is chosen, and the smallest that may be.
    """

    default: int
    low: int


@dataclass(frozen=True, slots=True)
class Request:
    """What an importer is asked to read.

    Parameters
    ----------
    root : Path
        Absolute corpus folder.
    name : str
        Name the corpus gets.
    annotations : Path, optional
        Annotation file; searched for if None.
    variant : str, optional
        Form of the corpus; chosen if None.
    errata : bool or collection of str
        All errata, none, or those named.
    options : mapping of str to str
        What to do where the corpus leaves a choice; complete, see `Source.options`.
    """

    root: Path
    name: str
    annotations: Path | None = None
    variant: str | None = None
    errata: bool | Collection[str] = True
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Tree:
    """Clip folders that belong together: one form of the corpus under one folder."""

    relative: str
    variant: str
    folders: dict[Hashable, Folder] = field(default_factory=dict)

    def add(self, key: Hashable, folder: Folder, findings: list[Finding]) -> None:
        """Add a clip folder; of two for one clip the one with more frames stays."""
        other = self.folders.get(key)
        if other is None:
            self.folders[key] = folder
            return
        kept, dropped = sorted((other, folder), key=lambda item: (-len(item.images), item.relative))
        self.folders[key] = kept
        message = f"Two folders hold one clip; '{kept.relative}' is read ({len(kept.images)} "
        message += f"frames), '{dropped.relative}' is not ({len(dropped.images)} frames)."
        findings.append(Finding("warning", "folder-duplicate", message, where=dropped.relative))

    def __str__(self) -> str:
        return f"'{self.relative or '.'}' ({self.variant}, {len(self.folders)} clips)"


def note_misplaced(reading: Reading, folder: Folder, subject: str) -> None:
    """Note a clip folder that is named after one subject and lies in another's folder."""
    message = f"A clip of subject {subject} lies in another subject's folder; its name is believed."
    reading.note("warning", "folder-misplaced", message, where=folder.relative)


def choose_tree(
    reading: Reading,
    trees: Sequence[Tree],
    preference: Sequence[str],
    facts: CorpusFacts,
    variant: str | None,
) -> Tree:
    """Return the tree to read, and note the choice where there is one.

    The variant asked for, else the first of `preference` that is there; of several trees of one
    variant the one with most clips that have frames, then the one that lies highest.

    Raises
    ------
    ConfigError
        If the variant asked for does not exist for this corpus.
    ManifestError
        If it exists but is not in the folder.
    """
    if variant is not None and variant not in preference:
        raise ConfigError(
            f"{facts.title} has no variant '{variant}'.{suggest(variant, preference)}",
            hint=f"variants: {', '.join(preference)}",
        )
    listed = sorted(trees, key=lambda tree: tree.relative)
    wanted = [tree for tree in trees if variant is None or tree.variant == variant]
    if not wanted:
        raise ManifestError(
            f"The variant '{variant}' of {facts.title} is not in the folder.",
            where=reading.root,
            hint=f"found: {'; '.join(str(tree) for tree in listed)}",
        )

    def rank(tree: Tree) -> tuple[int, int, int, str]:
        filled = sum(bool(folder.images) for folder in tree.folders.values())
        depth = tree.relative.count("/")
        return preference.index(tree.variant), -filled, depth, tree.relative

    chosen = min(wanted, key=rank)
    if len(trees) > 1:
        others = "; ".join(str(tree) for tree in listed if tree is not chosen)
        reading.note("info", "tree-chosen", f"Read {chosen}. Also there: {others}.")
    reading.variant = chosen.variant
    reading.fps = facts.fps[chosen.variant]
    return chosen


def find_workbook(
    reading: Reading,
    folders: Sequence[Folder],
    pattern: str,
    accepts: Callable[[Path], bool] | None = None,
) -> Path | None:
    """Return the annotation workbook, or None.

    Looked for by name in the corpus folder and, failing that, in the folder above (a tree may be
    imported on its own); then, with `accepts`, by content. The one that lies highest is taken,
    then the first by name; if others differ from it, that is noted.
    """
    here = [folder.path(reading.root) / name for folder in folders for name in folder.workbooks]
    try:
        above = sorted(
            path
            for path in reading.root.parent.iterdir()
            if path.suffix.lower() in WORKBOOK_SUFFIXES
            and not path.name.startswith((".", "~$"))
            and path.is_file()
            and lies_below(path, reading.root.parent)
        )
    except OSError:
        above = []
    matches = re.compile(pattern, re.IGNORECASE)
    found = [path for path in here if matches.search(path.name)]
    found = found or [path for path in above if matches.search(path.name)]
    if not found and accepts is not None:
        found = [path for path in here if path.suffix.lower() != ".csv" and accepts(path)]
    if not found:
        return None
    found.sort(key=lambda path: (len(path.parts), path.name))
    chosen, *others = found
    digest = file_sha256(chosen)
    differing = [path.name for path in others if file_sha256(path) != digest]
    if differing:
        reading.note(
            "warning",
            "several-annotations",
            f"Read {chosen.name}; other workbooks differ from it: {', '.join(differing)}. "
            "Choose with --annotations.",
        )
    return chosen


def first_workbook(
    reading: Reading,
    folders: Sequence[Folder],
    patterns: Sequence[str],
    accepts: Callable[[Path], bool] | None = None,
) -> Path | None:
    """Return the workbook found by the first of several patterns that finds one, or None."""
    found = (find_workbook(reading, folders, pattern, accepts) for pattern in patterns)
    return next((path for path in found if path is not None), None)


def holds_table(path: Path, columns: Sequence[Column]) -> bool:
    """Return whether a workbook can be read and has a table with the columns."""
    try:
        find_table(read_sheets(path), columns)
    except AnnotationError:
        return False
    return True


def check_own_table(table: Table, corpus: str, column: str) -> None:
    """Raise `AnnotationError` if most clip names of a table are those of another corpus."""
    counts = Counter(corpus_of_clip_name(_text_of(row, column)) for row in table)
    named = sum(count for key, count in counts.items() if key is not None)
    if named and counts[corpus] * 2 < named:
        counts[None] = 0
        other = counts.most_common(1)[0][0]
        assert other is not None
        raise AnnotationError(
            f"This is not the annotation of {TITLES[corpus]}: its clips are named as those of "
            f"{TITLES[other]}.",
            where=f"{table.sheet.file}, {table.sheet.name}",
            hint="check the corpus name and the --annotations option",
        )


def _text_of(row: Row, column: str) -> str:
    """Return a cell's text; empty if it has none."""
    try:
        return row.text(column)
    except AnnotationError:
        return ""


def read_rows(
    reading: Reading,
    table: Table,
    parse: Callable[[int, Row], Parsed],
    *,
    subject: str,
    clip: str,
    onset: str,
) -> list[Parsed]:
    """Return what `parse` makes of the rows that annotate a clip.

    Rows of prose below the table are passed over with one finding. A row that has an onset but
    no subject or no clip, or that `parse` refuses, gives an error of its own and is left out.

    Parameters
    ----------
    reading : Reading
        Findings are added to it.
    table : Table
        The rows.
    parse : callable
        Called with (subject number, row); raises `AnnotationError` if a cell is not what it must
        be.
    subject, clip, onset : str
        Columns that tell a row of the table.

    Raises
    ------
    AnnotationError
        If more than half of the rows cannot be read.
    """
    prose: list[Row] = []
    parsed: list[Parsed] = []
    refused: list[AnnotationError] = []
    for row in table:
        try:
            check_width(row, table)
            number = subject_number(row, subject)
            if number is not None and row.text(clip):
                parsed.append(parse(number, row))
            elif row.filled(onset):
                what = subject if number is None else clip
                raise AnnotationError(
                    f"The row has an onset, but its '{what}' is {row.text(what)!r:.80}.",
                    where=row.where(what),
                )
            else:
                prose.append(row)
        except AnnotationError as error:
            if row.filled(onset) or row.filled(clip):
                refused.append(error)
            else:
                prose.append(row)
    if prose:
        message = f"{len(prose)} rows below the table annotate no clip and were passed over."
        reading.note("info", "rows-of-prose", message, where=prose[0].where())
    note_refused(reading, refused, total=len(parsed) + len(refused))
    return parsed


def note_refused(reading: Reading, refused: Sequence[AnnotationError], *, total: int) -> None:
    """Note the rows that cannot be read, each with its cell.

    Raises
    ------
    AnnotationError
        If they are more than half of all rows: then the table is another than it is taken for.
    """
    if 2 * len(refused) > total:
        first = refused[0]
        raise AnnotationError(
            f"{len(refused)} of {total} rows cannot be read. The first: {first.what}",
            where=first.where,
            why=first.why,
            hint=first.hint or "check that this is the annotation of the corpus, unaltered",
        )
    for error in refused:
        message = f"{error.what} The row is left out."
        reading.note("error", "row-unreadable", message, where=error.where)


def optional_text(row: Row, column: str) -> str | None:
    """Return a cell's text, or None if it is blank."""
    return row.text(column) or None
