"""Manifests that are damaged, hostile, or of another version; and what they may lead to."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unicodedata import normalize

from mer_prep.errors import ManifestError, MerPrepError
from mer_prep.manifest import Clip, ImportRecord, check_unique, make_clip_id
from mer_prep.manifest_files import (
    clip_from_json,
    clip_to_json,
    read_manifest,
    read_record,
    write_manifest,
)
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.frames import read_bytes
from mer_prep.sources.validation import validate_clips
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.faults.catalogue import Tries, damaged, fault, instead, nothing, program, refused


def clip_of(root: Path, **fields: Any) -> Clip:
    """Return a clip of three frames."""
    clip = Clip(
        clip_id="toy/s1/c1",
        corpus="toy",
        subject="s1",
        clip="c1",
        root=str(root),
        frame_numbers=(1, 2, 3),
        frames=("s1/c1/1.png", "s1/c1/2.png", "s1/c1/3.png"),
        emotion="happiness",
        onset=1,
        apex=2,
        apex_source="annotated",
        offset=3,
        fps=200.0,
    )
    return dataclasses.replace(clip, **fields)


@contextmanager
def soon(seconds: float = 5) -> Iterator[None]:
    """Fail if something waits for ever, as for the writer of a pipe."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def named(name: str) -> dict[str, str]:
    """Return the fields of a clip that hold its name."""
    return {"clip": name, "clip_id": f"toy/s1/{name}"}


def stored(folder: Path, *clips: Clip) -> Path:
    """Write a manifest, ``toy.jsonl``, and return its path."""
    record = ImportRecord(corpus="toy", source="clips", root=clips[0].root)
    return write_manifest(folder, clips, record)


def line_with(name: str, value: Any) -> str:
    """Return the line of a clip with one field replaced."""
    record = json.loads(clip_to_json(clip_of(Path("/r"))))
    record[name] = value
    return json.dumps(record)


_PATHS = (
    *("../../etc/passwd", "/etc/passwd", "s1/../../x.png", "..", ".", "", "/", "//x", "s1/.."),
    *("a\0b.png", "a\nb.png", "\r", "\x7f", "\x85", "C:/x.png", "C:\\x.png", "\ud800.png"),
    *("http://host/x.png", "file:///etc/passwd", "s3://bucket/x", "ftp://h/x.avi", "rtsp://h"),
    *("/dev/zero", "/proc/self/mem", "./../x", "a/./../../b", "\udcff.png"),
)
_NAMES = ("", ".", "..", "a/b", "../x", "a\nb", "a\0b", "\ud800", "e\u0301", "a\x1b[2J", "/")


def _hostile_lines() -> Iterator[str]:
    for path in _PATHS:
        yield line_with("frames", [path, "2.png", "3.png"])
        yield line_with("frames", ["1.png", "2.png", path])
        record = json.loads(line_with("frames", []))
        yield json.dumps({**record, "video": path})
    for field, name in itertools.product(("subject", "clip", "corpus"), _NAMES):
        record = json.loads(line_with(field, name))
        record["clip_id"] = "/".join(record[one] for one in ("corpus", "subject", "clip"))
        yield json.dumps(record)
    for root in ("", "r", "./r", "../r", "/r/../..", "/r\0", "/r\n", "file:///r", "\ud800", "C:/r"):
        yield line_with("root", root)


@fault(
    17,
    "paths in a manifest that climb, lead elsewhere, or are no paths; names that are paths",
    without={
        "the check of paths": instead("mer_prep.manifest_files.check_relative", nothing),
        "the check of names": instead("mer_prep.manifest_files.is_name", lambda name: True),
        "the check of roots": instead("mer_prep.manifest_files.is_root", lambda root: True),
        "the check of characters": instead("mer_prep.manifest_checks.is_plain", lambda text: True),
    },
)
def hostile_lines(tries: Tries) -> None:
    for line in tries.of(_hostile_lines(), quick=500):
        with refused(ManifestError, "toy.jsonl, line 7"):
            clip_from_json(line, where="toy.jsonl, line 7")


@fault(
    17,
    "frames that are links out of the root, devices, pipes, sockets or folders",
    without={
        "following links before opening": instead("os.path.realpath", os.path.abspath),
        "regular files alone": instead("stat.S_ISREG", lambda mode: True),
    },
)
def special_files(tries: Tries) -> None:
    folder = tries.fresh()
    root, outside = folder / "root", folder / "outside"
    write_frame(outside / "1.png", 50)
    write_frame(root / "s1/c1/ok.png", 50)
    (folder / "rootlink").symlink_to(root)
    links = {
        "out": outside / "1.png",
        "up": Path("../../../outside/1.png"),
        "etc": Path("/etc/passwd"),
        "zero": Path("/dev/zero"),
        "memory": Path("/proc/self/mem"),
        "loop": Path("loop.png"),
        "nowhere": Path("missing.png"),
        "sibling": folder / "root2/1.png",
    }
    write_frame(folder / "root2/1.png", 50)
    for name, target in links.items():
        (root / f"s1/c1/{name}.png").symlink_to(target)
    (root / "s1/c1/second.png").symlink_to("out.png")
    (root / "s1/c1/third.png").symlink_to("second.png")
    (root / "inside.png").symlink_to("s1/c1/ok.png")
    (root / "again.png").symlink_to("inside.png")
    (root / "away").symlink_to(outside)
    os.mkfifo(root / "pipe.png")
    (root / "folder.png").mkdir()
    bad = [f"s1/c1/{name}.png" for name in (*links, "second", "third")]
    bad += ["away/1.png", "pipe.png", "folder.png", "s1", "missing.png", "s1/c1/ok.png/x"]
    for top, name in tries.of(itertools.product((root, folder / "rootlink"), bad), quick=99):
        clip = clip_of(top, frames=(name,), frame_numbers=(1,))
        with soon(), refused(MerPrepError):
            read_bytes(clip, name)
    good = ("s1/c1/ok.png", "inside.png", "again.png")
    for top, name in tries.of(itertools.product((root, folder / "rootlink"), good), quick=99):
        clip = clip_of(top, frames=(name,), frame_numbers=(1,))
        assert read_bytes(clip, name) == (root / "s1/c1/ok.png").read_bytes()


@fault(
    19,
    "a manifest cut off or changed at every byte",
    without={
        "strict lines": instead(
            "mer_prep.manifest_files.clip_from_json", lambda line, where: clip_of(Path("/r"))
        ),
        "the digest of what was written": instead(
            "hashlib.sha256", lambda data=b"": hashlib.blake2b(b"same")
        ),
    },
)
def damaged_manifests(tries: Tries) -> None:
    folder = tries.fresh()
    clips = [clip_of(Path("/r")), clip_of(Path("/r"), **named("c2"))]
    workspace = Workspace(folder)
    path = stored(workspace.manifests, *clips)
    whole = path.read_bytes()
    assert workspace.clips("toy") == clips
    for data in tries.of(damaged(whole), quick=300):
        path.write_bytes(data)
        with refused(ManifestError, str(path)):
            workspace.clips("toy")
        if b"\n" in data and not data.endswith(b"\n") and len(data) < len(whole) - 1:
            with refused(ManifestError, "line 2"):
                read_manifest(path)


_VALUES = (None, True, 0, -1, 1.5, "x", "", [], [None], [1.5], [True], ["x"], {}, {"a": 1}, [[1]])


def _right(name: str, value: Any) -> bool:
    """Return whether a value is one that a field may have, the others being as they are."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name in ("onset", "offset", "objective_class"):
        return value is None or whole
    if name == "apex":
        return whole
    if name == "fps":
        return value is None or ((whole or isinstance(value, float)) and value > 0)
    if name in ("emotion", "emotion_raw", "action_units_raw", "variant"):
        return value is None or isinstance(value, str)
    if name in ("restricted", "synthetic"):
        return isinstance(value, bool)
    if name == "source_digest":
        return isinstance(value, str)
    if name == "video":
        return value is None
    if name == "flags":
        return value in ([], ["x"])
    if name == "action_units":
        return value == []
    return False


@fault(
    19,
    "a value of another type in every field, keys twice, deep nesting, numbers that are none",
    without={
        "the types of fields": instead(
            "mer_prep.manifest_files._checked",
            lambda name, value, where: tuple(value) if isinstance(value, list) else value,
        ),
        "keys that stand once": instead("mer_prep.manifest_checks._no_duplicate_keys", dict),
    },
)
def mistyped_fields(tries: Tries) -> None:
    plain = json.loads(clip_to_json(clip_of(Path("/r"))))
    for name, value in tries.of(itertools.product(plain, _VALUES), quick=400):
        if name == "schema" or not _right(name, value):
            with refused(ManifestError, "line 3"):
                clip_from_json(line_with(name, value), where="line 3")
        else:
            clip_from_json(line_with(name, value), where="line 3")
    text = json.dumps(plain)
    others = [f'{text[:-1]}, "{name}": {json.dumps(plain[name])}}}' for name in plain]
    others += ["[" * 200_000, '{"a":' * 100_000, "null", "5", '"x"', "", " ", "{}", text + text]
    others += [text.replace("200.0", one) for one in ("NaN", "Infinity", "-Infinity", "1e999")]
    others += [text.replace("200.0", one) for one in ("9" * 5000, "0x1", "1_0", "'1'", "01")]
    for line in tries.of(others, quick=99):
        with refused(ManifestError, "line 3"):
            clip_from_json(line, where="line 3")


@fault(
    19,
    "manifests and import records of other schema versions, or that are no records at all",
    without={
        "the check of the version": instead(
            "mer_prep.manifest_files.check_schema",
            lambda facts, schema, where: facts.pop("schema", 0),
        ),
        "the types of a record": instead("mer_prep.manifest_checks.check_types", nothing),
    },
)
def other_versions(tries: Tries) -> None:
    folder = tries.fresh()
    path = stored(folder, clip_of(Path("/r")))
    facts = json.loads(path.with_suffix(".json").read_text())
    for schema in tries.of((0, 2, 99, None, "1", 1.5, True, [], {}), quick=99):
        with refused(ManifestError, "this mer-prep reads schema 1"):
            clip_from_json(line_with("schema", schema), where="x")
        path.with_suffix(".json").write_text(json.dumps({**facts, "schema": schema}))
        with refused(ManifestError, "this mer-prep reads schema 1"):
            read_record(path)
    finding = {"level": 1, "code": "x", "message": "x"}
    wrong: dict[str, tuple[Any, ...]] = {
        "corpus": (None, 5, "", "other", [], "../toy"),
        "source": (None, 5, []),
        "root": (None, 5, "", "r", "/r/..", "/r\n"),
        "synthetic": (1, "yes", None),
        "errata": (5, "x", [1], {}),
        "options": (5, [], {"a": 1}),
        "findings": (5, "x", [5], [{}], [finding], [{**finding, "level": "error", "more": 1}]),
        "recordings": (5, [5], [{}], [{"name": "x"}]),
        "manifest_sha256": (5, []),
    }
    texts = [json.dumps({**facts, name: one}) for name, all_ in wrong.items() for one in all_]
    texts += ["", "null", "[]", "5", "[" * 200_000, json.dumps({}), '{"schema": 1}', "\ud800"]
    for text in tries.of(texts, quick=99):
        path.with_suffix(".json").write_bytes(text.encode("utf-8", "surrogatepass"))
        with refused(ManifestError, "toy.json"):
            read_record(path)


@fault(
    19,
    "a byte-order mark, other line ends, a hundred thousand lines, a pipe in place of the file",
    without={
        "regular files alone": instead("mer_prep.manifest_files._check_regular", nothing),
        "the byte-order mark": instead(
            "mer_prep.manifest_files.strict_json",
            lambda line, where, what: json.loads("\ufeff" + line),
        ),
    },
)
def odd_files(tries: Tries) -> None:
    folder = tries.fresh()
    clips = [clip_of(Path("/r")), clip_of(Path("/r"), **named("c2"))]
    path = stored(folder, *clips)
    whole = path.read_bytes()
    forms = [
        mark + whole.replace(b"\n", end)
        for mark in (b"", b"\xef\xbb\xbf")
        for end in (b"\n", b"\r\n", b"\r")
    ]
    for data in tries.of([*forms, whole[:-1]], quick=99):
        path.write_bytes(data)
        assert read_manifest(path) == clips
    for data in tries.of(
        (whole + b"\n", b"\n" + whole, whole.decode().encode("utf-16"), whole + whole), quick=99
    ):
        path.write_bytes(data)
        with refused(ManifestError, str(path)):
            read_manifest(path)
    count = 2000 if tries.quick else 100_000
    line = clip_to_json(clip_of(Path("/r"), frames=("1.png",), frame_numbers=(1,))) + "\n"
    path.write_text("".join(line.replace("c1", f"c{k}") for k in range(count)))
    for _ in tries.of([count]):
        assert len(read_manifest(path)) == count
    for name in tries.of((".jsonl", ".json"), quick=2):
        special = path.with_suffix(name)
        special.unlink()
        special.mkdir()
        with refused(ManifestError, "regular file"):
            read_manifest(path) if name == ".jsonl" else read_record(path)


@fault(
    20,
    "one id twice, or under another case or Unicode form, in manifests and in folders",
    without={
        "ids that are unique": instead("mer_prep.manifest_files.check_unique", nothing),
        "one Unicode form": instead("unicodedata.normalize", lambda form, text: text),
        "the look at case": instead("mer_prep.sources.validation._clashes", lambda clips: []),
    },
)
def ids_twice(tries: Tries) -> None:
    words = ("Jos\u00e9", "\u00c5sa", "\u1e9b\u0323", "\uac00\uac01", "na\u00efve", "\u03d3")
    for word, where in tries.of(itertools.product(words, ("subject", "clip")), quick=99):
        forms = {normalize(form, word) for form in ("NFC", "NFD")}
        ids = {
            make_clip_id("toy", *(one, "c") if where == "subject" else ("s", one)) for one in forms
        }
        assert len(ids) == 1
        root = tries.fresh()
        for form in forms:
            parts = (form, "c1") if where == "subject" else ("s1", form)
            write_frame(root.joinpath(*parts, "1.png"), 50)
        if len(forms) > 1:
            with refused(ManifestError, "expression"):
                import_corpus("clips", root)
    clips = [clip_of(Path("/r"), **named(name)) for name in ("c1", "C1")]
    for same in tries.of((clips[:1] * 2, [*clips, clips[0]]), quick=9):
        with refused(ManifestError, "stands twice", "clips 1 and "):
            check_unique(same, where="toy.jsonl")
        path = stored(tries.fresh(), *clips)
        path.write_text("".join(clip_to_json(one) + "\n" for one in same))
        with refused(ManifestError, "stands twice"):
            read_manifest(path)
    for _ in tries.of([clips]):
        assert "id-case-clash" in [one.code for one in validate_clips(clips, frames="exist")]


@fault(
    22,
    "key frames out of order, not on disk or too far apart: all said at once",
    without={
        "the order of key frames": instead(
            "mer_prep.sources.validation._key_frames", lambda clip: []
        ),
        "the length": instead("mer_prep.sources.validation._length", lambda clip, seconds: []),
    },
)
def key_frame_nonsense(tries: Tries) -> None:
    root = tries.fresh()
    numbers = tuple(range(1, 241))
    for number in numbers:
        write_frame(root / f"{number}.png", 50, size=(8, 8))
    frames = {"frames": tuple(f"{n}.png" for n in numbers), "frame_numbers": numbers}
    expected = {
        (20, 10, 30): {("error", "apex-outside")},
        (10, 40, 30): {("error", "apex-outside")},
        (30, 20, 10): {
            ("error", "onset-after-offset"),
            ("error", "apex-outside"),
            ("error", "clip-short"),
        },
        (10, 10, 30): {("warning", "apex-on-boundary")},
        (10, 30, 30): {("warning", "apex-on-boundary")},
        (-5, 20, 30): {("error", "onset-not-on-disk")},
        (0, 20, 30): {("error", "onset-not-on-disk")},
        (10, 20, 300): {("warning", "offset-not-on-disk"), ("warning", "clip-long")},
        (1, 20, 230): {("warning", "clip-long")},
        (300, 350, 400): {
            *{("error", "onset-not-on-disk"), ("error", "apex-not-on-disk")},
            *{("warning", "offset-not-on-disk"), ("error", "clip-short")},
        },
        (10, 11, 12): {("warning", "clip-short")},
        (10, 20, 30): set(),
    }
    clips = [
        clip_of(
            root,
            onset=onset,
            apex=apex,
            offset=offset,
            clip=f"c{k}",
            clip_id=f"toy/s1/c{k}",
            **frames,
        )
        for k, (onset, apex, offset) in enumerate(expected)
    ]
    # All of them together: every clip has its findings, none hides another's.
    found: dict[str, set[tuple[str, str]]] = {}
    for one in validate_clips(clips, frames="exist"):
        found.setdefault(str(one.clip_id), set()).add((one.level, one.code))
    for clip, wanted in tries.of(zip(clips, expected.values(), strict=True), quick=99):
        assert found.get(clip.clip_id, set()) == wanted, clip
    workspace = tries.fresh()
    stored(workspace / "manifests", *clips)
    for _ in tries.of([1]):
        said = program("validate", "--frames", "exist", "--workspace", workspace, code=1)
        for wanted in expected.values():
            assert all(code in said.out for _, code in wanted)
