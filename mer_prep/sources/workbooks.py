"""Workbooks as a library may safely open them: told what they are, unpacked and measured first.

A library makes a table of everything up to the last cell of a sheet, and trusts what the archive
says of itself. A few kilobytes can thus ask for gigabytes. So nothing but the sheets and texts of a
workbook is unpacked, within a bound, and measured; the library gets what was measured.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from xml.parsers import expat

from python_calamine import CalamineError, CalamineWorkbook

from mer_prep.errors import AnnotationError

#: More cells than any sheet of annotations has, counting the blank ones up to the last value.
MAX_CELLS = 5_000_000

#: Largest workbook, most that its sheets and texts may unpack to, and largest text file, in bytes.
MAX_FILE_BYTES = 64 * 2**20
MAX_UNPACKED_BYTES = 64 * 2**20
MAX_TEXT_BYTES = 16 * 2**20

#: Memory for opening a workbook of an old or rare format, in bytes, and processor time in seconds.
TRIAL_BYTES = 512 * 2**20
TRIAL_SECONDS = 20

#: Last row and last column (from 1) that a spreadsheet program knows.
_LAST_ROW, _LAST_COLUMN = 1_048_576, 16_384

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_CELL = re.compile(r"([A-Za-z]{1,3})(\d{1,7})")
_COPY_AGAIN = "copy it again from the corpus; remove a password, if it has one"


def cell_name(row: int, column: int) -> str:
    """Return a cell's name, ``D7``, from its row (from 1) and column (from 0)."""
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row}"


def text_of(path: Path) -> str:
    """Return the text of an annotation file in UTF-8, with or without a byte-order mark.

    Raises
    ------
    AnnotationError
        If it cannot be read, is no regular file, no UTF-8 or larger than `MAX_TEXT_BYTES`.
    """
    try:
        return _bytes_of(path, MAX_TEXT_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"The file cannot be read: it is not UTF-8 ({error}).",
            where=path,
            hint="save it as UTF-8 text",
        ) from None


def _bytes_of(path: Path, limit: int) -> bytes:
    try:
        if not path.is_file():
            raise AnnotationError(
                "There is no such annotation file.",
                where=path,
                hint="check the --annotations option",
            )
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise AnnotationError(
            f"The annotation file cannot be read: {error.strerror}.",
            where=path,
            hint="check its permissions, or copy it again",
        ) from None
    if len(data) > limit:
        raise AnnotationError(
            f"The annotation file has more than {limit / 2**20:,.0f} MiB.",
            where=path,
            why="no annotation of any corpus is as large",
            hint="check that this is the annotation; remove pictures from a workbook",
        )
    return data


def open_workbook(path: Path) -> CalamineWorkbook:
    """Open a workbook by its content, whatever its suffix.

    Raises
    ------
    AnnotationError
        If it is missing, no workbook, protected or damaged, or would take more memory than any
        annotation.
    """
    data = _bytes_of(path, MAX_FILE_BYTES)
    old = data.startswith(_OLE)
    if old and "EncryptedPackage".encode("utf-16-le") in data:
        raise _protected(path)
    if not old:
        if not data.startswith(b"PK\x03\x04"):
            raise _no_workbook(path, data)
        data, plain = _measured(data, path)
    if old or not plain:
        _try(data, path)
    try:
        return CalamineWorkbook.from_filelike(io.BytesIO(data))
    except CalamineError as error:
        raise not_readable(path, error) from None


def not_readable(path: Path, reason: object) -> AnnotationError:
    """Return the error for a workbook that the library refuses."""
    text = str(reason).rstrip(".") or "it is damaged"
    return AnnotationError(
        f"The annotation file cannot be read as a workbook: {text}.", where=path, hint=_COPY_AGAIN
    )


def _position(match: re.Match[str]) -> tuple[int, int]:
    """Return the row (from 1) and column (from 0) of a cell's name."""
    column = 0
    for letter in match[1]:
        column = 26 * column + ord(letter) - ord("A") + 1
    return int(match[2]), column - 1


def too_wide(where: str, cell: str) -> AnnotationError:
    """Return the error for a sheet that reaches to a cell far away."""
    return AnnotationError(
        f"The sheet reaches to cell {cell}, far beyond any annotation.",
        where=where,
        why="a table of all cells up to there does not fit into memory",
        hint=f"delete the value in or near {cell} (Ctrl+End leads there), and save the workbook",
    )


def _protected(path: Path) -> AnnotationError:
    return AnnotationError(
        "The annotation file cannot be read as a workbook: it is protected by a password.",
        where=path,
        hint="open it in a spreadsheet program and save it without the password",
    )


def _no_workbook(path: Path, data: bytes) -> AnnotationError:
    """Return the error for a file that is something else than its suffix says."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    hint = _COPY_AGAIN
    if not data:
        kind = "it is empty"
    elif start[:1] == b"<":
        kind = "it is a web page or XML text"
        hint = "open it in a spreadsheet program and save it as .xlsx"
    elif b"\0" not in start and re.search(rb"[,;\t]", start.split(b"\n", 1)[0]):
        kind = "it is a text file, such as CSV"
        hint = "give it the suffix .csv, or open it in a spreadsheet program and save it as .xlsx"
    else:
        kind = f"it begins with {data[:8]!r}"
    return AnnotationError(
        f"The annotation file cannot be read as a workbook: {kind}.", where=path, hint=hint
    )


def _measured(data: bytes, path: Path) -> tuple[bytes, bool]:
    """Return the archive of a workbook, with nothing in it that was not measured.

    Returns
    -------
    archive : bytes
        The sheets and texts of the workbook. Pictures, programs and the like are left out.
    plain : bool
        Whether `_Extent` knows all its cells, which it does of ``.xlsx``.
    """
    plain = io.BytesIO()
    names: set[str] = set()
    left = MAX_UNPACKED_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(plain, "w") as result:
            for member in archive.infolist():
                name = member.filename
                if name != "mimetype" and not name.lower().endswith((".xml", ".rels")):
                    continue
                content = _unpacked(archive, member, left, path)
                left -= len(content)
                if name.lower() in names:
                    raise not_readable(path, f"it holds {name!r} twice")
                names.add(name.lower())
                if name == "META-INF/manifest.xml" and b"encryption-data" in content:
                    raise _protected(path)
                if b"\0" in content:
                    raise not_readable(path, f"{name} is damaged (it is not UTF-8)")
                if name != "mimetype":
                    _Extent(f"{path}, {name}").check(content)
                result.writestr(name, content)
    except expat.ExpatError as error:
        raise not_readable(path, f"{name} is damaged ({error})") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise not_readable(path, error) from None
    except NotImplementedError as error:
        raise not_readable(path, f"{error}, which no spreadsheet program uses") from None
    return plain.getvalue(), "xl/workbook.xml" in names


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int, path: Path) -> bytes:
    """Return what is in a member of an archive, read to its real end whatever size it claims."""
    if member.flag_bits & 1:
        raise _protected(path)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError(f"{member.filename} is packed by method {member.compress_type}")
    # The reader stops at the size the archive claims, but for a bound that it never reaches at the
    # real end, where the checksum must hold.
    member.file_size = left + 2**20
    with archive.open(member) as file:
        content = file.read(left + 1)
    if len(content) > left:
        raise AnnotationError(
            f"The workbook unpacks to more than {MAX_UNPACKED_BYTES / 2**20:,.0f} MiB "
            f"({member.filename}), more than any corpus.",
            where=path,
            hint="check that this is the annotation; remove other sheets",
        )
    return content


class _Extent:
    """Follows the cells of a sheet as its reader does, and refuses one that reaches too far.

    A cell and a row may name their place; those that do not follow the one before.

    Parameters
    ----------
    where : str
        Named in errors.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._row, self._column = 1, 0
        self._lowest = self._rightmost = (1, 0)
        self._cell: tuple[int, int] | None = None

    def check(self, content: bytes) -> None:
        """Read a part of a workbook to its end.

        Raises
        ------
        AnnotationError
            If it reaches too far, or declares entities, which can grow without bound.
        ExpatError
            If it is no well-formed XML in UTF-8.
        """
        parser = expat.ParserCreate(encoding="utf-8")
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.Parse(content, True)
        if self._lowest[0] * (self._rightmost[1] + 1) > MAX_CELLS:
            far = max(self._lowest, self._rightmost, key=lambda cell: max(cell[0], cell[1]))
            raise too_wide(self._where, cell_name(*far))

    def _refuse_doctype(self, *_: object) -> None:
        raise AnnotationError(
            "The workbook declares entities of its own, as no spreadsheet program does.",
            where=self._where,
            why="a few of them can unfold to more than any memory holds",
            hint="do not trust this file; get the annotation from its source again",
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        if self._cell is not None:
            # Whatever a cell holds is taken for a value; formats alone hold nothing.
            self._lowest = max(self._lowest, self._cell)
            self._rightmost = max(self._rightmost, self._cell, key=lambda cell: cell[1])
        elif tag == "c":
            if "r" in attributes:
                self._row, self._column = self._place(attributes["r"])
            self._cell = (self._row, self._column)
        elif tag == "row" and "r" in attributes:
            self._row = self._place(f"A{attributes['r']}")[0]

    def _end(self, name: str) -> None:
        tag = name.rpartition(":")[2]
        if tag == "c":
            self._cell = None
            self._column += 1
        elif tag == "row":
            self._row += 1
            self._column = 0
            if self._row > _LAST_ROW + 1:
                raise too_wide(self._where, cell_name(self._row, 0))

    def _place(self, text: str) -> tuple[int, int]:
        match = _CELL.fullmatch(text)
        column = 0
        for letter in match[1].upper() if match else "":
            column = 26 * column + ord(letter) - ord("A") + 1
        row = int(match[2]) if match else 0
        if not (0 < row <= _LAST_ROW and 0 < column <= _LAST_COLUMN):
            raise AnnotationError(
                f"A cell of the sheet lies at {text[:20]!r}, which is no place.",
                where=self._where,
                hint=_COPY_AGAIN,
            )
        return row, column - 1


_TRIAL = """
import io, sys
memory, seconds = int(sys.argv[1]), int(sys.argv[2])
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
from python_calamine import CalamineError, CalamineWorkbook
try:
    with CalamineWorkbook.from_filelike(io.BytesIO(sys.stdin.buffer.read())) as book:
        for name in book.sheet_names:
            book.get_sheet_by_name(name)
except CalamineError as error:
    sys.stdout.buffer.write(str(error).encode("utf-8", "replace"))
    sys.exit(3)
"""


def _try(data: bytes, path: Path) -> None:
    """Open a workbook in a process of its own, which may die of it.

    Formats other than ``.xlsx`` are measured thus: the memory is bounded, and what is opened there
    within the bound is opened here with as much.

    Raises
    ------
    AnnotationError
        If the process dies, or the library refuses the workbook.
    """
    bounds = (str(TRIAL_BYTES), str(TRIAL_SECONDS))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _TRIAL, *bounds], input=data, capture_output=True, check=False
    )
    if done.returncode == 3:
        raise not_readable(path, done.stdout.decode())
    if done.returncode:
        raise AnnotationError(
            f"The workbook is damaged, or takes more than {TRIAL_BYTES / 2**20:,.0f} MiB of memory "
            "to open, more than any annotation.",
            where=path,
            why="one stray value makes a table of all cells up to it",
            hint="delete stray values (Ctrl+End leads to the last), and save the workbook as .xlsx",
        )
