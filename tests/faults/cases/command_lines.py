"""Command lines that are wrong in every option of every command."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import click
import cv2
import numpy as np

from mer_prep import cli
from mer_prep.manifest import Clip, ImportRecord, make_clip_id
from mer_prep.manifest_files import write_manifest
from mer_prep.sources.frames import source_digest
from tests.faults.catalogue import Said, Tries, fault, instead

#: What a command needs beside its options to get as far as these.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "import": ("casme2", "{source}"),
    "run": ("onset-apex",),
    "export": ("align", "--to", "npy", "--out", "{out}"),
    "inspect": ("casme2/sub01/EP01",),
    "evaluate-spotting": ("{table}",),
    "evaluate": ("run",),
    "predict": ("casme2/sub01/EP01", "--run", "run"),
    "synth": ("casme2", "--out", "{out}"),
    "leaderboard": ("--model", "mol:tiny"),
}


class Desk:
    """A folder in which commands are tried: a workspace with two clips, and what is about it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.workspace = folder / "workspace"
        self.places = {"source": folder / "source", "out": folder / "out"}
        self.places |= {"table": folder / "table.csv", "file": folder / "file"}
        clips = [_clip(self.places["source"], subject) for subject in ("sub01", "sub02")]
        record = ImportRecord(corpus="casme2", source="casme2", root=clips[0].root)
        write_manifest(self.workspace / "manifests", clips, record)
        self.places["table"].write_text("clip_id,onset,apex,offset\n")
        self.places["file"].write_text("a file\n")
        self.before = self.tree()

    def tree(self) -> dict[str, tuple[int, int]]:
        """Return everything in the folder with size and time of change."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            facts = path.lstat()
            found[str(path)] = (facts.st_size, facts.st_mtime_ns)
        return found

    def base(self, name: str) -> list[str]:
        """Return a command line that is right, as far as it can be told without running it."""
        words = [one.format(**self.places) for one in ARGUMENTS.get(name, ())]
        known = {option for one in cli.cli.commands[name].params for option in one.opts}
        return [name, *words, *(["-w", str(self.workspace)] if "--workspace" in known else [])]

    def call(self, *words: str) -> Said:
        """Call the program in this process, in the folder."""
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            with (
                mock.patch.object(sys, "argv", ["mer-prep", *words]),
                redirect_stdout(out),
                redirect_stderr(err),
            ):
                cli.main()
        except SystemExit as end:
            code = end.code
        finally:
            os.chdir(before)
        return Said(code if isinstance(code, int) else 0, out.getvalue(), err.getvalue())


def _clip(root: Path, subject: str) -> Clip:
    names = []
    for number in range(1, 4):
        names.append(f"{subject}/EP01/img{number}.png")
        path = root / names[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((16, 24), 40 * number + int(subject[-1]), np.uint8))
    facts = {
        "clip_id": make_clip_id("casme2", subject, "EP01"),
        "corpus": "casme2",
        "subject": subject,
        "clip": "EP01",
        "root": str(root),
        "frame_numbers": (1, 2, 3),
        "frames": tuple(names),
        "fps": 200.0,
        "onset": 1,
        "apex": 2,
        "offset": 3,
        "apex_source": "annotated",
        "emotion": "happiness",
        "emotion_raw": "happiness",
    }
    return Clip(**facts, source_digest=source_digest(Clip(**facts)))  # type: ignore[arg-type]


#: Commands whose line is refused soonest if a wrong value should be let through come first.
_FIRST = ("predict", "evaluate", "composite", "status", "export", "pretrain", "train")


def _options() -> Iterator[tuple[str, click.Parameter]]:
    """Yield (command, option) over the whole program."""
    names = [*_FIRST, *(name for name in cli.cli.commands if name not in _FIRST)]
    for name in names:
        for parameter in cli.cli.commands[name].params:
            if isinstance(parameter, click.Option):
                yield name, parameter


def _wrong(kind: click.ParamType) -> list[str]:
    """Return values that an option of a type cannot have."""
    if isinstance(kind, click.Tuple):
        return _wrong(kind.types[0])
    if isinstance(kind, click.types.IntParamType):
        huge = ["9" * 30, "-" + "9" * 30, "9" * 5_000]
        return ["x", "1.5", "nan", "inf", "1e3", "-1", "0x10", "1,000", "1 2", "1\n2", *huge]
    if isinstance(kind, click.types.FloatParamType):
        return ["nan", "-nan", "inf", "-inf", "Infinity", "1e400", "-1", "x", "1,5", "0.5px"]
    if isinstance(kind, click.Choice):
        return ["nonsense", "NONE", f"{kind.choices[0]}x", "a\nb", "x" * 5_000]
    if kind.name == "i/n":
        return ["0/2", "3/2", "-1/2", "1/0", "1", "/", "1/2/3", "a/b", "1.0/2", "1/-2", "nan/inf"]
    return []


def _expect(
    desk: Desk, words: list[str], *said: str, codes: tuple[int, ...] = (2,), hint: bool = False
) -> None:
    """See that a command line is refused in these words, and that nothing was written."""
    found = desk.call(*words)
    shown = [one if len(one) < 60 else f"{one[:20]}..." for one in words]
    assert found.code in codes, f"{shown} ended with {found.code}: {found.err[-500:]}"
    for text in said:
        assert text in found.err, f"{shown} does not say {text!r}: {found.err[:500]}"
    assert not {"Traceback", "unexpected"} & set(found.err.split()), found.err
    if hint:
        assert "what to do: " in found.err, found.err
    assert desk.tree() == desk.before, f"{shown} wrote something"


@fault(
    40,
    "numbers and choices that an option cannot have, in every option of every command",
    without={
        "the ranges of whole numbers": instead("click.IntRange.convert", lambda *_: 1),
        "the ranges of numbers": instead("click.FloatRange.convert", lambda *_: 1.0),
        "the choices": instead("click.Choice.convert", lambda self, *_: self.choices[0]),
        "the form of a share": instead(
            "mer_prep.commands.common._ShareType.convert", lambda *_: (1, 1)
        ),
    },
)
def wrong_values(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    ways = [(name, one, value) for name, one in _options() for value in _wrong(one.type)]
    # One try of every type of every command first; the others in a full run.
    ways.sort(key=lambda way: _wrong(way[1].type).index(way[2]))
    some = ways[:150] if tries.quick else ways
    for name, option, value in tries.of(some, quick=150):
        words = [*desk.base(name), option.opts[0], *[value] * option.nargs]
        _expect(desk, words, "Invalid value for", option.opts[0], "Try 'mer-prep")


@fault(
    40,
    "not a number, or infinite, where a command takes a number",
    without={
        "the look for numbers that are finite": instead(
            "mer_prep.commands.common.math.isfinite", bool
        )
    },
)
def not_finite(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    kinds = (click.types.FloatParamType, click.Tuple)
    options = [(name, one) for name, one in _options() if isinstance(one.type, kinds)]
    values = ("nan", "NaN", "-nan", "inf", "-inf", "+Infinity", "1e999")
    for name, option, value in tries.of(
        [(*one, value) for one in options for value in values], quick=100
    ):
        words = [*desk.base(name), option.opts[0], *[value] * option.nargs]
        _expect(desk, words, "Invalid value for", option.opts[0])


@fault(
    40,
    "an empty text, or one with the character NUL, anywhere in a command line",
    without={
        "the look at every word": instead("mer_prep.cli._Group.parse_args", click.Group.parse_args)
    },
)
def empty_and_nul(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    ways = []
    for name, option in _options():
        if not getattr(option, "is_flag", False):
            ways += [(name, option.opts[0], value) for value in ("", "a\0b", "\0")]
    for name, option, value in tries.of(ways, quick=120):
        said = f"The value of {option} {'holds the character NUL' if value else 'is empty'}"
        _expect(desk, [*desk.base(name), option, value], said)
        if option.startswith("--"):
            _expect(desk, [*desk.base(name), f"{option}={value}"], said)
    for name in cli.cli.commands:
        _expect(desk, [*desk.base(name), ""], "is empty")


def _misspelt(word: str) -> list[str]:
    """Return spellings of a word that are wrong and near."""
    return [word + "s", word[:-2] + word[-1] + word[-2], word[:3] + word[4:]]


@fault(
    40,
    "options and commands that do not exist",
    without={"the nearest command": instead("mer_prep.checks.suggest", lambda *_: "")},
)
def unknown_names(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    known = {option for _, one in _options() for option in one.opts}
    ways = [
        (name, option.opts[0], wrong)
        for name, option in _options()
        for wrong in _misspelt(option.opts[0])
        if wrong not in known and not any(one.startswith(wrong) for one in known)
    ]
    for name in cli.cli.commands:
        for wrong in _misspelt(name):
            if wrong not in cli.cli.commands:
                _expect(desk, [wrong], f"No such command '{wrong}'")
                if len(name) > 6:
                    assert "Did you mean '" in desk.call(wrong).err, wrong
        _expect(desk, [name, "--nonsense"], "No such option '--nonsense'")
        flags = [one for one in cli.cli.commands[name].params if getattr(one, "is_flag", False)]
        for flag in flags:
            _expect(desk, [*desk.base(name), f"{flag.opts[0]}=yes"], "does not take a value")
    for name, option, wrong in tries.of(ways, quick=150):
        found = desk.call(*desk.base(name), wrong, "1")
        assert found.code == 2, (name, wrong, found)
        assert "No such option" in found.err, (name, wrong, found)
        assert desk.tree() == desk.before
        assert option in found.err or "Did you mean" in found.err, (wrong, found.err)


_TEXTS = ("nonsense", "../x", "/etc/passwd", "a\nb", "nan", "x" * 300, "{out}", "-")

#: By option: values that no command can use, beside `_TEXTS`, and what is said of them.
_NAMES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "--labels": ("label map", ("megc2019", "casme2-33")),
    "--pipeline": ("pipeline", ("onset-apx", "mool")),
    "--protocol": ("protocol", ("losso", "kfold", "LOSO")),
    "--model": ("model", ("moll", "frl_dgt")),
    "--preset": ("preset", ("papers", "tinny")),
    "--device": ("device", ("gpu", "cuda:x", "cuda:-1", "mps", "cpu:one")),
    "--subject": ("subject", ("casme2/sub03", "sub01")),
    "--without-erratum": ("erratum", ()),
    "--with-erratum": ("erratum", ()),
    "--set": ("--set", ("align", "align.", ".size=3", "=", "a.b.c")),
    "--name": ("name", ("a/b", "..", ".hidden", "Ä" * 300)),
}


@fault(
    40,
    "names of label maps, protocols, models, devices ... that there are not",
    without={
        "the check of a choice": instead(
            "mer_prep.checks.check_option", lambda parameter, value, allowed: value
        ),
    },
)
def names_that_are_not(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    ways = [
        (name, option.opts[0], value)
        for name, option in _options()
        if option.opts[0] in _NAMES and name not in ("predict", "evaluate", "evaluate-truth")
        for value in (*_NAMES[option.opts[0]][1], *(_TEXTS if option.opts[0] != "--name" else ()))
    ]
    for name, option, value in tries.of(ways, quick=60):
        word = _NAMES[option][0]
        given = value.format(**desk.places)
        _expect(desk, [*desk.base(name), option, given], word, codes=(1, 2))


@fault(
    40,
    "the name of a run that is a path to elsewhere",
    without={
        "the form of the name": instead(
            "mer_prep.commands.common._RunNameType.convert", lambda self, value, *_: value
        )
    },
)
def run_names(tries: Tries) -> None:
    desk = Desk(tries.fresh())
    wrong = ("../x", "..", ".", "/tmp/x", "a/b", "a/../../b", "a\nb", "\x1b[1m", "x" * 201, "a\\b")
    ways = [(name, value) for name in ("train", "pretrain") for value in wrong]
    for name, value in tries.of(ways):
        _expect(desk, [*desk.base(name), "--run", value], "Invalid value for '--run'")
