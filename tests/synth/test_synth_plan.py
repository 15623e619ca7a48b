from __future__ import annotations

import numpy as np
import pytest

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


def composite(corpus, emotion):
    if corpus == "smic":
        return emotion
    if emotion in ("happiness", "surprise"):
        return {"happiness": "positive"}.get(emotion, emotion)
    return None if emotion == "others" else "negative"


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_every_subject_has_the_three_composite_classes(corpus):
    for subject in {plan.annotated.subject for plan in plans(corpus)}:
        labels = {
            composite(corpus, plan.annotated.emotion)
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
        assert 0.19 < seconds < 0.41
        assert abs(2 * plan.apex - clip.onset - clip.offset) >= 2
        assert 0.7 <= plan.amplitude <= 1.5
        assert plan.emotion in EMOTIONS


@pytest.mark.parametrize("corpus", LAYOUTS)
def test_names_are_unique_and_seeds_change_the_clips(corpus):
    many = plans(corpus, subjects=9, clips=25)
    assert len({(plan.annotated.subject, plan.annotated.clip) for plan in many}) == 225
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
    names = [LAYOUTS[corpus].subject_name(6) for corpus in ("casme2", "samm", "smic")]
    assert names == ["sub06", "006", "s06"]


def test_apex_lies_on_both_sides_of_the_middle():
    found = [plan for seed in range(4) for plan in plans("casme2", seed=seed)]
    early = np.array([2 * p.apex < p.annotated.onset + p.annotated.offset for p in found])
    assert 0.2 < early.mean() < 0.9
