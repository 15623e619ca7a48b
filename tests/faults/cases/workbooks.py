"""Annotation workbooks that are another's, altered by hand, or made to do harm."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import openpyxl
from openpyxl.worksheet.worksheet import Worksheet

from mer_prep.errors import AnnotationError, ManifestError, MerPrepError
from mer_prep.manifest import Clip
from mer_prep.sources import casme, casme2, casme3, four_dme, mmew, samm, samm_lv, smic
from mer_prep.sources.annotations import HEADER_ROWS, Column, Table, find_table, read_sheets
from mer_prep.sources.corpus import Imported, import_corpus
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.synth.plan import plan_corpus
from tests.faults.catalogue import Tries, fault, instead, nothing, refused
from tests.sources.corpus_trees import write_frame


@dataclass(frozen=True)
class Book:
    """A corpus on disk and its workbook."""

    corpus: str
    root: Path
    path: Path
    columns: tuple[Column, ...]

    def read(self, path: Path | None = None) -> Imported:
        """Import the corpus, with another workbook if one is given."""
        return import_corpus(self.corpus, self.root, annotations=path or self.path, errata=False)

    def table(self) -> Table:
        """Return the table of the workbook."""
        return find_table(read_sheets(self.path), self.columns)

    def altered(self, change: Callable[[Worksheet, Table], None], folder: Path) -> Path:
        """Return a copy of the workbook whose sheet with the table was changed."""
        table, book = self.table(), openpyxl.load_workbook(self.path)
        change(book[table.sheet.name], table)
        book.save(folder / self.path.name)
        return folder / self.path.name


#: By corpus the columns of its table.
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "casme": casme.COLUMNS,
    "casme2": casme2.COLUMNS,
    "samm": samm.COLUMNS,
    "casme3": casme3.LABEL_COLUMNS,
    "mmew": mmew.COLUMNS,
    "4dme": four_dme.COLUMNS,
    "samm_lv": samm_lv.COLUMNS,
    "smic": smic.long_columns("HS"),
}


def corpus_on_disk(corpus: str, folder: Path) -> Book:
    """Write a small corpus: two subjects of three clips, every frame one tiny picture."""
    layout = LAYOUTS[corpus]
    variant = "SMIC-E-HS" if corpus == "smic" else layout.default_variant
    plans = plan_corpus(
        layout,
        variant=variant,
        subjects=2,
        clips=3,
        seed=0,
        amplitude=(0.7, 1.5),
        frames=4,
        quirks=False,
    )
    clips = [plan.annotated for plan in plans]
    root = folder / layout.folder
    template = folder / f"frame{layout.suffix(variant)}"
    write_frame(template, 1, size=(8, 8))
    for clip in clips:
        for number in layout.numbers(clip, variant):
            path = root / layout.frame_path(clip, number, variant)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(template.read_bytes())
    path = layout.write_annotations(root, clips, quirks=False, variant=variant)[0]
    return Book(corpus, root, path, _COLUMNS.get(corpus, ()))


def books(tries: Tries, *, headless: bool = False) -> list[Book]:
    """Write every corpus that has a workbook; with `headless` also one without headings."""
    folder = tries.fresh()
    names = [*_COLUMNS, *(["casme_sq"] if headless else [])]
    return [corpus_on_disk(name, folder) for name in names]


def cell(sheet: Worksheet, table: Table, column: Column, row: int) -> openpyxl.cell.Cell:
    """Return the cell of a column in the n-th row below the headings, from 1."""
    return sheet.cell(table.header_row + row, table.columns[column.name] + 1)


def column_like(book: Book, word: str) -> Column:
    """Return the first column whose name begins with a word."""
    return next(one for one in book.columns if one.name.lower().startswith(word))


@fault(
    21,
    "the workbook of another corpus, in every pair",
    without={
        "the look at clip names": instead(
            "mer_prep.sources.trees.corpus_of_clip_name", lambda name: None
        ),
    },
)
def other_workbooks(tries: Tries) -> None:
    made = books(tries, headless=True)
    pairs = [(one, other) for one in made for other in made if one is not other]
    named = 0
    unhelpful: list[tuple[str, ...]] = []
    for one, other in tries.of(pairs, quick=30):
        try:
            found = one.read(other.path)
        except (AnnotationError, ManifestError) as error:
            unhelpful += [] if error.hint else [(one.corpus, other.corpus, str(error))]
            named += "its clips are named as those of" in str(error)
        else:
            raise AssertionError(f"{one.corpus} took {len(found.clips)} of {other.corpus}")
    assert not unhelpful
    assert named >= len(pairs) // 10 // (3 if tries.quick else 1), named


@fault(
    21,
    "a heading renamed, the headings moved down, or the sheet emptied",
    without={
        "the search for headings": instead("mer_prep.sources.annotations.HEADER_ROWS", 1),
        "required columns": instead(
            "mer_prep.sources.annotations._match",
            lambda values, columns: {column.name: at for at, column in enumerate(columns)},
        ),
    },
)
def altered_headings(tries: Tries) -> None:
    def ways() -> Iterator[tuple[Book, str, int]]:
        for book in books(tries):
            required = [one for one in book.columns if one.required]
            yield from ((book, "renamed", at) for at in range(len(required)))
            yield from ((book, "moved", rows) for rows in (1, 13, 30, HEADER_ROWS, HEADER_ROWS + 5))
            yield book, "emptied", 0

    for book, what, number in tries.of(ways(), quick=24):
        required = [one for one in book.columns if one.required]

        def rename(
            sheet: Worksheet, table: Table, at: int = number, names: list[Column] = required
        ) -> None:
            heading = sheet.cell(table.header_row, table.columns[names[at].name] + 1)
            heading.value = f"{heading.value} of it"

        def move(sheet: Worksheet, table: Table, rows: int = number) -> None:
            sheet.insert_rows(1, rows)
            sheet["A1"] = "Prose about the table"

        def empty(sheet: Worksheet, table: Table) -> None:
            sheet.delete_rows(1, sheet.max_row)

        folder = tries.fresh()
        if what == "renamed":
            column = required[number]
            path = book.altered(rename, folder)
            with refused(AnnotationError, "lacks the column", repr(column.name), "expected"):
                book.read(path)
        elif what == "emptied":
            with refused(AnnotationError, "No sheet holds the annotation table"):
                book.read(book.altered(empty, folder))
        elif number + book.table().header_row <= HEADER_ROWS:
            same_clips(book.read(book.altered(move, folder)), book.read())
        else:
            with refused(AnnotationError, "No sheet holds", str(HEADER_ROWS)):
                book.read(book.altered(move, folder))


def same_clips(one: Imported, other: Imported) -> None:
    """Assert that two imports gave the same clips."""

    def plain(clips: Sequence[Clip]) -> list[tuple[object, ...]]:
        return [(c.clip_id, c.subject, c.onset, c.apex, c.offset, c.emotion) for c in clips]

    assert plain(one.clips) == plain(other.clips)


@fault(
    21,
    "subjects read as 1, 1.0 or 001",
    without={
        "reading cells as text": instead(
            "mer_prep.sources.annotations.cell_text", lambda value, where: str(value)
        ),
        "subjects by number": instead(
            "mer_prep.sources.trees.subject_number",
            lambda row, column: int(row.text(column)) if row.text(column) == "1" else None,
        ),
    },
)
def spelt_subjects(tries: Tries) -> None:
    spellings: dict[str, Callable[[int], object]] = {
        "whole": int,
        "decimal": float,
        "padded": "{:03d}".format,
        "spaced": " {} ".format,
        "sub": "sub{:02d}".format,
        "text": "{}.0".format,
    }
    for book, name in tries.of(itertools.product(books(tries), spellings), quick=20):
        spell = spellings[name]
        column = column_like(book, "sub")

        def respell(
            sheet: Worksheet,
            table: Table,
            column: Column = column,
            spell: Callable[[int], object] = spell,
        ) -> None:
            for row in range(1, sheet.max_row - table.header_row + 1):
                one = cell(sheet, table, column, row)
                digits = "".join(c for c in str(one.value or "") if c.isdigit())
                if digits:
                    one.value = spell(int(digits))

        try:
            found = book.read(book.altered(respell, tries.fresh()))
        except MerPrepError as error:
            raise AssertionError(f"{book.corpus} {name}: {error}") from error
        same_clips(found, book.read())


@fault(
    21,
    "a date, a formula that was never calculated, prose or nothing for a key frame",
    without={
        "whole numbers": instead("mer_prep.sources.annotations.Row.whole", lambda row, column: 1),
        "naming the row left out": instead("mer_prep.sources.trees.note_refused", nothing),
    },
)
def altered_cells(tries: Tries) -> None:
    values = {
        "date": datetime.datetime(2014, 5, 8),
        "time": datetime.time(1, 2),
        "formula": "=1+1",
        "prose": "about frame 40",
        "fraction": 3.5,
        "huge": 10**15,
        "blank": None,
    }
    ways = itertools.product(books(tries), values, ("one", "all"))
    for book, name, how in tries.of(ways, quick=24):
        onset = column_like(book, "onset")

        def spoil(
            sheet: Worksheet,
            table: Table,
            rows: range = range(1, 2) if how == "one" else range(1, 7),
            value: object = values[name],
            onset: Column = onset,
        ) -> None:
            for row in rows:
                cell(sheet, table, onset, row).value = value

        path = book.altered(spoil, tries.fresh())
        letter = openpyxl.utils.get_column_letter(book.table().columns[onset.name] + 1)
        place = f"{letter}{book.table().header_row + 1}"
        # In SAMM Long Videos a blank onset is one that nobody saw, and a formula reads as blank.
        unseen = book.corpus == "samm_lv" and name in ("blank", "formula")
        if unseen:
            if how == "one":
                assert "onset-missing" in book.read(path).clips[0].flags
        elif how == "all":
            with refused(AnnotationError, "rows cannot be read", place):
                book.read(path)
        else:
            found = book.read(path)
            errors = [one for one in found.record.findings if one.code == "row-unreadable"]
            assert len(errors) == 1, (book.corpus, name, errors)
            assert str(errors[0].where).endswith(place), errors
            assert len(found.clips) == len(book.read().clips) - 1


@fault(
    21,
    "'/', '-', blank or n/a for an apex",
    without={
        "knowing what says none": instead("mer_prep.sources.annotations.BLANKS", frozenset()),
    },
)
def missing_apexes(tries: Tries) -> None:
    ways = itertools.product(books(tries), ("/", "-", "\\", "n/a", "NaN", None, " "))
    for book, value in tries.of(ways, quick=20):
        if book.corpus == "smic":
            continue  # it has no apex
        apex = column_like(book, "apex")

        def clear(
            sheet: Worksheet, table: Table, apex: Column = apex, value: object = value
        ) -> None:
            cell(sheet, table, apex, 1).value = value

        found = book.read(book.altered(clear, tries.fresh())).clips
        assert [one.apex is None for one in found] == [True] + [False] * 5, book.corpus
        assert found[0].apex_source is None
        assert "apex-missing" in found[0].flags
