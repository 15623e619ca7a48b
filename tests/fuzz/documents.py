"""Documents broken where their form has a place for it: a key, a line, a cell, a member."""

from __future__ import annotations

import copy
import csv
import datetime
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.odd import Raw, mangled, numbers, texts, values

_RAW = "@raw{}@"

Place = tuple[Any, Any]


def _places(node: Any) -> Iterator[Place]:
    """Yield (container, key or index) of everything within a JSON value."""
    inside = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(inside):
        yield node, key
        if isinstance(value, dict | list) and value:
            yield from _places(value)


def to_json(tree: Any, **options: Any) -> str:
    """Return the JSON of a value, with what is `Raw` in it put in as it is."""
    raws: list[str] = []

    def marked(node: Any) -> Any:
        if isinstance(node, Raw):
            raws.append(node)
            return _RAW.format(len(raws) - 1)
        if isinstance(node, dict):
            return {key: marked(value) for key, value in node.items()}
        if isinstance(node, list):
            return [marked(value) for value in node]
        return node

    text = json.dumps(marked(tree), **options)
    for number, raw in enumerate(raws):
        text = text.replace(f'"{_RAW.format(number)}"', raw)
    return text


def broken_tree(draw: st.DrawFn, tree: Any) -> Any:
    """Return a JSON value with one or two of its parts replaced, left out, renamed or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 2))):
        places = list(_places(tree)) if isinstance(tree, dict | list) else []
        if not places:
            return draw(values)
        container, key = draw(st.sampled_from(places))
        how = draw(st.integers(0, 6))
        if how <= 2:
            container[key] = draw(values)
        elif how == 3:
            del container[key]
        elif how == 4 and isinstance(container, dict):
            container[draw(texts)] = container.pop(key)
        elif how == 5:
            other, name = draw(st.sampled_from(places))
            container[key] = copy.deepcopy(other[name])
        else:
            container[key] = [container[key]]
    return draw(values) if draw(st.integers(0, 19)) == 0 else tree


@st.composite
def broken_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a JSON document that is broken at some of its parts, or anywhere."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    return to_json(broken_tree(draw, json.loads(whole))).encode()


@st.composite
def broken_lines(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return JSON lines of which one is broken, doubled, moved, left out or replaced."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    lines = whole.decode().splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.integers(0, 6))
    if how <= 3:
        plain = draw(st.booleans())
        lines[at] = to_json(broken_tree(draw, json.loads(lines[at])), ensure_ascii=plain)
    elif how == 4:
        lines.insert(draw(st.integers(0, len(lines))), lines[at])
    elif how == 5:
        del lines[at]
    else:
        lines[at] = to_json(draw(values))
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


_TOML = (
    *('""', "''", "0", "-1", "1.5", "true", "nan", "inf", "[]", "{}", "[[]]", '["a", 1]'),
    *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "9999-99-99", "1e999", "0x7f", "9" * 5000),
    *('"\\u0000"', '"\\ud800"', '"\\U0010FFFF"', "{a = {b = 1}}", "[" * 5000 + "]" * 5000, "'''"),
    *('["x", "x"]', '"@canary@"', "2147483648", "{a=" * 3000 + "1" + "}" * 3000, "1_0", "-0.0"),
)


@st.composite
def broken_toml(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return TOML with lines doubled, moved, left out, or with other keys and values."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    lines = whole.decode().splitlines()
    filled = [number for number, line in enumerate(lines) if line.strip()]
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.sampled_from(filled))
        key, equals, value = lines[at].partition("=")
        how = draw(st.integers(0, 6))
        if how <= 2 and equals:
            lines[at] = f"{key}= {draw(st.sampled_from(_TOML))}"
        elif how == 3 and equals:
            name = draw(st.sampled_from(["x", '""', "a.b", '"\\u0000"', ".".join("a" * 3000)]))
            lines[at] = f"{name} ={value}"
        elif how == 4:
            lines[at] = ""
        elif how == 5:
            lines[draw(st.sampled_from(filled))] = lines[at]
        else:
            lines[at] = draw(st.sampled_from(["[x]", "[[x]]", "[stages]", "[" * 3000, "x = 1"]))
    return ("\n".join(lines) + "\n").encode()


def _broken_table(draw: st.DrawFn, rows: list[list[Any]], cells: st.SearchStrategy[Any]) -> None:
    """Break a table in place."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(rows) - 1))
        row = rows[at]
        how = draw(st.integers(0, 8))
        if how <= 4 and row:
            row[draw(st.integers(0, len(row) - 1))] = draw(cells)
        elif how == 5:
            rows.insert(draw(st.integers(0, len(rows))), list(row))
        elif how == 6 and len(rows) > 1:
            del rows[at]
        elif how == 7 and row:
            del row[draw(st.integers(0, len(row) - 1))]
        else:
            row.append(draw(cells))


@st.composite
def broken_csv(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return CSV with odd cells, and rows and cells doubled or left out."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    rows = list(csv.reader(io.StringIO(whole.decode())))
    _broken_table(draw, rows, texts)
    text = io.StringIO()
    csv.writer(text, delimiter=draw(st.sampled_from(",,,;")), lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


_CELLS: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 1e300, 12.0, 2**31, 10**15, "=1/0", "#N/A", "/", "٣", "9" * 5000),
    *(datetime.datetime(2020, 2, 1), datetime.time(7), datetime.date(1899, 12, 31), " 5 ", "5a"),
    *("a" * 30_000, "spNO.1", "s1", "sub99", "micro", "macro", "Other", "../x", "\u2028", "x/y"),
)


@st.composite
def broken_workbook(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a workbook with odd cells, or whose archive or XML is broken."""
    how = draw(st.integers(0, 5))
    if how == 0:
        return draw(mangled(whole))
    if how == 1:
        return draw(broken_archive(whole))
    return draw(_broken_sheets(whole))


@st.composite
def _broken_sheets(draw: st.DrawFn, whole: bytes) -> bytes:
    from openpyxl import Workbook, load_workbook

    source = load_workbook(io.BytesIO(whole))
    tables = {sheet.title: [list(row) for row in sheet.values] for sheet in source}
    table = tables[draw(st.sampled_from(sorted(tables)))]
    _broken_table(draw, table, st.sampled_from(_CELLS) | st.integers(-9, 9999))
    book = Workbook()
    book.remove(book.active)
    for title, rows in tables.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    data = io.BytesIO()
    book.save(data)
    return data.getvalue()


_XML = (
    *(b'r="A1"', b'r="XFD1048576"', b'r="ZZZ9999999"', b'r=""', b'r="xfd1048576"', b't="s"'),
    *(b't="d"', b't="e"', b't="str"', b"<v>99999999</v>", b"<v></v>", b"<v>1e999</v>", b"<row/>"),
    *(b"&#0;", b"&x;", b"<c>", b"</c>", b'<row r="1048576">', b"<![CDATA[", b's="99999"'),
)


@st.composite
def broken_archive(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a zip archive of which one member is broken or gone."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    how = draw(st.integers(0, 3))
    if how == 0:
        del members[name]
    elif how == 1:
        members[name] = draw(mangled(members[name]))
    else:
        at = draw(st.integers(0, len(members[name])))
        start = members[name].rfind(b" ", 0, at) + 1
        piece = draw(st.sampled_from(_XML))
        members[name] = members[name][:start] + piece + b" " + members[name][start:]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, content in members.items():
            archive.writestr(one, content)
    return data.getvalue()


@st.composite
def broken_safetensors(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return weights whose header is broken, with a length that is right or odd."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    (length,) = struct.unpack("<Q", whole[:8])
    tree = json.loads(whole[8 : 8 + length])
    if draw(st.booleans()):
        # What the program keeps in a header is JSON within JSON.
        name = draw(st.sampled_from(sorted(tree["__metadata__"])))
        inner = tree["__metadata__"][name]
        try:
            inner = to_json(broken_tree(draw, json.loads(inner)))
        except ValueError:
            inner = str(draw(texts))
        tree["__metadata__"][name] = inner
    else:
        tree = broken_tree(draw, tree)
    header = to_json(tree).encode()
    size = len(header) if draw(st.integers(0, 4)) else draw(numbers) % 2**64
    return struct.pack("<Q", size) + header + whole[8 + length :]


@st.composite
def broken_text(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return text lines of which some are odd, doubled or left out."""
    if draw(st.integers(0, 3)) == 0:
        return draw(mangled(whole))
    lines = whole.decode().splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    how = draw(st.integers(0, 2))
    if how == 0:
        del lines[at]
    elif how == 1:
        lines.insert(at, lines[at])
    else:
        lines[at] = draw(texts)
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _of_deep_values(whole: bytes) -> bytes:
    return b'{"a":' + b"[" * 20_000


#: What once got the better of readers of a form, made of a whole document.
KNOWN: dict[Any, tuple[Callable[[bytes], bytes], ...]] = {
    broken_json: (
        _of_deep_values,
        lambda whole: b'""',
        lambda whole: b"[]",
        lambda whole: b"{}",
        lambda whole: b"\xfb" + whole,
        lambda whole: re.sub(rb'": "[^"]*"', rb'": "\\ud800"', whole, count=1),
        lambda whole: re.sub(rb'": "[^"]*"', rb'": []', whole),
    ),
    broken_lines: (
        _of_deep_values,
        lambda whole: b'""\n' + whole,
        lambda whole: b"\xfb" + whole,
        lambda whole: re.sub(rb'": "[^"]*"', rb'": []', whole, count=1),
    ),
    broken_toml: (
        lambda whole: whole + b"\nx = " + b"9" * 5000 + b"\n",
        lambda whole: whole + b"\nx = " + b"[" * 5000 + b"\n",
        lambda whole: b"|" + whole,
    ),
    broken_csv: (
        lambda whole: b"|" + whole,
        lambda whole: whole.replace(b"\n", b"\n" + b"9" * 5000 + b",", 1),
        lambda whole: whole + b"\0," * 9,
    ),
}
