"""One study: a model, a composite and a protocol, every fold of it, in a folder that resumes.

``runs/<run>/config.json`` says all that decides the result; a folder of another configuration is
never gone on with. Every fold has its own folder with checkpoint, log and predictions; what is
finished is not done again.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mer_prep.config import canonical_json
from mer_prep.dataset import Batch, ClipStore, PreparedClip, Statistics, phases
from mer_prep.errors import ConfigError, TrainingError
from mer_prep.manifest import write_atomic
from mer_prep.models.mol import Mol, MolConfig, MolOutput
from mer_prep.ops.images import to_grey
from mer_prep.protocols import Fold
from mer_prep.store.key import digest
from mer_prep.store.shard import read_clip
from mer_prep.training.checkpoints import load_model
from mer_prep.training.fit import Machine, View, fit, predict, seed_of
from mer_prep.training.losses import ocular_distance
from mer_prep.training.recipes import TrainingSettings

#: Mean landmark error relative to the ocular distance at which a frame counts as failed.
FAILURE = 0.1


@dataclass(frozen=True)
class ClipEntry:
    """One labelled clip of a study, and where its prepared data lie.

    Parameters
    ----------
    clip_id, corpus, subject : str
        Which clip; the subject is named across corpora.
    label : int
        Its class.
    shards : mapping of str to str
        File by stage, relative to the workspace.
    source_digest : str
        Of the source frames.
    """

    clip_id: str
    corpus: str
    subject: str
    label: int
    shards: Mapping[str, str]
    source_digest: str


@dataclass(frozen=True)
class Study:
    """All that decides the result of a study.

    Parameters
    ----------
    model, preset : str
        What is trained.
    architecture : MolConfig
        Its architecture.
    training : TrainingSettings
        How it is trained.
    reduce : int
        Px of the aligned frames that become one.
    start_landmarks : bool
        Whether mean landmarks are the first guess.
    labels, protocol : str
        Label map and protocol.
    classes : tuple of str
        Names of the classes.
    seed : int
        The seed.
    shuffled : bool
        Whether the labels were shuffled among the clips, as a control.
    synthetic : bool
        Whether any clip is synthetic.
    clips : tuple of ClipEntry
        The clips.
    folds : tuple of Fold
        The folds.
    draw_seed : int, optional
        Seed of the draw of the clips, where the label map balances them.
    """

    model: str
    preset: str
    architecture: MolConfig
    training: TrainingSettings
    reduce: int
    start_landmarks: bool
    labels: str
    protocol: str
    classes: tuple[str, ...]
    seed: int
    shuffled: bool
    synthetic: bool
    clips: tuple[ClipEntry, ...]
    folds: tuple[Fold, ...]
    draw_seed: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return json.loads(canonical_json(dataclasses.asdict(self)))

    def digest(self) -> str:
        """Return the SHA-256 of everything that decides the result."""
        return digest(self.facts())


def study_from(facts: Mapping[str, Any]) -> Study:
    """Return the study that `Study.facts` described."""
    values = dict(facts)
    values["architecture"] = MolConfig(**values["architecture"])
    values["training"] = TrainingSettings(**values["training"])
    values["classes"] = tuple(values["classes"])
    values["clips"] = tuple(ClipEntry(**one) for one in values["clips"])
    values["folds"] = tuple(
        Fold(one["name"], tuple(one["train"]), tuple(one["test"])) for one in values["folds"]
    )
    return Study(**values)


def open_run(folder: Path, study: Study) -> None:
    """Make the folder of a run, or check that it belongs to the same study.

    Raises
    ------
    ConfigError
        If the folder holds another study; the message names what differs.
    """
    path = folder / "config.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(study.facts(), indent=1) + "\n")
        return
    before = read_study(folder)
    if before.digest() != study.digest():
        old, new = before.facts(), study.facts()
        names = [name for name in new if old.get(name) != new[name]]
        raise ConfigError(
            f"The run holds another study: {', '.join(names)} differ.",
            where=folder,
            why="folds of two studies would be scored as one",
            hint="choose another name by --run, or delete the folder",
        )


def read_study(folder: Path) -> Study:
    """Return the study of a run's folder."""
    path = folder / "config.json"
    try:
        return study_from(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError("There is no run here.", where=folder) from None
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"The configuration cannot be read: {error}.", where=path) from None


def load_clips(workspace: Path, study: Study) -> list[PreparedClip]:
    """Read the prepared clips of a study from their shards."""
    return [_load_clip(workspace, entry, study.architecture.frames) for entry in study.clips]


def _load_clip(workspace: Path, entry: ClipEntry, length: int) -> PreparedClip:
    aligned, _ = read_clip(
        workspace / entry.shards["align"], entry.clip_id, ("frames", "landmarks")
    )
    flow, _ = read_clip(workspace / entry.shards["flow"], entry.clip_id, ("flow", "pairs"))
    frames = np.stack([to_grey(frame) for frame in aligned["frames"]])
    samples = phases(len(frames), length)
    expected = np.stack([samples[:, :-1], samples[:, 1:]], axis=-1).reshape(-1, 2)
    if not np.array_equal(flow["pairs"], expected):
        raise TrainingError(
            f"The flow of {entry.clip_id} is not that of samples of {length} frames.",
            where=workspace / entry.shards["flow"],
            hint=f"the pairs must be lagged with flow.lag_divisor={length}",
        )
    return PreparedClip(
        clip_id=entry.clip_id,
        corpus=entry.corpus,
        subject=entry.subject,
        label=entry.label,
        frames=frames,
        flow=flow["flow"],
        landmarks=aligned["landmarks"],
        samples=samples,
    )


def fold_folder(run: Path, fold: Fold) -> Path:
    """Return the folder of a fold."""
    return run / "folds" / fold.name.replace("/", "--").replace(" ", "-")


def finished(run: Path, fold: Fold) -> bool:
    """Return whether a fold is done."""
    return (fold_folder(run, fold) / "predictions.csv").is_file()


def run_fold(
    run: Path,
    study: Study,
    fold: Fold,
    store: ClipStore,
    machine: Machine,
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> None:
    """Train and test one fold, or go on where it stopped.

    Parameters
    ----------
    run : Path
        Folder of the run.
    study : Study
        The study.
    fold : Fold
        One of its folds.
    store : ClipStore
        Its clips.
    machine : Machine
        Where to compute.
    on_step : callable
        Called after every step with its number and losses.
    """
    folder = fold_folder(run, fold)
    folder.mkdir(parents=True, exist_ok=True)
    statistics = store.statistics(fold.train)
    view = View(study.architecture.side * study.reduce, study.reduce, statistics)
    if view.side > store.side:
        raise ConfigError(
            f"The model takes crops of {view.side} px, and the frames have {store.side}.",
            hint="align larger frames (--set align.size=...), or choose a smaller side",
        )
    torch.manual_seed(seed_of("weights", study.seed, fold.name))
    model = Mol(study.architecture, len(study.classes))
    if study.start_landmarks and model.landmarks is not None:
        model.landmarks.start_from(_mean_landmarks(store, fold, view))
    model = machine.place(model)
    log = _Log(folder / "log.csv")
    facts = {
        "study": study.digest(),
        "fold": fold.name,
        "model": study.model,
        "preset": study.preset,
        "architecture": dataclasses.asdict(study.architecture),
        "classes": list(study.classes),
        "reduce": study.reduce,
        "mean": statistics.mean,
        "deviation": statistics.deviation,
    }

    def noted(step: int, losses: dict[str, float]) -> None:
        log.add(step, losses)
        on_step(step, losses)

    fit(
        model,
        store,
        store.samples(fold.train),
        view,
        study.training,
        machine,
        name=fold.name,
        seed=study.seed,
        checkpoint=folder / "checkpoint.safetensors",
        facts=facts,
        on_step=noted,
    )
    log.close()
    found = predict(model, store, fold.test, view, machine)
    write_predictions(folder / "predictions.csv", study, fold, found)


def _mean_landmarks(store: ClipStore, fold: Fold, view: View) -> torch.Tensor:
    """Return the training clips' mean landmarks as the model sees them, in the centre crop."""
    points = store.mean_landmarks(fold.train) - (store.side - view.side) // 2
    return (points + 0.5) / view.reduce - 0.5


class _Log:
    """The losses of every step as CSV; a resumed fold goes on below."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []

    def add(self, step: int, losses: Mapping[str, float]) -> None:
        if not self.path.exists() and not self._lines:
            self._lines.append(",".join(("step", *losses)) + "\n")
        self._lines.append(",".join((str(step), *(f"{one:.6g}" for one in losses.values()))) + "\n")
        if len(self._lines) >= 20:
            self.close()

    def close(self) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(self._lines)
        self._lines = []


def write_predictions(
    path: Path,
    study: Study,
    fold: Fold,
    found: Mapping[str, Sequence[tuple[MolOutput, Batch]]],
) -> None:
    """Write one line a clip: its label, the class predicted, and how the auxiliary tasks did.

    The probabilities of a clip are the mean over its samples.
    """
    labels = {entry.clip_id: entry for entry in study.clips}
    text = io.StringIO()
    head = ["clip_id", "corpus", "subject", "fold", "label", "predicted"]
    head += [f"p_{name}" for name in study.classes]
    head += ["flow_endpoint_error_px", "landmark_error", "landmark_failures", "frames"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for clip_id, outputs in found.items():
        entry = labels[clip_id]
        logits = torch.cat([output.logits for output, _ in outputs])
        mean = torch.softmax(logits.double(), dim=1).mean(dim=0)
        writer.writerow(
            [
                clip_id,
                entry.corpus,
                entry.subject,
                fold.name,
                entry.label,
                int(mean.argmax()),
                *(repr(float(one)) for one in mean),
                *_auxiliary(outputs),
            ]
        )
    write_atomic(path, text.getvalue())


def _auxiliary(outputs: Sequence[tuple[MolOutput, Batch]]) -> list[str | int]:
    """Return end-point error, landmark error, failed frames and frames of one clip."""
    endpoint, landmark = "", ""
    failures = frames = 0
    flows = [(output.flow, batch.flow) for output, batch in outputs if output.flow is not None]
    if flows:
        errors = torch.cat([(found - true).norm(dim=2).flatten(1) for found, true in flows])
        endpoint = repr(float(errors.double().mean()))
    points = [
        (output.landmarks, batch.landmarks[:, 1:])
        for output, batch in outputs
        if output.landmarks is not None
    ]
    if points:
        errors = torch.cat(
            [
                (found - true).norm(dim=-1).mean(dim=-1) / ocular_distance(true)
                for found, true in points
            ]
        )
        landmark = repr(float(errors.double().mean()))
        failures, frames = int((errors > FAILURE).sum()), errors.numel()
    return [endpoint, landmark, failures, frames]


def trained_model(run: Path, study: Study, fold: Fold) -> tuple[Mol, Statistics]:
    """Return the trained model of a fold, on the CPU, and its normalisation."""
    model = Mol(study.architecture, len(study.classes))
    path = fold_folder(run, fold) / "checkpoint.safetensors"
    facts = load_model(path, model, expected={"study": study.digest(), "fold": fold.name})
    return model, Statistics(facts["mean"], facts["deviation"], frozenset(fold.train))
