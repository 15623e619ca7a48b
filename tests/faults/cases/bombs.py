"""Annotation files made to exhaust the memory, to lead elsewhere, or of another kind."""

from __future__ import annotations

import functools
import io
import itertools
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import openpyxl
import xlwt

from mer_prep.errors import AnnotationError
from mer_prep.sources.annotations import Column, find_table, read_sheets
from tests.faults.catalogue import Tries, damaged, fault, in_process, instead, nothing, refused

SHEET = "xl/worksheets/sheet1.xml"
STRINGS = "xl/sharedStrings.xml"
COLUMNS = (Column("Subject"), Column("Onset"), Column("Emotion"))

#: What reading any of them may take: memory beyond that of the tests, and processor time.
MEMORY_BYTES = 900 * 2**20
SECONDS = 30

#: More than may be unpacked.
_BOMB = 66 * 2**20

Parts = Mapping[str, bytes]


def plain_book() -> bytes:
    """Return a workbook of one row."""
    book, data = openpyxl.Workbook(), io.BytesIO()
    book.active.append(["Subject", "Onset", "Emotion"])
    book.active.append(["01", 5, "happiness"])
    book.save(data)
    return data.getvalue()


def parts_of(data: bytes) -> dict[str, bytes]:
    """Return the parts of a workbook."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: Parts, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of parts."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return data.getvalue()


def with_part(name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return the plain workbook with one part changed or added."""
    parts = parts_of(plain_book())
    return packed({**parts, name: change(parts.get(name, b""))})


def with_rows(rows: bytes) -> bytes:
    """Return the plain workbook with more in its sheet."""
    return with_part(SHEET, lambda sheet: sheet.replace(b"</sheetData>", rows + b"</sheetData>"))


def is_plain(path: Path) -> bool:
    """Return whether a file reads as the plain workbook does."""
    (row,) = find_table(read_sheets(path), COLUMNS)
    return [row.text(one.name) for one in COLUMNS] == ["01", "5", "happiness"]


def within_bounds(work: Callable[[], None]) -> None:
    """Do something in a process of its own whose memory and time are bounded."""

    def bounded() -> int:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        work()
        return 0

    status = in_process(bounded)
    assert status == 0, f"ended with {status}"


def check_refused(tries: Tries, name: str, data: bytes, *words: str) -> None:
    """See that an annotation file is refused, within bounds."""
    path = tries.fresh() / name
    path.write_bytes(data)

    def read() -> None:
        with refused(AnnotationError, *words):
            read_sheets(path)

    try:
        within_bounds(read)
    except AssertionError as error:
        raise AssertionError(f"{name} ({data[:24]!r}..., {words}): {error}") from error


def claiming(data: bytes, name: str, size: int) -> bytes:
    """Return an archive that says of a part that it is no longer than `size`, with its checksum."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.getinfo(name).header_offset
        with archive.open(name) as file:
            checksum = zlib.crc32(file.read(size))
    changed = bytearray(data)
    struct.pack_into("<I", changed, start + 14, checksum)
    struct.pack_into("<I", changed, start + 22, size)
    entry = changed.rindex(name.encode()) - 46
    struct.pack_into("<I", changed, entry + 16, checksum)
    struct.pack_into("<I", changed, entry + 24, size)
    return bytes(changed)


def _bombs() -> Iterator[tuple[str, Callable[[], bytes], tuple[str, ...]]]:
    def blown(name: str) -> bytes:
        return with_part(name, lambda part: part + b" " * _BOMB)

    yield "rows.xlsx", lambda: with_rows(b"<row/>" * 1_100_000), ("reaches to cell",)
    for name in (SHEET, STRINGS, "xl/styles.xml", "xl/workbook.xml", "xl/unheard-of.xml"):
        yield "bomb.xlsx", functools.partial(blown, name), ("unpacks to more", name)
    yield "lying.xlsx", lambda: claiming(blown(SHEET), SHEET, 300), ("unpacks to more",)
    rows = b"<row/>" * 1000
    yield "lying.xlsx", lambda: claiming(with_rows(rows), SHEET, 300), ("Bad CRC-32",)
    rows_with_values = b"<row><c><v>1</v></c></row>" * 1_100_000
    yield "rows.xlsx", lambda: with_rows(rows_with_values), ("reaches to cell",)


@fault(
    21,
    "workbooks that unpack to more than any memory holds",
    without={
        "the bound on what is unpacked": instead(
            "mer_prep.sources.workbooks.MAX_UNPACKED_BYTES", 2**40
        ),
        "the last row of a sheet": instead("mer_prep.sources.workbooks._Extent._end", nothing),
    },
)
def unpacking_bombs(tries: Tries) -> None:
    for name, make, words in tries.of(_bombs(), quick=3):
        check_refused(tries, name, make(), *words)


def _far_cells() -> Iterator[bytes]:
    for place in ("XFD1048576", "xfd1048576", "ZZ200000", "Xfd400", "A1048577", "XFE1", "AAAA1"):
        yield b'<row><c r="%s"><v>1</v></c></row>' % place.encode()
    for place in ("A0", "", "1A", "$A$1", "A99999999999", "A-1", "\u00c41", "A1:XFD1048576"):
        yield b'<row><c r="%s"><v>1</v></c></row>' % place.encode()
    wide = b"<c/>" * 16_383
    for row in (b'<row r="1048576">', b'<row r="900000">', b'<x:row xmlns:x="x" r="900000">'):
        end = b"</x:row>" if b"x:" in row else b"</row>"
        yield row + wide + b"<c><v>1</v></c>" + end
        yield row + wide + b"<c t='inlineStr'><is><t>x</t></is></c>" + end
    yield b'<row r="900000"/><row>' + wide + b"<c><v>1</v></c></row>"
    yield b'<row r="0"><c><v>1</v></c></row>'
    yield b'<row r="99999999999999999999"><c><v>1</v></c></row>'


def _far_books() -> Iterator[tuple[str, bytes]]:
    sheets = b"".join(b'<sheet name="s%d" sheetId="%d" r:id="rId1"/>' % (n, n) for n in range(2000))
    yield (
        "many.xlsx",
        with_part(
            "xl/workbook.xml", lambda part: part.replace(b"</sheets>", sheets + b"</sheets>")
        ),
    )
    yield from (("far.xlsx", with_rows(rows)) for rows in _far_cells())
    for count in (1, 8, 40):
        book, data = xlwt.Workbook(), io.BytesIO()
        for number in range(count):
            sheet = book.add_sheet(f"s{number}")
            sheet.write(0, 0, 1)
            sheet.write(65_535, 255, 2)
        book.save(data)
        yield "far.xls", data.getvalue()
    cells = '<table:table-cell table:number-columns-repeated="16384" office:value="1"/>'
    row = f'<table:table-row table:number-rows-repeated="1048576">{cells}</table:table-row>'
    yield "far.ods", packed(open_document(row))


def open_document(rows: str) -> Parts:
    """Return the parts of an OpenDocument spreadsheet."""
    names = "urn:oasis:names:tc:opendocument:xmlns"
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    content = (
        f'<office:document-content xmlns:office="{names}:office:1.0" '
        f'xmlns:table="{names}:table:1.0" xmlns:text="{names}:text:1.0"><office:body>'
        f'<office:spreadsheet><table:table table:name="S">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    manifest = f'<manifest:manifest xmlns:manifest="{names}:manifest:1.0"/>'
    return {
        "mimetype": kind.encode(),
        "content.xml": content.encode(),
        "META-INF/manifest.xml": manifest.encode(),
    }


@fault(
    21,
    "a value a million rows down, under every spelling of its place",
    without={
        "following the cells": instead("mer_prep.sources.workbooks._Extent._start", nothing),
        "the trial of old formats": instead("mer_prep.sources.workbooks._try", nothing),
        "the bound on sheets": instead("mer_prep.sources.annotations.MAX_SHEETS", 10**6),
    },
)
def far_values(tries: Tries) -> None:
    for name, data in tries.of(_far_books(), quick=16):
        check_refused(tries, name, data)


@fault(
    21,
    "harmless oddities: a dimension of all cells, a million empty rows, links to other files",
    without={
        "measuring values alone": instead(
            "mer_prep.sources.workbooks._Extent._place", lambda self, text: (10**6, 10**4)
        ),
        "knowing a workbook by its content": instead("mer_prep.sources.workbooks._OLE", b"never"),
    },
)
def odd_books(tries: Tries) -> None:
    def dimension(sheet: bytes) -> bytes:
        return sheet.replace(b'ref="A1:C2"', b'ref="A1:XFD1048576"')

    old, data = xlwt.Workbook(), io.BytesIO()
    sheet = old.add_sheet("S")
    for row, values in enumerate((("Subject", "Onset", "Emotion"), ("01", 5, "happiness"))):
        for column, value in enumerate(values):
            sheet.write(row, column, value)
    old.save(data)
    link = b'<externalLink><externalBook r:id="rId1" xmlns:r="r"/></externalLink>'
    goes = b'<Relationships><Relationship Id="rId1" Target="file:///etc/passwd"/></Relationships>'
    texts = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    rows = "".join(
        f"<table:table-row>{''.join(map(texts.format, one))}</table:table-row>"
        for one in (("Subject", "Onset", "Emotion"), ("01", "5", "happiness"))
    )
    blank = '<table:table-row table:number-rows-repeated="1048574"><table:table-cell '
    blank += 'table:number-columns-repeated="16384"/></table:table-row>'
    parts = parts_of(plain_book())
    books = [
        ("dimension.xlsx", with_part(SHEET, dimension)),
        ("rows.xlsx", with_rows(b"<row/>" * 1_000_000)),
        ("formats.xlsx", with_rows(b'<row r="1048576"><c r="XFD1048576" s="0"/></row>')),
        ("links.xlsx", with_part("xl/externalLinks/externalLink1.xml", lambda part: link)),
        ("links.xlsx", with_part("xl/externalLinks/_rels/externalLink1.xml.rels", lambda p: goes)),
        ("picture.xlsx", packed({**parts, "xl/media/image1.png": bytes(2 * _BOMB)})),
        ("new.xls", plain_book()),
        ("new.XLSM", plain_book()),
        ("old.xls", data.getvalue()),
        ("old.xlsx", data.getvalue()),
        ("open.ods", packed(open_document(rows + blank))),
        ("text.csv", b"Subject;Onset;Emotion\r\n01;5;happiness\r\n"),
        ("text.csv", b"\xef\xbb\xbfSubject,Onset,Emotion\n01,5,happiness"),
    ]
    for name, content in tries.of(books, quick=7):
        path = tries.fresh() / name
        path.write_bytes(content)

        def read(path: Path = path) -> None:
            assert is_plain(path), path.name

        within_bounds(read)


_LAUGHS = b"""<!DOCTYPE x [<!ENTITY a0 "ha">%s]>""" % b"".join(
    b'<!ENTITY a%d "%s">' % (n + 1, b"&a%d;" % n * 10) for n in range(12)
)
_ELSEWHERE = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


def _entities() -> Iterator[bytes]:
    for declared, name in itertools.product((_LAUGHS, _ELSEWHERE), parts_of(plain_book())):

        def declare(part: bytes, declared: bytes = declared) -> bytes:
            head, mark, rest = part.partition(b"?>")
            return head + mark + declared + rest if mark else declared + part

        yield with_part(name, declare)
    for declared in (b"<!DOCTYPE x>", b"<!DOCTYPE x SYSTEM 'http://127.0.0.1:9/x.dtd'>"):
        yield with_part(SHEET, lambda part, declared=declared: declared + part)


@fault(
    21,
    "XML entities that unfold without end or lead to other files",
    without={
        "the refusal of declarations": instead(
            "mer_prep.sources.workbooks._Extent._refuse_doctype", nothing
        ),
    },
)
def entities(tries: Tries) -> None:
    for data in tries.of(_entities(), quick=10):
        check_refused(tries, "book.xlsx", data, "declares entities")


def _other_kinds() -> Iterator[tuple[str, bytes, tuple[str, ...]]]:
    parts = parts_of(plain_book())
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    page = b"<html><table><tr><td>Subject</td></tr></table></html>"
    unreadable = "cannot be read as a workbook"
    for name in ("book.xlsx", "book.xls", "book.ods", "book.xlsm"):
        yield name, b"", ("it is empty",)
        yield name, b"Subject,Onset,Emotion\n01,5,happiness\n", ("text file", ".csv")
        yield name, b"\xef\xbb\xbfSubject\tOnset\n01\t5\n", ("text file",)
        yield name, page, ("web page",)
        yield name, b"\xef\xbb\xbf  " + page, ("web page",)
        yield name, b"\x89PNG\r\n\x1a\n" + bytes(2000), (unreadable, "PNG")
        yield name, b"PK\x03\x04", (unreadable,)
        yield name, b"PK\x03\x04" + bytes(5000), (unreadable,)
        yield name, packed({}), (unreadable,)
        yield name, packed({"word/document.xml": b"<document/>"}), (unreadable,)
        yield name, ole, ()
        yield name, ole + bytes(5000), ()
        yield name, ole + b"\xff" * 5000, ()
        yield name, ole + "EncryptedPackage".encode("utf-16-le"), ("password",)
    encrypted = bytearray(packed(parts))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.index(mark) + offset] |= 1
    yield "book.xlsx", bytes(encrypted), ("password",)
    hidden = open_document("")
    manifest = hidden["META-INF/manifest.xml"] + b"<!--encryption-data-->"
    yield "book.ods", packed({**hidden, "META-INF/manifest.xml": manifest}), ("password",)
    yield "book.xlsx", packed(parts, zipfile.ZIP_LZMA), ("packed by method 14",)
    renamed = packed({**parts, SHEET.replace("sheet1", "SHEET1"): parts[SHEET]})
    yield "book.xlsx", renamed, ("twice",)
    yield "book.xlsx", with_part(SHEET, lambda part: part.decode().encode("utf-16")), ("damaged",)
    yield "text.csv", b"a,b\n" * 5_000_000, ("more than 16 MiB",)
    yield "text.csv", b"\n" * 1_000_000, ("more than 200,000 rows",)
    yield "text.csv", b"Subject,Onset\n" + b"x" * 500_000, ("cannot be read as CSV",)
    yield "text.csv", b'Subject,Onset\n"open', ("cannot be read as CSV",)
    yield "text.csv", "Subject,Onset\n".encode("utf-16"), ("not UTF-8",)
    yield "text.csv", "Subject,Onset\n\u00e9".encode("latin-1"), ("not UTF-8",)


@fault(
    21,
    "pages, pictures, texts and protected files under the name of a workbook",
    without={
        "the look at the first bytes": instead(
            "mer_prep.sources.workbooks._no_workbook",
            lambda path, data: AnnotationError("It is none.", where=path),
        ),
        "the bound on texts": instead("mer_prep.sources.workbooks.MAX_TEXT_BYTES", 2**40),
        "the bound on rows": instead("mer_prep.sources.annotations.MAX_ROWS", 10**9),
    },
)
def other_kinds(tries: Tries) -> None:
    for name, data, words in tries.of(_other_kinds(), quick=34):
        check_refused(tries, name, data, *words)


@fault(
    21,
    "a workbook cut off, or with one byte changed, in its archive or in its sheet",
    without={
        "the checksums": instead("zipfile.ZipExtFile._update_crc", nothing),
        "the walk through the sheet": instead("mer_prep.sources.workbooks._Extent.check", nothing),
    },
)
def damaged_books(tries: Tries) -> None:
    whole = plain_book()
    path = tries.fresh() / "book.xlsx"
    read = 0

    for data in tries.of(itertools.islice(damaged(whole), 0, None, 3), quick=120):
        path.write_bytes(data)
        try:
            with refused(AnnotationError):
                find_table(read_sheets(path), COLUMNS)
        except AssertionError:
            assert is_plain(path)
            read += 1
    # A byte of the archive's that says nothing, such as a time, does no harm.
    assert read < tries.count / 3, (read, tries.count)
    unpacked = bytearray(packed(parts_of(whole), zipfile.ZIP_STORED))
    text = unpacked.index(b"happiness")
    for place in tries.of(range(text - 200, text + 20), quick=30):
        unpacked[place] ^= 1
        path.write_bytes(unpacked)
        with refused(AnnotationError):
            find_table(read_sheets(path), COLUMNS)
        unpacked[place] ^= 1
    sheet = parts_of(whole)[SHEET]
    for length in tries.of(range(0, len(sheet), 4), quick=20):
        path.write_bytes(with_part(SHEET, lambda part, length=length: part[:length]))
        with refused(AnnotationError, SHEET, "is damaged"):
            read_sheets(path)
