"""Importers: every corpus with a broken annotation."""

from __future__ import annotations

import functools
import shutil
import tempfile
from pathlib import Path

from mer_prep.manifest_files import clip_from_json, clip_to_json, read_record, write_manifest
from mer_prep.sources.corpus import SOURCES, import_corpus
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.synth.plan import plan_corpus
from tests.fuzz.documents import broken_csv, broken_text, broken_workbook
from tests.fuzz.engine import Reader

#: Shorter stretches of one expression are no clip.
_FRAMES = {"affwild2": 40}

#: The form of a corpus that has an annotation file, where the usual one has none.
_VARIANTS = {"smic": "SMIC-E-HS"}


def _annotation(corpus: str) -> str:
    """Return where the annotation lies below the corpus folder."""
    with tempfile.TemporaryDirectory() as folder:
        written = _write(corpus, Path(folder))
        return written[0].relative_to(folder).as_posix()


def _write(corpus: str, folder: Path) -> list[Path]:
    """Write a corpus of two subjects whose frames hold nothing, and return its annotations."""
    layout = LAYOUTS[corpus]
    variant = _VARIANTS.get(corpus, layout.default_variant)
    plans = plan_corpus(
        layout,
        variant=variant,
        subjects=2,
        clips=2,
        seed=0,
        amplitude=(1.0, 1.0),
        frames=_FRAMES.get(corpus, 6),
        quirks=False,
    )
    clips = [plan.annotated for plan in plans]
    root = folder / "corpus"
    for clip in clips:
        for number in layout.numbers(clip, variant):
            path = root / layout.frame_path(clip, number, variant)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"a frame")
    return layout.write_annotations(root, clips, quirks=False, variant=variant)


def _read(corpus: str, options: dict[str, Path], folder: Path) -> None:
    given = {name: folder / path for name, path in options.items()}
    found = import_corpus(corpus, folder / "corpus", **given)  # type: ignore[arg-type]
    assert found.clips
    for clip in found.clips:
        assert clip_from_json(clip_to_json(clip), where="here") == clip
    manifests = folder / "manifests"
    shutil.rmtree(manifests, ignore_errors=True)
    assert read_record(write_manifest(manifests, found.clips, found.record)) == found.record


def _make_clips(folder: Path) -> None:
    for name in ("a", "b"):
        clip = folder / "corpus" / "s1" / name
        clip.mkdir(parents=True)
        for number in range(4):
            (clip / f"img{number}.png").write_bytes(b"a frame")
    text = "subject,clip,onset,apex,offset,emotion,fps\ns1,a,0,1,3,joy,30\ns1,b,0,,2,anger,25\n"
    (folder / "clips.csv").write_text(text)


def _reader(corpus: str) -> Reader:
    target = _annotation(corpus)
    return Reader(
        f"import-{corpus}",
        target,
        functools.partial(_write, corpus),
        functools.partial(_read, corpus, {}),
        broken_text if target.endswith(".txt") else broken_workbook,
        # Of a folder in which nothing can be read, the folder is named.
        named=(Path(target).name, str(Path("corpus"))),
        examples=8,
    )


READERS = (
    *(_reader(corpus) for corpus in SOURCES if corpus in LAYOUTS),
    Reader(
        "import-clips",
        "clips.csv",
        _make_clips,
        functools.partial(_read, "clips", {"annotations": Path("clips.csv")}),
        broken_csv,
        named=("clips.csv", "corpus"),
        examples=30,
    ),
)
