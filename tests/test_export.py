"""Exports, read back: pixels against arrays and their scale, shards with the standard library."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.errors import (
    ConfigError,
    DecodeError,
    LockedError,
    ManifestError,
    MerPrepError,
    ShardError,
)
from mer_prep.export import Coding, decode, encode, read_png
from mer_prep.export.exporter import ExportOptions, write_export
from mer_prep.export.pictures import is_picture, pictures_of
from mer_prep.export.selection import preset_names, read_preset
from mer_prep.export.writers import clip_path
from mer_prep.manifest import Clip
from mer_prep.protocols import FrozenFolds, Protocol, write_folds
from mer_prep.sources.frames import ClipFrames
from mer_prep.stages import worker
from mer_prep.stages.base import Arrays, Field, Stage, StageOutput
from mer_prep.store.lock import Lock
from mer_prep.workspace import Workspace
from tests.conftest import store_manifest

Run = Callable[..., Result]


@dataclass(frozen=True)
class MotionParams:
    strength: float = 1.0


class Motion(Stage):
    """Invented flow, frames and pairs, a different one for every clip."""

    name = "motion"
    version = 1
    reads_frames = True
    fields = (
        Field("flow", "float32", "pair channel y x", "px", "u v"),
        Field("frames", "uint8", "frame y x channel", "grey value", "red green blue"),
        Field("pairs", "int32", "pair end", "frames", "first second"),
    )
    Params: ClassVar[type] = MotionParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        if clip.emotion == "fear":
            raise ManifestError("There is no motion.", where=clip.clip_id)
        used = {"onset_number": clip.onset or 0, "apex_number": 11, "apex_source": "midpoint"}
        return StageOutput(invented(clip, self.params.strength), facts=used)


class Sizes(Stage):
    """The size of every pair's motion, without a word on the pairs."""

    name = "sizes"
    version = 1
    requires = ("motion",)
    fields = (Field("sizes", "float32", "pair y x", "px"),)
    Params: ClassVar[type] = MotionParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return StageOutput({"sizes": np.hypot(*np.moveaxis(inputs["motion"]["flow"], 1, 0))})


@dataclass(frozen=True)
class NumbersParams:
    pass


class Numbers(Stage):
    """A stage without pictures."""

    name = "numbers"
    version = 1
    reads_frames = True
    fields = (Field("numbers", "float64", "frame", "unitless"),)
    Params: ClassVar[type] = NumbersParams

    def run(self, clip: Clip, frames: ClipFrames, inputs: Mapping[str, Arrays]) -> StageOutput:
        return StageOutput({"numbers": np.arange(3.0)})


STAGES: dict[str, type[Stage]] = {"motion": Motion, "sizes": Sizes, "numbers": Numbers}


def invented(clip: Clip, strength: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(list(clip.clip_id.encode()))
    return {
        "flow": (strength * rng.normal(size=(2, 2, 12, 10))).astype(np.float32),
        "frames": rng.integers(0, 256, (3, 12, 10, 3), np.uint8),
        "pairs": np.array([(0, 1), (0, 2)], np.int32),
    }


@pytest.fixture
def run(imported: Workspace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a runner of commands that know the invented stages."""
    monkeypatch.setenv("MER_PREP_WORKSPACE", str(imported.root))

    def call(*arguments: object, code: int = 0) -> Result:
        with (
            mock.patch("mer_prep.stages.all_stages", return_value=STAGES),
            mock.patch.object(worker, "all_stages", return_value=STAGES),
        ):
            result = CliRunner().invoke(cli, [str(one) for one in arguments])
        if isinstance(result.exception, MerPrepError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


def make(run: Run, tmp_path: Path, *stages: str, code: int = 0) -> None:
    names = ", ".join(f'"{name}"' for name in stages or ("motion",))
    pipeline = tmp_path / "invented.toml"
    pipeline.write_text(f'title = "invented"\nstages = [{names}]\n')
    run("run", pipeline, "--jobs", 1, code=code)


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Run:
    make(run, tmp_path, "motion", "numbers")
    return run


def read_index(out: Path) -> list[dict[str, str]]:
    with open(out / "index.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Codes.


@pytest.mark.parametrize("scaling", ["symmetric", "min-max", "positive"])
def test_codes_give_their_values_back_to_half_a_step(scaling: str) -> None:
    values = np.random.default_rng(0).normal(0, 3, (40, 30))
    values = np.abs(values) if scaling == "positive" else values
    codes, coding = encode(values, scaling=scaling)
    assert codes.dtype == np.uint8
    assert coding.clipped == 0
    error = np.abs(decode(codes, coding) - values).max()
    assert 0.9 * coding.largest_error < error <= coding.largest_error * (1 + 1e-9)
    assert codes.max() == 255 or values.max() < np.abs(values).max()


def test_codes_by_hand() -> None:
    values = np.array([-1.27, -0.01, 0.0, 0.01, 1.27])
    codes, coding = encode(values)
    np.testing.assert_array_equal(codes, [1, 127, 128, 129, 255])
    assert coding.step == pytest.approx(0.01)
    codes, coding = encode(np.array([0, 1.0, 2.55]), scaling="positive")
    np.testing.assert_array_equal(codes, [0, 100, 255])
    codes, coding = encode(np.array([5.0, 15.2, 30.5]), scaling="min-max")
    np.testing.assert_array_equal(codes, [0, 102, 255])
    assert coding == Coding(5.0, pytest.approx(0.1), 0)


def test_what_lies_outside_of_the_range_is_clipped_and_counted() -> None:
    codes, coding = encode(np.array([-9.0, -1, 0, 1, 5]), largest=1.0)
    np.testing.assert_array_equal(codes, [0, 1, 128, 255, 255])
    assert coding.clipped == 2
    codes, coding = encode(np.array([-0.5, 1]), scaling="positive")
    assert (codes[0], coding.clipped) == (0, 1)


@pytest.mark.parametrize(("scaling", "code"), [("symmetric", 128), ("positive", 0)])
def test_nothing_at_all_is_zero(scaling: str, code: int) -> None:
    codes, coding = encode(np.zeros((2, 3)), scaling=scaling)
    assert (codes == code).all()
    np.testing.assert_array_equal(decode(codes, coding), 0)


def test_a_flat_picture_keeps_its_value() -> None:
    codes, coding = encode(np.full((2, 3), 7.5), scaling="min-max")
    np.testing.assert_array_equal(decode(codes, coding), 7.5)


def test_values_that_cannot_be_coded() -> None:
    with pytest.raises(ValueError, match="finite"):
        encode(np.array([np.nan]))
    with pytest.raises(ValueError, match="no range"):
        encode(np.zeros(2), scaling="min-max", largest=1.0)
    with pytest.raises(ConfigError, match="range"):
        encode(np.zeros(2), largest=-1.0)
    with pytest.raises(ConfigError, match="scaling"):
        encode(np.zeros(2), scaling="log")


# Pictures.


def test_what_is_a_picture() -> None:
    for axes in ("y x", "pair y x", "y x channel", "pair channel y x", "frame y x channel"):
        assert is_picture(Field("a", "float32", axes, "px"))
    for axes in ("frame", "frame point coordinate", "pair end", "pair frame y x"):
        assert not is_picture(Field("a", "float32", axes, "px"))


def test_three_channels_are_one_picture_and_min_max_is_of_all_three() -> None:
    values = np.random.default_rng(1).normal(size=(5, 6, 3)).astype(np.float32)
    field = Field("dynamic_image", "float32", "y x channel", "grey levels", "red green blue")
    (picture,) = pictures_of(field, values, scaling="min-max", largest=None)
    assert picture.name == "dynamic_image"
    expected = (values - values.min()) / (values.max() - values.min()) * 255
    np.testing.assert_allclose(picture.codes, expected, atol=0.5001)


def test_clipped_values_are_counted_for_each_channel() -> None:
    values = np.zeros((1, 2, 4, 4), np.float32)
    values[0, 0, 0, :3] = 9
    values[0, 1, 0, 0] = -9
    field = Field("flow", "float32", "pair channel y x", "px", "u v")
    u, v = pictures_of(field, values, scaling="symmetric", largest=2.0)
    assert (u.coding.clipped, v.coding.clipped) == (3, 1)
    assert (u.name, v.name) == ("flow-00000-u", "flow-00000-v")


def test_paths_are_safe() -> None:
    assert clip_path("smic/s01/s1_po_01") == "smic/s01/s1_po_01"
    assert clip_path("x/a.b/c d@7") == "x/a%2Eb/c%20d@7"
    assert clip_path("x/s/..") == "x/s/%2E%2E"
    assert clip_path("x/s/Zürich") == "x/s/Zürich"


# The command.


def test_png_gives_back_frames_exactly_and_flow_to_half_a_step(
    made: Run, imported: Workspace, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    output = made("export", "motion", "--to", "png", "--out", out).output
    assert "export: 4 clips of 'motion'" in output
    assert "values met to within" in output
    for clip in imported.clips("toy"):
        folder = out / clip_path(clip.clip_id)
        facts = json.loads((folder / "clip.json").read_text())
        truth = invented(clip)
        np.testing.assert_array_equal(np.load(folder / "pairs.npy"), truth["pairs"])
        for index, frame in enumerate(truth["frames"]):
            np.testing.assert_array_equal(read_png(folder / f"frames-{index:05d}.png"), frame)
        step = float(np.abs(truth["flow"]).max()) / 127
        for name, picture in facts["pictures"].items():
            if picture["dataset"] == "flow":
                values = truth["flow"][picture["index"], "uv".index(picture["channels"])]
                assert picture["step"] == pytest.approx(step)
                assert picture["units"] == "px"
                codes = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
                found = picture["offset"] + picture["step"] * codes.astype(float)
                assert np.abs(found - values).max() <= picture["largest_error"] * (1 + 1e-6)
                np.testing.assert_allclose(read_png(folder / name), found, rtol=1e-6, atol=1e-9)
        assert len(facts["pictures"]) == 3 + 4
        assert facts["frame_numbers"] == list(clip.frame_numbers)
    described = json.loads((out / "export.json").read_text())
    assert described["scaling"]["clipped"] == 0
    assert described["scaling"]["largest_errors"]["frames, grey value"] == 0
    assert not list(tmp_path.glob("*.partial"))


def test_one_range_for_all_clips(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = made("export", "motion", "--to", "png", "--range", 2, "--out", out, "--json")
    facts = json.loads(result.stdout)
    assert facts["scaling"]["clipped"] > 0
    steps = {
        picture["step"]
        for sidecar in out.rglob("clip.json")
        for picture in json.loads(sidecar.read_text())["pictures"].values()
        if picture["dataset"] == "flow"
    }
    assert steps == {2 / 127}


def test_a_preset_of_ones_own(made: Run, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('stage = "motion"\nscaling = "min-max"\n')
    made("export", "motion", "--to", "png", "--preset", preset, "--out", tmp_path / "out")
    for path in (tmp_path / "out").rglob("flow-00001-u.png"):
        pair = [cv2.imread(str(path.with_name(f"flow-00001-{c}.png")), 0) for c in "uv"]
        assert (min(one.min() for one in pair), max(one.max() for one in pair)) == (0, 255)
    with pytest.raises(ConfigError, match="is for 'motion', not 'numbers'"):
        made("export", "numbers", "--to", "png", "--preset", preset, "--out", tmp_path / "x")
    preset.write_text('stage = "motion"\n')
    with pytest.raises(ConfigError, match="lacks the key 'scaling'"):
        read_preset(str(preset))
    preset.write_text('stage = "motion"\nscaling = 3\n')
    with pytest.raises(ConfigError, match="'scaling' of the preset must be text, not 3"):
        read_preset(str(preset))
    preset.write_text('stage = "motion"\nscaling = "min-maks"\n')
    with pytest.raises(ConfigError, match="Did you mean 'min-max'") as caught:
        read_preset(str(preset))
    assert caught.value.where == str(preset)


def test_the_presets_can_be_read() -> None:
    assert {read_preset(name).name for name in preset_names()} == set(preset_names())
    assert read_preset("dynamic-image-uint8").scaling == "min-max"
    with pytest.raises(ConfigError, match="Did you mean 'strain-uint8'"):
        read_preset("strain-uint")


def test_npy_and_its_index(made: Run, imported: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made("export", "motion", "--to", "npy", "--out", out)
    rows = read_index(out)
    clips = imported.clips("toy")
    assert [row["clip_id"] for row in rows] == sorted(clip.clip_id for clip in clips)
    for clip, row in zip(sorted(clips, key=lambda one: one.clip_id), rows, strict=True):
        assert (row["subject"], row["label"]) == (clip.subject_id, "")
        assert [int(row[name]) for name in ("onset", "apex", "offset")] == [
            clip.onset,
            clip.apex,
            clip.offset,
        ]
        for name, array in invented(clip).items():
            found = np.load(out / row["path"] / f"{name}.npy")
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, array)


def test_what_rests_on_pairs_says_which_frames_and_which_apex(
    run: Run, imported: Workspace, tmp_path: Path
) -> None:
    make(run, tmp_path, "motion", "sizes")
    for stage in ("motion", "sizes"):
        out = tmp_path / stage
        run("export", stage, "--to", "npy", "--out", out)
        for row in read_index(out):
            clip = imported.find_clip(row["clip_id"])
            used = (row["used_onset"], row["used_apex"], row["used_apex_source"])
            assert used == (str(clip.onset), "11", "midpoint")
            pairs = np.load(out / row["path"] / "pairs.npy")
            np.testing.assert_array_equal(pairs, [(0, 1), (0, 2)])
            facts = json.loads((out / row["path"] / "clip.json").read_text())
            assert facts["attributes"]["apex_number"] == facts["used_apex"] == 11
            assert facts["apex"] == clip.apex
    run("export", "sizes", "--to", "webdataset", "--out", tmp_path / "tar")
    with tarfile.open(next((tmp_path / "tar").glob("*.tar"))) as tar:
        assert sum(name.endswith(".pairs.npy") for name in tar.getnames()) == 4


LABELS = """
title = "Two classes"
source = "a test"
classes = ["negative", "positive"]

[corpora.toy.emotions]
happiness = "positive"
disgust = "negative"
"""


def with_emotions(workspace: Workspace, *emotions: str) -> list[Clip]:
    clips = [
        dataclasses.replace(clip, emotion=emotion)
        for clip, emotion in zip(workspace.clips("toy"), emotions, strict=True)
    ]
    store_manifest(workspace, clips)
    return clips


def test_webdataset_shards_hold_everything_in_order(
    run: Run, imported: Workspace, tmp_path: Path
) -> None:
    clips = with_emotions(imported, "happiness", "disgust", "surprise", "disgust")
    make(run, tmp_path)
    labels = tmp_path / "two.toml"
    labels.write_text(LABELS)
    command = ("export", "motion", "--to", "webdataset", "--labels", labels)
    out = tmp_path / "out"
    output = run(*command, "--samples-per-shard", 2, "--out", out).output
    assert "left out, no label: 1 clip" in output
    samples: dict[str, dict[str, bytes]] = {}
    order = []
    for shard in sorted(out.glob("shard-*.tar")):
        with tarfile.open(shard) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.mode) == (0, 0, 0o644)
                key, _, extension = member.name.rpartition("/")[2].partition(".")
                path = f"{member.name.rpartition('/')[0]}/{key}"
                order.append(member.name)
                samples.setdefault(path, {})[extension] = tar.extractfile(member).read()
    assert [len(list(out.glob("shard-*.tar"))), len(samples)] == [2, 3]
    assert order == sorted(order)
    expected = {clip.clip_id: clip for clip in clips if clip.emotion != "surprise"}
    assert set(samples) == set(expected)
    for clip_id, clip in expected.items():
        sample, truth = samples[clip_id], invented(clip)
        label = 0 if clip.emotion == "disgust" else 1
        assert sample["cls"] == str(label).encode()
        facts = json.loads(sample["json"])
        assert (facts["label"], facts["class"]) == (label, ("negative", "positive")[label])
        np.testing.assert_array_equal(np.load(io.BytesIO(sample["flow.npy"])), truth["flow"])
        for index, frame in enumerate(truth["frames"]):
            data = np.frombuffer(sample[f"frames-{index:05d}.png"], np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(image[..., ::-1], frame)
    run(*command, "--samples-per-shard", 2, "--out", tmp_path / "again")
    assert files_of(out) == files_of(tmp_path / "again")


def test_only_the_composite(run: Run, imported: Workspace, tmp_path: Path) -> None:
    with_emotions(imported, "happiness", "disgust", "surprise", "disgust")
    make(run, tmp_path)
    labels = tmp_path / "two.toml"
    labels.write_text(LABELS)
    command = ("export", "motion", "--to", "npy", "--composite")
    with pytest.raises(ManifestError, match="no composite"):
        run(*command, "--out", tmp_path / "out")
    run("composite", "--labels", labels)
    run(*command, "--out", tmp_path / "out")
    assert [row["class"] for row in read_index(tmp_path / "out")] == [
        "positive",
        "negative",
        "negative",
    ]
    assert json.loads((tmp_path / "out" / "export.json").read_text())["labels"] == "two"
    rows = read_index(tmp_path / "out")
    assert [row["fold"] for row in rows] == [row["subject"] for row in rows]
    folds = (tmp_path / "out" / "folds.json").read_bytes()
    assert folds == (imported.root / "folds.json").read_bytes()
    (imported.root / "folds.json").write_bytes(b"{}")
    with pytest.raises(ConfigError, match="no file of folds"):
        run(*command, "--out", tmp_path / "x")
    other = Protocol("lovo")
    write_folds(imported.root / "folds.json", FrozenFolds(other, "two", "0" * 64, ()))
    with pytest.raises(ManifestError, match="not those of the composite"):
        run(*command, "--out", tmp_path / "x")
    (imported.root / "folds.json").write_bytes(folds)
    with pytest.raises(ConfigError, match="own labels"):
        run(*command, "--labels", labels, "--out", tmp_path / "x")
    clips = imported.clips("toy")
    store_manifest(imported, [dataclasses.replace(clips[0], emotion="disgust"), *clips[1:]])
    with pytest.raises(ManifestError, match="does not fit the manifests"):
        run(*command, "--out", tmp_path / "x")
    store_manifest(imported, clips[1:])
    with pytest.raises(ManifestError, match="does not fit the manifests"):
        run(*command, "--out", tmp_path / "x")


@pytest.mark.parametrize(
    ("kind", "mark"), [("restricted", "RESTRICTED.txt"), ("synthetic", "SYNTHETIC.txt")]
)
@pytest.mark.parametrize("format_name", ["png", "webdataset"])
def test_what_may_not_be_passed_on_is_marked(
    run: Run, imported: Workspace, tmp_path: Path, kind: str, mark: str, format_name: str
) -> None:
    clips = [dataclasses.replace(clip, **{kind: True}) for clip in imported.clips("toy")]
    store_manifest(imported, clips)
    make(run, tmp_path)
    out = tmp_path / "out"
    result = run("export", "motion", "--to", format_name, "--out", out)
    marks = {"RESTRICTED.txt", "SYNTHETIC.txt"} & {path.name for path in out.iterdir()}
    assert marks == {mark}
    texts = [path.read_text() for path in out.rglob("*.json")]
    for shard in out.glob("*.tar"):
        with tarfile.open(shard) as tar:
            texts += [
                tar.extractfile(one).read().decode() for one in tar if one.name.endswith("json")
            ]
    assert len(texts) == 5
    for text in texts:
        facts = json.loads(text)
        assert facts[kind] is True
        assert ("licence" in facts) == (kind == "restricted")
    if kind == "restricted":
        assert "do not allow to pass on" in result.output
    else:
        assert "SYNTHETIC" in result.output


def test_nothing_is_overwritten_unasked(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", "numbers", "--to", "npy", "--out", out)
    out.mkdir()
    made(*command)
    (out / "toy" / "sub09").mkdir()
    with pytest.raises(ConfigError, match="holds an earlier export"):
        made(*command)
    made(*command, "--replace")
    assert not (out / "toy" / "sub09").exists()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == [
        "out"
    ]
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="it is no export"):
        made("export", "numbers", "--to", "npy", "--out", foreign, "--replace")
    with pytest.raises(ConfigError, match="only ever read"):
        made("export", "numbers", "--to", "npy", "--out", tmp_path / "source" / "new")
    with pytest.raises(ConfigError, match="a file of that name"):
        made("export", "numbers", "--to", "npy", "--out", foreign / "chapter.tex")


def test_files_of_ones_own_in_an_export_are_not_lost(made: Run, tmp_path: Path) -> None:
    for form in ("npy", "png", "webdataset"):
        out = tmp_path / form
        command = ("export", "motion", "--to", form, "--out", out, "--replace")
        made(*command)
        made(*command)
        clip = out / read_index(out)[0]["path"]
        inside = clip if clip.is_dir() else out
        for name in ("notes.txt", "a.npy", "b.tar", "c.png"):
            (inside / name).write_text("mine")
        (out / ".DS_Store").write_text("of a file manager")
        before = files_of(out)
        with pytest.raises(ConfigError, match=r"not of the export: \S*a\.npy, .* and 1 more"):
            made(*command)
        assert files_of(out) == before
        for name in ("notes.txt", "a.npy", "b.tar", "c.png"):
            (inside / name).unlink()
        made(*command)
        assert not (out / ".DS_Store").exists()


def test_files_that_come_during_an_export_are_not_lost(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", "motion", "--to", "npy", "--out", out, "--replace")
    made(*command)
    before = files_of(out)

    def slow(*arguments: Any) -> None:
        (out / "notes.txt").write_text("mine")

    with (
        mock.patch("mer_prep.export.exporter._write_index", side_effect=slow),
        pytest.raises(ConfigError, match=r"not of the export: notes\.txt\."),
    ):
        made(*command)
    assert files_of(out) == {**before, "notes.txt": b"mine"}
    assert not list(tmp_path.glob("out.*"))


def test_what_killed_exports_left_is_removed(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", "motion", "--to", "npy", "--out", out)
    left = [
        *(tmp_path / f"{name}.0123456789ab.partial" for name in ("out", "other", "out.x")),
        *(tmp_path / f"out.{name}" for name in ("mine.partial", "0123456789ac.old")),
    ]
    for folder in left:
        folder.mkdir()
        (folder / "SYNTHETIC.txt").write_text("unfinished")
    made(*command, "--dry-run")
    assert all(folder.is_dir() for folder in left)
    made(*command)
    # A replaced export stays as long as nothing has taken its place.
    assert [folder.is_dir() for folder in left] == [False, True, True, True, True]
    made(*command, "--replace")
    assert [folder.is_dir() for folder in left] == [False, True, True, True, False]


def test_an_export_that_was_set_aside_is_not_lost(made: Run, tmp_path: Path) -> None:
    out, aside = tmp_path / "out", tmp_path / "out.0123456789ab.old"
    command = ("export", "motion", "--to", "npy", "--out", out)
    made(*command)
    before = files_of(out)
    out.rename(aside)  # as a run does that is killed before the new one takes the name
    with pytest.raises(ConfigError, match="the run that was to replace it ended early"):
        made(*command)
    assert files_of(aside) == before
    made(*command, "--replace")
    assert files_of(out) == before
    assert not aside.exists()


def test_two_exports_to_one_folder_do_not_meet(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Lock(out), pytest.raises(LockedError, match="Another export is being written"):
        made("export", "motion", "--to", "npy", "--out", out)
    made("export", "motion", "--to", "npy", "--out", out)
    assert not list(tmp_path.glob("out.*"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('range = "4"', "'range' of the preset must be a number above 0, not '4'"),
        ("range = [1]", r"must be a number above 0, not \[1\]"),
        ("range = true", "must be a number above 0, not True"),
        ("range = 0", "must be a number above 0, not 0"),
        ("range = nan", "must be a number above 0, not nan"),
        ("range = inf", "must be a number above 0, not inf"),
        ("title = 5", "'title' of the preset must be text, not 5"),
        ("rnage = 4", "A preset has no key 'rnage'. Did you mean 'range'"),
        ('name = "x"', "A preset has no key 'name'"),
    ],
)
def test_what_is_wrong_in_a_preset_is_named(tmp_path: Path, line: str, message: str) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text(f'stage = "motion"\nscaling = "symmetric"\n{line}\n')
    with pytest.raises(ConfigError, match=message) as caught:
        read_preset(str(preset))
    assert caught.value.where == str(preset)


def test_a_range_is_finite() -> None:
    with pytest.raises(ConfigError, match="'--range' is out of range: inf"):
        ExportOptions("png", range=float("inf"))


def test_an_export_that_fails_leaves_what_was_there(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("export", "motion", "--to", "npy", "--out", out, "--replace")
    made(*command)
    before = files_of(out)
    with (
        mock.patch("mer_prep.export.exporter._write_index", side_effect=OSError("no space left")),
        pytest.raises(AssertionError),
    ):
        made(*command)
    assert files_of(out) == before
    assert not list(tmp_path.glob("out.*"))


def test_a_dry_run_writes_nothing(made: Run, tmp_path: Path) -> None:
    command = ("export", "motion", "--to", "png", "--out", tmp_path / "out", "--dry-run")
    assert "4 clips of 'motion' (flow, frames, pairs)" in made(*command).output
    assert json.loads(made(*command, "--json").output)["clips"] == 4
    assert not (tmp_path / "out").exists()


def test_missing_results_are_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="toy/sub01 and 1 more") as caught:
        run("export", "motion", "--to", "npy", "--out", tmp_path / "out")
    assert "mer-prep motion" in caught.value.hint
    make(run, tmp_path)
    changed = ("--set", "motion.strength=2")
    with pytest.raises(ShardError, match="no current result"):
        run("export", "motion", "--to", "npy", "--out", tmp_path / "out", *changed)


def test_quarantined_clips_are_named_and_cost_the_exit_code(
    run: Run, imported: Workspace, tmp_path: Path
) -> None:
    clips = with_emotions(imported, "happiness", "fear", "disgust", "disgust")
    make(run, tmp_path, code=3)
    out = tmp_path / "out"
    output = run("export", "motion", "--to", "npy", "--out", out, code=3).output
    assert "3 clips of 'motion'" in output
    assert "1 quarantined and left out" in output
    described = json.loads((out / "export.json").read_text())
    assert described["quarantined"] == [clips[1].clip_id]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("numbers", "--to", "png"), "gives no pictures"),
        (("motoin", "--to", "npy"), "Did you mean 'motion'"),
        (("motion", "--to", "npy", "--range", 3), "not scaled in the format 'npy'"),
        (("motion", "--to", "png", "--range", 3, "--scaling", "min-max"), "min-max"),
        (("motion", "--to", "png", "--preset", "strain-uint8"), "is for 'strain'"),
        (("motion", "--to", "png", "--preset", "strain-uint8", "--range", 3), "sets scaling"),
    ],
)
def test_mistakes(made: Run, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made("export", *arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_range_below_zero_is_no_range(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = made("export", "motion", "--to", "png", "--range", -3, "--out", out, code=2).output
    assert "'--range': -3.0 is not in the range x>0" in said
    assert not out.exists()


def test_a_picture_without_its_scale_is_not_read(made: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made("export", "motion", "--to", "png", "--out", out)
    picture = next(out.rglob("flow-00000-u.png"))
    picture.with_name("clip.json").unlink()
    with pytest.raises(DecodeError, match="its scale cannot be read"):
        read_png(picture)


def test_progress_is_told(made: Run, imported: Workspace, tmp_path: Path) -> None:
    from mer_prep.export.selection import select_items
    from mer_prep.stages.base import build_stages
    from mer_prep.stages.plan import Recipe

    recipe = Recipe(*build_stages(STAGES, ("motion",), {}))
    chosen = select_items(imported, (), recipe, "motion")
    seen = []
    options = ExportOptions("npy")
    write_export(chosen, tmp_path / "out", options, progress=lambda *one: seen.append(one))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
