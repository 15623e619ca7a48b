"""From a workspace to a study: the composite, its folds, and everything prepared that it needs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mer_prep.checks import suggest
from mer_prep.composite import LOSO, Composite, compose
from mer_prep.config import merge_settings
from mer_prep.errors import ConfigError, TrainingError
from mer_prep.pipeline import read_pipeline
from mer_prep.protocols import Protocol
from mer_prep.stages import all_stages
from mer_prep.stages.base import build_stages
from mer_prep.stages.plan import Recipe, SubjectPlan, make_plan
from mer_prep.stages.runner import Runner
from mer_prep.store.shard import read_clip, read_header
from mer_prep.training.cards import model_card
from mer_prep.training.initial import check_unseen, read_init
from mer_prep.training.methods import Method, method_of
from mer_prep.training.methods import architecture as architecture_of
from mer_prep.training.recipes import with_changes
from mer_prep.training.seeds import seed_of
from mer_prep.training.selection import Selection
from mer_prep.training.study import ClipEntry, Study
from mer_prep.workspace import Workspace


def prepare_study(
    workspace: Workspace,
    corpora: Sequence[str],
    *,
    model: str,
    preset: str,
    labels: str,
    seed: int,
    jobs: int,
    protocol: Protocol = LOSO,
    folds_file: Path | None = None,
    draw_seed: int | None = None,
    shuffled: bool = False,
    architecture: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    settings: dict[str, dict[str, Any]] | None = None,
    selection: Selection | None = None,
    precision: str = "float32",
    init: Path | None = None,
    leave_out: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Study:
    """Return a study, after making whatever of its data is missing.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    corpora : sequence of str
        Imported corpora; all that the label map knows if empty.
    model, preset : str
        What is trained.
    labels : str
        The label map.
    seed : int
        The seed.
    jobs : int
        Worker processes for the preparation.
    protocol : Protocol
        The protocol that makes the folds.
    folds_file : Path, optional
        Frozen folds to take instead.
    draw_seed : int, optional
        Seed of the draw, for a label map that is balanced; 0 if None.
    shuffled : bool
        Whether labels are dealt anew among the clips, as a control.
    architecture, training : dict, optional
        Changes of the preset by name; values of None change nothing.
    settings : dict, optional
        Changes of the stages' parameters, by stage.
    selection : Selection, optional
        Which step of a training is kept; the last one by default.
    precision : {'float32', 'bf16'}
        In what it is computed.
    init : Path, optional
        Weights that every fold starts from.
    leave_out : bool
        Whether clips that could not be prepared are left out, and `say` told, instead of an
        error; for training on clips that are not scored.
    progress, say : callable, optional
        See `mer_prep.stages.runner.Runner`.

    Raises
    ------
    TrainingError
        If clips of the composite could not be prepared; they are named. If the weights to start
        from cannot be used.
    LeakError
        If the weights to start from have seen a subject who is tested.
    """
    chosen = model_card(model).preset(preset)
    config = architecture_of(model, preset, architecture)
    method = method_of(model, config).located()
    config = method.config
    if init is not None and method.solved:
        raise ConfigError(
            f"{model} starts from no weights: it is solved in one step, whatever they were.",
            hint="leave --init out",
        )
    asked = with_changes(chosen.training, training or {})
    settings_of_training = method.settled(asked)
    if (training or {}).get("pre_steps") and settings_of_training.all_steps < asked.all_steps:
        say("no --pre-steps are taken: nothing is rebuilt that they could train")
    began, seen = (None, {}) if init is None else read_init(init)
    composite = compose(
        workspace, corpora, labels, protocol=protocol, folds_file=folds_file, seed=draw_seed
    )
    folds = composite.folds
    if not folds:
        raise TrainingError(
            "All clips are of one subject: there is nobody else to test.",
            hint="import more subjects; --protocol lovo splits the clips of one",
        )
    if not any(fold.test for fold in folds):
        raise TrainingError(
            "No fold tests a clip.",
            where=folds_file,
            hint="write folds anew: mer-prep composite --protocol NAME",
        )
    findings = tuple(str(one) for one in composite.findings if one.level != "info")
    for finding in (*findings, *method.remarks(init=init is not None)):
        say(finding)
    if init is not None:
        tested = {clip_id for fold in folds for clip_id in fold.test}
        check_unseen(
            init,
            seen,
            {
                one.clip.clip_id: (one.clip.subject_id, one.clip.source_digest or "")
                for one in composite.samples
                if one.clip.clip_id in tested
            },
        )
    plans = _prepared(workspace, composite.corpora, method, settings or {}, jobs, progress, say)
    entries = _entries(workspace, composite, plans, say if leave_out else None)
    if shuffled:
        order = np.random.default_rng(seed_of("shuffle", seed)).permutation(len(entries))
        dealt = [entries[one].label for one in order]
        entries = [
            dataclasses.replace(entry, label=label)
            for entry, label in zip(entries, dealt, strict=True)
        ]
    return Study(
        model=model,
        preset=preset,
        architecture=config,
        training=settings_of_training,
        reduce=chosen.reduce,
        start_landmarks=chosen.start_landmarks,
        labels=composite.labels.name,
        protocol=composite.protocol.name,
        classes=tuple(composite.labels.classes),
        seed=seed,
        shuffled=shuffled,
        synthetic=composite.synthetic,
        clips=tuple(entries),
        folds=folds,
        draw_seed=composite.draw.seed if composite.draw else None,
        selection=selection or Selection(),
        precision=precision,
        init=began,
        clip_lists={one: composite.digest(one) for one in composite.corpora}
        | {"all": composite.digest()},
        annotations=composite.annotations,
        apex=_apex_facts(workspace, entries, composite),
        left_out=dict(Counter(composite.left_out.values()).most_common()),
        findings=findings,
    )


def _prepared(
    workspace: Workspace,
    names: Sequence[str],
    method: Method,
    settings: dict[str, dict[str, Any]],
    jobs: int,
    progress: Callable[[int, int], None],
    say: Callable[[str], None],
) -> list[SubjectPlan]:
    """Make what is missing of the model's inputs; return where everything is."""
    known = {"source", method.name, *all_stages()}
    for name in settings:
        if name not in known:
            raise ConfigError(
                f"--set {name}: there is neither a stage nor a model '{name}' here."
                f"{suggest(name, known)}",
                hint=f"--set {method.name}.NAME=VALUE changes the architecture; `mer-prep models "
                f"{method.name} --json` lists its names",
            )
    pipeline = read_pipeline(method.pipeline)
    required = method.required()
    used = {"source", *method.stages()}
    given = {name: values for name, values in pipeline.settings.items() if name in used}
    merged = merge_settings(merge_settings(given, required), settings)
    needed = [(stage, *one) for stage, values in required.items() for one in values.items()]
    if any(merged[stage][name] != value for stage, name, value in needed):
        listed = " and ".join(f"{stage}.{name}={value}" for stage, name, value in needed)
        raise ConfigError(
            f"Samples of {method.input} need {listed}.",
            hint="do not change what --set says of these",
        )
    recipe = Recipe(*build_stages(all_stages(), method.stages(), merged))
    runner = Runner(workspace, recipe, jobs=jobs, progress=progress, say=say)
    runner.run(make_plan(workspace, names, recipe))
    return make_plan(workspace, names, recipe, explain=False)


def _entries(
    workspace: Workspace,
    composite: Composite,
    plans: Sequence[SubjectPlan],
    say: Callable[[str], None] | None,
) -> list[ClipEntry]:
    """Return the clips of the composite with their shards.

    Those that have none are told to `say`, or are an error without it.
    """
    shards: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    for plan in plans:
        for stage, shard in plan.shards.items():
            failed = {failure.clip_id: failure.message for failure in shard.failures}
            path = shard.path.relative_to(workspace.root).as_posix()
            for clip in plan.clips:
                if not shard.cached or clip.clip_id in failed:
                    reason = failed.get(clip.clip_id, "it could not be made")
                    missing.setdefault(clip.clip_id, f"{stage}: {reason}")
                shards.setdefault(clip.clip_id, {})[stage] = path
    lost = [one.clip.clip_id for one in composite.samples if one.clip.clip_id in missing]
    what = (
        f"{len(lost)} of {len(composite.samples)} clips of the composite are not prepared: "
        f"{', '.join(lost[:5])}."
    )
    if lost and say is not None and len(lost) < len(composite.samples):
        say(f"{what} They are left out; see `mer-prep status`.")
    elif lost:
        raise TrainingError(
            what,
            where=missing[lost[0]].splitlines()[0],
            why="a recogniser that is not tested on all clips has another score",
            hint="see `mer-prep status`; correct the clips, or leave them out by a label map",
        )
    return [
        ClipEntry(
            one.clip.clip_id,
            one.clip.corpus,
            one.clip.subject_id,
            one.label,
            shards[one.clip.clip_id],
            one.clip.source_digest or "",
        )
        for one in composite.samples
        if one.clip.clip_id not in missing
    ]


def _apex_facts(
    workspace: Workspace, entries: Sequence[ClipEntry], composite: Composite
) -> dict[str, Any]:
    """Return where the apex of the clips comes from; empty if no flow needs it."""
    if any("flow" not in entry.shards for entry in entries):
        return {}
    clips = {one.clip.clip_id: one.clip for one in composite.samples}
    sources: Counter[str] = Counter()
    errors, policy = [], ""
    for entry in entries:
        path = workspace.root / entry.shards["flow"]
        _, facts = read_clip(path, entry.clip_id, ())
        if "apex_source" not in facts:
            return {}
        sources[str(facts["apex_source"])] += 1
        policy = policy or read_header(path).recipe["stages"]["flow"]["params"]["apex"]
        clip = clips[entry.clip_id]
        if clip.apex_source == "annotated" and facts["apex_source"] != "annotated":
            assert clip.apex is not None
            chosen = clip.position(int(facts["apex_number"]))
            errors.append(abs(chosen - clip.position(clip.apex)))
    found: dict[str, Any] = {"policy": policy, "sources": dict(sources.most_common())}
    if errors:
        found["mean_error_frames"] = float(np.mean(errors))
    return found
