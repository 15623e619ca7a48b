"""Options that the commands which train share, and what they all need."""

from __future__ import annotations

from pathlib import Path

import click

from mer_prep.commands.common import SEED, Command, FiniteRange, protocol_options, with_options


def study_options(command: Command) -> Command:
    """Add the options that decide the result of a training."""
    return with_options(
        command,
        [
            click.option(
                "--model", default="mol", show_default=True, help="See `mer-prep models`."
            ),
            click.option(
                "--preset",
                default="paper",
                show_default=True,
                help="paper, tiny or another of the model's; see `mer-prep models NAME`.",
            ),
            click.option(
                "--seed",
                type=SEED,
                default=1,
                show_default=True,
                help="Decides weights, samples and crops.",
            ),
            click.option(
                "--steps",
                type=click.IntRange(1, 10**9),
                help="Steps a fold, instead of the preset's.",
            ),
            click.option(
                "--pre-steps",
                type=click.IntRange(0, 10**9),
                help="Steps before these, instead of the preset's: frl-dgt and selfme only rebuild "
                "the apex in them, meta-mmfnet classifies.",
            ),
            click.option("--batch", type=click.IntRange(1, 10**6), help="Samples a step."),
            click.option(
                "--learning-rate", type=FiniteRange(1e-9, 10), help="Instead of the preset's."
            ),
            click.option(
                "--clip-gradient",
                type=FiniteRange(0),
                help="Largest norm of the gradient; 0 for no limit.",
            ),
            click.option(
                "--set",
                "settings",
                multiple=True,
                metavar="NAME.KEY=VALUE",
                help="Change the architecture (mol.blocks=2, frl-dgt.fusion=after) or a stage "
                "(align.mode=onset).",
            ),
            click.option(
                "--precision",
                type=click.Choice(["auto", "float32", "bf16"]),
                default="auto",
                show_default=True,
                help="auto is bf16 on CUDA and float32 on the CPU; part of the run.",
            ),
        ],
    )


def machine_options(command: Command) -> Command:
    """Add the options on where and how a training computes."""
    return with_options(
        command,
        [
            click.option(
                "--device",
                default="auto",
                show_default=True,
                help="auto, cpu, cuda or cuda:N; auto prefers cuda, which is all GPUs.",
            ),
            click.option(
                "--loader",
                type=click.Choice(["auto", "resident", "stream"]),
                default="auto",
                show_default=True,
                help="Clips stay on the device, or are read as they are needed; auto keeps them "
                "if they take at most half of the memory that is free. Same numbers on the CPU.",
            ),
            click.option(
                "--compile", "compiled", is_flag=True, help="Compile the model (torch.compile)."
            ),
            click.option(
                "--deterministic/--no-deterministic",
                default=True,
                show_default=True,
                help="Prefer algorithms that give the same bits every time.",
            ),
        ],
    )


def split_options(command: Command) -> Command:
    """Add the options that say which clips are trained and tested, with which labels."""
    options = (
        click.option(
            "--labels",
            default="megc2019-3",
            show_default=True,
            help="Label map; see `mer-prep labels`.",
        ),
        protocol_options,
        click.option(
            "--folds-file",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Frozen folds, the folds.json of `mer-prep composite`, instead of --protocol.",
        ),
        click.option(
            "--draw-seed",
            type=SEED,
            help="Seed of the draw of clips, for a label map that balances its classes; 0 by "
            "default.",
        ),
    )
    return with_options(command, options)


def crew_options(command: Command) -> Command:
    """Add the options that say on what folds are trained."""
    folds = click.option(
        "--folds-per-gpu",
        type=click.IntRange(1, 64),
        default=1,
        show_default=True,
        help="Folds that one GPU trains at a time.",
    )
    return machine_options(folds(command))


def require_torch() -> None:
    """Raise `DependencyError` unless what training needs is installed."""
    from mer_prep.checks import soft_import

    for package in ("torch", "safetensors"):
        soft_import(package, purpose="is needed to train", install="mer-prep[train]")
