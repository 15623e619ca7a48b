"""The commands, as a newcomer runs them, on small synthetic corpora."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.errors import MerPrepError
from mer_prep.protocols import read_folds
from mer_prep.store.cache import Cache
from mer_prep.store.shard import read_clip, read_header
from mer_prep.synth.corpus import write_corpus
from mer_prep.workspace import Workspace

pytest.importorskip("dlib")

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small synthetic CASME II and SMIC."""
    out = tmp_path_factory.mktemp("corpora")
    write_corpus("casme2", out, subjects=2, clips=2, frames=12)
    write_corpus("smic", out, subjects=1, clips=2, frames=12)
    return out


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a runner of commands in one workspace; errors made for people are raised."""
    monkeypatch.setenv("MER_PREP_WORKSPACE", str(tmp_path / "ws"))

    def call(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(one) for one in arguments])
        if isinstance(result.exception, MerPrepError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture(scope="module")
def template(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with both corpora imported and flow made, to be copied."""
    root = tmp_path_factory.mktemp("template") / "ws"
    for arguments in (
        ["import", "casme2", corpora / "CASME2"],
        ["import", "smic", corpora / "SMIC"],
        ["flow", "--jobs", 1],
    ):
        result = CliRunner().invoke(cli, [*map(str, arguments), "--workspace", str(root)])
        assert result.exit_code == 0, result.output
    return root


@pytest.fixture
def prepared(template: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(template, tmp_path / "ws")
    return Workspace(tmp_path / "ws")


def test_from_a_folder_to_the_composite(run: Run, prepared: Workspace) -> None:
    again = run("flow", "--jobs", 1)
    assert "6 clips: 0 done, 6 cached, 0 failed" in again.output
    assert "SYNTHETIC" in run("composite", "--pipeline", "onset-apex").output
    facts = json.loads((prepared.root / "composite.json").read_text())
    assert facts["synthetic"] is True
    assert all(entry["key"] for stage in facts["shards"].values() for entry in stage.values())
    assert facts["pipeline"]["stages"]["flow"]["params"]["apex"] == "annotated-or-midpoint"
    other = run("composite", "--labels", "casme2-5", "casme2", "--report")
    assert "note: the earlier composite there was replaced: megc2019-3, loso, " in other.output
    assert "SYNTHETIC clips: these are no scores of a corpus. Clips were prepared" in other.output
    assert "protocol loso, 2 folds, folds " in other.output
    aside = prepared.root.parent / "aside"
    assert "note:" not in run("composite", "--out", aside).output
    assert sorted(path.name for path in aside.iterdir()) == [
        "composite.json",
        "composite.jsonl",
        "folds.json",
        "left-out.csv",
    ]
    clip_id = next(iter(read_folds(prepared.root / "folds.json").folds[0].test))
    assert "composite (casme2-5): class " in run("inspect", clip_id).output
    elsewhere = prepared.clips("smic")[0].clip_id
    assert "composite (casme2-5): not in it" in run("inspect", elsewhere).output
    assert "9 shards, 0 damaged" in run("verify").output
    assert "gc: 0 files" in run("gc").output
    assert json.loads(run("status", "--json").output)["results"][0]["stale"] == 0


def test_results_do_not_depend_on_the_number_of_processes(
    run: Run, prepared: Workspace, tmp_path: Path
) -> None:
    other = Workspace(tmp_path / "other")
    (other.root / "manifests").mkdir(parents=True)
    for path in prepared.manifests.iterdir():
        (other.manifests / path.name).write_bytes(path.read_bytes())
    run("flow", "--jobs", 2, "--workspace", other.root)
    shards = [
        {path.relative_to(workspace.cache) for path in Cache(workspace.cache).shards()}
        for workspace in (prepared, other)
    ]
    assert shards[0] == shards[1]
    for name in shards[0]:
        for clip_id in read_header(prepared.cache / name).clips:
            first, facts = read_clip(prepared.cache / name, clip_id)
            second, same = read_clip(other.cache / name, clip_id)
            assert facts == same
            for key, array in first.items():
                np.testing.assert_array_equal(array, second[key])


def test_inspect_films_a_clip(run: Run, prepared: Workspace, tmp_path: Path) -> None:
    (clip, *_) = prepared.clips("casme2")
    film = tmp_path / "clip.mp4"
    said = run("inspect", clip.clip_id, "--video", film).output
    video = cv2.VideoCapture(str(film))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    video.release()
    shown = clip.offset - clip.onset + 1
    assert f"film: {shown} frames" in said
    assert len(frames) == shown
    # The flow's part is white at the onset, and is not at the apex.
    onset, apex = frames[0], frames[clip.apex - clip.onset]
    assert onset[110:380, 640:910].mean() > 250
    assert (apex[110:380, 640:910].min(axis=-1) < 200).mean() > 0.01
    assert [path.name for path in tmp_path.glob("clip*")] == ["clip.mp4"]
    with pytest.raises(MerPrepError, match="writes MP4 or AVI"):
        run("inspect", clip.clip_id, "--video", tmp_path / "clip.mov")


def test_inspect_shows_clips_and_shards(run: Run, prepared: Workspace, tmp_path: Path) -> None:
    clip_id = prepared.clips("casme2")[0].clip_id
    picture = tmp_path / "clip.png"
    assert "flow (current, defaults)" in run("inspect", clip_id, "--show", picture).output
    image = cv2.imread(str(picture))
    assert image.shape[1] > 800
    assert image.std() > 20
    shard = Cache(prepared.cache).shards("flow")[0]
    assert "(pair channel y x), px, channels u v" in run("inspect", shard).output
    facts = json.loads(run("inspect", shard, "--json").output)
    assert facts["stage"] == "flow"
    with pytest.raises(MerPrepError, match="Did you mean"):
        run("inspect", clip_id + "x")
    with pytest.raises(MerPrepError, match=r"c\.jpg is no \.png"):
        run("inspect", clip_id, "--show", tmp_path / "c.jpg")
    assert not (tmp_path / "c.jpg").exists()
    run("composite")
    other = tmp_path / "notes.txt"
    other.write_text("x")
    for path, what in (
        (prepared.root / "folds.json", "folds.json holds the folds of the composite, which"),
        (prepared.manifests / "casme2.jsonl", "holds the import of casme2, which"),
        (other, "notes.txt is no shard."),
    ):
        with pytest.raises(MerPrepError, match=what) as caught:
            run("inspect", path)
        assert "delete" not in str(caught.value)


def test_dry_run_says_why_and_does_nothing(run: Run, prepared: Workspace) -> None:
    before = Cache(prepared.cache).shards()
    output = run("flow", "--dry-run", "--set", "align.mode=median").output
    assert "align.mode: stabilized -> median" in output
    assert "6 shards to make, 3 cached" in output
    rows = [line.split() for line in output.splitlines() if line.startswith(("align ", "flow "))]
    assert [row[:4] for row in rows] == [
        ["align", "casme2", "2", "4"],
        ["flow", "casme2", "2", "4"],
        ["align", "smic", "1", "2"],
        ["flow", "smic", "1", "2"],
    ]
    assert Cache(prepared.cache).shards() == before


def test_a_bad_clip_gives_exit_code_3_and_nothing_else_is_lost(
    run: Run, corpora: Path, tmp_path: Path
) -> None:
    root = tmp_path / "SMIC"
    shutil.copytree(corpora / "SMIC", root)
    frames = sorted(root.rglob("micro/*/s1_po_01/*.bmp"))
    frames[3].write_bytes(frames[3].read_bytes()[:5000])
    run("import", "smic", root)
    output = run("align", "--jobs", 2, code=3).output
    assert "2 clips: 1 done, 0 cached, 1 failed" in output
    assert "truncated or damaged" in (tmp_path / "ws" / "failures.jsonl").read_text()
    assert "1 done" not in run("align", "--jobs", 1, code=3).output
    (line, last) = run("status", "--failed").output.splitlines()
    assert line.startswith("smic/s01/s1_po_01  landmarks  DecodeError: ")
    assert "truncated or damaged" in line
    assert last.startswith("status: 1 clip failed, in ")
    (entry,) = json.loads(run("status", "--failed", "--json").output)
    assert (entry["stage"], entry["settings"]) == ("landmarks", "defaults")
    assert "0 errors" in run("validate").output
    assert "truncated or damaged" in run("validate", "--frames", "whole", code=1).output


def test_motion_is_represented_in_every_way(run: Run, prepared: Workspace) -> None:
    for pipeline in ("ststnet-uvos", "frl-dgt"):
        output = run("run", pipeline, "--jobs", 1).output
        assert "6 clips: 6 done, 0 cached, 0 failed" in output
        assert "note smic: 2 of 2 clips have no annotated apex" in output
    expected = {
        "strain": {"strain": (1, 144, 144)},
        "motion-image": {"motion_image": (1, 3, 28, 28)},
        "difference": {"difference": (1, 144, 144, 3)},
        "dynamic-image": {"dynamic_image": (144, 144, 3)},
    }
    for stage, shapes in expected.items():
        spotted = ("--set", "difference.apex=annotated-or-spotted") * (stage == "difference")
        assert "6 done" not in run(stage, "--jobs", 1, *spotted).output
        for shard in Cache(prepared.cache).shards(stage):
            for clip_id in read_header(shard).clips:
                arrays, _ = read_clip(shard, clip_id)
                for name, shape in shapes.items():
                    assert arrays[name].shape == shape
                    assert arrays[name].std() > 0
    assert "--set difference.apex=annotated" in run("difference", "--jobs", 1).output
    chosen = ("difference", "smic", "--jobs", 1, "--set", "difference.apex=annotated")
    left_out = run(*chosen).output
    assert "2 clips have no annotated apex and are left out, by difference.apex=annotated" in (
        left_out
    )
    assert "0 done, 0 cached, 0 failed, 2 left out" in left_out
    assert "quarantined" not in left_out
    assert run("status", "--failed").output.startswith("status: 0 clips failed, in ")
    said = "smic: difference (difference.apex=annotated) leaves out 2 clips by choice"
    assert said in run("status").output
    assert json.loads(run(*chosen, "--json").stdout)["left_out"] == [
        clip.clip_id for clip in prepared.clips("smic")
    ]
    spotted = run("apex", "--jobs", 1).output
    assert re.search(
        r"  casme2: the apex found is [\d.]+ frames from the annotated one on average "
        r"\(3 clips\), \d+ at worst \(casme2/sub0\d/\w+\)\n",
        spotted,
    )
    assert "smic: the apex" not in spotted
    options = ("--set", "dynamic-image.input=flow", "--set", "flow.pairs=onset-to-all")
    assert "2 done" in run("dynamic-image", "smic", "--jobs", 1, *options).output


def test_evaluate_truth_prints_scores(run: Run, prepared: Workspace) -> None:
    facts = json.loads(run("evaluate-truth", "--json", "--jobs", 1).stdout)
    pooled = facts["pooled"]["all"]
    assert len(facts["clips"]) == 6
    assert pooled["landmark_error_outer_corners"]["mean"] < 0.05
    assert pooled["endpoint_error_px"]["mean"] < 0.15
    assert pooled["alignment_error_px"]["worst"] < 0.06
    expression = pooled["expression_error_px"]["mean"]
    assert expression < 0.5 * pooled["zero_expression_error_px"]["mean"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("flow", "casme"), "Did you mean 'casme2'"),
        (("flow", "--set", "align.mod=onset"), "Did you mean 'align.mode'"),
        (("flow", "--set", "aling.mode=onset"), "Did you mean 'align'"),
        (("flow", "--set", "align.size=-3"), "out of range"),
        (("dynamic-image", "--set", "dynamic-image.input=flow"), "no order in time"),
        (("flow", "--set", "flow.mask=eye"), "Did you mean 'eyes'"),
        (("flow", "--subject", "casme2/sub1"), "Did you mean 'casme2/sub01'"),
        (("flow", "--scheduler", "tcp://host:8786"), "the engine is 'loky'"),
        (("run", "onset-apx"), "Did you mean 'onset-apex'"),
        (("composite", "--labels", "megc2019"), "Did you mean 'megc2019-3'"),
        (("import", "casme22", "."), "Did you mean 'casme2'"),
        (("import", "casme2", "no-such-folder"), "does not exist"),
    ],
)
def test_mistakes_are_named_with_the_nearest_name(
    run: Run, prepared: Workspace, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(MerPrepError, match=message):
        run(*arguments)


def program(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mer_prep.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_an_error_is_a_sentence_not_a_traceback(tmp_path: Path) -> None:
    result = program("flow", "--workspace", tmp_path / "none")
    assert result.returncode == 1
    assert result.stderr.startswith("error: The workspace has no imported corpus.")
    assert "what to do:" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in program("--debug", "flow", "--workspace", tmp_path / "none").stderr


def test_the_program_exits_with_the_codes_of_its_commands(
    prepared: Workspace, corpora: Path
) -> None:
    shard = Cache(prepared.cache).shards("flow")[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    assert program("verify", "--workspace", prepared.root).returncode == 1
    assert program("labels").returncode == 0
    frame = next((corpora / "SMIC").rglob("micro/*/s1_*_01/*.bmp"))
    whole = frame.read_bytes()
    try:
        frame.write_bytes(whole[:100])
        result = program("landmarks", "smic", "--jobs", "1", "--workspace", prepared.root)
    finally:
        frame.write_bytes(whole)
    assert result.returncode == 3, result.stdout + result.stderr


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    result = program("flwo")
    assert result.returncode == 2
    assert "Did you mean 'flow'?" in result.stderr
    assert program("flow", "--jobs", "-1").returncode == 2


@pytest.mark.parametrize("name", ["", "cache", "manifests", "reports"])
@pytest.mark.parametrize("command", ["status", "gc", "verify"])
def test_a_file_in_place_of_a_folder_of_the_workspace_is_refused(
    command: str, name: str, run: Run, tmp_path: Path
) -> None:
    place = tmp_path / "ws" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine")
    assert "is a file, not a folder" in run(command, code=2).stderr


def test_help_needs_no_heavy_library() -> None:
    code = (
        "import sys; from mer_prep.cli import cli; "
        "heavy = {'cv2', 'numpy', 'h5py', 'dlib', 'torch', 'joblib', 'scipy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    for name in cli.commands:
        assert program(name, "--help", LC_ALL="C").returncode == 0


def test_doctor_finds_what_is_here(run: Run) -> None:
    facts = {one["name"]: one for one in json.loads(run("doctor", "--json").stdout)}
    assert facts["TV-L1"]["state"] == "ok"
    assert facts["dlib"]["state"] == "ok"
    assert facts["opencv"]["state"] == "ok"


def test_an_export_says_which_apex_its_strain_is_of(
    run: Run, prepared: Workspace, tmp_path: Path
) -> None:
    assert run("strain", "--jobs", 1).exit_code == 0
    assert run("export", "strain", "--to", "npy", "--out", tmp_path / "out").exit_code == 0
    with open(tmp_path / "out/index.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        # No apex of SMIC is annotated, and one of CASME II is missing.
        midpoint = row["apex"] == ""
        assert midpoint or row["corpus"] == "casme2"
        assert row["used_apex_source"] == ("midpoint" if midpoint else "annotated")
        assert int(row["used_onset"]) == int(row["onset"])
        if not midpoint:
            assert row["used_apex"] == row["apex"]


def test_another_composite_that_is_replaced_is_said(run: Run, prepared: Workspace) -> None:
    assert "replaced" not in run("composite").output
    assert "replaced" not in run("composite").output
    output = run("composite", "--protocol", "lovo").output
    assert "composite there was replaced: megc2019-3, loso, 5 clips (--out DIR keeps" in output
