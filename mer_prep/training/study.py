"""One study: a model, a composite and a protocol, every fold of it, in a folder that resumes.

``runs/<run>/config.json`` says all that decides the result; a folder of another configuration is
never gone on with. Every fold has its own folder with checkpoint, log and predictions; what is
finished is not done again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import nn

from mer_prep.config import (
    canonical_json,
    check_plain,
    json_text,
    json_texts,
    key_values,
    make_params,
    parse_json_object,
)
from mer_prep.dataset import ClipSource, PreparedClip, Statistics
from mer_prep.errors import ConfigError, MerPrepError, TrainingError
from mer_prep.manifest_checks import check_relative
from mer_prep.protocols import Fold
from mer_prep.records import record_text
from mer_prep.store import disk
from mer_prep.store.key import digest
from mer_prep.store.text import write_atomic
from mer_prep.training.checkpoints import load_model, read_facts, save_checkpoint
from mer_prep.training.fit import Machine, fit, predict
from mer_prep.training.initial import Init
from mer_prep.training.loading import load_clip
from mer_prep.training.methods import METHODS, Method, method_of
from mer_prep.training.nested import tune
from mer_prep.training.predictions import LossLog, read_fold, write_fold, write_predictions
from mer_prep.training.recipes import TrainingSettings
from mer_prep.training.selection import LEAKY, Selection, best_evaluation, evaluation_facts
from mer_prep.training.start import (
    absent_classes,
    checkpoint_facts,
    choose_by,
    split_training,
    start_model,
    study_view,
)
from mer_prep.training.timing import Stopwatch

#: What is told of a study and decides nothing.
_UNDIGESTED = frozenset({"findings", "apex"})


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
    architecture : object
        Its architecture, of the class that the method has.
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
    selection : Selection
        Which step of a training is kept.
    precision : {'float32', 'bf16'}
        In what it is computed.
    init : Init, optional
        Weights that every fold starts from.
    clip_lists : mapping of str to str
        Digest of the clips and their labels, of every corpus and of ``all``; see
        `mer_prep.composite.list_digest`.
    annotations : mapping of str to str
        Version of the annotation by corpus, where it is known.
    left_out : mapping of str to int
        Number of clips that have no label, by the reason.
    apex : mapping
        Where the apex of the clips comes from, for methods that take it: the ``policy`` of the
        stage ``flow``, the number of clips by source under ``sources`` and, of those whose
        annotated apex was not taken, how far the other one is from it on average under
        ``mean_error_frames``; no part of the digest, the shards tell it.
    findings : tuple of str
        What was to be said of the composite; no part of the digest.
    """

    model: str
    preset: str
    architecture: Any
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
    selection: Selection = field(default_factory=Selection)
    precision: str = "float32"
    init: Init | None = None
    clip_lists: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    apex: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[str, ...] = ()

    @property
    def method(self) -> Method:
        """The method, with its architecture."""
        return method_of(self.model, self.architecture)

    @property
    def leaky(self) -> bool:
        """Whether the step is chosen on the test subject."""
        return self.selection.kind == LEAKY

    def facts(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return json.loads(canonical_json(dataclasses.asdict(self)))

    def digest(self) -> str:
        """Return the SHA-256 of everything that decides the result."""
        facts = {key: one for key, one in self.facts().items() if key not in _UNDIGESTED}
        facts["training"] = key_values(self.training)
        return digest(facts)


def study_from(facts: Mapping[str, Any]) -> Study:
    """Return the study that `Study.facts` described."""
    values = dict(facts)
    check_plain(Study, values, where="study")
    config = METHODS[values["model"]].Config
    check_plain(config, values["architecture"], where="architecture")
    values["architecture"] = config(**values["architecture"])
    values["training"] = make_params(TrainingSettings, values["training"], where="training")
    values["classes"] = json_texts(values["classes"])
    values["findings"] = json_texts(values.get("findings", []))
    values["clips"] = tuple(_entry(one) for one in values["clips"])
    values["folds"] = tuple(
        Fold(json_text(one["name"]), json_texts(one["train"]), json_texts(one["test"]))
        for one in values["folds"]
    )
    values["selection"] = make_params(Selection, values.get("selection", {}), where="selection")
    if values.get("init"):
        init = values["init"]
        check_plain(Init, init, where="init")
        values["init"] = Init(**(init | {"corpora": json_texts(init["corpora"])}))
    study = Study(**values)
    _check_study(study)
    return study


def _entry(facts: Mapping[str, Any]) -> ClipEntry:
    check_plain(ClipEntry, facts, where="clip")
    for stage, path in facts["shards"].items():
        json_text(stage)
        check_relative(json_text(path), where=f"shard of {facts['clip_id']:.80}")
    return ClipEntry(**facts)


def _check_study(study: Study) -> None:
    """Raise `ValueError` if clips, classes and folds of a study do not belong together."""
    known = {one.clip_id for one in study.clips}
    if len(known) < len(study.clips) or not known or not study.folds:
        raise ValueError("clips stand twice, or there are none")
    if not all(0 <= one.label < len(study.classes) for one in study.clips):
        raise ValueError("a label is of no class")
    if not all({*fold.train, *fold.test} <= known for fold in study.folds):
        raise ValueError("a fold holds clips that are none of the study")
    for name in ("clip_lists", "annotations", "left_out", "apex"):
        if not isinstance(getattr(study, name), dict):
            raise ValueError(f"'{name}' is no table")
    for name, table, kind in (
        ("clip_lists", study.clip_lists, str),
        ("annotations", study.annotations, str),
        ("left_out", study.left_out, int),
        ("sources", study.apex.get("sources", {}), int),
    ):
        if not isinstance(table, dict) or not all(isinstance(v, kind) for v in table.values()):
            raise ValueError(f"'{name}' is {table!r:.80}")


def open_run(
    folder: Path,
    study: Study,
    *,
    hint: str = "choose another name by --run, or delete the folder",
) -> None:
    """Make the folder of a run, or check that it belongs to the same study.

    Parameters
    ----------
    folder : Path
        The run.
    study : Study
        What it shall hold.
    hint : str
        What to do if it holds another study.

    Raises
    ------
    ConfigError
        If the folder holds another study; the message names what differs.
    """
    path = folder / "config.json"
    if not path.exists():
        disk.make_folder(folder)
        write_atomic(path, json.dumps(study.facts(), indent=1) + "\n")
        return
    before = read_study(folder)
    if before.digest() != study.digest():
        old, new = before.facts(), study.facts()
        names = [one for one in _differing(old, new) if one.partition(".")[0] not in _UNDIGESTED]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise ConfigError(
            f"The run holds another study: {', '.join(names[:8])}{more} differ.",
            where=folder,
            why="folds of two studies would be scored as one",
            hint=hint,
        )


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the keys whose values differ, those of tables as ``training.steps``."""
    names: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            names += [f"{key}.{one}" for one in _differing(before, now)]
        elif before != now:
            names.append(key)
    return names


def read_study(folder: Path) -> Study:
    """Return the study of a run's folder.

    Raises
    ------
    ConfigError
        If the folder holds no run.
    TrainingError
        If its configuration is damaged, or names shards outside of the workspace.
    """
    path = folder / "config.json"
    try:
        return study_from(parse_json_object(record_text(path)))
    except FileNotFoundError:
        raise ConfigError(
            "There is no run here.", where=folder, hint="train one by `mer-prep train`"
        ) from None
    except (
        *(OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError),
        MerPrepError,
    ) as error:
        what = error.what if isinstance(error, MerPrepError) else f"{type(error).__name__}: {error}"
        raise TrainingError(
            f"The configuration cannot be read: {what!s:.300}.",
            where=path,
            hint="copy the run again from where it was made, or delete its folder and train again",
        ) from None


def load_clips(workspace: Path, study: Study) -> list[PreparedClip]:
    """Read the prepared clips of a study from their shards."""
    return [load_clip(workspace, entry, study.method) for entry in study.clips]


def fold_folder(run: Path, fold: Fold) -> Path:
    """Return the folder of a fold: ``casme2+sub01`` for ``casme2/sub01``, no two alike."""
    return run / "folds" / "+".join(quote(part, safe="") for part in fold.name.split("/"))


def finished(run: Path, fold: Fold) -> bool:
    """Return whether a fold is done."""
    return (fold_folder(run, fold) / "predictions.csv").is_file()


def run_fold(
    run: Path,
    study: Study,
    fold: Fold,
    store: ClipSource,
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
    store : ClipSource
        Its clips.
    machine : Machine
        Where to compute.
    on_step : callable
        Called after every step with its number and losses.
    """
    folder = fold_folder(run, fold)
    disk.make_folder(folder)
    held_out, fitted, inner = split_training(study, fold)
    view = study_view(study, store, fitted)
    model, loaded = start_model(run, study, fold.name, store, fitted, view)
    values = tune(run, study, fold, store, machine, fitted, folder=folder)
    study.method.take(model, values)
    model = machine.place(model)
    facts = checkpoint_facts(run, study, fold.name, fitted, view)
    path = folder / "checkpoint.safetensors"
    watch = Stopwatch(folder, steps=study.training.all_steps, every=machine.checkpoint_every)
    if not _is_final(path, facts):
        log = LossLog(folder / "log.csv", study.method.loss_names(study.training))

        def noted(step: int, losses: dict[str, float]) -> None:
            log.add(step, losses)
            watch.after(step)
            on_step(step, losses)

        tried = fit(
            model,
            study.method,
            store,
            fitted,
            view,
            study.training,
            machine,
            name=fold.name,
            seed=study.seed,
            checkpoint=path,
            facts=facts,
            trial=choose_by(study, fold, store, view, inner, machine),
            on_step=noted,
        )
        chosen = best_evaluation(tried, study.selection.kind).step if tried else None
        step = chosen or study.training.all_steps
        final = facts | {"final": True, "evaluations": evaluation_facts(tried)}
        # The optimiser is not needed any more; with it the file would be three times as large.
        save_checkpoint(path, model, optimiser=None, step=step, facts=final)
    for tried_path in folder.glob("tried-*.safetensors"):
        disk.remove(tried_path)
    done = load_model(path, model, expected=facts)
    found = predict(model, study.method, store, fold.test, view, machine)
    write_fold(
        folder / "fold.json",
        {
            "fold": fold.name,
            "selection": study.selection.kind,
            "step": read_facts(path)[0],
            "evaluations": done.get("evaluations", []),
            "inner_subjects": list(held_out),
            "training_clips": len(fitted),
            "absent_classes": absent_classes(study, fitted),
            "init": None if loaded is None else dataclasses.asdict(loaded),
            "computed": machine.facts(),
            "training_seconds": _seconds(watch, folder),
            "threads": torch.get_num_threads(),
            **({"tuned": values} if values else {}),
            **study.method.tested_by(store, fitted, name=fold.name, seed=study.seed),
        },
    )
    # Before the predictions: with these the fold is done, and nobody would tidy it again.
    watch.forget()
    write_predictions(
        folder / "predictions.csv",
        {entry.clip_id: entry for entry in study.clips},
        found,
        fold=fold.name,
        classes=study.classes,
        selection=study.selection.kind,
    )


def _seconds(watch: Stopwatch, folder: Path) -> float | None:
    """Return how long a fold was trained; noted already if it was only its test that stopped."""
    path = folder / "fold.json"
    if watch.seconds is not None or not path.is_file():
        return watch.seconds
    try:
        noted: float | None = read_fold(path).get("training_seconds")
    except TrainingError:
        return None
    return noted


def _is_final(path: Path, facts: dict[str, Any]) -> bool:
    """Return whether a training is over and only its test is missing."""
    if not path.is_file():
        return False
    found = read_facts(path)[1]
    return bool(found.get("final")) and found.get("study") == facts["study"]


def trained_model(run: Path, study: Study, fold: Fold) -> tuple[nn.Module, Statistics]:
    """Return the trained model of a fold, on the CPU, and its normalisation."""
    model = study.method.build(len(study.classes))
    path = fold_folder(run, fold) / "checkpoint.safetensors"
    expected = {"model": study.model, "preset": study.preset, "fold": fold.name}
    facts = load_model(path, model, expected=expected | {"study": study.digest()})
    return model, Statistics(facts["mean"], facts["deviation"], frozenset(fold.train))
