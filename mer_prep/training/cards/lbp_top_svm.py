"""What is known of LBP-TOP with a linear SVM: presets, choices, published figures."""

from __future__ import annotations

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings

#: UF1 and UAR by part.
_FIGURES = {
    "all": (0.5882, 0.5785),
    "casme2": (0.7026, 0.7429),
    "samm": (0.3954, 0.4102),
    "smic": (0.2000, 0.5280),
}

LBP_TOP_SVM = ModelCard(
    name="lbp-top-svm",
    title="LBP-TOP + SVM: local binary patterns from three orthogonal planes",
    reference="Zhao & Pietikäinen, Dynamic Texture Recognition Using Local Binary Patterns with an "
    "Application to Facial Expressions, IEEE TPAMI 29(6), 2007. doi:10.1109/TPAMI.2007.1110",
    presets={
        "paper": Preset(
            "paper",
            "the features of the paper in 5x5 blocks, as micro-expressions are usually described",
            TrainingSettings(steps=1),
            choices=(
                "10 frames by temporal interpolation, whole aligned faces of 144 px",
                "radii of 1 px and 4 frames, 8 neighbours, uniform patterns",
                "a linear machine, one class against the rest, C = 1, classes weighted alike, "
                "features standardised over the training clips",
                "frames are registered to the onset",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "3x3 blocks, for few clips",
            TrainingSettings(steps=1),
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=tuple(
        Published("loso", "megc2019-3", part, {"uf1": uf1, "uar": uar}, "MOL, Table VI")
        for part, (uf1, uar) in _FIGURES.items()
    ),
    note="The published figures are quoted from a table of results, which does not state radii, "
    "neighbours and machine. The two of SMIC cannot be of one confusion matrix: with 70, 51 and 43 "
    "clips, a UAR of 0.528 goes with a UF1 of 0.293 at least.",
)
