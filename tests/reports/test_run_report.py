"""Pages of trained runs: what they say, and that they carry no more than they may."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")
pytest.importorskip("jinja2")

from mer_prep.dataset import ClipStore
from mer_prep.errors import TrainingError
from mer_prep.reports.citations import citations, methods_paragraph
from mer_prep.reports.comparison import comparison_page
from mer_prep.reports.page import Page, write_page
from mer_prep.reports.run import marks, run_page
from mer_prep.reports.run_scores import confusion_tables, mean_losses, scores_table
from mer_prep.reports.wrong_clips import wrong_rows
from mer_prep.training.machine import Machine
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.results import read_predictions, write_results
from mer_prep.training.study import fold_folder, open_run, run_fold
from tests.bars import CLASSES, CLIPS, FOLDS, SMALLEST, one_thread, study, write_shards


def train(root: Path, name: str, **changes: object):
    made = study(
        architecture=SMALLEST,
        training=TrainingSettings(steps=4, batch=4, learning_rate=1e-3),
        labels="megc2019-3",
        clip_lists={"test": "a" * 64, "all": "b" * 64},
        **changes,
    )
    run = root / "runs" / name
    open_run(run, made)
    with one_thread():
        for fold in FOLDS:
            run_fold(run, made, fold, ClipStore(CLIPS), Machine())
    write_results(run, made)
    return run, made


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    return write_shards(tmp_path_factory.mktemp("reports") / "ws")


@pytest.fixture(scope="module")
def trained(workspace):
    return train(workspace, "first")


def text_of(page: Page) -> str:
    return "".join(page.pieces())


def section(text: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', text, re.S)
    assert found
    return found.group()


def change_predictions(run: Path, made, change) -> None:
    """Write other predictions of a run, and score it again."""
    for fold in made.folds:
        path = fold_folder(run, fold) / "predictions.csv"
        rows = list(csv.DictReader(path.read_text().splitlines()))
        for row in rows:
            change(row)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    write_results(run, made)


def test_a_page_says_scores_subjects_and_wrong_clips(workspace, trained):
    run, made = trained
    results = json.loads((run / "results.json").read_text())
    text = text_of(run_page(workspace, run, made))
    assert f"{results['scores']['all']['uf1']:.3f}" in section(text, "scores")
    # Always the same class of three equal ones: UF1 = 1/3 * 2 * 3 / (3 + 9).
    assert "0.167" in section(text, "scores")
    rows = read_predictions(run, made)
    wrong = wrong_rows(rows, made.classes)
    assert wrong, "the toy should not be perfect, or this shows nothing"
    cards = section(text, "wrong")
    assert cards.count('<article class="clip"') == len(wrong)
    for row in wrong:
        assert f">{row['clip_id']}<" in cards
    assert cards.count("<img ") == 3 * len(wrong) + 1
    subjects = section(text, "subjects")
    for s in range(3):
        mine = [row for row in rows if row["subject"] == f"test/s{s}"]
        right = sum(row["label"] == row["predicted"] for row in mine)
        assert re.search(
            rf'test/s{s}</th><td class="number">3</td><td class="number">{right}<', subjects
        )
    assert "SYNTHETIC" in text
    assert section(text, "losses").count("<svg viewBox") >= 2


def test_published_figures_of_classes_and_of_what_is_fused_stand_beside_ours(trained):
    run, _ = trained
    results = json.loads((run / "results.json").read_text())
    assert "published recall" not in str(confusion_tables(results))
    mine = results["scores"]["all"]
    recalls = {f"recall of {name}": 0.111 + n for n, name in enumerate(CLASSES[:2])}
    changed = results | {
        "parts": {"micro": mine | {"uf1": 0.4321}},
        "published": [{"part": "all", "source": "Table 8", "scores": {"acc": 0.7526} | recalls}],
        "published_parts": {
            "micro": [{"part": "all", "source": "Table 3", "scores": {"acc": 0.622}}]
        },
    }
    page = str(scores_table(changed))
    assert re.search(r'micro alone</th><td class="number">9</td><td class="number">0.432<', page)
    assert re.search(r"published, micro alone<br><small>Table 3</small>.*0\.622", page)
    assert re.search(r"published, all<br><small>Table 8</small>.*0\.753", page)
    first, *others = str(confusion_tables(changed)).split("<table")[1:]
    rows = re.findall(r'<td class="number">([^<]*)</td></tr>', first)
    assert rows == ["0.111", "1.111", "–"]
    assert not any("published" in one for one in others)


def test_wrong_clips_are_those_that_the_model_was_surest_of_first():
    rows = [
        {"clip_id": f"c{n}", "label": "0", "predicted": str(p), "p_a": "0.1", "p_b": str(chance)}
        for n, (p, chance) in enumerate([(1, 0.6), (0, 0.9), (1, 0.9), (1, 0.6)])
    ]
    assert [row["clip_id"] for row in wrong_rows(rows, ("a", "b"))] == ["c2", "c0", "c3"]


def test_a_page_without_faces_holds_none(workspace, trained):
    run, made = trained
    with_faces = text_of(run_page(workspace, run, made))
    without = text_of(run_page(workspace, run, made, faces=False))
    assert 'alt="aligned frame' in with_faces
    assert 'alt="aligned frame' not in without
    assert 'alt="landmarks of frame' in without


def test_missing_shards_are_said_and_the_rest_is_shown(tmp_path, trained):
    run, made = trained
    text = text_of(run_page(tmp_path, run, made))
    assert "No pictures: The shard is missing." in section(text, "wrong")
    assert "confusion" in text


def test_marks_of_leaky_and_shuffled_runs_stand_on_top(trained):
    results = json.loads((trained[0] / "results.json").read_text())
    titles = [one.title for one in marks(results | {"leaky": True, "shuffled_labels": True})]
    assert titles == ["LEAKY", "LABELS SHUFFLED", "SYNTHETIC"]
    assert list(marks(results | {"synthetic": False})) == []


def test_a_run_that_is_not_scored_is_refused(workspace, tmp_path):
    made = study()
    open_run(tmp_path / "run", made)
    with pytest.raises(TrainingError, match="3 of 3 folds are not finished"):
        run_page(workspace, tmp_path / "run", made)


def test_losses_are_means_over_folds_and_stretches(tmp_path):
    logs = []
    for fold in range(2):
        path = tmp_path / f"{fold}.csv"
        lines = ["step,expression,flow"]
        lines += [f"{step},{step + fold},{'' if step % 2 else 4}" for step in range(1, 301)]
        path.write_text("\n".join(lines) + "\n")
        logs.append(path)
    found = mean_losses([*logs, tmp_path / "missing.csv"])
    steps, values = found["expression"]
    assert len(steps) == 150
    assert (steps[0], values[0]) == (1.5, pytest.approx((1 + 2 + 2 + 3) / 4))
    assert set(found["flow"][1]) == {4.0}


def test_licensed_faces_are_announced(workspace, trained, monkeypatch):
    run, made = trained
    assert "RESTRICTED" not in text_of(run_page(workspace, run, made))
    header = SimpleNamespace(restricted=True)
    monkeypatch.setattr("mer_prep.reports.wrong_clips.read_header", lambda path: header)
    for faces, said in ((True, "shows faces of a licensed corpus"), (False, "without faces")):
        banner = run_page(workspace, run, made, faces=faces).banners[-1]
        assert banner.title == "RESTRICTED"
        assert said in banner.text


def test_the_paragraph_states_what_a_paper_must_and_cites_it(trained):
    results = json.loads((trained[0] / "results.json").read_text())
    recipe = {"stages": {"align": {"version": 5, "params": {"size": 144}}}}
    text = methods_paragraph(results, recipe)
    keys = {one.key for one in citations(results)}
    assert {"mer-prep", "mol", "megc2019-3"} <= keys
    for said in (
        "SYNTHETIC",
        "9 clips of 3 subjects",
        "b" * 64,
        results["passport"]["folds"],
        "leave-one-subject-out in 3 folds",
        "nothing was chosen on the test subject",
        'align (version 5, {"size":144})',
        f"UF1 {results['scores']['all']['uf1']:.3f}",
    ):
        assert said in text, said
    leaky = methods_paragraph(results | {"selection": "LEAKY"}, {})
    assert "(LEAKY)" in leaky
    assert "prepared with" not in leaky
    real = citations(results | {"passport": {"clip_lists": {"samm": "x", "all": "y"}}})
    assert real[-1].doi == "10.1109/TAFFC.2016.2573832"
    assert "doi = {10.1109/TAFFC.2016.2573832}" in real[-1].bibtex()


def test_runs_are_compared_on_their_clips(workspace, trained):
    run, made = trained
    other, theirs = train(workspace, "second", seed=2)

    def first_right(row):
        row["predicted"] = row["label"]

    change_predictions(other, theirs, first_right)
    text = text_of(comparison_page([(run, made), (other, theirs)]))
    rows = read_predictions(run, made)
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    scores = section(text, "scores")
    assert f"{len(wrong)} right here only, 0 there only" in scores
    clips = section(text, "clips")
    assert f"{len(wrong)} of 9 clips" in clips
    for row in wrong:
        said, label = CLASSES[int(row["predicted"])], CLASSES[int(row["label"])]
        cells = f'<td class="">{label}</td><td class="bad">{said}</td><td class="good">{label}</td>'
        assert f"{row['clip_id']}</th>{cells}" in clips
    settings = section(text, "settings")
    assert '<th scope="row">seed</th>' in settings
    assert "architecture." not in settings


def test_runs_of_other_labels_are_shown_and_not_tested(workspace, trained):
    run, made = trained
    turned = [dataclasses.replace(one, label=(one.label + 1) % 3) for one in made.clips]
    other, theirs = train(workspace, "turned", shuffled=True, clips=tuple(turned))
    text = text_of(comparison_page([(run, made), (other, theirs)]))
    assert "not comparable: 9 of 9 clips have other labels there" in text
    assert "LABELS SHUFFLED" in text


def test_a_page_is_written_whole(workspace, trained, tmp_path):
    run, made = trained
    page = run_page(workspace, run, made)
    size = write_page(page, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size == size
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
