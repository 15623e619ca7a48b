from __future__ import annotations

import numpy as np
import pytest

from mer_prep.errors import ConfigError
from mer_prep.synth.action_units import EMOTIONS
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.synth.plan import objective_class, plan_corpus


def plans(corpus, **changes):
    layout = LAYOUTS[corpus]
    values = {
        "variant": layout.default_variant,
        "subjects": 3,
        "clips": 4,
        "seed": 0,
        "amplitude": (0.7, 1.5),
        "frames": None,
        "quirks": True,
    }
    return plan_corpus(layout, **{**values, **changes})


def composite(emotion):
    if emotion in ("negative", "positive"):
        return emotion
    if emotion in ("happiness", "surprise"):
        return {"happiness": "positive"}.get(emotion, emotion)
    return None if emotion == "others" else "negative"


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_every_subject_has_the_three_composite_classes(corpus):
    for subject in {plan.annotated.subject for plan in plans(corpus)}:
        labels = {
            composite(plan.annotated.emotion)
            for plan in plans(corpus)
            if plan.annotated.subject == subject
        }
        assert labels - {None} == {"negative", "positive", "surprise"}


@pytest.mark.parametrize("corpus", LAYOUTS)
@pytest.mark.parametrize("seed", range(8))
def test_key_frames_are_in_order_and_off_the_middle(corpus, seed):
    for plan in plans(corpus, seed=seed):
        clip = plan.annotated
        assert 1 <= clip.first < clip.onset < plan.apex < clip.offset < clip.last
        assert clip.apex in (None, plan.apex)
        seconds = (clip.offset - clip.onset + 1) / LAYOUTS[corpus].fps
        macro = clip.expression_type == "macro"
        assert 0.59 < seconds < 1.01 if macro else 0.19 < seconds < 0.41
        off = abs(2 * plan.apex - clip.onset - clip.offset)
        assert off >= (2 if LAYOUTS[corpus].fps >= 100 else 1)
        assert 0.7 <= plan.amplitude / (2 if macro else 1) <= 1.5
        assert plan.emotion in EMOTIONS


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_names_are_unique_and_seeds_change_the_clips(corpus):
    many = plans(corpus, subjects=9, clips=25)
    names = [(plan.annotated.subject, plan.annotated.clip) for plan in many]
    if corpus == "casme":
        # The first two expressions of a subject share a folder.
        assert len(set(names)) == 225 - 9
    if corpus == "casme3":
        # Thirteen recordings a subject, of which most hold two expressions.
        assert len(set(names)) == 9 * 13
    if corpus in ("casme", "casme3"):
        names = [(*name, plan.annotated.onset) for name, plan in zip(names, many, strict=True)]
    assert len(set(names)) == 225
    assert len({plan.annotated.subject for plan in many}) == 9
    assert plans(corpus) == plans(corpus)
    assert plans(corpus) != plans(corpus, seed=1)
    assert len({plan.identity for plan in many}) == 9


def test_casme2_has_its_peculiar_names_numbers_and_one_clip_without_apex():
    found = [plan.annotated for plan in plans("casme2")]
    names = {clip.clip for clip in found if clip.subject == 1}
    assert {"EP02_01f", "EP11_01", "EP11_01f"} <= names
    assert any(clip.onset < 100 <= clip.offset for clip in found)
    assert [clip.emotion for clip in found if clip.apex is None] == ["others"]
    assert all(plan.annotated.apex for plan in plans("casme2", quirks=False))


def test_samm_numbers_mix_four_and_five_digits():
    found = [plan.annotated for plan in plans("samm")]
    assert [clip.subject for clip in found] == [6] * 4 + [7] * 4 + [9] * 4
    layout = LAYOUTS["samm"]
    names = {layout.frame_name(clip, clip.onset, "official").split("_")[1] for clip in found}
    assert {len(name) for name in names} == {len("1234.jpg"), len("12345.jpg")}
    assert any(name.startswith("0") for name in names)
    assert found[0].clip == "006_1_2"


def test_smic_numbers_have_six_digits_and_more_and_one_clip_a_gap():
    found = [plan.annotated for plan in plans("smic")]
    layout = LAYOUTS["smic"]
    names = [layout.frame_name(clip, clip.onset, "HS") for clip in found]
    assert {len(name) for name in names} == {len("image061250.bmp"), len("image17581039.bmp")}
    assert any(name.startswith("image0") for name in names)
    gaps = [clip for clip in found if clip.missing]
    assert len(gaps) == 1
    true_apex = next(p.apex for p in plans("smic") if p.annotated == gaps[0])
    assert not {gaps[0].onset, true_apex, gaps[0].offset} & set(gaps[0].missing)
    assert all(gaps[0].onset < number < gaps[0].offset for number in gaps[0].missing)
    assert {clip.clip.split("_")[1]: clip.emotion for clip in found} == {
        "ne": "negative",
        "po": "positive",
        "sur": "surprise",
    }
    assert not any(plan.annotated.missing for plan in plans("smic", quirks=False))


@pytest.mark.parametrize("corpus", LAYOUTS)
@pytest.mark.parametrize("frames", [6, 9])
def test_the_number_of_frames_can_be_capped(corpus, frames):
    for plan in plans(corpus, frames=frames):
        clip = plan.annotated
        # At 30 frames per second some clips are shorter by themselves.
        assert min(frames, 8) <= clip.offset - clip.onset + 1 <= frames
        if LAYOUTS[corpus].fps > 30:
            assert clip.offset - clip.onset + 1 == frames
        assert max(clip.onset - clip.first, clip.last - clip.offset) <= frames
        assert clip.onset < plan.apex < clip.offset


@pytest.mark.parametrize(
    ("coding", "expected"),
    [("6+12", 1), ("12+L6", 1), ("1+2", 2), ("4+7", 3), ("4+9", 4), ("15+17", 5), ("1+2+4", 6)],
)
def test_objective_classes(coding, expected):
    assert objective_class(coding) == expected
    assert objective_class("14+" + coding) == 7


def test_subject_names():
    names = {corpus: layout.subject_name(6) for corpus, layout in LAYOUTS.items()}
    assert names == {
        "casme2": "sub06",
        "samm": "006",
        "smic": "s06",
        "casme": "sub06",
        "casme_sq": "s6",
        "mmew": "S06",
        "4dme": "S06",
        "casme3": "spNO.6",
        "samm_lv": "006",
        "affwild2": "video6_left",
    }


def test_draws_of_the_corpora_are_apart():
    assert len({layout.stream for layout in LAYOUTS.values()}) == len(LAYOUTS)


@pytest.mark.parametrize("corpus", LAYOUTS)
@pytest.mark.parametrize("seed", range(4))
def test_expressions_of_one_recording_share_no_frame(corpus, seed):
    layout = LAYOUTS[corpus]
    for variant in layout.variants:
        paths = [
            layout.frame_path(plan.annotated, number, variant)
            for plan in plans(corpus, variant=variant, seed=seed, clips=13)
            for number in layout.numbers(plan.annotated, variant)
        ]
        assert len(set(paths)) == len(paths)


def test_casme_has_padded_and_unpadded_numbers_and_a_second_apex():
    found = [plan.annotated for plan in plans("casme")]
    layout = LAYOUTS["casme"]
    assert [clip.subject for clip in found] == [6] * 4 + [7] * 4 + [8] * 4
    names = [layout.frame_name(clip, clip.onset, "selected") for clip in found]
    assert names[0].startswith("EP01_5-")
    assert len(names[0]) == len("EP01_5-99.jpg")
    assert len(names[4]) == len("EP01_5-099.jpg")
    assert names[3].startswith("img")
    (second,) = [clip for clip in found if clip.second_apex]
    assert second.apex < second.second_apex <= second.offset


def test_casme_sq_has_macro_expressions_and_numbers_of_four_digits():
    found = [plan.annotated for plan in plans("casme_sq")]
    assert [clip.subject for clip in found] == [15] * 4 + [16] * 4 + [19] * 4
    assert [clip.expression_type for clip in found[:4]] == ["micro"] * 3 + ["macro"]
    assert found[1].onset < 1000 <= found[1].offset
    layout = LAYOUTS["casme_sq"]
    assert layout.frame_name(found[0], 7, "raw") == "img007.jpg"
    assert layout.clip_folder(found[0], "raw") == "rawpic/s15/15_0101disgustingteeth"
    assert layout.clip_folder(found[4], "cropped") == "cropped/2/disgust1_1"
    # What is reported is what is shown; the emotion estimated is coarser.
    assert {clip.self_report for clip in found} > {"happiness", "surprise", "helpless"}
    assert {clip.emotion for clip in found} == {"positive", "negative", "surprise", "others"}
    with pytest.raises(ConfigError, match="CASME_SQ has 22 subjects, not 23"):
        plans("casme_sq", subjects=23)


def test_mmew_clips_begin_with_frame_one():
    found = [plan.annotated for seed in range(5) for plan in plans("mmew", seed=seed)]
    assert {clip.first for clip in found} == {1}
    assert found[0].clip == "S01-01-001"


def test_4dme_has_a_clip_with_two_emotions():
    found = [plan.annotated for plan in plans("4dme")]
    assert [clip.further_emotions for clip in found[:2]] == [(), ("positive",)]
    assert not any(plan.annotated.further_emotions for plan in plans("4dme", quirks=False))


def test_apex_lies_on_both_sides_of_the_middle():
    found = [plan for seed in range(4) for plan in plans("casme2", seed=seed)]
    early = np.array([2 * p.apex < p.annotated.onset + p.annotated.offset for p in found])
    assert 0.2 < early.mean() < 0.9
