"""Every reader of foreign bytes, by name: how a whole example is made, and how it is read."""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz.documents import KNOWN
from tests.fuzz.engine import Reader
from tests.fuzz.readers import corpora, pictures, records, runs, stored, tables

READERS: dict[str, Reader] = {
    reader.name: replace(reader, known=(*KNOWN.get(reader.broken, ()), *reader.known))
    for room in (pictures, tables, corpora, records, stored, runs)
    for reader in room.READERS
}
