"""What readers stumble over: odd numbers, texts and values, and bytes broken without regard."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

#: Stands in odd texts for the path of a file that no reader may open; the engine puts it in.
CANARY = "@canary@"


class Raw(str):
    """Text that is put into a document as it is, unquoted."""


#: Deeper than any parser that calls itself goes.
DEEP = 20_000

TEXTS = (
    *("", " ", "\0", "\n", "\r\n", "\t", '"', "'", ",", ";", "\\", "/", ".", "..", "-", "nan"),
    *("-1", "0", "00", "1.0", "1.5", "1e999", "inf", "2147483648", "9007199254740993"),
    *("9" * 30, "9" * 5000, "\u0663", "\u00b2", "=1+1", "a" * 70_000, "true", "null"),
    *("\u2028", "\x85", "\ufeff", "e\u0301", "\u202e", "😀", "s" * 300, "x/y", "a@1", "../x"),
    *(CANARY, f"../{CANARY}", f"file://{CANARY}"),
)

NUMBERS = (
    *(0, -1, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32),
    *(2**53 + 1, 2**63, 2**64, -(2**31), -(2**63), 10**400, 0.5, -0.0, 1e308, 1e-320),
)

VALUES: tuple[Any, ...] = (
    *TEXTS,
    *NUMBERS,
    *(None, True, False, [], {}, [[]], [None], {"": None}, [1, "a", None], {"a": {"b": []}}),
    *(float("nan"), float("inf"), float("-inf"), "\ud800"),
    *(Raw("9" * 5000), Raw("1e999"), Raw("[" * DEEP + "]" * DEEP), Raw('{"a":' * DEEP)),
)

_PIECES = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80", b"\n", b'"', b"[", b"{"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"9" * 20, b"1e999", b"-1", b"\0" * 64),
    *(b"," * 9, b"<!--", b"\xff\xd9", b"PK\x05\x06", b"NaN", b"null", b"\x1a", b"\r"),
)

values: SearchStrategy[Any] = st.sampled_from(VALUES) | st.integers() | st.text(max_size=8)
texts: SearchStrategy[str] = st.sampled_from(TEXTS) | st.text(max_size=8)
numbers: SearchStrategy[int] = st.sampled_from(
    [one for one in NUMBERS if isinstance(one, int) and abs(one) < 2**65]
)


@st.composite
def mangled(draw: st.DrawFn, whole: bytes, changes: int = 3) -> bytes:
    """Return bytes with up to so many places flipped, cut, doubled, moved or overwritten."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, changes))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 64) | st.integers(0, len(data))))
        how = draw(st.integers(0, 6))
        if how == 0 and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif how == 1:
            del data[at:]
        elif how == 2:
            del data[at:end]
        elif how == 3:
            data[at:at] = data[at:end]
        elif how == 4:
            to = draw(st.integers(0, len(data)))
            data[to : to + end - at] = data[at:end]
        elif how == 5:
            data[at:at] = draw(st.sampled_from(_PIECES) | st.binary(max_size=8))
        else:
            form = draw(st.sampled_from(["<H", ">H", "<I", ">I", "<Q", ">Q"]))
            size = struct.calcsize(form)
            number = draw(numbers) % 2 ** (8 * size)
            data[at : at + size] = struct.pack(form, number)
    return bytes(data)
