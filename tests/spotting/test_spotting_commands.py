"""The commands spotting-truth and evaluate-spotting, as a newcomer runs them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mer_prep.cli import cli
from mer_prep.errors import MerPrepError
from mer_prep.manifest import Clip, ImportRecord, Recording
from mer_prep.manifest_files import write_manifest
from mer_prep.spotting import read_truth

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a runner in a workspace with three recordings; errors made for people are raised."""
    recordings = tuple(
        Recording(f"006_{i}", f"00{5 + i}", f"v/006_{i}", 1, 500, 500) for i in (1, 2, 3)
    )
    clips = [
        _clip("006_1_1", 10, 19, "micro"),
        _clip("006_1_2", 100, 149, "macro"),
        _clip("006_2_1", 30, 39, "micro"),
    ]
    record = ImportRecord("samm_lv", "samm_lv", "/data", synthetic=True, recordings=recordings)
    write_manifest(tmp_path / "ws" / "manifests", clips, record)

    def call(*arguments: object, code: int = 0) -> Result:
        words = [str(one) for one in (*arguments, "--workspace", tmp_path / "ws")]
        result = CliRunner().invoke(cli, words)
        if isinstance(result.exception, MerPrepError):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


def _clip(name: str, onset: int, offset: int, kind: str) -> Clip:
    subject, recording = f"00{5 + int(name[4])}", name[:5]
    return Clip(
        clip_id=f"samm_lv/{subject}/{name}",
        corpus="samm_lv",
        subject=subject,
        clip=name,
        root="/data",
        frame_numbers=(onset,),
        frames=(f"v/{recording}/{onset}.jpg",),
        onset=onset,
        offset=offset,
        emotion="anger" if kind == "micro" else None,
        expression_type=kind,
    )


@pytest.fixture
def spotted(tmp_path: Path) -> Path:
    path = tmp_path / "spotted.csv"
    lines = [
        "video,onset,offset,type,emotion",
        "006_1,12,19,micro,anger",
        "006_1,100,149,macro,",
        "006_3,490,510,micro,disgust",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_truth_is_written_and_summed_up(run, tmp_path):
    result = run("spotting-truth")
    path = tmp_path / "ws" / "spotting-truth.csv"
    cells = [line.split() for line in result.output.splitlines()]
    assert cells[1] == ["samm_lv", "3", "1", "2", "1", "5", "25"]
    assert "spotting-truth: 3 expressions in 3 videos, digest" in result.output
    assert result.output.rstrip().endswith(f"in {path}, SYNTHETIC")
    truth = read_truth(path)
    assert (len(truth.videos), len(truth.intervals), truth.synthetic) == (3, 3, True)
    facts = json.loads(run("spotting-truth", "--json", "-o", tmp_path / "t.csv").stdout)
    assert facts["digest"] == truth.digest()
    assert facts["corpora"][0]["k_macro"] == 25


def test_scores_of_both_types_and_overall(run, spotted, tmp_path):
    log = tmp_path / "log.txt"
    result = run("evaluate-spotting", spotted, "--log", log)
    cells = {line.split()[0]: line.split() for line in result.output.splitlines()}
    assert cells["micro"][1:9] == ["2", "2", "1", "1", "1", "0.5000", "0.5000", "0.5000"]
    assert cells["macro"][1:9] == ["1", "1", "1", "0", "0", "1.0000", "1.0000", "1.0000"]
    assert cells["overall"][1:9] == ["3", "3", "2", "1", "1", "0.6667", "0.6667", "0.6667"]
    assert (
        "1 spotted interval beyond the frames of the video, the first 490 to 510" in result.output
    )
    assert "F1 0.6667 (overall) on 3 videos, 1 of them without an expression" in result.output
    assert result.output.rstrip().endswith("SYNTHETIC")
    assert len(log.read_text(encoding="utf-8").splitlines()) == 4


def test_facts_as_json_from_the_workspace_and_from_a_file_are_the_same(run, spotted, tmp_path):
    run("spotting-truth", "-o", tmp_path / "truth.csv")
    arguments = ("evaluate-spotting", spotted, "--json", "--type", "micro", "--strs", "strict")
    here = json.loads(run(*arguments).stdout)
    there = json.loads(run(*arguments, "--truth", tmp_path / "truth.csv").stdout)
    assert here["scores"] == there["scores"]
    assert here["truth_digest"] == there["truth_digest"]
    assert here["notes"] == there["notes"]
    assert "beyond the frames of the video" in here["notes"][-2]
    assert "emotion 'disgust' is spotted (1 interval)" in here["notes"][-1]
    assert here["synthetic"]
    assert there["synthetic"]
    assert here["scores"]["micro"]["f1"] == 0.5
    assert set(here["scores"]) == {"micro"}
    assert (here["videos"], here["videos_without"]) == (3, 1)
    # One of the two emotions that occur is never in a pair: mean precision and recall are 1/2.
    assert here["strs"]["micro"]["analysis"]["f1"] == 0.5
    assert here["strs"]["micro"]["strs"] == 0.25


def test_the_two_modes_of_strs_are_told_apart(run, spotted):
    lines = {}
    for mode in ("strict", "reference"):
        result = run("evaluate-spotting", spotted, "--type", "micro", "--strs", mode)
        (lines[mode],) = [line for line in result.output.splitlines() if "STRS" in line]
    assert lines["strict"].startswith("STRS (strict), micro: 0.2500 = F1 of spotting 0.5000")
    # Neither the false positive in 006_3 nor the miss of subject 007 is counted.
    assert lines["reference"].startswith("STRS (reference), micro: 0.5000 = F1 of spotting 1.0000")
    with pytest.raises(MerPrepError, match="1 of 1 annotated expressions have no emotion"):
        run("evaluate-spotting", spotted, "--strs", "strict")


def test_an_emotion_that_is_annotated_nowhere_is_noted(run, tmp_path):
    predictions = tmp_path / "spotted.csv"
    rows = ["006_1,11,19,micro,anger", "006_2,30,39,micro,angr", "006_3,1,9,micro,angr"]
    predictions.write_text("\n".join(["video,onset,offset,type,emotion", *rows, ""]))
    words = ("evaluate-spotting", predictions, "--type", "micro")
    note = "emotion 'angr' is spotted (2 intervals), and no expression that is scored has it"
    result = run(*words, "--strs", "strict")
    assert f"note: {note}" in result.output
    assert "Did you mean 'anger'?" in result.output
    (said,) = json.loads(run(*words, "--strs", "strict", "--json").stdout)["notes"]
    assert said.startswith(note)
    # Without emotions scored, it does not matter.
    assert "that is scored has it" not in run(*words).output
    predictions.write_text("\n".join(["video,onset,offset,type,emotion", rows[0], ""]))
    assert "that is scored has it" not in run(*words, "--strs", "strict").output


def test_a_truth_without_videos_is_refused(run, spotted, tmp_path):
    truth = tmp_path / "truth.csv"
    for rows in ("", "a note\n"):
        truth.write_text("note,video,onset,offset,type\n" + rows.replace("\n", ",,,,\n"))
        with pytest.raises(MerPrepError, match="The ground truth names no video") as caught:
            run("evaluate-spotting", spotted, "--truth", truth)
        assert caught.value.where == str(truth)


def test_what_looks_odd_is_noted(run, spotted, tmp_path):
    result = run("evaluate-spotting", spotted, "--type", "macro")
    assert "note: 2 spotted intervals of another type not scored" in result.output
    truth = tmp_path / "truth.csv"
    truth.write_text("video,onset,offset,type\na/006_1,1,9,micro\nb/006_3,,,\n", encoding="utf-8")
    result = run("evaluate-spotting", spotted, "--truth", truth)
    assert "note: no macro-expression is annotated" in result.output


def test_options_that_a_truth_file_has_decided_are_refused(run, spotted, tmp_path):
    run("spotting-truth", "-o", tmp_path / "truth.csv")
    for words in (["samm_lv"], ["--missing-offset", "drop"], ["--onset-at-start", "keep"]):
        result = run(
            "evaluate-spotting", spotted, *words, "--truth", tmp_path / "truth.csv", code=2
        )
        assert "--truth FILE says what the ground truth is" in result.output


def test_a_threshold_of_zero_is_refused(run, spotted):
    said = run("evaluate-spotting", spotted, "--iou", "0", code=2).output
    assert "'--iou': 0.0 is not in the range 0<x<=1" in said


def test_nothing_annotated_and_nothing_spotted_is_no_score(run, tmp_path):
    truth, none = tmp_path / "truth.csv", tmp_path / "none.csv"
    truth.write_text("video,onset,offset,type\na,,,\nb,5,9,macro\n")
    none.write_text("video,onset,offset\n")
    chosen = ("evaluate-spotting", none, "--truth", truth, "--type")
    output = run(*chosen, "micro").output
    row = next(line.split() for line in output.splitlines() if line.startswith("micro"))
    assert row[-4:] == ["-", "-", "-", "-"]
    assert "evaluate-spotting: F1 - (micro)" in output
    facts = json.loads(run(*chosen, "micro", "--json").stdout)["scores"]["micro"]
    assert facts["f1"] is facts["precision"] is facts["recall"] is facts["f1_interval"] is None
    missed = json.loads(run(*chosen, "macro", "--json").stdout)["scores"]["macro"]
    assert (missed["f1"], missed["fn"]) == (0, 1)


def test_lines_of_a_corpus_that_was_not_named_are_explained(run, tmp_path):
    clip = dataclasses.replace(_clip("006_1_1", 10, 19, "micro"), corpus="casme_sq")
    clip = dataclasses.replace(clip, clip_id="casme_sq/006/006_1_1")
    recording = Recording("006_1", "006", "v/006_1", 1, 500, 500)
    record = ImportRecord("casme_sq", "casme_sq", "/data", synthetic=True, recordings=(recording,))
    write_manifest(tmp_path / "ws" / "manifests", [clip], record)
    path = tmp_path / "two.csv"
    path.write_text("video,onset,offset,type\ncasme_sq/006_1,10,19,micro\n")
    with pytest.raises(MerPrepError, match="'casme_sq/006_1' is of corpus 'casme_sq', which is"):
        run("evaluate-spotting", path, "samm_lv")
    assert "F1" in run("evaluate-spotting", path, "samm_lv", "casme_sq").output
