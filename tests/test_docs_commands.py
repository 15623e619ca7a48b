"""Every command of the README and of the documentation is run, on small synthetic corpora.

Two things are made small so that this is quick: presets train for one step with the smallest
architecture. Where a command needs what is not here, such as a GPU, it must say so by name.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest

pytest.importorskip("torch")
pytest.importorskip("dlib")
pytest.importorskip("jinja2")

from mer_prep.errors import MerPrepError
from mer_prep.models import mol
from mer_prep.models.frl_dgt import config as frl_dgt
from mer_prep.models.selfme import config as selfme
from mer_prep.synth.corpus import write_corpus
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.training import cards
from mer_prep.videos import write_video
from tests.command_line import call

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts),
]
RUN = "mol-tiny-megc2019-3-loso-seed1"

#: What stands for what a reader has.
DATA = {"CASME2": "casme2", "SAMM": "samm", "SMIC": "smic", "CASME_SQ": "casme_sq"}
DATA["SAMM_LV"] = "samm_lv"

#: Commands that must be refused here, and by what.
REFUSED = {
    "--scheduler tcp://host:8786": "scheduler",
    "--device cuda": "cuda",
    "flow.engine=cuda": "cuda",
}


def commands(page: Path) -> list[str]:
    """Return the lines of all shell blocks of a page, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [re.split(r"\s+#", line)[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WITH_COMMANDS = [page for page in PAGES if any("mer-prep " in line for line in commands(page))]


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """Make presets small, and show one core, so that all is trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0})
        for module in (mol, frl_dgt, selfme):
            for name in module.PRESETS:
                patch.setitem(module.PRESETS, name, module.PRESETS["tiny"])
        for name, card in cards.MODELS.items():
            presets = {
                one: dataclasses.replace(
                    preset,
                    reduce=card.presets["tiny"].reduce,
                    training=dataclasses.replace(preset.training, steps=1, pre_steps=0, batch=2),
                )
                for one, preset in card.presets.items()
            }
            patch.setitem(cards.MODELS, name, dataclasses.replace(card, presets=presets))
        yield


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a synthetic corpus, made when first asked for."""
    folder, made = tmp_path_factory.mktemp("data"), {}

    def of(corpus: str) -> Path:
        if corpus not in made:
            made[corpus] = write_corpus(corpus, folder, subjects=2, clips=3, frames=14).root
        return made[corpus]

    return of


@pytest.fixture(scope="module")
def base(tmp_path_factory, corpora, small) -> Path:
    """Return a folder with a workspace: three corpora, a composite and a trained run."""
    folder = tmp_path_factory.mktemp("base")
    workspace = folder / "workspace"
    for corpus in ("casme2", "samm", "smic"):
        call("import", corpus, corpora(corpus), "-w", workspace)
    call("run", "mol", "-w", workspace)
    call("run", "onset-apex", "-w", workspace)
    call("composite", "-w", workspace)
    call("train", "--model", "mol", "--preset", "tiny", "-w", workspace)
    frame = next(corpora("casme2").rglob("*.jpg"))
    image = cv2.cvtColor(cv2.imread(str(frame)), cv2.COLOR_BGR2RGB)
    image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
    (folder / "videos").mkdir()
    for path in ("face.mp4", *(f"videos/EP0{number}.avi" for number in (1, 2, 3))):
        write_video(folder / path, [image] * 62, fps=30)
    return folder


@pytest.fixture
def folder(base, tmp_path, monkeypatch) -> Path:
    """Return a copy of that folder, and stand in it."""
    copy = Path(shutil.copytree(base, tmp_path / "here"))
    monkeypatch.chdir(copy)
    monkeypatch.delenv("MER_PREP_WORKSPACE", raising=False)
    return copy


def prepare(page: Path, folder: Path, corpora: Callable[[str], Path]) -> None:
    """Make what a reader of a page would have beside the corpora."""
    if page.name == "own-videos.md":
        (table,) = re.findall(r"```text\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        (folder / "clips.csv").write_text(table)
    if page.name == "spotting.md":
        for corpus in ("casme_sq", "samm_lv"):
            call("import", corpus, corpora(corpus))
        call("spotting-truth", "-o", "spotted.csv")
    if page.name == "gpu.md":
        call("import", "affwild2", corpora("affwild2"))
        call("pretrain", "affwild2", "--preset", "paper", "--run", "RUN")
    if page.name == "trained-models.md":
        call("train", "--model", "mol", "--preset", "tiny", "--seed", 2, "--run", "OTHER")
        shutil.copytree(f"workspace/runs/{RUN}", "workspace/runs/RUN")


def real(line: str, corpora: Callable[[str], Path]) -> list[str]:
    """Return the words of a command with its placeholders filled in."""
    words = shlex.split(line)
    if words[1] == "import":
        words = [str(corpora(words[2])) if word == "FOLDER" else word for word in words]
    words = [word.replace("/data/videos", "videos") for word in words]
    return [
        str(corpora(DATA[found[1]])) if (found := re.fullmatch(r"/data/(\w+)", word)) else word
        for word in words
    ]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_every_command_of_a_page_works(page: Path, folder, corpora) -> None:
    prepare(page, folder, corpora)
    for line in commands(page):
        if not line.startswith("mer-prep "):
            assert_known(line)
            continue
        refusal = next((word for part, word in REFUSED.items() if part in line), None)
        if refusal is None:
            call(*real(line, corpora)[1:])
            continue
        with pytest.raises(MerPrepError, match=f"(?i){refusal}"):
            call(*real(line, corpora)[1:])


def assert_known(line: str) -> None:
    """Check a line that is no command of mer-prep: targets of the Makefile, and few others."""
    first, *words = shlex.split(line)
    if first == "make":
        target = re.escape(words[0])
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
    elif first == "torchrun":
        # Two processes do this in the tests of pre-training; here the words are looked at.
        command = words[words.index("mer_prep.cli") + 1 :]
        options = [word for word in command if word.startswith("-")]
        assert all(word in call(command[0], "--help").output for word in options), line
    else:
        assert line in (". .venv/bin/activate",), line


def test_the_pages_are_found() -> None:
    assert len(WITH_COMMANDS) > 30
    assert set(DATA.values()) <= set(LAYOUTS)
