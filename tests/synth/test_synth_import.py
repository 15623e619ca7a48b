from __future__ import annotations

import pytest

from mer_prep.errors import ManifestError
from mer_prep.sources.corpus import import_corpus
from mer_prep.synth.corpus import write_corpus
from mer_prep.synth.layouts import LAYOUTS
from mer_prep.synth.truth import read_truth, truth_clips

CASES = [
    ("casme2", "raw", {"apex-missing"}),
    ("casme2", "cropped", {"apex-missing"}),
    ("samm", "official", set()),
    ("smic", "HS-cropped", {"frames-missing"}),
    ("casme", "raw", {"apex-second"}),
    ("casme", "selected", {"apex-second"}),
    ("casme", "cropped", {"apex-second"}),
    ("casme_sq", "raw", set()),
    ("casme_sq", "selected", set()),
    ("casme_sq", "cropped", set()),
    ("casme3", "part-a", {"frames-missing"}),
    ("casme3", "part-a-clips", {"frames-missing"}),
    ("samm_lv", "long", {"apex-missing"}),
    ("mmew", "emotion-first", set()),
    ("mmew", "subject-first", set()),
    ("4dme", "raw", {"emotion-multiple"}),
    ("4dme", "cropped", {"emotion-multiple"}),
]


@pytest.mark.parametrize(("corpus", "variant", "flags"), CASES)
def test_importers_read_what_was_planned(tmp_path, corpus, variant, flags):
    made = write_corpus(
        corpus, tmp_path, subjects=2, clips=4, frames=6, variant=variant, head_motion=0.0
    )
    imported = import_corpus(corpus, made.root)
    assert imported.record.synthetic
    assert imported.record.variant == variant
    assert not [item for item in imported.record.findings if item.level == "error"]
    names = sorted(clip.clip_id.partition("/")[2] for clip in imported.clips)
    assert names == truth_clips(made.truth)
    assert {flag for clip in imported.clips for flag in clip.flags} == flags
    names = LAYOUTS[corpus].subject_name
    planned = {(names(plan.subject), plan.clip, plan.onset): plan for plan in made.clips}
    assert len(planned) == len(imported.clips) == 8
    for clip in imported.clips:
        plan = planned[clip.subject, clip.clip, clip.onset]
        assert clip.synthetic
        assert not clip.restricted
        assert (clip.onset, clip.apex, clip.offset) == (plan.onset, plan.apex, plan.offset)
        assert (clip.emotion or "") == plan.emotion
        truth = read_truth(made.truth, clip.clip_id)
        if clip.clip_id.endswith(f"@{clip.onset}") and variant != "part-a-clips":
            # The other expression of the folder is there too, unless it lies far from this one.
            assert set(clip.frame_numbers) >= set(truth.numbers)
            assert variant == "part-a" or set(clip.frame_numbers) > set(truth.numbers)
        else:
            assert clip.frame_numbers == tuple(truth.numbers)
        assert clip.expression_type == plan.expression_type
        assert clip.fps == truth.facts["fps"]


def test_tracks_in_the_wild_are_cut_into_the_expressions_that_were_planned(tmp_path):
    made = write_corpus("affwild2", tmp_path, subjects=2, clips=3, head_motion=0.0)
    imported = import_corpus("affwild2", made.root)
    assert [clip.clip_id.partition("/")[2] for clip in imported.clips] == truth_clips(made.truth)
    assert {clip.subject for clip in imported.clips} == {"video1", "video2_left"}
    emotions = {plan.clip: plan.emotion for plan in made.clips}
    for clip in imported.clips:
        truth = read_truth(made.truth, clip.clip_id)
        onset, offset = truth.facts["onset"], truth.facts["offset"]
        assert clip.frame_numbers == tuple(range(onset, offset + 1))
        assert clip.emotion == emotions[clip.clip]
        assert (clip.onset, clip.apex, clip.offset) == (None, None, None)
        assert clip.synthetic


def test_a_synthetic_corpus_is_known_from_within_and_refused_from_above(tmp_path):
    made = write_corpus("casme2", tmp_path, subjects=1, clips=2, frames=12)
    inner = next(made.root.glob("CASME2_RAW_selected"))
    imported = import_corpus("casme2", inner)
    assert imported.record.synthetic
    assert not any(clip.restricted for clip in imported.clips)
    with pytest.raises(ManifestError, match="a synthetic corpus further down"):
        import_corpus("casme2", tmp_path)
