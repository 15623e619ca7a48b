"""The command leaderboard: several models trained on the same folds, in one table."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_prep.commands.common import (
    SEED,
    corpora_argument,
    jobs_option,
    json_option,
    plural,
    print_json,
    share_option,
    workspace_option,
)
from mer_prep.commands.leaderboard_table import print_leaderboard
from mer_prep.commands.training import name_of_run
from mer_prep.commands.training_options import crew_options, require_torch, split_options
from mer_prep.errors import ConfigError, MerPrepError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

if TYPE_CHECKING:
    from mer_prep.training.leaderboard import Entrant
    from mer_prep.training.study import Study


@click.command()
@corpora_argument
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[:PRESET]",
    help="Model to train, by default with the preset paper; see `mer-prep models`. May be given "
    "again.",
)
@click.option("--all", "every", metavar="PRESET", help="Train every model that has this preset.")
@click.option(
    "--run",
    "runs",
    multiple=True,
    metavar="RUN",
    help="Finished run to add to the table. May be given again.",
)
@click.option(
    "--against",
    metavar="NAME[:PRESET]",
    help="Model, or run, that McNemar's test compares the others with.",
)
@click.option(
    "--shuffled",
    is_flag=True,
    help="Train every model on shuffled labels as well: the control, which must not beat chance.",
)
@split_options
@click.option(
    "--seed", type=SEED, default=1, show_default=True, help="Decides weights, samples and crops."
)
@click.option(
    "--selection",
    "selection_kind",
    type=click.Choice(["last", "inner"]),
    default="last",
    show_default=True,
    help="Keep the last step, or the best on some training subjects held out for that.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    help="Change an architecture (mol.blocks=2) or a stage of all (flow.apex=spotted).",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto is bf16 on CUDA and float32 on the CPU; part of the runs.",
)
@crew_options
@share_option("Only folds i, i + n, ... of every run, to spread over machines or GPUs.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="HTML file to write, and .csv and .json beside it; by default reports/leaderboard.html.",
)
@workspace_option
@jobs_option
@json_option
def leaderboard(
    corpora: tuple[str, ...],
    models: tuple[str, ...],
    every: str | None,
    runs: tuple[str, ...],
    against: str | None,
    shuffled: bool,
    device: str,
    loader: str,
    compiled: bool,
    deterministic: bool,
    folds_per_gpu: int,
    share: tuple[int, int],
    out: Path | None,
    workspace: Workspace,
    jobs: int,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train several models on the same folds and put their scores into one table.

    Every model is an ordinary run below runs/: one that is finished is taken as it is, one that
    was stopped goes on. Folds of all models are trained side by side (--jobs). A model that cannot
    be trained is named below the table, and the others are in it.

    The table has pooled scores with 95 % intervals over subjects, McNemar's test (--against), the
    control (--shuffled), parameters, training time, what was published and whether that was
    leak-free, and the scores of always the largest class. It is printed, and written as
    reports/leaderboard.html, .csv and .json in the workspace. Runs of other clips, labels or folds
    are refused.
    """
    require_torch()
    from mer_prep.progress import Progress, duration
    from mer_prep.reports.leaderboard import leaderboard_page
    from mer_prep.reports.markup import check_templates
    from mer_prep.reports.page import write_page
    from mer_prep.store.files import check_target
    from mer_prep.store.text import write_atomic
    from mer_prep.training.folds import Crew, train_runs
    from mer_prep.training.leaderboard import (
        check_entrants,
        leaderboard_csv,
        leaderboard_facts,
        marks_of,
    )
    from mer_prep.training.machine import choose_device, choose_precision

    started = time.monotonic()
    check_templates()
    chosen = _chosen_models(models, every)
    if not chosen and not runs:
        raise ConfigError(
            "There is nothing to compare.", hint="name models by --model or --all, or runs by --run"
        )
    target = out or workspace.reports / "leaderboard.html"
    if target.suffix != ".html":
        raise ConfigError(
            f"--out {target} is no name of a page.",
            hint="let it end in .html; the same name with .csv and .json is written beside it",
        )
    for suffix in (".html", ".csv", ".json"):
        check_target(target.with_suffix(suffix))
    place = choose_device(device)
    choices["precision"] = choose_precision(choices["precision"], place)
    crew = Crew(place, jobs, folds_per_gpu, loader, compiled, deterministic)
    made, failed = _prepared(workspace, corpora, chosen, shuffled, jobs, choices)
    given = _given(workspace, runs, made)
    if not made and not given:
        raise next(iter(failed.values()))
    reference = check_entrants([*made, *given], against)
    if reference is not None:
        against = str([*made, *given][reference].run)
    with Progress("train", unit="fold") as progress:
        wrong = train_runs(
            workspace.root, _pairs(made), crew, share=share, progress=progress, say=progress.say
        )
    failed |= {run.name: error for run, error in wrong.items()}
    waiting = _waiting(made, wrong)
    if waiting:
        _tell_waiting(waiting, failed, share, as_json=as_json)
        return
    trained = _trained(made, wrong)
    kept = [*trained, *given]
    if not kept:
        raise next(iter(failed.values()))
    for one in trained:
        _score(workspace, one)
    if against not in {str(one.run) for one in kept}:
        against = None
    texts = {name: str(error) for name, error in failed.items()}
    facts = leaderboard_facts(kept, against=against, failed=texts)
    write_page(leaderboard_page(facts), target)
    write_atomic(target.with_suffix(".csv"), leaderboard_csv(facts))
    write_atomic(target.with_suffix(".json"), json.dumps(facts, indent=1) + "\n")
    if as_json:
        print_json(facts)
    else:
        print_leaderboard(facts)
    said = f"{plural(len(kept), 'model')}, {plural(facts['folds'], 'fold')} each, "
    said += f"{plural(facts['clips'], 'clip')}, {duration(time.monotonic() - started)}"
    marks = "".join(f", {one}" for one in marks_of(facts, facts))
    echo(f"leaderboard: {said}{marks}, in {target}", err=as_json)
    if failed:
        raise SystemExit(1)


def _chosen_models(models: Sequence[str], every: str | None) -> list[tuple[str, str]]:
    """Return names and presets, each once, in the order they were given."""
    from mer_prep.checks import suggest
    from mer_prep.training.cards import MODELS, model_card

    chosen = []
    for given in models:
        name, _, preset = given.partition(":")
        chosen.append((name, model_card(name).preset(preset or "paper").name))
    if every is not None:
        having = [(name, every) for name, card in MODELS.items() if every in card.presets]
        if not having:
            known = sorted({preset for card in MODELS.values() for preset in card.presets})
            raise ConfigError(
                f"No model has a preset '{every}'.{suggest(every, known)}",
                hint=f"presets: {', '.join(known)}",
            )
        chosen += having
    return list(dict.fromkeys(chosen))


def _prepared(
    workspace: Workspace,
    corpora: Sequence[str],
    chosen: Sequence[tuple[str, str]],
    shuffled: bool,
    jobs: int,
    choices: dict[str, Any],
) -> tuple[list[Entrant], dict[str, MerPrepError]]:
    """Return the runs with all that they need made, and what is wrong with the others."""
    from mer_prep.config import parse_settings
    from mer_prep.progress import Progress
    from mer_prep.training.leaderboard import Entrant
    from mer_prep.training.prepare import prepare_study
    from mer_prep.training.selection import Selection
    from mer_prep.training.study import open_run

    changes = parse_settings(choices.pop("settings"))
    architectures = {model: changes.pop(model, {}) for model, _ in dict(chosen).items()}
    kind = choices.pop("selection_kind")
    selection = Selection(kind) if kind != "last" else None
    folds_file = choices["folds_file"]
    split = choices["protocol"].slug if folds_file is None else folds_file.stem
    made, failed = [], {}
    for model, preset in chosen:
        found: list[tuple[Path, Study]] = []
        try:
            for control in (False, True) if shuffled else (False,):
                with Progress(f"prepare {model}") as progress:
                    study = prepare_study(
                        workspace,
                        corpora,
                        model=model,
                        preset=preset,
                        jobs=jobs,
                        shuffled=control,
                        architecture=architectures[model],
                        settings=changes,
                        selection=selection,
                        progress=progress,
                        say=progress.say if not found else lambda text: None,
                        **choices,
                    )
                run = workspace.root / "runs" / name_of_run(study, split, None)
                open_run(
                    run,
                    study,
                    hint="it was not trained as its preset says: compare it as it is, by "
                    f"--run {run.name} in the place of --model {model}:{preset}, or delete the "
                    "folder",
                )
                found.append((run, study))
        except ConfigError:
            raise
        except MerPrepError as error:
            failed[f"{model}:{preset}"] = error
            echo(f"{model}:{preset} will not be in the table: {error.what}", err=True)
            continue
        made.append(Entrant(*found[0], control=found[1] if shuffled else None))
    return made, failed


def _trained(made: Sequence[Entrant], wrong: Mapping[Path, MerPrepError]) -> list[Entrant]:
    """Return the runs with which nothing was wrong, without controls with which something was."""
    return [
        dataclasses.replace(
            one, control=None if one.control is None or one.control[0] in wrong else one.control
        )
        for one in made
        if one.run not in wrong
    ]


def _waiting(made: Sequence[Entrant], wrong: Mapping[Path, MerPrepError]) -> dict[str, list[str]]:
    """Return the folds that other shares have to train, by run."""
    from mer_prep.training.folds import unfinished

    left = {run: unfinished(run, study) for run, study in _pairs(made) if run not in wrong}
    return {run.name: folds for run, folds in left.items() if folds}


def _pairs(entrants: Sequence[Entrant]) -> list[tuple[Path, Study]]:
    """Return all runs, those of the controls too."""
    return [
        pair for one in entrants for pair in ((one.run, one.study), one.control) if pair is not None
    ]


def _score(workspace: Workspace, entrant: Entrant) -> None:
    """Write the results of a run and of its control, unless they stand there."""
    from mer_prep.training.inputs import keep_recipe
    from mer_prep.training.results import write_results
    from mer_prep.training.weights import read_results

    for run, study in _pairs([entrant]):
        if read_results(run).get("passport", {}).get("study") != study.digest():
            write_results(run, study)
            keep_recipe(workspace, run, study)


def _given(workspace: Workspace, runs: Sequence[str], kept: Sequence[Entrant]) -> list[Entrant]:
    """Return the finished runs that were named, but for those that are in the table.

    Raises
    ------
    TrainingError
        If one is not finished.
    """
    from mer_prep.training.leaderboard import Entrant
    from mer_prep.training.results import read_predictions
    from mer_prep.training.study import read_study
    from mer_prep.training.weights import find_run

    there = {one.run.resolve() for one in kept}
    found = []
    for name in runs:
        _, run = find_run(workspace, name)
        if run.resolve() not in there:
            there.add(run.resolve())
            found.append(Entrant(run, read_study(run)))
            read_predictions(run, found[-1].study)
    return found


def _tell_waiting(
    waiting: Mapping[str, Sequence[str]],
    failed: Mapping[str, MerPrepError],
    share: tuple[int, int],
    *,
    as_json: bool,
) -> None:
    """Say what is left to other shares; the last of them writes the table."""
    for name, error in failed.items():
        echo(f"{name}: {error}", err=True)
    if as_json:
        print_json({"unfinished": waiting})
    else:
        for name, folds in waiting.items():
            echo(f"{name}: {plural(len(folds), 'fold')} left to other shares")
    echo(
        f"leaderboard: share {share[0]}/{share[1]} is done; the last share writes the table",
        err=as_json,
    )
    if failed:
        raise SystemExit(1)


COMMANDS = (leaderboard,)
