"""Small corpora in the real layouts, for the tests of the importers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from mer_prep.manifest import Clip, Finding, ImportRecord
from mer_prep.sources.corpus import Imported
from mer_prep.synth.layouts import LAYOUTS, PlannedClip

SIZE = (64, 80)


def write_frame(
    path: Path, number: int, *, size: tuple[int, int] = SIZE, grey: bool = False, tint: int = 0
) -> None:
    """Write a picture whose pixels hold its frame number, one bit a column of blocks."""
    width, height = size
    image = np.zeros((height, width) if grey else (height, width, 3), np.uint8)
    for bit in range(24):
        column = slice(bit * 2, bit * 2 + 2)
        image[:, column] = 255 if number >> bit & 1 else tint
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert done
    path.write_bytes(data.tobytes())


def write_tree(
    corpus: str,
    root: Path,
    clips: Sequence[PlannedClip],
    *,
    variant: str | None = None,
    quirks: bool = True,
    annotations: bool = True,
) -> Path:
    """Write a corpus and return its root."""
    layout = LAYOUTS[corpus]
    variant = variant or layout.default_variant
    for index, clip in enumerate(clips):
        for number in layout.numbers(clip, variant):
            path = root / layout.frame_path(clip, number, variant)
            write_frame(path, number, grey=layout.grey, tint=index % 200)
    if annotations:
        layout.write_annotations(root, clips, quirks=quirks, variant=variant)
    layout.write_extras(root, clips, variant, quirks=quirks)
    return root


def codes(record: ImportRecord | Sequence[Finding]) -> Counter[tuple[str, str]]:
    """Count the findings by level and code."""
    findings = record.findings if isinstance(record, ImportRecord) else record
    return Counter((finding.level, finding.code) for finding in findings)


def only(record: ImportRecord | Sequence[Finding], code: str) -> Finding:
    """Return the one finding of a code."""
    findings = record.findings if isinstance(record, ImportRecord) else record
    (finding,) = [finding for finding in findings if finding.code == code]
    return finding


def clip_named(imported: Imported, clip_id: str) -> Clip:
    """Return the clip with an id."""
    (clip,) = [clip for clip in imported.clips if clip.clip_id == clip_id]
    return clip
