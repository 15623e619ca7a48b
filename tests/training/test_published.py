"""Published figures stand beside runs that they belong to, and nowhere else."""

from __future__ import annotations

import dataclasses

import pytest

from mer_prep.errors import ConfigError
from mer_prep.models.mol import PRESETS
from mer_prep.protocols import Fold
from mer_prep.training.cards import model_card
from mer_prep.training.methods import architecture
from mer_prep.training.recipes import Published
from mer_prep.training.results import _published
from mer_prep.training.selection import LEAKY, Selection
from mer_prep.training.study import ClipEntry, Study

COUNTS = {"casme2": 145, "samm": 133, "smic": 164}


def study(counts: dict[str, int] = COUNTS) -> Study:
    clips = tuple(
        ClipEntry(f"{corpus}/{number}/x", corpus, f"{corpus}/{number}", 0, {}, "")
        for corpus, count in counts.items()
        for number in range(count)
    )
    return Study(
        model="mol",
        preset="paper",
        architecture=PRESETS["paper"],
        training=model_card("mol").preset("paper").training,
        reduce=1,
        start_landmarks=False,
        labels="megc2019-3",
        protocol="cde",
        classes=("negative", "positive", "surprise"),
        seed=1,
        shuffled=False,
        synthetic=False,
        clips=clips,
        folds=(Fold("casme2 to smic", (), ()),),
    )


def parts(one: Study) -> set[str]:
    return {result["part"] for result in _published(one)["published"]}


def test_the_whole_composite_has_all_of_them() -> None:
    assert parts(study()) == {"all", "casme2", "samm", "smic"}
    assert _published(study())["published_left_out"] == ""


def test_a_part_of_the_composite_has_none() -> None:
    assert parts(study(COUNTS | {"samm": 120})) == set()
    # Trained on SMIC alone is not the SMIC part of the composite.
    assert parts(study({"smic": 164})) == set()
    found = _published(study({"smic": 12}))
    assert found["published"] == []
    assert "not as many" in found["published_left_out"]


def test_cross_corpus_figures_belong_to_their_direction() -> None:
    crossed = dataclasses.replace(study(), protocol="cross-corpus")
    assert parts(crossed) == {"casme2 to smic"}
    turned = dataclasses.replace(crossed, folds=(Fold("smic to casme2", (), ()),))
    assert parts(turned) == set()
    assert parts(dataclasses.replace(study(COUNTS | {"smic": 9}), protocol="cross-corpus")) == set()


def test_an_ablation_has_the_figures_of_its_own_line() -> None:
    def ablation(**changes: object) -> Study:
        return dataclasses.replace(
            study(),
            model="frl-dgt",
            architecture=architecture("frl-dgt", "paper", changes),
            training=model_card("frl-dgt").preset("paper").training,
        )

    def figures(one: Study) -> dict[str, dict[str, float]]:
        return {row["part"]: row["scores"] for row in _published(one)["published"]}

    assert figures(ablation())["casme2"] == {"uf1": 0.919, "uar": 0.903}
    assert figures(ablation(fusion="after"))["all"] == {"uf1": 0.797, "uar": 0.792}
    assert figures(ablation(displacement="dynamic-image"))["smic"] == {"uf1": 0.684, "uar": 0.679}
    assert figures(ablation(regions="grid"))["samm"] == {"uf1": 0.754, "uar": 0.734}
    both = _published(ablation(regions="grid", fusion="after"))
    assert both["published"] == []
    assert both["published_left_out"] == "nothing was published with fusion=after, regions=grid"


def test_the_ablations_of_mol_stand_beside_the_preset_they_are_of() -> None:
    def figures(preset: str, **changes: object) -> list[dict[str, float]]:
        one = dataclasses.replace(
            study({"casme2": 249}),
            preset=preset,
            labels="casme2-5",
            architecture=architecture("mol", preset, changes),
        )
        return [row["scores"] for row in _published(one)["published"]]

    whole = [{"acc": 0.7923, "wf1": 0.7585}]
    assert figures("paper") == figures("code") == whole
    assert figures("paper", flow=False, landmarks=False) == [{"acc": 0.6655, "wf1": 0.5893}]
    assert figures("paper", ccc="none") == [{"acc": 0.7686, "wf1": 0.7444}]
    assert figures("paper", fusion="subtract") == [{"acc": 0.7213, "wf1": 0.6934}]
    assert figures("paper", frames=16) == [{"acc": 0.7898, "wf1": 0.7525}]
    # Its two frames are annotated ones, and those of a sample here lie evenly in the clip.
    assert figures("paper", frames=2) == []
    # The published code has other blocks, and no published ablation.
    assert figures("code", ccc="none") == []


def test_single_encoders_have_their_figures_beside_the_fused_model() -> None:
    def found(**changes: object) -> dict[str, object]:
        one = dataclasses.replace(
            study({"smic": 164}),
            model="meta-mmfnet",
            labels="smic-3",
            protocol="loso",
            architecture=architecture("meta-mmfnet", "paper", changes),
            training=model_card("meta-mmfnet").preset("paper").training,
        )
        return _published(one)

    fused = found()
    assert [one["scores"]["acc"] for one in fused["published"]] == [0.6313]
    parts = {
        part: [one["scores"]["acc"] for one in rows]
        for part, rows in fused["published_parts"].items()
    }
    # Table 3 on SMIC.
    assert parts == {"micro": [0.6220], "macro": [0.5244]}
    (alone,) = found(encoder="micro")["published"]
    assert alone["scores"]["recall of surprise"] == 0.7442
    assert "published_parts" not in found(encoder="micro")
    assert "published_parts" not in found(metric="dot")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"synthetic": True}, "synthetic"),
        ({"shuffled": True}, "shuffled"),
        ({"preset": "tiny"}, "no published counterpart"),
        ({"selection": Selection(LEAKY, 3)}, "test subject"),
    ],
)
def test_marked_runs_have_none(change: dict[str, object], reason: str) -> None:
    found = _published(dataclasses.replace(study(), **change))
    assert found["published"] == []
    assert reason in found["published_left_out"]


def test_how_the_weights_behind_a_figure_were_chosen_is_one_of_three() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'leak-free'"):
        Published("loso", "smic-3", "all", {}, "Table 1", selected="leakfree")
    # The published code of MOL trains on one corpus, and keeps what is best on the test subject.
    chosen = {one.labels: one.selected for one in model_card("mol").published}
    assert chosen["casme2-5"] == chosen["smic-3"] == "test-subject"
    assert chosen["megc2019-3"] == "not-stated"
