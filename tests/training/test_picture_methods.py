"""Networks of one picture in the training engine, on toy clips whose flow tells their class."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mer_prep.dataset import ClipStore  # noqa: E402
from mer_prep.errors import LeakError, TrainingError  # noqa: E402
from mer_prep.ops.face_parts import face_parts  # noqa: E402
from mer_prep.ops.motion_image import motion_image  # noqa: E402
from mer_prep.training.apply import _window  # noqa: E402
from mer_prep.training.cards import model_card  # noqa: E402
from mer_prep.training.fit import Machine, View, predict  # noqa: E402
from mer_prep.training.loading import Draw, choose_loader, load_clip, open_clips  # noqa: E402
from mer_prep.training.methods import METHODS, architecture, method_of  # noqa: E402
from mer_prep.training.methods.baselines import apex_picture  # noqa: E402
from mer_prep.training.recipes import TrainingSettings  # noqa: E402
from mer_prep.training.start import start_model, study_view  # noqa: E402
from mer_prep.training.study import fold_folder, open_run, run_fold, trained_model  # noqa: E402
from tests.bars import (  # noqa: E402
    APEX,
    CLIPS,
    FOLDS,
    ONSET,
    SIDE,
    entries,
    study,
    whole_and_killed,
    write_pairs,
)

NAMES = ("survey", "ststnet", "off-apexnet", "rcn-a", "htnet", "resnet18")
SETTINGS = TrainingSettings(steps=25, batch=6, learning_rate=2e-2)


def method(name="ststnet", **changes):
    return method_of(name, architecture(name, "tiny", changes))


def flow_of(label, number):
    """Return a flow (2, S, S) in which the lower half stays, moves left or moves right."""
    flow = np.random.default_rng(number).normal(0, 0.02, (2, SIDE, SIDE))
    flow[0, SIDE // 2 :] += (0, -1, 1)[label]
    return flow.astype(np.float32)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Return a folder with what the stages would leave of the toy clips."""

    def stages_of(clip, number):
        flow = flow_of(clip.label, number)
        small = motion_image(flow, size=28, normalise="none")
        return {"flow": {"flow": flow[None]}, "motion-image": {"motion_image": small[None]}}

    return write_pairs(tmp_path_factory.mktemp("pictures"), stages_of)


def picture_study(made, **changes):
    values = {
        "model": made.name,
        "architecture": made.config,
        "training": made.settled(SETTINGS),
        "start_landmarks": False,
        "clips": entries("align", "flow", "motion-image"),
    }
    return study(**values | changes)


def source(workspace, made):
    return open_clips("resident", workspace, picture_study(made).clips, made, "cpu")


def test_a_clip_is_its_picture_and_little_else(workspace):
    made = method()
    clip = load_clip(workspace, picture_study(made).clips[4], made)
    np.testing.assert_array_equal(
        clip.image, motion_image(flow_of(1, 4), size=28, normalise="none")
    )
    assert clip.samples.tolist() == [[ONSET, APEX]]
    # Landmarks are in px of the picture: the centre of 72 px is the centre of 28.
    np.testing.assert_allclose(
        clip.landmarks, (CLIPS[4].landmarks + 0.5) * 28 / SIDE - 0.5, rtol=1e-5
    )
    store = ClipStore([clip])
    assert store.bytes() == 4 * (3 * 28 * 28 + 2 * 28 * 28 + 8 * 68 * 2)
    batch = store.batch(store.samples([clip.clip_id]))
    assert batch.image.shape == (1, 3, 28, 28)
    assert torch.isnan(batch.flow).all()
    assert batch.frames.numel() == 0


def test_small_clips_stay_in_memory_whatever_the_loader(workspace):
    made = method()
    entries = picture_study(made).clips
    for name in ("auto", "resident", "stream"):
        assert choose_loader(name, workspace, entries, made, "cpu", copies=99) == "resident"


def test_pictures_are_neither_moved_nor_mirrored(workspace):
    made = method()
    store = source(workspace, made)
    one = picture_study(made)
    assert one.training.mirror is False
    view = study_view(one, store, FOLDS[0].train)
    assert view.mirror is False
    draw = Draw(store.samples(FOLDS[0].train), view, 16, "fold", 1)
    plain = {clip.clip_id: store._tensors[n].image for n, clip in enumerate(store.clips)}
    batch = draw.batch(store, 0)
    known = torch.stack([plain[clip_id] for clip_id in FOLDS[0].train])
    assert all((known == image).flatten(1).all(dim=1).any() for image in batch.image)
    mirrored = dataclasses.replace(draw, view=dataclasses.replace(view, mirror=True))
    turned = mirrored.batch(store, 0).image
    differing = (turned != batch.image).flatten(1).any(dim=1)
    # Which are mirrored is drawn in any case, so that the rest of the draw is the same.
    assert 0 < differing.sum() < 16
    assert torch.equal(turned[differing], batch.image[differing].flip(-1))


@pytest.mark.parametrize("centre", ["mean-image", "standard"])
def test_the_normalisation_is_of_the_training_clips_and_lies_in_the_checkpoint(
    workspace, tmp_path, centre
):
    made = method(centre=centre)
    one = picture_study(made, training=dataclasses.replace(SETTINGS, steps=1, mirror=False))
    store = source(workspace, made)
    open_run(tmp_path, one)
    run_fold(tmp_path, one, FOLDS[0], store, Machine())
    model, statistics = trained_model(tmp_path, one, FOLDS[0])
    trained = [clip for clip in CLIPS if clip.clip_id in FOLDS[0].train]
    images = np.stack(
        [
            motion_image(flow_of(clip.label, CLIPS.index(clip)), size=28, normalise="none")
            for clip in trained
        ]
    ).astype(np.float64)
    if centre == "mean-image":
        np.testing.assert_allclose(model.mean, images.mean(axis=0), atol=1e-6)
        assert (model.deviation == 1).all()
    else:
        np.testing.assert_allclose(model.mean[:, 3, 3], images.mean(axis=(0, 2, 3)), atol=1e-6)
        np.testing.assert_allclose(model.deviation.flatten(), images.std(axis=(0, 2, 3)), rtol=1e-5)
    view = View(28, 1, statistics)
    with pytest.raises(LeakError):
        predict(model, made, store, FOLDS[0].train[:1], view, Machine())


@pytest.mark.parametrize("name", ["ststnet", "survey"])
def test_a_fold_learns_to_tell_motion_apart(workspace, tmp_path, name):
    made = method(name, **({"filters": 8} if name == "survey" else {}))
    one = picture_study(made)
    store = source(workspace, made)
    open_run(tmp_path, one)
    run_fold(tmp_path, one, FOLDS[0], store, Machine())
    text = (fold_folder(tmp_path, FOLDS[0]) / "predictions.csv").read_text().splitlines()
    head = text[0].split(",")
    rows = [dict(zip(head, line.split(","), strict=True)) for line in text[1:]]
    assert [row["predicted"] for row in rows] == [row["label"] for row in rows] == list("012")
    assert all(row["flow_endpoint_error_px"] == "" for row in rows)
    log = (fold_folder(tmp_path, FOLDS[0]) / "log.csv").read_text().splitlines()
    assert log[0] == "step,expression"
    assert len(log) == 26


def test_a_killed_fold_goes_on_to_the_same_bits(workspace, tmp_path):
    made = method(centre="mean-image")
    one = picture_study(made, training=dataclasses.replace(SETTINGS, steps=5, mirror=False))
    store = source(workspace, made)

    whole, killed = whole_and_killed(tmp_path, one, store, kill=4, checkpoint_every=2)
    assert whole == killed


def test_the_survey_sees_the_apex_or_the_flow(workspace):
    apex, flow = method("survey", input="apex"), method("survey")
    entry = picture_study(flow).clips[2]
    assert "motion-image" not in apex.datasets()
    assert "motion-image" in flow.datasets()
    assert (apex.sees_flow, flow.sees_flow) == (False, True)
    seen = load_clip(workspace, entry, apex).image
    frame = np.repeat(CLIPS[2].frames[APEX][..., None], 3, axis=-1).astype(np.float32)
    expected = cv2.resize(frame, (28, 28), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    np.testing.assert_array_equal(seen, expected)
    assert load_clip(workspace, entry, flow).image[2].max() < seen.min()


def test_a_grey_frame_fills_three_channels_or_one():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(1, 255, (56, 56, 1), np.uint8), 3, axis=-1)
    colour = rng.integers(1, 255, (56, 56, 3), np.uint8)
    for gray in ("replicate", "r-only"):
        found = apex_picture(colour, side=28, gray=gray)
        # Twice as small: every pixel is the mean of four.
        blocks = colour.reshape(28, 2, 28, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
        np.testing.assert_allclose(found, blocks, rtol=1e-5)
    three, one = (apex_picture(grey, side=28, gray=gray) for gray in ("replicate", "r-only"))
    assert (three == three[:1]).all()
    np.testing.assert_array_equal(one[0], three[0])
    assert (one[1:] == 0).all()


def test_htnet_sees_parts_around_the_onset_or_the_whole(workspace):
    parts, whole = method("htnet"), method("htnet", regions="whole")
    entry = picture_study(parts).clips[5]
    clip = load_clip(workspace, entry, whole)
    np.testing.assert_array_equal(
        load_clip(workspace, entry, parts).image, face_parts(clip.image, clip.landmarks[ONSET])
    )
    assert "eyes and mouth" in parts.input
    assert "eyes" not in whole.input


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_every_method_says_what_it_needs(name, preset):
    made = METHODS[name](METHODS[name].presets[preset])
    assert made.small
    assert set(METHODS[name].presets) == set(model_card(name).presets)
    assert made.required()["flow"] == {"pairs": "onset-apex"}
    if "motion-image" in made.datasets():
        wanted = getattr(made.config, "normalise", "min-max")
        assert made.required()["motion-image"] == {"size": made.side, "normalise": wanted}
    assert made.stages()[:3] == ("landmarks", "align", "flow")
    assert made.input.endswith(f"{made.side}x{made.side}")
    assert made.loss_names(SETTINGS) == tuple(made.weights(SETTINGS)) == ("expression",)


def test_flow_of_other_pairs_is_refused(workspace):
    made = method()
    arrays = {
        "align": {"landmarks": np.zeros((8, 68, 2))},
        "flow": {"flow": np.zeros((2, 2, 72, 72)), "pairs": np.array([[0, 1], [1, 2]])},
    }
    with pytest.raises(TrainingError, match="not that from an onset to an apex"):
        made.prepared(picture_study(made).clips[0], arrays)


def test_a_small_picture_shows_the_whole_of_the_aligned_frames():
    class Side:
        side, reduce = 28, 1

    window = _window(144, 28, Side)
    corners = np.array([[-0.5, -0.5], [27.5, 27.5]])
    np.testing.assert_allclose(window.aligned(corners), [[-0.5, -0.5], [143.5, 143.5]])

    class Reduced:
        side, reduce = 128, 2

    window = _window(144, 144, Reduced)
    assert (window.offset, window.reduce) == (8, 2)


def test_weights_to_start_from_do_not_bring_their_normalisation(workspace, tmp_path):
    made = method()
    one = picture_study(made)
    store = source(workspace, made)
    view = study_view(one, store, FOLDS[0].train)
    first, loaded = start_model(tmp_path, one, FOLDS[0].name, store, FOLDS[0].train, view)
    other, _ = start_model(tmp_path, one, FOLDS[1].name, store, FOLDS[1].train, view)
    assert loaded is None
    assert not torch.equal(first.mean, other.mean)
    first.load_state_dict(other.state_dict())
    made.measure(first, store, FOLDS[0].train, view)
    again, _ = start_model(tmp_path, one, FOLDS[0].name, store, FOLDS[0].train, view)
    assert torch.equal(first.mean, again.mean)
