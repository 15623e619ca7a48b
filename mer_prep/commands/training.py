"""Commands around models: train, models."""

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
    protocol_options,
    table,
    workspace_option,
)
from mer_prep.workspace import Workspace

if TYPE_CHECKING:
    from mer_prep.protocols import Protocol


@click.command()
@corpora_argument
@click.option("--model", default="mol", show_default=True, help="See `mer-prep models`.")
@click.option("--preset", default="paper", show_default=True, help="paper, code or tiny.")
@click.option(
    "--labels", default="megc2019-3", show_default=True, help="Label map; see `mer-prep labels`."
)
@protocol_options
@click.option(
    "--folds-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Frozen folds, the folds.json of `mer-prep composite`, instead of --protocol.",
)
@click.option(
    "--draw-seed",
    type=click.IntRange(0),
    help="Seed of the draw of clips, for a label map that balances its classes; 0 by default.",
)
@click.option("--seed", default=1, show_default=True, help="Decides weights, samples and crops.")
@click.option("--steps", type=click.IntRange(1), help="Steps a fold, instead of the preset's.")
@click.option("--batch", type=click.IntRange(1), help="Samples a step.")
@click.option("--learning-rate", type=float, help="Instead of the preset's.")
@click.option("--clip-gradient", type=float, help="Largest norm of the gradient; 0 for no limit.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda or cuda:N; auto prefers cuda.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME.KEY=VALUE",
    help="Change the architecture (mol.blocks=2) or a stage (align.mode=onset).",
)
@click.option("--shuffle-labels", is_flag=True, help="Deal labels anew, as a control: chance.")
@click.option("--run", "run_name", help="Name of the run's folder; made from the rest by default.")
@workspace_option
@jobs_option
@json_option
def train(
    corpora: tuple[str, ...],
    model: str,
    preset: str,
    labels: str,
    protocol: Protocol,
    folds_file: Path | None,
    draw_seed: int | None,
    seed: int,
    steps: int | None,
    batch: int | None,
    learning_rate: float | None,
    clip_gradient: float | None,
    device: str,
    settings: tuple[str, ...],
    shuffle_labels: bool,
    run_name: str | None,
    workspace: Workspace,
    jobs: int,
    as_json: bool,
) -> None:
    """Train a model over all folds of a protocol and score it.

    What is missing of its inputs is made first. Every fold is tested with the weights of its last
    step: nothing is chosen on the test subject. A run that was stopped goes on where it was, to
    the same numbers. Scores come from one confusion matrix over all folds.
    """
    from mer_prep.checks import soft_import
    from mer_prep.config import parse_settings
    from mer_prep.progress import Progress, duration

    for package in ("torch", "safetensors"):
        soft_import(package, purpose="is needed to train", install="mer-prep[train]")
    from mer_prep.training.folds import choose_device, train_folds
    from mer_prep.training.inputs import keep_recipe
    from mer_prep.training.prepare import prepare_study
    from mer_prep.training.recipes import model_card
    from mer_prep.training.results import write_results
    from mer_prep.training.study import open_run

    started = time.monotonic()
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
                "batch": batch,
                "learning_rate": learning_rate,
                "clip_gradient": clip_gradient,
            },
            settings=changes,
            progress=progress,
            say=progress.say,
        )
    mark = "-shuffled" if shuffle_labels else ""
    split = protocol.slug if folds_file is None else folds_file.stem
    draw = f"-draw{study.draw_seed}" if study.draw_seed else ""
    name = run_name or f"{model}-{preset}-{study.labels}{draw}-{split}-seed{seed}{mark}"
    run = workspace.root / "runs" / name
    open_run(run, study)
    with Progress("train", unit="fold") as progress:
        train_folds(
            workspace.root,
            run,
            study,
            device=chosen,
            jobs=jobs,
            progress=progress,
            say=progress.say,
        )
    results = write_results(run, study)
    keep_recipe(workspace, run, study)
    if as_json:
        print_json(results)
    else:
        print_results(results)
    synthetic = ", SYNTHETIC" if study.synthetic else ""
    click.echo(
        f"train: {plural(len(study.folds), 'fold')}, {plural(len(study.clips), 'clip')}, "
        f"{duration(time.monotonic() - started)}{synthetic}, in {_shown(run)}",
        err=as_json,
    )


def _shown(run: Path) -> str:
    return str(run / "results.json")


def print_results(results: dict[str, Any]) -> None:
    """Print the scores of a run beside the published ones."""
    marks = [
        text
        for text, shown in (
            ("SYNTHETIC", results["synthetic"]),
            ("LABELS SHUFFLED", results["shuffled_labels"]),
        )
        if shown
    ]
    click.echo(
        f"{results['model']} ({results['preset']}), {results['labels']}, {results['protocol']}, "
        f"selection {results['selection']}, seed {results['seed']}"
        + (f" ({', '.join(marks)})" if marks else "")
    )
    rows = []
    for part, found in results["scores"].items():
        low, high = found["interval_95"]["uf1"]
        rows.append(
            (
                part,
                found["clips"],
                f"{found['uf1']:.3f}",
                f"{low:.3f}-{high:.3f}",
                f"{found['uar']:.3f}",
                f"{found['acc']:.3f}",
                f"{found['wf1']:.3f}",
            )
        )
    head = ("corpus", "clips", "UF1", "95 % interval", "UAR", "Acc", "WF1")
    click.echo(table(rows, head))
    for one in results["published"]:
        scores = ", ".join(f"{name.upper()} {value:.3f}" for name, value in one["scores"].items())
        click.echo(f"  published, {one['part']}: {scores} ({one['source']})")
    if results["published"]:
        click.echo(f"  {results['note']}")


@click.command()
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> None:
    """List the models, or show one: presets, parameters by module, published figures."""
    import dataclasses

    from mer_prep.checks import soft_import

    soft_import("torch", purpose="is needed to build the models", install="mer-prep[train]")
    from mer_prep.models.mol import PRESETS, Mol
    from mer_prep.training.recipes import MODELS, model_card

    if name is None:
        if as_json:
            print_json([{"name": one.name, "title": one.title} for one in MODELS.values()])
        else:
            rows = [(one.name, ", ".join(one.presets), one.title) for one in MODELS.values()]
            click.echo(table(rows, ("model", "presets", "title")))
        return
    card = model_card(name)
    presets: dict[str, Any] = {}
    for key, one in card.presets.items():
        config = PRESETS[key]
        parts = {
            part: sum(parameter.numel() for parameter in module.parameters())
            for part, module in Mol(config, 3).named_children()
        }
        presets[key] = {
            "title": one.title,
            "input": f"{config.frames} grey frames of {config.side}x{config.side}",
            "parameters": {"all": sum(parts.values()), **parts},
            "architecture": dataclasses.asdict(config),
            "training": dataclasses.asdict(one.training),
            "choices": list(one.choices),
        }
    published = [dataclasses.asdict(one) for one in card.published]
    if as_json:
        facts = {"name": card.name, "title": card.title, "reference": card.reference}
        print_json(facts | {"presets": presets, "published": published, "note": card.note})
        return
    click.echo(f"{card.name}: {card.title}\n  {card.reference}")
    for key, made in presets.items():
        click.echo(f"  {key}: {made['title']}; {made['input']}")
        counts = ", ".join(f"{part} {count:,}" for part, count in made["parameters"].items())
        click.echo(f"    parameters with 3 classes: {counts}")
        for choice in made["choices"]:
            click.echo(f"    chosen here: {choice}")
    for result in card.published:
        scores = ", ".join(f"{key.upper()} {value:.4f}" for key, value in result.scores.items())
        click.echo(f"  published, {result.protocol} {result.labels}, {result.part}: {scores}")
    click.echo(f"  {card.note}")


COMMANDS = (train, models)
