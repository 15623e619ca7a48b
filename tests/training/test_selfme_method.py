"""SelfME in the training engine, on toy clips whose bars move."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import TrainingError  # noqa: E402
from mer_prep.models.selfme import symmetric_contrast  # noqa: E402
from mer_prep.training.cards import model_card  # noqa: E402
from mer_prep.training.checkpoints import read_facts  # noqa: E402
from mer_prep.training.fit import Machine, View, _steps, fit, predict  # noqa: E402
from mer_prep.training.loading import Draw, open_clips  # noqa: E402
from mer_prep.training.methods import architecture, method_of  # noqa: E402
from mer_prep.training.methods.frl_dgt import ANY  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.results import _published, write_results  # noqa: E402
from mer_prep.training.study import fold_folder, open_run, run_fold  # noqa: E402
from tests.bars import (  # noqa: E402
    APEX,
    CLIPS,
    FOLDS,
    ONSET,
    SIDE,
    rows_of,
    study,
    whole_and_killed,
    write_pairs,
)

SMALL = {
    "side": 32,
    "key_points": 3,
    "key_point_width": 4,
    "motion_width": 4,
    "decoder_width": 4,
    "widest": 8,
    "blocks": 2,
    "width": 16,
    "hidden": 32,
    "projection": 8,
    "layers": 1,
}
SETTINGS = TrainingSettings(steps=2, pre_steps=2, batch=4, learning_rate=1e-3)


def method(**changes):
    return method_of("selfme", architecture("selfme", "tiny-learned", SMALL | changes))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with what the stages would leave of the toy clips."""

    def stages_of(clip, number):
        flow = np.random.default_rng(number).normal(0, 0.1, (1, 2, SIDE, SIDE))
        flow[0, 1] += (0, 0.5, -0.5)[clip.label]
        return {"flow": {"flow": flow.astype(np.float32)}}

    return write_pairs(tmp_path_factory.mktemp("selfme"), stages_of)


def pairs_study(made, **changes):
    values = {
        "model": "selfme",
        "architecture": made.config,
        "training": made.settled(SETTINGS),
        "start_landmarks": False,
        "reduce": 2,
    }
    return study(**values | changes)


def opened(workspace, made, one):
    return open_clips("resident", workspace, one.clips, made, "cpu")


REBUILT = {"photometric", "structure", "points", "jacobians"}


@pytest.mark.parametrize(
    ("changes", "losses"),
    [
        ({}, {"symmetry", *REBUILT}),
        ({"bspline": "off", "classifier": "vit", "gamma": 1.0}, REBUILT),
        ({"bspline": "equivariance"}, {"symmetry", *REBUILT}),
        ({"first_order": False}, {"symmetry", *REBUILT - {"jacobians"}}),
        ({"motion": "tvl1"}, {"symmetry"}),
        ({"motion": "tvl1", "classifier": "vit"}, set()),
    ],
    ids=["all", "none", "equivariance", "zero-order", "tvl1+scvit", "tvl1+vit"],
)
def test_every_ablation_is_trained_and_tested(workspace, tmp_path, changes, losses):
    made = method(**changes)
    one = pairs_study(made)
    learned = made.config.learned
    assert one.training.all_steps == (4 if learned else 2)
    run_fold(tmp_path, one, FOLDS[0], opened(workspace, made, one), Machine())
    folder = fold_folder(tmp_path, FOLDS[0])
    log = rows_of(folder / "log.csv")
    assert set(log[0]) == {"step", "expression", *losses}
    if learned:
        assert [row["expression"] == "" for row in log] == [True, True, False, False]
        assert [row["photometric"] == "" for row in log] == [False, False, True, True]
    (row, *_) = rows_of(folder / "predictions.csv")
    assert (row["flow_endpoint_error_px"] != "") == learned


def test_the_contrast_is_the_printed_one_over_the_batch(workspace):
    made = method(motion="tvl1", dropout=0.0, jitter=0.0)
    one = pairs_study(made)
    store = opened(workspace, made, one)
    view = View(64, 2, made.statistics(store, FOLDS[0].train))
    batch = view.centre(store.batch(store.samples(FOLDS[0].train)))
    model = made.build(3)
    losses = made.losses(model, batch, "recognition")
    features = model.eval()(batch.frames, batch.landmarks, batch.flow).features
    expected = symmetric_contrast(features, batch.labels, tau=0.07) / len(batch.labels)
    torch.testing.assert_close(losses["symmetry"], expected, atol=1e-4, rtol=1e-4)
    assert made.weights(SETTINGS)["symmetry"] == 0.11
    assert method(omega=0.5).weights(SETTINGS)["symmetry"] == 0.5
    other = method(motion="tvl1", dropout=0.0, jitter=0.0, tau=1.0, contrasted="all")
    torch.testing.assert_close(
        other.losses(model.train(), batch, "recognition")["symmetry"],
        symmetric_contrast(features, batch.labels, tau=1.0, contrasted="all") / len(batch.labels),
        atol=1e-3,
        rtol=1e-3,
    )


def test_a_batch_has_as_many_of_every_class(workspace):
    made = method()
    one = pairs_study(made)
    store = opened(workspace, made, one)
    ids = [clip.clip_id for clip in store.clips]
    # Six samples of class 0, and one of each of the others.
    samples = [(number, 0) for number, clip in enumerate(store.clips) if clip.label == 0] * 2
    samples += [(store.index["test/s0/c1"], 0), (store.index["test/s0/c2"], 0)]
    labels = [store.clips[number].label for number, _ in samples]
    view = View(64, 2, made.statistics(store, tuple(ids)))
    left = Counter()
    for step in range(40):
        draw = Draw(samples, view, 7, "fold", 1, labels=labels)
        counts = Counter(store.batch(draw._samples(draw._generator(step))).labels.tolist())
        assert sorted(counts.values()) == [2, 2, 3]
        left[counts.most_common(1)[0][0]] += 1
    assert set(left) == {0, 1, 2}
    # Ranks share the batch that one alone would see.
    parts = [
        dataclasses.replace(draw, rank=rank, world=2).batch(store, 3).labels for rank in (0, 1)
    ]
    whole = draw.batch(store, 3).labels
    assert torch.equal(whole[0::2], parts[0])
    assert torch.equal(whole[1::2], parts[1])


def test_a_fold_is_killed_and_goes_on_to_the_same_bits(workspace, tmp_path):
    made = method()
    one = pairs_study(made)
    store = opened(workspace, made, one)

    whole, killed = whole_and_killed(tmp_path, one, store, kill=4)
    assert whole == killed


def test_the_motion_stays_as_it_is_while_classes_are_learned(workspace):
    made = method()
    one = pairs_study(made)
    store = opened(workspace, made, one)
    model = made.build(3)
    seen = []

    def note(step, losses):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})

    view = View(64, 2, made.statistics(store, FOLDS[0].train))
    settings = dataclasses.replace(SETTINGS, optimiser="adamw", weight_decay=0.5)
    fit(
        model,
        made,
        store,
        FOLDS[0].train,
        view,
        settings,
        Machine(),
        name="fold",
        seed=1,
        on_step=note,
    )
    for before, after, part in ((0, 1, "motion"), (1, 3, "transformer")):
        changed = {
            name.partition(".")[0]
            for name, value in seen[after].items()
            if not torch.equal(value, seen[before][name])
        }
        assert changed - {"amplifier"} == {part}


@pytest.mark.parametrize("stage1", ["train-only", "all"])
def test_whom_the_motion_is_learned_from(workspace, tmp_path, stage1):
    made = method(stage1=stage1)
    one = pairs_study(made)
    store = opened(workspace, made, one)
    fold = FOLDS[0]
    draw = Draw((), View(64, 2, made.statistics(store, fold.train)), 4, fold.name, 1)
    stages = {}
    for _, stretch, drawn, _ in _steps(made, store, fold.train, draw, one.training, Machine(), 0):
        stages[stretch.objective] = {store.clips[number].clip_id for number, _ in drawn.samples}
    assert stages["recognition"] == set(fold.train)
    everyone = {*fold.train, *fold.test}
    assert stages["motion"] == (everyone if stage1 == "all" else set(fold.train))
    # Weights that have seen the tested subject say so.
    run_fold(tmp_path, one, fold, store, Machine())
    _, facts = read_facts(fold_folder(tmp_path, fold) / "checkpoint.safetensors")
    tested = {clip.subject for clip in store.clips if clip.clip_id in fold.test}
    assert (tested <= set(facts["lineage"]["subjects"])) == (stage1 == "all")


def test_a_transductive_run_says_so(workspace, tmp_path):
    made = method(stage1="all")
    one = pairs_study(made, training=dataclasses.replace(SETTINGS, steps=1, pre_steps=1))
    store = opened(workspace, made, one)
    open_run(tmp_path, one)
    for fold in FOLDS:
        run_fold(tmp_path, one, fold, store, Machine())
    results = write_results(tmp_path, one)
    assert results["transductive"] is True
    assert any(text.startswith("TRANSDUCTIVE") for text in results["warnings"])
    assert not method(stage1="all", motion="tvl1").transductive


def test_what_is_given_for_a_clip(workspace):
    made = method()
    one = pairs_study(made)
    store = opened(workspace, made, one)
    view = View(64, 2, made.statistics(store, FOLDS[0].train))
    ((output, batch),) = predict(
        made.build(3), made, store, FOLDS[0].test[:1], view, Machine()
    ).popitem()[1]
    assert output.flow.shape == output.displacement.shape == (1, 1, 2, 32, 32)
    assert output.attention.sum() == pytest.approx(1)
    boxes = made.boxes(batch)
    assert boxes.shape == (1, 4, 4)
    assert float(boxes[0, 0, 2]) == pytest.approx(float(batch.landmarks[0, 0, :, 0].mean()))
    centred = method(classifier="vit").boxes(batch)
    assert float(centred[0, 0, 2]) == 15.5


def test_a_clip_has_the_onset_with_every_other_frame(workspace):
    made = method()
    one = pairs_study(made)
    clip = opened(workspace, made, one).clips[0]
    assert clip.samples[0].tolist() == [ONSET, APEX]
    pairs = clip.samples[list(clip.kinds[ANY])]
    assert pairs[:, 0].tolist() == [ONSET] * 7
    assert sorted(pairs[:, 1].tolist()) == [0, 2, 3, 4, 5, 6, 7]
    plain = method(motion="tvl1")
    assert (
        ANY
        not in ClipStore([plain._prepared(CLIPS[0], _arrays(), np.array([[ONSET, APEX]]))])
        .clips[0]
        .kinds
    )
    with pytest.raises(TrainingError, match="not that from an onset to an apex"):
        made.prepared(CLIPS[0], _arrays() | {"flow": {"flow": None, "pairs": np.zeros((2, 2))}})


def _arrays():
    frames = np.zeros((8, 72, 72, 3), np.uint8)
    return {
        "align": {"frames": frames, "landmarks": np.zeros((8, 68, 2), np.float32)},
        "flow": {"flow": np.zeros((1, 2, 72, 72), np.float32)},
    }


def test_published_figures_belong_to_their_switches():
    def figures(labels, **changes):
        one = study(
            model="selfme",
            preset="paper",
            architecture=architecture("selfme", "paper", changes),
            training=model_card("selfme").preset("paper").training,
            labels=labels,
            synthetic=False,
            clips=tuple(
                dataclasses.replace(clip, clip_id=str(number), corpus=corpus)
                for corpus, count in (("smic", 164), ("casme2", 147))
                for number, clip in enumerate([study().clips[0]] * count)
            ),
        )
        return [row["scores"] for row in _published(one)["published"]]

    assert figures("smic-3") == [{"uf1": 0.6972, "uar": 0.7012}]
    assert figures("smic-3", gamma=1.0) == [{"uf1": 0.6768, "uar": 0.6798}]
    assert figures("casme2-3", motion="tvl1") == [{"uf1": 0.8460, "uar": 0.8305}]
    assert figures("casme2-3", classifier="vit") == [{"uf1": 0.8784, "uar": 0.8960}]
    assert figures("casme2-3", motion="tvl1", classifier="vit") == [{"uf1": 0.8060, "uar": 0.8016}]
    assert figures("casme2-3", stage1="all") == []
    assert figures("smic-3", bspline="off") == []


def test_the_preset_for_a_cpu_takes_flow_and_another_learns_motion():
    presets = {name: architecture("selfme", name) for name in model_card("selfme").presets}
    assert {name: one.motion for name, one in presets.items()} == {
        "paper": "learned",
        "tiny": "tvl1",
        "tiny-learned": "learned",
    }
    for name, one in presets.items():
        settings = model_card("selfme").preset(name).training
        made = method_of("selfme", one)
        assert made.settled(settings) == settings
        assert [stretch.objective for stretch in made.stretches(settings)] == (
            ["motion", "recognition"] if one.learned else ["recognition"]
        )
