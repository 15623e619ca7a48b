"""What the figures were measured on and with. Neither host nor user is named."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mer_prep import __version__
from mer_prep.ops.faces import dlib_version
from mer_prep.ops.tvl1 import kernel_paths, kernel_version

CHECKOUT = Path(__file__).resolve().parent.parent


def describe_machine() -> dict[str, Any]:
    """Return processor, memory, system and versions, as written into the results."""
    paths = kernel_paths()
    return {
        "cpu": cpu_model(),
        "cores": _cores(),
        "threads": cv2.getNumThreads(),
        "memory_gib": _memory_gib(),
        "load_before": [round(one, 2) for one in os.getloadavg()]
        if hasattr(os, "getloadavg")
        else None,
        "os": _system(),
        "python": platform.python_version(),
        "mer_prep": __version__,
        "tvl1_engine": f"cpu {kernel_version()}, {paths[0]}" if paths else "opencv",
        "opencv": cv2.__version__,
        "dlib": dlib_version(),
        "numpy": np.__version__,
        "torch": _version("torch"),
    }


def cpu_model() -> str:
    """Return the processor's name as the system knows it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release()}, {platform.machine()}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit(folder: Path) -> str | None:
    """Return the commit of a checkout, with ``, changed`` if files differ; None elsewhere."""
    if not (folder / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        found = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "mer_prep")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{found}, changed" if changed else found
