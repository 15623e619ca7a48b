"""What is known of FRL-DGT: presets, choices, published figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings

_FULL = {"all": (0.812, 0.811), "smic": (0.743, 0.749), "samm": (0.772, 0.758)}
_FULL["casme2"] = (0.919, 0.903)

#: Table 2 of FRL-DGT: what differs, and UF1 and UAR of the whole, SMIC, SAMM and CASME II.
_ABLATIONS: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("M0", {"displacement": "tvl1"}, (0.741, 0.718, 0.671, 0.662, 0.695, 0.662, 0.846, 0.834)),
    (
        "M1",
        {"displacement": "tvl1-normalised"},
        (0.758, 0.739, 0.671, 0.667, 0.778, 0.730, 0.869, 0.831),
    ),
    (
        "M2",
        {"displacement": "dynamic-image"},
        (0.739, 0.720, 0.684, 0.679, 0.762, 0.745, 0.759, 0.716),
    ),
    ("M3", {"self_supervised": False}, (0.778, 0.777, 0.707, 0.718, 0.697, 0.677, 0.914, 0.889)),
    ("M4", {"fusion": "after"}, (0.797, 0.792, 0.746, 0.746, 0.734, 0.719, 0.898, 0.885)),
    ("M5", {"regions": "grid"}, (0.765, 0.765, 0.665, 0.673, 0.754, 0.734, 0.894, 0.876)),
    ("M6", {"full_face": False}, (0.773, 0.774, 0.689, 0.698, 0.758, 0.704, 0.876, 0.881)),
    ("M7", {"local_fusion": False}, (0.781, 0.765, 0.741, 0.745, 0.725, 0.672, 0.848, 0.838)),
    ("M8", {"global_fusion": False}, (0.782, 0.773, 0.701, 0.706, 0.711, 0.671, 0.904, 0.886)),
)


def _composite(
    source: str, variant: Mapping[str, Any], figures: Mapping[str, tuple[float, float]]
) -> tuple[Published, ...]:
    """Return published UF1 and UAR of the composite and of its parts."""
    return tuple(
        Published("loso", "megc2019-3", part, {"uf1": uf1, "uar": uar}, source, variant)
        for part, (uf1, uar) in figures.items()
    )


def _parts(figures: tuple[float, ...]) -> dict[str, tuple[float, float]]:
    pairs = zip(figures[::2], figures[1::2], strict=True)
    return dict(zip(_FULL, pairs, strict=True))


FRL_DGT = ModelCard(
    name="frl-dgt",
    title="FRL-DGT: a learned displacement from onset to apex, fused over regions of action units",
    reference="Zhai et al., Feature Representation Learning with Adaptive Displacement Generation "
    "and Transformer Fusion for Micro-Expression Recognition, CVPR 2023. arXiv:2304.04420",
    presets={
        "paper": Preset(
            "paper",
            "after the paper's poster and abstract; no code is published",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=1e-4,
                weight_decay=1e-2,
                schedule="cosine",
                steps=840,
                batch=32,
                clip_gradient=1.0,
                pre_steps=420,
                reconstruction_weight=30.0,
                displacement_rate=0.5,
                brightness=0.1,
            ),
            choices=(
                "all sizes of all layers, the nine regions, and how tokens are fused",
                "the displacement starts from guesses in closed form (frl-dgt.guess)",
                "the terms of the reconstruction and their weights: 30 times that of the classes, "
                "as grey levels from 0 to 1 differ by hundredths",
                "420 steps of reconstruction alone, then 840 of both (30 and 60 times the clips); "
                "AdamW, its rate halved for the displacement, and all that is in `training`",
                "crops of 128 of 144 px, mirrored, brighter or darker by up to a tenth, and frames "
                "up to 2 away from onset and apex",
                "frames are registered to the onset; the apex is spotted where none is annotated",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "a small version of `paper` for tests and demos on a CPU",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=2e-3,
                weight_decay=1e-2,
                schedule="cosine",
                steps=60,
                batch=8,
                clip_gradient=1.0,
                pre_steps=30,
                reconstruction_weight=30.0,
                brightness=0.1,
            ),
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(
        *_composite("Table 1", {}, _FULL),
        *(
            one
            for name, variant, figures in _ABLATIONS
            for one in _composite(f"Table 2, {name}", variant, _parts(figures))
        ),
    ),
    note="A re-implementation from the paper's poster and abstract: whatever these do not say was "
    "chosen here.",
)
