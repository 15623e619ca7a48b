"""Meta-MMFNet as the training engine sees it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mer_prep.dataset import Batch, ClipSource, PreparedClip, Statistics
from mer_prep.errors import ConfigError, TrainingError
from mer_prep.models.meta_mmfnet import (
    LEGACY,
    PRESETS,
    MetaMmfnet,
    MetaMmfnetConfig,
    episode_loss,
    fuse,
    with_size,
)
from mer_prep.models.output import ModelOutput
from mer_prep.models.public_weights import load_trunk
from mer_prep.training.episodes import Episodes, by_class, support
from mer_prep.training.methods.base import Labelled, Method, StageArrays, Stretch
from mer_prep.training.methods.fusion import choose_alpha, legacy_rows
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.seeds import seed_of

if TYPE_CHECKING:
    from mer_prep.training.fit import Machine, View

#: What the first steps, and all others, minimise.
CLASSIFIER, EPISODES = "classifier", "episodes"

#: Clips whose features are computed at a time.
_AT_A_TIME = 32


class MetaMmfnetMethod(Method):
    """Onset and apex in colour and the flow between them; classifiers first, episodes then."""

    name = "meta-mmfnet"
    Config = MetaMmfnetConfig
    presets = PRESETS
    pipeline = "meta-mmfnet"
    colours = 3

    @property
    def length(self) -> int:
        """Frames of a sample: onset and apex."""
        return 2

    @property
    def sees_flow(self) -> bool:
        """Whether the encoders see flow."""
        return bool(self.config.features != "difference")

    @property
    def fuses(self) -> bool:
        """Whether there are two encoders to fuse."""
        return len(self.config.encoders) == 2

    def changed(self, preset: str) -> dict[str, Any]:
        """Return what of the architecture is not as in a preset, and not as published either.

        Weights of a file are as published, and so are a macro encoder that was trained on
        macro-expressions, the legacy episodes and the legacy alpha.
        """
        usual = {"weights", "weights_sha256", *self._as_published()}
        return {name: one for name, one in super().changed(preset).items() if name not in usual}

    def _as_published(self) -> dict[str, str]:
        """Return the switches that are as published where the presets are not."""
        published = {"draw": LEGACY, "macro": "pretrained", "alpha": LEGACY}
        return {name: one for name, one in published.items() if getattr(self.config, name) == one}

    def alone(self) -> dict[str, dict[str, Any]]:
        """Return, by the name of each encoder that is fused, the change that leaves it alone."""
        return {name: {"encoder": name} for name in self.config.encoders} if self.fuses else {}

    def marks(self, preset: str) -> list[str]:
        """Return what the name of a run says of its architecture."""
        found = super().marks(preset)
        found += [f"{name}-{one}" for name, one in self._as_published().items()]
        digest = self.config.weights_sha256[:8]
        return found + ([f"weights-{digest}"] if digest else [])

    def located(self) -> MetaMmfnetMethod:
        """Return the method with the SHA-256 of the file of weights.

        Raises
        ------
        TrainingError
            If it cannot be read, or is not of this ResNet-18.
        """
        if not self.config.weights:
            return self
        path = Path(self.config.weights).absolute()
        model = MetaMmfnet(self.config, 2)
        load_trunk(model.encoder(self.config.encoders[0]).trunk, path)
        sha256 = _sha256(path)
        return type(self)(
            dataclasses.replace(self.config, weights=str(path), weights_sha256=sha256)
        )

    def remarks(self, *, init: bool) -> list[str]:
        """Return where the encoders start, and what is as in the published code on purpose."""
        found = []
        if self.config.macro == "pretrained" and not init and "macro" in self.config.encoders:
            raise ConfigError(
                "A pre-trained macro encoder needs its weights.",
                hint="name them by --init, those of `mer-prep pretrain --model meta-mmfnet`; or "
                "leave meta-mmfnet.macro out, and it is trained on the micro-expressions",
            )
        if not self.config.weights and not init:
            found.append("no weights are given: the encoders start at random")
        if self.fuses and self.config.macro != "pretrained":
            found.append(
                "the macro encoder has seen no macro-expression: it is trained on the same "
                "micro-expressions as the micro encoder"
            )
        if self.config.draw == LEGACY:
            found.append(
                "LEGACY episodes: a clip may be on both sides of one, as in the published code"
            )
        if self.config.alpha == LEGACY and self.fuses:
            found.append(
                "LEGACY alpha: it is chosen on the test clips of one subject, by models trained "
                "on all others; that subject is not scored. Never report these figures as a score "
                "of all subjects"
            )
        return found

    def datasets(self) -> Mapping[str, tuple[str, ...]]:
        """Return the datasets that it is fed on, by stage."""
        return {"align": ("frames", "landmarks"), "flow": ("flow", "pairs")}

    def required(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the parameters of stages that it cannot do without."""
        return {"flow": {"pairs": "onset-apex"}}

    def picture(self, frame: np.ndarray) -> np.ndarray:
        """Return an aligned frame with its channels first."""
        return np.ascontiguousarray(frame.transpose(2, 0, 1))

    def prepared(self, clip: Labelled, arrays: StageArrays, *, where: Any = None) -> PreparedClip:
        """Return a clip with its onset and apex."""
        pairs = np.asarray(arrays["flow"]["pairs"], np.int64)
        if pairs.shape != (1, 2):
            raise TrainingError(
                f"The flow of {clip.clip_id} is not that from an onset to an apex.",
                where=where,
                hint="the pairs must be those of flow.pairs=onset-apex",
            )
        return self._prepared(clip, arrays, pairs)

    def build(self, classes: int) -> nn.Module:
        """Return the model with random weights."""
        return MetaMmfnet(self.config, classes)

    def statistics(self, source: ClipSource, clip_ids: tuple[str, ...]) -> Statistics:
        """Return the scale to -1 ... 1, which is the same for all clips."""
        return Statistics(127.5, 127.5, frozenset(clip_ids))

    def measure(
        self, model: nn.Module, source: ClipSource, clip_ids: tuple[str, ...], view: View
    ) -> None:
        """Take over the weights of a file, and the largest flow of the training clips."""
        assert isinstance(model, MetaMmfnet)
        # Weights that it begins with may have another.
        model.alpha.fill_(self.config.alpha_value)
        if self.config.weights:
            path = Path(self.config.weights)
            for name in self.config.encoders:
                if name in self.config.classified:
                    load_trunk(model.encoder(name).trunk, path)
            if _sha256(path) != self.config.weights_sha256:
                raise TrainingError(
                    "The weights are not those that the run began with.",
                    where=path,
                    hint="bring the file back, or train under another --run",
                )
        largest = torch.zeros(3)
        for sample in source.samples(clip_ids):
            flow = view.centre(source.batch([sample])).flow
            found = with_size(flow[:, 0]).abs().amax(dim=(0, 2, 3)).cpu()
            largest = torch.maximum(largest, found)
        # Where nothing moves, nothing is divided.
        model.flow_scale.copy_(torch.where(largest > 0, largest, 1.0))

    def settled(self, settings: TrainingSettings) -> TrainingSettings:
        """Return settings; without episodes all steps are those of the classifiers."""
        if self.config.meta:
            known = bool(self.config.classified)
            return settings if known else dataclasses.replace(settings, pre_steps=0)
        return dataclasses.replace(
            settings,
            steps=settings.all_steps,
            pre_steps=0,
            learning_rate=settings.pre_learning_rate or settings.learning_rate,
            pre_learning_rate=0.0,
            decay_steps=settings.pre_decay_steps,
            pre_decay_steps=0,
        )

    def stretches(self, settings: TrainingSettings) -> tuple[Stretch, ...]:
        """Return the steps as classifiers, and those of episodes."""
        if not self.config.meta:
            return (Stretch(CLASSIFIER, settings.steps),)
        episodes = Episodes(
            self.config.ways,
            self.config.shots,
            self.config.queries,
            self.config.episodes,
            self.config.draw != LEGACY,
        )
        found = [Stretch(CLASSIFIER, settings.pre_steps)] if settings.pre_steps else []
        found.append(Stretch(EPISODES, settings.steps, episodes=episodes, fresh=True))
        return tuple(found)

    def loss_names(self, settings: TrainingSettings) -> tuple[str, ...]:
        """Return the names of the losses: that of every encoder."""
        return tuple(self.config.encoders)

    def weights(self, settings: TrainingSettings) -> Mapping[str, float]:
        """Return the weights of its losses; the encoders share nothing."""
        return dict.fromkeys(self.config.encoders, 1.0)

    def losses(self, model: nn.Module, batch: Batch, objective: str) -> dict[str, Tensor]:
        """Return the loss of every encoder that learns."""
        names = self.config.encoders if objective == EPISODES else self.config.classified
        found = {}
        for name, values in model(batch.frames, batch.flow, encoders=names).items():
            encoder, features = getattr(model, name), values.float()
            if objective == CLASSIFIER:
                found[name] = functional.cross_entropy(encoder.head(features), batch.labels)
                continue
            assert batch.episodes is not None, "these steps draw episodes"
            found[name] = episode_loss(
                encoder,
                features,
                batch.episodes,
                shots=self.config.shots,
                queries=self.config.queries,
            )
        return found

    def conclude(
        self,
        model: nn.Module,
        source: ClipSource,
        clip_ids: Sequence[str],
        view: View,
        machine: Machine,
        *,
        name: str,
        seed: int,
    ) -> None:
        """Keep the prototypes of the support set, in which training clips are alone."""
        assert isinstance(model, MetaMmfnet)
        device = torch.device(machine.device)
        model.eval()
        for one in self.config.encoders:
            model.encoder(one).present.fill_(False)
        for label, samples in self._support(source, clip_ids, name=name, seed=seed).items():
            sums: dict[str, Tensor] = {}
            for start in range(0, len(samples), _AT_A_TIME):
                batch = view.centre(source.batch(samples[start : start + _AT_A_TIME])).to(device)
                with torch.no_grad(), machine.autocast():
                    features = model(batch.frames, batch.flow)
                for one, values in features.items():
                    sums[one] = sums.get(one, 0) + values.float().sum(dim=0)
            for one, total in sums.items():
                encoder = model.encoder(one)
                encoder.prototypes[label] = total / len(samples)
                encoder.present[label] = True

    def tested_by(
        self, source: ClipSource, clip_ids: Sequence[str], *, name: str, seed: int
    ) -> dict[str, Any]:
        """Return the seed and the clips of the support set."""
        found = self._support(source, clip_ids, name=name, seed=seed)
        clips = {
            str(label): [source.clips[number].clip_id for number, _ in samples]
            for label, samples in found.items()
        }
        return {"support": {"seed": seed_of("support", seed, name), "clips": clips}}

    def _support(
        self, source: ClipSource, clip_ids: Sequence[str], *, name: str, seed: int
    ) -> dict[int, list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(seed_of("support", seed, name))
        samples = by_class(source, source.samples(clip_ids))
        return support(samples, self.config.support, generator=generator)

    @property
    def inner_folds(self) -> int | None:
        """Folds of the training subjects that alpha is chosen on."""
        return self.config.inner_folds if self.fuses and self.config.alpha == "nested" else None

    def tuned(self, outputs: Sequence[ModelOutput], labels: Sequence[int]) -> dict[str, float]:
        """Return the alpha that recognises most clips of training subjects held out."""
        parts = [one.parts for one in outputs if one.parts]
        scores = {name: torch.cat([one[name] for one in parts]) for name in self.config.encoders}
        return {"alpha": choose_alpha(scores, torch.tensor(list(labels)))}

    def take(self, model: nn.Module, values: Mapping[str, float]) -> None:
        """Give a model the alpha that was chosen."""
        if values:
            assert isinstance(model, MetaMmfnet)
            model.alpha.fill_(values["alpha"])

    def scored(
        self, rows: Sequence[dict[str, str]], classes: Sequence[str]
    ) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """Return the predictions; with the legacy alpha, those that it is not chosen on."""
        if self.config.alpha != LEGACY or not self.fuses:
            return list(rows), {}
        kept, facts = legacy_rows(rows, classes)
        return kept, {"legacy_alpha": facts}

    def apply(self, model: nn.Module, batch: Batch) -> ModelOutput:
        """Return classes, and what each encoder says alone."""
        features = model(batch.frames, batch.flow)
        scores = {
            name: getattr(model, name).scores(values.float()) for name, values in features.items()
        }
        alpha: Any = model.alpha
        fused = fuse(scores, float(alpha))
        return ModelOutput(fused, parts=scores if self.fuses else None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
