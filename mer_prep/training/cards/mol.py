"""What is known of MOL: presets, choices, published figures."""

from __future__ import annotations

from collections.abc import Mapping

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings


def _chosen_on_test(labels: str, scores: Mapping[str, float], table: str) -> Published:
    """Return a figure of one corpus, which the published code makes."""
    return Published("loso", labels, "all", scores, table, selected="test-subject")


MOL = ModelCard(
    name="mol",
    title="MOL: micro-expression, optical flow and landmarks from raw frames",
    reference="Shao et al., MOL: Joint Estimation of Micro-Expression, Optical Flow, and Landmark "
    "via Transformer-Graph-Style Convolution, IEEE TPAMI, 2025. arXiv:2506.14511",
    presets={
        "paper": Preset(
            "paper",
            "as written in the paper, without pre-training",
            TrainingSettings(),
            choices=(
                "1000 steps a fold (the paper names no number)",
                "grey frames (the text says colour, Table I one channel)",
                "a channel is not its own neighbour",
                "frames are registered to the onset instead of aligned one by one",
                "probabilities of a clip are averaged over its phases",
            ),
        ),
        "code": Preset(
            "code",
            "as the published code computes it, without its errors in data and scoring",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=1e-4,
                weight_decay=1e-3,
                # Its weights 10 and 0.1 of losses divided, and not divided, by 7 pairs.
                flow_weight=10 / 7,
                landmark_weight=0.1 * 7,
            ),
            choices=(
                "statistics of batch normalisation over all pairs together",
                "frames are registered to the onset instead of aligned one by one",
                "probabilities of a clip are averaged over its phases",
            ),
        ),
        "tiny": Preset(
            "tiny",
            "a small version of `paper` for tests and demos on a CPU",
            TrainingSettings(
                optimiser="adamw",
                learning_rate=5e-3,
                weight_decay=1e-2,
                schedule="cosine",
                steps=120,
                batch=16,
                clip_gradient=1.0,
                landmark_weight=1.0,
            ),
            reduce=2,
            start_landmarks=True,
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(
        _chosen_on_test("casme2-3", {"acc": 0.9126, "wf1": 0.8891}, "Table IV"),
        _chosen_on_test("casme2-5", {"acc": 0.7923, "wf1": 0.7585}, "Table IV"),
        _chosen_on_test("samm-3", {"acc": 0.8836, "wf1": 0.8272}, "Table IV"),
        _chosen_on_test("samm-5", {"acc": 0.7668, "wf1": 0.7190}, "Table IV"),
        _chosen_on_test("smic-3", {"acc": 0.8071, "wf1": 0.7881}, "Table V"),
        Published("loso", "megc2019-3", "all", {"uf1": 0.8779, "uar": 0.8542}, "Table VI"),
        Published("loso", "megc2019-3", "casme2", {"uf1": 0.9008, "uar": 0.8992}, "Table VI"),
        Published("loso", "megc2019-3", "samm", {"uf1": 0.8972, "uar": 0.8900}, "Table VI"),
        Published("loso", "megc2019-3", "smic", {"uf1": 0.8100, "uar": 0.7234}, "Table VI"),
        Published(
            "cross-corpus",
            "megc2019-3",
            "casme2 to smic",
            {"acc": 0.4713, "wf1": 0.4391},
            "Table VII",
        ),
        Published(
            "cross-corpus",
            "megc2019-3",
            "samm to smic",
            {"acc": 0.4458, "wf1": 0.3232},
            "Table VII",
        ),
    ),
    note="The published figures rest on pre-training with Aff-Wild2, and the published code picks "
    "its checkpoint on the test subject. That code trains on one corpus at a time: how the weights "
    "behind the figures of the composite were chosen is not known.",
)
