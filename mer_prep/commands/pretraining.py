"""The command around pre-training: pretrain."""

from __future__ import annotations

import time
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
    workspace_option,
)
from mer_prep.commands.training_options import machine_options, require_torch, study_options
from mer_prep.errors import ConfigError
from mer_prep.terminal import echo
from mer_prep.workspace import Workspace

if TYPE_CHECKING:
    from mer_prep.training.distributed import World
    from mer_prep.training.study import Study


@click.command()
@corpora_argument
@study_options
@click.option(
    "--labels", default="affwild2-7", show_default=True, help="Label map; see `mer-prep labels`."
)
@machine_options
@run_name_option
@workspace_option
@jobs_option
@json_option
def pretrain(
    corpora: tuple[str, ...],
    run_name: str | None,
    workspace: Workspace,
    as_json: bool,
    device: str,
    loader: str,
    compiled: bool,
    deterministic: bool,
    **options: Any,
) -> None:
    """Train on all clips of corpora of macro-expressions, for `train --init`.

    Nothing is tested. The weights, pretrained.safetensors in the run's folder, say which subjects
    they have seen, so that nobody is tested on them later.

    On several GPUs or machines: torchrun --nproc-per-node 8 -m -- mer_prep.cli pretrain ... Every
    process takes an equal part of each batch.
    """
    require_torch()
    from mer_prep.progress import Progress, duration
    from mer_prep.training.distributed import (
        device_of,
        from_first,
        joined,
        world_of_torchrun,
    )
    from mer_prep.training.loading import choose_loader
    from mer_prep.training.machine import Machine, choose_device
    from mer_prep.training.pretrain import pretrain as train_on_all
    from mer_prep.training.pretrain import write_pretrained
    from mer_prep.training.study import open_run, read_study

    started = time.monotonic()
    world = world_of_torchrun()
    place = device_of(world, choose_device(device))
    with joined(world, place):
        study = _prepared(workspace, corpora, place, options) if world.first else None
        run: Path | None = None
        if study is not None:
            name = f"pretrain-{study.model}-{study.preset}-{study.labels}-seed{study.seed}"
            run = workspace.root / "runs" / (run_name or name)
            open_run(run, study)
        run = from_first(world, run)
        study = read_study(run)
        _share_cores(world, place)
        copies = world.size if place == "cpu" else 1
        chosen = choose_loader(
            loader, workspace.root, study.clips, study.method, place, copies=copies
        )
        machine = Machine(
            place, study.precision, compiled, deterministic, workers=4 if chosen == "stream" else 0
        )
        total = study.training.all_steps
        with Progress("pretrain", unit="step", total=total) as progress:
            weights = train_on_all(
                workspace.root,
                run,
                study,
                machine,
                loader=chosen,
                world=world,
                on_step=lambda step, _: progress(step, total) if world.first else None,
            )
        if not world.first:
            return
        results = write_pretrained(run, study)
    if as_json:
        print_json(results)
    else:
        losses = ", ".join(f"{name} {value:.4g}" for name, value in results["losses"].items())
        echo(f"losses of the last steps: {losses}")
        echo(f"use them: mer-prep train --init {weights}")
    synthetic = ", SYNTHETIC" if study.synthetic else ""
    who = f"{plural(results['clips'], 'clip')} of {plural(results['subjects'], 'subject')}"
    echo(
        f"pretrain: {who}, {plural(results['steps'], 'step')}, "
        f"{duration(time.monotonic() - started)}{synthetic}, in {weights}",
        err=as_json,
    )


def _check_kept(model: str) -> None:
    """Raise `ConfigError` if a training does not start from the weights of another."""
    from mer_prep.training.cards import model_card
    from mer_prep.training.methods import METHODS

    if METHODS[model_card(model).name].solved:
        raise ConfigError(
            f"{model} is not trained before: it is solved in one step, whatever its weights were.",
            hint=f"`mer-prep train --model {model}` solves and tests it",
        )


def _prepared(
    workspace: Workspace, corpora: tuple[str, ...], device: str, options: dict[str, Any]
) -> Study:
    """Make what is missing of the inputs, and return the study."""
    from mer_prep.config import parse_settings
    from mer_prep.progress import Progress
    from mer_prep.training.machine import choose_precision
    from mer_prep.training.prepare import prepare_study
    from mer_prep.training.pretrain import without_test

    _check_kept(options["model"])
    changes = parse_settings(options["settings"])
    with Progress("prepare") as progress:
        study = prepare_study(
            workspace,
            corpora,
            model=options["model"],
            preset=options["preset"],
            labels=options["labels"],
            seed=options["seed"],
            jobs=options["jobs"],
            architecture=changes.pop(options["model"], {}),
            training={
                name: options[name]
                for name in ("steps", "pre_steps", "batch", "learning_rate", "clip_gradient")
            },
            settings=changes,
            precision=choose_precision(options["precision"], device),
            leave_out=True,
            progress=progress,
            say=progress.say,
        )
    return without_test(study)


def _share_cores(world: World, device: str) -> None:
    """Give every process on the CPU its part of the cores."""
    if world.size > 1 and device == "cpu":
        import torch

        from mer_prep.commands.common import usable_cores

        torch.set_num_threads(max(1, usable_cores() // world.size))


COMMANDS = (pretrain,)
