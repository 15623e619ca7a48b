"""The Python of the README and of the documentation runs as it is printed, on small shards."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import h5py
import numpy as np
import pytest

from mer_prep.manifest import Clip
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages import worker
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.workspace import Workspace
from tests.command_line import call
from tests.conftest import store_manifest

ROOT = Path(__file__).parent.parent
CLIP = "casme2/sub01/EP02_01f"
SIDE = 144


@dataclass(frozen=True)
class NoParams:
    pass


class ToyFlow(Stage):
    """Flow that is known everywhere: u = x / 100 and v = -y / 50 of the only pair."""

    name = "flow"
    version = 1
    reads_frames = True
    fields = (Field("flow", "float32", "pair channel y x", "px", "u v"),)
    Params: ClassVar[type] = NoParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return StageOutput({"flow": true_flow()[None]})


def true_flow() -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    return np.stack([x / 100, -y / 50])


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def block(page: str, word: str) -> str:
    """Return the one Python block of a page that has a word."""
    (found,) = [one for one in blocks(page) if word in one]
    return found


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, type[Stage]]]:
    """Return the stages that the program then has; the toy flow is the first."""
    known: dict[str, type[Stage]] = {"flow": ToyFlow}
    with (
        mock.patch("mer_prep.stages.all_stages", return_value=known),
        mock.patch.object(worker, "all_stages", return_value=known),
    ):
        yield known


@pytest.fixture
def here(tmp_path: Path, toy_clip: Callable[..., Clip], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand where ``workspace`` is one, with the clip of the pages in its manifest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MER_PREP_WORKSPACE", raising=False)
    store_manifest(Workspace(Path("workspace")), [toy_clip("EP02_01f", corpus="casme2")], "casme2")
    return tmp_path


def run_stages(*names: str, settings: tuple[str, ...] = ()) -> None:
    Path("toy.toml").write_text(f'title = "toy"\nstages = {list(names)}\n')
    changes = [word for setting in settings for word in ("--set", setting)]
    call("run", "toy.toml", "--jobs", 1, *changes)


def shard_of(stage: str) -> Path:
    (path,) = Path("workspace/cache").glob(f"{stage}/*/casme2--sub01.h5")
    return path


def executed(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_stage_of_the_guide_runs_as_it_is_printed(
    here: Path, stages: dict[str, type[Stage]], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pasted_grid.py").write_text(block("docs/how-to/add-a-stage.md", "class Grid"))
    monkeypatch.syspath_prepend(here)
    stages["grid"] = importlib.import_module("pasted_grid").Grid
    monkeypatch.delitem(sys.modules, "pasted_grid")

    run_stages("flow", "grid", settings=("grid.cells=2",))
    with h5py.File(shard_of("grid")) as shard:
        stored = shard["EP02_01f/grid"]
        assert (stored.attrs["units"], stored.attrs["axes"]) == ("px", "pair y x")
        grid = stored[()]
    half, size = SIDE // 2, np.hypot(*true_flow())
    quarters = [[size[:half, :half], size[:half, half:]], [size[half:, :half], size[half:, half:]]]
    np.testing.assert_allclose(grid, [np.mean(quarters, axis=(2, 3))], rtol=1e-5)

    described = call("stages", "grid").output
    assert "Cells along each side, 1 to 72." in described
    with pytest.raises(Exception, match=r"grid\.cells"):
        run_stages("flow", "grid", settings=("grid.cells=73",))


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/train-elsewhere.md"])
def test_a_shard_is_read_by_h5py_as_the_pages_say(
    page: str, here: Path, stages: dict[str, type[Stage]]
) -> None:
    run_stages("flow")
    key = shard_of("flow").parent.name
    flow = executed(block(page, "h5py.File").replace("<key>", key))["flow"]
    assert flow.dtype == np.float32
    np.testing.assert_array_equal(flow, true_flow())


def test_a_shard_is_read_in_python_as_the_reference_says(
    here: Path, stages: dict[str, type[Stage]]
) -> None:
    run_stages("flow")
    names = executed(block("docs/reference/files.md", "read_clip"))
    np.testing.assert_array_equal(names["flow"], true_flow()[None])
    assert names["facts"]["clip_id"] == CLIP


def test_an_exported_picture_is_read_in_px_as_the_guide_says(
    here: Path, stages: dict[str, type[Stage]]
) -> None:
    run_stages("flow")
    call("export", "flow", "--to", "png", "--out", "exported")
    u = executed(block("docs/how-to/train-elsewhere.md", "read_png"))["u"]
    assert u.dtype == np.float32
    # 8 bits from -127 to 127 for the picture's or the clip's largest magnitude: half a step of it.
    largest = np.abs(true_flow()).max()
    np.testing.assert_allclose(u, true_flow()[0], atol=0.5001 * largest / 127)


def test_no_python_of_the_pages_is_left_out() -> None:
    # That of the protocols is run by the tests of the pages made from the code.
    pages = ["README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
    counts = {page: len(blocks(page)) for page in pages if "_build" not in page and blocks(page)}
    assert counts == {
        "README.md": 1,
        "docs/how-to/add-a-stage.md": 1,
        "docs/how-to/train-elsewhere.md": 2,
        "docs/protocols/README.md": 1,
        "docs/reference/files.md": 1,
    }
