"""Reads ``.xls`` workbooks in a process of its own.

Their library takes the lengths that a file states at their word. Of a damaged one it asks for any
amount of memory, and ends its process where that is not given.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

#: Memory that reading may take, in bytes, and time, in seconds; the largest workbook needs less.
MEMORY = 2 * 2**30
SECONDS = 120

_READ = """
import pickle, resource, sys
from python_calamine import CalamineWorkbook
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
limits = [int(sys.argv[2])] + [one for one in (soft, hard) if one != resource.RLIM_INFINITY]
resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
with CalamineWorkbook.from_path(sys.argv[1]) as book:
    sheets = []
    for name in book.sheet_names:
        sheet = book.get_sheet_by_name(name)
        size = sheet.total_height, sheet.total_width
        small = size[0] * size[1] <= int(sys.argv[3])
        sheets.append((name, size, sheet.to_python(skip_empty_area=False) if small else []))
sys.stdout.buffer.write(pickle.dumps(sheets))
"""


def read_old_workbook(
    path: Path, *, max_cells: int
) -> list[tuple[str, tuple[int, int], list[list[Any]]]]:
    """Return (name, (rows, columns), cells by row) of the sheets of an ``.xls`` workbook.

    Parameters
    ----------
    path : Path
        The workbook.
    max_cells : int
        Of a sheet with more cells only the size is told.

    Raises
    ------
    ValueError
        If it cannot be read; the text says why.
    """
    command = [sys.executable, "-P", "-c", _READ, str(path), str(MEMORY), str(max_cells)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ValueError(f"it took more than {SECONDS} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        told = lines[-1] if done.returncode > 0 and lines else "it is damaged"
        raise ValueError(told.removeprefix("python_calamine.").removeprefix("CalamineError: "))
    sheets: list[tuple[str, tuple[int, int], list[list[Any]]]] = pickle.loads(done.stdout)
    return sheets
