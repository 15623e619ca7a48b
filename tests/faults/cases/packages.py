"""Packages that are missing, broken, or installed twice over each other."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from itertools import combinations
from pathlib import Path
from unittest import mock

from mer_prep.errors import DependencyError
from tests.faults.cases.command_lines import Desk
from tests.faults.catalogue import Said, Tries, fault, instead, program, refused


@contextmanager
def _absent(*modules: str) -> Iterator[None]:
    """Make modules impossible to import, and mer-prep be imported anew where it is needed."""
    from mer_prep.ops.tvl1 import _kernel

    real = metadata.version

    def version(name: str) -> str:
        if name.replace("_", "-") in gone:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    gone = {*modules, *(f"{one}-bin" for one in modules)}
    blocked = dict.fromkeys(modules)
    for name in sys.modules:
        if name.partition(".")[0] in modules:
            blocked[name] = None
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(sys.modules, blocked))
        stack.enter_context(mock.patch.object(metadata, "version", version))
        _kernel.cache_clear()
        yield
    _kernel.cache_clear()


def _needing(desk: Desk) -> dict[str, tuple[str, list[list[str]]]]:
    """Return by module what must be said without it, and the commands that need it."""
    at = ["-w", str(desk.workspace)]
    training = [
        ["train", *at],
        ["pretrain", *at],
        ["evaluate", "run", *at],
        ["predict", "casme2/sub01/EP01", "--run", "run", *at],
    ]
    finding = [[name, *at] for name in ("landmarks", "align", "flow", "strain", "apex", "tim")]
    finding += [["run", name, *at] for name in ("onset-apex", "mol", "frl-dgt", "ststnet-uvos")]
    return {
        "dlib": ('pip install "mer-prep[dlib]"', finding),
        "torch": ('pip install "mer-prep[train]"', [*training, ["models", "mol"]]),
        "safetensors": ('pip install "mer-prep[train]"', training),
        "sklearn": (
            'pip install "mer-prep[baselines]"',
            [["train", "--model", name, *at] for name in ("lbp-top-svm", "bi-woof-svm")],
        ),
        "distributed": (
            'pip install "mer-prep[dask]"',
            [[name, "--engine", "dask", *at] for name in ("align", "flow")],
        ),
        "ray": ('pip install "ray"', [[name, "--engine", "ray", *at] for name in ("align", "tim")]),
    }


def _other(desk: Desk) -> list[list[str]]:
    """Return commands that need none of these."""
    at = ["-w", str(desk.workspace)]
    return [
        ["--help"],
        ["--version"],
        ["labels"],
        ["protocols"],
        ["stages"],
        ["run", "list"],
        ["status", *at],
        ["validate", *at],
        ["verify", *at],
        ["gc", *at],
        ["doctor", "-w", str(desk.folder / "new")],
        ["composite", "--out", str(desk.folder / "composite"), *at],
    ]


@fault(
    38,
    "a package that is missing, for every command that needs it and for all that do not",
    without={
        "the line for pip": instead(
            "mer_prep.errors.DependencyError.__str__", lambda self: self.what
        )
    },
)
def missing_packages(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    needing = _needing(desk)
    ways = [(module, words) for module, (_, lines) in needing.items() for words in lines]
    for module, words in tries.of(ways, quick=3):
        with _absent(module):
            said = program(*words, code=1)
        assert needing[module][0] in said.err, (module, words, said.err)
        # Digests of the source frames may be kept: they are no result.
        changed = {path for path, facts in desk.tree().items() if facts != desk.before.get(path)}
        kept = {str(desk.workspace / one) for one in ("", "cache", "cache/.sources")}
        kept.add(str(desk.workspace / "cache" / ".sources" / "casme2.json"))
        assert changed <= kept, f"{words} wrote {changed - kept}"
    for module, words in tries.of(
        [(module, words) for words in _other(desk) for module in (*needing, "jinja2")], quick=2
    ):
        with _absent(module):
            said = program(*words)
        assert said.code in (0, 1), (module, words, said)
        assert "pip install" not in said.err, (module, words, said.err)


@fault(
    38,
    "a missing package, in what doctor shows",
    without={
        "the look at dlib": instead("mer_prep.doctor._dlib", lambda: iter(())),
        "the look at PyTorch": instead("mer_prep.doctor._torch", lambda: iter(())),
    },
)
def doctor_and_packages(tries: Tries) -> None:
    for module, line in tries.of(
        {"dlib": "mer-prep[dlib]", "torch": "mer-prep[train]", "openpyxl": "openpyxl"}.items()
    ):
        with _absent(module):
            said = program("doctor", "-w", tries.fresh())
        rows = [row.split() for row in said.out.splitlines()]
        named = [number for number, row in enumerate(rows) if row[1:2] == [module]]
        assert named, said.out
        (place,) = named
        assert rows[place][0] in ("missing", "problem"), said.out
        assert "pip install" in " ".join(rows[place + 1]), said.out
        assert line in " ".join(rows[place + 1]), said.out


def _wheels(folder: Path, *names: str) -> Path:
    """Write what an installed distribution leaves for the look-up of its name and version."""
    for name in names:
        place = folder / f"{name.replace('-', '_')}-4.1.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 4.1\n")
    return folder


def _opencv(wheels: Path, *, contrib: bool, words: Sequence[str]) -> Said:
    """Run a command where further wheels are installed, with or without the contrib modules."""
    import cv2

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "path", [str(wheels), *sys.path]))
        if not contrib:
            stack.enter_context(mock.patch.object(cv2, "optflow", None))
        return program(*words)


@fault(
    38,
    "two OpenCV wheels over each other, or one without TV-L1",
    without={
        "the count of the wheels": instead(
            "mer_prep.ops.tvl1.opencv_distributions", lambda: ["opencv-x 4"]
        ),
        "the look for TV-L1": instead("mer_prep.ops.tvl1.check_tvl1", lambda: None),
    },
)
def opencv_wheels(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    wheels = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
    wheels += ("opencv-contrib-python-headless",)
    ways = [*combinations(wheels[:3], 2)] + [(one,) for one in wheels[:3]]
    for pair in tries.of(ways, quick=1):
        folder = _wheels(tries.fresh(), *pair)
        for contrib in (True, False):
            words = ["doctor", "-w", str(desk.folder / "new")]
            said = _opencv(folder, contrib=contrib, words=words)
            for text in ("distributions overwrite each other", *pair, "pip uninstall -y"):
                assert text in said.out, (pair, text, said.out)
            assert ("cv2.optflow is missing" in said.out) is not contrib, said.out
    stages = (["flow"], ["strain"], ["run", "onset-apex"])
    folder = _wheels(tries.fresh(), wheels[0])
    for words in tries.of(stages, quick=1):
        line = [*words, "--set", "flow.engine=opencv", "-w", str(desk.workspace)]
        said = _opencv(folder, contrib=False, words=line)
        assert said.code == 1, said
        for text in ("cv2.optflow is missing", "opencv-python 4.1", "pip install opencv-contrib"):
            assert text in said.err, (text, said.err)
        assert not list(desk.workspace.rglob("*.h5"))


@contextmanager
def _without_search() -> Iterator[None]:
    with ExitStack() as stack:
        for room in ("ops.faces", "stages.landmarks"):
            name = f"mer_prep.{room}.predictor_file"
            stack.enter_context(mock.patch(name, return_value=Path(__file__)))
        yield


@fault(
    38,
    "the 68-point model that is missing or is another file",
    without={
        "the search for the model": _without_search,
    },
    needs=("dlib",),
)
def missing_predictor(tries: Tries) -> None:
    from mer_prep.stages.landmarks import LandmarkParams, Landmarks

    desk = Desk(tries.fresh())
    wrong = [desk.folder / "absent.dat", desk.folder, desk.places["file"]]
    for path in tries.of(wrong):
        if not path.is_file():
            with refused(DependencyError, str(path)):
                Landmarks(LandmarkParams(predictor=str(path))).check()
        line = ["align", "--set", f"landmarks.predictor={path}", "-w", str(desk.workspace)]
        said = program(*line, code=1)
        assert str(path) in said.err, said.err
        assert "what to do: " in said.err
        assert not list(desk.workspace.rglob("*.h5"))
