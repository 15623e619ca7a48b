"""What is known of Meta-MMFNet: presets, choices, published figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings

#: Tables 3 to 6: by label map the classes, and by encoder the accuracy and the recall of each.
_TABLES: tuple[tuple[str, str, tuple[str, ...], Mapping[str, tuple[float, ...]]], ...] = (
    (
        "casme-4",
        "Table 4",
        ("disgust", "surprise", "repression", "tense"),
        {
            "macro": (0.6051, 0.625, 0.8889, 0.4242, 0.6061),
            "micro": (0.6815, 0.7, 0.8889, 0.5758, 0.6667),
            "both": (0.6959, 0.7179, 0.9412, 0.5357, 0.6875),
        },
    ),
    (
        "casme2-4",
        "Table 5",
        ("surprise", "repression", "happiness", "disgust"),
        {
            "macro": (0.7733, 0.8929, 0.5926, 0.6563, 0.8571),
            "micro": (0.7733, 0.9643, 0.5926, 0.5313, 0.8889),
            "both": (0.8095, 0.8929, 0.5926, 0.6897, 0.9206),
        },
    ),
    (
        "smic-3",
        "Table 6",
        ("surprise", "positive", "negative"),
        {
            "macro": (0.5244, 0.6512, 0.5686, 0.4143),
            "micro": (0.6220, 0.7442, 0.5294, 0.6143),
            "both": (0.6313, 0.7561, 0.5600, 0.6087),
        },
    ),
)

#: Clips that the figures of two and of one encoder are of.
_CLIPS = {"casme-4": (148, 157), "casme2-4": (147, 150), "smic-3": (160, 164)}

#: What the published alpha was chosen on.
_CHOSEN = "alpha chosen on one tested subject, who is left out"


def _single() -> tuple[Published, ...]:
    """Return the figures of models of one corpus."""
    found = []
    for labels, table, classes, rows in _TABLES:
        for encoder, (accuracy, *recalls) in rows.items():
            fused = encoder == "both"
            clips = _CLIPS[labels][0 if fused else 1]
            source = f"Tables 3 and {table[-1]}, {clips} clips"
            scores = {"acc": accuracy} | {
                f"recall of {name}": one for name, one in zip(classes, recalls, strict=True)
            }
            source += f"; {_CHOSEN}" if fused else ""
            variant = {} if fused else {"encoder": encoder}
            found.append(Published("loso", labels, "all", scores, source, variant))
    return tuple(found)


def _composite() -> tuple[Published, ...]:
    """Return the figures of the composite."""
    recalls = {"surprise": 0.8736, "positive": 0.5275, "negative": 0.7855}
    retrained = {"acc": 0.7526} | {f"recall of {name}": one for name, one in recalls.items()}
    source = "Table 8, retrained on the composite, 481 clips as the rates imply"
    apart = "Table 8, mean accuracy, not retrained: models of the single corpora"
    return tuple(
        Published("loso", "meta-cde", "all", scores, text)
        for scores, text in ((retrained, source), ({"acc": 0.7122}, apart))
    )


_EPISODES: dict[str, Any] = {
    "optimiser": "sgd",
    "momentum": 0.9,
    "schedule": "step",
    "decay": 0.1,
    "learning_rate": 0.05,
    "pre_learning_rate": 0.01,
    "batch": 128,
    "pre_steps": 100,
    "steps": 210,
    "decay_steps": 90,
}

_CHOICES = (
    "cosines and a learned temperature, as Meta-Baseline means by its brackets and as the code has",
    "the apex minus the onset, above the flow; both of 80 px, of frames registered to the onset "
    "and cut as those of MOL",
    "the annotated onset and apex, where the published code takes the frame after each; the apex "
    "is spotted where none is annotated",
    "frames and flow are mirrored half of the time, which the published code means to do and does "
    "not",
    "100 steps as classifiers, the 50 epochs of 150 clips in batches of 128; no weight decay, "
    "which the code has set and does not pass",
    "no clip is on both sides of an episode; rare classes repeat clips on one side",
    "the largest flow is that of the training clips alone",
    "5 support clips of a class, drawn once a fold from its training clips",
    "alpha, 0.1 to 1.0, is chosen on training subjects: 5 parts of them are held out in turn "
    "(meta-mmfnet.inner_folds), which makes a fold 6 times as long",
    "weights of ImageNet are a file of yours (meta-mmfnet.weights), else random; those of "
    "macro-expressions are yours too (--init), else the macro encoder is trained as the micro one",
)

META_MMFNET = ModelCard(
    name="meta-mmfnet",
    title="Meta-MMFNet: two encoders meta-trained on episodes, fused by their distances",
    reference="Gong et al., Meta-MMFNet: Meta-learning-based multi-model fusion network for "
    "micro-expression recognition, ACM TOMM 20(2), 2023. doi:10.1145/3539576",
    presets={
        "paper": Preset(
            "paper",
            "as written in the paper, its weights aside",
            TrainingSettings(**_EPISODES),
            choices=_CHOICES,
        ),
        "code": Preset(
            "code",
            "as the published code computes it, without its errors in data and scoring",
            # Its classifiers learn by the schedule of the episodes: 3 epochs of 2 batches.
            TrainingSettings(**_EPISODES, pre_decay_steps=6),
            choices=_CHOICES,
        ),
        "tiny": Preset(
            "tiny",
            "a small version of `paper` for tests and demos on a CPU",
            TrainingSettings(
                optimiser="sgd",
                momentum=0.9,
                schedule="step",
                learning_rate=0.01,
                pre_learning_rate=0.05,
                batch=16,
                pre_steps=40,
                steps=15,
                decay_steps=8,
                clip_gradient=1.0,
            ),
            reduce=2,
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(*_single(), *_composite()),
    note="The published encoders start from weights of ImageNet and of CK+, and the published "
    "fusion is scored without the subject its alpha was chosen on: single and fused figures are "
    "not of the same clips.",
)
