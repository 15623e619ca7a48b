"""The command models: what can be trained."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from mer_prep.commands.common import json_option, print_json, table
from mer_prep.terminal import echo

if TYPE_CHECKING:
    from mer_prep.training.methods import Method


@click.command()
@click.argument("name", required=False)
@json_option
def models(name: str | None, as_json: bool) -> None:
    """List the models, or show one: presets, parameters by module, published figures."""
    from mer_prep.checks import soft_import

    soft_import("torch", purpose="is needed to build the models", install="mer-prep[train]")
    from mer_prep.training.cards import MODELS, model_card
    from mer_prep.training.methods import METHODS
    from mer_prep.training.recipes import SELECTED

    if name is None:
        if as_json:
            print_json([{"name": one.name, "title": one.title} for one in MODELS.values()])
        else:
            rows = [(one.name, ", ".join(one.presets), one.title) for one in MODELS.values()]
            echo(table(rows, ("model", "presets", "title")))
        return
    card = model_card(name)
    presets: dict[str, Any] = {}
    for key, one in card.presets.items():
        method = METHODS[name](METHODS[name].presets[key])
        parts = _parameters(method)
        presets[key] = {
            "title": one.title,
            "input": method.input,
            "parameters": {"all": sum(parts.values()), **parts},
            "architecture": dataclasses.asdict(method.config),
            "training": dataclasses.asdict(one.training),
            "choices": list(one.choices),
        }
    published = [dataclasses.asdict(one) for one in card.published]
    if as_json:
        facts = {"name": card.name, "title": card.title, "reference": card.reference}
        print_json(facts | {"presets": presets, "published": published, "note": card.note})
        return
    from mer_prep.metrics import SCORES

    echo(f"{card.name}: {card.title}\n  {card.reference}")
    for key, made in presets.items():
        echo(f"  {key}: {made['title']}; {made['input']}")
        counts = ", ".join(f"{part} {count:,}" for part, count in made["parameters"].items())
        echo(f"    parameters with 3 classes: {counts}")
        for choice in made["choices"]:
            echo(f"    chosen here: {choice}")
    for result in card.published:
        scores = ", ".join(
            f"{SCORES.get(key, key)} {value:.4f}" for key, value in result.scores.items()
        )
        with_ = "".join(f", {key}={value}" for key, value in result.variant.items())
        if result.selected != "not-stated":
            with_ += f"; {SELECTED[result.selected]}"
        echo(
            f"  published, {result.protocol} {result.labels}, {result.part}: {scores} "
            f"({result.source}{with_})"
        )
    echo(f"  {card.note}")
    echo(f"  --json has every size and switch (--set {name}.NAME=VALUE) and the training.")


def _parameters(method: Method) -> dict[str, int]:
    """Return the trained parameters with three classes, by part of the model.

    A part is a module of the model or an array of its own, such as a table of embeddings; a part
    that has none is left out. Nothing is allocated.
    """
    import torch

    with torch.device("meta"):
        model = method.build(3)
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0].rstrip("_")
        parts[part] = parts.get(part, 0) + parameter.numel()
    return parts


COMMANDS = (models,)
