"""Pages, pictures and films of what somebody made to spoil them, on disks that are full."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import re
import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from mer_prep.errors import ConfigError, MerPrepError, TrainingError
from mer_prep.manifest import Clip, Finding, ImportRecord
from mer_prep.manifest_files import write_manifest
from mer_prep.reports import markup
from mer_prep.sources.frames import source_digest
from mer_prep.videos import write_video
from mer_prep.workspace import Workspace
from tests.conftest import write_frame
from tests.faults.catalogue import Tries, fault, in_process, instead, nothing, program, refused
from tests.reports import prepared

_RUNS = ("torch", "safetensors", "jinja2")

#: Texts that would be more than texts if a page took them as they are.
_TEXTS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title></style></template><h1 id=x>",
    "--><iframe src=//elsewhere></iframe><!--",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "url(//elsewhere/x) @import 'y'",
    "&lt;b&gt;&amp;quot;",
)


_environment = markup._environment


def _careless() -> Any:
    """Return templates that take texts as they are."""
    return _environment().overlay(autoescape=False)


#: Of every clip in a run: class and probabilities, flow, landmarks, failed frames and frames.
_PREDICTED = ("0", "0.75", "0.25", "0.5", "0.04", "0", "8")


class _Outline(HTMLParser):
    """Counts the elements of a page, with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: Counter[tuple[str, ...]] = Counter()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag, *(name for name, _ in attrs)] += 1


def _study(*, classes: tuple[str, ...] = ("down", "up"), subject: str = "s", leaky: bool = False):
    """Return a study of two subjects with two clips each."""
    from mer_prep.models.mol import PRESETS
    from mer_prep.protocols import Fold
    from mer_prep.training.recipes import TrainingSettings
    from mer_prep.training.selection import LEAKY, Selection
    from mer_prep.training.study import ClipEntry, Study

    entries = tuple(
        ClipEntry(f"toy/{subject}{s}/c{c}", "toy", f"toy/{subject}{s}", c, {}, f"{s}{c}")
        for s in range(2)
        for c in range(2)
    )
    folds = tuple(
        Fold(
            f"toy/{subject}{s}",
            tuple(one.clip_id for one in entries[2 - 2 * s : 4 - 2 * s]),
            tuple(one.clip_id for one in entries[2 * s : 2 * s + 2]),
        )
        for s in range(2)
    )
    return Study(
        model="mol",
        preset="tiny",
        architecture=PRESETS["tiny"],
        training=TrainingSettings(steps=2),
        reduce=2,
        start_landmarks=True,
        labels="megc2019-3",
        protocol="loso",
        classes=classes,
        seed=1,
        shuffled=False,
        synthetic=True,
        clips=entries,
        folds=folds,
        clip_lists={"all": "a" * 64},
        selection=Selection(LEAKY if leaky else "last"),
    )


def _make_run(run: Path, study: Any) -> None:
    """Write a finished run: every clip was called the first class."""
    from mer_prep.training.predictions import LossLog, write_fold
    from mer_prep.training.results import write_results
    from mer_prep.training.study import fold_folder, open_run

    open_run(run, study)
    head = ["clip_id", "corpus", "subject", "fold", "selection", "label", "predicted"]
    head += [f"p_{name}" for name in study.classes]
    head += ["flow_endpoint_error_px", "landmark_error_eye_centres", "landmark_failures", "frames"]
    for fold in study.folds:
        there = fold_folder(run, fold)
        there.mkdir(parents=True)
        entries = [one for one in study.clips if one.clip_id in fold.test]
        lines = [
            [one.clip_id, "toy", one.subject, fold.name, "last", str(one.label), *_PREDICTED]
            for one in entries
        ]
        text = "".join(",".join(_quoted(cells)) + "\n" for cells in [head, *lines])
        (there / "predictions.csv").write_text(text)
        facts = {"step": 2, "inner_subjects": [], "absent_classes": []}
        write_fold(
            there / "fold.json", {**facts, "computed": {"device": "cpu", "precision": "float32"}}
        )
        log = LossLog(there / "log.csv", ("loss", "flow"))
        for step in (1, 2):
            log.add(step, {"loss": 1.0 / step, "flow": 0.5})
    write_results(run, study)


def _text_or_error(work: Callable[[], Any]) -> Any:
    """Return what something gives, or the error for people that it raises."""
    try:
        return work()
    except MerPrepError as error:
        return error


def _quoted(cells: list[str]) -> list[str]:
    return [f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in cells]


def _report(root: Path, run: Path, study: Any) -> str:
    from mer_prep.reports.run import run_page

    return "".join(run_page(root, run, study).pieces())


def _changed(found: Any, places: tuple[Any, ...], value: Any) -> Any:
    """Return a value of JSON with something else in one place; without it for `...`."""
    changed = json.loads(json.dumps(found))
    holder = changed
    for place in places[:-1]:
        holder = holder[place]
    if value is ...:
        del holder[places[-1]]
    else:
        holder[places[-1]] = value
    return changed


def _places(found: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a value of JSON, of lists to their first."""
    items = found.items() if isinstance(found, dict) else enumerate(found[:1])
    for name, value in items:
        yield (*above, name)
        if isinstance(value, dict | list):
            yield from _places(value, (*above, name))


@fault(
    36,
    "results of a run that its predictions do not give",
    needs=_RUNS,
    without={
        "comparison with study and predictions": instead("mer_prep.training.scored._check", nothing)
    },
)
def changed_results(tries: Tries) -> None:
    from mer_prep.training.study import read_study

    root = tries.fresh()
    run = root / "runs" / "one"
    study = _study(leaky=True)
    _make_run(run, study)
    assert "LEAKY" in _report(root, run, read_study(run))
    path = run / "results.json"
    kept = json.loads(path.read_text())
    better = [(("scores", "all", name), 0.99) for name in ("uf1", "uar", "acc", "wf1")]
    better += [(("leaky",), False), (("synthetic",), False), (("selection",), "last")]
    better += [(("scores", "all", "confusion"), [[2, 0], [0, 2]]), (("clips",), 442)]
    better += [(("scores", "all", "interval_95", "uf1"), [0.98, 1.0])]
    odd = [(one, value) for one in _places(kept) for value in (..., "<b>", 1e308, [], {"x": None})]
    for places, value in tries.of([*better, *odd], quick=30):
        path.write_text(json.dumps(_changed(kept, places, value)))
        text = _text_or_error(lambda: _report(root, run, study))
        if isinstance(text, MerPrepError):
            assert isinstance(text, TrainingError), text
            assert text.hint, text
            continue
        assert (places, value) not in better, places
        assert "<b>" not in text
        assert "LEAKY" in text


@fault(
    23,
    "names in the pages of runs that would be more than names",
    needs=_RUNS,
    without={
        "escapes in charts": instead("mer_prep.reports.charts.escaped", str),
        "escapes in templates": instead("mer_prep.reports.markup._environment", _careless),
        "telling texts from styles": instead("mer_prep.reports.page._TEXTS", re.compile("(?!)")),
    },
)
def hostile_names_of_runs(tries: Tries) -> None:
    from mer_prep.reports.page import check_self_contained

    plain: Counter[tuple[str, ...]] = Counter()
    for text in ("plain", *tries.of(_TEXTS)):
        root = tries.fresh()
        name = text.replace("/", "∕")  # a name of a folder, and a part of a name, has none
        run = root / "runs" / name
        study = _study(classes=(text, f"{text}2"), subject=name)
        _make_run(run, study)
        for fold in run.glob("folds/*"):
            (fold / "log.csv").write_text(f"step,{text},b\n1,1,1\n2,1,2\n")
        page = _report(root, run, study)
        found = _Outline(page).found
        plain = plain or found
        assert found == plain, found - plain
        if text != "plain":
            assert text not in page or not set("<>'\"&") & set(text)
        check_self_contained(f'<p title="{_attribute(text)}">x</p>')


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def _losses() -> list[str]:
    numbers = ("8e307", "-8e307", "1e308", "inf", "nan", "5e-324", "-0", "1e-300", "9" * 300)
    lines = [f"step,loss\n1,{one}\n2,{other}\n" for one in numbers for other in (*numbers, "1")]
    steps = ("999999999", "10" * 400, "-5", "0", "1.5", "", "x", "<b>")
    lines += [f"step,loss\n{step},1\n2,2\n" for step in steps]
    odd = (
        "",
        "step\n",
        "\n1,2\n",
        "step,loss\n1\n1,2,3\n",
        "a\0b,c\n1,1\n",
        "step,loss\n1,1e400\n",
    )
    return [*lines, *odd, 'step,loss\n1,"' + "x" * 200_000 + "\n"]


@fault(
    13,
    "losses that are damaged, huge, or no numbers",
    needs=_RUNS,
    without={
        "the largest that is drawn": instead("mer_prep.reports.charts._is_drawn", math.isfinite),
        "the smallest range of an axis": instead(
            "mer_prep.reports.charts._widened",
            lambda span: span if span[1] > span[0] else (span[0] - 0.5, span[1] + 0.5),
        ),
        "lines that hold losses": instead(
            "mer_prep.training.predictions.LossLog._lines",
            lambda log: log.path.read_text().splitlines()[1:],
        ),
    },
)
def hostile_losses(tries: Tries) -> None:
    from mer_prep.reports.run_scores import loss_charts

    run, study = tries.fresh() / "runs" / "one", _study()
    _make_run(run, study)
    for text in tries.of(_losses(), quick=100):
        for fold in run.glob("folds/*"):
            (fold / "log.csv").write_text(text)
        drawn = re.findall(r' d="([^"]*)"', loss_charts(run, study))
        assert not any(re.search(r"nan|inf|e\+", path) for path in drawn), drawn


def _corpus(folder: Path, *, emotion: str = "happiness", message: str = "") -> Workspace:
    """Import a corpus of one clip with five frames, and prepare it."""
    names = [f"{number}.png" for number in range(5)]
    for number, name in enumerate(names):
        write_frame(folder / "source" / name, 90 + number)
    clip = Clip(
        clip_id="toy/s1/c1",
        corpus="toy",
        subject="s1",
        clip="c1",
        root=str(folder / "source"),
        frame_numbers=tuple(range(5)),
        frames=tuple(names),
        fps=100.0,
        onset=0,
        apex=2,
        offset=4,
        apex_source="annotated",
        emotion=emotion,
        emotion_raw=emotion,
        action_units_raw=emotion,
    )
    clip = dataclasses.replace(clip, source_digest=source_digest(clip))
    findings = (Finding("warning", "odd", message, clip.clip_id),) if message else ()
    record = ImportRecord("toy", source="clips", root=clip.root, findings=findings)
    workspace = Workspace(folder / "workspace")
    write_manifest(workspace.manifests, [clip], record)
    prepared.prepare(
        workspace,
        "toy",
        ("flow", "strain", "apex"),
        warnings=lambda *_: [message] if message else [],
    )
    return workspace


@fault(
    23,
    "names and messages in quality-control pages that would be more than that",
    needs=("jinja2",),
    without={
        "escapes in templates": instead("mer_prep.reports.markup._environment", _careless),
        "telling texts from styles": instead("mer_prep.reports.page._TEXTS", re.compile("(?!)")),
    },
)
def hostile_names_of_clips(tries: Tries) -> None:
    from mer_prep.reports.qc import write_qc

    plain: Counter[tuple[str, ...]] = Counter()
    for text in ("plain", *tries.of(_TEXTS, quick=4)):
        workspace = _corpus(tries.fresh(), emotion=text, message=text)
        summary = write_qc(workspace, "toy", workspace.reports)
        assert summary.problems == []
        found = _Outline(summary.path.read_text(encoding="utf-8")).found
        plain = plain or found
        assert found == plain, found - plain


#: What somebody writes into shards that are whole by their checksums: stage, array or attribute.
_ARRAYS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("landmarks", "landmarks", lambda found: found[:, :3]),
    ("landmarks", "landmarks", lambda found: np.zeros_like(found)),
    ("landmarks", "landmarks", lambda found: found[:1]),
    ("align", "frames", lambda found: found[..., 0]),
    ("align", "frames", lambda found: found[:2]),
    ("align", "landmarks", lambda found: found[..., :1]),
    ("flow", "pairs", lambda found: found + 100),
    ("flow", "pair_numbers", lambda found: found[:, :1]),
    ("flow", "flow", lambda found: found[:, :1]),
    ("apex", "score", lambda found: found[:2]),
    ("apex", "key_frame_numbers", lambda found: found[:1]),
    ("apex", "confidence", lambda _: "much"),
    ("apex", "apex_error", lambda _: "late"),
    ("align", "jitter_px", lambda _: 1e308),
    ("align", "jitter_px", lambda _: math.nan),
    ("align", "head_motion_px", lambda _: -5.0),
    ("flow", "mean_magnitude_px", lambda _: "<b>"),
    ("landmarks", "frames_without_face", lambda _: "x"),
)


@contextmanager
def _stages_give(stage: str, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    given = prepared.arrays_of

    def changed(of: str, clip: Clip) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, facts = given(of, clip)
        for part in (arrays, facts):
            if of == stage and name in part:
                part[name] = change(part[name])
        return arrays, facts

    with mock.patch.object(prepared, "arrays_of", changed):
        yield


@contextmanager
def _unguarded(_: str) -> Iterator[None]:
    yield


@fault(
    26,
    "shards that are whole and hold what no stage gives, on pages, pictures and films",
    needs=("jinja2",),
    without={
        "one error of results that do not fit, on pages": instead(
            "mer_prep.reports.qc_card.drawing", _unguarded
        ),
        "one error of results that do not fit, in pictures": instead(
            "mer_prep.inspection.drawing", _unguarded
        ),
        "one error of results that do not fit, in films": instead(
            "mer_prep.film.drawing", _unguarded
        ),
        "figures that are numbers": instead("mer_prep.reports.qc_clips._is_number", lambda _: True),
    },
)
def unfitting_results(tries: Tries) -> None:
    from mer_prep.film import film_clip
    from mer_prep.inspection import draw_clip
    from mer_prep.reports.qc import write_qc
    from mer_prep.stages.survey import results_of_clip

    for stage, name, change in tries.of(_ARRAYS, quick=6):
        with _stages_give(stage, name, change):
            workspace = _corpus(tries.fresh())
        summary = write_qc(workspace, "toy", workspace.reports)
        text = summary.path.read_text(encoding="utf-8")
        assert text.count('class="card"') == 1
        assert ("Not drawn." in text) == bool(summary.problems)
        clip = workspace.clips("toy")[0]
        results = results_of_clip(workspace, clip)
        for draw, out in ((draw_clip, "a.png"), (film_clip, "a.avi")):
            path = workspace.root / out
            error = _text_or_error(functools.partial(draw, clip, results, path))
            if isinstance(error, MerPrepError):
                assert error.hint, error
                assert not path.exists()
        assert list(workspace.root.rglob("*.partial")) == []


def _film(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), np.uint8)
    write_video(path, noise, fps=25.0)


@fault(
    4,
    "a limit on the size of pages, pictures and films",
    needs=("jinja2",),
    without={
        "reading films back": instead("mer_prep.videos._readable_frames", lambda _: 10**9),
        "pictures that appear when they are whole": instead(
            "mer_prep.store.files.partial_path", lambda target: target
        ),
    },
)
def limited_pages(tries: Tries) -> None:
    workspace = _corpus(tries.fresh())
    words = ("toy/s1/c1", "--workspace", workspace.root)
    out = workspace.root.parent
    commands = {
        "page": ("qc", "--workspace", workspace.root, "--out", out, "--jobs", 1),
        "picture": ("inspect", *words, "--show", out / "clip.png"),
        "film": ("inspect", *words, "--video", out / "clip.avi"),
        "film in MPEG-4": ("inspect", *words, "--video", out / "clip.mp4"),
    }
    for command, limit in tries.of(
        [(one, size) for one in commands.values() for size in (100, 3000, 7000)], quick=12
    ):
        names = ("qc-toy.html", "clip.png", "clip.avi", "clip.mp4")
        for name in names:
            (out / name).write_text("as it was")
        before = sorted(path.name for path in out.iterdir())

        def limited(command: tuple[object, ...] = command, limit: int = limit) -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            return _refusal(command)

        assert in_process(limited) == 0
        assert sorted(path.name for path in out.iterdir()) == before
        assert all((out / name).read_text() == "as it was" for name in names)


def _refusal(command: tuple[object, ...]) -> int:
    """Run a command that must fail, and return 0 if it says what to do."""
    from click.testing import CliRunner

    from mer_prep.cli import cli

    result = CliRunner().invoke(cli, [str(word) for word in command])
    error = result.exception
    told = isinstance(error, OSError) or (isinstance(error, MerPrepError) and bool(error.hint))
    return 0 if told else 1


@fault(
    40,
    "pages, pictures and films where there is a folder, a pipe, or no way to write",
    needs=("jinja2",),
    without={
        "looking at what is there": instead("mer_prep.store.files.check_target", nothing),
    },
)
def taken_places(tries: Tries) -> None:
    workspace = _corpus(tries.fresh())
    out = workspace.root.parent / "out"
    out.mkdir()
    kinds: dict[str, Callable[[Path], object]] = {"folder": Path.mkdir, "pipe": os.mkfifo}
    names = {"clip.png": "--show", "clip.mp4": "--video", "qc-toy.html": ""}
    for (name, option), (kind, make) in tries.of(
        [(one, other) for one in names.items() for other in kinds.items()]
    ):
        path = out / name
        make(path)
        before = path.lstat().st_ino
        words: tuple[object, ...] = ("qc", "--jobs", 1, "--out", out)
        if option:
            words = ("inspect", "toy/s1/c1", option, path)
        said = program(*words, "--workspace", workspace.root, code=2)
        # click itself refuses some folders.
        assert "is a directory" in said.err or "is there already and is no file" in said.err, kind
        assert path.lstat().st_ino == before
        assert [one.name for one in out.iterdir()] == [name]
        path.rmdir() if kind == "folder" else path.unlink()
    with refused(ConfigError, "is no file"):
        from mer_prep.reports.page import Page, write_page

        write_page(Page(title="x"), out)


@fault(
    23,
    "names and messages that would steer the terminal they are printed on",
    without={
        "escapes for control characters": instead("mer_prep.terminal.printable", str),
    },
)
def steering_messages(tries: Tries) -> None:
    for text in tries.of(("\x1b]0;owned\x07", "\x1b[2J", "a\rb", "\x9b31m", "\x08\x08")):
        workspace = _corpus(tries.fresh(), emotion=f"happy{text}", message=text)
        entry = {"clip_id": "toy/s1/c1", "stage": None, "error": "X", "message": text}
        workspace.failures.write_text(json.dumps(entry) + "\n")
        escaped = f"\\x{ord(next(one for one in text if not one.isprintable())):02x}"
        for words in (("status", "--failed"), ("inspect", "toy/s1/c1"), ("validate",)):
            said = program(*words, "--workspace", workspace.root)
            assert not set(said.out + said.err) & set("\x1b\x07\r\x9b\x08"), (words, said.out)
            assert escaped in said.out, (words, said.out)
        said = program("inspect", "toy/s1/c1", "--json", "--workspace", workspace.root, code=0)
        assert not set(said.out) & set("\x1b\x07\r\x9b\x08")
        assert json.loads(said.out)["clip"]["emotion"] == f"happy{text}"
