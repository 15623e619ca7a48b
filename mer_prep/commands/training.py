"""The command train."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mer_prep.commands.common import (
    corpora_argument,
    jobs_option,
    json_option,
    plural,
    print_json,
    run_name_option,
    say_next,
    share_option,
    workspace_option,
)
from mer_prep.commands.scores import print_repeats, print_results
from mer_prep.commands.training_options import (
    crew_options,
    require_torch,
    split_options,
    study_options,
)
from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

if TYPE_CHECKING:
    from mer_prep.protocols import Protocol
    from mer_prep.training.study import Study


@click.command()
@corpora_argument
@study_options
@split_options
@click.option(
    "--repeats",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Runs, each with the next seed and, where clips are drawn, the next draw; mean and "
    "deviation of their scores are given.",
)
@click.option(
    "--init",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Weights to start from, of `pretrain` or of a fold (safetensors).",
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
    "--evaluations",
    type=click.IntRange(1, 10**6),
    default=10,
    show_default=True,
    help="How often the model is tried for --selection inner.",
)
@click.option(
    "--reproduce-leaky",
    is_flag=True,
    help="Choose the step on the TEST subject, as published scripts do; all is stamped LEAKY.",
)
@click.option("--shuffle-labels", is_flag=True, help="Deal labels anew, as a control: chance.")
@crew_options
@share_option("Only folds i, i + n, ... of the run, to spread over machines or GPUs.")
@run_name_option
@workspace_option
@jobs_option
@json_option
def train(repeats: int, as_json: bool, **given: Any) -> None:
    """Train a model over all folds of a protocol and score it.

    What is missing of its inputs is made first. Nothing is chosen on the test subject: every fold
    is tested with the weights of its last step, or of the best on training subjects held out
    (--selection inner). A run that was stopped goes on where it was, to the same numbers. Scores
    come from one confusion matrix over all folds.

    Several machines or GPUs may share a run by --shard; whoever finishes the last fold scores it.
    --repeats makes several runs, for their mean and deviation over seeds and draws.
    """
    if repeats == 1:
        _train_run(**given, as_json=as_json, show=print_json if as_json else print_results)
        return
    require_torch()
    from mer_prep.labels import read_label_map
    from mer_prep.training.folds import unfinished
    from mer_prep.training.repeats import write_summary

    draws = read_label_map(given["labels"]).balance is not None
    show = (lambda results: None) if as_json else print_results
    runs = []
    for number in range(repeats):
        mine = given | {"seed": given["seed"] + number}
        if draws:
            mine["draw_seed"] = (given["draw_seed"] or 0) + number
        if given["run_name"]:
            mine["run_name"] = f"{given['run_name']}-{number + 1}"
        runs.append(_train_run(**mine, as_json=as_json, show=show))
    left = {}
    for run, study, scored in runs:
        missing = [] if scored else unfinished(run, study)
        if missing:
            left[run.name] = missing
        elif not scored:
            # Another share has finished it meanwhile, and had the later runs still to train.
            show(_scored(given["workspace"], run, study))
    if left:
        if as_json:
            print_json({"unfinished": left})
        echo("repeats: no mean yet, folds are left to other shares", err=as_json)
        return
    path, found = write_summary([run for run, _, _ in runs])
    if as_json:
        print_json(found)
    else:
        print_repeats(found)
    echo(f"repeats: {plural(repeats, 'run')}, in {path}", err=as_json)


def _train_run(
    *,
    corpora: tuple[str, ...],
    model: str,
    preset: str,
    labels: str,
    protocol: Protocol,
    folds_file: Path | None,
    draw_seed: int | None,
    seed: int,
    steps: int | None,
    pre_steps: int | None,
    batch: int | None,
    learning_rate: float | None,
    clip_gradient: float | None,
    settings: tuple[str, ...],
    init: Path | None,
    precision: str,
    selection_kind: str,
    evaluations: int,
    reproduce_leaky: bool,
    shuffle_labels: bool,
    device: str,
    loader: str,
    compiled: bool,
    deterministic: bool,
    folds_per_gpu: int,
    share: tuple[int, int],
    run_name: str | None,
    workspace: Workspace,
    jobs: int,
    as_json: bool,
    show: Callable[[dict[str, Any]], None],
) -> tuple[Path, Study, bool]:
    """Train one run, and score it unless folds are left to others.

    Returns
    -------
    run : Path
        Its folder.
    study : Study
        Its study.
    scored : bool
        Whether it was scored.
    """
    require_torch()
    from mer_prep.config import parse_settings
    from mer_prep.progress import Progress, duration
    from mer_prep.training.cards import model_card
    from mer_prep.training.folds import Crew, train_folds, unfinished
    from mer_prep.training.initial import keep_copy
    from mer_prep.training.machine import choose_device, choose_precision
    from mer_prep.training.prepare import prepare_study
    from mer_prep.training.selection import (
        LEAKY,
        LEAKY_WARNING,
        TRANSDUCTIVE_WARNING,
        Selection,
    )
    from mer_prep.training.study import open_run

    started = time.monotonic()
    if reproduce_leaky and selection_kind != "last":
        raise ConfigError(
            "--reproduce-leaky and --selection inner exclude each other.",
            why="a step is chosen on the test subject or on others",
            hint="leave one of them out",
        )
    kind = LEAKY if reproduce_leaky else selection_kind
    if reproduce_leaky:
        echo(lead=click.style(f"warning: {LEAKY_WARNING}", bold=True, fg="red"), err=True)
    model_card(model).preset(preset)
    changes = parse_settings(settings)
    chosen = choose_device(device)
    with Progress("prepare") as progress:
        study = prepare_study(
            workspace,
            corpora,
            model=model,
            preset=preset,
            labels=labels,
            seed=seed,
            jobs=jobs,
            protocol=protocol,
            folds_file=folds_file,
            draw_seed=draw_seed,
            shuffled=shuffle_labels,
            architecture=changes.pop(model, {}),
            training={
                "steps": steps,
                "pre_steps": pre_steps,
                "batch": batch,
                "learning_rate": learning_rate,
                "clip_gradient": clip_gradient,
            },
            settings=changes,
            selection=Selection(kind, evaluations) if kind != "last" else None,
            precision=choose_precision(precision, chosen),
            init=init,
            progress=progress,
            say=progress.say,
        )
    if study.method.transductive:
        echo(lead=click.style(f"warning: {TRANSDUCTIVE_WARNING}", bold=True, fg="red"), err=True)
    split = protocol.slug if folds_file is None else folds_file.stem
    run = workspace.root / "runs" / name_of_run(study, split, run_name)
    open_run(run, study)
    if init is not None and study.init is not None:
        keep_copy(init, run, study.init)
        echo(f"init: {_fits(run, study)}", err=True)
    crew = Crew(chosen, jobs, folds_per_gpu, loader, compiled, deterministic)
    with Progress("train", unit="fold") as progress:
        train_folds(
            workspace.root, run, study, crew, share=share, progress=progress, say=progress.say
        )
    missing = unfinished(run, study)
    facts = f"{plural(len(study.folds), 'fold')}, {plural(len(study.clips), 'clip')}, "
    facts += duration(time.monotonic() - started) + (", SYNTHETIC" if study.synthetic else "")
    facts += ", LEAKY" if study.leaky else ""
    facts += ", TRANSDUCTIVE" if study.method.transductive else ""
    if missing:
        if as_json:
            show({"run": str(run), "unfinished": missing})
        else:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            echo(
                f"{len(missing)} of {plural(len(study.folds), 'fold')} are left to other shares: "
                f"{', '.join(missing[:5])}{more}; the last share scores the run"
            )
        echo(f"train: share {share[0]}/{share[1]} of {facts}, in {run}", err=as_json)
        return run, study, False
    show(_scored(workspace, run, study))
    if not as_json:
        say_next(workspace, f"mer-prep report {run.name}")
    echo(f"train: {facts}, in {_shown(run)}", err=as_json)
    return run, study, True


def _scored(workspace: Workspace, run: Path, study: Study) -> dict[str, Any]:
    """Write the results of a run whose folds are finished, and return them."""
    from mer_prep.training.inputs import keep_recipe
    from mer_prep.training.results import write_results

    results = write_results(run, study)
    keep_recipe(workspace, run, study)
    return results


def name_of_run(study: Study, split: str, name: str | None) -> str:
    """Return the name of a run's folder; one that is LEAKY says so in any case."""
    marks = [f"-{one}" for one in study.method.marks(study.preset)]
    marks += ["-inner"] if study.selection.kind == "inner" else []
    marks += ["-init"] if study.init else []
    marks += ["-shuffled"] if study.shuffled else []
    draw = f"-draw{study.draw_seed}" if study.draw_seed else ""
    made = f"{study.model}-{study.preset}-{study.labels}{draw}-{split}-seed{study.seed}"
    made = name or made + "".join(marks)
    return f"{made}-LEAKY" if study.leaky and not made.endswith("-LEAKY") else made


def _fits(run: Path, study: Study) -> str:
    """Return what of the initial weights goes into the model."""
    from mer_prep.training.initial import COPY, load_init

    loaded = load_init(run / COPY, study.method.build(len(study.classes)), name=study.model)
    return str(loaded)


def _shown(run: Path) -> str:
    return str(run / "results.json")


COMMANDS = (train,)
