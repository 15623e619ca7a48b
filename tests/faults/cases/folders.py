"""Source folders that lead in circles or elsewhere, and names that no one expects."""

from __future__ import annotations

import ctypes
import io
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from mer_prep.manifest_files import read_manifest, read_record, write_manifest
from mer_prep.sources.corpus import import_corpus
from mer_prep.sources.folders import walk
from tests.conftest import write_frame
from tests.faults.cases.manifests import soon
from tests.faults.cases.workbooks import Book, books, same_clips
from tests.faults.catalogue import Tries, fault, in_process, instead

#: By name how a link is laid into a folder of a tree, and the code of its finding.
_LINKS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "itself": (lambda root, at: at.symlink_to(at.name), "link-broken"),
    "the root": (lambda root, at: at.symlink_to(root), "link-cycle"),
    "its folder": (lambda root, at: at.symlink_to("."), "link-cycle"),
    "above": (lambda root, at: at.symlink_to(".."), "link-cycle"),
    "nowhere": (lambda root, at: at.symlink_to("missing"), "link-broken"),
    "everything": (lambda root, at: at.symlink_to("/"), "link-cycle"),
    "elsewhere": (lambda root, at: at.symlink_to("/usr"), "link-outside"),
    "devices": (lambda root, at: at.symlink_to("/dev/pts"), "link-outside"),
}


def _trees(tries: Tries) -> Iterator[Book]:
    yield from books(tries, headless=True)
    root = tries.fresh() / "clips"
    for number in range(1, 4):
        write_frame(root / f"s1/c1/{number}.png", 50)
    yield Book("clips", root, Path(), ())


@fault(
    18,
    "links that lead to themselves, up, out or nowhere, in the tree of every corpus",
    without={
        "not following links": instead(
            "mer_prep.sources.folders._note_link", lambda root, parts, findings: None
        ),
        "a word on broken links": instead("os.path.exists", lambda path: True),
    },
)
def looping_links(tries: Tries) -> None:
    ways = [(book, name) for book in _trees(tries) for name in _LINKS]
    for book, name in tries.of(ways, quick=27):
        lay, code = _LINKS[name]
        whole = _read(book)
        below = sorted({path.parent for path in book.root.rglob("*.*") if path.is_file()})
        places = [book.root / "a-link", below[-1] / "a-link"]
        for place in places:
            lay(book.root, place)
        with soon(20):
            found = _read(book)
        same_clips(found, whole)
        named = {one.where for one in found.record.findings if one.code == code}
        assert {place.relative_to(book.root).as_posix() for place in places} <= named, (
            book.corpus,
            name,
            found.record.findings,
        )
        for place in places:
            place.unlink()


def _read(book: Book):  # type: ignore[no-untyped-def]
    return import_corpus(book.corpus, book.root, errata=False)


@fault(
    18,
    "two links to each other, deep trees, and links in long chains",
    without={"the depth": instead("mer_prep.sources.folders.MAX_FOLDERS", 3)},
)
def deep_trees(tries: Tries) -> None:
    for depth in tries.of((1, 9, 10, 40, 200), quick=9):
        root = tries.fresh()
        folder = root
        for _ in range(depth):
            folder = folder / "d"
            folder.mkdir()
        write_frame(root / "s1/c1/1.png", 50)
        (root / "ping").symlink_to("pong")
        (root / "pong").symlink_to("ping")
        for number in range(60):
            (root / f"chain{number}").symlink_to(f"chain{number + 1}")
        (root / "chain60").symlink_to(root)
        findings: list = []
        folders = walk(root, findings)
        assert ("s1", "c1") in [one.parts for one in folders]
        assert len(folders) == 3 + min(depth, 9)
        codes = [one.code for one in findings]
        assert ("folder-too-deep" in codes) == (depth > 9)
        assert codes.count("link-broken") + codes.count("link-cycle") == 63


#: Most names work, and the others are refused by name.
_GOOD_NAMES = (
    *("with space", " lead", "trailing.", "quote's", 'double"quote', "a;b", "$HOME", "`id`", "-rf"),
    *(
        "a*b?",
        "[x]",
        "%s%d",
        "\\back",
        "#1",
        "a&b",
        "a,b",
        "~",
        "ab:c",
        "CON",
        "'; DROP TABLE x; --",
    ),
    *("\u00fcml\u00e4ut", "\u4e2d\u6587", "\U0001f600", "e\u0301", "\u202eabc"),
    *("x" * 250, "\u00e9" * 125),
)
_BAD_NAMES = (
    *("new\nline", "tab\tstop", "esc\x1b[2J", "bell\x07", "del\x7f", "a:b"),
    *(b"\xff\xfe", b"latin\xe9"),
)


def _tree_named(root: Path, name: str | bytes) -> None:
    folder = os.path.join(os.fsencode(root), os.fsencode(name), os.fsencode(name))
    os.makedirs(folder)
    picture = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    for number in (1, 2, 3):
        with open(os.path.join(folder, b"%d.png" % number), "wb") as file:
            file.write(picture)
    write_frame(root / "plain/c/1.png", 50)


@fault(
    23,
    "spaces, quotes, other scripts, newlines, raw bytes and long names, in any locale",
    without={
        "the check of paths": instead(
            "mer_prep.sources.expressions.check_relative", lambda path, where: path
        ),
        "findings that can be printed": instead(
            "mer_prep.sources.corpus._printable", lambda finding: finding
        ),
    },
)
def odd_names(tries: Tries) -> None:
    for name in tries.of((*_GOOD_NAMES, *_BAD_NAMES), quick=99):
        root, workspace = tries.fresh(), tries.fresh()
        _tree_named(root, name)
        imported = import_corpus("clips", root)
        subjects = {one.subject for one in imported.clips}
        if name in _GOOD_NAMES:
            assert len(subjects) == 2, (name, imported.record.findings)
        else:
            assert subjects == {"plain"}, name
            (finding,) = [one for one in imported.record.findings if one.level == "error"]
            assert finding.code == "frames-unusable"
            assert str(finding).isprintable()
        path = write_manifest(workspace, imported.clips, imported.record)
        assert read_manifest(path) == imported.clips
        assert read_record(path) == imported.record


_LOCALES: tuple[dict[str, str], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1:strict"},
)


@fault(
    23,
    "names of other scripts printed in a locale that has none of them",
    without={"printing whatever comes": instead("mer_prep.cli.print_anything", lambda: None)},
)
def narrow_locales(tries: Tries) -> None:
    names = ("\u4e2d\u6587 \u00fc", "\U0001f600", b"latin\xe9", "new\nline")
    ways = [(name, one) for name in names for one in _LOCALES]
    for name, variables in tries.of(ways, quick=6):
        root, workspace = tries.fresh(), tries.fresh()
        _tree_named(root, name)
        for arguments in (
            ("import", "clips", root),
            ("validate",),
            ("validate", "--json"),
            ("inspect", "clips/no such \u00e9/\u4e2d"),
        ):
            code, said = _spoken(variables, *arguments, "--workspace", workspace)
            assert code in (0, 1, 3), (name, variables, arguments, said)
            assert "Traceback" not in said, said
            assert "unexpected" not in said, said


def _spoken(variables: dict[str, str], *words: object) -> tuple[int, str]:
    """Run the program with narrow streams, as under a locale of the variables."""
    encoding = variables.get("PYTHONIOENCODING", "ascii:surrogateescape").partition(":")
    read, write = os.pipe()
    os.set_blocking(read, False)

    def run() -> int:
        from mer_prep import cli

        os.dup2(write, 1)
        os.dup2(write, 2)
        errors = encoding[2] or "strict"
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding[0], errors)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding[0], errors)
        sys.argv = ["mer-prep", *map(str, words)]
        try:
            cli.main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            return end.code if isinstance(end.code, int) else 1
        return 0

    code = in_process(run)
    os.close(write)
    with open(read, "rb") as stream:
        return code, stream.read().decode("utf-8", "replace")


#: Kept, as a removal takes the other away.
_real = os.path.realpath

#: Events of the interpreter that name what is opened or listed.
_OPENING = ("open", "os.listdir", "os.scandir", "os.chdir", "os.rename", "os.remove", "os.mkdir")


def _opened_outside(allowed: list[Path], work: Callable[[], None]) -> list[str]:
    """Return what is opened or listed outside of some folders while something is done."""
    tops = [_real(one) for one in allowed]
    outside: list[str] = []
    watching = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _OPENING or not watching or not arguments:
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        real = _real(os.fsdecode(path))
        if not any(real == top or real.startswith(top.rstrip("/") + "/") for top in tops):
            outside.append(f"{event} {real}")

    sys.addaudithook(hook)
    try:
        work()
    finally:
        watching.clear()
    return outside


def _hostile_tree(root: Path, secret: Path) -> None:
    """Lay links to a file outside under every name that an importer opens."""
    names = ("CASME2-coding-another.xlsx", "labels.csv", "notes.txt", "clip.avi", "s1/clip.mp4")
    names += ("CASME2-ObjectiveClasses.xlsx", "SAMM_Micro_FACS_Codes_v2.xlsx", "s1/c1/9.png")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).symlink_to(secret)
    (root / "away").symlink_to(secret.parent)
    os.mkfifo(root / "CASME2-coding-pipe.xlsx")


@fault(
    17,
    "an import, a check and a run that would open what lies outside of the roots given",
    without={
        "links checked before opening": instead(
            "mer_prep.sources.folders.lies_below", lambda path, root: True
        ),
        "frames checked before opening": instead("os.path.realpath", os.path.abspath),
    },
)
def nothing_outside(tries: Tries) -> None:
    outside = tries.fresh()
    secret = outside / "secret.csv"
    secret.write_text("Subject,Filename\n")
    trees = list(_trees(tries))
    for book in trees:
        _hostile_tree(book.root, secret)
    allowed = [Path(sys.prefix), Path(sys.base_prefix), Path(cv2.__file__).parent.parent]
    allowed += [Path(__file__).parents[3], Path("/proc"), Path("/dev/null"), Path("/sys")]
    allowed += [Path("/usr/share"), Path("/usr/lib"), Path("/lib"), Path("/etc/localtime")]
    if tries.quick:
        trees = [one for one in trees if one.corpus in ("casme2", "clips")]
    for book in tries.of(trees):
        workspace = tries.fresh()
        roots = [*allowed, book.root, book.root.parent, workspace]

        def work(book: Book = book, workspace: Path = workspace) -> None:
            from click.testing import CliRunner

            from mer_prep.cli import cli

            at = ["--workspace", str(workspace), "--jobs", "1"]
            for words in (
                ["import", book.corpus, str(book.root), *at],
                ["validate", "--frames", "whole", *at[:2]],
                ["difference", *at, "--dry-run"],
            ):
                CliRunner().invoke(cli, words)

        def run(work: Callable[[], None] = work, roots: list[Path] = roots) -> int:
            found = _opened_outside(roots, work)
            print("\n".join(found[:9]), file=sys.stderr)
            return 1 if found else 0

        with soon(60):
            assert in_process(run) == 0, book.corpus


class _Watch:
    """Tells, by the system's own word, whether a file was opened by anyone."""

    _OPENED, _NONBLOCK = 0x20, 0o4000

    def __init__(self, path: Path) -> None:
        system = ctypes.CDLL(None, use_errno=True)
        self._queue = system.inotify_init1(self._NONBLOCK)
        added = system.inotify_add_watch(self._queue, os.fsencode(path), self._OPENED)
        assert self._queue >= 0
        assert added >= 0

    def opened(self) -> bool:
        """Return whether it was, and stop watching."""
        try:
            return len(os.read(self._queue, 4096)) >= struct.calcsize("iIII")
        except BlockingIOError:
            return False
        finally:
            os.close(self._queue)


@fault(
    17,
    "a list of other files under the name of a video, which a video library follows",
    without={
        "the look at the first bytes": instead(
            "mer_prep.sources.videos._is_video", lambda start: True
        )
    },
)
def playlists(tries: Tries) -> None:
    video = Path(tempfile.mkdtemp(dir=tries.folder)) / "video.mp4"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 64))
    for shade in range(5):
        writer.write(np.full((64, 64, 3), 40 * shade, np.uint8))
    writer.release()
    stream = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{video}\n#EXT-X-ENDLIST\n"
    lists = {
        "concat": "ffconcat version 1.0\nfile link.mp4\n",
        "unsafe": f"ffconcat version 1.0\nfile '{video}'\n",
        "stream": stream,
        "session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "smil": f"<smil><body><video src='{video}'/></body></smil>",
        "empty": "",
    }
    suffixes = (".avi", ".mp4", ".mkv", ".mpg")
    for name, suffix in tries.of([(n, s) for n in lists for s in suffixes], quick=12):
        root = tries.fresh()
        shutil.copy(video, root / "good.mp4")
        (root / f"bad{suffix}").write_text(lists[name])
        (root / "link.mp4").symlink_to(video)
        watch = _Watch(video)
        imported = import_corpus("clips", root)
        assert not watch.opened(), (name, suffix)
        assert [one.clip for one in imported.clips] == ["good"]
        codes = [one.code for one in imported.record.findings if one.level == "error"]
        assert codes == ["video-unreadable"] * 2
