"""Export: stored results as PNG pictures, NumPy arrays or WebDataset shards."""

from __future__ import annotations

from mer_prep.export.coding import Coding, decode, encode
from mer_prep.export.pictures import read_png

__all__ = ["Coding", "decode", "encode", "read_png"]
