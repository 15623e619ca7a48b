from __future__ import annotations

import datetime
import zipfile
from pathlib import Path

import openpyxl
import pytest
import xlwt

from mer_prep.errors import AnnotationError
from mer_prep.resources import data_names
from mer_prep.sources.annotations import (
    Column,
    Sheet,
    cell_text,
    check_width,
    find_table,
    read_csv,
    read_sheets,
)
from mer_prep.sources.expressions import normalise_emotion, parse_action_units
from mer_prep.sources.facts import corpus_facts, recognise_version
from mer_prep.sources.workbooks import cell_name

COLUMNS = (Column("Subject"), Column("OnsetFrame", ("Onset",)), Column("Notes", required=False))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.0, "12"),
        (12, "12"),
        (0.5, "0.5"),
        ("01", "01"),
        ("  006\u00a0", "006"),
        (None, ""),
        (float("nan"), ""),
        (True, "TRUE"),
    ],
)
def test_cell_text(value, text):
    assert cell_text(value, where="A1") == text


def test_dates_are_refused():
    with pytest.raises(AnnotationError, match="holds a date or a time"):
        cell_text(datetime.date(2020, 1, 2), where="A1")


@pytest.mark.parametrize(
    ("row", "column", "name"), [(7, 3, "D7"), (1, 0, "A1"), (2, 25, "Z2"), (3, 26, "AA3")]
)
def test_cell_name(row, column, name):
    assert cell_name(row, column) == name


def test_headings_are_matched_without_case_blanks_or_punctuation():
    rows = [["prose"], [], ["", "SUBJECT ", "onset_frame", "Extra", "notes:"], ["", "01", 5.0]]
    table = find_table([Sheet(Path("x.xlsx"), "S", rows)], COLUMNS)
    assert (table.header_row, dict(table.columns)) == (
        3,
        {"Subject": 1, "OnsetFrame": 2, "Notes": 4},
    )
    (row,) = table
    assert (row.text("Subject"), row.whole("OnsetFrame"), row.text("Notes")) == ("01", 5, "")
    assert row.where("OnsetFrame") == "x.xlsx, S!C4"


def test_a_real_xls_reads_like_an_xlsx(tmp_path):
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for row, values in enumerate([["Subject", None, "Onset"], ["01", None, 46], [2, None, 7]]):
        for column, value in enumerate(values):
            if value is not None:
                sheet.write(row, column, value)
    book.save(str(tmp_path / "codes.xls"))
    rows = list(find_table(read_sheets(tmp_path / "codes.xls"), COLUMNS))
    assert [(row.text("Subject"), row.whole("OnsetFrame")) for row in rows] == [
        ("01", 46),
        ("2", 7),
    ]


def workbook(path: Path, cells: dict[str, object]) -> Path:
    book = openpyxl.Workbook()
    for cell, value in {"A1": "Subject", "B1": "Onset", "A2": "01", "B2": 5, **cells}.items():
        book.active[cell] = value
    book.save(path)
    return path


@pytest.mark.parametrize("cell", ["XFD1048576", "XFD400", "ZZ200000"])
def test_a_stray_cell_far_away_is_named_before_it_costs_memory(tmp_path, cell):
    path = workbook(tmp_path / "codes.xlsx", {cell: "x"})
    with pytest.raises(AnnotationError, match=f"reaches to cell {cell}") as caught:
        read_sheets(path)
    assert "sheet1.xml" in caught.value.where
    assert "delete the value" in caught.value.hint


def test_formats_far_away_are_no_values(tmp_path):
    path = workbook(tmp_path / "codes.xlsx", {})
    book = openpyxl.load_workbook(path)
    book.active["XFD1048576"].font = openpyxl.styles.Font(bold=True)
    book.save(path)
    assert "XFD1048576" in zipfile.ZipFile(path).read("xl/worksheets/sheet1.xml").decode()
    (row,) = find_table(read_sheets(path), COLUMNS)
    assert row.whole("OnsetFrame") == 5


def test_a_workbook_that_unpacks_to_more_than_any_corpus_is_refused(tmp_path, monkeypatch):
    path = workbook(tmp_path / "codes.xlsx", {})
    monkeypatch.setattr("mer_prep.sources.workbooks.MAX_UNPACKED_BYTES", 100)
    with pytest.raises(AnnotationError, match=r"unpacks to more than 0 MiB \(\S+\), more than"):
        read_sheets(path)


def test_an_old_workbook_with_a_stray_cell_is_named(tmp_path, monkeypatch):
    book = xlwt.Workbook()
    book.add_sheet("Sheet1").write(2000, 200, "x")
    book.save(str(tmp_path / "codes.xls"))
    monkeypatch.setattr("mer_prep.sources.annotations.MAX_CELLS", 1000)
    with pytest.raises(AnnotationError, match="far beyond any annotation"):
        read_sheets(tmp_path / "codes.xls")


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("4", (4,)),
        ("L1+R2", (1, 2)),
        ("4+L10", (4, 10)),
        ("(R6 or R12)+R15", (6, 12, 15)),
        ("ref(7B)+43", (7, 43)),
        ("10A/B", (10,)),
        ("A12+A7", (7, 12)),
        ("L12 + 61", (12, 61)),
        ("?", ()),
        ("", ()),
    ],
)
def test_action_units(text, units):
    assert parse_action_units(text) == units


@pytest.mark.parametrize(
    ("raw", "emotion"),
    [("Other", "others"), (" Happy ", "happiness"), ("Sad", "sadness"), ("Disgust", "disgust")],
)
def test_emotions(raw, emotion):
    assert normalise_emotion(raw) == emotion


def test_a_full_annotation_is_recognised_by_its_counts():
    facts = corpus_facts("casme2")
    for version in facts.versions.values():
        emotions = [e for e, count in (version.emotions or {}).items() for _ in range(count)]
        labels = [(1, f"c{index}", emotion) for index, emotion in enumerate(emotions)]
        assert recognise_version(facts, labels) == (version.name, [])


def test_an_unknown_annotation_says_what_differs_from_the_nearest():
    facts = corpus_facts("samm")
    emotions = [e for e, n in (facts.versions["v2"].emotions or {}).items() for _ in range(n)]
    labels = [(1, f"c{index}", emotion) for index, emotion in enumerate(emotions)]
    labels[0] = (1, "c0", "fear")
    name, (finding,) = recognise_version(facts, labels)
    assert name == "unknown"
    assert (
        "against the nearest, v2: anger 56 instead of 57, fear 9 instead of 8)" in finding.message
    )


@pytest.mark.parametrize("corpus", data_names("manifests", "corpora"))
def test_facts_are_complete(corpus):
    facts = corpus_facts(corpus)
    assert facts.doi.startswith("10.")
    assert "may be passed on" in facts.licence
    names = [erratum.name for erratum in facts.errata]
    assert len(set(names)) == len(names)
    for version in facts.versions.values():
        for counts in (version.emotions, version.per_subject, version.objective_classes):
            assert not counts or sum(counts.values()) == version.clips
        assert not version.per_subject or len(version.per_subject) == version.subjects


def test_rows_above_the_headings_are_not_lost():
    title = ["My table, 200 frames a second", None, None]
    rows = [title, ["sub01", "EP01", 12], ["Subject", "Filename", "OnsetFrame"], ["s2", "EP02", 7]]
    columns = [
        Column("subject", ("subject",)),
        Column("onset", ("onsetframe",)),
        Column("offset", ("offsetframe",)),
    ]
    full = [[*row, 30 if isinstance(row[2], int) else row[2] and "OffsetFrame"] for row in rows]
    with pytest.raises(AnnotationError, match="stands above its headings") as error:
        find_table([Sheet(Path("x.xlsx"), "S", full)], columns)
    assert "S row 2" in str(error.value)
    (row,) = find_table([Sheet(Path("x.xlsx"), "S", [full[0], *full[2:]])], columns)
    assert row.whole("onset") == 7


def test_a_wide_row_of_a_csv_file_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("Subject,OnsetFrame\ns1,5,7\ns2,6,\n")
    table = find_table([read_csv(path)], COLUMNS)
    wide, plain = table
    check_width(plain, table)
    with pytest.raises(AnnotationError, match="The row has 3 cells and the table 2 columns"):
        check_width(wide, table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4294967296", "more than any recording has"),
        ("9" * 200, "more than any recording has"),
        ("9" * 400, "a number of hundreds of digits"),
        ("99999999999999999.0", "more than any recording has"),
    ],
)
def test_numbers_beyond_any_recording_are_refused(text, said):
    rows = [["Subject", "Onset"], ["s1", text]]
    (row,) = find_table([Sheet(Path("x.xlsx"), "S", rows)], COLUMNS)
    with pytest.raises(AnnotationError, match=said):
        row.whole("OnsetFrame")
