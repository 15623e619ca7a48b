"""What is known of the survey's baseline: presets, choices, published figures."""

from __future__ import annotations

from mer_prep.training.recipes import ModelCard, Preset, Published, TrainingSettings

_TRAINING = TrainingSettings(steps=150, batch=256)

_CHOICES = (
    "150 steps: its trainer leaves an incomplete batch out, so that an epoch of 447 or 143 clips "
    "is one step",
    "batches are drawn anew for every step, with replacement",
    "which clips are drawn (--draw-seed): the draw of the source is not published",
    "the apex frame is aligned and registered to the onset, and made smaller by area; the "
    "published one is cut out as each corpus delivers it",
    "clips without an annotated apex (all of SMIC) use the midpoint, as published",
)

SURVEY = ModelCard(
    name="survey",
    title="Baseline of the survey: one shallow stream over the apex frame",
    reference="Gong, An, Elfiky, Deep learning-based microexpression recognition: a survey, Neural "
    "Computing and Applications 34, 2022, doi:10.1007/s00521-022-07157-w",
    presets={
        "paper": Preset(
            "paper",
            "the published network; grey frames have three equal channels",
            _TRAINING,
            choices=(*_CHOICES, "gray=replicate: no corpus is told by its colour"),
        ),
        "code": Preset(
            "code",
            "as the published code feeds it: a grey frame fills the red channel only",
            _TRAINING,
            choices=_CHOICES,
        ),
        "tiny": Preset(
            "tiny",
            "the same network on u, v and strain, trained faster, for tests and demos on a CPU",
            TrainingSettings(learning_rate=1e-2, schedule="cosine", steps=150, batch=32),
            choices=("everything: it has no published counterpart",),
            published=False,
        ),
    },
    published=(
        Published(
            "lovo", "survey-4", "all", {"acc": 0.4732}, "the survey, 212 of 448 clips of its draw"
        ),
        Published(
            "lovo", "survey-9", "all", {"acc": 0.2639}, "the survey, 38 of 144 clips of its draw"
        ),
    ),
    note="Leave-one-video-out has the tested subject in training, and the published draw cannot be "
    "had again: report several draws (--repeats), and --protocol loso beside them.",
)
