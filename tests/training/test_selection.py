"""Which step is kept: the last, the best on held-out training subjects, or, stamped, the test's."""

from __future__ import annotations

import dataclasses
import json

import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, LeakError  # noqa: E402
from mer_prep.models.mol import Mol  # noqa: E402
from mer_prep.training.fit import Machine, Trial, View, fit  # noqa: E402
from mer_prep.training.methods import method_of  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.results import write_results  # noqa: E402
from mer_prep.training.selection import (  # noqa: E402
    INNER,
    LEAKY,
    Evaluation,
    Selection,
    best_evaluation,
    inner_subjects,
)
from mer_prep.training.start import split_training  # noqa: E402
from mer_prep.training.study import (  # noqa: E402
    fold_folder,
    open_run,
    read_study,
    run_fold,
    trained_model,
)
from tests.bars import (  # noqa: E402
    CLASSES,
    CLIPS,
    FOLDS,
    SMALLEST,
    KilledError,
    rows_of,
    study,
)

METHOD = method_of("mol", SMALLEST)

#: A rate at which the recognition of the toy clips jumps about.
JUMPY = TrainingSettings(steps=6, batch=4, learning_rate=2e-2, landmark_weight=1.0)


@pytest.fixture(scope="module")
def store() -> ClipStore:
    return ClipStore(CLIPS)


def test_the_steps_at_which_a_model_is_tried():
    assert Selection(INNER, evaluations=4).steps(10) == {2, 5, 8, 10}
    assert Selection(INNER, evaluations=9).steps(3) == {1, 2, 3}
    assert Selection().steps(10) == frozenset()
    with pytest.raises(ConfigError, match="Did you mean 'inner'"):
        Selection("iner")


def test_equal_scores_go_by_the_loss_or_as_in_published_scripts():
    tried = [Evaluation(1, 0.5, 0.7), Evaluation(2, 0.6, 0.9), Evaluation(3, 0.6, 0.8)]
    assert best_evaluation(tried, INNER).step == 3
    tried.append(Evaluation(4, 0.6, 0.8))
    assert best_evaluation(tried, INNER).step == 3
    assert best_evaluation(tried, LEAKY).step == 4


def test_whom_is_held_out_is_up_to_the_seed_and_never_takes_a_class_away():
    subjects = {f"{s}/{c}": s for s in "abcdef" for c in range(2)}
    labels = dict.fromkeys(subjects, 0)
    drawn = {inner_subjects(subjects, labels, part=0.3, seed=seed) for seed in range(20)}
    assert {len(one) for one in drawn} == {2}
    assert len(drawn) > 5
    # Only e shows class 1, so e stays whatever the seed.
    labels["e/1"] = 1
    found = [inner_subjects(subjects, labels, part=0.5, seed=seed) for seed in range(20)]
    assert all("e" not in one and len(one) == 3 for one in found)
    with pytest.raises(ConfigError, match="None of the 2 training subjects"):
        inner_subjects({"a": "a", "b": "b"}, {"a": 0, "b": 1}, part=0.2, seed=1)


def weights_after(store, tmp_path, steps: int, scores: dict[int, float] | None, kill: int = 0):
    """Return the weights of a training whose trials have scripted scores."""
    torch.manual_seed(0)
    model = Mol(SMALLEST, 3)
    fold = FOLDS[0]
    measures = iter((scores or {}).items())
    trial = None
    if scores:
        trial = Trial(frozenset(scores), INNER, lambda _: (next(measures)[1], 0.0))

    def stop(step, losses):
        if step == kill:
            raise KilledError

    given = {
        "name": fold.name,
        "seed": 1,
        "checkpoint": tmp_path / "checkpoint.safetensors",
        "trial": trial,
    }
    view = View(64, 1, store.statistics(fold.train))
    settings = dataclasses.replace(JUMPY, steps=steps)
    machine = Machine(checkpoint_every=2)
    if kill:
        with pytest.raises(KilledError):
            fit(model, METHOD, store, fold.train, view, settings, machine, **given, on_step=stop)
        torch.manual_seed(9)
        model = Mol(SMALLEST, 3)
    tried = fit(model, METHOD, store, fold.train, view, settings, machine, **given)
    assert [one.step for one in tried] == sorted(scores or ())
    return model.state_dict()


def test_the_weights_kept_are_those_of_the_best_step(store, tmp_path):
    short = weights_after(store, tmp_path / "short", 2, None)
    scores = {1: 0.1, 2: 0.9, 4: 0.3, 6: 0.5}
    best = weights_after(store, tmp_path / "best", 6, scores)
    last = weights_after(store, tmp_path / "last", 6, None)
    assert all(torch.equal(short[name], best[name]) for name in short)
    assert not torch.equal(last["expression.layers.4.weight"], best["expression.layers.4.weight"])
    # Killed in step 4, after the trial of step 2: what was best is not forgotten.
    again = weights_after(store, tmp_path / "killed", 6, scores, kill=4)
    assert all(torch.equal(short[name], again[name]) for name in short)


def test_inner_subjects_are_held_out_of_everything(tmp_path, store):
    made = study(architecture=SMALLEST, selection=Selection(INNER, 3, 0.5), training=JUMPY)
    open_run(tmp_path, made)
    assert read_study(tmp_path) == made
    for fold in FOLDS:
        run_fold(tmp_path, made, fold, store, Machine())
        facts = json.loads((fold_folder(tmp_path, fold) / "fold.json").read_text())
        (held_out,) = facts["inner_subjects"]
        assert held_out != fold.name
        assert [one["step"] for one in facts["evaluations"]] == [2, 4, 6]
        tried = [Evaluation(**one) for one in facts["evaluations"]]
        assert facts["step"] == best_evaluation(tried, INNER).step
        _, fitted, inner = split_training(made, fold)
        assert facts["training_clips"] == len(fitted) == 3
        assert {one.split("/")[1] for one in inner} == {held_out.split("/")[1]}
        model, statistics = trained_model(tmp_path, made, fold)
        assert statistics.mean == store.statistics(fitted).mean
        assert isinstance(model, Mol)
        assert not list(fold_folder(tmp_path, fold).glob("tried-*"))
    results = write_results(tmp_path, made)
    assert results["selection"] == "inner"
    assert results["leaky"] is False
    assert results["folds"]["test/s0"]["inner_subjects"]


def test_choosing_on_the_test_subject_pays_and_is_stamped(tmp_path, store):
    # What is tested is annotated against what is learnt: the longer a model learns, the worse it
    # does there, and at first it is at chance.
    clips = [dataclasses.replace(one, label=(one.label + 1) % 3) for one in study().clips]
    runs = {}
    for kind in ("last", LEAKY):
        made = study(
            architecture=SMALLEST,
            training=JUMPY,
            selection=Selection(kind, 6),
            clips=tuple(clips),
        )
        open_run(tmp_path / kind, made)
        for fold in FOLDS:
            run_fold(tmp_path / kind, made, fold, store, Machine())
        runs[kind] = write_results(tmp_path / kind, made)
    accuracy = {kind: one["scores"]["all"]["acc"] for kind, one in runs.items()}
    assert accuracy[LEAKY] >= 1 / 3 > accuracy["last"]
    assert runs[LEAKY]["leaky"] is True
    assert runs[LEAKY]["selection"] == "LEAKY"
    assert "no estimate" in runs[LEAKY]["warnings"][0]
    assert {row["selection"] for row in rows_of(tmp_path / LEAKY / "predictions.csv")} == {LEAKY}
    assert runs["last"]["warnings"] == []
    for fold in FOLDS:
        facts = json.loads((fold_folder(tmp_path / LEAKY, fold) / "fold.json").read_text())
        rows = rows_of(fold_folder(tmp_path / LEAKY, fold) / "predictions.csv")
        right = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
        assert right == max(one["score"] for one in facts["evaluations"])


def test_a_class_that_nobody_shows_in_training_is_said(tmp_path, store):
    # Only the subject of the first fold shows the class "up".
    labels = {one.clip_id: one.label for one in CLIPS}
    clips = [one for one in study().clips if labels[one.clip_id] != 2 or one.subject == "test/s0"]
    kept = {one.clip_id for one in clips}
    folds = [
        dataclasses.replace(
            fold,
            train=tuple(one for one in fold.train if one in kept),
            test=tuple(one for one in fold.test if one in kept),
        )
        for fold in FOLDS
    ]
    made = study(
        architecture=SMALLEST,
        training=dataclasses.replace(JUMPY, steps=1),
        clips=tuple(clips),
        folds=tuple(folds),
    )
    open_run(tmp_path, made)
    for fold in folds:
        run_fold(tmp_path, made, fold, store, Machine())
    (warning,) = write_results(tmp_path, made)["warnings"]
    assert warning.startswith(f"In fold test/s0 nothing of {CLASSES[2]} was trained on")


def test_the_normalisation_never_comes_from_whom_the_step_is_chosen_on(tmp_path, store):
    view = View(64, 1, store.statistics(FOLDS[0].train))
    from mer_prep.training.fit import predict

    with pytest.raises(LeakError, match="taken from clips that are tested"):
        predict(Mol(SMALLEST, 3), METHOD, store, FOLDS[0].train[:1], view, Machine())
