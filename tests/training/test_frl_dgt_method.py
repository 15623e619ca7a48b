"""FRL-DGT in the training engine, on toy clips whose bars move."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import TESTED, Batch, ClipStore  # noqa: E402
from mer_prep.errors import ConfigError, TrainingError  # noqa: E402
from mer_prep.models.frl_dgt import warp  # noqa: E402
from mer_prep.training.cards import model_card  # noqa: E402
from mer_prep.training.fit import Machine, View, fit, make_optimiser, predict  # noqa: E402
from mer_prep.training.loading import Draw, load_clip, open_clips, resident_bytes  # noqa: E402
from mer_prep.training.methods import architecture, method_of  # noqa: E402
from mer_prep.training.methods.frl_dgt import ANY, NEAR, any_pairs, near_pairs  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.study import fold_folder, open_run, run_fold  # noqa: E402
from mer_prep.training.views import flip  # noqa: E402
from tests.bars import (  # noqa: E402
    APEX,
    FOLDS,
    ONSET,
    SIDE,
    entries,
    rows_of,
    study,
    whole_and_killed,
    write_pairs,
)

SMALL = {"side": 64, "width": 8, "heads": 2}
SETTINGS = TrainingSettings(
    optimiser="adamw",
    schedule="cosine",
    steps=3,
    pre_steps=2,
    batch=4,
    learning_rate=1e-3,
    displacement_rate=0.5,
    brightness=0.2,
)


def method(**changes):
    return method_of("frl-dgt", architecture("frl-dgt", "tiny", SMALL | changes))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with what the stages would leave of the toy clips, apex spotted."""

    def stages_of(clip, number):
        rng = np.random.default_rng(number)
        return {
            "flow": {"flow": rng.normal(0, 0.1, (1, 2, SIDE, SIDE)).astype(np.float32)},
            "dynamic-image": {"dynamic_image": rng.normal(0, 9, (SIDE, SIDE, 3)).astype("f4")},
        }

    return write_pairs(tmp_path_factory.mktemp("pairs"), stages_of)


def pairs_study(made, **changes):
    values = {
        "model": "frl-dgt",
        "architecture": made.config,
        "training": made.settled(SETTINGS),
        "start_landmarks": False,
        "clips": entries("align", "flow", "dynamic-image"),
    }
    return study(**values | changes)


def test_pairs_near_onset_and_apex_keep_the_order_of_time():
    found = near_pairs(10, 20, 40)
    assert found[0].tolist() == [10, 20]
    assert len({tuple(one) for one in found.tolist()}) == len(found) == 25
    assert np.abs(found - [10, 20]).max() == 2
    close = near_pairs(1, 2, 4)
    assert (close[:, 0] < close[:, 1]).all()
    assert close.min() >= 0
    assert close.max() <= 3
    # An apex before the onset, as an annotation may have it, stays before it.
    assert (np.diff(near_pairs(8, 2, 10)) < 0).all()
    assert near_pairs(3, 3, 9).tolist() == [[3, 3]]
    assert any_pairs(1, 4).tolist() == [[1, 0], [1, 2], [1, 3]]
    assert any_pairs(0, 1).tolist() == [[0, 0]]


def test_a_clip_has_its_pair_to_test_and_others_to_train_on(workspace):
    made = method()
    clip = load_clip(workspace, pairs_study(made).clips[0], made)
    assert clip.frames.shape == (8, 3, 72, 72)
    assert clip.samples.tolist() == [[ONSET, APEX]]
    store = ClipStore([clip])
    kinds = store.clips[0].kinds
    assert {name: len(rows) for name, rows in kinds.items()} == {TESTED: 1, NEAR: 19, ANY: 7}
    tested = store.batch(store.samples([clip.clip_id]))
    assert torch.isfinite(tested.flow).all()
    assert tested.frames.shape == (1, 2, 3, 72, 72)
    for kind in (NEAR, ANY):
        # Flow of another pair is nowhere, so that nothing can be learned from it by accident.
        assert torch.isnan(store.batch(store.samples([clip.clip_id], kind)).flow).all()


@pytest.mark.parametrize("displacement", ["learned", "tvl1", "dynamic-image"])
def test_clips_in_memory_and_in_shards_are_the_same(workspace, displacement):
    made = method(displacement=displacement)
    entries = pairs_study(made).clips[:3]
    resident, streamed = (
        open_clips(kind, workspace, entries, made, "cpu") for kind in ("resident", "stream")
    )
    assert resident_bytes(workspace, entries, made) == resident.bytes()
    kinds = (TESTED, NEAR, ANY) if displacement == "learned" else (TESTED,)
    for kind in kinds:
        picked = resident.samples([one.clip_id for one in entries], kind)
        assert picked == streamed.samples([one.clip_id for one in entries], kind)
        one, other = resident.batch(picked), streamed.batch(picked)
        for first, second in zip(one.tensors(), other.tensors(), strict=True):
            if first is None:
                assert second is None
            else:
                torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
        assert (one.image is None) == (displacement != "dynamic-image")


def test_flow_of_other_pairs_is_refused(workspace):
    made = method()
    entry = pairs_study(made).clips[0]
    arrays = {
        "align": {"frames": np.zeros((8, 72, 72, 3), np.uint8), "landmarks": np.zeros((8, 68, 2))},
        "flow": {"flow": np.zeros((2, 2, 72, 72)), "pairs": np.array([[0, 1], [1, 2]])},
    }
    with pytest.raises(TrainingError, match="not that from an onset to an apex"):
        made.prepared(entry, arrays)


def test_mirrored_samples_are_rebuilt_by_mirrored_displacements():
    rng = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 2, 3, 16, 16, generator=rng)
    field = torch.rand(2, 1, 2, 16, 16, generator=rng) - 0.5
    image = torch.rand(2, 3, 16, 16, generator=rng)
    batch = Batch(frames, field, torch.zeros(2, 2, 68, 2), torch.zeros(2), image)
    turned = flip(batch, torch.tensor([True, False]))
    plain, other = (warp(one.frames[:, 0], one.flow[:, 0]) for one in (batch, turned))
    torch.testing.assert_close(other[0], plain[0].flip(-1))
    torch.testing.assert_close(other[1], plain[1])
    assert torch.equal(turned.image[0], image[0].flip(-1))
    back = flip(turned, torch.tensor([True, False]))
    assert back.features is None
    for one, same in zip(batch.tensors(), back.tensors(), strict=True):
        assert (one is same is None) or torch.equal(one, same)


def test_a_fold_rebuilds_first_and_then_recognises(workspace, tmp_path):
    made = method()
    one = pairs_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    open_run(tmp_path, one)
    run_fold(tmp_path, one, FOLDS[0], store, Machine())
    folder = fold_folder(tmp_path, FOLDS[0])
    log = rows_of(folder / "log.csv")
    assert list(log[0]) == ["step", "expression", "photometric", "structure", "smoothness"]
    assert [row["step"] for row in log] == list("12345")
    assert [row["expression"] == "" for row in log] == [True, True, False, False, False]
    assert all(float(row["photometric"]) > 0 for row in log)
    (row, *_) = rows_of(folder / "predictions.csv")
    assert float(row["flow_endpoint_error_px"]) > 0
    assert row["landmark_error_eye_centres"] == ""


@pytest.mark.parametrize("kill", [1, 2, 4])
def test_a_killed_fold_goes_on_to_the_same_bits(workspace, tmp_path, kill):
    made = method()
    one = pairs_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")

    whole, killed = whole_and_killed(tmp_path, one, store, kill=kill + 1)
    assert whole == killed


def test_only_the_displacement_learns_while_nothing_is_recognised(workspace):
    made = method()
    one = pairs_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    train = FOLDS[0].train
    torch.manual_seed(0)
    model = made.build(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    settings = dataclasses.replace(SETTINGS, steps=1, pre_steps=3, schedule="constant")
    view = View(64, 1, made.statistics(store, train), settings.brightness)
    seen = {}

    def note(step, losses):
        if step == 3:
            seen.update({name: value.clone() for name, value in model.state_dict().items()})

    fit(model, made, store, train, view, settings, Machine(), name="fold", seed=1, on_step=note)
    changed = {name for name, value in seen.items() if not torch.equal(value, before[name])}
    assert changed
    assert {name.partition(".")[0] for name in changed} == {"displacement"}
    after = model.state_dict()
    assert not torch.equal(after["head.2.weight"], before["head.2.weight"])


def test_the_displacement_learns_at_its_own_rate():
    made = method()
    model = made.build(3)
    optimiser = make_optimiser(model, SETTINGS, rates=made.rates(SETTINGS))
    names = {id(value): name for name, value in model.named_parameters()}
    factors = {
        names[id(value)]: group["factor"]
        for group in optimiser.param_groups
        for value in group["params"]
    }
    assert set(factors) == set(names.values())
    for name, factor in factors.items():
        assert factor == (0.5 if name.startswith("displacement.") else 1.0)


@pytest.mark.parametrize(
    ("changes", "losses"),
    [
        ({"displacement": "tvl1"}, {"expression"}),
        ({"displacement": "tvl1-normalised"}, {"expression"}),
        ({"displacement": "dynamic-image"}, {"expression"}),
        ({"self_supervised": False}, {"expression"}),
        ({"fusion": "after"}, {"expression", "photometric", "structure", "smoothness"}),
        ({"regions": "grid"}, {"expression", "photometric", "structure", "smoothness"}),
        ({"full_face": False}, {"expression", "photometric", "structure", "smoothness"}),
        ({"local_fusion": False}, {"expression", "photometric", "structure", "smoothness"}),
        ({"global_fusion": False}, {"expression", "photometric", "structure", "smoothness"}),
    ],
    ids=[f"M{number}" for number in range(9)],
)
def test_every_ablation_is_trained_and_tested(workspace, tmp_path, changes, losses):
    made = method(**changes)
    one = pairs_study(made)
    assert one.training.all_steps == (3 if losses == {"expression"} else 5)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    run_fold(tmp_path, one, FOLDS[0], store, Machine())
    folder = fold_folder(tmp_path, FOLDS[0])
    assert set(rows_of(folder / "log.csv")[0]) == {"step", *losses}
    (row, *_) = rows_of(folder / "predictions.csv")
    learned = made.config.learned
    assert (row["flow_endpoint_error_px"] != "") == learned


def test_what_is_given_for_a_clip(workspace):
    made = method()
    one = pairs_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    torch.manual_seed(0)
    view = View(64, 1, made.statistics(store, FOLDS[0].train))
    ((output, batch),) = predict(
        made.build(3), made, store, FOLDS[0].test[:1], view, Machine()
    ).popitem()[1]
    assert batch.frames.min() >= 0
    assert batch.frames.max() <= 1
    assert output.flow.shape == output.displacement.shape == (1, 1, 2, 64, 64)
    # The flow points ahead and the displacement back: what rebuilds the apex is undone by it.
    there = warp(output.displacement[:, 0], output.flow[:, 0])
    torch.testing.assert_close(there, -output.flow[:, 0], atol=1e-3, rtol=0)
    assert output.attention.sum() == pytest.approx(1)
    boxes = made.boxes(batch)
    assert boxes.shape == (1, 9, 4)
    assert len(made.regions) == 9
    assert method(regions="grid").regions[-1] == "row 2 column 2"


def test_brightness_changes_both_frames_alike_and_only_in_training(workspace):
    made = method()
    one = pairs_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    batch = store.batch(store.samples(FOLDS[0].train[:2]))
    view = View(72, 1, made.statistics(store, FOLDS[0].train), 0.2)
    offsets, flipped = torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, dtype=torch.bool)
    plain = view.cut(batch, offsets, flipped)
    gains = torch.tensor([0.5, 1.0])
    darker = view.cut(batch, offsets, flipped, gains)
    torch.testing.assert_close(darker.frames, plain.frames * gains.view(2, 1, 1, 1, 1))
    torch.testing.assert_close(view.centre(batch).frames, plain.frames)


def test_mol_has_no_steps_before():
    card = model_card("mol").preset("tiny")
    from mer_prep.models.mol import PRESETS

    settings = dataclasses.replace(card.training, pre_steps=5)
    with pytest.raises(ConfigError, match="mol has no steps before"):
        method_of("mol", PRESETS["tiny"]).settled(settings)


def test_clips_with_more_pairs_are_not_drawn_more_often(workspace):
    made = method()
    entries = pairs_study(made).clips[:3]
    clips = [load_clip(workspace, one, made) for one in entries]
    clips[0] = dataclasses.replace(clips[0], others={NEAR: clips[0].samples})
    store = ClipStore(clips)
    ids = [one.clip_id for one in entries]
    samples = store.samples(ids, NEAR)
    assert [sum(number == one for number, _ in samples) for one in range(3)] == [1, 19, 19]
    view = View(64, 1, made.statistics(store, tuple(ids)))
    drawn = Draw(samples, view, 3000, "fold", 1, by_clip=True)
    picked = drawn._samples(torch.Generator().manual_seed(0))
    shares = [sum(number == one for number, _ in picked) / 3000 for one in range(3)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)
    # Every pair of a clip comes.
    assert len(set(picked)) == len(samples)


def test_mixed_precision_keeps_what_is_small(workspace):
    made = method()
    one = pairs_study(made)
    store = open_clips("resident", workspace, one.clips, made, "cpu")
    torch.manual_seed(0)
    model = made.build(3).eval()
    view = View(64, 1, made.statistics(store, FOLDS[0].train))
    batch = view.centre(store.batch(store.samples(FOLDS[0].train)))
    exact = made.losses(model, batch, "all")
    output = made.apply(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = made.losses(model, batch, "all")
        other = made.apply(model, batch)
    for name in ("photometric", "structure"):
        assert rounded[name] >= 0
        assert rounded[name].item() == pytest.approx(exact[name].item(), rel=0.02)
    torch.testing.assert_close(other.flow, output.flow, atol=0.02, rtol=0)


def test_there_is_no_reconstruction_without_a_learned_displacement():
    assert method(displacement="tvl1").settled(SETTINGS).pre_steps == 0
    assert method(self_supervised=False).settled(SETTINGS).reconstruction_weight == 0
    assert method().settled(SETTINGS) is SETTINGS
