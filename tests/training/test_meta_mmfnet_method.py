"""Meta-MMFNet in the training engine, on toy clips whose bars move."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from mer_prep.errors import ConfigError, TrainingError  # noqa: E402
from mer_prep.models.meta_mmfnet import with_size  # noqa: E402
from mer_prep.training import nested  # noqa: E402
from mer_prep.training.cards import model_card  # noqa: E402
from mer_prep.training.checkpoints import read_checkpoint  # noqa: E402
from mer_prep.training.fit import Machine, fit, make_optimiser, rate_at  # noqa: E402
from mer_prep.training.loading import open_clips  # noqa: E402
from mer_prep.training.methods import architecture, method_of  # noqa: E402
from mer_prep.training.methods.fusion import CANDIDATES, choose_alpha, legacy_rows  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.results import read_predictions, write_results  # noqa: E402
from mer_prep.training.scored import read_scored  # noqa: E402
from mer_prep.training.start import start_model, study_view  # noqa: E402
from mer_prep.training.study import (  # noqa: E402
    fold_folder,
    open_run,
    run_fold,
    trained_model,
)
from tests.bars import (  # noqa: E402
    FOLDS,
    SIDE,
    KilledError,
    rows_of,
    study,
    whole_and_killed,
    write_pairs,
)

SMALL = {"side": 36, "width": 2, "ways": 3, "shots": 2, "episodes": 2, "inner_folds": 0}
SETTINGS = TrainingSettings(
    optimiser="sgd",
    momentum=0.9,
    schedule="step",
    learning_rate=0.01,
    pre_learning_rate=0.02,
    pre_steps=2,
    steps=3,
    decay_steps=2,
    batch=4,
)
FOLD = FOLDS[0]


def method(**changes):
    return method_of("meta-mmfnet", architecture("meta-mmfnet", "tiny", SMALL | changes))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with what the stages would leave of the toy clips."""

    def stages_of(clip, number):
        flow = np.random.default_rng(number).normal(0, 0.1, (1, 2, SIDE, SIDE))
        flow[0, 1, 30:40, 20:50] += (0, 1, -1)[clip.label]
        return {"flow": {"flow": flow.astype(np.float32)}}

    return write_pairs(tmp_path_factory.mktemp("pairs"), stages_of)


def meta_study(made, **changes):
    values = {
        "model": "meta-mmfnet",
        "architecture": made.config,
        "training": made.settled(SETTINGS),
        "start_landmarks": False,
        "reduce": 2,
    }
    return study(**values | changes)


@pytest.fixture(scope="module")
def store(workspace):
    made = method()
    return open_clips("resident", workspace, meta_study(made).clips, made, "cpu")


def trained(made, run, store, **changes):
    one = meta_study(made, **changes)
    open_run(run, one)
    run_fold(run, one, FOLD, store, Machine())
    return one


def test_the_learning_rate_falls_in_steps_of_each_stretch():
    settings = dataclasses.replace(
        SETTINGS, pre_steps=4, pre_decay_steps=3, steps=5, decay=0.5, decay_steps=2
    )
    found = [rate_at(step, settings) for step in range(9)]
    assert found == pytest.approx([0.02] * 3 + [0.01] + [0.01, 0.01, 0.005, 0.005, 0.0025])
    constant = dataclasses.replace(settings, schedule="constant")
    assert [rate_at(step, constant) for step in (3, 4, 8)] == [0.02, 0.01, 0.01]
    same = dataclasses.replace(settings, pre_learning_rate=0.0, pre_decay_steps=0)
    assert rate_at(3, same) == 0.01


def test_settings_that_came_later_change_no_key():
    from mer_prep.config import key_values

    new = {"momentum", "decay", "decay_steps", "pre_decay_steps", "pre_learning_rate"}
    assert not new & set(key_values(TrainingSettings()))
    assert new - {"decay", "pre_decay_steps"} <= set(key_values(SETTINGS))


def test_gradient_descent_with_momentum_equals_a_loop():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    settings = dataclasses.replace(SETTINGS, momentum=0.5, weight_decay=0.1)
    optimiser = make_optimiser(model, settings)
    weight, velocity = 1.0, 0.0
    for gradient in (1.0, -2.0, 0.5):
        model.weight.grad = torch.full((1, 1), gradient)
        optimiser.step()
        velocity = 0.5 * velocity + gradient + 0.1 * weight
        weight -= 0.01 * velocity
        assert model.weight.item() == pytest.approx(weight)


def test_episodes_begin_without_the_momentum_of_the_classifiers(store):
    made = method(encoder="micro")
    one = meta_study(made)
    view = study_view(one, store, FOLD.train)

    def weights(momentum, steps):
        # The classifiers move nothing, but their gradients would be remembered.
        settings = dataclasses.replace(
            SETTINGS, momentum=momentum, pre_learning_rate=1e-9, steps=steps
        )
        model, _ = start_model(None, one, "fold", store, FOLD.train, view)
        named = {"name": "fold", "seed": 1}
        fit(model, made, store, FOLD.train, view, settings, Machine(), **named)
        return model.micro.trunk.conv1.weight.detach()

    torch.testing.assert_close(weights(0.9, 1), weights(0.0, 1), rtol=0, atol=1e-6)
    # From the second step on they remember their own.
    assert (weights(0.9, 2) - weights(0.0, 2)).abs().max() > 1e-5


@pytest.mark.parametrize("kill", [1, 2, 4])
def test_a_killed_fold_goes_on_to_the_same_bits(store, tmp_path, kill):
    made = method(alpha="fixed")
    one = meta_study(made)

    whole, killed = whole_and_killed(tmp_path, one, store, kill=kill + 1)
    assert whole == killed


def test_plain_descent_goes_on_from_a_checkpoint(store, tmp_path):
    made = method(alpha="fixed", encoder="micro")
    one = meta_study(made, training=dataclasses.replace(SETTINGS, momentum=0.0))
    open_run(tmp_path, one)

    def stop(step, losses):
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run_fold(tmp_path, one, FOLD, store, Machine(checkpoint_every=1), on_step=stop)
    run_fold(tmp_path, one, FOLD, store, Machine(checkpoint_every=1))
    assert len(rows_of(fold_folder(tmp_path, FOLD) / "log.csv")) == 5


def test_alpha_is_chosen_without_the_test_subject(store, tmp_path, monkeypatch):
    fits, predicted, chosen = [], [], []

    def spied_fit(model, made, source, clip_ids, *rest, **named):
        fits.append(tuple(clip_ids))
        return fit(model, made, source, clip_ids, *rest, **named)

    def spied_predict(model, made, source, clip_ids, *rest):
        predicted.append(tuple(clip_ids))
        return predict(model, made, source, clip_ids, *rest)

    predict = nested.predict
    monkeypatch.setattr(nested, "fit", spied_fit)
    monkeypatch.setattr(nested, "predict", spied_predict)
    # One clip of a class is enough for classifiers.
    made = method(meta=False)
    tuned = type(made).tuned

    def spied_tuned(self, outputs, labels):
        chosen.append((len(outputs), list(labels)))
        return tuned(self, outputs, labels)

    monkeypatch.setattr(type(made), "tuned", spied_tuned)
    one = trained(made, tmp_path, store)
    # Two training subjects are held out in turn, and all of their clips are judged.
    assert len(fits) == 2
    for train, held_out in zip(fits, predicted, strict=True):
        assert not set(train) & set(held_out)
        assert set(train) | set(held_out) == set(FOLD.train)
        assert not set(train + held_out) & set(FOLD.test)
    assert chosen == [(6, [0, 1, 2, 0, 1, 2])]
    folder = fold_folder(tmp_path, FOLD)
    facts = json.loads((folder / "fold.json").read_text())
    alpha = facts["tuned"]["alpha"]
    assert alpha in CANDIDATES
    model, _ = trained_model(tmp_path, one, FOLD)
    assert model.alpha.item() == alpha
    assert not list(folder.glob("nested-*"))
    # What was chosen is kept: after that nothing is trained twice.
    (folder / "predictions.csv").unlink()
    run_fold(tmp_path, one, FOLD, store, Machine())
    assert len(fits) == 2
    # What is damaged is found again, to the same value.
    for damage in ("", "[]", '{"study": "' + one.digest() + '", "values": {"alpha": "much"}}'):
        del fits[:]
        (folder / "predictions.csv").unlink()
        (folder / nested.TUNED).write_text(damage)
        run_fold(tmp_path, one, FOLD, store, Machine())
        assert len(fits) == 2
        assert json.loads((folder / nested.TUNED).read_text())["values"] == {"alpha": alpha}


def test_the_weight_that_recognises_most_is_chosen():
    micro = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.0]])
    macro = torch.tensor([[0.0, 1.1], [0.0, 1.0], [0.0, 1.0]])
    # The first clip needs a weight below 1 / 1.1, the third one above 0.3.
    labels = torch.tensor([0, 1, 1])
    right = [((micro + one * macro).argmax(dim=1) == labels).sum().item() for one in CANDIDATES]
    assert CANDIDATES == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert [one for one, n in zip(CANDIDATES, right, strict=True) if n == 3] == [
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
    ]
    found = choose_alpha({"micro": micro, "macro": macro}, labels)
    losses = {
        one: torch.nn.functional.cross_entropy(micro + one * macro, labels).item()
        for one in CANDIDATES[3:9]
    }
    assert found == min(losses, key=losses.__getitem__)
    # Where nothing tells them apart, the smallest.
    same = {"micro": torch.zeros(2, 2), "macro": torch.zeros(2, 2)}
    assert choose_alpha(same, torch.tensor([0, 1])) == 0.1


def fused_rows():
    """Return predictions of three subjects with two clips each."""
    return [
        {"clip_id": f"c{number}", "subject": f"s{number // 2}", "label": "1", "predicted": "0"}
        | {"p_a": "0.5", "p_b": "0.5", "micro: a": "0.35", "micro: b": "0.0"}
        | {"macro: a": "0.0", "macro: b": "1.0"}
        for number in range(6)
    ]


def test_the_legacy_alpha_is_chosen_on_a_tested_subject_who_is_left_out():
    rows = fused_rows()
    kept, facts = legacy_rows(rows, ["a", "b"])
    assert facts["clips_left_out"] == 2
    assert {row["subject"] for row in kept} == {"s0", "s1", "s2"} - {facts["subject"]}
    # From 0.4 on all are right; the largest has the least loss.
    assert facts["alpha"] == 1.0
    assert {row["predicted"] for row in kept} == {"1"}
    assert float(kept[0]["p_b"]) == pytest.approx(1 / (1 + np.exp(-0.65)))
    assert rows == fused_rows()
    with pytest.raises(TrainingError, match="nobody is left"):
        legacy_rows(rows[:2], ["a", "b"])


def test_results_have_both_encoders_on_the_same_clips(store, tmp_path):
    scored = {}
    for alpha in ("fixed", "legacy"):
        made = method(alpha=alpha)
        run = tmp_path / alpha
        one = meta_study(made)
        open_run(run, one)
        for fold in FOLDS:
            run_fold(run, one, fold, store, Machine())
        scored[alpha] = write_results(run, one)
        for part in ("micro", "macro"):
            alone = scored[alpha]["parts"][part]
            assert alone["clips"] == scored[alpha]["scores"]["all"]["clips"]
            right = 0
            for row in read_predictions(run, one):
                values = [float(row[f"{part}: {name}"]) for name in one.classes]
                right += values.index(max(values)) == int(row["label"])
            assert alone["acc"] == pytest.approx(right / alone["clips"])
        rows = read_predictions(run, one)
        assert read_scored(run, one, rows)["parts"].keys() == {"micro", "macro"}
        changed = json.loads((run / "results.json").read_text())
        changed["parts"]["macro"]["acc"] += 0.1
        (run / "results.json").write_text(json.dumps(changed))
        with pytest.raises(TrainingError, match=r"parts\.macro\.acc"):
            read_scored(run, one, rows)
    assert scored["fixed"]["clips"] == 9
    assert not any("LEGACY" in text for text in scored["fixed"]["warnings"])
    legacy = scored["legacy"]
    assert (legacy["clips"], legacy["subjects"]) == (6, 2)
    assert legacy["legacy_alpha"]["clips_left_out"] == 3
    assert any("LEGACY alpha" in text for text in legacy["warnings"])
    assert "legacy_alpha" not in scored["fixed"]
    assert set(legacy["folds"][FOLD.name]["support"]["clips"]) == {"0", "1", "2"}


@pytest.mark.parametrize(("shots", "count"), [(1, 1), (0, 2)])
def test_test_clips_are_compared_with_training_clips_alone(store, tmp_path, shots, count):
    made = method(support=shots, alpha="fixed")
    one = trained(made, tmp_path, store)
    facts = json.loads((fold_folder(tmp_path, FOLD) / "fold.json").read_text())
    clips = facts["support"]["clips"]
    assert [len(part) for part in clips.values()] == [count] * 3
    assert {clip for part in clips.values() for clip in part} <= set(FOLD.train)
    model, statistics = trained_model(tmp_path, one, FOLD)
    view = study_view(one, store, FOLD.train)
    assert statistics.mean == view.statistics.mean == 127.5
    with torch.no_grad():
        for label, ids in clips.items():
            batch = view.centre(store.batch(store.samples(ids)))
            mean = model.eval()(batch.frames, batch.flow)["macro"].mean(dim=0)
            torch.testing.assert_close(mean, model.macro.prototypes[int(label)])
    assert model.macro.present.all()


def test_a_class_that_is_not_trained_on_is_not_said(store, tmp_path):
    without = tuple(one for one in FOLD.train if not one.endswith("c1"))
    folds = (dataclasses.replace(FOLD, train=without),)
    made = method(alpha="fixed")
    one = meta_study(made, folds=folds)
    open_run(tmp_path, one)
    run_fold(tmp_path, one, folds[0], store, Machine())
    rows = rows_of(fold_folder(tmp_path, FOLD) / "predictions.csv")
    assert {row["p_down"] for row in rows} == {"0.0"}


def test_the_largest_flow_is_that_of_the_training_clips(store):
    made = method()
    one = meta_study(made)
    ids = FOLD.train[:2]
    view = study_view(one, store, ids)
    model, _ = start_model(None, one, "fold", store, ids, view)
    flow = torch.cat([store.batch([sample]).flow[:, 0] for sample in store.samples(ids)])
    halves = torch.nn.functional.avg_pool2d(flow, 2) / 2
    expected = with_size(halves).abs().amax(dim=(0, 2, 3))
    torch.testing.assert_close(model.flow_scale, expected)
    everything, _ = start_model(None, one, "fold", store, FOLD.train, view)
    assert not torch.equal(everything.flow_scale, model.flow_scale)


def losses_of(made, store, objective="episodes"):
    one = meta_study(made)
    view = study_view(one, store, FOLD.train)
    model, _ = start_model(None, one, "fold", store, FOLD.train, view)
    batch = view.centre(store.batch(store.samples(FOLD.train) * 3))
    # Six clips of three classes, three times: in each class two shots and a query.
    order = torch.tensor([one for label in range(3) for one in (label, label + 3, label + 6)])
    for name in ("frames", "flow", "labels"):
        setattr(batch, name, getattr(batch, name)[order])
    batch.episodes = torch.zeros(9, dtype=torch.int64)
    return {name: loss.item() for name, loss in made.losses(model, batch, objective).items()}


def test_each_switch_changes_what_is_learned(store):
    usual = losses_of(method(), store)
    assert set(usual) == {"micro", "macro"}
    assert set(losses_of(method(encoder="macro"), store)) == {"macro"}
    for change in (
        {"metric": "dot"},
        {"features": "flow"},
        {"features": "difference"},
        {"temperature": 3.0},
    ):
        found = losses_of(method(**change), store)
        assert found["micro"] != pytest.approx(usual["micro"], rel=1e-3), change
    classified = losses_of(method(), store, "classifier")
    assert classified["micro"] != pytest.approx(usual["micro"], rel=1e-3)
    assert set(losses_of(method(macro="pretrained"), store, "classifier")) == {"micro"}


def test_stretches_follow_the_switches():
    first, second = method().stretches(SETTINGS)
    assert (first.objective, first.steps, first.episodes) == ("classifier", 2, None)
    assert (second.objective, second.steps, second.fresh) == ("episodes", 3, True)
    assert second.episodes.apart
    assert not method(draw="legacy").stretches(SETTINGS)[1].episodes.apart
    plain = method(meta=False)
    settings = plain.settled(SETTINGS)
    (only,) = plain.stretches(settings)
    assert (only.objective, only.steps) == ("classifier", 5)
    assert settings.all_steps == 5
    assert rate_at(0, settings) == 0.02
    alone = method(encoder="macro", macro="pretrained")
    assert len(alone.stretches(alone.settled(SETTINGS))) == 1
    assert method(encoder="micro").inner_folds is None
    assert method(alpha="fixed").inner_folds is None
    assert method(inner_folds=4).inner_folds == 4


def test_what_a_reader_must_know_is_said():
    said = " ".join(method().remarks(init=False))
    assert "start at random" in said
    assert "no macro-expression" in said
    assert method(encoder="micro").remarks(init=True) == []
    assert "LEGACY episodes" in " ".join(method(draw="legacy").remarks(init=True))
    assert "LEGACY alpha" in " ".join(method(alpha="legacy").remarks(init=True))
    assert "LEGACY" not in " ".join(method(alpha="legacy", encoder="micro").remarks(init=True))
    with pytest.raises(ConfigError, match="needs its weights"):
        method(macro="pretrained").remarks(init=False)
    assert "no macro-expression" not in " ".join(method(macro="pretrained").remarks(init=True))


def test_encoders_start_from_the_weights_of_a_file(store, tmp_path):
    path = tmp_path / "imagenet.safetensors"
    torch.manual_seed(5)
    source = method().build(3).micro.trunk
    save_file(source.state_dict(), path)
    made = method(weights=str(path)).located()
    assert len(made.config.weights_sha256) == 64
    assert made.marks("tiny")[-1] == f"weights-{made.config.weights_sha256[:8]}"
    assert made.changed("tiny") == method().changed("tiny")
    one = meta_study(made)
    view = study_view(one, store, FOLD.train)
    model, _ = start_model(None, one, "fold", store, FOLD.train, view)
    for name, value in source.state_dict().items():
        assert torch.equal(model.micro.trunk.state_dict()[name], value)
        assert torch.equal(model.macro.trunk.state_dict()[name], value)
    save_file({name: value + 1 for name, value in source.state_dict().items()}, path)
    with pytest.raises(TrainingError, match="not those that the run began with"):
        start_model(None, one, "fold", store, FOLD.train, view)
    with pytest.raises(TrainingError, match="cannot be read"):
        method(weights=str(tmp_path / "none.safetensors")).located()


def test_a_macro_encoder_is_taken_over_from_other_people(store, tmp_path):
    from mer_prep.training.initial import load_init

    before = trained(method(encoder="macro", meta=False), tmp_path / "macro", store)
    path = fold_folder(tmp_path / "macro", FOLD) / "checkpoint.safetensors"
    tensors = read_checkpoint(path)[0]
    assert before.training.all_steps == 5
    model = method(macro="pretrained").build(3)
    start = {name: value.clone() for name, value in model.micro.state_dict().items()}
    loaded = load_init(path, model, name="meta-mmfnet")
    assert all(not name.startswith("macro") for name in loaded.kept)
    assert torch.equal(model.macro.trunk.conv1.weight, tensors["model.macro.trunk.conv1.weight"])
    for name, value in model.micro.state_dict().items():
        assert torch.equal(value, start[name])


def test_published_figures_stand_beside_runs_of_their_kind():
    card = model_card("meta-mmfnet")
    figures = {
        (one.labels, one.variant.get("encoder", "both"), one.source.split(",")[0]): one.scores
        for one in card.published
    }
    assert figures["casme2-4", "both", "Tables 3 and 5"]["acc"] == 0.8095
    assert figures["smic-3", "micro", "Tables 3 and 6"]["recall of positive"] == 0.5294
    assert figures["casme-4", "macro", "Tables 3 and 4"]["recall of tense"] == 0.6061
    # The rates are of whole clips: 28, 27, 32 and 63 of CASME II.
    rates = figures["casme2-4", "micro", "Tables 3 and 5"]
    counts = {"surprise": 28, "repression": 27, "happiness": 32, "disgust": 63}
    right = sum(round(rates[f"recall of {name}"] * count) for name, count in counts.items())
    assert round(right / 150, 4) == rates["acc"]
    # What is as published does not tell published figures apart, but it does the names of runs.
    for changes, marks in (
        ({"alpha": "legacy"}, ["alpha-legacy"]),
        ({"draw": "legacy", "alpha": "legacy"}, ["draw-legacy", "alpha-legacy"]),
        ({"macro": "pretrained"}, ["macro-pretrained"]),
    ):
        made = method_of("meta-mmfnet", architecture("meta-mmfnet", "paper", changes))
        assert made.changed("paper") == {}
        assert made.marks("paper") == marks
    settings = card.preset("paper").training
    assert (settings.optimiser, settings.momentum, settings.learning_rate) == ("sgd", 0.9, 0.05)
    assert card.preset("code").training.pre_decay_steps == 6
