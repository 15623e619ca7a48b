"""Readers of annotation tables and of the files of spotting."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import xlwt

from mer_prep.sources.annotations import Column, find_table, read_sheets
from mer_prep.sources.expressions import parse_action_units
from mer_prep.spotting import Interval, Truth, Video, read_predictions, read_truth, write_truth
from mer_prep.synth.workbooks import write_workbook
from tests.fuzz.documents import broken_archive, broken_csv, broken_workbook
from tests.fuzz.engine import Reader
from tests.fuzz.odd import mangled

COLUMNS = (
    *(Column("Subject"), Column("Filename"), Column("Onset", ("OnsetFrame",)), Column("Offset")),
    *(Column("Apex", required=False), Column("Action Units", ("AU",), required=False)),
)

_ROWS: list[list[object]] = [
    ["Subject", "Filename", "Onset", "Apex", "Offset", "Action Units"],
    ["01", "EP02_01f", 46, 59, 86, "4+L10"],
    ["sub02", "EP03", 1.0, "/", 12.0, 12],
    [3, "EP04_1", "7", None, "9", "?"],
]

_ODS = """<?xml version="1.0" encoding="UTF-8"?>
<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.2">
<office:body><office:spreadsheet><table:table table:name="Sheet1">{}</table:table>
</office:spreadsheet></office:body></office:document-content>"""


def _make_csv(folder: Path) -> None:
    lines = [",".join("" if cell is None else str(cell) for cell in row) for row in _ROWS]
    (folder / "codes.csv").write_text("\n".join(lines) + "\n")


def _make_xls(folder: Path) -> None:
    book = xlwt.Workbook()
    sheet = book.add_sheet("Sheet1")
    for at, row in enumerate(_ROWS):
        for column, value in enumerate(row):
            sheet.write(at, column, value)
    data = io.BytesIO()
    book.save(data)
    (folder / "codes.xls").write_bytes(data.getvalue())


def ods(rows: str) -> bytes:
    """Return an OpenDocument spreadsheet from the XML of its rows."""
    import zipfile

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", _ODS.format(rows))
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
    return data.getvalue()


def _repeated(rows: int, columns: int) -> bytes:
    """Return a spreadsheet of some hundred bytes whose one cell is repeated."""
    return ods(
        f'<table:table-row table:number-rows-repeated="{rows}"><table:table-cell '
        f'table:number-columns-repeated="{columns}" office:value-type="string"><text:p>x</text:p>'
        "</table:table-cell></table:table-row>"
    )


def _make_ods(folder: Path) -> None:
    rows = ""
    for row in _ROWS:
        cells = "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p>'
            "</table:table-cell>"
            for cell in row
        )
        rows += f"<table:table-row>{cells}</table:table-row>"
    (folder / "codes.ods").write_bytes(ods(rows))


def _read_table(name: str, folder: Path) -> None:
    table = find_table(read_sheets(folder / name), COLUMNS)
    for row in table:
        for column in COLUMNS:
            text = row.text(column.name)
            assert text == text.strip()
            row.where(column.name)
        for number in parse_action_units(row.text("Action Units")):
            assert number >= 0
        row.optional_whole("Apex")
        assert isinstance(row.whole("Onset"), int)


_TRUTH = Truth(
    (Video("samm_lv/006_1", "samm_lv/006", 1, 99), Video("casme_sq/15_0101", "casme_sq/s15")),
    (
        Interval("samm_lv/006_1", 10, 19, "micro", "anger"),
        Interval("samm_lv/006_1", 50, 70, "macro"),
    ),
    ("a note",),
)


def _read_truth(folder: Path) -> None:
    truth = read_truth(folder / "truth.csv")
    names = {video.name for video in truth.videos}
    assert all(one.video in names and 0 <= one.onset <= one.offset for one in truth.intervals)
    again = read_truth(write_truth(folder / "again.csv", truth))
    assert set(again.intervals) == set(truth.intervals)
    assert set(again.videos) == set(truth.videos)


def _make_predictions(folder: Path) -> None:
    text = "video,onset,offset,type,emotion\nsamm_lv/006_1,10,20,micro,anger\n006_1,50,69,macro,\n"
    (folder / "spotted.csv").write_text(text)


def _read_predictions(folder: Path) -> None:
    names = {video.name for video in _TRUTH.videos}
    for one in read_predictions(folder / "spotted.csv", _TRUTH):
        assert one.video in names
        assert 0 <= one.onset <= one.offset
        assert one.type in ("micro", "macro")


READERS = (
    Reader(
        "xlsx",
        "codes.xlsx",
        lambda folder: write_workbook(folder / "codes.xlsx", {"Sheet1": _ROWS}),
        functools.partial(_read_table, "codes.xlsx"),
        broken_workbook,
    ),
    Reader(
        "xls",
        "codes.xls",
        _make_xls,
        functools.partial(_read_table, "codes.xls"),
        mangled,
        # Shifted, its header speaks of sectors beyond any memory; torn, it ended in a panic.
        known=(lambda whole: whole[:80] + bytes(20) + whole[80:], lambda whole: whole[:1024]),
        examples=8,
    ),
    Reader(
        "ods",
        "codes.ods",
        _make_ods,
        functools.partial(_read_table, "codes.ods"),
        broken_archive,
        known=(lambda whole: _repeated(10**6, 16_000), lambda whole: _repeated(1, 10**9)),
    ),
    Reader("csv", "codes.csv", _make_csv, functools.partial(_read_table, "codes.csv"), broken_csv),
    Reader(
        "spotting-truth",
        "truth.csv",
        lambda folder: write_truth(folder / "truth.csv", _TRUTH),
        _read_truth,
        broken_csv,
    ),
    Reader("spotting-predictions", "spotted.csv", _make_predictions, _read_predictions, broken_csv),
)
