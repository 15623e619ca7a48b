"""What is known of Bi-WOOF with a linear SVM: presets, choices, published figures."""

from __future__ import annotations

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings

#: UF1 and UAR by part.
_FIGURES = {
    "all": (0.6296, 0.6227),
    "casme2": (0.7805, 0.8026),
    "samm": (0.5211, 0.5139),
    "smic": (0.5727, 0.5829),
}

BI_WOOF_SVM = ModelCard(
    name="bi-woof-svm",
    title="Bi-WOOF + SVM: orientations of the flow to the apex, weighted by magnitude and strain",
    reference="Liong et al., Less is More: Micro-Expression Recognition from Video Using Apex "
    "Frame, Signal Processing: Image Communication 62, 2018. doi:10.1016/j.image.2017.11.006",
    presets={
        "paper": Preset(
            "paper",
            "8 bins of orientation in 8x8 blocks, weighted by magnitude and by mean strain",
            TrainingSettings(steps=1),
            choices=(
                "8x8 blocks for all corpora (--set bi-woof-svm.blocks=5 for 5x5)",
                "a linear machine, one class against the rest, C = 1, classes weighted alike, "
                "features standardised over the training clips",
                "frames are registered to the onset; the apex is spotted where none is annotated",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "5x5 blocks, for few clips",
            TrainingSettings(steps=1),
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=tuple(
        Published("loso", "megc2019-3", part, {"uf1": uf1, "uar": uar}, "MOL, Table VI")
        for part, (uf1, uar) in _FIGURES.items()
    ),
    note="The published figures are quoted from a table of results; nothing there says how the "
    "apex of SMIC, which has none annotated, was found.",
)
