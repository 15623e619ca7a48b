"""What is known of SelfME: presets, choices, published figures."""

from __future__ import annotations

from typing import Any

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings

#: Ablation tables of SelfME: where they stand, what differs, and UF1 and UAR on CASME II.
_CASME2: tuple[tuple[str, dict[str, Any], tuple[float, float]], ...] = (
    ("comparison", {}, (0.9078, 0.9290)),
    (
        "ablation, none",
        {"bspline": "off", "classifier": "vit", "gamma": 1.0},
        (0.8468, 0.8849),
    ),
    ("ablation, B", {"classifier": "vit", "gamma": 1.0}, (0.8629, 0.8903)),
    ("ablation, SC", {"bspline": "off", "gamma": 1.0}, (0.8903, 0.9028)),
    ("ablation, MA", {"bspline": "off", "classifier": "vit"}, (0.8718, 0.8851)),
    ("ablation, B and SC", {"gamma": 1.0}, (0.8923, 0.8984)),
    ("ablation, SC and MA", {"bspline": "off"}, (0.8951, 0.9109)),
    ("ablation, B and MA", {"classifier": "vit"}, (0.8784, 0.8960)),
    ("learned motion, TV-L1+ViT", {"motion": "tvl1", "classifier": "vit"}, (0.8060, 0.8016)),
    ("learned motion, TV-L1+SCViT", {"motion": "tvl1"}, (0.8460, 0.8305)),
)

#: The same on SMIC-HS.
_SMIC: tuple[tuple[str, dict[str, Any], tuple[float, float]], ...] = (
    ("comparison", {}, (0.6972, 0.7012)),
    ("amplification, x1", {"gamma": 1.0}, (0.6768, 0.6798)),
    ("amplification, x3", {"gamma": 3.0}, (0.6523, 0.6622)),
)


def _alone(
    labels: str, rows: tuple[tuple[str, dict[str, Any], tuple[float, float]], ...]
) -> tuple[Published, ...]:
    """Return published UF1 and UAR of leave-one-subject-out on one corpus."""
    return tuple(
        Published("loso", labels, "all", {"uf1": uf1, "uar": uar}, f"slides, {table}", variant)
        for table, variant, (uf1, uar) in rows
    )


SELFME = ModelCard(
    name="selfme",
    title="SelfME: motion learned by rebuilding, and a symmetric contrastive transformer",
    reference="Fan et al., SelfME: Self-Supervised Motion Learning for Micro-Expression "
    "Recognition, CVPR 2023. doi:10.1109/CVPR52729.2023.01329",
    presets={
        "paper": Preset(
            "paper",
            "after the paper's slides; no code is published",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=1e-4,
                weight_decay=0.05,
                schedule="cosine",
                steps=1400,
                batch=32,
                clip_gradient=1.0,
                pre_steps=700,
                reconstruction_weight=30.0,
                displacement_rate=2.0,
                brightness=0.1,
            ),
            choices=(
                "all sizes of all layers; networks of the First Order Motion Model, normalised in "
                "groups",
                "where the B-spline is: a free-form deformation added to the dense field "
                "(selfme.bspline)",
                "the motion learns by colours and their structure, without the perceptual loss, "
                "and by equivariance of its key points; classes never change it",
                "gamma comes after the division by the deviation of the training samples, and "
                "varies by half in training",
                "positives of the contrast, and that it is divided by the size of the batch as "
                "the cross-entropy is",
                "700 steps of motion from the onset to any frame, then 1400 of classes; AdamW, and "
                "all that is in `training`; batches with as many of every class",
                "crops of 128 of 144 px, mirrored, brighter or darker by up to a tenth; frames "
                "are registered to the onset; the apex is spotted where none is annotated",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "a small version of `paper` for tests and demos on a CPU",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=2e-3,
                weight_decay=0.05,
                schedule="cosine",
                steps=60,
                batch=12,
                clip_gradient=1.0,
            ),
            reduce=2,
            choices=(
                "everything: it has no published counterpart",
                "TV-L1 flow in place of the learned motion",
            ),
            published=False,
        ),
        "tiny-learned": Preset(
            "tiny-learned",
            "the same with a motion stage",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=2e-3,
                weight_decay=0.05,
                schedule="constant",
                steps=180,
                batch=12,
                clip_gradient=1.0,
                pre_steps=300,
                displacement_rate=0.2,
                reconstruction_weight=30.0,
            ),
            reduce=2,
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(*_alone("casme2-3", _CASME2), *_alone("smic-3", _SMIC)),
    note="A re-implementation from the paper's slides: whatever these do not say was chosen here. "
    "They do not say which clips of CASME II were taken, nor on whom the epoch was chosen.",
)
